"""Choose k, dim and alpha on the validation questions of all runs.

Where a source brings its own split, no test question takes part in a choice. Where each run divides the questions at
random, the one value that is chosen on the validation questions of all runs is also used on the test questions of each,
some of which were validation questions of another run. With 80/10/10 this is a tenth of them for each other run, or
about a fifth with three runs: a test accuracy at the chosen value can be slightly too high.

Of the values of k and dim tried, the smallest is chosen whose validation accuracy, which is what the paper compares, is
within a tenth of a point of the best. Near the best, accuracy is flat: a choice by the last digit would be arbitrary,
different on each machine, and would spend dimensions that gain nothing. Of the values of alpha, which cost nothing, the
one with the lowest validation loss is chosen.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.1: k and the size of a model embedding are tuned on a validation set.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.path import fit_path
from embedllm.predictors.scores import mean_scores
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import fit_clone, split_runs

TOLERANCE = 0.001
"""What an accuracy may be below the best, as a share: a tenth of a point."""

_COLUMNS = ["data", "parameter", "value", "seed", "log_loss", "accuracy"]

NEIGHBORS = (1, 2, 4, 8, 16, 31, 61, 91, 131, 181, 251, 351, 501)


def sweep_neighbors(
    matrix: CorrectnessMatrix, knn: KNNCorrectness, values: Sequence[int] = NEIGHBORS, seed: int = 0, n_seeds: int = 3
) -> pd.DataFrame:
    """Score KNN on the validation questions for several k, with one search for all of them.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    knn : KNNCorrectness
        Brings the other hyperparameters.
    values : sequence of int
        Those above the number of training questions are left out.
    seed, n_seeds : int

    Returns
    -------
    DataFrame
        Columns `data`, `parameter` ("n_neighbors"), `value`, `seed`, `log_loss` (nats), `accuracy`.
    """
    rows: list[dict[str, object]] = []
    previous, scores = None, {}
    for run_seed, split in split_runs(matrix, seed, n_seeds):
        if split is not previous:
            previous, ks = split, [k for k in values if k <= split.train.n_questions]
            each = fit_clone(knn, split.train, run_seed).predict_proba_each(split.val.embeddings, ks)
            scores = {k: mean_scores(probability.T, split.val) for k, probability in zip(ks, each, strict=True)}
        rows += [{"value": k, "seed": run_seed, **score} for k, score in scores.items()]
    return pd.DataFrame(rows).assign(data=matrix.source, parameter="n_neighbors")[_COLUMNS]


def sweep_factorization(
    matrix: CorrectnessMatrix, alphas: Sequence[float], dims: Sequence[int], seed: int = 0, n_seeds: int = 3
) -> pd.DataFrame:
    """Score exact fits on the validation questions for every alpha and dim.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    alphas : sequence of float
    dims : sequence of int
    seed, n_seeds : int

    Returns
    -------
    DataFrame
        Columns `data`, `seed`, `alpha`, `dim`, `n_iter`, `log_loss` (nats), `accuracy`.
    """
    paths = [
        fit_path(train, val, alphas, dims).assign(seed=run_seed)
        for run_seed, (train, val, _) in split_runs(matrix, seed, n_seeds)
    ]
    columns = ["data", "seed", "alpha", "dim", "n_iter", "log_loss", "accuracy"]
    return pd.concat(paths, ignore_index=True).assign(data=matrix.source)[columns]


def along(paths: pd.DataFrame, parameter: str, fixed: float) -> pd.DataFrame:
    """Return the part of `sweep_factorization` along one parameter, at a value of the other.

    Parameters
    ----------
    paths : DataFrame
    parameter : "alpha" or "dim"
    fixed : float
        Value of the other.

    Returns
    -------
    DataFrame
        Columns `data`, `parameter`, `value`, `seed`, `log_loss` (nats), `accuracy`.
    """
    other = "dim" if parameter == "alpha" else "alpha"
    part = paths[paths[other] == fixed].rename(columns={parameter: "value"}).assign(parameter=parameter)
    return part[_COLUMNS].reset_index(drop=True)


def choose_value(sweep: pd.DataFrame) -> float:
    """Return the chosen value, by the rule of this module.

    Parameters
    ----------
    sweep : DataFrame
        Columns `parameter`, `value`, `seed`, `log_loss`, `accuracy`; every seed with every value.

    Raises
    ------
    ValueError
        If no accuracy is defined, as when no validation answer was observed.
    """
    mean = sweep.groupby("value")[["log_loss", "accuracy"]].mean()  # values sorted
    if sweep["accuracy"].isna().any():
        raise ValueError("a validation accuracy is undefined: the validation questions need an observed answer")
    if (sweep["parameter"] == "alpha").all():
        return float(mean["log_loss"].idxmin())
    return float(mean.index[mean["accuracy"] >= mean["accuracy"].max() - TOLERANCE][0])


def summarize_sweep(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the seeds, in the order in which the values were tried.

    Returns
    -------
    DataFrame indexed by `data`, `parameter` and `value`
        Columns `log_loss` and `accuracy`, each with its standard error over the seeds (`_se`; NaN for one seed), and
        `chosen`.
    """
    groups = sweep.groupby(["data", "parameter", "value"], sort=False)[["log_loss", "accuracy"]]
    table = groups.mean().join(groups.sem().add_suffix("_se"))
    return table.assign(chosen=table.index.get_level_values("value") == choose_value(sweep))


def tuning_values(neighbors: pd.DataFrame, dims: pd.DataFrame, alphas: pd.DataFrame) -> list[ReportedValue]:
    """Return the chosen values, under the names of the parameters, and the validation accuracies they reach.

    Parameters
    ----------
    neighbors, dims, alphas : DataFrame
        From `sweep_neighbors` and `along`.
    """
    k, dim, alpha = (choose_value(sweep) for sweep in (neighbors, dims, alphas))

    def accuracy(key: str, what: str, sweep: pd.DataFrame, value: float) -> ReportedValue:
        runs = 100 * sweep.loc[sweep["value"] == value, "accuracy"]
        return ReportedValue(key, f"validation accuracy of {what}", runs, "%")

    return [
        ReportedValue("n_neighbors", "chosen k of KNN", [k], count=True),
        ReportedValue("dim", "chosen size of a model embedding", [dim], count=True),
        ReportedValue("alpha", "chosen alpha", [alpha]),
        accuracy("tuned_knn", "KNN, chosen k", neighbors, k),
        accuracy("tuned_mf", "MF, chosen dim and alpha", dims, dim),
        accuracy("smallest_mf", "MF, smallest dim tried", dims, dims["value"].min()),
    ]
