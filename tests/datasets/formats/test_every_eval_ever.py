"""Records of Every Eval Ever become the data set they stand for, or one sentence that says why not."""

import gzip
import json
import random
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_helpers import expect, put, reports

from embedllm import load_dataset
from embedllm.datasets.importers import import_every_eval_ever

pytestmark = pytest.mark.usefixtures("encoded")


def record(model, task, sample, score, *, correct=None, result="accuracy", run="1750000000", tokens=None, **more):
    """A row as the schema has it, 0.3.0."""
    row = {
        "schema_version": "0.3.0",
        "evaluation_id": f"{task}/{model.replace('/', '_')}/{run}",
        "model_id": model,
        "evaluation_name": task,
        "sample_id": str(sample),
        "sample_hash": "0" * 64,
        "interaction_type": "single_turn",
        "input": {"raw": f"{task}: {sample}?", "formatted": None, "reference": [f"answer {sample}"]},
        "output": {"raw": ["so 4"]},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": "4",
                "extraction_method": "match",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": score, "is_correct": score > 0 if correct is None else correct},
    }
    if result is not None:
        row["evaluation_result_id"] = result
    if tokens is not None:
        row["token_usage"] = {"input_tokens": tokens - 1, "output_tokens": 1, "total_tokens": tokens}
    return row | more


def write_records(folder: Path, rows, *, compress=False, results=None, **aggregate) -> Path:
    name = str(uuid.UUID(int=random.Random(json.dumps(rows)).getrandbits(128), version=4))
    folder.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = folder / f"{name}_samples.jsonl{'.gz' if compress else ''}"
    path.write_bytes(gzip.compress(data) if compress else data)
    if results is not None or aggregate:
        put(folder / f"{name}.json", {"schema_version": "0.3.0", "evaluation_results": results or [], **aggregate})
    return path


