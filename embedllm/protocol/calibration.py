"""Calibration: of the answers given a probability of 70 %, are 70 % right?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from embedllm._checks import check_positive
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.protocol.runs import Fitted


def reliability(
    predictors: Mapping[str, CorrectnessPredictor], matrix: CorrectnessMatrix, n_bins: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Compare predicted probabilities with observed frequencies, in bins of equal width.

    Parameters
    ----------
    predictors : mapping from a name to a fitted predictor
    matrix : CorrectnessMatrix
        Its observed cells are counted.
    n_bins : int
        A probability at an edge belongs to the bin above it, 1 to the last.
    seed : int
        Of the repetition.

    Returns
    -------
    DataFrame
        One row for each predictor and each bin with an observed cell. Columns: `data` (the source of the matrix),
        `seed`, `predictor`, `bin` (from 0), `predicted` (mean probability), `observed` (share of right answers),
        `n_observed` (cells).

    Raises
    ------
    KeyError
        If a model of the matrix was not there at fit time.
    """
    check_positive("n_bins", n_bins)
    right = (matrix.labels == CORRECT)[matrix.observed]
    frames = []
    for name, predictor in predictors.items():
        probability = predictor.predict_matrix(matrix)[matrix.observed].astype(float)
        cells = pd.DataFrame({"predicted": probability, "observed": right.astype(float), "n_observed": 1})
        bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
        of_bin = cells.groupby(bins).agg({"predicted": "mean", "observed": "mean", "n_observed": "sum"})
        of_bin = of_bin.rename_axis("bin").reset_index().assign(data=matrix.source, seed=seed, predictor=name)
        frames.append(of_bin[["data", "seed", "predictor", "bin", "predicted", "observed", "n_observed"]])
    return pd.concat(frames, ignore_index=True)


def reliability_repetitions(fits: Iterable[Fitted], n_bins: int = 10) -> pd.DataFrame:
    """Do what `reliability` does on the test questions of each repetition."""
    frames = [reliability(each.predictors, each.split.test, n_bins, each.seed) for each in fits]
    return pd.concat(frames, ignore_index=True)


def calibration_errors(bins: pd.DataFrame) -> pd.DataFrame:
    """Return the expected calibration error: the mean distance of prediction and frequency, weighted by the answers.

    Parameters
    ----------
    bins : DataFrame
        From `reliability` or `reliability_repetitions`.

    Returns
    -------
    DataFrame of shape (n_seeds, n_predictors)
        Each error as a share, from 0 to 1.
    """
    distance = (bins["predicted"] - bins["observed"]).abs() * bins["n_observed"]
    keys = [bins["seed"], bins["predictor"]]
    errors = distance.groupby(keys, sort=False).sum() / bins["n_observed"].groupby(keys, sort=False).sum()
    return errors.unstack("predictor")


def pool_repetitions(bins: pd.DataFrame) -> pd.DataFrame:
    """Put the answers of all repetitions into the same bins.

    Parameters
    ----------
    bins : DataFrame
        From `reliability_repetitions`.

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
