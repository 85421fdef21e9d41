"""The best possible prediction from the text, which only a simulated pool has."""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from embedllm.datasets.simulate import Structure, simulate_pool
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor


class Ceiling(CorrectnessPredictor):
    """Probability of a correct answer given the text and the benchmark, in the ground truth of a simulated pool.

    It is not learned: `fit` simulates the pool again and looks up `GroundTruth.ceiling`. What no text shows is
    integrated out, so that no predictor of unseen questions can be expected to be more accurate, and no router that
    reads them. With several wordings of an item in different parts, this does not hold.

    Parameters
    ----------
    scale, pool_seed, structure : float, int, str
        Those with which `load_dataset("simulated", ...)` was called; `pool_seed` is its `random_state`.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.predictors.ceiling import Ceiling
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> Ceiling(scale=0.01).fit(train).predict_matrix(test).shape
    (112, 30)
    """

    def __init__(self, scale: float = 1.0, pool_seed: int = 0, structure: Structure = "linear") -> None:
        self.scale = scale
        self.pool_seed = pool_seed
        self.structure = structure

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        """Look up the ground truth.

        Raises
        ------
        ValueError
            If the matrix is not of this pool.
        """
        self._probability, self._first = _look_up(self.scale, self.pool_seed, self.structure)
        self.model_names_ = self._probability.index.to_numpy(dtype=object)
        self._check(matrix)
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        """Raise: the ground truth belongs to questions, not to embeddings."""
        check_is_fitted(self, "model_names_")
        raise NotImplementedError("Ceiling looks questions up by their ids: call predict_matrix")

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        models, questions = self._model_positions(matrix.model_names), self._check(matrix)
        return self._probability.to_numpy()[np.ix_(models, questions)]

    def _check(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Positions of the questions, (n_questions,); the first number of an embedding tells one from another."""
        positions = self._probability.columns.get_indexer(matrix.questions.index)
        if (positions < 0).any() or not np.array_equal(matrix.embeddings[:, 0], self._first[positions]):
            raise ValueError(f"{matrix!r} is not of the pool of {self}: give the same scale, seed and structure")
        return positions


@lru_cache(maxsize=1)
def _look_up(scale: float, seed: int, structure: Structure) -> tuple[pd.DataFrame, np.ndarray]:
    matrix, truth = simulate_pool(scale, seed, structure)
    return pd.DataFrame(truth.ceiling, matrix.models.index, matrix.questions.index), matrix.embeddings[:, 0].copy()


def ceiling_of(dataset: str, scale: float, seed: int, structure: Structure = "linear") -> dict[str, Ceiling]:
    """Return `{"ceiling": Ceiling(...)}` for the simulated pool, and nothing for other data sets.

    Examples
    --------
    >>> from embedllm import BenchmarkMean
    >>> from embedllm.predictors.ceiling import ceiling_of
    >>> list({"benchmark mean": BenchmarkMean()} | ceiling_of("simulated", scale=0.01, seed=0))
    ['benchmark mean', 'ceiling']
    """
    return {"ceiling": Ceiling(scale, seed, structure)} if dataset == "simulated" else {}
