"""Results of evaluations in any form become the data set they stand for, or one sentence that says why not."""

import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedllm import CorrectnessMatrix, load_dataset
from embedllm.__main__ import main
from embedllm.datasets import importers
from embedllm.datasets.encoder import encode_questions
from embedllm.datasets.importers import import_lm_eval, import_long, import_resolved, import_wide

TEXTS = ["plain", "N/A", "two\nlines", "commas, \"quotes\", 'both'", "提示文字", "🦙🙂", " spaces ", "x" * 200_000]
NAMES = ["NA", "null", "nan", "org__model@v1.0 (chat)", "模型 七", "007"]


def vectors_of(texts) -> np.ndarray:
    """A vector that each text determines: (n, 8)."""
    digests = [hashlib.sha256(text.encode()).digest()[:8] for text in texts]
    return np.array([list(digest) for digest in digests], dtype=np.float32).reshape(-1, 8) + 1


@pytest.fixture(autouse=True)
def encoded(monkeypatch) -> list:
    """Replace the encoder, and return the list of its calls."""
    calls = []

    def encode(texts, encoder, *, device):
        calls.append((list(texts), encoder, device))
        return vectors_of(texts)

    monkeypatch.setattr(importers, "encode_questions", encode)
    return calls


def expect(models, ids, labels, benchmarks, prompts, **more) -> CorrectnessMatrix:
    questions = pd.DataFrame({"benchmark": benchmarks, "prompt": prompts, **more}, index=ids)
    return CorrectnessMatrix(pd.DataFrame(labels, models, ids), questions, vectors_of(prompts))


def reports(matrix) -> list:
    return matrix.report_.to_numpy().tolist()


@pytest.fixture
def assert_imported(assert_same, encoded):
    """Return the check that an import gave a matrix, wrote it, and encoded each prompt in one call."""

    def check(matrix, expected, out):
        assert_same(matrix, expected)
        assert_same(load_dataset(out), expected)
        assert [call[0] for call in encoded] == [expected.questions["prompt"].tolist()]
        assert list(out.parent.glob(".*")) == []

    return check


# The long form

LONG = ["prompt_id", "model_name", "category", "label", "prompt"]


def long_rows(seed=0):
    """Answers of all models to all texts but for some, with ids in no sorted order."""
    rng = np.random.default_rng(seed)
    categories = ["mmlu_law", "piqa", "own"]
    return [
        [7 * (len(TEXTS) - number), model, categories[number % 3], int(rng.integers(0, 2)), text]
        for number, text in enumerate(TEXTS)
        for model in NAMES
        if (number + len(model)) % 4
    ]


def long_expected(rows, **more):
    ids, models = (list(dict.fromkeys(str(row[column]) for row in rows)) for column in (0, 1))
    labels = pd.DataFrame(-1, models, ids)
    for row in rows:
        labels.loc[row[1], str(row[0])] = row[3]
    facts = {str(row[0]): row for row in rows}
    categories = [facts[name][2] for name in ids]
    benchmarks = [{"mmlu_law": "MMLU", "piqa": "PIQA"}.get(name, name) for name in categories]
    prompts = [facts[name][4] for name in ids]
    return expect(models, ids, labels.to_numpy(), benchmarks, prompts, category=categories, **more)


class TestLong:
    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
    def test_one_file(self, tmp_path, write_csv, assert_imported, name):
        rows = long_rows()
        if name.endswith("parquet"):
            pd.DataFrame(rows, columns=LONG).to_parquet(tmp_path / name)
        else:
            write_csv(tmp_path / name, [["", *LONG], *([number, *row] for number, row in enumerate(rows))])
        matrix = import_long(tmp_path / name, tmp_path / "out")
        assert_imported(matrix, long_expected(rows), tmp_path / "out")
        assert (matrix.source, reports(matrix)) == (name, [])

    def test_folder_of_a_split(self, tmp_path, write_csv, assert_imported):
        rows = [[number, model, "own", 1, f"p{number}"] for number in range(6) for model in ("A", "B")]
        (tmp_path / "in").mkdir()
        for number, part in enumerate(("train", "val", "test")):
            write_csv(tmp_path / "in" / f"{part}.csv", [LONG, *rows[4 * number : 4 * number + 4]])
        matrix = import_long(tmp_path / "in", tmp_path / "out")
        split = ["train"] * 2 + ["val"] * 2 + ["test"] * 2
        assert_imported(matrix, long_expected(rows, split=split), tmp_path / "out")

    @pytest.mark.parametrize(("duplicates", "label"), [("majority", 0), ("any", 1), ("last", 0)])
    def test_duplicates(self, tmp_path, write_csv, duplicates, label):
        rows = [["1", "A", "own", value, "text"] for value in (1, 0, 0)]
        write_csv(tmp_path / "a.csv", [LONG, *rows])
        matrix = import_long(tmp_path / "a.csv", tmp_path / "out", duplicates=duplicates)
        assert matrix.labels.tolist() == [[label]]
        assert [row[:2] for row in reports(matrix)] == [["repeated rows", 2], ["conflicting labels", 1]]

    def test_tied_question_is_left_out(self, tmp_path, write_csv, assert_same):
        rows = [["1", "A", "own", 1, "tie"], ["1", "A", "own", 0, "tie"], ["2", "A", "own", 1, "fine"]]
        write_csv(tmp_path / "a.csv", [LONG, *rows])
        matrix = import_long(tmp_path / "a.csv", tmp_path / "out")
        assert_same(matrix, long_expected(rows[2:]))
        assert_same(load_dataset(tmp_path / "out"), matrix)
        assert ["questions without an answer", 1, "left out"] in reports(matrix)


# The wide form


def wide_table(rows, header) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


SPELLINGS = {1: ["1", "1.0", "true", "True", "TRUE", " 1 "], 0: ["0", "0.0", "false", "False"], -1: ["", " "]}
COLUMNS = ("prompt_id", "benchmark", "prompt", "")
names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)).filter(
    lambda name: name not in (*COLUMNS, "overall") and not name.startswith("Unnamed:")
)
texts = st.one_of(st.sampled_from(TEXTS[:-1]), st.text(st.characters(codec="utf-8"), max_size=30)).filter(str.strip)


