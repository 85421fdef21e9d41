"""The wide form: one table with a row for each question and a column for each model.

    prompt_id,benchmark,prompt,model A,model B
    1,history,Who was the first emperor of Rome?,1,0
    2,history,When did Carthage fall?,1,

A cell holds 1 or 0, 1.0 or 0.0, true or false, or nothing if the answer was not observed. Columns without a name, such
as the index that pandas writes, are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from embedllm.datasets.formats._tables import Rows, read_header, read_rows
from embedllm.datasets.formats.answers import LABELS, Answers
from embedllm.matrix import NOT_OBSERVED

_CELLS = {**LABELS, "": NOT_OBSERVED}
_DEFAULT_ID = "prompt_id"


def read_wide(
    path: Path,
    *,
    prompt_column: str = "prompt",
    benchmark_column: str = "benchmark",
    id_column: str | None = None,
    ignore: Sequence[str] = (),
) -> Answers:
    """Read a `.csv`, `.csv.gz` or `.parquet` file in the wide form.

    Parameters
    ----------
    path : Path
    prompt_column, benchmark_column : str
    id_column : str, optional
        By default `prompt_id`; where there is no such column, a question is named after its row, from "1".
    ignore : sequence of str
        Other columns that are no models.

    Returns
    -------
    Answers
        Models in the order of the columns, questions in the order of the rows.

    Raises
    ------
    TypeError
        If `ignore` is a single text.
    ValueError
        If a needed column is to be ignored, or the file is damaged, empty or lacks a column, a cell is no label, a
        prompt, a benchmark or an id is empty, or an id occurs twice: names file, row and value.
    """
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a list of names, got the text {ignore!r}: pass [{ignore!r}]")
    # A column may be prompt and id at once.
    known = list(dict.fromkeys(name for name in (prompt_column, benchmark_column, id_column) if name is not None))
    if needed := [name for name in known if name in ignore]:
        raise ValueError(f"column {needed[0]!r} is needed: name another one for its part, or don't ignore it")
    header = read_header(path, [*known, *ignore])
    if id_column is None and _DEFAULT_ID in header and _DEFAULT_ID not in ignore:
        id_column = _DEFAULT_ID
        known = list(dict.fromkeys([*known, id_column]))
    unnamed = [column for column in header if not column or column.startswith("Unnamed:")]
    models = [column for column in header if column not in (*known, *ignore, *unnamed)]
    if not models:
        raise ValueError(f"{path} has no column of a model; it has {header}: add a column of 1 and 0 for each model")

    texts, cells = [pd.DataFrame(columns=known, dtype=str)], [np.empty((0, len(models)), dtype=np.int8)]
    for rows in read_rows(path, [*known, *models]):
        texts.append(rows.columns.select(known).to_pandas())
        cells.append(np.column_stack([_labels(rows, model, path) for model in models]))
    table = pd.concat(texts, ignore_index=True)
    if table.empty:
        raise ValueError(f"{path} has no row below its header: add one for each question")
    for column in known:
        if (empty := table[column].str.strip() == "").any():
            raise ValueError(f"{path}, row {empty.argmax() + 1}: the {column} is empty: fill it in, or remove the row")
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
    questions = pd.DataFrame(
        {"benchmark": table[benchmark_column].to_numpy(), "prompt": table[prompt_column].to_numpy()}, index=ids
    )
    return Answers(pd.DataFrame(np.concatenate(cells).T, index=models, columns=ids), questions, [])


def _labels(rows: Rows, model: str, path: Path) -> np.ndarray:
    texts, values = pa.array(list(_CELLS)), np.array(list(_CELLS.values()), dtype=np.int8)
    found = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(rows.columns[model])), texts)
    if found.null_count:
        row = int(pc.index(pc.is_null(found), True).as_py())
        raise ValueError(
            f"{path}, row {rows.first + row}: {rows.columns[model][row].as_py()!r} in column {model!r} is neither "
            f"correct nor incorrect: use 1 or 0, leave it empty if the answer was not observed, or, if the column is "
            f"no model, ignore it (ignore=[{model!r}], --ignore)"
        )
    return values[found.to_numpy()]
