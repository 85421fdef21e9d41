"""Scores of predictions against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from embedllm.matrix import CORRECT
from embedllm.predictors.scores import pairs_in_order


@pytest.mark.parametrize("axis", [0, 1])
def test_share_of_pairs_in_order_is_the_area_under_the_curve(make_matrix, axis):
    matrix = make_matrix(n_models=9, n_questions=30, missing=0.4)
    probability = np.random.default_rng(0).integers(0, 10, matrix.labels.shape) / 10  # with many ties
    in_order, pairs = pairs_in_order(probability, matrix, axis)
    lines = [each if axis else each.T for each in (matrix.labels == CORRECT, matrix.observed, probability)]
    for found, n, correct, observed, predicted in zip(in_order, pairs, *lines, strict=True):
        n_correct = correct[observed].sum()
        assert n == n_correct * (observed.sum() - n_correct)
        assert found == pytest.approx(n and n * roc_auc_score(correct[observed], predicted[observed]))
    assert (pairs > 0).sum() > 5