@st.composite
def pools(draw):
    models = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    n_questions = draw(st.integers(1, 6))
    ids = draw(st.lists(names.filter(str.strip), min_size=n_questions, max_size=n_questions, unique=True))
    cells = st.lists(st.sampled_from([-1, 0, 1]), min_size=len(models), max_size=len(models)).filter(
        lambda row: max(row) >= 0
    )
    labels = [draw(cells) for _ in ids]
    return models, ids, labels, [draw(texts) for _ in ids], [draw(texts.filter(lambda t: t != "overall")) for _ in ids]


class TestWide:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pool=pools(),
        form=st.sampled_from(["csv", "csv.gz", "parquet"]),
        windows=st.booleans(),
        index=st.booleans(),
        with_ids=st.booleans(),
        seed=st.integers(0, 99),
    )
    def test_any_table_comes_back(self, assert_same, pool, form, windows, index, with_ids, seed):
        models, ids, labels, prompts, benchmarks = pool
        rng = np.random.default_rng(seed)
        columns = {"prompt": prompts, "benchmark": benchmarks}
        if with_ids:
            columns["prompt_id"] = ids
        for number, model in enumerate(models):
            columns[model] = [str(rng.choice(SPELLINGS[row[number]])) for row in labels]
        order = rng.permutation(len(columns))
        header = [list(columns)[number] for number in order]
        rows = [[columns[name][row] for name in header] for row in range(len(ids))]
        if index:
            header, rows = ["", *header], [[str(number), *row] for number, row in enumerate(rows)]
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder, f"t.{form}"), Path(folder, "out")
            if form == "parquet":
                pd.DataFrame(rows, columns=header, dtype=str).to_parquet(path)
            else:
                stream = io.StringIO()
                # All quoted: of itself the csv module leaves a lone carriage return bare.
                newline = "\r\n" if windows else "\n"
                csv.writer(stream, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([header, *rows])
                data = stream.getvalue().encode("utf-8-sig" if windows else "utf-8")
                path.write_bytes(gzip.compress(data) if form == "csv.gz" else data)
            matrix = import_wide(path, out)
            ordered = [name for name in header if name in models]
            cells = np.array(labels)[:, [models.index(name) for name in ordered]].T
            named = ids if with_ids else [str(number + 1) for number in range(len(ids))]
            expected = expect(ordered, named, cells, benchmarks, prompts)
            assert_same(matrix, expected)
            assert_same(load_dataset(out), expected)

    def test_other_names_of_columns(self, tmp_path, assert_imported):
        header = ["key", "Q", "set", "A", "note", "B", "prompt_id"]
        rows = [["a", TEXTS[2], "one", 1, "?", 0, "x"], ["b", TEXTS[7], "two", "", "", 1, "x"]]
        (tmp_path / "t.csv").write_bytes(wide_table(rows, header))
        matrix = import_wide(
            tmp_path / "t.csv",
            tmp_path / "out",
            encoder="enc",
            device="cpu",
            prompt_column="Q",
            benchmark_column="set",
            id_column="key",
            ignore=["note", "prompt_id"],
        )
        expected = expect(["A", "B"], ["a", "b"], [[1, -1], [0, 1]], ["one", "two"], [TEXTS[2], TEXTS[7]])
        assert_imported(matrix, expected, tmp_path / "out")

    def test_ignored_prompt_id_is_no_id(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(wide_table([["x", "p", "b", 1]], ["prompt_id", "prompt", "benchmark", "A"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out", ignore=["prompt_id"])
        assert matrix.question_ids.tolist() == ["1"]

    def test_encoder_and_device_are_handed_on(self, tmp_path, encoded):
        (tmp_path / "t.csv").write_bytes(wide_table([["p", "b", 1]], ["prompt", "benchmark", "A"]))
        import_wide(tmp_path / "t.csv", tmp_path / "one", encoder="enc", device=["cuda:0"])
        import_wide(tmp_path / "t.csv", tmp_path / "two")
        assert [call[1:] for call in encoded] == [
            ("enc", ["cuda:0"]),
            ("sentence-transformers/all-mpnet-base-v2", "auto"),
        ]

    def test_with_a_real_encoder(self, tmp_path, monkeypatch, small_encoder):
        monkeypatch.setattr(importers, "encode_questions", encode_questions)
        rows = [["What is two plus two?", "sums", 1], ["Who wrote Faust?", "books", 0]]
        (tmp_path / "t.csv").write_bytes(wide_table(rows, ["prompt", "benchmark", "A"]))
        import_wide(tmp_path / "t.csv", tmp_path / "out", encoder=small_encoder, device="cpu")
        vectors = encode_questions([row[0] for row in rows], small_encoder, device="cpu")
        np.testing.assert_array_equal(load_dataset(tmp_path / "out").embeddings, vectors)

    def test_numbers_and_truth_values_in_parquet(self, tmp_path):
        frame = {"prompt": ["a", "b", "c"], "benchmark": "x", "i": [1, 0, 1], "f": [1.0, np.nan, 0.0]}
        frame |= {"b": pd.array([None, True, False], dtype="boolean"), "nothing": pd.array([None] * 3, dtype="Int8")}
        pd.DataFrame(frame).to_parquet(tmp_path / "t.parquet")
        matrix = import_wide(tmp_path / "t.parquet", tmp_path / "out")
        assert matrix.labels.tolist() == [[1, 0, 1], [1, -1, 0], [-1, 1, 0], [-1, -1, -1]]
        assert reports(matrix) == [["models without an answer", 1, "kept, not observed"]]

    def test_unanswered_question_is_neither_encoded_nor_kept(self, tmp_path, assert_imported):
        rows = [["p1", "b", 1, ""], ["p2", "b", "", ""], ["p3", "b", "", 0]]
        (tmp_path / "t.csv").write_bytes(wide_table(rows, ["prompt", "benchmark", "A", "B"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out")
        expected = expect(["A", "B"], ["1", "3"], [[1, -1], [-1, 0]], ["b", "b"], ["p1", "p3"])
        assert_imported(matrix, expected, tmp_path / "out")
        assert reports(matrix) == [["questions without an answer", 1, "left out"]]


# Logs of the harness

TIME = "2024-07-01T12-30-45.123456"


def sample(doc_id, *, doc=None, context="Question?", filter="none", **metrics):
    """A line as the harness writes it: multiple choice if it has `acc`, otherwise text that was generated."""
    doc = {"question": f"doc {doc_id}"} if doc is None else doc
    if "acc" in metrics:
        arguments = {f"gen_args_{n}": {"arg_0": context, "arg_1": f" choice {n}"} for n in range(4)}
        answers = {"resps": [[["-1.5", "False"]]] * 4, "filtered_resps": [["-1.5", "False"]] * 4, "target": "2"}
    else:
        arguments = {"gen_args_0": {"arg_0": context, "arg_1": {"until": ["\n"], "temperature": 0.0}}}
        answers = {"resps": [["so 4"]], "filtered_resps": ["4"], "target": "4"}
    digest = hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest()
    hashes = {"doc_hash": digest, "prompt_hash": "p", "target_hash": "t"}
    named = {"filter": filter, "metrics": list(metrics)}
    return {"doc_id": doc_id, "doc": doc, "arguments": arguments, **answers, **named, **hashes, **metrics}


def write_samples(folder: Path, model: str, task: str, lines, time: str = TIME) -> Path:
    """Write a file of samples with, beside it, that of the results."""
    path = folder / model / f"samples_{task}_{time}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    (path.parent / f"results_{time}.json").write_text('{"results": {}}', encoding="utf-8")
    return path


@pytest.fixture
def logs(tmp_path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


class TestHarness:
    def test_tasks_of_both_kinds(self, tmp_path, logs, assert_imported):
        rng = np.random.default_rng(0)
        tasks = {"mmlu_law": ("MMLU", "acc", 12), "gsm8k": ("GSM8K", "exact_match", 3), "own_task_v2": (None, "acc", 2)}
        models = ["meta__Llama-3.1_8B", "a__b__c", "NA"]
        labels, ids, facts = {}, [], []
        for task, (benchmark, metric, n_docs) in sorted(tasks.items()):
            for doc_id in range(n_docs):
                ids.append(f"{task}/{doc_id}")
                prompt = f"{TEXTS[doc_id % len(TEXTS)]}\u2028{task}"
                facts.append((benchmark or task, task, prompt))
                for model in models:
                    labels[model, ids[-1]] = int(rng.integers(0, 2))
            for model in models:
                # Processes that share the work write their questions in turns.
                order = rng.permutation(n_docs)
                write_samples(logs / "runs", model, task, [
                    sample(int(n), context=f"{TEXTS[n % len(TEXTS)]}\u2028{task}", filter="none",
                           **{metric: float(labels[model, f"{task}/{n}"]), "acc_norm": 1.0})
                    for n in order
                ])  # fmt: skip
        models = sorted(models)
        cells = [[labels[model, name] for name in ids] for model in models]
        benchmarks, categories, prompts = map(list, zip(*facts, strict=True))
        expected = expect(models, ids, cells, benchmarks, prompts, category=categories)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert_imported(matrix, expected, tmp_path / "out")
        assert (matrix.source, reports(matrix)) == ("logs", [])

    def test_limited_run_is_not_observed(self, tmp_path, logs):
        write_samples(logs, "A", "t", [sample(n, acc=1.0) for n in range(4)])
        write_samples(logs, "B", "t", [sample(n, acc=0.0) for n in range(2)])
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1, 1, 1, 1], [0, 0, -1, -1]]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"gen_args_0": {"arg_0": "the text", "arg_1": " A"}, "gen_args_1": {"arg_0": "other", "arg_1": " B"}},
            [["the text", " A"], ["other", " B"]],
            [["the text"]],
            {"gen_args_0": {"arg_0": ["the text"], "arg_1": {"until": []}}},
            [[["the text"], {"until": []}]],
        ],
        ids=["by name", "list", "rolling", "chat by name", "chat in a list"],
    )
    def test_prompt_is_the_first_context(self, tmp_path, logs, arguments):
        write_samples(logs, "A", "t", [{**sample(0, acc=1.0), "arguments": arguments}])
        assert import_lm_eval(logs, tmp_path / "out").questions["prompt"].tolist() == ["the text"]

    @pytest.mark.parametrize(
        ("metrics", "metric", "label"),
        [
            ({"acc": 1.0, "acc_norm": 0.0}, None, 1),
            ({"acc": 1.0, "acc_norm": 0.0}, "acc_norm", 0),
            ({"acc_norm": 1.0, "exact_match": 0.0}, None, 0),
            ({"acc_norm": 1, "bleu": 0.3}, None, 1),
            ({"prompt_level_strict_acc": True, "acc": 0.0}, "prompt_level_strict_acc", 1),
            ({"exact_match": "False"}, None, 0),
        ],
    )
    def test_metric(self, tmp_path, logs, metrics, metric, label):
        write_samples(logs, "A", "t", [sample(0, **metrics)])
        assert import_lm_eval(logs, tmp_path / "out", metric=metric).labels.tolist() == [[label]]

    def test_filter(self, tmp_path, logs):
        # The harness writes all lines of one filter, then all of the next; other tasks have other filters, or none.
        lines = [sample(n, filter=name, exact_match=float(name == "flexible-extract"))
                 for name in ("strict-match", "flexible-extract") for n in range(2)]  # fmt: skip
        write_samples(logs, "A", "gsm8k", lines)
        write_samples(logs, "A", "bbh", [sample(0, filter="get-answer", exact_match=1.0)])
        write_samples(logs, "A", "piqa", [sample(0, acc=1.0)])
        strict = import_lm_eval(logs, tmp_path / "strict", filter="strict-match")
        flexible = import_lm_eval(logs, tmp_path / "flexible", filter="flexible-extract")
        assert strict.question_ids.tolist() == ["bbh/0", "gsm8k/0", "gsm8k/1", "piqa/0"]
        assert strict.labels.tolist() == [[1, 0, 0, 1]]
        assert flexible.labels.tolist() == [[1, 1, 1, 1]]
        assert reports(strict) == [["files without filter 'strict-match'", 1, "the only filter that they hold"]]

    def test_log_without_names_of_filters_and_metrics(self, tmp_path, logs):
        line = sample(0, acc=1.0)
        del line["filter"], line["metrics"]
        write_samples(logs, "A", "t", [line])
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1]]

    def test_newest_run_counts(self, tmp_path, logs):
        for folder, time, value in [
            ("one", "2024-07-01T12-30-45", 0.0),
            ("one", "2024-07-01T12-30-45.5", 1.0),
            ("two", "2023-12-31T23-59-59.999999", 0.0),
        ]:
            write_samples(logs / folder, "A", "t", [sample(0, acc=value)], time)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.labels.tolist() == [[1]]
        assert reports(matrix) == [["older runs of a model on a task", 2, "the newest counts"]]

    def test_other_contexts_are_counted(self, tmp_path, logs):
        write_samples(logs, "B", "t", [sample(0, acc=1.0, context="first"), sample(1, acc=1.0)])
        write_samples(logs, "A", "t", [sample(0, acc=1.0, context="few shots"), sample(1, acc=1.0)])
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.questions["prompt"].tolist() == ["few shots", "Question?"]
        assert reports(matrix) == [["questions asked in several contexts", 1, "the prompt of the first model by name"]]

    def test_folder_of_one_model(self, tmp_path, logs, monkeypatch):
        write_samples(logs, "org__model", "t", [sample(0, acc=1.0)])
        assert import_lm_eval(logs / "org__model", tmp_path / "one").model_names.tolist() == ["org__model"]
        monkeypatch.chdir(logs / "org__model")
        assert import_lm_eval(".", tmp_path / "two").model_names.tolist() == ["org__model"]

    def test_a_run_that_is_linked_keeps_its_name(self, tmp_path, logs):
        path = write_samples(tmp_path / "elsewhere", "x", "t", [sample(0, acc=1.0)])
        (logs / "A").mkdir()
        os.symlink(path, logs / "A" / path.name)
        assert import_lm_eval(logs, tmp_path / "out").model_names.tolist() == ["A"]


# Lists of what was resolved


@pytest.fixture
def board(tmp_path) -> Path:
    """A folder for lists, with five questions beside it."""
    (tmp_path / "board").mkdir()
    questions = [["instance_id", "repo", "problem_statement"]]
    questions += [[f"i-{n}", f"repo/{n % 2}", f"{TEXTS[n]} {n}"] for n in range(5)]
    with (tmp_path / "questions.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(questions)
    return tmp_path / "board"


def put(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


class TestResolved:
    def test_all_forms(self, tmp_path, board, assert_imported):
        put(board / "list.json", ["i-4", "i-0"])
        put(board / "org__model.v1.json", {"resolved": ["i-1"], "no_generation": ["i-2"], "no_logs": []})
        put(board / "text.txt", "\ufeffi-2\r\n\r\n  i-3 \n")
        put(board / "a" / "results.json", {"resolved_ids": []})
        put(board / "b" / "results" / "results.json", {"resolved": ["i-3"]})
        put(board / "NA" / "report.json", {
            "resolved": 1, "resolved_ids": ["i-0"], "submitted_ids": ["i-0", "i-1", "i-2"], "schema_version": 2,
        })  # fmt: skip
        put(board / "README.md", "not a list")
        put(board / ".hidden.json", "{")
        labels = {
            "NA": [1, 0, 0, -1, -1],
            "a": [0, 0, 0, 0, 0],
            "b": [0, 0, 0, 1, 0],
            "list": [1, 0, 0, 0, 1],
            "org__model.v1": [0, 1, 0, 0, 0],
            "text": [0, 0, 1, 1, 0],
        }
        expected = expect(
            list(labels),
            [f"i-{n}" for n in range(5)],
            list(labels.values()),
            [f"repo/{n % 2}" for n in range(5)],
            [f"{TEXTS[n]} {n}" for n in range(5)],
        )
        matrix = import_resolved(board, tmp_path / "out", questions=tmp_path / "questions.csv")
        assert_imported(matrix, expected, tmp_path / "out")
        assert reports(matrix) == [["questions that a model did not submit", 2, "not observed"]]

    @pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "parquet"])
    @pytest.mark.parametrize("benchmark", ["benchmark", "repo", None])
    def test_questions(self, tmp_path, board, form, benchmark):
        fields = {"prompt_id": [7, 8], "prompt": ["N/A", TEXTS[2]], "patch": ["x", None]}
        fields |= {benchmark: ["one", "two"]} if benchmark else {}
        path, frame = tmp_path / f"q.{form}", pd.DataFrame(fields)
        if form == "jsonl":
            path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")
        elif form == "parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        put(board / "A.json", [8])
        matrix = import_resolved(board, tmp_path / "out", questions=path)
        assert matrix.question_ids.tolist() == ["7", "8"]
        assert matrix.labels.tolist() == [[0, 1]]
        assert matrix.questions["prompt"].tolist() == fields["prompt"]
        assert matrix.benchmarks.tolist() == (["one", "two"] if benchmark else ["board", "board"])


# What is wrong with an input


def long_case(header, *rows, name="a.csv", **options):
    def prepare(folder):
        data = wide_table(rows, header)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        return import_long, folder / name, options

    return prepare


def wide_case(content, name="t.csv", **options):
    def prepare(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return import_wide, folder / name, options

    return prepare


def harness_case(*runs, raw=None, **options):
    """`runs`: (model, task, lines); `raw`: what the file of the last of them holds instead."""

    def prepare(folder):
        (folder / "logs").mkdir()
        for run in runs:
            path = write_samples(folder / "logs", *run)
        if raw is not None:
            path.write_bytes(raw)
        return import_lm_eval, folder / "logs", options

    return prepare


def resolved_case(files, questions="prompt_id,prompt\ni-0,zero\ni-1,one\n", name="q.csv"):
    def prepare(folder):
        (folder / "board").mkdir()
        for place, content in files.items():
            put(folder / "board" / place, content)
        put(folder / name, questions)
        return import_resolved, folder / "board", {"questions": folder / name}

    return prepare


def missing(importer, **options):
    return lambda folder: (importer, folder / "nothing", options)


OK = "prompt,benchmark,A\np,b,1\n"
NEITHER = r"neither right nor wrong: use 1 or 0, leave it empty .*, or, .* ignore it \(ignore=\['A'\], --ignore\)"
LINE = sample(0, acc=1.0)
TASK_FILE = rf"samples_t_{TIME}\.jsonl"

MALFORMED = {
    # the long form
    "long: no source": (missing(import_long), "nothing does not exist"),
    "long: no prompt column": (long_case(LONG[:4], [1, "A", "own", 1]), r"a\.csv has no column 'prompt'; it has"),
    "long: no category": (
        long_case(["prompt_id", "model_name", "label", "prompt"], [1, "A", 1, "p"]),
        r"a\.csv has no column 'category'",
    ),
    "long: label": (
        long_case(LONG, [1, "A", "own", 1, "p"], [2, "A", "own", "?", "q"]),
        r"row 2: label '\?' is neither",
    ),
    "long: empty model": (long_case(LONG, [1, "", "own", 1, "p"]), r"row 1: the model_name is empty"),
    "long: empty id": (
        long_case(LONG, [1, "A", "own", 1, "p"], ["", "A", "own", 1, "p"]),
        r"row 2: the prompt_id is empty",
    ),
    "long: two prompts": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "B", "own", 1, "q"], name="a.csv.gz"),
        r"a\.csv\.gz: prompt_id '1' stands for two prompts, 'p' and 'q'",
    ),
    "long: empty prompt": (long_case(LONG, [1, "A", "own", 1, " "]), r"a\.csv: the prompt of question '1' is empty"),
    "long: two benchmarks": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "B", "piqa", 1, "p"]),
        r"question '1' belongs to benchmark 'PIQA' here, and to 'own' elsewhere",
    ),
    "long: duplicates": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "A", "own", 1, "p"], duplicates="error"),
        r"model 'A' has 2 rows on question '1'",
    ),
    "long: only ties": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "A", "own", 0, "p"]),
        r"a\.csv holds no answer that was observed",
    ),
    "long: header only": (long_case(LONG), r"a\.csv: no answer in it"),
    # the wide form
    "wide: no source": (missing(import_wide), "nothing does not exist"),
    "wide: label 2": (
        wide_case("prompt,benchmark,A\np,b,1\nq,b,2\n"),
        rf"t\.csv, row 2: '2' in column 'A' is {NEITHER}",
    ),
    "wide: label -1": (wide_case("prompt,benchmark,A\np,b,-1\n"), rf"row 1: '-1' in column 'A' is {NEITHER}"),
    "wide: label 0.7": (wide_case("prompt,benchmark,A\np,b,0.7\n"), rf"row 1: '0\.7' in column 'A' is {NEITHER}"),
    "wide: label nan": (wide_case("prompt,benchmark,A\np,b,nan\n"), rf"row 1: 'nan' in column 'A' is {NEITHER}"),
    "wide: label word": (
        wide_case('prompt,benchmark,A\n"two\nlines",b,1\np,b,correct\n'),
        rf"row 2: 'correct' in column 'A' is {NEITHER}",
    ),
    "wide: no prompt column": (
        wide_case("text,benchmark,A\np,b,1\n"),
        r"t\.csv has no column 'prompt'; it has \['text'",
    ),
    "wide: no benchmark column": (wide_case(OK, benchmark_column="set"), r"t\.csv has no column 'set'; it has"),
    "wide: no id column": (wide_case(OK, id_column="id"), r"t\.csv has no column 'id'; it has"),
    "wide: no column to ignore": (wide_case(OK, ignore=["B"]), r"t\.csv has no column 'B'; it has"),
    "wide: no model": (
        wide_case(",prompt,benchmark\n0,p,b\n"),
        r"t\.csv has no column of a model; it has \['', 'prompt', 'benchmark'\]: add",
    ),
    "wide: all models ignored": (wide_case(OK, ignore=["A"]), r"t\.csv has no column of a model"),
    "wide: model twice": (wide_case("prompt,benchmark,A,A\np,b,1,1\n"), r"t\.csv has more than one column 'A'"),
    "wide: model named overall": (
        wide_case("prompt,benchmark,overall\np,b,1\n"),
        r"a model is named 'overall', as the summary row of every table: rename it",
    ),
    "wide: id twice": (
        wide_case("prompt_id,prompt,benchmark,A\n7,p,b,1\n8,q,b,1\n7,r,b,0\n"),
        r"t\.csv, row 3: prompt_id '7' stands in row 1 already: give each question an id of its own",
    ),
    "wide: empty id": (wide_case("prompt_id,prompt,benchmark,A\n,p,b,1\n"), r"row 1: the prompt_id is empty"),
    "wide: empty prompt": (wide_case("prompt,benchmark,A\np,b,1\n ,b,1\n"), r"row 2: the prompt is empty: fill it in"),
    "wide: empty benchmark": (wide_case("prompt,benchmark,A\np,,1\n"), r"row 1: the benchmark is empty: fill it in"),
    "wide: empty file": (wide_case(""), r"t\.csv is empty: its first line must name the columns"),
    "wide: header only": (wide_case("prompt,benchmark,A\n"), r"t\.csv has no row below its header"),
    "wide: nothing observed": (wide_case("prompt,benchmark,A\np,b,\n"), r"t\.csv holds no answer that was observed"),
    "wide: short row": (wide_case("prompt,benchmark,A\np,b,1\nq,b\n"), r"row 2 has 2 fields, the header 3"),
    "wide: long row": (wide_case("prompt,benchmark,A\nwell, p,b,1\n"), r"row 1 has 4 fields, the header 3: quote"),
    "wide: latin-1": (
        wide_case("prompt,benchmark,A\ncafé,b,1\n".encode("latin-1")),
        r"t\.csv is not UTF-8: save it as UTF-8$",
    ),
    "wide: open quote": (wide_case('prompt,benchmark,A\np,b,1\n"q,b,1\n'), r"t\.csv, row 2 has 1 fields, the header 3"),
    "wide: open quote in the last field": (
        wide_case('prompt,benchmark,A\np,b,1\nq,b,"1\n'),
        r"t\.csv, row 2: the text in quotes does not end",
    ),
    "wide: cut gzip": (wide_case(gzip.compress(OK.encode() * 99)[:-9], "t.csv.gz"), r"t\.csv\.gz cannot be read"),
    "wide: not parquet": (wide_case(OK, "t.parquet"), r"t\.parquet cannot be read"),
    "wide: folder": (lambda folder: (import_wide, folder, {}), r"is of an unknown form: bring it as one of"),
    # logs of the harness
    "harness: no source": (missing(import_lm_eval), "nothing does not exist"),
    "harness: no logs": (harness_case(), r"logs holds no samples_TASK_TIME\.jsonl: .*--log_samples --output_path"),
    "harness: other name": (
        harness_case(("A", "t", [LINE], "yesterday")),
        r"samples_t_yesterday\.jsonl is not named samples_TASK_TIME\.jsonl",
    ),
    "harness: empty file": (harness_case(("A", "t", [])), rf"{TASK_FILE} is empty"),
    "harness: cut line": (
        harness_case(("A", "t", [LINE]), raw=json.dumps(LINE).encode() + b'\n{"doc_id": 1, "do'),
        rf"{TASK_FILE}, line 2 is not JSON \(.*\): was it cut short",
    ),
    "harness: not an object": (
        harness_case(("A", "t", []), raw=b"\n[1]\n"),
        rf"{TASK_FILE}, line 2 is a list, not an object",
    ),
    "harness: latin-1": (harness_case(("A", "t", []), raw='{"é": 1}'.encode("latin-1")), "line 1 is not UTF-8"),
    "harness: no doc_id": (
        harness_case(("A", "t", [LINE, {"acc": 1.0}])),
        rf"{TASK_FILE}, line 2: doc_id must be a whole number, and it is None",
    ),
    "harness: doc_id of another type": (harness_case(("A", "t", [{**LINE, "doc_id": True}])), "line 1: doc_id .* True"),
    "harness: no doc_hash": (harness_case(("A", "t", [{"doc_id": 0, "acc": 1.0}])), r"line 1 has no doc_hash: repeat"),
    "harness: fraction": (
        harness_case(("A", "t", [LINE, sample(1, acc=0.5, f1=0.2)])),
        r"line 2: acc is 0\.5, neither right \(1\) nor wrong \(0\): name another metric of \['acc', 'f1'\]",
    ),
    "harness: not a number": (
        harness_case(("A", "t", [sample(0, acc=float("nan"))])),
        r"line 1: acc is nan, neither right",
    ),
    "harness: no usual metric": (
        harness_case(("A", "t", [sample(0, bleu=1.0, ter=0.0)])),
        r"line 1 has no metric acc or exact_match or acc_norm; it has \['bleu', 'ter'\]: name one of these \(metric=",
    ),
    "harness: metric that is not there": (
        harness_case(("A", "t", [LINE]), metric="exact_match"),
        r"line 1 has no metric exact_match; it has \['acc'\]",
    ),
    "harness: filter not named": (
        harness_case(("A", "t", [sample(0, filter=name, exact_match=1.0) for name in ("strict", "flexible")])),
        rf"{TASK_FILE} holds answers by several filters, \['strict', 'flexible'\]: name one of them \(filter=",
    ),
    "harness: filter that is not there": (
        harness_case(("A", "t", [sample(0, filter=f, exact_match=1.0) for f in ("strict", "none")]), filter="loose"),
        r"holds answers by several filters, \['strict', 'none'\]",
    ),
    "harness: filter that is nowhere": (
        harness_case(("A", "t", [LINE]), filter="loose"),
        r"no file in .*logs holds answers by filter 'loose'; there are \['none'\]",
    ),
    "harness: question twice": (
        harness_case(("A", "t", [sample(n, filter="f", exact_match=1.0) for n in (0, 1, 0)])),
        rf"{TASK_FILE}, line 3: doc_id 0 stands in line 1 too: keep one$",
    ),
    "harness: question twice, without names of filters": (
        harness_case(("A", "t", [LINE, LINE])),
        r"line 2: doc_id 0 stands in line 1 too: .* versions before 0\.4\.7 do not name",
    ),
    "harness: other question": (
        harness_case(("A", "t", [LINE]), ("B", "t", [sample(0, doc={"question": "another"}, acc=1.0)])),
        rf"B.{TASK_FILE}, line 1: doc_id 0 is another question than in .*A.{TASK_FILE} \(their doc_hash differs\)",
    ),
    "harness: no context": (
        harness_case(("A", "t", [{**LINE, "arguments": {}}])),
        "line 1: the first context in its arguments is no text or empty",
    ),
    "harness: empty context": (harness_case(("A", "t", [sample(0, acc=1.0, context="")])), "line 1: the first context"),
    "harness: contexts of no known form": (
        harness_case(("A", "t", [{**LINE, "arguments": [[]]}])),
        "the first context",
    ),
    # lists of what was resolved
    "resolved: no source": (missing(import_resolved, questions="q.csv"), "nothing does not exist"),
    "resolved: no file": (resolved_case({"README.md": "?"}), r"board holds no MODEL\.json, MODEL\.txt or folder MODEL"),
    "resolved: folder without a list": (
        resolved_case({"A/logs.json": "[]"}),
        r"A holds none of results\.json, results/results\.json, report\.json: add one",
    ),
    "resolved: two files of a model": (
        resolved_case({"A.json": [], "A.txt": "i-0"}),
        r"model 'A' has two files, .*A\.json and .*A\.txt: remove one",
    ),
    "resolved: two files in a folder": (
        resolved_case({"A/results.json": [], "A/report.json": []}),
        r"model 'A' has two files, .*results\.json and .*report\.json",
    ),
    "resolved: not JSON": (resolved_case({"A.json": "i-0\n"}), r"A\.json is not JSON"),
    "resolved: a text": (resolved_case({"A.json": '"i-0"'}), r"A\.json holds neither a list of ids nor an object"),
    "resolved: no list": (
        resolved_case({"A.json": {"resolved": 3, "total": 5}}),
        r"A\.json has no list resolved or resolved_ids; it has \['resolved', 'total'\]",
    ),
    "resolved: empty text": (resolved_case({"A.txt": "\n"}), r"A\.txt is empty: if nothing was resolved"),
    "resolved: unknown id": (
        resolved_case({"A.json": ["i-0", "i-9"]}),
        r"A\.json: 'i-9' is not in .*q\.csv: add it there, or remove it here",
    ),
    "resolved: id twice": (resolved_case({"A.txt": "i-0\ni-1\ni-0\n"}), r"A\.txt: 'i-0' is listed twice: remove one"),
    "resolved: no id": (
        resolved_case({"A.json": {"resolved": ["i-0", {"id": 1}]}}),
        r"A\.json: entry 2 of resolved is \{'id': 1\}, not an id",
    ),
    "resolved: unknown id submitted": (
        resolved_case({"A.json": {"resolved": [], "submitted_ids": ["i-9"]}}),
        r"A\.json: 'i-9' is not in .*q\.csv",
    ),
    "resolved: submitted is a number": (
        resolved_case({"A.json": {"resolved": [], "submitted_ids": 300}}),
        r"A\.json: submitted_ids is 300, not a list of ids",
    ),
    "resolved: resolved, not submitted": (
        resolved_case({"A.json": {"resolved": ["i-0", "i-1"], "submitted_ids": ["i-0"]}}),
        r"A\.json: 'i-1' is resolved, but not in submitted_ids",
    ),
    "resolved: question without an id": (
        resolved_case({"A.json": []}, "id,prompt\ni-0,p\n"),
        r"q\.csv has no column prompt_id or instance_id; it has \['id', 'prompt'\]",
    ),
    "resolved: question without a prompt": (
        resolved_case({"A.json": []}, '{"instance_id": "i-0", "problem_statement": ""}\n', "q.jsonl"),
        r"q\.jsonl, line 1 has no prompt or problem_statement: fill it in, or remove the line",
    ),
    "resolved: question twice": (
        resolved_case({"A.json": []}, "prompt_id,prompt\ni-0,p\ni-0,q\n"),
        r"q\.csv, row 2: 'i-0' stands in row 1 already",
    ),
    "resolved: no questions": (resolved_case({"A.json": []}, "\n", "q.jsonl"), r"q\.jsonl lists no question"),
    "resolved: latin-1 list": (
        lambda folder: (
            (
                (folder / "board").mkdir(),
                (folder / "board" / "A.txt").write_bytes(b"caf\xe9"),
                put(folder / "q.csv", "prompt_id,prompt\ni-0,p\n"),
            )
            and (import_resolved, folder / "board", {"questions": folder / "q.csv"})
        ),
        r"A\.txt is not UTF-8: save it as UTF-8$",
    ),
}


