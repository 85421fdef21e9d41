"""Correctness forecasting: how well is it known beforehand who answers what rightly?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from embedllm.correctness import OVERALL, RIGHT, CorrectnessMatrix
from embedllm.predictor import THRESHOLD, CorrectnessPredictor

# A certain prediction that is wrong has an infinite log loss; probabilities are kept this far from 0 and 1 for it.
LOG_LOSS_CLIP = 1e-3


def evaluate_forecasts(
    predictors: Mapping[str, CorrectnessPredictor],
    matrix: CorrectnessMatrix,
    by: Literal["benchmark", "model"] = "benchmark",
) -> pd.DataFrame:
    """Compare predictors over the observed cells of a matrix.

    Parameters
    ----------
    predictors : mapping from a name to a fitted predictor
    matrix : CorrectnessMatrix
        Its models are matched by name to those fitted.
    by : "benchmark" or "model"

    Returns
    -------
    DataFrame
        One row for each predictor and each group, the group `overall` first. Columns: `data` (the source of the
        matrix), `predictor`, the grouping, `accuracy` with its `stderr`, `log_loss` (nats, probabilities clipped to
        [0.001, 0.999]), `brier`, `n_observed` (cells), `n_questions`. The metrics of a group without an observed cell
        are NaN. The standard error is over questions: answers to one question are right or wrong together.

    Raises
    ------
    KeyError
        If a model of the matrix was not there at fit time.
    """
    groups = {
        "benchmark": np.broadcast_to(matrix.benchmarks, matrix.labels.shape),
        "model": np.broadcast_to(matrix.model_names[:, None], matrix.labels.shape),
    }[by][matrix.observed]
    right = (matrix.labels == RIGHT)[matrix.observed]
    question = np.nonzero(matrix.observed)[1]
    order = [OVERALL, *(matrix.benchmark_names if by == "benchmark" else matrix.model_names)]
    frames = []
    for name, predictor in predictors.items():
        probability = predictor.predict_matrix(matrix)[matrix.observed].astype(float)
        of_the_label = np.where(right, probability, 1 - probability)
        cells = pd.DataFrame(
            {
                "accuracy": (probability > THRESHOLD) == right,
                "log_loss": -np.log(of_the_label.clip(LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)),
                "brier": (1 - of_the_label) ** 2,
            }
        )
        means = pd.concat([cells.mean().to_frame(OVERALL).T, cells.groupby(groups).mean()]).reindex(order)
        errors = [_by_question(cells["accuracy"], question).rename(OVERALL)]
        errors += [
            _by_question(cells["accuracy"][members], question[members]).rename(group)
            for group, members in cells.groupby(groups).indices.items()
        ]
        means = means.join(pd.DataFrame(errors)).fillna({"n_observed": 0, "n_questions": 0})
        means = means.astype({"n_observed": int, "n_questions": int})
        frames.append(means.rename_axis(by).reset_index().assign(data=matrix.source, predictor=name))
    table = pd.concat(frames, ignore_index=True)
    return table[["data", "predictor", by, "accuracy", "stderr", "log_loss", "brier", "n_observed", "n_questions"]]


def _by_question(hits: pd.Series, question: np.ndarray) -> pd.Series:
    """Standard error of a mean over cells, for cells that come in clusters, one for each question, and their counts."""
    sums = (hits - hits.mean()).groupby(question).sum()
    n = len(sums)
    stderr = np.sqrt(n / (n - 1) * (sums**2).sum()) / len(hits) if n > 1 else np.nan
    return pd.Series({"stderr": stderr, "n_observed": len(hits), "n_questions": n})


def percent_table(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Accuracies of a tidy frame in percent, one row for each benchmark and one column for each method.

    Parameters
    ----------
    table : DataFrame
        From `evaluate_forecasts` or `evaluate_routers`.
    method : "predictor" or "router"

    Returns
    -------
    DataFrame
        Indexed by `data` and `benchmark`; rows and columns in the order of the frame, rounded to a tenth of a point.
    """
    wide = table.pivot(index=["data", "benchmark"], columns=method, values="accuracy") * 100
    rows = table[["data", "benchmark"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(rows), list(pd.unique(table[method]))].round(1)
