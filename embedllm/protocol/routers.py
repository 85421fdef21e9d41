"""Routers: which model should answer a question?

A router gives each question a share for every model, so that random routers are evaluated by their exact expectation
and all routers by the same sum. An answer that was not observed cannot be scored: every router chooses among the models
observed on the question, so that all are compared on the same questions.

Ties go to the model whose name comes first in sorted order, whatever the order of the matrix.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.2: the MF router, the best single model and the router that draws each model as
often as MF chooses it. The other routers are this companion's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.neighbors import NearestNeighbors

from embedllm._support.checks import check_positive, name_positions
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.predictors.local import weighted_sums
from embedllm.predictors.ranking import best_models
from embedllm.protocol.runs import Run


class RoutingPolicy(BaseEstimator, ABC):
    """Base class of routers: fit on training data and fitted predictors, then choose a model for each question.

    Examples
    --------
    A router that always asks one model:

    >>> import numpy as np
    >>> from embedllm import RoutingPolicy, evaluate_routers, load_dataset
    >>> class OneModel(RoutingPolicy):
    ...     def __init__(self, model):
    ...         self.model = model
    ...
    ...     def shares(self, matrix):
    ...         return (matrix.model_names[:, None] == self.model) * matrix.observed.astype(float)
    >>> test = load_dataset("simulated", scale=0.01).split().test
    >>> evaluation = evaluate_routers({"one": OneModel(test.model_names[0])}, test)
    >>> bool(np.isclose(evaluation["accuracy"].iloc[0], (test.labels[0] == 1).mean()))
    True
    """

    def fit(self, train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]) -> Self:
        """Learn from the training data, and keep the predictors that the router needs; by default, do nothing.

        Parameters
        ----------
        train : CorrectnessMatrix
        predictors : mapping of str to CorrectnessPredictor
            Name to predictor, fitted on `train`.
        """
        return self

    @abstractmethod
    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Probability with which each model is chosen.

        Returns
        -------
        ndarray of shape (n_models, n_questions), float64
            Each column sums to 1 over the models observed on the question; less where the router abstains.
        """


def checked_shares(router: RoutingPolicy, matrix: CorrectnessMatrix, name: str = "") -> np.ndarray:
    """Return what a router gives to each model on each question, after checks that it cannot gain from an error.

    Parameters
    ----------
    router : RoutingPolicy
        Its `shares` may also return the name of a model for each question, (n_questions,), or None to abstain.
    matrix : CorrectnessMatrix
    name : str
        Of the router, for messages.

    Returns
    -------
    ndarray of shape (n_models, n_questions), float64
        A share of a model without an observed answer to the question is 0, as if the router had abstained.

    Raises
    ------
    KeyError
        If a name is not that of a model.
    ValueError
        If the shape is another, a share is not a number or negative, or those of a question sum to more than 1.
    """
    given = np.asarray(router.shares(matrix))
    if given.shape == (matrix.n_questions,) and given.dtype.kind in "OU":
        chosen = np.flatnonzero(~pd.isna(given))
        shares = np.zeros(matrix.labels.shape)
        shares[name_positions("model", given[chosen], matrix.model_names), chosen] = 1
    elif given.shape == matrix.labels.shape and given.dtype.kind in "fiub":
        shares = given.astype(float)
    else:
        raise ValueError(
            f"router {name!r}: shares gave {given.dtype} of shape {given.shape}; return numbers of shape "
            f"{matrix.labels.shape} (models, questions), or the name of a model for each question"
        )
    sums = shares.sum(axis=0)
    for bad, problem in (
        (~(shares >= 0), "is not a number of at least 0"),  # NaN is none
        ((sums > 1 + 1e-9) & (shares > 0), "is one of several that sum to more than 1"),
    ):
        if bad.any():
            m, q = np.argwhere(bad)[0]
            raise ValueError(
                f"router {name!r}: share {shares[m, q]:g} of model {matrix.model_names[m]!r} on question "
                f"{matrix.question_ids[q]!r} {problem}"
            )
    return shares * matrix.observed


