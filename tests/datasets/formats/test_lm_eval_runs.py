"""A run of the lm-evaluation-harness is of the model that its results file names, or its folder, or is refused."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_helpers import OTHER_RUNS, account, put, reports, sample, write_results, write_samples

from embedllm.datasets.formats.lm_eval import read_lm_eval
from embedllm.datasets.importers import import_lm_eval

pytestmark = pytest.mark.usefixtures("encoded")

DAYS = [f"2026-05-0{day}T10-00-00.00000{day}" for day in range(1, 10)]


@pytest.fixture
def logs(tmp_path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def lines(label, n=6, **more):
    return [sample(number, acc=float(label), **more) for number in range(n)]


def labels_of(matrix) -> dict[str, list[int]]:
    return dict(zip(matrix.model_names, matrix.labels.tolist(), strict=True))


class TestWithoutAModelFolder:
    """Since 0.4.9, `--output_path logs/alpha.json` writes all into one folder."""

    @pytest.mark.parametrize("folder", [".", "deep/er"])
    def test_results_of_the_same_date_name_the_model(self, tmp_path, logs, folder):
        for day, name, label in ((0, "alpha", 1), (1, "beta", 0), (2, "alpha", 1)):
            write_samples(logs, folder, "t" if day < 2 else "u", lines(label), DAYS[day])
            write_results(logs / folder, DAYS[day], name, model_name=name, model_args=f"pretrained={name}")
        matrix = import_lm_eval(logs, tmp_path / "out", strict=True)
        assert labels_of(matrix) == {"alpha": [1] * 12, "beta": [0] * 6 + [-1] * 6}

    def test_name_from_the_arguments_alone(self, tmp_path, logs):
        for day, args in enumerate(("peft=me/adapter,pretrained=org/a", {"pretrained": "org/b"}, "model=gpt,x=1")):
            write_samples(logs, "", "t", lines(1), DAYS[day])
            write_results(logs, DAYS[day], f"run{day}", model_args=args)
        assert list(labels_of(import_lm_eval(logs, tmp_path / "out"))) == ["gpt", "me/adapter", "org/b"]

    @pytest.mark.parametrize("tasks", ["tt", "tu"])
    def test_several_dates_without_results_are_refused(self, tmp_path, logs, assert_refused, tasks):
        for day, task in enumerate(tasks):
            write_samples(logs, "", task, lines(day), DAYS[day])
        message = rf"logs holds several dates, and no results file of date {DAYS[0]} that names its model: add results_"
        assert_refused((import_lm_eval, logs, {}), message)
        matrix = import_lm_eval(logs, tmp_path / "out", one_model_a_folder=True)
        assert labels_of(matrix) == {"logs": [1] * 6 if tasks == "tt" else [0] * 6 + [1] * 6}

    def test_one_date_beside_named_ones_is_refused(self, logs, assert_refused):
        for day in (0, 1):
            write_samples(logs, "", "t", lines(day), DAYS[day])
        write_results(logs, DAYS[0], "alpha", model_name="alpha")
        assert_refused((import_lm_eval, logs, {}), rf"no results file of date {DAYS[1]}")

    def test_two_results_of_one_date_are_refused(self, logs, assert_refused):
        write_samples(logs, "", "t", lines(1))
        for name in ("alpha", "beta"):
            write_results(logs, name=name, model_name=name)
        assert_refused((import_lm_eval, logs, {}), r"beta_.*\.json and .*alpha_.*\.json are results of the same date")


class TestLimit:
    @pytest.mark.parametrize("with_results", [True, False])
    @pytest.mark.parametrize("days", [(0, 2), (2, 0)], ids=["later", "earlier"])
    def test_the_full_run_counts(self, tmp_path, logs, with_results, days):
        for day, label, n, limit in ((days[0], 1, 6, None), (days[1], 0, 2, 2.0)):
            write_samples(logs, "org__a", "t", lines(label, n), DAYS[day])
            if with_results:
                write_results(logs / "org__a", DAYS[day], model_name="org/a", limit=limit)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert labels_of(matrix) == {"org/a" if with_results else "org__a": [1] * 6}
        passed_over = f"{OTHER_RUNS}org__a/samples_t_{DAYS[days[1]]}.jsonl"
        assert ["rows of other runs", 2, passed_over] in reports(matrix)
        assert account(matrix) == "8 samples read = 6 cells + 2 of other runs"
        with pytest.raises(ValueError, match="strict: 2 rows of other runs"):
            import_lm_eval(logs, tmp_path / "two", strict=True)

    def test_each_task_has_its_own(self, tmp_path, logs):
        write_samples(logs, "org__a", "t", lines(1, 6), DAYS[0])
        write_samples(logs, "org__a", "u", lines(1, 2), DAYS[0])
        write_samples(logs, "org__a", "t", lines(0, 5), DAYS[1])
        write_samples(logs, "org__a", "u", lines(0, 3), DAYS[1])
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1] * 6 + [0] * 3]

    def test_a_limit_that_reaches_all_questions_still_is_one(self, tmp_path, logs):
        for day, limit in ((0, None), (1, 6)):
            write_samples(logs, "org__a", "t", lines(1 - day), DAYS[day])
            write_results(logs / "org__a", DAYS[day], model_name="org/a", limit=limit)
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1] * 6]


SAME = "pretrained=org/a"


class TestVariants:
    @pytest.mark.parametrize(
        ("one", "two", "names"),
        [
            ({"model_args": f"{SAME},revision=step1"}, {"model_args": f"{SAME},revision=step2"}, ["@step1", "@step2"]),
            ({"model_args": SAME}, {"model_args": {"pretrained": "org/a", "revision": "step2"}}, ["", "@step2"]),
            (
                {"model_args": f"{SAME},dtype=float16"},
                {"model_args": f"{SAME},dtype=auto,load_in_4bit=True"},
                [" (dtype=float16)", " (load_in_4bit=True)"],
            ),
            (
                {"model_args": SAME, "chat_template_sha": "0123456789ab"},
                {"model_args": SAME, "chat_template_sha": None},
                ["", " (chat_template=01234567)"],
            ),
            (
                {"model_args": SAME, "system_instruction": "Be kind.", "system_instruction_sha": "fedcba9876"},
                {"model_args": f"{SAME},device=cuda:1"},
                ["", " (system_prompt=fedcba98)"],
            ),
            ({"model_args": SAME, "shots": {"t": 0}}, {"shots": {"t": 5}}, [" (shots=0)", " (shots=5)"]),
            (
                {"shots": {"t": 0}, "gen_kwargs": "temperature=1"},
                {"shots": {"t": 0}, "gen_kwargs": None},
                ["", " (gen_kwargs=temperature=1)"],
            ),
            (
                {"model_name": "me/lora", "model_args": "pretrained=org/a,peft=me/lora"},
                {"model_name": "me/lora", "model_args": "pretrained=org/b,peft=me/lora"},
                ["me/lora (pretrained=org/a)", "me/lora (pretrained=org/b)"],
            ),
        ],
    )
    def test_are_models_of_their_own(self, tmp_path, logs, one, two, names):
        for day, about in enumerate((one, two)):
            write_samples(logs, "org__a", "t", lines(day), DAYS[day])
            write_results(logs / "org__a", DAYS[day], **{"model_name": "org/a", **about})
        matrix = import_lm_eval(logs, tmp_path / "out", strict=True)
        assert matrix.model_names.tolist() == [name if "/" in name else f"org/a{name}" for name in names]
        assert sorted(matrix.labels[:, 0]) == [0, 1]

    def test_what_does_not_tell_them_apart_makes_one_model(self, tmp_path, logs):
        many = (
            "device=cuda:0",
            {"pretrained": "org/a", "peft": None},
            "dtype=auto,batch_size=8",
            "revision=main,trust_remote_code=True",
        )
        for day, more in enumerate(many):
            write_samples(logs, "org__a", f"t{day}", lines(1, 1), DAYS[day])
            shots, args = {f"t{day}": day}, more if isinstance(more, dict) else f"{SAME},{more}"
            write_results(logs / "org__a", DAYS[day], model_name="org/a", model_args=args, shots=shots)
        assert labels_of(import_lm_eval(logs, tmp_path / "out")) == {"org/a": [1, 1, 1, 1]}

    def test_a_run_without_results_is_of_the_only_variant(self, tmp_path, logs):
        write_samples(logs, "org__a", "t", lines(1, 1), DAYS[0])
        write_results(logs / "org__a", DAYS[0], model_name="org/a", model_args=f"{SAME},revision=v1")
        write_samples(logs / "more", "org__a", "u", lines(1, 1), DAYS[1])
        write_samples(logs, "org__a", "v", lines(1, 1), DAYS[2])
        assert labels_of(import_lm_eval(logs, tmp_path / "out")) == {"org/a": [1, 1, 1]}

    def test_a_run_without_results_beside_two_variants_is_refused(self, logs, assert_refused):
        for day in range(3):
            write_samples(logs, "org__a", "t", lines(1), DAYS[day])
        for day in range(2):
            args = f"{SAME},revision=v{day}"
            write_results(logs / "org__a", DAYS[day], model_name="org/a", model_args=args)
        message = rf"org__a holds several models org/a, and no results file of date {DAYS[2]}"
        assert_refused((import_lm_eval, logs, {}), message)

    def test_secrets_are_no_part_of_a_name(self, tmp_path, logs):
        for day in range(2):
            write_samples(logs, "org__a", "t", lines(1), DAYS[day])
            args = f"{SAME},api_key=secret{day}"
            write_results(logs / "org__a", DAYS[day], model_name="org/a", model_args=args)
        assert import_lm_eval(logs, tmp_path / "out").model_names.tolist() == ["org/a"]


def test_results_that_are_none(tmp_path, logs):
    write_samples(logs, "A", "t", lines(1))
    put(logs / "A" / f"results_{DAYS[0]}.json", "[]")
    put(logs / "A" / f"x_{DAYS[1]}.json", {"config": None, "model_name": 3})
    assert labels_of(import_lm_eval(logs, tmp_path / "out")) == {"A": [1] * 6}


@st.composite
def pools(draw):
    """For each (model, task): its number of documents, labels, and how its full and its partial runs are written."""
    n_docs = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    models = draw(st.lists(st.sampled_from(["org/a", "org/b", "c"]), min_size=1, max_size=3, unique=True))
    revisions = draw(st.sampled_from([("main",), ("main", "v1"), ("v1", "v2")]))
    bits = st.lists(st.integers(0, 1), min_size=6, max_size=6)
    return n_docs, {(m, r, t): draw(bits) for m in models for r in revisions for t in range(len(n_docs))}


@settings(max_examples=60, deadline=None)
@given(pool=pools(), seed=st.integers(0, 2**32 - 1))
def test_any_set_of_runs_comes_back(pool, seed):
    """Whatever the dates, the order of files and lines, the splits over files, compression and later partial runs."""
    n_docs, cells = pool
    rng = random.Random(seed)
    flat = rng.random() < 0.5  # without folders of models
    days = iter(rng.sample(range(10_000_000), 1_000))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "logs"
        folder.mkdir()
        runs = [(key, None) for key in cells] + [(key, 1) for key in cells if n_docs[key[2]] > 1 and rng.random() < 0.5]
        rng.shuffle(runs)
        for (model, revision, task), limit in runs:
            date = f"2026-05-01T10-00-00.{next(days):07}"
            place = "" if flat else model.replace("/", "__")
            labels = cells[model, revision, task]
            chosen = [sample(n, acc=float(labels[n]), doc={"id": [task, n]}) for n in range(n_docs[task])]
            if limit:
                chosen = [{**chosen[0], "acc": 1.0 - labels[0]}]
            rng.shuffle(chosen)
            cut = rng.randrange(len(chosen) + 1)
            for part, suffix in ((chosen[:cut], ".jsonl"), (chosen[cut:], rng.choice([".jsonl.gz", ".json"]))):
                if part or suffix == ".jsonl":
                    write_samples(folder, place, f"task{task}", part, date, suffix)
            args = f"pretrained={model},revision={revision}"
            write_results(folder / place, date, rng.choice(["results", "x"]), limit, model_name=model, model_args=args)
        answers = read_lm_eval(folder)
        table = answers.report_table()
    shown = len({revision for _, revision, _ in cells}) > 1
    for (model, revision, task), labels in cells.items():
        own = f"{model}@{revision}" if shown and revision != "main" else model
        got = [answers.labels.at[own, f"task{task}/{n}"] for n in range(n_docs[task])]
        assert got == labels[: n_docs[task]]
    assert answers.labels.size == sum(n_docs[task] for _, _, task in cells)
    assert table["count"].iat[-1] == sum(1 if limit else n_docs[key[2]] for key, limit in runs)
