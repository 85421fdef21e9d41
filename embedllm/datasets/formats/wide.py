"""The wide form: one table with a row for each question and a column for each model.

    prompt_id,benchmark,prompt,model A,model B,model A|total_cost
    1,history,Who was the first emperor of Rome?,1,0,0.0021
    2,history,When did Carthage fall?,1,,0.0034

Three names are never those of models, but say more of a question, as in the long form: `category`; `item`, which
wordings of one question have in common; `split`, the source's own division.

A cell holds 1 or 0, 1.0 or 0.0, true or false, or nothing if the answer was not observed; with a threshold, any number.
Columns without a name, such as the index that pandas writes, are ignored.

RouterBench (arXiv:2403.12031) adds two columns to that of a model: `MODEL|total_cost` is what its answers cost in US
dollars, and `MODEL|model_response` is ignored. Its prompts are lists as text, `['...']`: where a table has replies, the
parts of such a prompt are joined by line feeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from embedllm._support.division import SPLITS
from embedllm.datasets.formats._json import list_in
from embedllm.datasets.formats._tables import Rows, read_header, read_rows
from embedllm.datasets.formats.answers import LABELS, Answers, read_costs
from embedllm.datasets.report import Line
from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED

_CELLS = {**LABELS, "": NOT_OBSERVED}
_UNOBSERVED = ("nan", "none", "null", "na", "n/a", "-", "?")  # spellings of others
_DEFAULT_ID = "prompt_id"
_FACTS = ("category", "item", "split")
COST = "|total_cost"
"""How the name of a column of costs ends; before it stands the model's."""

_REPLY = "|model_response"


def read_wide(
    path: Path,
    *,
    prompt_column: str = "prompt",
    benchmark_column: str = "benchmark",
    id_column: str | None = None,
    ignore: Sequence[str] = (),
    threshold: float | None = None,
) -> Answers:
    """Read a `.csv`, `.csv.gz` or `.parquet` file in the wide form.

    Parameters
    ----------
    path : Path
    prompt_column, benchmark_column : str
    id_column : str, optional
        By default `prompt_id`; where there is no such column, a question is named after its row, from "1".
    ignore : sequence of str
        Other columns that are not models: names, or patterns such as `*|notes`.
    threshold : float, optional
        Scores from here on count as correct, and those below as incorrect.

    Returns
    -------
    Answers
        Models in the order of the columns, questions in the order of the rows.

    Raises
    ------
    TypeError
        If `ignore` is a single text.
    ValueError
        If a needed column is to be ignored, or the file is damaged, empty or lacks a column, a cell is not a label, a
        prompt, a benchmark, an id or a category is empty, an id occurs twice, or a split is unknown: names file, row
        and value.
    """
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a list of names, got the text {ignore!r}: pass [{ignore!r}]")
    if threshold is not None and not np.isfinite(threshold):
        raise ValueError(f"threshold must be a number, got {threshold}")
    # A column may be prompt and id at once.
    known = list(dict.fromkeys(name for name in (prompt_column, benchmark_column, id_column) if name is not None))
    options = {prompt_column: "--prompt", benchmark_column: "--benchmark", id_column: "--id"}
    header = read_header(path, known, {name: option for name, option in options.items() if name is not None})
    ignored = _matching(header, ignore, path)
    if needed := [name for name in known if name in ignored]:
        raise ValueError(f"column {needed[0]!r} is needed: do not ignore it, or name another column in its place")
    if id_column is None and _DEFAULT_ID in header and _DEFAULT_ID not in ignored:
        id_column = _DEFAULT_ID
        known = list(dict.fromkeys([*known, id_column]))
    unnamed = [column for column in header if not column or column.startswith("Unnamed:")]
    facts = [column for column in _FACTS if column in header and column not in (*known, *ignored)]
    names = [column for column in header if column not in (*known, *facts, *ignored, *unnamed)]
    costs, replies = _of_models(names, COST), _of_models(names, _REPLY)
    models = [name for name in names if name not in costs.values() and name not in replies.values()]
    if not models:
        raise ValueError(f"{path} has no column of a model; it has {header}: add a column of 1 and 0 for each model")

    texts, cells = [pd.DataFrame(columns=known + facts, dtype=str)], [np.empty((0, len(models)), dtype=np.int8)]
    paid = [np.empty((0, len(models)), dtype=np.float32)]
    for rows in read_rows(path, [*known, *facts, *models, *costs.values()]):
        texts.append(rows.columns.select(known + facts).to_pandas())
        cells.append(np.column_stack([_labels(rows, model, path, threshold) for model in models]))
        if costs:
            unknown = np.full(len(rows.columns), np.nan)
            columns = [read_costs(rows, costs[model], path) if model in costs else unknown for model in models]
            paid.append(np.column_stack(columns).astype(np.float32))
    table = pd.concat(texts, ignore_index=True)
    if table.empty:
        raise ValueError(f"{path} has no row below its header: add one for each question")
    for column in [*known, *({"category"} & {*facts})]:
        if (empty := table[column].str.strip() == "").any():
            raise ValueError(f"{path}, row {empty.argmax() + 1}: the {column} is empty: fill it in, or remove the row")
    if "split" in facts:
        _check_split(table["split"], path)
    if id_column is None:
        ids = [str(row + 1) for row in range(len(table))]
    else:
        ids = table[id_column].tolist()
        if (repeated := table[id_column].duplicated()).any():
            row = int(repeated.argmax())
            raise ValueError(
                f"{path}, row {row + 1}: {id_column} {ids[row]!r} stands in row {ids.index(ids[row]) + 1} already: "
                f"give each question an id of its own"
            )
    prompts = table[prompt_column].map(_joined if replies else str)
    questions = pd.DataFrame({"benchmark": table[benchmark_column], "prompt": prompts, **table[facts]}).set_axis(ids)
    labels = pd.DataFrame(np.concatenate(cells).T, index=models, columns=ids)
    report = [
        Line("columns of replies", len(replies), "ignored"),
        Line("prompts that are lists as text", int((prompts != table[prompt_column]).sum()), "their parts are joined"),
    ]
    account = {"fields read": labels.size, "empty": int((labels == NOT_OBSERVED).to_numpy().sum())}
    spent = pd.DataFrame(np.concatenate(paid).T, models, ids).where(labels != NOT_OBSERVED) if costs else None
    return Answers(labels, questions, report, account, costs=spent)


