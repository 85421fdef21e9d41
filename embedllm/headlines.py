"""The numbers that pages quote: shown, glued for the prose, and written for the regression check.

A notebook ends with ``publish(headlines, source)``. Run by the book, it also writes them to a small JSON, from which
the summary page and :mod:`embedllm.regression` read; run by hand, it writes nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embedllm.files import replacing

TARGET = "EMBEDLLM_HEADLINES"
"""Environment variable that names the file to write."""


@dataclass(frozen=True)
class Headline:
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

    def __post_init__(self) -> None:
        if not self.key.isidentifier():
            raise ValueError(f"the key of a headline must be of letters, digits and underscores, got {self.key!r}")
        if not len(self.runs):
            raise ValueError(f"headline {self.key} has no value")

    @property
    def value(self) -> float:
        """Mean over the repetitions."""
        return float(np.mean(np.asarray(self.runs, dtype=float)))

    @property
    def seed_stderr(self) -> float:
        """Standard error of the mean over the repetitions; 0 for a single one."""
        runs = np.asarray(self.runs, dtype=float)
        return float(runs.std(ddof=1) / math.sqrt(len(runs))) if len(runs) > 1 else 0.0


def publish(headlines: Iterable[Headline], source: str) -> pd.DataFrame:
    """Show the numbers of a page, glue them for its prose and, where the book asks for it, write them.

    Each is glued as a float under its key, its interval under ``<key>_low`` and ``<key>_high``.

    Parameters
    ----------
    headlines : iterable of Headline
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

    headlines = list(headlines)
    keys = [headline.key for headline in headlines]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"headlines need different keys, but {sorted(repeated)} repeat")
    for headline in headlines:
        glue(headline.key, headline.value, display=False)
        if headline.interval:
            for end, value in zip(("low", "high"), headline.interval, strict=True):
                glue(f"{headline.key}_{end}", float(value), display=False)
    if target := os.environ.get(TARGET):
        content = {"source": source, "headlines": {headline.key: _plain(headline) for headline in headlines}}
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return pd.DataFrame([_row(headline) for headline in headlines]).set_index("number")


def read_headlines(path: Path) -> tuple[str, dict[str, Headline]]:
    """Read what `publish` wrote.

    Returns
    -------
    source : str
    headlines : dict of key to Headline

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a file of headlines.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        headlines = {
            key: Headline(
                key,
                entry["what"],
                [_number(value) for value in entry["runs"]],
                entry["unit"],
                (_number(entry["interval"][0]), _number(entry["interval"][1])) if entry["interval"] else None,
            )
            for key, entry in content["headlines"].items()
        }
        return content["source"], headlines
    except (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no file of headlines: build the book again ({error!r})") from error


def _plain(headline: Headline) -> dict[str, Any]:
    """JSON has no NaN: undefined is null."""

    def plain(values: Iterable[float]) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in values]

    return {
        "what": headline.what,
        "unit": headline.unit,
        "runs": plain(headline.runs),
        "interval": plain(headline.interval) if headline.interval else None,
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _row(headline: Headline) -> dict[str, str]:
    unit = f" {headline.unit}" if headline.unit else ""
    low_high = "" if headline.interval is None else " to ".join(format_number(end) for end in headline.interval)
    many = len(headline.runs) > 1
    return {
        "number": headline.what,
        "value": "undefined" if math.isnan(headline.value) else format_number(headline.value) + unit,
        "95 % interval": low_high,
        "seed s.e.": format_number(headline.seed_stderr) if many else "",
        "seeds": str(len(headline.runs)),
    }


def format_number(value: float) -> str:
    """Write a number with four digits, or all of a larger whole part."""
    if math.isnan(value):
        return "undefined"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