@st.composite
def pools(draw):
    """Labels of some models on the questions of some tasks, with 0 for a question that a model was not asked."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5)))
    cells = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return np.array(cells).reshape(shape)


class TestAnyRuns:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(labels=pools(), seed=st.integers(0, 10_000), graded=st.booleans())
    def test_come_back_whatever_files_they_stand_in(self, assert_same, labels, seed, graded):
        labels[0, labels.max(axis=0) < 0] = 1  # each question has an answer
        labels[:, 0] = np.where(labels[:, 0] < 0, 0, labels[:, 0])  # and each model
        rng = random.Random(seed)
        models, tasks = [f"org/m{n}" for n in range(len(labels))], ["alpha", "beta"]
        rows = []
        for m, model in enumerate(models):
            for q in np.flatnonzero(labels[m] >= 0):
                rows.append(record(model, tasks[q % 2], q, float(labels[m, q]), tokens=10 * m + int(q) + 1))
                if graded:  # a second metric, of which is_correct says nothing
                    rows.append(record(model, tasks[q % 2], q, rng.random(), correct=False, result="rouge_l"))
        # A later run of some questions, with the other labels, that is smaller than the first.
        sizes = {(m, t): int((labels[m, t::2] >= 0).sum()) for m in range(len(models)) for t in range(2)}
        later = [
            record(model, tasks[t], t, float(1 - labels[m, t]), run="1760000000", tokens=1)
            for m, model in enumerate(models)
            for t in range(2)
            if sizes[m, t] > 1 and labels[m, t] >= 0
        ]
        rows += later
        rng.shuffle(rows)
        with tempfile.TemporaryDirectory() as name:
            cuts = sorted(rng.choices(range(len(rows) + 1), k=3))
            for part, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
                if start < end:
                    write_records(Path(name, "data", str(part)), rows[start:end], compress=rng.random() < 0.5)
            matrix = import_every_eval_ever(Path(name, "data"), Path(name, "out"))
            ids = [q for t in range(2) for q in range(t, labels.shape[1], 2)]
            expected = expect(
                models,
                [f"{tasks[q % 2]}/{q}" for q in ids],
                labels[:, ids],
                [tasks[q % 2] for q in ids],
                [f"{tasks[q % 2]}: {q}?" for q in ids],
                category=[tasks[q % 2] for q in ids],
            )
            np.testing.assert_array_equal(matrix.labels, expected.labels)
            tokens = np.add.outer(10 * np.arange(len(models)), np.array(ids) + 1)
            np.testing.assert_array_equal(matrix.costs, np.where(labels[:, ids] < 0, np.nan, tokens))
            assert matrix.cost_unit == "tokens"
            assert_same(load_dataset(Path(name, "out")), matrix)
            assert matrix.questions["prompt"].tolist() == expected.questions["prompt"].tolist()
            counts = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
            assert counts.get("rows of other runs", 0) == len(later)


class TestMetrics:
    def test_named_by_the_aggregate(self, tmp_path):
        rows = [record("m", "t", 1, value, result=name) for name, value in (("r1", 1.0), ("r2", 0.0))]
        configs = [{"metric_id": "f1", "metric_name": "F1"}, {"metric_id": "exact_match"}]
        results = [
            {"evaluation_result_id": name, "metric_config": config}
            for name, config in zip(("r1", "r2"), configs, strict=True)
        ]
        write_records(tmp_path / "in", rows, results=results)
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "one").labels.tolist() == [[0]]  # exact_match
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "two", metric="F1").labels.tolist() == [[1]]
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "three", metric="t=r1")
        assert matrix.labels.tolist() == [[1]]
        assert ["rows of other metrics", 1, "one metric a task counts"] in reports(matrix)

    def test_plain_one_goes_before_those_of_perturbed_questions(self, tmp_path):
        names = ["exact_match:test:robustness", "exact_match:test", "exact_match:test:fairness"]
        rows = [record("m", "t", 1, float(name == "exact_match:test"), result=name) for name in names]
        write_records(tmp_path / "in", rows)
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "out").labels.tolist() == [[1]]

    def test_filters_of_one_task(self, tmp_path):
        rows = [
            record("m", f"gsm8k/{name}", 1, value, result=None, metadata={"filter": name})
            for name, value in (("strict-match", 0.0), ("flexible-extract", 1.0))
        ]
        write_records(tmp_path / "in", rows)
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out", metric="flexible-extract")
        assert (matrix.labels.tolist(), matrix.question_ids.tolist()) == ([[1]], ["gsm8k/1"])
        assert matrix.benchmark_names == ["GSM8K"]

    def test_scale_of_the_aggregate(self, tmp_path):
        rows = [record("m", "t", number, value) for number, value in enumerate((100.0, 0.0, 40.0))]
        config = {"metric_id": "accuracy", "max_score": 100}
        write_records(tmp_path / "in", rows, results=[{"evaluation_result_id": "accuracy", "metric_config": config}])
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out")
        assert matrix.labels.tolist() == [[1, 0]]
        assert ["rows with a score in between, without a threshold", 1, "not observed"] in reports(matrix)
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "two", threshold=30)
        assert matrix.labels.tolist() == [[1, 0, 1]]

    def test_graded_metric_says_nothing_of_correctness(self, tmp_path):
        write_records(tmp_path / "in", [record("m", "t", 1, 1.0, correct=False), record("m", "t", 2, 1.0)])
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out")
        assert matrix.question_ids.tolist() == ["t/2"]
        assert ["rows whose score and is_correct disagree", 1, "not observed"] in reports(matrix)


class TestRows:
    @pytest.mark.parametrize(("errors", "labels"), [("not observed", [[1]]), ("incorrect", [[1, 0]])])
    def test_error(self, tmp_path, errors, labels):
        rows = [record("m", "t", 1, 1.0), record("m", "t", 2, 0.0, error="timeout")]
        write_records(tmp_path / "in", rows)
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out", errors=errors)
        assert matrix.labels.tolist() == labels
        assert (["rows with an error", 1, "not observed"] in reports(matrix)) == (errors == "not observed")

    def test_later_of_two_runs_of_one_size(self, tmp_path):
        for number, (run, value) in enumerate((("999", 0.0), ("1750000000", 1.0), ("20", 0.0))):
            write_records(tmp_path / "in" / str(number), [record("m", "t", 1, value, run=run)])
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "out").labels.tolist() == [[1]]

    def test_other_files_are_listed(self, tmp_path):
        write_records(tmp_path / "in", [record("m", "t", 1, 1.0)], results=[])
        for name in ("notes.txt", "more/x.json", ".cache/y_samples.jsonl"):
            put(tmp_path / "in" / name, "?")
        rule = "passed over: more/x.json, notes.txt"
        assert reports(import_every_eval_ever(tmp_path / "in", tmp_path / "out")) == [
            ["files that are not records", 2, rule]
        ]

    def test_time_of_the_aggregate_goes_first(self, tmp_path):
        for value, when in ((0.0, "2026-01-02T00:00:00Z"), (1.0, "2026-03-01T00:00:00Z")):
            rows = [record("m", "t", 1, value, run="a" if value else "b")]
            write_records(tmp_path / "in", rows, evaluation_timestamp=when)
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "out").labels.tolist() == [[1]]

    def test_smaller_run_fills_in_what_the_larger_lacks(self, tmp_path):
        rows = [record("m", "t", number, 1.0) for number in (1, 2)]
        rows += [record("m", "t", 3, 0.0, run="1760000000"), record("n", "t", 3, 1.0)]
        write_records(tmp_path / "in", rows)
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "out").labels.tolist() == [[1, 1, 0], [-1, -1, 1]]

    def test_epochs_are_duplicates(self, tmp_path):
        rows = [record("m", "t", 1, value, metadata={"epoch": str(n)}) for n, value in enumerate((1.0, 0.0, 0.0))]
        write_records(tmp_path / "in", rows)
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "out").labels.tolist() == [[0]]
        assert import_every_eval_ever(tmp_path / "in", tmp_path / "two", duplicates="any").labels.tolist() == [[1]]

    def test_prompt_of_the_first_model_by_name(self, tmp_path):
        rows = [record(model, "t", 1, 1.0, input={"raw": f"for {model}", "reference": ["4"]}) for model in "ba"]
        write_records(tmp_path / "in", rows)
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out")
        assert matrix.questions["prompt"].tolist() == ["for a"]
        assert ["questions asked in several contexts", 1, "that of the first model by name"] in reports(matrix)


class TestConverters:
    """What the project's converters write."""

    def test_scenarios_of_helm_number_their_samples_alike(self, tmp_path):
        """Each subject of MMLU is a run with samples of its own, under one `evaluation_name`."""
        for subject, value in (("anatomy", 1.0), ("law", 0.0)):
            for model in "ab":
                given = {"raw": f"{subject}?", "reference": ["4"]}
                rows = [record(model, "mmlu", f"id{n}", value, result="exact_match:test", input=given) for n in (1, 2)]
                details = {"scenario_name": "MMLUScenario", "scenario_args": json.dumps({"subject": subject})}
                source = {"dataset_name": "mmlu", "additional_details": details}
                result = {"evaluation_result_id": "exact_match:test", "source_data": source}
                write_records(tmp_path / "in" / subject / model, rows, results=[result])
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out", strict=True)
        assert matrix.question_ids.tolist() == [f"mmlu:subject={s}/id{n}" for s in ("anatomy", "law") for n in (1, 2)]
        assert matrix.labels.tolist() == [[1, 1, 0, 0]] * 2

    def test_two_questions_of_one_id_are_refused_also_where_one_run_is_passed_over(self, tmp_path, assert_refused):
        for subject, n in (("anatomy", 2), ("law", 1)):
            given = {"raw": f"{subject}?", "reference": [subject]}
            rows = [record("a", "mmlu", f"id{number}", 1.0, run=subject, input=given) for number in range(n)]
            write_records(tmp_path / "in", rows)
        assert_refused((import_every_eval_ever, tmp_path / "in", {}), "sample 'id0' of 'mmlu' is another question than")

    def test_the_harness_without_a_number_is_written_as_0_and_incorrect(self, tmp_path):
        """Such as a perplexity, which is a list, or a truth value of NumPy, which is a text."""
        rows = [
            record("m", "t", n, 0.0, result=None, metadata={"filter": "none", "lm_eval_metrics": json.dumps(metrics)})
            for n, metrics in enumerate(({"acc": 0}, {"acc": "True"}, {"word_perplexity": [-3.5, 12]}, {}))
        ]
        write_records(tmp_path / "in", rows)
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out")
        assert (matrix.question_ids.tolist(), matrix.labels.tolist()) == (["t/0"], [[0]])
        assert ["rows without a score", 3, "not observed"] in reports(matrix)


