"""What every correctness predictor has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator

from embedllm._checks import name_positions
from embedllm.matrix import CorrectnessMatrix

# An answer is predicted right when its probability is above this; at exactly one half it is predicted wrong.
THRESHOLD = 0.5


class CorrectnessPredictor(BaseEstimator, ABC):
    """Predicts the probability that a model answers a question rightly.

    Hyperparameters go to the constructor, data to `fit`, and what `fit` learns has a name that ends in an underscore.
    Models travel by name: predictions for another matrix are matched to its models, whatever their order.
    """

    model_names_: np.ndarray

    @abstractmethod
    def fit(self, matrix: CorrectnessMatrix) -> Self:
        """Learn from the observed cells of a matrix."""

    @abstractmethod
    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        """Probability of a right answer from every fitted model.

        Parameters
        ----------
        embeddings : ndarray of shape (n_questions, width)

        Returns
        -------
        ndarray of shape (n_questions, n_models), float32
            Columns in the order of `model_names_`.
        """

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Probability of a right answer in every cell of a matrix, observed or not.

        Returns
        -------
        ndarray of shape (n_models, n_questions), float32
            Axes as in `matrix.labels`.

        Raises
        ------
        KeyError
            If a model of the matrix was not there at fit time; the message lists the known ones.
        """
        positions = self._model_positions(matrix.model_names)
        return self.predict_proba(matrix.embeddings)[:, positions].T

    def score(self, matrix: CorrectnessMatrix) -> float:
        """Accuracy of the thresholded probability over the observed cells; NaN if there are none."""
        observed = matrix.observed
        if not observed.any():
            return float("nan")
        predicted = self.predict_matrix(matrix) > THRESHOLD
        return float((predicted == (matrix.labels == 1))[observed].mean())

    def _model_positions(self, names: Iterable[str]) -> np.ndarray:
        self._check_fitted()
        return name_positions("model", names, self.model_names_)

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_names_"):
            raise RuntimeError(f"this {type(self).__name__} is not fitted yet: call fit(matrix) first")


def check_matrix(matrix: object) -> CorrectnessMatrix:
    """Return the matrix, or say why it cannot be fitted.

    Raises
    ------
    TypeError
        If it is not a `CorrectnessMatrix`: a bare array does not say which axis holds the models.
    ValueError
        If it holds no observed answer.
    """
    if not isinstance(matrix, CorrectnessMatrix):
        raise TypeError(f"expected a CorrectnessMatrix, got {type(matrix).__name__}: build one with named axes")
    if not matrix.observed.any():
        raise ValueError(f"nothing to learn from: {matrix!r}")
    return matrix


def check_embeddings(embeddings: np.ndarray, width: int) -> torch.Tensor:
    """Return a copy of question embeddings as a float32 tensor of shape (n_questions, width).

    Raises
    ------
    ValueError
        If the shape is another one, or a value is not finite.
    """
    vectors = torch.tensor(embeddings, dtype=torch.float32)
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ValueError(f"embeddings has shape {tuple(vectors.shape)}; the fit was on shape (n_questions, {width})")
    if not (finite := vectors.isfinite().all(dim=1)).all():
        raise ValueError(f"the embedding in row {int((~finite).nonzero()[0])} is not finite")
    return vectors
