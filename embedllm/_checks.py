"""Checks of values that users pass, with an error that names the value."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import pandas as pd

_CHECKED = 65_536  # embeddings looked at a time


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
        If a name occurs twice.
    """
    index = pd.Index([str(name) for name in names], dtype=object)
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
    """Return the first row that is no embedding, and why; looks at some rows at a time, to bound the memory."""
    for start in range(0, len(vectors), _CHECKED):
        part = vectors[start : start + _CHECKED]
        for bad, why in ((~np.isfinite(part).all(axis=1), "not finite"), (~part.any(axis=1), "all zeros")):
            if bad.any():
                return start + int(bad.argmax()), why
    return None
