"""Forecasting accuracy against the number of training questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.predictors.knn import KNNCorrectness
from embedllm.protocol.runs import Fitted, Settings
from embedllm.protocol.scores import METRICS
from embedllm.studies.forecasting import tally_forecasts

SIZES = (1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 25_000)
"""The paper's numbers of training questions, below all of them."""

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
"""Shares of the training questions taken instead where fewer than `MIN_SIZES` of the paper's sizes are below all."""

MIN_SIZES = 3


def training_sizes(n_questions: int) -> list[int]:
    """Return the sizes to train on, ascending, the last one all questions.

    Parameters
    ----------
    n_questions : int
        In the training part.
    """
    sizes = [size for size in SIZES if size < n_questions]
    if len(sizes) < MIN_SIZES:
        sizes = sorted({round(share * n_questions) for share in FRACTIONS} - {0, n_questions})
    return [*sizes, n_questions]


def nested_subsets(train: CorrectnessMatrix, sizes: Sequence[int], seed: int) -> Iterator[CorrectnessMatrix]:
    """Draw training questions, the smaller subsets from the larger ones.

    Questions that nobody answered, from which nothing is learned, are drawn last.

    Parameters
    ----------
    train : CorrectnessMatrix
    sizes : sequence of int
    seed : int

    Yields
    ------
    CorrectnessMatrix
        Of each size, with questions in the order of `train`.
    """
    order = np.random.default_rng(seed).permutation(train.n_questions)
    n_answers = train.observed.sum(axis=0)
    order = order[np.argsort(n_answers[order] == 0, kind="stable")]
    for size in sizes:
        chosen = np.zeros(train.n_questions, dtype=bool)
        chosen[order[:size]] = True
        yield train.subset(questions=chosen)


def neighbors_for(n_neighbors: int, size: int, n_questions: int) -> int:
    """Return the k of KNN for a subset of the training questions.

    The best k grows with the data. A k chosen for all of them is reduced with the cube root of the share that is left:
    with the full k, small subsets would make KNN look worse than it is.
    """
    return max(1, round(n_neighbors * (size / n_questions) ** (1 / 3)))


def learning_curve(fits: Iterable[Fitted], settings: Settings) -> pd.DataFrame:
    """Fit the predictors on nested parts of the training questions and evaluate them on all test questions.

    The predictors of a repetition, fitted on all its training questions, are the last point; no fit is repeated.

    Parameters
    ----------
    fits : iterable of Fitted
    settings : Settings
        Those of the fits; `n_neighbors` is reduced by `neighbors_for`.

    Returns
    -------
    DataFrame
        One row for each repetition, training size and predictor. Columns: `data`, `seed`, `size` (training
        questions), `predictor`, `accuracy`, `log_loss`, `brier`.
    """
    return pd.concat([_points(each, settings) for each in fits], ignore_index=True)


def size_table(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the seeds in percent, one row for each training size and one column for each predictor.

    Parameters
    ----------
    curve : DataFrame
        From `learning_curve`.

    Returns
    -------
    DataFrame
        Indexed by `data` and `size`; rounded to a hundredth of a point.
    """
    wide = curve.pivot_table(index=["data", "size"], columns="predictor", values="accuracy", dropna=False) * 100
    return wide[list(pd.unique(curve["predictor"]))].round(2)


def _points(fitted: Fitted, settings: Settings) -> pd.DataFrame:
    train, _, test = fitted.split
    *smaller, everything = training_sizes(train.n_questions)
    points = []
    for size, part in zip(smaller, nested_subsets(train, smaller, fitted.seed), strict=True):
        predictors: dict[str, CorrectnessPredictor] = {
            "MF": settings.mf(fitted.seed).fit(part),
            "KNN": KNNCorrectness(neighbors_for(settings.n_neighbors, size, everything)).fit(part),
            "benchmark mean": BenchmarkMean().fit(part),
        }
        points.append(_point(predictors, test).assign(size=size))
    points.append(_point(fitted.predictors, test).assign(size=everything))
    curve = pd.concat(points, ignore_index=True).assign(data=test.source, seed=fitted.seed)
    return curve[["data", "seed", "size", "predictor", *METRICS]]


def _point(predictors: Mapping[str, CorrectnessPredictor], test: CorrectnessMatrix) -> pd.DataFrame:
    overall = tally_forecasts(predictors, test).by_seed().iloc[0]
    return pd.DataFrame({metric: overall[metric] for metric in METRICS}).rename_axis("predictor").reset_index()
