"""The values that pages quote: shown, glued for the prose, and written for the regression check.

A notebook ends with ``report(reported_values, source)``. Run by the book, it also writes them to a small JSON, from
which the summary page and :mod:`embedllm.book.regression` read; run by hand, it writes nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm._support.files import replacing
from embedllm._support.whole_texts import WholeTexts
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.tally import Tally

_NOTHING = 1e-9  # what rounding of the computer leaves of zero

TARGET = "EMBEDLLM_REPORTED"
"""Environment variable that names the file to write."""


@dataclass(frozen=True)
class ReportedValue:
    """A value that a page quotes: the mean over its runs.

    Parameters
    ----------
    key : str
        Identifier, unique on its page.
    what : str
        What it is, in words.
    runs : sequence of float
        Its value in each run; one value if it depends on no seed. NaN is *undefined*.
    unit : str
        Such as "%" or "points".
    interval : (low, high), optional
        95 % interval of the mean, of whatever is uncertain about it beside the seed.
    count : bool
        Whether it is a count, which the regression check compares exactly.
    reason : str
        Why the data set cannot give it, if it is undefined.

    Raises
    ------
    ValueError
        If the key is not an identifier, or there is no value.
    """

    key: str
    what: str
    runs: Sequence[float]
    unit: str = ""
    interval: tuple[float, float] | None = None
    count: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.key.isidentifier():
            raise ValueError(f"the key of a reported value must be letters, digits and underscores, got {self.key!r}")
        if not len(self.runs):
            raise ValueError(f"reported value {self.key} has no value")
        object.__setattr__(self, "runs", [float(value) for value in self.runs])  # as it is read back
        if self.interval:
            object.__setattr__(self, "interval", (float(self.interval[0]), float(self.interval[1])))

    @property
    def value(self) -> float:
        """Mean over the runs."""
        return float(np.mean(self.runs))

    @property
    def seed_stderr(self) -> float:
        """Standard error of the mean over the runs; 0 for a single one."""
        return float(np.std(self.runs, ddof=1) / math.sqrt(len(self.runs))) if len(self.runs) > 1 else 0.0

    @property
    def shown(self) -> str:
        """The value with its unit, or that it is not testable and why."""
        if math.isnan(self.value):
            return "not testable on this data set" + (f": {self.reason}" if self.reason else "")
        return f"{self._text(self.value)} {self.unit}".rstrip()

    @property
    def ends(self) -> str:
        """The ends of the interval; empty if there is none."""
        if self.interval is None or any(map(math.isnan, self.interval)):
            return ""
        return " to ".join(map(self._text, self.interval))

    def _text(self, value: float) -> str:
        """Write a number with as many decimals as its interval allows, a difference with its sign."""
        low, high = self.interval or (math.nan, math.nan)
        if not high > low:
            return format_number(value)
        decimals = max(0, 1 - math.floor(math.log10(high - low)))  # two digits of the width
        while abs(value) > _NOTHING and not round(value, decimals):
            decimals += 1  # on which side of zero an end lies is not rounded away
        sign = "+" if self.unit == "points" else ""
        return f"{round(value, decimals) + 0.0:{sign},.{decimals}f}"  # + 0.0: zero has no minus


def report(reported_values: Iterable[ReportedValue], source: str = "") -> pd.DataFrame:
    """Show the values of a page, glue them for its prose and, where the book asks for it, write them.

    They are glued as `quoted` names them.

    Parameters
    ----------
    reported_values : iterable of ReportedValue
    source : str
        `matrix.source`: what the data are. Empty on a page that reads no data set of the build.

    Returns
    -------
    DataFrame
        Columns `number`, `value`, `95 % interval`, `seed s.e.`, `seeds`, as text to be shown. The last two are empty
        for a value that is computed once, also where it is of all seeds together.

    Raises
    ------
    ValueError
        If a key occurs twice.
    """
    from myst_nb import glue  # of the book, which the package alone does not need

    reported_values = list(reported_values)
    keys = [reported.key for reported in reported_values]
    if duplicated := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(
            f"reported values need different keys, but {sorted(duplicated)} occur twice: rename one of each"
        )
    for key, value in quoted(reported_values).items():
        glue(key, value, display=False)
    if target := os.environ.get(TARGET):
        content = {"source": source, "reported_values": [asdict(reported) for reported in reported_values]}
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return WholeTexts([_row(reported) for reported in reported_values]).set_index("number")


def quoted(reported_values: Iterable[ReportedValue]) -> dict[str, str | float]:
    """Return what prose may quote of some values.

    Returns
    -------
    dict
        The value under its key, the ends of its interval under ``<key>_low`` and ``<key>_high``, and under
        ``<key>_words`` the value with its unit and interval, or why the data set does not give it.

    Examples
    --------
    >>> quoted([ReportedValue("mf", "accuracy of MF", [72.0], "%", (70.5, 73.25))])
    {'mf': 72.0, 'mf_words': '72.0 % (70.5 to 73.2)', 'mf_low': 70.5, 'mf_high': 73.25}
    """
    found: dict[str, str | float] = {}
    for reported in reported_values:
        words = reported.shown + (f" ({reported.ends})" if reported.ends else "")
        found |= {reported.key: reported.value, f"{reported.key}_words": words}
        if reported.interval:
            found |= {f"{reported.key}_low": reported.interval[0], f"{reported.key}_high": reported.interval[1]}
    return found


def read_reported(path: Path) -> tuple[str, dict[str, ReportedValue]]:
    """Read what `report` wrote.

    Returns
    -------
    source : str
        Empty if the page reads no data set of the build.
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
        return content["source"], {entry["key"]: ReportedValue(**entry) for entry in content["reported_values"]}
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is no file of reported values: build the book again ({error!r})") from error


def _row(reported: ReportedValue) -> dict[str, str]:
    many = len(reported.runs) > 1
    return {
        "number": reported.what,
        "value": reported.shown,
        "95 % interval": reported.ends,
        "seed s.e.": format_number(reported.seed_stderr) if many else "",
        "seeds": str(len(reported.runs)) if many else "",
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
        Of the reported value.
    method : str or tuple
        The levels of its columns in the tally.
    minus : str or tuple, optional
        The method whose accuracy is subtracted.
    """

    key: str
    what: str
    method: str | tuple[str, int]
    minus: str | tuple[str, int] | None = None


def accuracy_values(tally: Tally, wanted: Iterable[Wanted]) -> list[ReportedValue]:
    """Return overall accuracies (%) and differences (points), with a value for each run and 95 % intervals."""
    samples, runs = tally.resampled(), tally.by_seed()["accuracy"]
    found = []
    for key, what, method, minus in wanted:
        resampled, values = samples[method], runs[method]
        if minus is not None:
            resampled, values = resampled - samples[minus], values - runs[minus]
        unit = "%" if minus is None else "points"
        found.append(ReportedValue(key, what, (100 * values).tolist(), unit, interval(100 * resampled)))
    return found