def case(*rows, **options):
    def prepare(folder):
        write_records(folder / "in", rows)
        return import_every_eval_ever, folder / "in", options

    return prepare


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


ROW = record("m", "t", 1, 1.0)
MALFORMED = {
    "no records": (
        lambda folder: (put(folder / "in" / "x.json", {}), (import_every_eval_ever, folder / "in", {}))[1],
        r"in holds no UUID_samples\.jsonl",
    ),
    "no model": (case(ROW, without(ROW, "model_id")), r"_samples\.jsonl, line 2 has no 'model_id'; it has"),
    "no verdict": (case(ROW | {"evaluation": {"score": 1}}), r"line 1: is_correct is None, neither true nor false"),
    "a score that is text": (case(ROW | {"evaluation": {"score": "1"}}), r"line 1: score is a text"),
    "unknown metric": (case(ROW, metric="f1"), r"no file has 'f1' \(metric=.*; there are \['accuracy'\]"),
    "unknown task": (case(ROW, metric="u=f1"), r"no task is named 'u' \(metric=.*; there are \['t'\]"),
    "several metrics": (
        case(*(record("m", "t", 1, 1.0, result=name) for name in ("f1", "rouge"))),
        r"task 't' has several metrics, \['f1', 'rouge'\]: name one of them \(metric=\.\.\., --metric\)",
    ),
    "another question": (
        case(ROW, record("n", "t", 1, 1.0, input={"raw": "other", "reference": ["other"]})),
        r"line 2: sample '1' of 't' is another question than in .*line 1: run one again",
    ),
    "duplicates": (case(ROW, ROW, duplicates="error"), r"model 'm' has 2 rows on question 't/1'"),
    "no usable answer": (case(record("m", "t", 1, 0.5)), r"in holds no answer that was observed"),
    "unknown rule": (case(ROW, errors="right"), r"errors must be one of \['incorrect', 'not observed'\]"),
}


@pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_named(tmp_path, assert_refused, prepare, message):
    assert_refused(prepare(tmp_path), message)
