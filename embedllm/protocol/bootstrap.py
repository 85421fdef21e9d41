"""Uncertainty of a mean over questions, by resampling the questions.

The answers of different models to one question are correlated, so questions are the unit, or groups of questions of the
same text: a resample takes a unit with all its answers, of every model, method and run, or leaves it out. Methods are
resampled together, which makes the interval of a difference the paired one. Few units say little about their spread, so
that there is no interval from fewer than `MIN_QUESTIONS` of them, or `MIN_MODELS` where models are the units.

References
----------
*Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics 7 (1979); the intervals are percentiles.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from embedllm._support.checks import check_positive

MIN_QUESTIONS, MIN_MODELS = 30, 5

_BLOCK = 256  # resamples drawn at a time


def bootstrap_ratios(
    sums: pd.DataFrame,
    counts: pd.DataFrame,
    n_resamples: int = 2000,
    random_state: int = 0,
    min_units: int = MIN_QUESTIONS,
) -> pd.DataFrame:
    """Resample units and take, for each column, the ratio of its sum to its count.

    Parameters
    ----------
    sums, counts : DataFrame of shape (n_units, n_columns)
        What each unit, such as a question, adds to the numerator and the denominator. Rows of one index label are one
        unit and are added up first.
    n_resamples : int
    random_state : int
    min_units : int

    Returns
    -------
    DataFrame of shape (n_resamples, n_columns)
        NaN in a column that fewer than `min_units` units count in, and where a resample has no count. The columns of
        one row come from the same resample.

    Raises
    ------
    ValueError
        If the frames do not have the same rows and columns.
    """
    if not (sums.index.equals(counts.index) and sums.columns.equals(counts.columns)):
        raise ValueError("sums and counts must have the same rows and columns")
    sums, counts = (frame.groupby(level=0, sort=False).sum() for frame in (sums, counts))
    both = np.hstack([sums.to_numpy(float), counts.to_numpy(float)])  # (n_units, 2 * n_columns)
    totals = np.vstack([times @ both for times in resample_units(len(sums), n_resamples, random_state)])
    top, bottom = np.hsplit(totals, 2)
    enough = (counts > 0).sum().to_numpy() >= min_units
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(np.where(enough & (bottom > 0), top / bottom, np.nan), columns=sums.columns)


def resample_units(n_units: int, n_resamples: int = 2000, random_state: int = 0) -> Iterator[np.ndarray]:
    """Draw as many units as there are, with replacement; yield how often each is drawn, blocks (n_block, n_units)."""
    rng = np.random.default_rng(random_state)
    for start in range(0, check_positive("n_resamples", n_resamples), _BLOCK):
        size = min(_BLOCK, n_resamples - start)
        drawn = rng.integers(0, n_units, (size, n_units)) + n_units * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=n_units * size).reshape(size, n_units)


def interval(samples: pd.Series | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values; NaN if they are not numbers, or all the same."""
    values = np.asarray(samples, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values) or np.ptp(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