class TestMalformed:
    @pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
    def test_is_named_before_anything_is_encoded_or_written(self, tmp_path, encoded, prepare, message):
        importer, source, options = prepare(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises((ValueError, OSError), match=message) as caught:
            importer(source, tmp_path / "out", **options)
        assert "\n" not in str(caught.value)
        assert encoded == []
        assert sorted(tmp_path.rglob("*")) == before

    def test_ignore_is_a_list(self, tmp_path):
        (tmp_path / "t.csv").write_text(OK)
        with pytest.raises(TypeError, match=r"ignore must be a list of names, got the text 'A': pass \['A'\]"):
            import_wide(tmp_path / "t.csv", tmp_path / "out", ignore="A")

    @pytest.mark.parametrize("importer", [import_long, import_wide, import_lm_eval, import_resolved])
    def test_what_is_there_is_not_overwritten(self, tmp_path, encoded, importer):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        options = {"questions": "q.csv"} if importer is import_resolved else {}
        # The source does not exist: it is not looked at.
        with pytest.raises(FileExistsError, match=r"out exists already: name a new folder, or remove it first"):
            importer(tmp_path / "nothing", tmp_path / "out", **options)
        assert (tmp_path / "out" / "mine").read_text() == "mine"
        assert encoded == []

    def test_empty_folder_is_filled(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "t.csv").write_text(OK)
        import_wide(tmp_path / "t.csv", tmp_path / "out")
        assert load_dataset(tmp_path / "out").labels.tolist() == [[1]]

    def test_encoder_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(*arguments, **options):
            raise ConnectionError("no encoder")

        monkeypatch.setattr(importers, "encode_questions", fail)
        (tmp_path / "t.csv").write_text(OK)
        with pytest.raises(ConnectionError, match="no encoder"):
            import_wide(tmp_path / "t.csv", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


# The command line


def command_long(folder):
    (folder / "in.csv").write_bytes(wide_table([[1, "A", "own", 1, "p"], [1, "A", "own", 0, "p"]], LONG))
    return ["long", folder / "in.csv", "--duplicates", "last"], [["repeated", "1"], ["conflicting", "1"]]


def command_wide(folder):
    (folder / "in.csv").write_text("key,Q,set,A,x,y\na,p,b,0,?,?\nb,q,b,,?,?\n")
    options = ["--prompt", "Q", "--benchmark", "set", "--id", "key", "--ignore", "x", "--ignore", "y"]
    return ["wide", folder / "in.csv", *options], [["questions", "1"]]


def command_lm_eval(folder):
    lines = [sample(0, filter=name, acc_norm=0.0, f=name == "g") for name in ("g", "h")]
    write_samples(folder / "logs", "A", "t", lines)
    return ["lm-eval", folder / "logs", "--metric", "acc_norm", "--filter", "g"], []


def command_resolved(folder):
    put(folder / "board" / "A.json", {"resolved": [], "submitted_ids": ["i-0"]})
    put(folder / "q.csv", "prompt_id,prompt\ni-0,p\ni-1,q\n")
    return ["resolved", folder / "board", "--questions", folder / "q.csv"], [["questions", "1"], ["questions", "1"]]


COMMANDS = [command_long, command_wide, command_lm_eval, command_resolved]


class TestCommand:
    @pytest.mark.parametrize("prepare", COMMANDS)
    def test_writes_and_says_how_to_go_on(self, tmp_path, capsys, encoded, prepare):
        arguments, report = prepare(tmp_path)
        out = tmp_path / "out"
        assert main(["import", *map(str, arguments), "--out", str(out), "--encoder", "enc", "--device", "cpu"]) == 0
        assert load_dataset(out).labels.tolist() == [[0]]
        assert encoded == [(["p"] if prepare is not command_lm_eval else ["Question?"], "enc", "cpu")]
        first, *middle, last = capsys.readouterr().out.splitlines()
        name = "in.csv" if prepare in (command_long, command_wide) else str(arguments[1].name)
        assert first == f"CorrectnessMatrix ({name}): 1 models x 1 questions, 1 benchmarks, 100.0% observed"
        assert last == f"data set written to {out}; load it with load_dataset({str(out)!r})"
        assert len(middle) == (len(report) + 1 if report else 0)
        for (what, count), line in zip(report, middle[1:], strict=True):
            assert what in line
            assert f" {count} " in line

    def test_defaults_are_those_of_the_importer(self, tmp_path, encoded):
        (tmp_path / "t.csv").write_text(OK)
        assert main(["import", "wide", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")]) == 0
        assert encoded == [(["p"], "sentence-transformers/all-mpnet-base-v2", "auto")]

    @pytest.mark.parametrize("form", ["long", "wide", "lm-eval", "resolved"])
    def test_one_line_about_a_bad_input(self, tmp_path, capsys, form):
        more = ["--questions", "q.csv"] if form == "resolved" else []
        source, out = str(tmp_path / "nothing"), str(tmp_path / "out")
        assert main(["import", form, source, "--out", out, *more]) == 1
        assert capsys.readouterr() == ("", f"error: {source} does not exist\n")
        assert not Path(out).exists()

    @pytest.mark.parametrize("arguments", [["wide", "t.csv"], ["resolved", "b", "--out", "o"], ["tall", "t"], []])
    def test_usage(self, arguments, capsys):
        with pytest.raises(SystemExit) as caught:
            main(["import", *arguments])
        assert caught.value.code == 2
        assert "usage: python -m embedllm import" in capsys.readouterr().err

    def test_help_needs_no_library(self):
        code = "import sys; from embedllm.__main__ import main\ntry:\n    main(['import', '--help'])\n"
        code += "except SystemExit:\n    assert not {'numpy', 'pandas', 'torch', 'pyarrow'} & set(sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


class TestFolders:
    def test_parent_that_is_a_file_is_found_first(self, tmp_path, encoded):
        (tmp_path / "file").touch()
        (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\n")
        with pytest.raises(NotADirectoryError, match=r"out cannot be made, since .*file is no folder"):
            import_wide(tmp_path / "a.csv", tmp_path / "file" / "out")
        assert encoded == []

    def test_parents_that_were_made_are_removed_again(self, tmp_path, monkeypatch):
        (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\n")
        monkeypatch.setattr("numpy.save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_wide(tmp_path / "a.csv", tmp_path / "x" / "y" / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_column_in_two_roles(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\ny,b,0\n")
    matrix = import_wide(tmp_path / "a.csv", tmp_path / "out", id_column="prompt")
    assert matrix.question_ids.tolist() == matrix.questions["prompt"].tolist() == ["x", "y"]


def test_prompt_that_is_its_own_benchmark(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,A\nx,1\ny,0\n")
    matrix = import_wide(tmp_path / "a.csv", tmp_path / "out", benchmark_column="prompt")
    assert matrix.benchmarks.tolist() == matrix.questions["prompt"].tolist() == ["x", "y"]


def test_needed_column_cannot_be_ignored(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\n")
    with pytest.raises(ValueError, match="column 'prompt' is needed: name another one for its part"):
        import_wide(tmp_path / "a.csv", tmp_path / "out", ignore=["prompt"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.csv", "id,prompt\n1,x\n", r"q\.csv has no column prompt_id or instance_id; it has \['id', 'prompt'\]"),
        ("q.csv", "prompt_id,text\n1,x\n", r"q\.csv has no column prompt or problem_statement; it has"),
        ("q.json", "[]", r"q\.json is of an unknown form: bring it as one of \.jsonl, \.csv, \.csv\.gz, \.parquet$"),
        ("q.jsonl", '{"prompt_id": "1", "prompt": "\\ud83e"}\n', r"q\.jsonl, line 1 holds half a surrogate pair"),
        ("q.jsonl", "true\n", r"q\.jsonl, line 1 is true or false, not an object"),
    ],
)
def test_questions_at_fault(tmp_path, name, content, message):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "A.json").write_text('["1"]')
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        import_resolved(tmp_path / "lists", tmp_path / "out", questions=tmp_path / name)
    with pytest.raises(NotADirectoryError, match="is no folder: name the one that holds a list for each model"):
        import_resolved(tmp_path / name, tmp_path / "out", questions=tmp_path / name)
