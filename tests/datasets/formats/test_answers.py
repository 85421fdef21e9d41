"""Rows of answers: what labels, duplicates, categories and splits come to, and what is malformed is named."""

import subprocess
import sys

import numpy as np
import pytest

from embedllm.datasets.formats import _tables as tables
from embedllm.datasets.formats.answers import benchmark_of, list_answers
from embedllm.datasets.formats.long import read_long_form


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


class TestDuplicatedRows:
    def test_ten_conflicts_whatever_the_order(self, tmp_path, toy, write_long_form, write_csv, assert_same):
        # Ten rows give a (model, question) the other label, in any order of the rows.
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
                ["duplicated rows", 10, "majority of the labels of a (model, question)"],
                ["conflicting labels", 10, "majority of the labels of a (model, question)"],
                ["tied labels", 10, "not observed"],
                ["rows read", 250, "= 230 cells + 10 duplicates + 10 ties"],
            ]
        expected = toy.labels.copy()
        expected[np.arange(10) % 6, np.arange(10)] = -1
        np.testing.assert_array_equal(read[0].labels, expected)

    @pytest.mark.parametrize(
        ("labels", "expected", "duplicates", "conflicts", "ties"),
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
    def test_majority(self, folder, monkeypatch, labels, expected, duplicates, conflicts, ties, chunk):
        monkeypatch.setattr(tables, "_ROWS", chunk)
        cell = next(row for row in folder.rows if row[:2] == ["1", "B"])
        folder.rows.remove(cell)
        folder.rows = shuffled([*folder.rows, *([*cell[:3], label] for label in labels)], seed=0)
        matrix = folder.read()
        assert matrix.labels.tolist() == [[1, 1, 1], [1, expected, 1]]
        counts = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
        found = {"duplicated rows": duplicates, "conflicting labels": conflicts, "tied labels": ties}
        assert counts == {what: count for what, count in found.items() if count} | {"rows read": 5 + len(labels)}

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
        message = rf"correctness\.csv, row 4: label '{text}' is not a label: use 1/0 or true/false; leave the row"
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
    "model without a name": (edit("models", 1, 2, ""), r"model_order\.csv, row 1: the model_name is empty"),
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
        r"question_embeddings\.npy, row 2 is not finite: encode that question again",
    ),
    "category empty in a row": (
        edit("rows", 3, 2, ""),
        r"correctness\.csv, row 3: the category is empty: fill it in",
    ),
    "embedding of zeros": (
        lambda folder: folder.vectors.__setitem__(0, 0),
        r"question_embeddings\.npy, row 1 is all zeros: encode that question again",
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
    "size that is not a number": (
        lambda folder: [
            row.append(value) for row, value in zip(folder.models, ["params_b", "7", "seven"], strict=True)
        ],
        r"model_order\.csv, row 2: params_b 'seven' is not a number of billions",
    ),
    "header only": (lambda folder: folder.rows.__delitem__(slice(1, None)), r"correctness\.csv: no answer in it"),
    "empty file": (lambda folder: folder.rows.clear(), r"correctness\.csv is empty: its first line must name"),
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


def test_category_stands_in_either_file(folder):
    drop_column("rows", "category")(folder)
    folder.questions = [["prompt_id", "category"], ["0", "mmlu_law"], ["1", "piqa"], ["2", "own"]]
    matrix = folder.read()
    assert matrix.benchmarks.tolist() == ["MMLU", "PIQA", "own"]
    assert matrix.questions["category"].tolist() == ["mmlu_law", "piqa", "own"]


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
        assert report == {"duplicated rows": 2, "questions in several categories": 2, "rows read": 8}


def test_model_without_an_answer_is_kept_and_counted(folder):
    folder.models.append(["2", "2", "C"])
    matrix = folder.read()
    assert matrix.labels.tolist() == [[1, 1, 1], [1, 1, 1], [-1, -1, -1]]
    lines = [["models without an answer", 1, "kept, not observed"], ["rows read", 6, "= 6 cells"]]
    assert matrix.report_.to_numpy().tolist() == lines


def test_ids_are_texts(folder):
    """Ids that are not contiguous, negative, or differ only as texts."""
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


def test_strict_rule_names_the_first_duplicate(folder):
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


@pytest.mark.parametrize("call", ["read_answers", "list_answers"])
def test_memory_does_not_grow_with_the_rows(tmp_path, call):
    """The text is on every row, and is held once."""
    code = """
import resource, sys
from pathlib import Path
import pandas as pd
from embedllm.datasets.formats.answers import list_answers, read_answers
files = {"all": Path(sys.argv[1])}
if sys.argv[2] == "list_answers":
    models, questions = list_answers(files)
    assert (len(models), len(questions)) == (int(sys.argv[3]), 500)
else:
    questions = pd.DataFrame(index=pd.Index([str(number) for number in range(500)], dtype=object))
    models = pd.Index([f"m{number}" for number in range(int(sys.argv[3]))], dtype=object)
    assert read_answers(files, models, questions)[0].labels.shape == (len(models), 500)
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
