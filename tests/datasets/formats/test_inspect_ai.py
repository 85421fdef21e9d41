"""Logs that inspect_ai itself writes become the data set they stand for, or one sentence that says why not."""

import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_helpers import account, put, reports

from embedllm import import_inspect, load_dataset
from embedllm.__main__ import main

pytestmark = pytest.mark.usefixtures("encoded")


@pytest.fixture(scope="module")
def log():
    return pytest.importorskip("inspect_ai.log", reason="needs the package inspect-ai, an optional extra")


@pytest.fixture(scope="module")
def write(log):
    """Return the function that writes a log, as the package does."""
    from inspect_ai.model import GenerateConfig, ModelUsage
    from inspect_ai.scorer import Score

    def function(folder, samples, *, model="m", task="t", created="2026-05-01T10:00:00+00:00", form="eval", **more):
        """Samples are (id, value or values by scorer or None), each with further fields of the sample."""
        held, epochs = [], {}
        for name, values, *fields in samples:
            epochs[name] = epochs.get(name, 0) + 1
            values = values if isinstance(values, dict) or values is None else {"match": values}
            scores = None if values is None else {scorer: Score(value=value) for scorer, value in values.items()}
            options = {"input": f"{task}: {name}?", "target": f"answer {name}"} | (fields[0] if fields else {})
            usage = {model: ModelUsage(input_tokens=10, output_tokens=2, total_tokens=12)}
            held.append(log.EvalSample(id=name, epoch=epochs[name], scores=scores, model_usage=usage, **options))
        spec = log.EvalSpec(
            eval_id=more.pop("eval_id", f"{model}-{task}-{created}"),
            created=created,
            task=task,
            model=model,
            model_args=more.pop("model_args", {}),
            dataset=log.EvalDataset(name="d"),
            config=log.EvalConfig(limit=more.pop("limit", None)),
            task_args=more.pop("task_args", {}),
            model_generate_config=GenerateConfig(**more.pop("generate", {})),
        )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{len(list(folder.iterdir()))}.{form}"
        whole = log.EvalLog(status=more.pop("status", "success"), eval=spec, samples=held, **more)
        log.write_eval_log(whole, str(path), format=form)
        return path

    return function