def _matching(header: list[str], ignore: Sequence[str], path: Path) -> set[str]:
    ignored: set[str] = set()
    for pattern in ignore:
        found = [pattern] if pattern in header else [name for name in header if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(f"{path} has no column {pattern!r}; it has {header}: correct the name to ignore")
        ignored.update(found)
    return ignored


def _check_split(parts: pd.Series, path: Path) -> None:
    remedy = "correct it, or ignore the column, and divide the questions at random (ignore=['split'], --ignore split)"
    if (unknown := ~parts.isin(SPLITS)).any():
        row = int(unknown.argmax())
        raise ValueError(f"{path}, row {row + 1}: split {parts[row]!r} is none of {', '.join(SPLITS)}: {remedy}")
    if missing := [part for part in SPLITS if part not in set(parts)]:
        raise ValueError(f"{path}: no row has the split {missing[0]!r}: {remedy}")


def _of_models(names: list[str], ending: str) -> dict[str, str]:
    """The columns of another kind, by the model that they belong to."""
    return {
        name.removesuffix(ending): name for name in names if name.endswith(ending) and name[: -len(ending)] in names
    }


def _joined(prompt: str) -> str:
    """The text that a list of texts stands for; any other prompt as it is."""
    parts = list_in(prompt) if prompt.startswith("[") and prompt.endswith("]") else None
    return "\n".join(parts) if parts and all(isinstance(part, str) for part in parts) else prompt


def _labels(rows: Rows, model: str, path: Path, threshold: float | None) -> np.ndarray:
    cells = pc.utf8_lower(pc.utf8_trim_whitespace(rows.columns[model]))
    spellings: Mapping[str, int] = (
        _CELLS if threshold is None else {"true": CORRECT, "false": INCORRECT, "": NOT_OBSERVED}
    )
    found = pc.index_in(cells, pa.array(list(spellings)))
    labels = np.array([*spellings.values(), NOT_OBSERVED], dtype=np.int8)[found.fill_null(len(spellings)).to_numpy()]
    unknown = found.is_null().to_numpy()
    if threshold is not None and unknown.any():
        scores = pd.to_numeric(cells.to_pandas(), errors="coerce").to_numpy(dtype=float)
        labels[unknown] = np.where(scores >= threshold, CORRECT, INCORRECT)[unknown]
        unknown &= ~np.isfinite(scores)
    if unknown.any():
        row = int(unknown.argmax())
        text = rows.columns[model][row].as_py()
        raise ValueError(
            f"{path}, row {rows.first + row}: {text!r} in column {model!r} {_remedy(text, model, threshold)}"
        )
    return labels


def _remedy(text: str, model: str, threshold: float | None) -> str:
    if text.strip().lower() in _UNOBSERVED:
        return "is not a label: leave the cell empty if the answer was not observed (pandas: to_csv(..., na_rep=''))"
    remedy = (
        f"leave it empty if the answer was not observed, or, if the column is not a model, ignore it "
        f"(ignore=[{model!r}], --ignore)"
    )
    if threshold is not None:
        return f"is not a number: correct it, {remedy}"
    with suppress(ValueError):
        float(text)
        remedy = f"name the score from which on an answer is correct (threshold=..., --threshold), {remedy}"
    return f"is not a label: use 1/0 or true/false, {remedy}"
