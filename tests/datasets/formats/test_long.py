"""Folders in the authors' long form: any matrix written so is read back equal, and what is malformed is named."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from embedllm import CorrectnessMatrix, KNNCorrectness, MatrixFactorization, load_dataset
from embedllm.datasets.formats import _tables as tables
from embedllm.datasets.formats.long import benchmark_of, list_answers, read_long_form
from embedllm.datasets.formats.long import write_long_form as write_folder

TEXTS = ["plain", "N/A", "two\nlines", "commas, \"quotes\", 'both'", "提示文字", "🦙🙂", "", " spaces ", "x" * 200_000]
NAMES = ["NA", "null", "nan", "org/model@v1.0 (chat)__x", "模型 七", "007"]
CATEGORIES = ["mmlu_anatomy", "social_iqa", "NA", "own, category"]


@pytest.fixture(scope="module")
def rich(make_matrix):
    """A matrix of everything that the form can carry: odd names and texts, holes, metadata, a split of its own."""
    toy = make_matrix(missing=0.3, seed=3)
    ids = [str(number) for number in [*range(36), 1000000007, -1, "007", "null"]]
    category = [CATEGORIES[number % 4] for number in range(40)]
    questions = pd.DataFrame(
        {
            "benchmark": [benchmark_of(name) for name in category],
            "split": [("train", "train", "val", "test", "train")[number % 5] for number in range(40)],
            "category": category,
            "prompt": [TEXTS[number % len(TEXTS)] for number in range(40)],
        },
        index=ids,
    )
    models = pd.DataFrame(
        {"params_b": [7, 0.5, np.nan, 70, 13, np.nan], "tags": ["", "a;b", "NA", "x", "", "y"]}, NAMES
    )
    return CorrectnessMatrix(pd.DataFrame(toy.labels, NAMES, ids), questions, toy.embeddings, models=models)


def without_split(matrix):
    frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    return CorrectnessMatrix(frame, matrix.questions.drop(columns="split"), matrix.embeddings, models=matrix.models)


class TestRoundTrip:
    @pytest.mark.parametrize("compressed", [False, True], ids=["csv", "gz"])
    @pytest.mark.parametrize("unnamed_index", [False, True], ids=["no index", "unnamed index"])
    @pytest.mark.parametrize("windows", [False, True], ids=["utf-8", "BOM and CRLF"])
    def test_one_file(self, tmp_path, rich, write_long_form, assert_same, compressed, unnamed_index, windows):
        form = {"compressed": compressed, "unnamed_index": unnamed_index, "windows": windows}
        read = read_long_form(write_long_form(tmp_path, rich, **form))
        assert_same(read, without_split(rich))
        assert read.report_.empty

    @pytest.mark.parametrize("compressed", [False, True], ids=["csv", "gz"])
    def test_split_of_the_source(self, tmp_path, rich, write_long_form, assert_same, compressed):
        read = read_long_form(write_long_form(tmp_path, rich, by_split=True, compressed=compressed))
        assert_same(read, rich)
        for left, right in zip(read.split(), rich.split(), strict=True):
            assert_same(left, right)

    def test_order_of_the_rows_changes_nothing(self, tmp_path, rich, write_long_form, assert_same):
        first, second = (read_long_form(write_long_form(tmp_path / str(s), rich, seed=s)) for s in (1, 2))
        assert_same(first, second)

    @pytest.mark.parametrize("rows", [1, 2, 7, 10_000])
    def test_chunk_boundaries_change_nothing(self, tmp_path, rich, write_long_form, assert_same, monkeypatch, rows):
        folder = write_long_form(tmp_path, rich, by_split=True)
        monkeypatch.setattr(tables, "_ROWS", rows)
        assert_same(read_long_form(folder), rich)

    def test_categories_may_stand_in_the_answers_only(self, tmp_path, rich, write_long_form, write_csv):
        folder = write_long_form(tmp_path, rich)
        write_csv(folder / "question_order.csv", [["prompt_id"], *([name] for name in rich.question_ids)])
        read = read_long_form(folder)
        assert list(read.benchmarks) == list(rich.benchmarks)
        np.testing.assert_array_equal(read.labels, rich.labels)

    def test_embeddings_as_a_tensor(self, tmp_path, rich, write_long_form, assert_same):
        folder = write_long_form(tmp_path, rich)
        (folder / "question_embeddings.npy").unlink()
        torch.save(torch.tensor(rich.embeddings), folder / "question_embeddings.pth")
        assert_same(read_long_form(folder), without_split(rich))

    def test_unanswered_question_is_left_out_and_counted(self, tmp_path, rich, write_long_form, assert_same):
        labels = rich.labels.copy()
        labels[:, [4, 20]] = -1
        frame = pd.DataFrame(labels, rich.model_names, rich.question_ids)
        holed = CorrectnessMatrix(frame, rich.questions, rich.embeddings, models=rich.models)
        read = read_long_form(write_long_form(tmp_path, holed, by_split=True))
        assert_same(read, holed.subset(questions=np.delete(rich.question_ids, [4, 20])))
        assert read.report_.to_numpy().tolist() == [["questions without an answer", 2, "left out"]]

    def test_unfinished_run_is_not_observed(self, tmp_path, rich, write_long_form):
        labels = rich.labels.copy()
        labels[2, 30:] = -1
        frame = pd.DataFrame(labels, rich.model_names, rich.question_ids)
        holed = CorrectnessMatrix(frame, rich.questions, rich.embeddings, models=rich.models)
        read = read_long_form(write_long_form(tmp_path, holed))
        assert read.accuracy(by="model").loc["nan", "n_observed"] == (labels[2] != -1).sum()
        assert not read.observed[2, 30:].any()


class Folder:
    """Two models and three questions, as text that a test changes before it is read."""

    def __init__(self, path, write_csv):
        self.path, self.write_csv = path, write_csv
        self.rows = [
            ["prompt_id", "model_name", "category", "label"],
            *([str(q), m, "mmlu_a", "1"] for q in range(3) for m in ("A", "B")),
        ]
        self.models = [["", "model_id", "model_name"], ["0", "0", "A"], ["1", "1", "B"]]
        self.questions = [["prompt_id", "prompt"], ["0", "zero"], ["1", "one"], ["2", "two"]]
        self.vectors = np.eye(3, dtype=np.float32)

    def read(self):
        self.write_csv(self.path / "correctness.csv", self.rows)
        self.write_csv(self.path / "model_order.csv", self.models)
        self.write_csv(self.path / "question_order.csv", self.questions)
        np.save(self.path / "question_embeddings.npy", self.vectors)
        return read_long_form(self.path)


@pytest.fixture
def folder(tmp_path, write_csv):
    return Folder(tmp_path, write_csv)


def shuffled(rows, seed):
    header, *body = rows
    return [header, *(body[row] for row in np.random.default_rng(seed).permutation(len(body)))]


class TestRepeatedRows:
    def test_ten_conflicts_whatever_the_order(self, tmp_path, toy, write_long_form, write_csv, assert_same):
        # Case 2: ten rows that repeat a (model, question) with the other label, in any order of the rows.
        folder = write_long_form(tmp_path, toy)
        extra = [
            [toy.question_ids[q], toy.model_names[q % 6], toy.benchmarks[q], 1 - toy.labels[q % 6, q]]
            for q in range(10)
        ]
        rows = [
            ["prompt_id", "model_name", "category", "label"],
            *([i, m, b, toy.labels[a, c]] for a, m in enumerate(toy.model_names)
              for c, (i, b) in enumerate(zip(toy.question_ids, toy.benchmarks, strict=True))),
            *extra,
        ]  # fmt: skip
        read = []
        for seed in range(3):
            write_csv(folder / "correctness.csv", shuffled(rows, seed))
            read.append(read_long_form(folder))
        for matrix in read:
            assert_same(matrix, read[0])
            assert matrix.report_.to_numpy().tolist() == [
                ["repeated rows", 10, "majority of the labels of a (model, question)"],
                ["conflicting labels", 10, "majority of the labels of a (model, question)"],
                ["tied labels", 10, "not observed"],
            ]
        expected = toy.labels.copy()
        expected[np.arange(10) % 6, np.arange(10)] = -1
        np.testing.assert_array_equal(read[0].labels, expected)

    @pytest.mark.parametrize(
        ("labels", "expected", "repeats", "conflicts", "ties"),
        [
            ("11", 1, 1, 0, 0),
            ("0000", 0, 3, 0, 0),
            ("10", -1, 1, 1, 1),
            ("110", 1, 2, 1, 0),
            ("001", 0, 2, 1, 0),
            ("0011", -1, 3, 1, 1),
            ("100000001", 0, 8, 1, 0),
        ],
    )
    @pytest.mark.parametrize("chunk", [1, 1000])
    def test_majority(self, folder, monkeypatch, labels, expected, repeats, conflicts, ties, chunk):
        monkeypatch.setattr(tables, "_ROWS", chunk)
        cell = next(row for row in folder.rows if row[:2] == ["1", "B"])
        folder.rows.remove(cell)
        folder.rows = shuffled([*folder.rows, *([*cell[:3], label] for label in labels)], seed=0)
        matrix = folder.read()
        assert matrix.labels.tolist() == [[1, 1, 1], [1, expected, 1]]
        counts = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
        found = {"repeated rows": repeats, "conflicting labels": conflicts, "tied labels": ties}
        assert counts == {what: count for what, count in found.items() if count}

    def test_several_categories_of_one_benchmark_are_one_question(self, folder):
        folder.rows += [["0", "A", "mmlu_b", "1"], ["0", "B", "mmlu_c", "0"]]
        matrix = folder.read()
        assert list(matrix.benchmarks) == ["MMLU"] * 3
        assert matrix.labels.tolist() == [[1, 1, 1], [-1, 1, 1]]


class TestLabels:
    @pytest.mark.parametrize(
        ("text", "label"),
        [("1", 1), ("0", 0), ("1.0", 1), ("0.0", 0), ("True", 1), ("FALSE", 0), ("true", 1), (" 0 ", 0)],
    )
    def test_converted(self, folder, text, label):
        folder.rows[4][3] = text
        assert folder.read().labels.tolist() == [[1, 1, 1], [1, label, 1]]

    @pytest.mark.parametrize("text", ["2", "-1", "0.7", "", "nan", "NA", "correct", "yes", "1,0"])
    def test_anything_else_is_refused_with_file_and_row(self, folder, text):
        folder.rows[4][3] = text
        message = rf"correctness\.csv, row 4: label '{text}' is neither right nor wrong: use 1 or 0; leave the row out"
        with pytest.raises(ValueError, match=message):
            folder.read()

    def test_row_is_counted_over_chunks(self, folder, monkeypatch):
        monkeypatch.setattr(tables, "_ROWS", 2)
        folder.rows[5][3] = "?"
        with pytest.raises(ValueError, match=r"row 5: label '\?'"):
            folder.read()


def edit(attribute, row, column, value):
    def change(folder):
        getattr(folder, attribute)[row][column] = value

    return change


def drop_column(attribute, name):
    def change(folder):
        rows = getattr(folder, attribute)
        number = rows[0].index(name)
        setattr(folder, attribute, [row[:number] + row[number + 1 :] for row in rows])

    return change


def add_row(attribute, row):
    return lambda folder: getattr(folder, attribute).append(row)


MALFORMED = {
    "answers without prompt_id": (
        drop_column("rows", "prompt_id"),
        r"correctness\.csv has no column 'prompt_id'; it has \['model_name', 'category', 'label'\]",
    ),
    "answers without model_name": (drop_column("rows", "model_name"), r"correctness\.csv has no column 'model_name'"),
    "answers without category": (drop_column("rows", "category"), r"correctness\.csv has no column 'category'"),
    "answers without label": (drop_column("rows", "label"), r"correctness\.csv has no column 'label'"),
    "models without model_name": (
        drop_column("models", "model_name"),
        r"model_order\.csv has no column 'model_name'; it has",
    ),
    "questions without prompt_id": (
        drop_column("questions", "prompt_id"),
        r"question_order\.csv has no column 'prompt_id'; it has \['prompt'\]",
    ),
    "unknown model": (
        edit("rows", 3, 1, "C"),
        r"correctness\.csv, row 3: model_name 'C' is not in model_order: add it",
    ),
    "model in another case": (edit("rows", 1, 1, "a"), r"row 1: model_name 'a' is not in model_order: add it"),
    "unknown question": (
        edit("rows", 6, 0, "7"),
        r"correctness\.csv, row 6: prompt_id '7' is not in question_order: add it",
    ),
    "question id as a float": (edit("rows", 2, 0, "0.0"), r"row 2: prompt_id '0\.0' is not in question_order: add it"),
    "model twice": (add_row("models", ["2", "2", "A"]), r"model_order\.csv, row 3: model_name 'A' occurs twice"),
    "question twice": (add_row("questions", ["1", "again"]), r"question_order\.csv, row 4: prompt_id '1' occurs twice"),
    "question in two benchmarks": (
        edit("rows", 2, 2, "gsm8k"),
        r"correctness\.csv: question '0' belongs to benchmark 'GSM8K' here, and to 'MMLU' elsewhere",
    ),
    "questions longer than their header": (
        lambda folder: [row.append("?") for row in folder.questions[1:]],
        r"question_order\.csv, row 1 has 3 fields, the header 2: quote texts that hold commas",
    ),
    "two columns of labels": (
        lambda folder: [row.append(row[3]) for row in folder.rows],
        r"correctness\.csv has more than one column 'label'",
    ),
    "model without a name": (edit("models", 1, 2, ""), r"model_order\.csv, row 1: the model_name is empty"),
    "row cut short": (
        lambda folder: folder.rows[2].pop(),
        r"correctness\.csv, row 2 has 3 fields, the header 4: quote",
    ),
    "too few embeddings": (
        lambda folder: setattr(folder, "vectors", np.eye(2, 3)),
        r"question_embeddings\.npy has shape \(2, 3\), but question_order lists 3 questions",
    ),
    "embeddings in one row": (
        lambda folder: setattr(folder, "vectors", np.ones(3)),
        r"question_embeddings\.npy has shape \(3,\), but question_order lists 3 questions",
    ),
    "embedding that is not a number": (
        lambda folder: folder.vectors.__setitem__((1, 1), np.nan),
        r"question_embeddings\.npy, row 2 is not finite: encode that question anew",
    ),
    "category empty in a row": (
        edit("rows", 3, 2, ""),
        r"correctness\.csv, row 3: the category is empty: fill it in",
    ),
    "embedding of zeros": (
        lambda folder: folder.vectors.__setitem__(0, 0),
        r"question_embeddings\.npy, row 1 is all zeros: encode that question anew",
    ),
    "benchmark empty": (
        lambda folder: setattr(folder, "questions", [["prompt_id", "benchmark"], ["0", "x"], ["1", ""], ["2", "x"]]),
        r"question_order\.csv, row 2: the benchmark is empty: fill it in",
    ),
    "category empty": (
        lambda folder: setattr(folder, "questions", [["prompt_id", "category"], ["0", "x"], ["1", "x"], ["2", ""]]),
        r"question_order\.csv, row 3: the category is empty: fill it in",
    ),
    "benchmark named as the summary row": (
        lambda folder: [row.__setitem__(2, "overall") for row in folder.rows[1:]],
        r"test_is_named.*: a benchmark is named 'overall', as the summary row of every table: rename it",
    ),
    "split that is none": (
        lambda folder: [
            row.append(value) for row, value in zip(folder.questions, ["split", "train", "dev", "test"], strict=True)
        ],
        r"question_order\.csv, row 2: split 'dev' is none of train, val, test",
    ),
    "size that is no number": (
        lambda folder: [
            row.append(value) for row, value in zip(folder.models, ["params_b", "7", "seven"], strict=True)
        ],
        r"model_order\.csv, row 2: params_b 'seven' is no number of billions",
    ),
    "header only": (lambda folder: folder.rows.__delitem__(slice(1, None)), r"correctness\.csv: no answer in it"),
    "empty file": (lambda folder: folder.rows.clear(), r"correctness\.csv is empty: its first line must name"),
    "empty list of models": (lambda folder: folder.models.clear(), r"model_order\.csv is empty: its first line must"),
    "no model": (
        lambda folder: folder.models.__delitem__(slice(1, None)),
        r"correctness\.csv, row 1: model_name 'A' is not in model_order",
    ),
    "no question": (
        lambda folder: (folder.questions.__delitem__(slice(1, None)), setattr(folder, "vectors", np.ones((0, 3)))),
        r"correctness\.csv, row 1: prompt_id '0' is not in question_order",
    ),
    "question without an id": (edit("questions", 2, 0, ""), r"question_order\.csv, row 2: the prompt_id is empty"),
    "embeddings of objects": (
        lambda folder: setattr(folder, "vectors", np.array([{}, {}, {}])),
        r"question_embeddings\.npy cannot be read: .*Python objects",
    ),
    "benchmark differs from question_order": (
        lambda folder: setattr(folder, "questions", [["prompt_id", "category"], *([str(i), "piqa"] for i in range(3))]),
        r"correctness\.csv: question '0' belongs to benchmark 'MMLU' here, and to 'PIQA' elsewhere",
    ),
}


class TestMalformed:
    def test_the_folder_is_well_formed_before_the_change(self, folder):
        assert folder.read().labels.tolist() == [[1, 1, 1], [1, 1, 1]]

    @pytest.mark.parametrize(("change", "message"), MALFORMED.values(), ids=MALFORMED)
    def test_is_named(self, folder, change, message):
        change(folder)
        with pytest.raises(ValueError, match=message):
            folder.read()
        assert {path.name for path in folder.path.iterdir()} == {
            "correctness.csv", "model_order.csv", "question_order.csv", "question_embeddings.npy",
        }  # fmt: skip

    @pytest.mark.parametrize("chunk", [1, 1000])
    def test_question_in_two_splits(self, tmp_path, rich, write_long_form, write_csv, monkeypatch, chunk):
        folder = write_long_form(tmp_path, rich, by_split=True)
        monkeypatch.setattr(tables, "_ROWS", chunk)
        model, question = rich.model_names[0], rich.question_ids[2]
        rows = [
            ["prompt_id", "model_name", "category", "label"],
            [question, model, rich.questions["category"].iloc[2], 1],
        ]
        write_csv(folder / "test.csv", rows)
        with pytest.raises(
            ValueError, match=rf"test\.csv: question '{question}' belongs to split 'test' here, and to 'val'"
        ):
            read_long_form(folder)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "correctness.csv",
                r"must hold correctness\.csv, or train\.csv, val\.csv and test\.csv .*; of these it holds \[\]",
            ),
            ("model_order.csv", r"model_order\.csv is missing: it gives the order of the model_names"),
            ("question_order.csv", r"question_order\.csv is missing: it gives the order of the prompt_ids"),
            ("question_embeddings.npy", r"question_embeddings\.npy is missing: one row of floats for each row"),
        ],
    )
    def test_missing_file(self, tmp_path, toy, write_long_form, name, message):
        folder = write_long_form(tmp_path, toy)
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=message):
            read_long_form(folder)

    def test_missing_part_of_a_split(self, tmp_path, rich, write_long_form):
        folder = write_long_form(tmp_path, rich, by_split=True)
        (folder / "val.csv").unlink()
        with pytest.raises(FileNotFoundError, match=r"it holds \['test\.csv', 'train\.csv'\]"):
            read_long_form(folder)

    def test_both_forms_at_once(self, tmp_path, rich, write_long_form):
        write_long_form(tmp_path, rich)
        folder = write_long_form(tmp_path, rich, by_split=True)
        with pytest.raises(
            FileNotFoundError, match=r"it holds \['correctness\.csv', 'test\.csv', 'train\.csv', 'val\.csv'\]"
        ):
            read_long_form(folder)

    def test_pickles_are_never_loaded(self, tmp_path, toy, write_long_form):
        folder = write_long_form(tmp_path, toy)
        np.save(folder / "question_embeddings.npy", np.array([{}] * 40, dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match="Python objects"):
            read_long_form(folder)
        (folder / "question_embeddings.npy").unlink()
        torch.save({"vectors": _Code()}, folder / "question_embeddings.pth")
        with pytest.raises(Exception, match=r"[Ww]eights.?only"):
            read_long_form(folder)


class _Code:
    """Not a tensor: loading it would run its code."""


@pytest.mark.parametrize(
    ("category", "benchmark"),
    [
        ("mmlu_abstract_algebra", "MMLU"),
        ("mmlu_world_religions", "MMLU"),
        ("gpqa_main_zeroshot", "GPQA"),
        ("gpqa_extended_generative_n_shot", "GPQA"),
        ("asdiv", "ASDiv"),
        ("gsm8k", "GSM8K"),
        ("logiqa", "LogiQA"),
        ("mathqa", "MathQA"),
        ("medmcqa", "MedMCQA"),
        ("piqa", "PIQA"),
        ("social_iqa", "SocialQA"),
        ("truthfulqa_mc1", "TruthfulQA"),
        # Any other category is a benchmark of its own, also where its name begins like one of the paper's.
        ("math-l5", "math-l5"),
        ("truthfulqa_mc2", "truthfulqa_mc2"),
        ("mmlu", "mmlu"),
        ("My bench_1", "My bench_1"),
    ],
)
def test_benchmark_of_a_category(category, benchmark):
    assert benchmark_of(category) == benchmark


class TestZeroEval:
    """Numbers as in the README beside the data."""

    def test_size(self, zeroeval):
        assert zeroeval.labels.shape == (56, 3352)
        assert zeroeval.observed.sum() == 133_498
        assert zeroeval.embeddings.shape == (3352, 768)
        assert zeroeval.questions["benchmark"].value_counts().to_dict() == {
            "gsm": 1319,
            "math-l5": 721,
            "crux": 800,
            "numersense-v2": 512,
        }
        assert zeroeval.report_.empty
        assert zeroeval.models["params_b"].isna().sum() == 35
        assert zeroeval.accuracy()["accuracy"].item() == pytest.approx(0.689, abs=5e-4)

    @pytest.mark.parametrize(
        ("model", "benchmark", "percent", "answers"),
        [
            ("claude-3-5-sonnet-20240620", "numersense-v2", 80.7, 512),
            ("gemma-2-2b-it", "math-l5", 4.3, 721),
            ("o1-mini-2024-09-12", "crux", 93.8, 800),
            ("gemini-1.5-flash-exp-0827", "gsm", 95.0, 681),
            ("Llama-3.1-405B-Inst@hyperbolic", "math-l5", 51.6, 706),
        ],
    )
    def test_accuracy_of_a_model(self, zeroeval, model, benchmark, percent, answers):
        row = zeroeval.accuracy(by=["model", "benchmark"]).loc[(model, benchmark)]
        assert row["accuracy"] * 100 == pytest.approx(percent, abs=0.051)
        assert row["n_observed"] == answers

    def test_model_that_was_not_run_is_not_observed(self, zeroeval):
        row = zeroeval.accuracy(by=["model", "benchmark"]).loc[("command-r", "crux")]
        assert np.isnan(row["accuracy"])
        assert row["n_observed"] == 0


def test_category_stands_in_either_file(folder):
    drop_column("rows", "category")(folder)
    folder.questions = [["prompt_id", "category"], ["0", "mmlu_law"], ["1", "piqa"], ["2", "own"]]
    matrix = folder.read()
    assert matrix.benchmarks.tolist() == ["MMLU", "PIQA", "own"]
    assert matrix.questions["category"].tolist() == ["mmlu_law", "piqa", "own"]


class TestSplitFiles:
    def test_model_missing_from_one_file(self, tmp_path, rich, write_long_form, write_csv):
        folder = write_long_form(tmp_path, rich, by_split=True)
        val = pd.read_csv(folder / "val.csv", dtype=str, keep_default_na=False)
        left = val[val["model_name"] != "NA"]
        write_csv(folder / "val.csv", [list(left), *left.to_numpy().tolist()])
        with pytest.raises(
            ValueError, match=r"val\.csv: no answer of model 'NA', which model_order lists: add its rows"
        ):
            read_long_form(folder)

    def test_file_without_a_row(self, tmp_path, rich, write_long_form):
        folder = write_long_form(tmp_path, rich, by_split=True)
        (folder / "test.csv").write_text((folder / "test.csv").read_text(encoding="utf-8").splitlines()[0] + "\n")
        with pytest.raises(ValueError, match=r"test\.csv: no answer in it"):
            read_long_form(folder)

    def test_column_that_disagrees_with_the_files(self, tmp_path, rich, write_long_form):
        folder = write_long_form(tmp_path, rich, by_split=True)
        table = pd.read_csv(folder / "question_order.csv", dtype=str, keep_default_na=False)
        table["split"] = "train"
        table.to_csv(folder / "question_order.csv", index=False)
        with pytest.raises(ValueError, match=r"val\.csv: question '\d+' belongs to split 'val' here, and to 'train'"):
            read_long_form(folder)


def test_benchmark_of_question_order_wins(folder):
    folder.questions = [["prompt_id", "benchmark"], ["0", "mine"], ["1", "mine"], ["2", "gsm8k"]]
    matrix = folder.read()
    # Taken as it stands, not as a category; the category of the rows is kept beside it.
    assert matrix.benchmarks.tolist() == ["mine", "mine", "gsm8k"]
    assert matrix.questions["category"].tolist() == ["mmlu_a"] * 3


def test_category_of_the_rows_is_not_needed_twice(folder):
    folder.questions = [["prompt_id", "benchmark", "category"], *([str(number), "b", "c"] for number in range(3))]
    folder.rows[1][2] = ""
    assert folder.read().questions["category"].tolist() == ["c"] * 3


def test_of_several_categories_the_first_in_sorted_order(folder):
    folder.rows += [["0", "A", "mmlu_0", "1"], ["1", "A", "mmlu_b", "1"]]
    for seed in range(4):
        folder.rows = shuffled(folder.rows, seed)
        matrix = folder.read()
        assert matrix.questions["category"].tolist() == ["mmlu_0", "mmlu_a", "mmlu_a"]
        report = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
        assert report == {"repeated rows": 2, "questions in several categories": 2}


def test_model_without_an_answer_is_kept_and_counted(folder):
    folder.models.append(["2", "2", "C"])
    matrix = folder.read()
    assert matrix.labels.tolist() == [[1, 1, 1], [1, 1, 1], [-1, -1, -1]]
    assert matrix.report_.to_numpy().tolist() == [["models without an answer", 1, "kept, not observed"]]


def test_ids_are_texts(folder):
    """Case 13: ids that are not contiguous, negative, or differ only as texts."""
    ids = ["7", "1000000007", "007"]
    folder.questions = [["prompt_id", "category"], *([name, "own"] for name in ids)]
    folder.rows = [
        folder.rows[0],
        *([name, "A", "own", str(n % 2)] for n, name in enumerate(ids)),
        ["-1", "B", "own", "1"],
    ]
    folder.questions.append(["-1", "own"])
    folder.vectors = np.eye(4, dtype=np.float32)
    matrix = folder.read()
    assert matrix.question_ids.tolist() == [*ids, "-1"]
    assert matrix.labels.tolist() == [[0, 1, 0, -1], [-1, -1, -1, 1]]


def test_strict_rule_names_the_first_repeat(folder):
    folder.rows.append(["1", "B", "mmlu_a", "1"])
    folder.read()
    with pytest.raises(ValueError, match=r"model 'B' has 2 rows on question '1', and 0 more .* have several"):
        read_long_form(folder.path, duplicates="error")


class TestListAnswers:
    def test_each_text_is_held_once(self, tmp_path, write_csv):
        rows = [[q, m, "1", f"prompt {q}"] for m in ("B", "A") for q in ("2", "0", "1")]
        for part in ("train", "test"):
            write_csv(tmp_path / f"{part}.csv", [["prompt_id", "model_name", "label", "prompt"], *rows])
        models, questions = list_answers({part: tmp_path / f"{part}.csv" for part in ("train", "test")})
        assert models.tolist() == ["B", "A"]
        assert questions["prompt"].to_dict() == {"2": "prompt 2", "0": "prompt 0", "1": "prompt 1"}
        assert questions.index.tolist() == ["2", "0", "1"]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (["", "A", "1", "x"], r"all\.csv, row 2: the prompt_id is empty"),
            (["1", "", "1", "x"], r"all\.csv, row 2: the model_name is empty"),
            (
                ["0", "B", "1", "y" * 99],
                r"prompt_id '0' stands for two prompts, 'x' and 'y{57}\.\.\.': give each",
            ),
        ],
    )
    def test_malformed(self, tmp_path, write_csv, row, message):
        write_csv(tmp_path / "all.csv", [["prompt_id", "model_name", "label", "prompt"], ["0", "A", "1", "x"], row])
        with pytest.raises(ValueError, match=message):
            list_answers({"all": tmp_path / "all.csv"})


def test_no_partial_folder_is_written(tmp_path, rich, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("numpy.save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_folder(rich, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class TestWrite:
    def test_what_is_known_of_questions_is_kept(self, tmp_path, rich):
        questions = rich.questions.assign(difficulty=[str(number) for number in range(40)])
        labels = pd.DataFrame(rich.labels, rich.model_names, rich.question_ids)
        matrix = CorrectnessMatrix(labels, questions, rich.embeddings, models=rich.models)
        write_folder(matrix, tmp_path / "out")
        assert read_long_form(tmp_path / "out").questions["difficulty"].tolist() == questions["difficulty"].tolist()

    @pytest.mark.parametrize(
        ("models", "questions", "message"),
        [
            (["", "B"], {}, r"out/model_order\.csv, row 1: the model_name is empty"),
            (["A", "B"], {"split": ["train", None]}, r"out/question_order\.csv, row 2: split '' is none of train"),
            (["A", "B"], {"prompt_id": [1, 2]}, r"the index as column 'prompt_id', and there is such a column already"),
        ],
    )
    def test_what_could_not_be_read_back_is_refused(self, tmp_path, models, questions, message):
        table = pd.DataFrame({"benchmark": ["x", "x"], **questions}, index=["1", "2"])
        matrix = CorrectnessMatrix(pd.DataFrame([[1, 0], [0, 1]], models, ["1", "2"]), table, np.eye(2))
        with pytest.raises(ValueError, match=message):
            write_folder(matrix, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["read_answers", "list_answers"])
def test_memory_does_not_grow_with_the_rows(tmp_path, call):
    """Case 16: the text stands on every row, and is held once."""
    code = """
