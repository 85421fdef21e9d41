"""The authors' long form: a folder with one row for each answer::

    correctness.csv           or train.csv, val.csv and test.csv, which keep the source's own split;
                              columns prompt_id, model_name, label and, unless question_order has it, category
    question_order.csv        columns prompt_id and, optionally, benchmark, category, split and prompt
    model_order.csv           column model_name; further columns, such as params_b or tags, become metadata
    question_embeddings.npy   or .pth; row i belongs to row i of question_order; .npy of float32 is mapped to memory

Each table may also be `.csv.gz` or `.parquet`. Columns may stand in any order, and others are ignored. Models are
matched by name and questions by id, as text. The benchmark of a question is what `question_order` says, otherwise it
follows from the category (`benchmark_of`).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from embedllm._checks import unusable_row
from embedllm._files import creating_folder
from embedllm.datasets.duplicates import Duplicates, LabelVotes, check_duplicates
from embedllm.datasets.formats._tables import Rows, TextIndex, find_table, read_header, read_rows, read_table
from embedllm.matrix import (
    CORRECT,
    INCORRECT,
    NOT_OBSERVED,
    REPORT_COLUMNS,
    SPLITS,
    CorrectnessMatrix,
    take_rows,
)

LABELS = {"1": CORRECT, "0": INCORRECT, "1.0": CORRECT, "0.0": INCORRECT, "true": CORRECT, "false": INCORRECT}
"""Texts that stand for a label, in lower case and without spaces around them."""

_QUOTED: dict[str, Any] = {"quoting": csv.QUOTE_NONNUMERIC}  # by itself pandas leaves a lone carriage return bare
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


def read_long_form(
    folder: Path, source: str | None = None, *, duplicates: Duplicates = "majority"
) -> CorrectnessMatrix:
    """Read a folder in the authors' long form.

    Parameters
    ----------
    folder : Path
    source : str, optional
        What the data are; by default, the name of the folder.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a (model, question) has several rows; the authors' scripts use the second to fourth of these.
        "majority": most of the labels, and a tie is not observed. "any": right if one of them is. "last": the row read
        last, in the order train, val, test. "rows": all of them, the second and further ones on copies of the question,
        which are named `ID (row 2)` and so on. "error": none, reading fails.

    Returns
    -------
    CorrectnessMatrix
        Models and questions in the order of the order files. A question of `question_order.csv` without a single answer
        is left out; `report_` counts all that was resolved.

    Raises
    ------
    FileNotFoundError
        If a file of the form is missing.
    ValueError
        If a file is damaged, a column is missing, a label is unknown, a model or question is not in its order file, a
        model is missing from one of three files, a question belongs to two benchmarks or two splits, or the embeddings
        do not match the questions: names file, row and value.
    """
    files = answer_files(folder)
    models, questions = (
        _read_order(folder, "model_order", "model_name"),
        _read_order(folder, "question_order", "prompt_id"),
    )
    embeddings = _read_embeddings(folder, len(questions))
    answers = read_answers(files, models.index, questions, duplicates=duplicates)
    try:
        return CorrectnessMatrix(
            answers.labels,
            answers.questions,
            take_rows(embeddings, answers.positions),
            models=models[[column for column in models if column != "model_id"]],
            source=folder.resolve().name if source is None else source,
            report=answers.report,
        )
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def write_long_form(matrix: CorrectnessMatrix, folder: str | os.PathLike[str]) -> None:
    """Write a matrix as a folder that `load_dataset(folder)` reads back.

    Parameters
    ----------
    matrix : CorrectnessMatrix
        Questions without an observed answer are left out when it is read back, and what is known of models and
        questions, but for `params_b`, comes back as text.
    folder : path
        Must not exist, or be empty. It appears when it is complete and could be read back.

    Raises
    ------
    FileExistsError
        If something is there already.
    ValueError
        If the matrix holds what the form cannot say, such as a model with an empty name.
    """
    for table, key in ((matrix.questions, "prompt_id"), (matrix.models, "model_name")):
        if key in table:
            raise ValueError(f"the form has the index as column {key!r}, and there is such a column already: rename it")
    with creating_folder(folder) as temporary:
        with (temporary / "correctness.csv").open("w", encoding="utf-8", newline="") as stream:
            pd.DataFrame(columns=_ROW_COLUMNS).to_csv(stream, index=False, **_QUOTED)
            for name, labels in zip(matrix.model_names, matrix.labels, strict=True):
                observed = labels != NOT_OBSERVED
                rows = {"prompt_id": matrix.question_ids[observed], "model_name": name, "label": labels[observed]}
                pd.DataFrame(rows).to_csv(stream, index=False, header=False, **_QUOTED)
        matrix.questions.to_csv(temporary / "question_order.csv", index_label="prompt_id", **_QUOTED)
        matrix.models.to_csv(temporary / "model_order.csv", index_label="model_name", **_QUOTED)
        np.save(temporary / "question_embeddings.npy", matrix.embeddings)
        try:
            read_long_form(temporary)
        except ValueError as error:
            raise ValueError(str(error).replace(str(temporary), str(folder))) from error


class Answers(NamedTuple):
    """What files of answers hold.

    Attributes
    ----------
    labels : DataFrame of shape (n_models, n_answered), int8
        Index: all models. Columns: ids of the questions with an answer.
    questions : DataFrame indexed by question id
        The questions with an answer: what was known of them, `benchmark`, `category` and, where there is one, `split`.
    positions : ndarray of shape (n_answered,)
        Where each of them stands among the questions that were known.
    report : DataFrame with columns `what`, `count`, `rule`
    """

    labels: pd.DataFrame
    questions: pd.DataFrame
    positions: np.ndarray
    report: pd.DataFrame


def read_answers(
    files: Mapping[str, Path], models: pd.Index, questions: pd.DataFrame, *, duplicates: Duplicates = "majority"
) -> Answers:
    """Read files of answers, a group of rows at a time.

    Parameters
    ----------
    files : mapping from "all", or from "train", "val" and "test", to a file
    models : Index of names
    questions : DataFrame indexed by question id
        May be without columns; `benchmark`, `category` and `split` are used where they are there.
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `read_long_form`.

    Raises
    ------
    ValueError
        As `read_long_form` does.
    """
    check_duplicates(duplicates)
    facts, votes = _QuestionFacts(questions), LabelVotes(len(models), len(questions))
    names, ids = TextIndex(models), TextIndex(questions.index)
    for split, path in files.items():
        columns = [*_ROW_COLUMNS, *facts.columns_of_rows(path)]
        in_file, seen = np.zeros(len(models), dtype=bool), np.zeros(len(questions), dtype=bool)
        for rows in read_rows(path, columns):
            model = _positions(rows, "model_name", names, path, "model_order")
            question = _positions(rows, "prompt_id", ids, path, "question_order")
            in_file[model], seen[question] = True, True
            votes.add(model, question, _labels(rows, path))
            facts.add(question, rows, path)
        facts.end_file(seen, split, path)
        if not in_file.any():
            raise ValueError(f"{path}: no answer in it: it needs a row for each that was observed")
        if split != "all" and not in_file.all():
            raise ValueError(
                f"{path}: no answer of model {models[~in_file][0]!r}, which model_order lists: add its rows, "
                f"take it out of model_order, or put all answers into one file, correctness.csv"
            )
    resolved = votes.resolve(duplicates)
    if duplicates == "error":
        _check_once(resolved.n_seen, models, questions.index)
    table = facts.table()
    if resolved.copies.any():
        table = table.iloc[resolved.positions]
        names_of_copies = zip(table.index, resolved.copies, strict=True)
        table.index = pd.Index([f"{name} (row {copy + 1})" if copy else name for name, copy in names_of_copies])
    answered = np.any(resolved.n_seen, axis=0)[resolved.positions]
    report = [
        *resolved.report,
        ("questions in several categories", facts.n_in_several(), "the first in sorted order"),
        ("questions without an answer", int((~answered).sum()), "left out"),
        ("models without an answer", int((~np.any(resolved.n_seen, axis=1)).sum()), "kept, not observed"),
    ]
    return Answers(
        pd.DataFrame(resolved.labels[:, answered], index=models, columns=table.index[answered]),
        table[answered],
        resolved.positions[answered],
        pd.DataFrame([line for line in report if line[1]], columns=list(REPORT_COLUMNS)),
    )


def _check_once(n_seen: np.ndarray, models: pd.Index, questions: pd.Index) -> None:
    repeated = np.argwhere(n_seen > 1)
    if len(repeated):
        model, question = repeated[0]
        raise ValueError(
            f"model {models[model]!r} has {n_seen[model, question]} rows on question {questions[question]!r}, and "
            f"{len(repeated) - 1} more (model, question) have several: remove them, or name another rule for duplicates"
        )


def list_answers(files: Mapping[str, Path]) -> tuple[pd.Index, pd.DataFrame]:
    """Return the models and the questions that rows name, in the order in which they occur; each text is held once.

    Returns
    -------
    models : Index of names
    questions : DataFrame indexed by question id
        With column `prompt`.

    Raises
    ------
    ValueError
        If a file is damaged or lacks a column, a name or an id is empty, or one id stands for two prompts.
    """
    models: dict[str, None] = {}
    prompts: dict[str, str] = {}
    for path in files.values():
        for rows in read_rows(path, ["model_name", "prompt_id", "prompt"]):
            for column in ("model_name", "prompt_id"):
                if (row := pc.index(rows.columns[column], "").as_py()) >= 0:
                    raise ValueError(f"{path}, row {rows.first + row}: the {column} is empty")
            models.update(dict.fromkeys(rows.columns["model_name"].unique().to_pylist()))
            pairs = rows.columns.group_by(["prompt_id", "prompt"], use_threads=False).aggregate([])
            for name, prompt in zip(pairs["prompt_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True):
                if prompts.setdefault(name, prompt) != prompt:
                    raise ValueError(
                        f"{path}: prompt_id {name!r} stands for two prompts, {_short(prompts[name])!r} and "
                        f"{_short(prompt)!r}: give each an id of its own, the same in all files"
                    )
    return pd.Index(models, dtype=object), pd.DataFrame({"prompt": prompts}, dtype=str)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def answer_files(folder: Path) -> dict[str, Path]:
    """Return the files of answers in a folder: one named "all", or three named after the parts of a split.

    Raises
    ------
    FileNotFoundError
        If there are neither.
    ValueError
        If a file is there in two forms.
    """
    stems = {"all": "correctness", **{split: split for split in SPLITS}}
    found = {key: path for key, stem in stems.items() if (path := find_table(folder, stem))}
    if set(found) not in ({"all"}, set(SPLITS)):
        names = sorted(path.name for path in found.values())
        raise FileNotFoundError(
            f"{folder} must hold correctness.csv, or train.csv, val.csv and test.csv (or .csv.gz, .parquet); "
            f"of these it holds {names}"
        )
    return found


def _read_order(folder: Path, stem: str, key: str) -> pd.DataFrame:
    path = find_table(folder, stem)
    if path is None:
        raise FileNotFoundError(f"{folder / stem}.csv is missing: it gives the order of the {key}s")
    table = read_table(path, [key])
    if (empty := table[key] == "").any():
        raise ValueError(f"{path}, row {empty.argmax() + 1}: the {key} is empty: fill it in, or remove the row")
    if (repeated := table[key].duplicated()).any():
        raise ValueError(
            f"{path}, row {repeated.argmax() + 1}: {key} {table[key][repeated].iloc[0]!r} occurs twice: remove one"
        )
    for column in {"benchmark", "category"} & set(table):
        if (empty := table[column] == "").any():
            raise ValueError(f"{path}, row {empty.argmax() + 1}: the {column} is empty: fill it in")
    if "split" in table and (unknown := ~table["split"].isin(SPLITS)).any():
        row = unknown.argmax()
        raise ValueError(f"{path}, row {row + 1}: split {table['split'][row]!r} is none of {', '.join(SPLITS)}")
    if "params_b" in table:
        sizes = pd.to_numeric(table["params_b"], errors="coerce")
        if (unknown := sizes.isna() & (table["params_b"] != "")).any():
            row = unknown.argmax()
            raise ValueError(
                f"{path}, row {row + 1}: params_b {table['params_b'][row]!r} is no number of billions of parameters: "
                f"leave it empty where it is not known"
            )
        table["params_b"] = sizes
    return table.set_index(key)


def _read_embeddings(folder: Path, n_questions: int) -> np.ndarray:
    arrays, tensors = folder / "question_embeddings.npy", folder / "question_embeddings.pth"
    path = arrays if arrays.is_file() else tensors
    if not path.is_file():
        raise FileNotFoundError(f"{arrays} is missing: one row of floats for each row of question_order")
    try:
        if path == arrays:
            # Mapped to memory, so that they may be larger than it.
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
            vectors = vectors if vectors.dtype == np.float32 else np.asarray(vectors, dtype=np.float32)
        else:
            import torch  # takes seconds, and only this form of the embeddings needs it

            vectors = torch.load(path, weights_only=True, map_location="cpu").detach().float().numpy()
    except Exception as error:  # neither reader keeps to a few classes of errors
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if vectors.ndim != 2 or len(vectors) != n_questions:
        raise ValueError(
            f"{path} has shape {vectors.shape}, but question_order lists {n_questions} questions: "
            f"it must have one row for each, in that order"
        )
    if bad := unusable_row(vectors):
        raise ValueError(f"{path}, row {bad[0] + 1} is {bad[1]}: encode that question anew")
    return vectors


def _positions(rows: Rows, column: str, known: TextIndex, path: Path, order_file: str) -> np.ndarray:
    """Where the values of a column stand in an order file."""
    values = rows.columns[column]
    found = known.positions(values)
    if (unknown := found < 0).any():
        row = int(unknown.argmax())
        raise ValueError(
            f"{path}, row {rows.first + row}: {column} {values[row].as_py()!r} is not in {order_file}: "
            f"add it there, or correct it here"
        )
    return found


def _labels(rows: Rows, path: Path) -> np.ndarray:
    texts, codes = rows.codes("label")
    known = [LABELS.get(text.strip().lower(), NOT_OBSERVED) for text in texts.to_pylist()]
    labels = np.array(known, dtype=np.int8)[codes]
    if (unknown := labels == NOT_OBSERVED).any():
        row = int(unknown.argmax())
        raise ValueError(
            f"{path}, row {rows.first + row}: label {texts[codes[row]].as_py()!r} is neither right nor wrong: "
            f"use 1 or 0; leave the row out if the answer was not observed"
        )
    return labels


class _QuestionFacts:
    """What rows say of their questions: a category, and through the file that they stand in a split."""

    def __init__(self, known: pd.DataFrame) -> None:
        self._known, self._ids = known, known.index
        self._values = {
            what: known[what].to_numpy(dtype=object).copy() if what in known else np.full(len(known), None, object)
            for what in ("benchmark", "category", "split")
        }
        if "category" in known and "benchmark" not in known:
            self._values["benchmark"] = known["category"].map(benchmark_of).to_numpy(dtype=object)
        self._in_several = np.zeros(len(known), dtype=bool)
        self._codes: dict[str, int] = {}  # of categories
        self._pairs: list[np.ndarray] = []  # questions and codes of their categories in the current file
        self._latest = np.full(len(known), -1, dtype=np.int32)  # code of the category that each question had last

    def columns_of_rows(self, path: Path) -> list[str]:
        if {"benchmark", "category"} <= set(self._known):
            return []
        header = read_header(path, _ROW_COLUMNS)
        if "category" in header:
            return ["category"]
        if not {"benchmark", "category"} & set(self._known):
            read_header(path, ["category"])
        return []

    def add(self, questions: np.ndarray, rows: Rows, path: Path) -> None:
        if "category" in rows.columns.column_names:
            texts, indices = rows.codes("category")
            if (row := pc.index(rows.columns["category"], "").as_py() if "" in texts.to_pylist() else -1) >= 0:
                raise ValueError(f"{path}, row {rows.first + row}: the category is empty: fill it in")
            known = [self._codes.setdefault(name, len(self._codes)) for name in texts.to_pylist()]
            codes = np.array(known, dtype=np.int32)[indices]
            # A question mostly has the category that it had before.
            changed = np.flatnonzero(self._latest[questions] != codes)
            self._latest[questions[changed]] = codes[changed]
            self._pairs.append(pd.unique((questions[changed].astype(np.int64) << 32) + codes[changed]))

    def end_file(self, seen: np.ndarray, split: str, path: Path) -> None:
        """Settle what the rows of a file said; `seen` is the mask of the questions that it had, (n_questions,)."""
        if split != "all":
            questions = np.flatnonzero(seen)
            self._settle("split", questions, np.full(len(questions), split, dtype=object), path)
        if self._pairs:
            pairs = pd.unique(np.concatenate(self._pairs))
            names = np.array(list(self._codes), dtype=object)
            questions, categories = pairs >> 32, names[pairs & 0xFFFFFFFF]
            if "benchmark" not in self._known:
                benchmarks = np.array([benchmark_of(name) for name in names], dtype=object)
                self._settle("benchmark", questions, benchmarks[pairs & 0xFFFFFFFF], path)
            if "category" not in self._known:
                self._keep_first_category(questions, categories)
            self._pairs = []
            self._latest[:] = -1

    def table(self) -> pd.DataFrame:
        """The questions, with all that is known of them."""
        table = self._known.copy()
        for what, values in self._values.items():
            if what in table or any(value is not None for value in values):
                table[what] = values
        return table

    def n_in_several(self) -> int:
        """How many questions stand in several categories."""
        return int(self._in_several.sum())

    def _settle(self, what: str, questions: np.ndarray, values: np.ndarray, path: Path) -> None:
        settled = self._values[what]
        new = pd.isna(settled[questions])
        settled[questions[new][::-1]] = values[new][::-1]  # backwards, so that of several values the first stays
        if (differs := settled[questions] != values).any():
            question, value = questions[differs][0], values[differs][0]
            raise ValueError(
                f"{path}: question {self._ids[question]!r} belongs to {what} {value!r} here, and to "
                f"{settled[question]!r} elsewhere: give it one {what}, or each of the two questions an id of its own"
            )

    def _keep_first_category(self, questions: np.ndarray, categories: np.ndarray) -> None:
        """Of several categories, a question keeps the first in sorted order, whatever the order of the rows."""
        settled = self._values["category"]
        new = pd.isna(settled[questions])
        settled[questions[new]] = categories[new]
        for row in np.flatnonzero(settled[questions] != categories):
            question = questions[row]
            self._in_several[question] = True
            settled[question] = min(settled[question], categories[row])
        # The one that was settled first may be neither the first nor met again.
        for row in np.flatnonzero(self._in_several[questions]):
            settled[questions[row]] = min(settled[questions[row]], categories[row])
