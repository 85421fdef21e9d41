"""Calibration: of the answers with a predicted probability of 70 %, are 70 % correct?

References
----------
*Obtaining Well Calibrated Probabilities Using Bayesian Binning*, AAAI 2015: the expected calibration error.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from embedllm._support.checks import check_positive
from embedllm.matrix import CORRECT
from embedllm.protocol.runs import Run


def reliability(runs: Iterable[Run], n_bins: int = 10) -> pd.DataFrame:
    """Compare predicted probabilities with observed frequencies on the test questions, in bins of equal width.

    Parameters
    ----------
    runs : iterable of Run
        The observed entries of their test parts are counted.
    n_bins : int
        A probability on an edge belongs to the bin above it, 1 to the last.

    Returns
    -------
    DataFrame
        One row for each run, predictor and bin with an observed entry. Columns: `data` (the source of the matrix),
        `seed`, `predictor`, `bin` (from 0), `predicted` (mean probability), `observed` (share of correct answers),
        `n_observed` (entries).
    """
    check_positive("n_bins", n_bins)
    frames = []
    for run in runs:
        test = run.split.test
        correct = (test.labels == CORRECT)[test.observed].astype(float)
        for name, predicted in run.probabilities.items():
            probability = predicted[test.observed].astype(float)
            entries = pd.DataFrame({"predicted": probability, "observed": correct, "n_observed": 1})
            bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
            of_bin = entries.groupby(bins).agg({"predicted": "mean", "observed": "mean", "n_observed": "sum"})
            frames.append(
                of_bin.rename_axis("bin").reset_index().assign(data=test.source, seed=run.seed, predictor=name)
            )
    columns = ["data", "seed", "predictor", "bin", "predicted", "observed", "n_observed"]
    return pd.concat(frames, ignore_index=True)[columns]


def calibration_errors(bins: pd.DataFrame) -> pd.DataFrame:
    """Return the expected calibration error: the mean distance of prediction and frequency, weighted by the answers.

    Parameters
    ----------
    bins : DataFrame
        From `reliability`.

    Returns
    -------
    DataFrame of shape (n_seeds, n_predictors)
        Each error as a share, from 0 to 1.
    """
    distance = (bins["predicted"] - bins["observed"]).abs() * bins["n_observed"]
    keys = [bins["seed"], bins["predictor"]]
    errors = distance.groupby(keys, sort=False).sum() / bins["n_observed"].groupby(keys, sort=False).sum()
    return errors.unstack("predictor")


def pool_runs(bins: pd.DataFrame) -> pd.DataFrame:
    """Put the answers of all runs into the same bins.

    Parameters
    ----------
    bins : DataFrame
        From `reliability`.

    Returns
    -------
    DataFrame
        The columns of `reliability` without `seed`, and `share`: that of the answers in the bin, from 0 to 1.
    """
    means, keys = ["predicted", "observed"], ["data", "predictor", "bin"]
    in_order = pd.Categorical(bins["predictor"], pd.unique(bins["predictor"]))
    sums = bins.assign(predictor=in_order, **bins[means].mul(bins["n_observed"], axis=0))
    pooled = sums.groupby(keys, observed=True)[[*means, "n_observed"]].sum()
    pooled[means] = pooled[means].div(pooled["n_observed"], axis=0)
    pooled["share"] = pooled["n_observed"] / pooled.groupby("predictor", observed=True)["n_observed"].transform("sum")
    return pooled.reset_index().astype({"predictor": object})