@st.composite
def pools(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    cells = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return np.array(cells).reshape(shape)


class TestAnyRuns:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(labels=pools(), seed=st.integers(0, 10_000))
    def test_come_back_whatever_files_they_stand_in(self, write, assert_same, labels, seed):
        labels[0, labels.max(axis=0) < 0] = 1
        labels[:, 0] = np.where(labels[:, 0] < 0, 0, labels[:, 0])
        rng = random.Random(seed)
        spellings = {1: ["C", 1, True, 1.0], 0: ["I", 0, False, "N"]}
        with tempfile.TemporaryDirectory() as name:
            n_later = 0
            for m, row in enumerate(labels):
                samples = [(int(q), rng.choice(spellings[row[q]])) for q in np.flatnonzero(row >= 0)]
                rng.shuffle(samples)
                cut = rng.randrange(len(samples) + 1)
                for part in (samples[:cut], samples[cut:]):  # of one run, in two files
                    if part:
                        folder = Path(name, "in", str(rng.randrange(2)))
                        write(folder, part, model=f"m{m}", form=rng.choice(["eval", "json"]), eval_id=f"m{m}")
                if len(samples) > 1 and row[0] >= 0:
                    created = "2026-06-01T10:00:00+00:00"
                    write(Path(name, "in", "later"), [(0, "I" if row[0] else "C")], model=f"m{m}", created=created)
                    n_later += 1
            matrix = import_inspect(Path(name, "in"), Path(name, "out"))
            assert matrix.model_names.tolist() == [f"m{m}" for m in range(len(labels))]
            assert matrix.question_ids.tolist() == [f"t/{q}" for q in range(labels.shape[1])]
            np.testing.assert_array_equal(matrix.labels, labels)
            np.testing.assert_array_equal(matrix.costs, np.where(labels < 0, np.nan, 12))
            assert matrix.questions["prompt"].tolist() == [f"t: {q}?" for q in range(labels.shape[1])]
            counts = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
            assert counts.get("rows of other runs", 0) == n_later
            assert_same(load_dataset(Path(name, "out")), matrix)


class TestValues:
    @pytest.mark.parametrize(
        ("value", "label"),
        [
            ("C", 1),
            ("I", 0),
            ("N", 0),
            (1, 1),
            (0, 0),
            (1.0, 1),
            (True, 1),
            (False, 0),
            ("1", 1),
            ("yes", 1),
            ("no", 0),
        ],
    )
    def test_label(self, tmp_path, write, value, label):
        write(tmp_path / "in", [("a", value)])
        assert import_inspect(tmp_path / "in", tmp_path / "out").labels.tolist() == [[label]]

    @pytest.mark.parametrize(
        ("value", "threshold", "label"), [("P", 0.5, 1), ("P", 0.6, 0), (0.7, 0.7, 1), ("C", 0.9, 1)]
    )
    @pytest.mark.filterwarnings("ignore:threshold 0.6 is above all scores")
    def test_threshold(self, tmp_path, write, value, threshold, label):
        write(tmp_path / "in", [("a", value)])
        assert import_inspect(tmp_path / "in", tmp_path / "out", threshold=threshold).labels.tolist() == [[label]]

    def test_what_is_not_observed(self, tmp_path, write):
        error = {"error": {"message": "m", "traceback": "t", "traceback_ansi": "t"}}
        samples = [
            ("a", "C"),
            ("b", float("nan")),
            ("c", "P"),
            ("d", "good"),
            ("e", [1, 0]),
            ("f", None),
            ("g", None, error),
        ]
        write(tmp_path / "in", samples)
        matrix = import_inspect(tmp_path / "in", tmp_path / "out")
        assert matrix.question_ids.tolist() == ["t/a"]
        assert reports(matrix)[:4] == [
            ["rows with a score in between, without a threshold", 1, "not observed"],
            ["rows with a score that is not a number", 2, "not observed"],
            ["rows with an error", 1, "not observed"],
            ["rows without a score", 2, "not observed"],
        ]
        assert account(matrix).startswith("7 rows read = 1 cells + 1 with a score in between")
        matrix = import_inspect(tmp_path / "in", tmp_path / "two", errors="incorrect", threshold=0.5)
        assert dict(zip(matrix.question_ids, matrix.labels[0], strict=True)) == {"t/a": 1, "t/c": 1, "t/g": 0}

    def test_invalidated_log(self, tmp_path, write):
        write(tmp_path / "in", [("a", "C")])
        write(tmp_path / "in", [("a", "I"), ("b", "C")], model="other", invalidated=True)
        matrix = import_inspect(tmp_path / "in", tmp_path / "out")
        assert matrix.labels.tolist() == [[1], [-1]]
        assert ["rows that were invalidated", 2, "not observed"] in reports(matrix)

    def test_epochs_are_duplicates(self, tmp_path, write):
        write(tmp_path / "in", [("a", "C"), ("a", "I"), ("a", "C"), ("b", "C"), ("b", "I")])
        matrix = import_inspect(tmp_path / "in", tmp_path / "out")
        assert (matrix.labels.tolist(), matrix.question_ids.tolist()) == ([[1]], ["t/a"])  # b is a tie
        assert import_inspect(tmp_path / "in", tmp_path / "two", duplicates="any").labels.tolist() == [[1, 1]]


class TestScorers:
    def test_must_be_named_where_there_are_several(self, tmp_path, write):
        write(tmp_path / "in", [("a", {"judge": "C", "style": {"short": 0, "kind": 1}}), ("b", None)])
        with pytest.raises(ValueError, match=r"'t' has several metrics, \['judge', 'style/kind', 'style/short'\]"):
            import_inspect(tmp_path / "in", tmp_path / "out")
        found = import_inspect(tmp_path / "in", tmp_path / "one", metric="judge")
        assert found.labels.tolist() == [[1]]
        assert ["rows of other metrics", 2, "one metric a task counts"] in reports(found)
        assert import_inspect(tmp_path / "in", tmp_path / "two", metric="style/short").labels.tolist() == [[0]]


class TestRuns:
    def test_revisions_are_models(self, tmp_path, write):
        for revision, value in (("step1", "I"), ("step2", "C")):
            write(
                tmp_path / "in", [("a", value)], model="hf/org/m", model_args={"revision": revision}, eval_id=revision
            )
        matrix = import_inspect(tmp_path / "in", tmp_path / "out")
        assert matrix.model_names.tolist() == ["hf/org/m@step1", "hf/org/m@step2"]
        assert matrix.labels.tolist() == [[0], [1]]

    @pytest.mark.parametrize(
        ("one", "two", "names"),
        [
            ({"load_in_4bit": True}, {}, ["m", "m (load_in_4bit=True)"]),
            ({"device": "cuda", "api_key": "secret"}, {}, ["m"]),
        ],
    )
    def test_arguments_tell_models_apart(self, tmp_path, write, one, two, names):
        for number, model_args in enumerate((one, two)):
            write(tmp_path / "in", [("a", "C")], model_args=model_args, eval_id=str(number))
        assert import_inspect(tmp_path / "in", tmp_path / "out").model_names.tolist() == names

    def test_generation_tells_models_apart_on_one_task_only(self, tmp_path, write):
        for task, effort, value in (("t", "low", "I"), ("t", "high", "C"), ("u", "high", "C")):
            write(tmp_path / "in", [("a", value)], task=task, generate={"reasoning_effort": effort}, eval_id=effort)
        matrix = import_inspect(tmp_path / "in", tmp_path / "out", strict=True)
        assert matrix.model_names.tolist() == ["m", "m (reasoning_effort=high)", "m (reasoning_effort=low)"]

    def test_arguments_tell_tasks_apart(self, tmp_path, write):
        for language in ("de", "fr"):
            write(tmp_path / "in", [("a", "C")], task_args={"language": language, "seed": 1}, eval_id=language)
        matrix = import_inspect(tmp_path / "in", tmp_path / "out", strict=True)
        assert matrix.question_ids.tolist() == ["t (language=de)/a", "t (language=fr)/a"]

    def test_limited_run_fills_in_at_most(self, tmp_path, write):
        for limit, value, day in ((None, "C", 1), (2, "I", 2)):
            created = f"2026-05-0{day}T10:00:00+00:00"
            write(tmp_path / "in", [("a", value), ("b", value)], limit=limit, created=created)
        assert import_inspect(tmp_path / "in", tmp_path / "out").labels.tolist() == [[1, 1]]

    def test_checkpoints_of_notebooks_are_no_logs(self, tmp_path, write):
        write(tmp_path / "in" / ".ipynb_checkpoints", [("a", "I")], eval_id="old")
        write(tmp_path / "in", [("a", "C")])
        assert account(import_inspect(tmp_path / "in", tmp_path / "out")) == "1 rows read = 1 cells"

    def test_log_without_samples(self, tmp_path, write):
        write(tmp_path / "in", [])
        with pytest.raises(ValueError, match="in holds no answer that was observed: 0 rows read = 0 cells"):
            import_inspect(tmp_path / "in", tmp_path / "out")

    def test_unfinished_run_counts_with_what_it_has(self, tmp_path, write):
        write(tmp_path / "in", [("a", "C")], status="cancelled")
        matrix = import_inspect(tmp_path / "in", tmp_path / "out")
        assert reports(matrix) == [["logs with status 'cancelled'", 1, "what they hold counts"]]

    def test_chat_is_the_text_of_its_user(self, tmp_path, write):
        from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

        chat = [
            ChatMessageSystem(content="Be brief."),
            ChatMessageUser(content="x" * 5000),
            ChatMessageAssistant(content="no"),
        ]
        write(tmp_path / "in", [("a", "C", {"input": chat})])
        matrix = import_inspect(tmp_path / "in", tmp_path / "out")
        assert matrix.questions["prompt"].tolist() == ["Be brief.\n" + "x" * 5000]

    def test_one_log(self, tmp_path, write):
        path = write(tmp_path / "in", [("a", "C")])
        assert import_inspect(path, tmp_path / "out").labels.tolist() == [[1]]

    def test_threshold_above_all_scores_of_a_model(self, tmp_path, write):
        for model, values in (("a", (0.9, "I")), ("b", (0.4, "I")), ("c", ("I", "I"))):
            write(tmp_path / "in", list(enumerate(values)), model=model)
        with pytest.warns(UserWarning, match=r"threshold 0\.5 is above all scores of 1 of 3 .*: b \(highest 0\.4\)"):
            assert import_inspect(tmp_path / "in", tmp_path / "out", threshold=0.5).labels.sum() == 1


class TestFaults:
    def test_folder_without_a_log(self, tmp_path, log, assert_refused):
        put(tmp_path / "in" / "a.json", {"eval": 1})
        assert_refused((import_inspect, tmp_path / "in", {}), "in holds no log of inspect_ai")

    def test_damaged_log(self, tmp_path, log, assert_refused):
        put(tmp_path / "in" / "a.eval", "no archive")
        assert_refused((import_inspect, tmp_path / "in", {}), r"a\.eval cannot be read as a log of inspect_ai \(")

    def test_package_that_is_missing(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "inspect_ai", None)
        monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
        (tmp_path / "in").mkdir()
        assert main(["import", "inspect", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
        assert capsys.readouterr().err == (
            "error: logs of inspect_ai are read by its own package: run `pip install inspect-ai`\n"
        )
