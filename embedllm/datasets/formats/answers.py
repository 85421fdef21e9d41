"""Answers of models to questions, as every reader returns them, and the rows of the authors' long form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from embedllm._support.checks import check_option
from embedllm._support.division import SPLITS
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.formats._tables import Rows, find_table, read_header, read_rows
from embedllm.datasets.report import Line, account_line
from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED, CostUnit, report_table

LABELS = {"1": CORRECT, "0": INCORRECT, "1.0": CORRECT, "0.0": INCORRECT, "true": CORRECT, "false": INCORRECT}
"""Texts that stand for a label, in lower case and without spaces around them."""

CountsAs = Literal["incorrect", "not observed"]
"""What counts where a model gave no answer that could be read, or its evaluation ended in an error."""

ROW_COLUMNS = ["prompt_id", "model_name", "label"]

COST_COLUMNS: dict[str, CostUnit] = {"cost_usd": "US dollars", "cost_tokens": "tokens"}
"""Columns of rows that hold what the answer cost, and in which unit."""

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


class Answers(NamedTuple):
    """Answers of models to questions, as they were read.

    Attributes
    ----------
    labels : DataFrame of shape (n_models, n_questions), int8
        Index: model names. Columns: question ids.
    questions : DataFrame indexed by question id
        With column `benchmark` and, as far as they are known, `category`, `prompt` and `split`.
    report : list of Line
        What was skipped, resolved or excluded while they were read.
    account : mapping from text to int
        First what was read, such as "rows read", and how many; then what of it became no observed cell. No count is
        left out: see `embedllm.datasets.report.account_line`.
    models : DataFrame indexed by model name, or None
        What is known of the models.
    costs : DataFrame of shape (n_models, n_questions), float32, or None
        What each answer cost, with the names of `labels`; NaN where unknown.
    cost_unit : "US dollars" or "tokens"
    """

    labels: pd.DataFrame
    questions: pd.DataFrame
    report: list[Line]
    account: dict[str, int]
    models: pd.DataFrame | None = None
    costs: pd.DataFrame | None = None
    cost_unit: CostUnit = "US dollars"

    def report_table(self, *more: Line) -> pd.DataFrame:
        """Return the report, further lines, and a last one that adds up, as the report of a matrix.

        Raises
        ------
        ValueError
            If the counts do not add up.
        """
        n_cells = int(np.count_nonzero(self.labels.to_numpy() != NOT_OBSERVED))
        return report_table(line[:3] for line in (*self.report, *more, account_line(n_cells, self.account)))


def benchmark_of(category: str) -> str:
    """Return the benchmark of a category of the paper's release; any other category is a benchmark of its own."""
    for prefix, benchmark in _BENCHMARK_OF_PREFIX.items():
        if category.startswith(prefix):
            return benchmark
    return _BENCHMARK_OF.get(category, category)


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


