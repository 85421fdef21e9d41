"""The numbers that pages quote: shown, glued for the prose, and written for the regression check.

A notebook ends with ``report(reported_values, source)``. Run by the book, it also writes them to a small JSON, from
which the summary page and :mod:`embedllm.book.regression` read; run by hand, it writes nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from embedllm._files import replacing
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.tally import Tally

TARGET = "EMBEDLLM_REPORTED"
"""Environment variable that names the file to write."""


@dataclass(frozen=True)
class ReportedValue:
    """A number that a page quotes: the mean over its repetitions.

    Parameters
    ----------
    key : str
        Identifier, unique on its page.
    what : str
        What it is, in words.
    runs : sequence of float
        Its value in each repetition; one value for a number that no seed moves. NaN is *undefined*.
    unit : str
        Such as "%" or "points".
    interval : (low, high), optional
        95 % interval of the mean, of whatever is uncertain about it beside the seed.
    count : bool
        Whether it is a count, which the regression check compares exactly.

    Raises
    ------
    ValueError
        If the key is no identifier, or there is no value.
    """

    key: str
    what: str
    runs: Sequence[float]
    unit: str = ""
    interval: tuple[float, float] | None = None
    count: bool = False

    def __post_init__(self) -> None:
        if not self.key.isidentifier():
            raise ValueError(
                f"the key of a reported value must be of letters, digits and underscores, got {self.key!r}"
            )
        if not len(self.runs):
            raise ValueError(f"reported value {self.key} has no value")
        object.__setattr__(self, "runs", [float(value) for value in self.runs])  # of a Series, too

    @property
    def value(self) -> float:
        """Mean over the repetitions."""
        return float(np.mean(np.asarray(self.runs, dtype=float)))

    @property
    def seed_stderr(self) -> float:
        """Standard error of the mean over the repetitions; 0 for a single one."""
        runs = np.asarray(self.runs, dtype=float)
        return float(runs.std(ddof=1) / math.sqrt(len(runs))) if len(runs) > 1 else 0.0


def report(reported_values: Iterable[ReportedValue], source: str) -> pd.DataFrame:
    """Show the numbers of a page, glue them for its prose and, where the book asks for it, write them.

    Each is glued as a float under its key, its interval under ``<key>_low`` and ``<key>_high``.

    Parameters
    ----------
    reported_values : iterable of ReportedValue
    source : str
        `matrix.source`: what the data are.

    Returns
    -------
    DataFrame
        Columns `number`, `value`, `95 % interval`, `seed s.e.`, `seeds`, as text to be shown.

    Raises
    ------
    ValueError
        If a key occurs twice.
    """
    from myst_nb import glue  # of the book, which the package alone does not need

    reported_values = list(reported_values)
    keys = [reported.key for reported in reported_values]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"reported values need different keys, but {sorted(repeated)} repeat")
    for reported in reported_values:
        glue(reported.key, reported.value, display=False)
        if reported.interval:
            for end, value in zip(("low", "high"), reported.interval, strict=True):
                glue(f"{reported.key}_{end}", float(value), display=False)
    if target := os.environ.get(TARGET):
        content = {
            "source": source,
            "reported_values": {reported.key: _plain(reported) for reported in reported_values},
        }
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return pd.DataFrame([_row(reported) for reported in reported_values]).set_index("number")


def read_reported(path: Path) -> tuple[str, dict[str, ReportedValue]]:
    """Read what `publish` wrote.

    Returns
    -------
    source : str
    reported_values : dict of key to ReportedValue

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a file of reported values.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        reported_values = {
            key: ReportedValue(
                key,
                entry["what"],
                [_number(value) for value in entry["runs"]],
                entry["unit"],
                (_number(entry["interval"][0]), _number(entry["interval"][1])) if entry["interval"] else None,
            )
            for key, entry in content["reported_values"].items()
        }
        return content["source"], reported_values
    except (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no file of reported values: build the book again ({error!r})") from error


def _plain(reported: ReportedValue) -> dict[str, Any]:
    """JSON has no NaN: undefined is null."""

    def plain(values: Iterable[float]) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in values]

    return {
        "what": reported.what,
        "unit": reported.unit,
        "runs": plain(reported.runs),
        "interval": plain(reported.interval) if reported.interval else None,
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _row(reported: ReportedValue) -> dict[str, str]:
    unit = f" {reported.unit}" if reported.unit else ""
    low_high = "" if reported.interval is None else " to ".join(format_number(end) for end in reported.interval)
    many = len(reported.runs) > 1
    return {
        "number": reported.what,
        "value": "undefined" if math.isnan(reported.value) else format_number(reported.value) + unit,
        "95 % interval": low_high,
        "seed s.e.": format_number(reported.seed_stderr) if many else "",
        "seeds": str(len(reported.runs)),
    }


def format_number(value: float) -> str:
    """Write a number with four digits, or all of a larger whole part."""
    if math.isnan(value):
        return "undefined"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Wanted(NamedTuple):
    """An accuracy that a page quotes, or a difference of two.

    Attributes
    ----------
    key, what : str
        Of the reported.
    method : str
    minus : str, optional
        The method whose accuracy is subtracted.
    """

    key: str
    what: str
    method: str
    minus: str | None = None


def accuracy_values(tally: Tally, wanted: Iterable[Wanted]) -> list[ReportedValue]:
    """Overall accuracies (%), and differences (points), with a value for each repetition and 95 % intervals."""
    samples, runs = tally.resampled(), tally.by_seed()["accuracy"]
    found = []
    for key, what, method, minus in wanted:
        resampled, values = samples[method], runs[method]
        if minus is not None:
            resampled, values = resampled - samples[minus], values - runs[minus]
        unit = "%" if minus is None else "points"
        found.append(ReportedValue(key, what, (100 * values).tolist(), unit, interval(100 * resampled)))
    return found
