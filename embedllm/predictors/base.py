"""What every correctness predictor has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from embedllm._support.checks import copied, name_positions
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.scores import mean_scores


class CorrectnessPredictor(BaseEstimator, ABC):
    """Base class of estimators of the probability that a model answers a question correctly.

    A subclass keeps the conventions of scikit-learn, so that `clone`, `get_params` and `repr` work: its constructor
    stores hyperparameters and nothing else, and `fit` sets `model_names_` and whatever else it learns, under names that
    end or begin with an underscore. Models are matched by name: a predictor serves other matrices, with models in any
    order.

    Examples
    --------
    A predictor that gives each model its accuracy on the training questions:

    >>> import numpy as np
    >>> from embedllm import load_dataset
    >>> from embedllm.predictors.base import CorrectnessPredictor
    >>> class MeanAccuracy(CorrectnessPredictor):
    ...     def fit(self, matrix):
    ...         self.model_names_ = matrix.model_names
    ...         self.accuracy_ = matrix.accuracy(by="model")["accuracy"].to_numpy(np.float32)
    ...         return self
    ...
    ...     def predict_proba(self, embeddings):
    ...         return np.tile(self.accuracy_, (len(embeddings), 1))
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> MeanAccuracy().fit(train).predict_matrix(test).shape
    (112, 30)
    """

    model_names_: np.ndarray

    @abstractmethod
    def fit(self, matrix: CorrectnessMatrix) -> Self:
        """Learn from the observed cells of a matrix."""

    @abstractmethod
    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        """Predict the probability of a correct answer for every fitted model.

        Parameters
        ----------
        embeddings : ndarray of shape (n_questions, width)

        Returns
        -------
        ndarray of shape (n_questions, n_models), float32
            Columns in the order of `model_names_`.
        """

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        """Predict the probability of a correct answer in every cell of a matrix, observed or not.

        Returns
        -------
        ndarray of shape (n_models, n_questions), float32
            Axes as in `matrix.labels`.

        Raises
        ------
        KeyError
            If a model of the matrix was not in the fit; the message lists the known ones.
        ValueError
            If `predict_proba` returns anything but probabilities of the shape that it has to have.
        """
        positions = self._model_positions(matrix.model_names)
        return check_probabilities(self, self.predict_proba(matrix.embeddings), matrix.n_questions)[:, positions].T

    def score(self, matrix: CorrectnessMatrix) -> float:
        """Compute the accuracy of the thresholded probability over the observed cells; NaN if there are none."""
        return mean_scores(self.predict_matrix(matrix), matrix)["accuracy"]

    def _model_positions(self, names: Iterable[str]) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        return name_positions("model", names, self.model_names_)


def check_matrix(matrix: object) -> CorrectnessMatrix:
    """Return the matrix if it can be fitted.

    Raises
    ------
    TypeError
        If it is not a `CorrectnessMatrix`: a bare array does not say which axis holds the models.
    ValueError
        If it has no observed answer.
    """
    if not isinstance(matrix, CorrectnessMatrix):
        raise TypeError(f"expected a CorrectnessMatrix, got {type(matrix).__name__}: build one with named axes")
    if not matrix.observed.any():
        raise ValueError(f"nothing to learn from: {matrix!r}")
    return matrix


def check_probabilities(predictor: CorrectnessPredictor, values: np.ndarray, n_questions: int) -> np.ndarray:
    """Return what `predict_proba` of a predictor, perhaps a reader's own, returned for some questions.

    Raises
    ------
    ValueError
        If the shape is not (n_questions, n_models), or a value is not a number from 0 to 1: a metric would take it.
    """
    name, shape = f"predict_proba of {type(predictor).__name__}", (n_questions, len(predictor.model_names_))
    if np.shape(values) != shape:
        raise ValueError(f"{name} returned shape {np.shape(values)}: return (n_questions, n_models), here {shape}")
    if not ((within := (values >= 0) & (values <= 1)).all()):
        raise ValueError(f"{name} returned {np.asarray(values)[~within][0]}: return probabilities, from 0 to 1")
    return values


def check_embeddings(embeddings: np.ndarray, width: int) -> torch.Tensor:
    """Return a copy of question embeddings as a float32 tensor of shape (n_questions, width).

    Raises
    ------
    ValueError
        If they are not numbers, the shape is different, or a value is not finite.
    """
    vectors = torch.from_numpy(copied(embeddings))
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ValueError(
            f"embeddings has shape {tuple(vectors.shape)}; the fit was on shape (n_questions, {width}): pass vectors "
            f"of the encoder that it was fitted with"
        )
    if not (finite := vectors.isfinite().all(dim=1)).all():
        raise ValueError(f"the embedding in row {int((~finite).nonzero()[0])} is not finite")
    return vectors


def check_validation(matrix: CorrectnessMatrix, validation: object) -> CorrectnessMatrix:
    """Return validation data if they fit the training data.

    Raises
    ------
    TypeError, ValueError
        If they are not of `CorrectnessMatrix`, lack a model, or have embeddings of another width.
    """
    if not isinstance(validation, CorrectnessMatrix):
        raise TypeError(f"validation must be a CorrectnessMatrix, got {type(validation).__name__}")
    if missing := sorted(set(matrix.model_names) - set(validation.model_names)):
        raise ValueError(f"the validation data lack {len(missing)} of the models, the first {missing[0]!r}")
    widths = matrix.embeddings.shape[1], validation.embeddings.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"question embeddings are {widths[0]} wide in training and {widths[1]} in validation")
    return validation
