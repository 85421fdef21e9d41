"""What a question costs with each model: a table of prices.

A price is what one question costs on average, in any unit. A price that is not known is never taken as free: it is an
error, or a default that the caller names.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embedllm.datasets.formats._tables import read_table


def read_prices(path: Path) -> dict[str, float]:
    """Read a table with the columns `model` and `price`; where the price is empty, it is not known.

    Parameters
    ----------
    path : Path
        `.csv`, `.csv.gz` or `.parquet`.

    Returns
    -------
    dict of str to float

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the table is damaged or lacks a column, a model occurs twice, or a price is not a number of at least 0: names
        file, row and value.
    """
    prices: dict[str, float] = {}
    for row, (model, text) in enumerate(read_table(path, ["model", "price"])[["model", "price"]].to_numpy(), start=1):
        if not text.strip():
            continue
        if model in prices:
            raise ValueError(f"{path}, row {row}: model {model!r} occurs twice: remove one")
        try:
            prices[model] = _checked(model, float(text))
        except ValueError as error:
            raise ValueError(
                f"{path}, row {row}: {text!r} is not a price: use a number of at least 0, or leave it empty if unknown"
            ) from error
    return prices


def complete_prices(
    prices: Mapping[str, float] | pd.Series, models: Iterable[str], default: float | None = None
) -> pd.Series:
    """Return the price of each model.

    Parameters
    ----------
    prices : mapping of str to float, or Series
        Model to price; None and NaN are not known. Further models are ignored.
    models : iterable of str
    default : float, optional
        The price of models of which none is known; without it, these are an error.

    Returns
    -------
    Series of shape (n_models,), float64
        Indexed by model.

    Raises
    ------
    ValueError
        If a price is not known, or is not a number of at least 0.

    Examples
    --------
    >>> from embedllm.datasets.prices import complete_prices
    >>> complete_prices({"large": 4.0, "small": 0.5}, ["small", "new"], default=2.0).to_dict()
    {'small': 0.5, 'new': 2.0}
    """
    found = {}
    for model in models:
        price = prices.get(model)
        if price is None or pd.isna(price):
            price = default
        if price is None:
            raise ValueError(
                f"no price of model {model!r} is known: add it to the prices, name a default for such models "
                "(complete_prices(..., default=...), --default-price), or leave it out (models=..., --exclude)"
            )
        found[model] = _checked(model, price)
    return pd.Series(found, dtype=float)


def affordable(prices: pd.Series, max_cost: float | None = None) -> pd.Series:
    """Return the prices that are at most `max_cost`; all of them without a limit.

    Raises
    ------
    ValueError
        If there is none.
    """
    left = prices if max_cost is None else prices[prices <= max_cost]
    if left.empty:
        cheapest = prices.idxmin()
        raise ValueError(
            f"no model costs at most {max_cost:g}; the cheapest, {cheapest!r}, costs {prices[cheapest]:g}: raise "
            "max_cost (--max-cost), or choose among other models"
        )
    return left


def price_penalties(prices: np.ndarray, tradeoff: float) -> np.ndarray:
    """Return what is subtracted from the probability of each model, (n_models,): tradeoff * (price - lowest price).

    Without the lowest price, equally cheap models would lose digits of their probabilities.

    Parameters
    ----------
    prices : ndarray of shape (n_models,)
    tradeoff : float
        The probability that one unit of the price is worth.

    Raises
    ------
    ValueError
        If the tradeoff is negative or not finite.
    """
    if not 0 <= tradeoff < np.inf:
        raise ValueError(f"tradeoff must be a finite number of at least 0, got {tradeoff!r}")
    return tradeoff * (prices - prices.min())


def _checked(model: str, price: Any) -> float:
    if isinstance(price, bool) or not isinstance(price, numbers.Real) or not 0 <= float(price) < np.inf:
        raise ValueError(f"the price of model {model!r} is {price!r}: use a number of at least 0")
    return float(price)
