"""The authors' long form: a folder with one row for each answer::

    correctness.csv           or train.csv, val.csv and test.csv, which keep the source's own split;
                              columns prompt_id, model_name, label and, unless question_order has it, category;
                              what an answer cost, where that is known: cost_usd (US dollars) or cost_tokens
    question_order.csv        columns prompt_id and, optionally, benchmark, category, split and prompt
    model_order.csv           column model_name; further columns, such as params_b or tags, become metadata
    question_embeddings.npy   or .pth; row i belongs to row i of question_order; .npy of float32 is mapped to memory
    encoder.json              optional: name and fingerprint of the encoder that made the embeddings

Each table may also be `.csv.gz` or `.parquet`. Columns may stand in any order, and others are ignored. Models are
matched by name and questions by id, as text. The benchmark of a question is what `question_order` says, otherwise it
follows from the category (`embedllm.datasets.formats.answers.benchmark_of`).
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embedllm._support.checks import unusable_row
from embedllm._support.division import SPLITS
from embedllm._support.files import Malformed, check_file, check_limit, creating_folder, read_json
from embedllm._support.reading import is_there
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.formats._tables import find_table, read_table
from embedllm.datasets.formats._tensors import dense, load_tensors
from embedllm.datasets.formats.answers import COST_COLUMNS, ROW_COLUMNS, answer_files, read_answers
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix, EncoderName, take_rows

_ENCODER = "encoder.json"
_QUOTED: dict[str, Any] = {"quoting": csv.QUOTE_NONNUMERIC}  # by itself pandas leaves a lone carriage return bare


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
        What counts where a (model, question) has several rows; the authors' scripts use the second to fourth rule.
        "majority": most of the labels, and a tie is not observed. "any": correct if one of them is. "last": the row
        read last, in the order train, val, test. "rows": all of them, the second and further ones on copies of the
        question, which are named `ID (row 2)` and so on. "error": none, reading fails.

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
    models = read_order(folder, "model_order", "model_name")
    questions = read_order(folder, "question_order", "prompt_id")
    if models is None or questions is None:
        stem, key = ("model_order", "model_name") if models is None else ("question_order", "prompt_id")
        raise FileNotFoundError(f"{folder / stem}.csv is missing: it gives the order of the {key}s")
    embeddings = _read_embeddings(folder, len(questions))
    answers, positions = read_answers(files, models.index, questions, duplicates=duplicates)
    try:
        return CorrectnessMatrix(
            answers.labels,
            answers.questions,
            take_rows(embeddings, positions),
            models=models,
            source=folder.resolve().name if source is None else source,
            report=answers.report_table(),
            costs=answers.costs,
            cost_unit=answers.cost_unit,
            encoder=_read_encoder(folder),
        )
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def write_long_form(matrix: CorrectnessMatrix, folder: str | os.PathLike[str]) -> None:
    """Write a matrix as a folder that `load_dataset(folder)` reads back.

    Parameters
    ----------
    matrix : CorrectnessMatrix
        Questions without an observed answer are left out when it is read back, and all metadata but `params_b` comes
        back as text. A cost is kept where there is an observed answer.
    folder : path
        Must not exist, or be empty. It appears when it is complete and could be read back.

    Raises
    ------
    FileExistsError
        If something is there already.
    ValueError
        If the matrix holds what the form cannot, such as an empty category.

    Examples
    --------
    >>> import tempfile
    >>> from embedllm import load_dataset, write_long_form
    >>> pool = load_dataset("simulated", scale=0.01).subset(questions=["q00000", "q00001"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_long_form(pool, f"{folder}/my-pool")
    ...     load_dataset(f"{folder}/my-pool")
    CorrectnessMatrix (my-pool): 112 models x 2 questions, 1 benchmarks, 100.0% observed
    """
    for table, key in ((matrix.questions, "prompt_id"), (matrix.models, "model_name")):
        if key in table:
            raise ValueError(f"the form has the index as column {key!r}, and there is such a column already: rename it")
    with creating_folder(folder) as temporary:
        with (temporary / "correctness.csv").open("w", encoding="utf-8", newline="") as stream:
            cost = {unit: column for column, unit in COST_COLUMNS.items()}[matrix.cost_unit]
            columns = ROW_COLUMNS if matrix.costs is None else [*ROW_COLUMNS, cost]
            pd.DataFrame(columns=columns).to_csv(stream, index=False, **_QUOTED)
            for model, (name, labels) in enumerate(zip(matrix.model_names, matrix.labels, strict=True)):
                observed = labels != NOT_OBSERVED
                rows = {"prompt_id": matrix.question_ids[observed], "model_name": name, "label": labels[observed]}
                if matrix.costs is not None:
                    rows[cost] = matrix.costs[model, observed]
                pd.DataFrame(rows).to_csv(stream, index=False, header=False, **_QUOTED)
        matrix.questions.to_csv(temporary / "question_order.csv", index_label="prompt_id", **_QUOTED)
        matrix.models.to_csv(temporary / "model_order.csv", index_label="model_name", **_QUOTED)
        np.save(temporary / "question_embeddings.npy", matrix.embeddings)
        if matrix.encoder is not None:
            (temporary / _ENCODER).write_text(json.dumps(matrix.encoder._asdict(), indent=2) + "\n", encoding="utf-8")
        try:
            read_long_form(temporary)
        except ValueError as error:
            raise ValueError(str(error).replace(str(temporary), str(folder))) from error


def read_order(folder: Path, stem: str, key: str) -> pd.DataFrame | None:
    """Read an order file with what it says of the models or the questions, or return None if there is none.

    Parameters
    ----------
    folder : Path
    stem : "model_order" or "question_order"
    key : "model_name" or "prompt_id"
        The column of names, which become the index. A column `model_id` is left out: it numbers the rows.

    Raises
    ------
    ValueError
        If the file is damaged, a name is empty or occurs twice, or a value is unknown: names file, row and value.
    """
    path = find_table(folder, stem)
    if path is None:
        return None
    table = read_table(path, [key])

    def check(column: str, bad: pd.Series, message: str) -> None:
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{path}, row {row + 1}: {message.format(table[column][row])}")

    for column in [key, *sorted({"benchmark", "category"} & set(table))]:
        check(column, table[column] == "", f"the {column} is empty: fill it in, or remove the row")
    check(key, table[key].duplicated(), f"{key} {{!r}} occurs twice: remove one")
    if "split" in table:
        check("split", ~table["split"].isin(SPLITS), f"split {{!r}} is none of {', '.join(SPLITS)}")
    if "params_b" in table:
        sizes = pd.to_numeric(table["params_b"], errors="coerce")
        unknown = sizes.isna() & (table["params_b"] != "")
        check("params_b", unknown, "params_b {!r} is not a number of billions of parameters: leave it empty if unknown")
        table["params_b"] = sizes
    return table.set_index(key).drop(columns="model_id", errors="ignore")


def _read_encoder(folder: Path) -> EncoderName | None:
    path = folder / _ENCODER
    if not is_there(path):
        return None
    entry = read_json(path)
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in EncoderName._fields):
        raise ValueError(f"{path} must hold {' and '.join(EncoderName._fields)} of an encoder: correct or remove it")
    return EncoderName(*(entry[name] for name in EncoderName._fields))


def _read_embeddings(folder: Path, n_questions: int) -> np.ndarray:
    arrays, tensors = folder / "question_embeddings.npy", folder / "question_embeddings.pth"
    if is_there(arrays) and is_there(tensors):
        raise ValueError(f"{folder} holds both {arrays.name} and {tensors.name}: remove one of them")
    path = arrays if is_there(arrays) else tensors
    if not is_there(path):
        raise FileNotFoundError(f"{arrays} is missing: one row of floats for each row of question_order")
    check_file(path)
    try:
        # Mapped to memory, so that they may be larger than it.
        vectors = np.load(path, mmap_mode="r", allow_pickle=False) if path == arrays else _from_tensor(path)
        if vectors.ndim != 2 or len(vectors) != n_questions:
            raise Malformed(
                f"{path} has shape {vectors.shape}, but question_order lists {n_questions} questions: "
                f"it must have one row for each, in that order"
            )
        check_limit("row", vectors.nbytes // max(n_questions, 1), str(path))
        if bad := unusable_row(vectors):
            raise Malformed(f"{path}, row {bad[0] + 1} is {bad[1]}: encode that question again")
        return vectors if vectors.dtype == np.float32 else np.asarray(vectors, dtype=np.float32)
    except Malformed:
        raise
    except Exception as error:  # neither reader keeps to a few classes of errors
        raise Malformed(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _from_tensor(path: Path) -> np.ndarray:
    if (tensor := dense(load_tensors(path), 2)) is None:
        raise ValueError("it holds no dense tensor of floating-point numbers with two dimensions")
    return tensor.numpy()
