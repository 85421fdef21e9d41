"""Routing: send each question to the model most likely to answer it rightly.

A router gives each question a share for every model, so that random routers are evaluated by their exact expectation
and all routers by the same sum. Where an answer was not observed, there is nothing to score: every router chooses among
the models whose answer to the question was observed, so that all are compared on the same questions.

Ties go to the model whose name comes first in sorted order, whatever the order of the matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from embedllm._checks import name_positions
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.runs import Fitted
from embedllm.protocol.tally import Tally
from embedllm.protocol.timing import Measured, measure


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


class BestSingleModel(_BestScore):
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
        `oracle`, `MF`, `KNN`, `best model per benchmark`, `best single model`, `weighted random`, `uniform random`.
    """
    mf_router = PredictedBest(mf)
    return {
        "oracle": Oracle(),
        "MF": mf_router,
        "KNN": PredictedBest(knn),
        "best model per benchmark": PredictedBest(BenchmarkMean().fit(train)),
        "best single model": BestSingleModel(train),
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
    return route_table(tally_routes(routers, matrix))


def tally_routes(routers: Mapping[str, RoutingPolicy], matrix: CorrectnessMatrix, seed: int = 0) -> Tally:
    """Note, for each question with an observed answer, the probability that each router obtains a right one.

    Parameters
    ----------
    routers, matrix
        As in `evaluate_routers`.
    seed : int
        Of the repetition.
    """
    right = matrix.labels == CORRECT
    sums = {("accuracy", name): (router.shares(matrix) * right).sum(axis=0) for name, router in routers.items()}
    rows = {"group": matrix.benchmarks, "question": matrix.question_ids, "count": matrix.observed.any(axis=0)}
    return Tally(
        pd.DataFrame(rows).assign(seed=seed).astype({"count": int}),
        pd.DataFrame(sums),
        matrix.source,
        method="router",
        by="benchmark",
    )


def fitted_routers(fitted: Fitted) -> dict[str, RoutingPolicy]:
    """Return the routers of `standard_routers` for a repetition."""
    return standard_routers(fitted.split.train, fitted.predictors["MF"], fitted.predictors["KNN"])


def tally_route_repetitions(fits: Iterable[Fitted]) -> Tally:
    """Do what `tally_routes` does, with the standard routers on the test questions of each repetition."""
    return Tally.join(tally_routes(fitted_routers(each), each.split.test, each.seed) for each in fits)


def route_table(tally: Tally) -> pd.DataFrame:
    """Return the means over the repetitions: the columns of `evaluate_routers`.

    `n_questions` is that of one repetition, where it differs the mean.
    """
    return tally.table().drop(columns="count")


def route_values(tally: Tally) -> list[ReportedValue]:
    """Return the numbers that the routing page quotes, from `tally_route_repetitions`."""
    accuracies = {
        "route_mf": "MF",
        "route_knn": "KNN",
        "route_single": "best single model",
        "route_best_of_benchmark": "best model per benchmark",
        "route_weighted": "weighted random",
        "route_uniform": "uniform random",
        "route_oracle": "oracle",
    }
    differences = {
        "route_gain": "best single model",
        "route_mf_minus_knn": "KNN",
        "route_mf_minus_weighted": "weighted random",
    }
    wanted = [Wanted(key, f"Routing accuracy of {name}", name) for key, name in accuracies.items()]
    wanted += [Wanted(key, f"Routing accuracy of MF minus {name}", "MF", name) for key, name in differences.items()]
    questions = tally.rows.groupby("seed")["count"].sum()
    routed = ReportedValue("route_questions", "Routed test questions", questions.astype(float).tolist())
    return [*accuracy_values(tally, wanted), routed]


def route_shares(router: RoutingPolicy, matrix: CorrectnessMatrix) -> pd.Series:
    """Share of the questions that each model receives, (n_models,), largest first; NaN if nothing was observed."""
    received = router.shares(matrix).sum(axis=1)
    shares = pd.Series(received / (received.sum() or np.nan), index=matrix.models.index, name="share")
    return shares.sort_index().sort_values(ascending=False, kind="stable")


def mean_route_shares(fits: Iterable[Fitted], routers: Sequence[str] = ("MF", "KNN")) -> dict[str, pd.Series]:
    """Mean over the repetitions of `route_shares` on their test questions.

    Parameters
    ----------
    fits : iterable of Fitted
    routers : sequence of str
        Names of standard routers.

    Returns
    -------
    dict
        Router to shares, (n_models,), largest first. A repetition without an observed answer is left out.
    """
    pairs = [(fitted_routers(each), each.split.test) for each in fits]
    means = {name: pd.concat([route_shares(known[name], test) for known, test in pairs]) for name in routers}
    return {
        name: shares.groupby(level=0).mean().sort_values(ascending=False, kind="stable")
        for name, shares in means.items()
    }


def route_speed(fitted: Fitted, routers: Sequence[str] = ("MF", "KNN"), repeats: int = 5) -> pd.DataFrame:
    """Measure choosing a model for questions whose embeddings are at hand, among all models.

    Parameters
    ----------
    fitted : Fitted
    routers : sequence of str
        Names of its predictors.
    repeats : int
        Of each measurement; times are medians.

    Returns
    -------
    DataFrame indexed by `router`
        Columns: `data`, `questions` (of the batch, which holds all test questions), `a second, in a batch`,
        `a second, one by one` and `peak MB` (how far memory rises with the batch; NaN where that cannot be told).
    """
    embeddings = fitted.split.test.embeddings

    def choose(name: str, questions: np.ndarray) -> Measured:
        return measure(lambda: fitted.predictors[name].predict_proba(questions).argmax(axis=1), repeats)

    rows = []
    for name in routers:
        batch, one = choose(name, embeddings), choose(name, embeddings[:1])
        rows.append(
            {
                "router": name,
                "data": fitted.split.test.source,
                "questions": len(embeddings),
                "a second, in a batch": len(embeddings) / batch.seconds,
                "a second, one by one": 1 / one.seconds,
                "peak MB": batch.peak_mb,
            }
        )
    return pd.DataFrame(rows).set_index("router")
