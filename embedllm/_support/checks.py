"""Checks of values that users pass, with an error that names the value."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import pandas as pd

_CHECKED = 1 << 25  # numbers looked at a time


def printable(value: object) -> str:
    r"""Return a text on one line, its control and formatting characters escaped: in data, they are not commands.

    >>> printable("one\nline \x1b[31mred")
    'one\\nline \\x1b[31mred'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(value))


def check_positive(name: str, value: object) -> int:
    """Return a count.

    Raises
    ------
    ValueError
        If it is not a positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return int(value)


def check_option(name: str, value: object, options: Any) -> None:
    """Check that a value is one of those of a `Literal`.

    Raises
    ------
    ValueError
        If it is not; the message lists them.
    """
    if value not in get_args(options):
        raise ValueError(f"{name} must be one of {list(get_args(options))}, got {value!r}")


def check_seed(value: object) -> int:
    """Return a seed that NumPy and PyTorch both accept.

    Raises
    ------
    ValueError
        If it is not a whole number from 0 to 2**63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= int(value) < 2**63:
        raise ValueError(f"the seed (random_state) must be a whole number from 0 to 2**63 - 1, got {value!r}")
    return int(value)


def check_device(value: object) -> str:
    """Return "cpu" or "cuda"; "auto" is a GPU if there is one.

    Raises
    ------
    ValueError
        If it is none of these three, or "cuda" on a machine without a usable GPU.
    """
    if value not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {value!r}")
    if value == "cpu":
        return "cpu"
    import torch  # takes seconds, which readers of this module's other checks should not wait

    if torch.cuda.is_available():
        return "cuda"
    if value == "cuda":
        raise ValueError("device 'cuda' was asked for, but this machine has no usable GPU: use 'auto' or 'cpu'")
    return "cpu"


def name_positions(what: str, wanted: Iterable[str], known: Iterable[str]) -> np.ndarray:
    """Position of each wanted name among the known ones.

    Raises
    ------
    KeyError
        If a name is unknown; the message lists the known ones (the first 20).
    """
    names = pd.Index([str(name) for name in wanted], dtype=object)
    index = pd.Index(known, dtype=object)
    positions = index.get_indexer(names)
    if (positions < 0).any():
        some = ", ".join(map(str, index[:20])) + (", ..." if len(index) > 20 else "")
        raise KeyError(f"unknown {what} {names[positions < 0][0]!r}; known: {some}")
    return positions


def axis_positions(what: str, wanted: Iterable[str] | np.ndarray | None, known: pd.Index) -> np.ndarray:
    """Position of each name, or of each True in a mask, along an axis; all positions for None.

    Raises
    ------
    TypeError
        If a single name is given instead of a list.
    KeyError
        If a name is unknown.
    ValueError
        If a name is given twice, or a mask has another length than the axis.
    """
    if wanted is None:
        return np.arange(len(known))
    if isinstance(wanted, str):
        raise TypeError(f"{what}s must be a list of names, got the text {wanted!r}: pass [{wanted!r}]")
    keys = np.asarray(list(wanted))
    if keys.dtype == bool:
        if keys.shape != (len(known),):
            raise ValueError(f"a mask of {what}s must have {len(known)} entries, got {keys.size}")
        return np.flatnonzero(keys)
    text_index(what, keys)
    return name_positions(what, keys, known)


def text_index(what: str, names: Iterable[object]) -> pd.Index:
    """Return names as text.

    Raises
    ------
    ValueError
        If a name is blank, or occurs twice.
    """
    index = pd.Index([str(name) for name in names], dtype=object)
    if blank := [name for name in index if not name.strip()]:
        raise ValueError(f"the name of a {what} is blank ({blank[0]!r}): give it one")
    if not index.is_unique:
        raise ValueError(f"{what} {index[index.duplicated()][0]!r} occurs more than once: names must be unique")
    return index


def check_names(what: str, found: pd.Index, expected: pd.Index) -> None:
    """Check that labels have the names that they should have, in any order.

    Raises
    ------
    ValueError
        If a name is missing on one side.
    """
    for names, where in ((found.difference(expected), "labels only"), (expected.difference(found), f"{what}s only")):
        if len(names):
            raise ValueError(f"{len(names)} {what}(s) occur in {where}, the first {str(names[0])!r}: names must match")


def unusable_row(vectors: np.ndarray) -> tuple[int, str] | None:
    """Return the first row that is not an embedding, and why; looks at some rows at a time, to bound the memory."""
    step = max(1, _CHECKED // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        for bad, why in ((~np.isfinite(part).all(axis=1), "not finite"), (~part.any(axis=1), "all zeros")):
            if bad.any():
                return start + int(bad.argmax()), why
    return None


def copied(embeddings: object) -> np.ndarray:
    """Return a copy of embeddings as float32, row by row in memory, of whatever NumPy makes an array of.

    Raises
    ------
    ValueError
        If it makes none of numbers.
    """
    try:
        return np.asarray(embeddings).astype(np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"embeddings must be an array or a frame of numbers, (n_questions, width), such as matrix.embeddings, not "
            f"{type(embeddings).__name__}: {error}"
        ) from error


def check_embeddings(embeddings: np.ndarray, ids: pd.Index) -> np.ndarray:
    """Return embeddings as float32, a row for each id; those that are float32 and read-only are not copied.

    Raises
    ------
    ValueError
        If they are not numbers, there are more or fewer rows, or one is not finite or all zeros.
    """
    vectors = np.asarray(embeddings)
    if vectors.dtype != np.float32 or vectors.flags.writeable or min(vectors.strides, default=0) < 0:
        vectors = copied(embeddings)
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise ValueError(f"embeddings has shape {vectors.shape}; expected one row for each of {len(ids)} questions")
    if bad := unusable_row(vectors):
        raise ValueError(f"the embedding of question {ids[bad[0]]!r} (row {bad[0]}) is {bad[1]}")
    return vectors


def check_costs(costs: pd.DataFrame | None, models: pd.Index, questions: pd.Index) -> np.ndarray | None:
    """Return costs as float32 in the order of some models and questions, NaN where unknown.

    Raises
    ------
    ValueError
        If a name is missing on one side, or a cost is negative or infinite.
    """
    if costs is None:
        return None
    costs = costs.set_axis(text_index("model", costs.index), axis=0)
    costs = costs.set_axis(text_index("question", costs.columns), axis=1)
    check_names("model", costs.index, models)
    check_names("question", costs.columns, questions)
    values = costs.reindex(index=models, columns=questions).to_numpy(dtype=np.float32, copy=True)
    if (bad := (values < 0) | np.isinf(values)).any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"cost {values[row, column]} of model {models[row]!r} on question {questions[column]!r}: "
            f"use a number of at least 0, or leave it out if it is unknown"
        )
    return values