def list_answers(files: Mapping[str, Path], questions: pd.DataFrame | None = None) -> tuple[pd.Index, pd.DataFrame]:
    """Return the models and the questions that rows name, in the order in which they occur; each text is held once.

    Parameters
    ----------
    files : mapping to files
    questions : DataFrame indexed by question id, optional
        What is known of the questions, in their order; without column `prompt`, the rows must have it.

    Returns
    -------
    models : Index of names
    questions : DataFrame indexed by question id
        With column `prompt`.

    Raises
    ------
    ValueError
        If a file is damaged or lacks a column, a name or an id is empty, one id stands for two prompts, or a known
        question has none.
    """
    models: dict[str, None] = {}
    prompts: dict[str, str] = {} if questions is None else dict(questions.get("prompt", {}))
    for path in files.values():
        columns = ["model_name", "prompt_id", "prompt"]
        if questions is not None and "prompt" in questions:
            columns = [name for name in columns if name != "prompt" or name in read_header(path)]
        for rows in read_rows(path, columns):
            for column in ("model_name", "prompt_id"):
                _check_filled(rows, column, path)
            models.update(dict.fromkeys(rows.columns["model_name"].unique().to_pylist()))
            if "prompt" not in columns:
                continue
            pairs = rows.columns.group_by(["prompt_id", "prompt"], use_threads=False).aggregate([])
            for name, prompt in zip(pairs["prompt_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True):
                if prompts.setdefault(name, prompt) != prompt:
                    raise ValueError(
                        f"{path}: prompt_id {name!r} stands for two prompts, {_short(prompts[name])!r} and "
                        f"{_short(prompt)!r}: give each an id of its own, the same in all files"
                    )
    if questions is None:
        return pd.Index(models, dtype=object), pd.DataFrame({"prompt": prompts}, dtype=str)
    # A question that no row names needs no prompt: it has no answer, and is left out.
    return pd.Index(models, dtype=object), questions.assign(prompt=[prompts.get(name, "") for name in questions.index])


def read_answers(
    files: Mapping[str, Path], models: pd.Index, questions: pd.DataFrame, *, duplicates: Duplicates = "majority"
) -> tuple[Answers, np.ndarray]:
    """Read files of answers in the long form, a group of rows at a time.

    Parameters
    ----------
    files : mapping from "all", or from "train", "val" and "test", to a file
    models : Index of names
    questions : DataFrame indexed by question id
        May be without columns; `benchmark`, `category` and `split` are used where they are there.
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `embedllm.datasets.formats.long.read_long_form`.

    Returns
    -------
    answers : Answers
        Of all models to the questions that have an answer.
    positions : ndarray of shape (n_answered,)
        Where each of these stands among the questions that were known.

    Raises
    ------
    ValueError
        As `embedllm.datasets.formats.long.read_long_form` does.
    """
    check_option("duplicates", duplicates, Duplicates)
    votes, facts, n_read = LabelVotes(len(models), len(questions)), [], 0
    cost = _cost_column(files)
    names, ids = (pa.array(known, pa.string()) for known in (models, questions.index))
    for split, path in files.items():
        category = _category_column(path, questions)
        answered, pairs = np.zeros(len(models), dtype=bool), []
        for rows in read_rows(path, ROW_COLUMNS + category + cost):
            model = _positions(rows, "model_name", names, path, "model_order")
            question = _positions(rows, "prompt_id", ids, path, "question_order")
            votes.add(model, question, _labels(rows, path), read_costs(rows, cost[0], path) if cost else None)
            n_read += len(rows.columns)
            answered[model] = True
            pairs.append(_distinct(question, rows, category, path))
        _check_answered(answered, models, split, path)
        facts.append(pd.concat(pairs).drop_duplicates().assign(split=None if split == "all" else split, path=path))
    table, n_in_several = _known(questions, pd.concat(facts))
    report = [Line("questions in several categories", n_in_several, "the first in sorted order", is_choice=True)]
    answers, positions = resolve_answers(votes, models, table, duplicates, report, {"rows read": n_read})
    return answers._replace(cost_unit=COST_COLUMNS[cost[0]] if cost else "US dollars"), positions


def read_costs(rows: Rows, column: str, path: Path) -> np.ndarray:
    """Return the costs that a column holds, (n_rows,), float64; an empty cell is unknown, NaN.

    Raises
    ------
    ValueError
        If a value is not a number of at least 0: names file, row and value.
    """
    texts = rows.columns[column].to_pandas()
    costs = pd.to_numeric(texts.where(texts != ""), errors="coerce").to_numpy(dtype=float)
    if (bad := (texts != "").to_numpy() & ~((costs >= 0) & np.isfinite(costs))).any():
        row = int(bad.argmax())
        raise ValueError(
            f"{path}, row {rows.first + row}: {texts.iloc[row]!r} in column {column!r} is not a cost: use a number of "
            f"at least 0, or leave it empty if it is unknown"
        )
    return costs


def resolve_answers(
    votes: LabelVotes,
    models: pd.Index,
    questions: pd.DataFrame,
    duplicates: Duplicates,
    report: Sequence[Line],
    account: dict[str, int],
) -> tuple[Answers, np.ndarray]:
    """Apply a rule for duplicates to the labels that were read, and leave out questions without an answer.

    Parameters
    ----------
    votes : LabelVotes
    models : Index of names
    questions : DataFrame indexed by question id
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `embedllm.datasets.formats.long.read_long_form`.
    report : sequence of Line
        What else was skipped, resolved or excluded.
    account : mapping from text to int
        As in `Answers`, without what `votes` hold.

    Returns
    -------
    answers : Answers
    positions : ndarray of shape (n_answered,)
        Where each question with an answer stands among those that were known.

    Raises
    ------
    ValueError
        If a (model, question) has several labels, and the rule is "error".
    """
    resolved = votes.resolve(duplicates)
    if duplicates == "error":
        _check_once(resolved.n_seen, models, questions.index)
    table = questions
    if resolved.copies.any():
        table = table.iloc[resolved.positions]
        names_of_copies = zip(table.index, resolved.copies, strict=True)
        table.index = pd.Index([f"{name} (row {copy + 1})" if copy else name for name, copy in names_of_copies])
    is_answered = np.any(resolved.n_seen, axis=0)[resolved.positions]
    report = [
        *resolved.report,
        *report,
        Line("questions without an answer", int((~is_answered).sum()), "left out"),
        Line("models without an answer", int((~np.any(resolved.n_seen, axis=1)).sum()), "kept, not observed"),
    ]
    axes = models, table.index[is_answered]
    labels = pd.DataFrame(resolved.labels[:, is_answered], *axes)
    costs = None if resolved.costs is None else pd.DataFrame(resolved.costs[:, is_answered], *axes)
    answers = Answers(labels, table[is_answered], report, account | resolved.account, costs=costs)
    return answers, resolved.positions[is_answered]


def _category_column(path: Path, questions: pd.DataFrame) -> list[str]:
    """The column of categories, if a file has one that is needed."""
    if {"benchmark", "category"} <= set(questions):
        return []
    needed = {"benchmark", "category"}.isdisjoint(questions)
    return ["category"] if "category" in read_header(path, ROW_COLUMNS + ["category"] * needed) else []


def _cost_column(files: Mapping[str, Path]) -> list[str]:
    """The column of costs, which all files have, or none."""
    found = {path: [name for name in COST_COLUMNS if name in read_header(path)] for path in files.values()}
    first = next(iter(found.values()))
    for path, columns in found.items():
        if columns != first or len(columns) > 1:
            raise ValueError(f"{path} has the columns of costs {columns}: keep one, the same in each file")
    return first


def _positions(rows: Rows, column: str, known: pa.Array, path: Path, order_file: str) -> np.ndarray:
    """Where the values of a column stand in an order file, (n_rows,), int32."""
    values = rows.columns[column].combine_chunks()  # in one piece, or the known texts are hashed anew for each
    found = pc.index_in(values, known)
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        raise ValueError(
            f"{path}, row {rows.first + row}: {column} {values[row].as_py()!r} is not in {order_file}: "
            f"add it there, or correct it here"
        )
    return found.to_numpy()


def _labels(rows: Rows, path: Path) -> np.ndarray:
    texts, codes = _coded(rows, "label")
    labels = np.array([LABELS.get(text.strip().lower(), NOT_OBSERVED) for text in texts], dtype=np.int8)[codes]
    if (unknown := labels == NOT_OBSERVED).any():
        row = int(unknown.argmax())
        raise ValueError(
            f"{path}, row {rows.first + row}: label {texts[codes[row]]!r} is not a label: "
            f"use 1/0 or true/false; leave the row out if the answer was not observed"
        )
    return labels


def _distinct(question: np.ndarray, rows: Rows, category: list[str], path: Path) -> pd.DataFrame:
    """The distinct questions of some rows, each with its categories, if there are any."""
    if not category:
        return pd.DataFrame({"question": pd.unique(question), "category": None})
    _check_filled(rows, "category", path)
    texts, codes = _coded(rows, "category")
    questions, categories = np.divmod(pd.unique(question.astype(np.int64) * len(texts) + codes), len(texts))
    return pd.DataFrame({"question": questions, "category": np.array(texts, dtype=object)[categories]})


def _coded(rows: Rows, column: str) -> tuple[list[str], np.ndarray]:
    """Distinct texts of a column, and which of them stands in each row: positions, (n_rows,)."""
    coded = rows.columns[column].combine_chunks().dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


def _known(questions: pd.DataFrame, facts: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """What is known of the questions from their own table and from rows, and how many stand in several categories.

    Parameters
    ----------
    questions : DataFrame indexed by question id
    facts : DataFrame with columns `question` (its position), `category`, `split` and `path`
        Distinct, in the order of the files.
    """
    table, n_in_several = questions.copy(), 0
    if "category" in table and "benchmark" not in table:
        table["benchmark"] = table["category"].map(benchmark_of)
    categories = facts.dropna(subset="category")
    if "benchmark" not in questions and len(categories):
        benchmarks = {name: benchmark_of(name) for name in categories["category"].unique()}
        _settle(table, "benchmark", categories.assign(benchmark=categories["category"].map(benchmarks)))
    if "category" not in questions and len(categories):
        distinct = categories.drop_duplicates(["question", "category"])
        n_in_several = int((distinct["question"].value_counts() > 1).sum())
        # The first in sorted order, whatever the order of the rows.
        _settle(table, "category", distinct.sort_values("category").drop_duplicates("question"))
    if len(parts := facts.dropna(subset="split")):
        _settle(table, "split", parts)
    return table, n_in_several


def _settle(table: pd.DataFrame, what: str, facts: pd.DataFrame) -> None:
    """Fill a column with the one value that each question has."""
    settled = table[what].to_numpy(object).copy() if what in table else np.full(len(table), None, object)
    positions, values = facts["question"].to_numpy(), facts[what].to_numpy(object)
    new = pd.isna(settled[positions])
    settled[positions[new][::-1]] = values[new][::-1]  # backwards, so that of several values the first stays
    if (differs := settled[positions] != values).any():
        row = int(differs.argmax())
        raise ValueError(
            f"{facts['path'].iloc[row]}: question {table.index[positions[row]]!r} belongs to {what} {values[row]!r} "
            f"here, and to {settled[positions[row]]!r} elsewhere: give it one {what}, or each of the two questions an "
            f"id of its own"
        )
    table[what] = settled


def _check_filled(rows: Rows, column: str, path: Path) -> None:
    if (row := pc.index(rows.columns[column], "").as_py()) >= 0:
        raise ValueError(f"{path}, row {rows.first + row}: the {column} is empty: fill it in")


def _check_answered(answered: np.ndarray, models: pd.Index, split: str, path: Path) -> None:
    if not answered.any():
        raise ValueError(f"{path}: no answer in it: it needs a row for each that was observed")
    if split != "all" and not answered.all():
        raise ValueError(
            f"{path}: no answer of model {models[~answered][0]!r}, which model_order lists: add its rows, "
            f"take it out of model_order, or put all answers into one file, correctness.csv"
        )


def _check_once(n_seen: np.ndarray, models: pd.Index, questions: pd.Index) -> None:
    several = np.argwhere(n_seen > 1)
    if len(several):
        model, question = several[0]
        raise ValueError(
            f"model {models[model]!r} has {n_seen[model, question]} rows on question {questions[question]!r}, and "
            f"{len(several) - 1} more (model, question) have several: remove them, or name another rule for duplicates"
        )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
