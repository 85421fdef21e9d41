"""The authors' long form: a folder with one CSV row for each answer::

    correctness.csv[.gz]      or train.csv, val.csv and test.csv (each also .gz), which keep the source's own split;
                              columns prompt_id, model_name, label and, unless question_order.csv has it, category
    question_order.csv        columns prompt_id and, optionally, category and prompt
    model_order.csv           column model_name; further columns, such as params_b or tags, become metadata
    question_embeddings.npy   or .pth; row i belongs to row i of question_order.csv

Columns may stand in any order, and others are ignored. Models are matched by name and questions by id.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch

from embedllm.correctness import NOT_OBSERVED, REPORT_COLUMNS, RIGHT, SPLITS, WRONG, CorrectnessMatrix
from embedllm.files import creating_folder

_CHUNK = 500_000  # rows of a CSV held at a time
# A name that reads NA is a name, and where rows are longer than the header the first column is still no index.
_READING: dict[str, Any] = {"keep_default_na": False, "encoding": "utf-8-sig", "index_col": False}
_READ_ERRORS = (ValueError, TypeError, OSError, EOFError, zlib.error, UnpicklingError, RuntimeError, AttributeError)
_LABELS = {"1": RIGHT, "0": WRONG, "1.0": RIGHT, "0.0": WRONG, "true": RIGHT, "false": WRONG}
_ROW_COLUMNS = ["prompt_id", "model_name", "label"]

# The release's categories that are not named after their benchmark in the paper.
_BENCHMARK_OF = {
    "asdiv": "ASDiv",
    "gsm8k": "GSM8K",
    "logiqa": "LogiQA",
    "mathqa": "MathQA",
    "medmcqa": "MedMCQA",
    "piqa": "PIQA",
    "social_iqa": "SocialQA",
    "truthfulqa_mc1": "TruthfulQA",
}
_BENCHMARK_OF_PREFIX = {"mmlu_": "MMLU", "gpqa_": "GPQA"}


def benchmark_of(category: str) -> str:
    """Benchmark of a category of the paper's release; any other category is a benchmark of its own."""
    for prefix, benchmark in _BENCHMARK_OF_PREFIX.items():
        if category.startswith(prefix):
            return benchmark
    return _BENCHMARK_OF.get(category, category)


