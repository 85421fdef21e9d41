"""Ridge regression of each model's labels on the question embeddings: squares in the place of the logistic loss."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.linalg import solve
from sklearn.utils.validation import check_is_fitted

from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix


class RidgeLabels(CorrectnessPredictor):
    """Linear regression of the labels 0 and 1, with a ridge penalty and without one on the intercept.

    Parameters
    ----------
    alpha : float
        Above 0: minimizes ``sum (label - u . q - t)^2 + alpha u . u`` over the observed answers of a model.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    coef_ : ndarray of shape (n_models, width)
    intercept_ : ndarray of shape (n_models,)

    References
    ----------
    *Ridge Regression: Biased Estimation for Nonorthogonal Problems*, Technometrics 12 (1970).

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.predictors.ridge_labels import RidgeLabels
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> RidgeLabels().fit(train).predict_matrix(test).shape
    (112, 30)
    """

    def __init__(self, alpha: float = 3.0) -> None:
        self.alpha = alpha

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha!r}")
        mean = matrix.embeddings.mean(axis=0, dtype=float)
        x = np.column_stack([matrix.embeddings - mean, np.ones(matrix.n_questions)])  # (n_questions, width + 1)
        gram, penalty = x.T @ x, self.alpha * np.eye(x.shape[1])
        penalty[-1, -1] = 1e-9  # a model without an answer has a solution, 0
        weights = np.zeros((len(matrix.model_names), x.shape[1]))
        masks, group = np.unique(matrix.observed, axis=0, return_inverse=True)
        for number, mask in enumerate(masks):
            models, missing = np.flatnonzero(group == number), x[~mask]
            correct = (matrix.labels[models][:, mask] == CORRECT).T.astype(float)
            weights[models] = solve(gram - missing.T @ missing + penalty, x[mask].T @ correct, assume_a="pos").T
        self.coef_, self.intercept_ = weights[:, :-1], weights[:, -1] - weights[:, :-1] @ mean
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        vectors = check_embeddings(embeddings, self.coef_.shape[1]).numpy()
        return (vectors @ self.coef_.T + self.intercept_).clip(0, 1).astype(np.float32)
