"""What the result pages share: hyperparameters, repetitions over seeds, predictors fitted alike.

A repetition is a seed. It draws the division of the questions, where the source brings none of its own, and all that is
random in training. Predictors without randomness, on the source's own division, are computed once for all seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from embedllm._checks import check_positive, check_seed
from embedllm.matrix import CorrectnessMatrix, Split
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of the two predictors that the paper compares.

    Parameters
    ----------
    dim, alpha, preset : int, float, str
        Of `MatrixFactorization`.
    n_neighbors : int
        Of `KNNCorrectness`.
    """

    dim: int = 232
    alpha: float = 0.05
    n_neighbors: int = 131
    preset: str = "fast"

    def mf(self, seed: int) -> MatrixFactorization:
        """Return a factorization that is not fitted yet."""
        return MatrixFactorization(dim=self.dim, alpha=self.alpha, preset=self.preset, random_state=seed)

    def knn(self) -> KNNCorrectness:
        """Return a KNN that is not fitted yet."""
        return KNNCorrectness(self.n_neighbors)


class Repetition(NamedTuple):
    """One seed and its division of the questions.

    Attributes
    ----------
    seed : int
    split : Split
        The same object in all repetitions where the source brings its own division.
    """

    seed: int
    split: Split


class Fitted(NamedTuple):
    """Predictors fitted on the training part of a repetition.

    Attributes
    ----------
    seed : int
    split : Split
    predictors : dict
        `MF`, `KNN` and `benchmark mean`, the floor. Their predictions for a matrix are computed once.
    """

    seed: int
    split: Split
    predictors: dict[str, CorrectnessPredictor]


class Remembered(CorrectnessPredictor):
    """A fitted predictor that predicts a matrix once, however often it is asked for the same one.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        Already fitted.
    """

    def __init__(self, predictor: CorrectnessPredictor) -> None:
        self.predictor = predictor
        self.model_names_ = predictor.model_names_
        self._matrix: CorrectnessMatrix | None = None

    def fit(self, matrix: CorrectnessMatrix) -> Remembered:
        raise NotImplementedError("fit the predictor first, then have its predictions remembered")

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return self.predictor.predict_proba(embeddings)

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        if matrix is not self._matrix:
            self._matrix, self._probability = matrix, self.predictor.predict_matrix(matrix)
        return self._probability


def seeds_of(seed: int, n_seeds: int) -> range:
    """Return the seeds of the repetitions: `seed` and those that follow it.

    Raises
    ------
    ValueError
        If `seed` is no seed, or `n_seeds` not a positive whole number.
    """
    first = check_seed(seed)
    return range(first, first + check_positive("n_seeds", n_seeds))


def repetitions(matrix: CorrectnessMatrix, seed: int = 0, n_seeds: int = 3) -> Iterator[Repetition]:
    """Yield the repetitions of an experiment."""
    split = matrix.split(random_state=seed) if "split" in matrix.questions else None
    for each in seeds_of(seed, n_seeds):
        yield Repetition(each, split or matrix.split(random_state=each))


def fit_repetitions(matrix: CorrectnessMatrix, settings: Settings, seed: int = 0, n_seeds: int = 3) -> Iterator[Fitted]:
    """Fit the predictors that the paper compares, once for each seed.

    Yields
    ------
    Fitted
        In the order of the seeds.
    """
    previous, unseeded = None, {}
    for repetition in repetitions(matrix, seed, n_seeds):
        train, val, _ = repetition.split
        if repetition.split is not previous:
            previous = repetition.split
            unseeded = {
                "KNN": Remembered(settings.knn().fit(train)),
                "benchmark mean": Remembered(BenchmarkMean().fit(train)),
            }
        mf = settings.mf(repetition.seed).fit(train, validation=val)
        yield Fitted(repetition.seed, repetition.split, {"MF": Remembered(mf), **unseeded})