def read_long_form(folder: Path, source: str | None = None) -> CorrectnessMatrix:
    """Read a folder in the authors' long form.

    A (model, question) that occurs several times gets the majority of its labels; a tie is not observed. What was
    resolved so is counted in `report_`.

    Parameters
    ----------
    folder : Path
    source : str, optional
        What the data are; by default, the name of the folder.

    Returns
    -------
    CorrectnessMatrix
        Models and questions in the order of the order files. A question of `question_order.csv` without a single answer
        is left out and counted in `report_`.

    Raises
    ------
    FileNotFoundError
        If a file of the form is missing.
    ValueError
        If a column is missing, a label is unknown, a model or question is not in its order file, a question belongs to
        two benchmarks or two splits, or the embeddings do not match the questions: names file, row and value.
    """
    answers = _answer_files(folder)
    models = _read_order(folder / "model_order.csv", "model_name")
    questions = _read_order(folder / "question_order.csv", "prompt_id")
    embeddings = _read_embeddings(folder, len(questions))

    n_right = np.zeros((len(models), len(questions)), dtype=np.int32)
    n_seen = np.zeros_like(n_right)
    benchmarks = _Once("benchmark", questions.index)
    splits = _Once("split", questions.index)
    categories = np.full(len(questions), None, dtype=object)
    required = [*_ROW_COLUMNS, "category"]
    if "category" in questions:
        required = _ROW_COLUMNS
        categories[:] = questions["category"]
        everything = np.arange(len(questions))
        benchmarks.set(everything, questions["category"].map(benchmark_of), folder / "question_order.csv")
    for split, path in answers.items():
        for chunk in _chunks(path, required):
            model = _codes(chunk["model_name"], models.index, path, "model_order.csv")
            question = _codes(chunk["prompt_id"], questions.index, path, "question_order.csv")
            label = _labels(chunk["label"], path)
            np.add.at(n_right, (model, question), label)
            np.add.at(n_seen, (model, question), 1)
            seen = np.unique(question)
            splits.set(seen, pd.Series(split, index=seen), path)
            if "category" in chunk:
                pairs = pd.DataFrame({"question": question, "category": chunk["category"].to_numpy()}).drop_duplicates()
                benchmarks.set(pairs["question"].to_numpy(), pairs["category"].map(benchmark_of), path)
                # A question may stand in several categories of its benchmark: it keeps the first that was read.
                new = pairs[pd.isna(categories[pairs["question"]])].drop_duplicates("question")
                categories[new["question"]] = new["category"]

    n_wrong = n_seen - n_right
    labels = np.where(n_right > n_wrong, RIGHT, np.where(n_wrong > n_right, WRONG, NOT_OBSERVED)).astype(np.int8)
    answered = n_seen.any(axis=0)
    if not answered.any():
        raise ValueError(f"{', '.join(str(path) for path in answers.values())}: no answer in it")
    report = [
        ("repeated rows", int((n_seen - 1).clip(min=0).sum()), "majority of the labels of a (model, question)"),
        ("conflicting labels", int(((n_right > 0) & (n_wrong > 0)).sum()), "majority of the labels"),
        ("tied labels", int(((n_right == n_wrong) & (n_seen > 0)).sum()), "not observed"),
        ("questions without an answer", int((~answered).sum()), "left out"),
    ]
    table = pd.DataFrame({"benchmark": benchmarks.values, "category": categories}, index=questions.index)
    if set(answers) == set(SPLITS):
        table["split"] = splits.values
    if "prompt" in questions:
        table["prompt"] = questions["prompt"]
    return CorrectnessMatrix(
        pd.DataFrame(labels[:, answered], index=models.index, columns=questions.index[answered]),
        table[answered],
        embeddings[answered],
        models=models[[column for column in models if column not in ("model_id", "")]],
        source=folder.resolve().name if source is None else source,
        report=pd.DataFrame([line for line in report if line[1]], columns=list(REPORT_COLUMNS)),
    )


class _Once:
    """A value for each question that all its rows must agree on."""

    def __init__(self, what: str, ids: pd.Index) -> None:
        self.what, self.ids = what, ids
        self.values = np.full(len(ids), None, dtype=object)

    def set(self, positions: np.ndarray, values: pd.Series, path: Path) -> None:
        for position, value in zip(positions, values, strict=True):
            if self.values[position] not in (None, value):
                raise ValueError(
                    f"{path}: question {self.ids[position]!r} belongs to {self.what} {value!r} here, and to "
                    f"{self.values[position]!r} elsewhere: each question has one {self.what}"
                )
            self.values[position] = value


def _answer_files(folder: Path) -> dict[str, Path]:
    """The files of answers, by split; a folder without a split of its own has one file, named "all"."""
    found: dict[str, Path] = {}
    for key, stem in {"all": "correctness", **{split: split for split in SPLITS}}.items():
        for path in (folder / f"{stem}.csv", folder / f"{stem}.csv.gz"):
            if path.is_file():
                if key in found:
                    raise ValueError(f"{folder} holds both {found[key].name} and {path.name}: remove one of them")
                found[key] = path
    if set(found) not in ({"all"}, set(SPLITS)):
        names = sorted(path.name for path in found.values())
        raise FileNotFoundError(
            f"{folder} must hold correctness.csv, or train.csv, val.csv and test.csv (each also .gz); it holds {names}"
        )
    return found


def _read_order(path: Path, key: str) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it gives the order of the {key}s")
    columns = _header(path, [key])
    with _named(path):
        table = pd.read_csv(path, dtype=dict.fromkeys(columns, str), **_READING)
    if (empty := table[key] == "").any():
        raise ValueError(f"{path}, row {empty.argmax() + 1}: the {key} is empty")
    if (repeated := table[key].duplicated()).any():
        raise ValueError(f"{path}, row {repeated.argmax() + 1}: {key} {table[key][repeated].iloc[0]!r} occurs twice")
    table = table.set_index(key)
    if "params_b" in table:
        with _named(path):
            table["params_b"] = pd.to_numeric(table["params_b"].replace("", np.nan))
    return table.loc[:, ~table.columns.str.startswith("Unnamed:")]


