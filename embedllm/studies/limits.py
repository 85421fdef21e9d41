"""The limits of the method: what it learns from pools whose truth is known. Everything here is simulated.

References
----------
Bjorck and Golub, *Numerical Methods for Computing Angles Between Linear Subspaces*, Mathematics of Computation 27
(1973). The paper has no such study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.linalg import subspace_angles
from scipy.spatial.distance import pdist
from scipy.special import logit

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.ceiling import Ceiling
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.runs import fit_clone
from embedllm.protocol.tally import Tally

DIMS = (1, 4, 16)
"""Dimensions of the compared spaces of models."""


def structure_table(tallies: Mapping[str, Tally], baseline: str) -> pd.DataFrame:
    """Compare predictors, or routers, on pools of several structures.

    Parameters
    ----------
    tallies : mapping of str to Tally
        Structure to what `tally_runs` or `tally_routes` gives.
    baseline : str
        One of the methods.

    Returns
    -------
    DataFrame
        A row for each structure and method. Columns: `data`, `structure`, `method`, `accuracy` (%) with its 95 %
        interval `low` to `high`, and `points` above the baseline with `points_low` to `points_high`, NaN for the
        baseline itself. Intervals are over questions, those of the points paired.
    """
    rows = []
    for structure, tally in tallies.items():
        samples, accuracy = 100 * tally.resampled(), 100 * tally.by_seed()["accuracy"].mean()
        for method, share in accuracy.items():
            points = share - accuracy[baseline] if method != baseline else np.nan
            above = interval(samples[method] - samples[baseline])
            rows.append((tally.data, structure, method, share, *interval(samples[method]), points, *above))
    columns = ["data", "structure", "method", "accuracy", "low", "high", "points", "points_low", "points_high"]
    return pd.DataFrame(rows, columns=columns)


def recovery(
    mf: MatrixFactorization, parts: Iterable[CorrectnessMatrix], val: CorrectnessMatrix, ceiling: Ceiling
) -> pd.DataFrame:
    """Compare exact fits with the ground truth, by the number of training questions.

    Logits, true and fitted, are taken less their mean over the models and over the questions of each benchmark: what
    remains is what the text shows of a model beyond the benchmark. The d directions over the models in which it varies
    most span a space, in the truth and in the fit; the principal angles between the two are 0 degrees if they are the
    same, and 90 if they share no direction.

    Parameters
    ----------
    mf : MatrixFactorization
    parts : iterable of CorrectnessMatrix
        Training questions; the last part has all of them, where the logits are compared.
    val : CorrectnessMatrix
        Validation questions, on which alpha is chosen.
    ceiling : Ceiling
        Fitted: its logits are the true ones given the text.

    Returns
    -------
    DataFrame
        A row for each part. Columns: `data`, `size` (training questions), `angle_d` for each d of `DIMS` (mean
        principal angle, degrees) and `correlation` (Pearson's, over all pairs of models, of the root-mean-square
        difference of their fitted logits and of their true ones).
    """
    parts = list(parts)
    true = _beyond_benchmark(ceiling, parts[-1])
    rows = []
    for part in parts:
        fitted = _beyond_benchmark(fit_clone(mf, part, 0, val), parts[-1])
        # (n_models, n_models), largest first
        spaces = [np.linalg.svd(logits @ logits.T)[0] for logits in (true, fitted)]
        angles = {f"angle_{d}": np.degrees(subspace_angles(*(each[:, :d] for each in spaces)).mean()) for d in DIMS}
        correlation = np.corrcoef(pdist(true), pdist(fitted))[0, 1]
        rows.append({"data": part.source, "size": part.n_questions, **angles, "correlation": correlation})
    return pd.DataFrame(rows)


def _beyond_benchmark(predictor: CorrectnessPredictor, matrix: CorrectnessMatrix) -> np.ndarray:
    """Logits (n_models, n_questions) less their mean over the models and over the questions of each benchmark."""
    logits = pd.DataFrame(logit(predictor.predict_matrix(matrix).astype(float).clip(1e-7, 1 - 1e-7)).T)
    logits = logits.sub(logits.mean(axis=1), axis=0)
    return (logits - logits.groupby(matrix.benchmarks).transform("mean")).to_numpy().T


def limit_values(
    forecasts: Mapping[str, Tally], routes: Mapping[str, Tally], recovered: pd.DataFrame
) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    forecasts, routes : mapping of str to Tally
        Structure to tally, with the methods `MF`, `KNN`, `ceiling` and a baseline: `benchmark mean` for forecasts,
        `best model per benchmark` for routes.
    recovered : DataFrame
        From `recovery`.
    """
    values = []
    for task, tallies, baseline in (
        ("forecast", forecasts, "benchmark mean"),
        ("route", routes, "best model per benchmark"),
    ):
        for structure, tally in tallies.items():
            key, where = f"limits_{task}_{structure}", f"({task}, structure {structure})"
            named = {"mf": "MF", "knn": "KNN", "baseline": baseline, "ceiling": "ceiling"}
            wanted = [Wanted(f"{key}_{short}", f"Accuracy of {name} {where}", name) for short, name in named.items()]
            for one, other in (("mf", "knn"), ("mf", "baseline"), ("knn", "baseline")):
                what = f"{named[one]} minus {named[other]} {where}"
                wanted.append(Wanted(f"{key}_{one}_minus_{other}", what, named[one], named[other]))
            values += accuracy_values(tally, wanted)
    last = recovered.iloc[-1]
    what = "Mean angle of the true and the fitted space, dimension"
    values += [ReportedValue(f"limits_angle_{d}", f"{what} {d}", [last[f"angle_{d}"]], "degrees") for d in DIMS]
    what = "Correlation of true and fitted distances between models"
    return [*values, ReportedValue("limits_correlation", what, [last["correlation"]])]
