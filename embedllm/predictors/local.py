"""Predictors that count answers to questions nearby: in a cluster, or weighted by distance."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted
from torch.nn.functional import embedding_bag

from embedllm._support.checks import check_positive, check_seed
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix
from embedllm.predictors.baselines import ModelMean


class ClusterTable(CorrectnessPredictor):
    """Accuracy of each model in each cluster of the training questions, as that of a question of the cluster.

    Where a model has few answers in a cluster, its accuracy is drawn to that on all questions.

    Parameters
    ----------
    n_clusters : int
        Of k-means on the embeddings; at most the number of questions.
    prior : float
        Answers at the model's mean accuracy that are added in each cluster.
    random_state : int

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    accuracy_ : ndarray of shape (n_models, n_clusters)

    References
    ----------
    *Universal Model Routing for Efficient LLM Inference* (UniRoute, 2025): a model is its
    accuracies in clusters.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.predictors.local import ClusterTable
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> ClusterTable(n_clusters=8).fit(train).predict_matrix(test).shape
    (112, 30)
    """

    def __init__(self, n_clusters: int = 64, prior: float = 5.0, random_state: int = 0) -> None:
        self.n_clusters, self.prior, self.random_state = n_clusters, prior, random_state

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        n_clusters = min(check_positive("n_clusters", self.n_clusters), matrix.n_questions)
        clusters = KMeans(n_clusters, n_init=1, random_state=check_seed(self.random_state) % 2**32)
        member = np.eye(n_clusters)[clusters.fit_predict(matrix.embeddings)]  # (n_questions, n_clusters)
        self._centers = clusters.cluster_centers_
        mean = ModelMean().fit(matrix).probability_[:, None]
        correct, observed = (matrix.labels == CORRECT) @ member, matrix.observed @ member
        self.accuracy_ = (correct + self.prior * mean) / (observed + self.prior)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        vectors = check_embeddings(embeddings, self._centers.shape[1]).numpy()
        return self.accuracy_.T[cdist(vectors, self._centers).argmin(axis=1)].astype(np.float32)


class WeightedKNN(CorrectnessPredictor):
    """Share of correct answers among the nearest training questions, the nearer ones with more weight.

    A question at distance d has the weight exp((d_1^2 - d^2) / (2 bandwidth^2)), d_1 that of the nearest. One answer
    at the model's mean accuracy is added with weight 1, so that no probability is 0 or 1.

    Parameters
    ----------
    n_neighbors : int
    bandwidth : float
        Above 0, in the unit of the embeddings.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)

    References
    ----------
    *On Estimating Regression*, Theory of Probability and its Applications 9 (1964).

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.predictors.local import WeightedKNN
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> WeightedKNN(n_neighbors=50).fit(train).predict_matrix(test).shape
    (112, 30)
    """

    def __init__(self, n_neighbors: int = 131, bandwidth: float = 0.3) -> None:
        self.n_neighbors, self.bandwidth = n_neighbors, bandwidth

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0, got {self.bandwidth!r}")
        k = min(check_positive("n_neighbors", self.n_neighbors), matrix.n_questions)
        self._search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(matrix.embeddings)
        self._mean = ModelMean().fit(matrix).probability_
        self._answers = np.hstack([matrix.labels.T == CORRECT, matrix.observed.T])  # (n_train, 2 * n_models)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        vectors = check_embeddings(embeddings, self._search.n_features_in_).numpy()
        if not len(vectors):
            return np.empty((0, len(self.model_names_)), np.float32)
        distance, nearest = self._search.kneighbors(vectors)  # (n_questions, k), ascending
        weights = np.exp((distance[:, :1] ** 2 - distance**2) / (2 * self.bandwidth**2))
        correct, observed = np.hsplit(weighted_sums(self._answers, nearest, weights), 2)
        return ((correct + self._mean) / (observed + 1)).astype(np.float32)


def weighted_sums(rows: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add up weighted rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
    chosen : ndarray of shape (n, k), int
        Positions of rows.
    weights : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (n, n_columns), float32

    Examples
    --------
    >>> weighted_sums(np.eye(3), np.array([[0, 2]]), np.array([[1.0, 0.5]]))
    array([[1. , 0. , 0.5]], dtype=float32)
    """
    values, columns, factors = (torch.from_numpy(each) for each in (rows.astype(np.float32), chosen, weights))
    return embedding_bag(columns, values, per_sample_weights=factors.float(), mode="sum").numpy()
