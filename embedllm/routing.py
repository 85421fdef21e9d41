"""Routing: send each question to the model most likely to answer it rightly.

A router gives each question a share for every model, so that random routers are evaluated by their exact expectation
and all routers by the same sum. Where an answer was not observed, there is nothing to score: every router chooses among
the models whose answer to the question was observed, so that all are compared on the same questions.

Ties go to the model whose name comes first in sorted order, whatever the order of the matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import pandas as pd

from embedllm.baselines import BenchmarkMean
from embedllm.correctness import OVERALL, RIGHT, CorrectnessMatrix, name_positions
from embedllm.predictor import CorrectnessPredictor


class RoutingPolicy(ABC):
    """Chooses a model for each question of a matrix."""

    @abstractmethod
    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Probability with which each model is chosen.

        Returns
        -------
        ndarray of shape (n_models, n_questions), float64
            Each column sums to 1 over the models observed on the question; all zeros if none is.
        """


class _BestScore(RoutingPolicy):
    """Chooses the observed model with the highest score."""

    @abstractmethod
    def _scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Scores, (n_models, n_questions)."""

    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        scores = np.where(matrix.observed, self._scores(matrix), -np.inf)
        by_name = np.argsort(matrix.model_names.astype(str), kind="stable")
        chosen = by_name[scores[by_name].argmax(axis=0)]  # argmax takes the first of equals
        shares = np.zeros(scores.shape)
        shares[chosen, np.arange(matrix.n_questions)] = matrix.observed.any(axis=0)
        return shares


class PredictedBest(_BestScore):
    """Chooses the model with the highest predicted correctness.

    With `MatrixFactorization` and `KNNCorrectness` these are the paper's routers; with `BenchmarkMean` it is the best
    model of each benchmark, which knows the benchmark of the question.
    """

    def __init__(self, predictor: CorrectnessPredictor) -> None:
        self.predictor = predictor

    def _scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return self.predictor.predict_matrix(matrix)


class SingleBest(_BestScore):
    """Sends everything to the model with the best accuracy on the training data; where it was not observed, the next.

    Parameters
    ----------
    train : CorrectnessMatrix
        A model without an observed answer in it comes last.

    Attributes
    ----------
    accuracy_ : Series of shape (n_models,)
        Accuracy of each model over its observed training answers.
    """

    def __init__(self, train: CorrectnessMatrix) -> None:
        self.accuracy_ = train.accuracy(by="model")["accuracy"].fillna(-1.0)

    def _scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        positions = name_positions("model", matrix.model_names, self.accuracy_.index)
        return np.broadcast_to(self.accuracy_.to_numpy()[positions, None], matrix.labels.shape)


class Oracle(_BestScore):
    """Chooses a model that is right, if there is one: the upper bound of every router."""

    def _scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return matrix.labels


class UniformRandom(RoutingPolicy):
    """Chooses among the observed models with equal probability."""

    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return _normalised(matrix.observed.astype(float))


class WeightedRandom(RoutingPolicy):
    """Chooses blindly, but each model as often as another router chooses it on the same questions.

    What that router gains over this one comes from reading the question.
    """

    def __init__(self, router: RoutingPolicy) -> None:
        self.router = router

    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        frequency = self.router.shares(matrix).sum(axis=1)  # (n_models,)
        shares = _normalised(frequency[:, None] * matrix.observed)
        # Where only models are observed that the router never chose, they are equally likely.
        unreached = ~shares.any(axis=0)
        shares[:, unreached] = _normalised(matrix.observed[:, unreached].astype(float))
        return shares


def _normalised(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=0)
    return np.divide(weights, total, out=np.zeros(weights.shape), where=total > 0)


def standard_routers(
    train: CorrectnessMatrix, mf: CorrectnessPredictor, knn: CorrectnessPredictor
) -> dict[str, RoutingPolicy]:
    """The routers that the paper compares, from fitted predictors and the data they were fitted on.

    Returns
    -------
    dict
        `oracle`, `MF`, `KNN`, `best of benchmark`, `single best`, `weighted random`, `uniform random`.
    """
    mf_router = PredictedBest(mf)
    return {
        "oracle": Oracle(),
        "MF": mf_router,
        "KNN": PredictedBest(knn),
        "best of benchmark": PredictedBest(BenchmarkMean().fit(train)),
        "single best": SingleBest(train),
        "weighted random": WeightedRandom(mf_router),
        "uniform random": UniformRandom(),
    }


def evaluate_routers(routers: Mapping[str, RoutingPolicy], matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Accuracy of the answers that each router obtains.

    Parameters
    ----------
    routers : mapping from a name to a router
    matrix : CorrectnessMatrix
        The questions to route, with the answers of the models.

    Returns
    -------
    DataFrame
        One row for each router and each benchmark, `overall` first. Columns: `data` (the source of the matrix),
        `router`, `benchmark`, `accuracy` (expected share of right answers; NaN without a question), `stderr` (standard
        error of that mean over questions; NaN below two), `n_questions` (with at least one observed answer).
    """
    answered = matrix.observed.any(axis=0)
    benchmarks = matrix.benchmarks[answered]
    right = (matrix.labels == RIGHT)[:, answered]
    order = [OVERALL, *matrix.benchmark_names]
    frames = []
    for name, router in routers.items():
        expected = pd.Series((router.shares(matrix)[:, answered] * right).sum(axis=0))  # (n_questions,)
        statistics = {"accuracy": "mean", "stderr": "sem", "n_questions": "size"}
        table = expected.groupby(benchmarks).agg(**statistics)
        table.loc[OVERALL] = [expected.mean(), expected.sem(), len(expected)]
        table = table.reindex(order).fillna({"n_questions": 0}).astype({"n_questions": int})
        frames.append(table.rename_axis("benchmark").reset_index().assign(data=matrix.source, router=name))
    columns = ["data", "router", "benchmark", "accuracy", "stderr", "n_questions"]
    return pd.concat(frames, ignore_index=True)[columns]


def route_shares(router: RoutingPolicy, matrix: CorrectnessMatrix) -> pd.Series:
    """Share of the questions that each model receives, (n_models,), largest first; NaN if nothing was observed."""
    received = router.shares(matrix).sum(axis=1)
    shares = pd.Series(received / (received.sum() or np.nan), index=matrix.models.index, name="share")
    return shares.sort_index().sort_values(ascending=False, kind="stable")
