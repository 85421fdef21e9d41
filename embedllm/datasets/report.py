"""What readers report: what was read, what became of it, and what they chose. The counts add up."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

_MOST_NAMES = 20


class Line(NamedTuple):
    """A line of a report.

    Attributes
    ----------
    what : str
        What was found.
    number : int
        How often; a line with zero is not shown.
    rule : str
        What became of it.
    is_choice : bool
        Whether the reader chose between things in the data that exclude each other, such as two labels of an answer,
        two runs or two texts of a question. Leaving out questions without an answer, or rows without a label, is none.
    """

    what: str
    number: int
    rule: str
    is_choice: bool = False


def account_line(n_cells: int, account: dict[str, int]) -> Line:
    """Return the last line of a report, in which all that was read is a cell or has a reason why not.

    Parameters
    ----------
    n_cells : int
        Observed cells of the matrix.
    account : mapping from text to a count
        First what was read, then what became no cell.

    Raises
    ------
    ValueError
        If the counts do not add up.

    Examples
    --------
    >>> from embedllm.datasets.report import account_line
    >>> account_line(400_000, {"rows read": 408_004, "duplicates": 8_004, "empty": 0}).rule
    '= 400,000 cells + 8,004 duplicates'
    """
    (what, n_read), *others = account.items()
    parts = {"cells": n_cells, **{reason: count for reason, count in others if count}}
    sums = " + ".join(f"{count:,} {reason}" for reason, count in parts.items())
    if sum(parts.values()) != n_read:
        raise ValueError(f"{n_read:,} {what} are not {sums}: this is a fault of the reader, so report it as a bug")
    return Line(what, n_read, f"= {sums}")


def refuse_choices(lines: Iterable[Line]) -> None:
    """Check that a reader chose nothing.

    Raises
    ------
    ValueError
        If it did; the message lists what.
    """
    if chosen := [f"{line.number:,} {line.what} ({line.rule})" for line in lines if line.is_choice and line.number]:
        raise ValueError(f"strict: {'; '.join(chosen)}: correct the data, or import them without strict (--strict)")


def warn_of_threshold(threshold: float | None, highest: Mapping[str, float]) -> None:
    """Warn where a threshold is above all scores of a model, as if it were on another scale.

    Parameters
    ----------
    threshold : float, optional
    highest : mapping from model to its highest score
        A model whose highest score is 0 or unknown (NaN) has no correct answer on any scale, and gives no warning.

    Warns
    -----
    UserWarning
        Names models, threshold and scores.
    """
    below = [f"{model} (highest {score:g})" for model, score in highest.items() if 0 < score < (threshold or 0)]
    if below:
        warnings.warn(
            f"threshold {threshold:g} is above all scores of {len(below):,} of {len(highest):,} models, so that each "
            f"of their answers is incorrect: {listed(below)}; is it on the scale of the scores (threshold=..., "
            f"--threshold)?",
            stacklevel=3,
        )


def listed(names: Collection[str]) -> str:
    """Return names in one line, the first twenty of them; what a terminal could not show is escaped.

    Examples
    --------
    >>> from embedllm.datasets.report import listed
    >>> listed(["a.txt", "two\\nlines"])
    "a.txt, 'two\\\\nlines'"
    """
    shown = [name if name.isprintable() else repr(name) for name in sorted(names)]
    more = f" and {len(shown) - _MOST_NAMES:,} more" if len(shown) > _MOST_NAMES else ""
    return ", ".join(shown[:_MOST_NAMES]) + more
