"""Predictors that count answers nearby, against loops."""

import numpy as np
import pytest

from embedllm import ModelMean
from embedllm.predictors.local import ClusterTable, WeightedKNN


def test_weighted_knn_equals_a_loop(make_matrix):
    matrix, new = make_matrix(n_questions=50, missing=0.3), make_matrix(n_questions=7, seed=5)
    proba = WeightedKNN(n_neighbors=9, bandwidth=2.0).fit(matrix).predict_proba(new.embeddings)
    mean = ModelMean().fit(matrix).probability_
    for q, vector in enumerate(new.embeddings.astype(float)):
        distance = np.sqrt(((matrix.embeddings - vector) ** 2).sum(axis=1))
        nearest = np.argsort(distance)[:9]
        weights = np.exp((distance[nearest[0]] ** 2 - distance[nearest] ** 2) / 8)
        for model in range(matrix.n_models):
            answered = matrix.observed[model, nearest]
            right = weights[answered] @ (matrix.labels[model, nearest[answered]] == 1)
            expected = (right + mean[model]) / (weights[answered].sum() + 1)
            assert proba[q, model] == pytest.approx(expected, abs=1e-5)


def test_cluster_table_is_the_accuracy_in_each_cluster(make_matrix):
    matrix = make_matrix(n_questions=80, missing=0.2)
    fitted = ClusterTable(n_clusters=5, prior=2.0).fit(matrix)
    proba, mean = fitted.predict_matrix(matrix), ModelMean().fit(matrix).probability_
    member = ((matrix.embeddings[:, None] - fitted._centers) ** 2).sum(axis=2).argmin(axis=1)
    for model in range(matrix.n_models):
        for cluster in range(5):
            answers = matrix.labels[model, (member == cluster) & matrix.observed[model]]
            expected = ((answers == 1).sum() + 2 * mean[model]) / (len(answers) + 2)
            np.testing.assert_allclose(proba[model, member == cluster], expected, atol=1e-6)


def test_more_clusters_or_neighbours_than_questions_are_all(make_matrix):
    matrix = make_matrix(n_questions=10)
    for predictor in (ClusterTable(n_clusters=64), WeightedKNN(n_neighbors=131)):
        assert np.isfinite(predictor.fit(matrix).predict_matrix(matrix)).all()


def test_bandwidth_must_be_above_zero(toy):
    with pytest.raises(ValueError, match="bandwidth must be above 0"):
        WeightedKNN(bandwidth=0).fit(toy)