def _header(path: Path, required: list[str]) -> list[str]:
    with _named(path):
        columns = pd.read_csv(path, header=None, nrows=1, dtype=str, **_READING).iloc[0].tolist()
    if repeated := [column for column in columns if column and columns.count(column) > 1]:
        raise ValueError(f"{path} has more than one column {repeated[0]!r}")
    if missing := [column for column in required if column not in columns]:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {columns}")
    return columns


def _read_embeddings(folder: Path, n_questions: int) -> np.ndarray:
    arrays, tensors = folder / "question_embeddings.npy", folder / "question_embeddings.pth"
    path = arrays if arrays.is_file() else tensors
    if not path.is_file():
        raise FileNotFoundError(f"{arrays} is missing: one row of floats for each row of question_order.csv")
    with _named(path):
        if path == arrays:
            vectors = np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
        else:
            vectors = torch.load(path, weights_only=True, map_location="cpu").detach().float().numpy()
    if vectors.ndim != 2 or len(vectors) != n_questions:
        raise ValueError(f"{path} has shape {vectors.shape}, but question_order.csv lists {n_questions} questions")
    return vectors


def _chunks(path: Path, required: list[str]) -> Iterator[pd.DataFrame]:
    columns = [column for column in _header(path, required) if column in (*_ROW_COLUMNS, "category")]
    with _named(path), pd.read_csv(path, usecols=columns, dtype=str, chunksize=_CHUNK, **_READING) as chunks:
        yield from chunks


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let what a reader raises name the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except pd.errors.ParserWarning as error:
        raise ValueError(f"{path} has rows with more fields than its header: quote texts that hold commas") from error
    except _READ_ERRORS as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _codes(values: pd.Series, known: pd.Index, path: Path, order_file: str) -> np.ndarray:
    codes, unique = pd.factorize(values)
    positions = known.get_indexer(pd.Index(unique, dtype=object))[codes]
    if (positions < 0).any():
        row = (positions < 0).argmax()
        raise ValueError(
            f"{path}, row {values.index[row] + 1}: {values.name} {values.iloc[row]!r} is not in {order_file}"
        )
    return positions


def _labels(values: pd.Series, path: Path) -> np.ndarray:
    labels = values.str.strip().str.lower().map(_LABELS)
    if labels.isna().any():
        row = labels.isna().argmax()
        raise ValueError(
            f"{path}, row {values.index[row] + 1}: label {values.iloc[row]!r} is neither right nor wrong: "
            f"use 1 or 0; leave the row out if the answer was not observed"
        )
    return labels.to_numpy(dtype=np.int32)


def write_long_form(matrix: CorrectnessMatrix, folder: str | os.PathLike[str]) -> None:
    """Write a matrix as a folder that `load_dataset(folder)` reads back.

    Parameters
    ----------
    matrix : CorrectnessMatrix
        A column `split` of its questions makes three files of answers, otherwise there is one.
    folder : path
        Must not exist, or be empty. It appears when it is complete.

    Raises
    ------
    FileExistsError
        If something is there already.
    """
    with creating_folder(folder) as temporary:
        questions = matrix.questions
        parts = {"correctness": np.arange(matrix.n_questions)}
        if "split" in questions:
            parts = {split: np.flatnonzero(questions["split"] == split) for split in SPLITS}
        for stem, columns in parts.items():
            with (temporary / f"{stem}.csv").open("w", encoding="utf-8", newline="") as stream:
                pd.DataFrame(columns=_ROW_COLUMNS).to_csv(stream, index=False)
                for name, labels in zip(matrix.model_names, matrix.labels[:, columns], strict=True):
                    observed = labels != NOT_OBSERVED
                    rows = {"prompt_id": matrix.question_ids[columns[observed]], "model_name": name}
                    pd.DataFrame(rows | {"label": labels[observed]}).to_csv(stream, index=False, header=False)
        order = questions[[name for name in ("benchmark", "category", "prompt") if name in questions]]
        order.to_csv(temporary / "question_order.csv", index_label="prompt_id")
        matrix.models.to_csv(temporary / "model_order.csv", index_label="model_name")
        np.save(temporary / "question_embeddings.npy", matrix.embeddings)