import resource, sys
from pathlib import Path
import pandas as pd
from embedllm.datasets.formats.long import list_answers, read_answers
files = {"all": Path(sys.argv[1])}
if sys.argv[2] == "list_answers":
    models, questions = list_answers(files)
    assert (len(models), len(questions)) == (int(sys.argv[3]), 500)
else:
    questions = pd.DataFrame(index=pd.Index([str(number) for number in range(500)], dtype=object))
    models = pd.Index([f"m{number}" for number in range(int(sys.argv[3]))], dtype=object)
    assert read_answers(files, models, questions).labels.shape == (len(models), 500)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    peaks = []
    for n_models in (80, 400):
        path = tmp_path / f"{n_models}.csv"
        with path.open("w") as stream:
            stream.write("prompt_id,model_name,label,category,prompt\n")
            for model in range(n_models):
                stream.writelines(f'{question},m{model},1,c,"{question} {"text, " * 250}"\n' for question in range(500))
        command = [sys.executable, "-c", code, str(path), call, str(n_models)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        size = path.stat().st_size / 2**20
    assert size > 250  # MiB
    assert peaks[1] - peaks[0] < size / 6


class TestEmbeddingsMappedToMemory:
    """They may be larger than the memory, so nothing on the way to a fit may copy them as a whole."""

    @staticmethod
    def mapped(matrix):
        return isinstance(matrix.embeddings.base, np.memmap)

    def test_stay_a_file(self, tmp_path, toy, write_long_form):
        matrix = load_dataset(write_long_form(tmp_path, toy))
        assert self.mapped(matrix) and not matrix.embeddings.flags.writeable
        np.testing.assert_array_equal(matrix.embeddings, toy.embeddings)

    def test_runs_of_questions_are_views(self, tmp_path, toy, write_long_form):
        matrix = load_dataset(write_long_form(tmp_path, toy))
        part = matrix.subset(models=toy.model_names[::-1], questions=toy.question_ids[7:20])
        assert np.shares_memory(part.embeddings, matrix.embeddings)
        np.testing.assert_array_equal(part.embeddings, toy.embeddings[7:20])
        assert not np.shares_memory(matrix.subset(questions=toy.question_ids[::2]).embeddings, matrix.embeddings)

    def test_fit_and_predict_the_same(self, tmp_path, toy, write_long_form):
        matrix = load_dataset(write_long_form(tmp_path, toy))
        for predictor in (MatrixFactorization(dim=4), KNNCorrectness(5)):
            expected = predictor.fit(toy).predict_proba(toy.embeddings)
            np.testing.assert_array_equal(predictor.fit(matrix).predict_proba(matrix.embeddings), expected)

    @pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
    def test_other_types_are_read(self, tmp_path, toy, write_long_form, dtype):
        folder = write_long_form(tmp_path, toy)
        np.save(folder / "question_embeddings.npy", toy.embeddings.astype(dtype))
        matrix = load_dataset(folder)
        assert matrix.embeddings.dtype == np.float32 and not self.mapped(matrix)
        np.testing.assert_allclose(matrix.embeddings, toy.embeddings, rtol=1e-3)
