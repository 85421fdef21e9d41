"""Ridge regression of the labels, against scikit-learn's, a model at a time."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from embedllm.predictors.ridge_labels import RidgeLabels


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_equals_a_regression_for_each_model(make_matrix, missing):
    matrix = make_matrix(n_models=5, n_questions=60, missing=missing, seed=3)
    new = make_matrix(n_questions=20, seed=4).embeddings
    proba = RidgeLabels(alpha=2.0).fit(matrix).predict_proba(new)
    for model, (labels, observed) in enumerate(zip(matrix.labels, matrix.observed, strict=True)):
        alone = Ridge(2.0).fit(matrix.embeddings[observed].astype(float), labels[observed] == 1)
        np.testing.assert_allclose(proba[:, model], alone.predict(new).clip(0, 1), atol=1e-5)


def test_penalty_must_be_above_zero(toy):
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        RidgeLabels(alpha=0).fit(toy)
