"""Choosing k, dim and alpha on the validation questions; the test questions are never seen here.

Of the values tried, the smallest is chosen whose validation accuracy, which is what the paper compares, is within a
tenth of a point of the best. Near the best, accuracy is flat: a choice by the last digit would be one by chance, other
on each machine, and would pay for dimensions that gain nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Settings, repetitions
from embedllm.protocol.scores import score_cells

TOLERANCE = 0.001
"""What an accuracy may be below the best, as a share: a tenth of a point."""

NEIGHBORS = (1, 2, 4, 8, 16, 31, 61, 91, 131, 181, 251, 351, 501)


def sweep_neighbors(
    matrix: CorrectnessMatrix, values: Sequence[int] = NEIGHBORS, seed: int = 0, n_seeds: int = 3
) -> pd.DataFrame:
    """Score KNN on the validation questions for several k, which one search answers.

    Parameters
    ----------
    matrix : CorrectnessMatrix
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
    for repetition in repetitions(matrix, seed, n_seeds):
        train, val, _ = repetition.split
        if repetition.split is not previous:
            previous, ks = repetition.split, [k for k in values if k <= train.n_questions]
            each = Settings().knn().fit(train).predict_proba_each(val.embeddings, ks)
            scores = {k: _score(probability.T, val) for k, probability in zip(ks, each, strict=True)}
        rows += [{"value": k, "seed": repetition.seed, **score} for k, score in scores.items()]
    return _sweep(matrix, "n_neighbors", rows)


def sweep_factorization(
    matrix: CorrectnessMatrix,
    parameter: str,
    values: Sequence[float],
    settings: Settings,
    seed: int = 0,
    n_seeds: int = 3,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score MF on the validation questions for several values of one hyperparameter.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    parameter : "dim" or "alpha"
    values : sequence of numbers
    settings : Settings
        The other hyperparameters.
    seed, n_seeds : int

    Returns
    -------
    sweep : DataFrame
        Columns `data`, `parameter`, `value`, `seed`, `log_loss` (nats), `accuracy`.
    curves : DataFrame
        Columns `data`, `parameter`, `value`, `seed`, `epoch` (from 1), `train_loss` (with the noise of training) and
        `val_loss`.
    """
    rows: list[dict[str, object]] = []
    curves = []
    for value in values:
        chosen = replace(settings, **{parameter: value})  # type: ignore[arg-type]
        for repetition in repetitions(matrix, seed, n_seeds):
            train, val, _ = repetition.split
            mf = chosen.mf(repetition.seed).fit(train, validation=val)
            rows.append({"value": value, "seed": repetition.seed, **_score(mf.predict_matrix(val), val)})
            curve = mf.history_[["train_loss", "val_loss"]].reset_index()
            curves.append(curve.assign(epoch=curve["epoch"] + 1, value=value, seed=repetition.seed))
    columns = ["data", "parameter", "value", "seed", "epoch", "train_loss", "val_loss"]
    together = pd.concat(curves, ignore_index=True).assign(data=matrix.source, parameter=parameter)
    return _sweep(matrix, parameter, rows), together[columns]


def _score(probability: np.ndarray, matrix: CorrectnessMatrix) -> dict[str, float]:
    """Mean log loss and accuracy over the observed cells; `probability` is (n_models, n_questions)."""
    cells = score_cells(probability[matrix.observed], (matrix.labels == CORRECT)[matrix.observed])
    return {
        metric: float(cells[metric].mean()) if matrix.observed.any() else np.nan for metric in ("log_loss", "accuracy")
    }


def _sweep(matrix: CorrectnessMatrix, parameter: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows).assign(data=matrix.source, parameter=parameter)
    return table[["data", "parameter", "value", "seed", "log_loss", "accuracy"]]


def choose(sweep: pd.DataFrame) -> float:
    """Return the smallest value that is as good as the best, by the rule of this module.

    Parameters
    ----------
    sweep : DataFrame
        Columns `value`, `seed`, `accuracy`; every seed with every value.

    Raises
    ------
    ValueError
        If no accuracy is defined, as when no validation answer was observed.
    """
    accuracy = sweep.pivot(index="seed", columns="value", values="accuracy")  # (n_seeds, n_values), values sorted
    if accuracy.isna().any().any():
        raise ValueError("a validation accuracy is undefined: the validation questions need an observed answer")
    mean = accuracy.mean()
    return float(mean.index[mean >= mean.max() - TOLERANCE][0])


def summarize_sweep(sweep: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds, in the order in which the values were tried.

    Returns
    -------
    DataFrame indexed by `data`, `parameter` and `value`
        Columns `log_loss` and `accuracy`, each with its standard error over the seeds (`_se`; NaN for one seed), and
        `chosen`.
    """
    groups = sweep.groupby(["data", "parameter", "value"], sort=False)[["log_loss", "accuracy"]]
    table = groups.mean().join(groups.sem().add_suffix("_se"))
    return table.assign(chosen=table.index.get_level_values("value") == choose(sweep))


def tuning_values(neighbors: pd.DataFrame, dims: pd.DataFrame, alphas: pd.DataFrame) -> list[ReportedValue]:
    """The chosen values under the names of the parameters that they are, and what they reach on validation questions.

    Parameters
    ----------
    neighbors, dims, alphas : DataFrame
        From `sweep_neighbors` and `sweep_factorization`.
    """
    chosen = {"n_neighbors": neighbors, "dim": dims, "alpha": alphas}
    words = {"n_neighbors": "chosen k of KNN", "dim": "chosen size of a model embedding", "alpha": "chosen noise"}
    found = [ReportedValue(name, words[name], [choose(sweep)]) for name, sweep in chosen.items()]
    knn, mf = (sweep[sweep["value"] == choose(sweep)] for sweep in (neighbors, alphas))
    one = dims[dims["value"] == dims["value"].min()]
    return [
        *found,
        ReportedValue("tuned_knn", "validation accuracy of KNN, chosen k", (100 * knn["accuracy"]).tolist(), "%"),
        ReportedValue(
            "tuned_mf", "validation accuracy of MF, chosen dim and noise", (100 * mf["accuracy"]).tolist(), "%"
        ),
        ReportedValue(
            "smallest_mf", "validation accuracy of MF, smallest dim tried", (100 * one["accuracy"]).tolist(), "%"
        ),
    ]