class HighestScore(RoutingPolicy):
    """Base class of routers that choose the observed model with the highest score."""

    @abstractmethod
    def scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Score of each model on each question, (n_models, n_questions)."""

    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        scores = np.where(matrix.observed, self.scores(matrix), -np.inf)
        if np.isnan(scores).any():
            m, q = np.argwhere(np.isnan(scores))[0]
            raise ValueError(
                f"{self}: the score of model {matrix.model_names[m]!r} on question {matrix.question_ids[q]!r} is not a "
                "number, so that no model is the best"
            )
        (chosen,) = best_models(scores.T, matrix.model_names, 1).T
        shares = np.zeros(scores.shape)
        shares[chosen, np.arange(matrix.n_questions)] = matrix.observed.any(axis=0)
        return shares


class PredictedBest(HighestScore):
    """Choose the model with the highest predicted probability of a correct answer.

    With `MatrixFactorization` this is the paper's router.

    Parameters
    ----------
    predictor : str
        Name of the predictor, among those given to `fit`.
    """

    def __init__(self, predictor: str) -> None:
        self.predictor = predictor

    def fit(self, train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]) -> Self:
        if self.predictor not in predictors:
            raise KeyError(f"no predictor is called {self.predictor!r}; there are: {', '.join(predictors) or 'none'}")
        self.predictor_ = predictors[self.predictor]
        return self

    def scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return self.predictor_.predict_matrix(matrix)


class BestModelPerBenchmark(HighestScore):
    """Choose the model with the best training accuracy on the benchmark of the question, which has to be known."""

    def fit(self, train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]) -> Self:
        self.mean_ = BenchmarkMean().fit(train)
        return self

    def scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return self.mean_.predict_matrix(matrix)


class BestSingleModel(HighestScore):
    """Choose the model with the best training accuracy; where it was not observed, the next.

    Attributes
    ----------
    accuracy_ : Series of shape (n_models,)
        -1 for a model without an observed training answer, which comes last.
    """

    def fit(self, train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]) -> Self:
        self.accuracy_ = train.accuracy(by="model")["accuracy"].fillna(-1.0)
        return self

    def scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        positions = name_positions("model", matrix.model_names, self.accuracy_.index)
        return np.broadcast_to(self.accuracy_.to_numpy()[positions, None], matrix.labels.shape)


class GuardedKNN(HighestScore):
    """Leave the best single model only where the nearest training questions show that another is better.

    The score of a model is the mean, over the nearest questions that both answered, of its label minus that of the
    best single model, less z standard errors of that paired difference. Two answers are added, one in favour of each,
    so that few answers that agree are no evidence. The best single model, or where it was not observed the next, has
    the score 0.

    Parameters
    ----------
    n_neighbors : int
    z : float
    """

    def __init__(self, n_neighbors: int = 131, z: float = 2.0) -> None:
        self.n_neighbors, self.z = n_neighbors, z

    def fit(self, train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]) -> Self:
        k = min(check_positive("n_neighbors", self.n_neighbors), train.n_questions)
        self.search_ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train.embeddings)
        self.single_ = BestSingleModel().fit(train, predictors)
        self.train_ = train
        return self

    def scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        models = name_positions("model", matrix.model_names, self.train_.model_names)
        correct, observed = (self.train_.labels == CORRECT).T[:, models] * 1.0, self.train_.observed.T[:, models]
        nearest = self.search_.kneighbors(matrix.embeddings, return_distance=False)  # (n_questions, k)
        singles = self.single_.shares(matrix).argmax(axis=0)
        scores = np.zeros(matrix.labels.shape)
        for single in np.unique(singles):
            asked, both = singles == single, observed & observed[:, [single]]
            gain = (correct - correct[:, [single]]) * both  # (n_train, n_models)
            sums = weighted_sums(np.hstack([gain, gain**2, both]), nearest[asked], np.ones(nearest[asked].shape))
            total, squares, n = np.hsplit(sums.astype(float), 3)
            mean = total / (n + 2)
            error = np.sqrt(((squares + 2) / (n + 2) - mean**2) / (n + 2))
            scores[:, asked] = (mean - self.z * error).T
            scores[single, asked] = 0
        return scores


class Oracle(HighestScore):
    """Choose a model that is correct, if there is one. It knows the answers: no router can be expected to reach it."""

    def scores(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return matrix.labels


class UniformRandom(RoutingPolicy):
    """Choose among the observed models with equal probability."""

    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return _normalized(matrix.observed.astype(float))


class WeightedRandom(RoutingPolicy):
    """Choose at random, each model as often as another router chooses it on the same questions.

    What that router gains over this one comes from which question goes where.

    Parameters
    ----------
    router : RoutingPolicy
    """

    def __init__(self, router: RoutingPolicy) -> None:
        self.router = router

    def fit(self, train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]) -> Self:
        self.router_ = clone(self.router).fit(train, predictors)
        return self

    def shares(self, matrix: CorrectnessMatrix) -> np.ndarray:
        frequency = checked_shares(self.router_, matrix).sum(axis=1)  # (n_models,)
        shares = _normalized(frequency[:, None] * matrix.observed)
        # Where only models are observed that the router never chose, they are equally likely.
        unreached = ~shares.any(axis=0)
        shares[:, unreached] = _normalized(matrix.observed[:, unreached].astype(float))
        return shares


def _normalized(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=0)
    return np.divide(weights, total, out=np.zeros(weights.shape), where=total > 0)


def standard_policies(mf: str = "MF", knn: str = "KNN") -> dict[str, RoutingPolicy]:
    """Return the routers that the companion compares, not fitted yet, for predictors of these names.

    Returns
    -------
    dict of str to RoutingPolicy
        `oracle`, the routers of the two predictors under their names, `best model per benchmark`, `best single model`,
        `weighted random` (with the frequencies of MF's router) and `uniform random`.
    """
    return {
        "oracle": Oracle(),
        mf: PredictedBest(mf),
        knn: PredictedBest(knn),
        "best model per benchmark": BestModelPerBenchmark(),
        "best single model": BestSingleModel(),
        "weighted random": WeightedRandom(PredictedBest(mf)),
        "uniform random": UniformRandom(),
    }


def standard_routers(
    train: CorrectnessMatrix, mf: CorrectnessPredictor, knn: CorrectnessPredictor
) -> dict[str, RoutingPolicy]:
    """Fit the routers that the companion compares, from fitted predictors and the data they were fitted on.

    Parameters
    ----------
    train : CorrectnessMatrix
    mf, knn : CorrectnessPredictor
        Fitted on `train`.

    Returns
    -------
    dict of str to RoutingPolicy
        `oracle`, `MF`, `KNN`, `best model per benchmark`, `best single model`, `weighted random`, `uniform random`.

    Examples
    --------
    >>> from embedllm import KNNCorrectness, MatrixFactorization, evaluate_routers, load_dataset, standard_routers
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> mf, knn = MatrixFactorization(dim=8).fit(train), KNNCorrectness(n_neighbors=15).fit(train)
    >>> evaluation = evaluate_routers(standard_routers(train, mf, knn), test)
    >>> evaluation.query("benchmark == 'overall'")["router"].tolist()[:3]
    ['oracle', 'MF', 'KNN']
    """
    return fit_routers(standard_policies(), train, {"MF": mf, "KNN": knn})


def fit_routers(
    routers: Mapping[str, RoutingPolicy], train: CorrectnessMatrix, predictors: Mapping[str, CorrectnessPredictor]
) -> dict[str, RoutingPolicy]:
    """Fit clones of routers on training data and fitted predictors."""
    return {name: clone(router).fit(train, predictors) for name, router in routers.items()}


def routers_of(run: Run, routers: Mapping[str, RoutingPolicy]) -> dict[str, RoutingPolicy]:
    """Fit clones of routers on a run; the predictions for its test part are taken from it, not computed again."""
    test = run.split.test
    known = {name: _Precomputed(each, test, run.probabilities[name]) for name, each in run.predictors.items()}
    return fit_routers(routers, run.split.train, known)


class _Precomputed(CorrectnessPredictor):
    """A fitted predictor whose prediction of one matrix is known."""

    def __init__(self, predictor: CorrectnessPredictor, matrix: CorrectnessMatrix, probability: np.ndarray) -> None:
        self.predictor, self.matrix, self.probability = predictor, matrix, probability
        self.model_names_ = predictor.model_names_

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        raise NotImplementedError("this predictor is fitted: its predictions are known")

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return self.predictor.predict_proba(embeddings)

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return self.probability if matrix is self.matrix else self.predictor.predict_matrix(matrix)
