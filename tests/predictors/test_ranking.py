"""The two best models of a question: the ranking against a sort in float64, the same bits whatever comes along."""

import numpy as np
import pandas as pd
import pytest
from fits import exact, random_factorization
from scipy.special import expit
from sklearn.base import clone

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness, StackedCorrectness
from embedllm.predictors.ranking import best_models, pool_logits
from embedllm.predictors.tuned import Tuned


def best_two(mf, vectors):
    logits = pool_logits(mf, vectors)
    models = best_models(logits, mf.model_names_, 2)
    return models, np.take_along_axis(logits, models, axis=1)


@pytest.fixture(params=[1, 12, 768])
def asked(request):
    """A factorization of 50 models, and 700 questions."""
    names = [f"model-{number:02}" for number in np.random.default_rng(1).permutation(50)]
    vectors = np.random.default_rng(2).standard_normal((700, request.param)).astype(np.float32)
    return random_factorization(names, width=request.param), vectors


def test_equals_a_sort_of_logits_in_float64(asked):
    mf, vectors = asked
    models, logits = best_two(mf, vectors)
    exact = vectors.astype(float) @ mf.coef_.astype(float).T + mf.intercept_
    np.testing.assert_array_equal(models, np.argsort(-exact, axis=1)[:, :2])
    # It rounds its factors, but the result hardly more than a product in float32 does.
    best, plain = exact.max(axis=1), (vectors @ mf.coef_.T + mf.intercept_).max(axis=1)
    error, usual = (np.sqrt(((found - best) ** 2).mean()) for found in (logits[:, 0], plain))
    assert error < 4 * usual


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1, 1e30])
def test_no_bit_depends_on_company_or_place(asked, scale):
    mf, vectors = asked[0], asked[1] * np.float32(scale)
    models, logits = best_two(mf, vectors)
    assert np.isfinite(logits).all()
    for rows in (np.random.default_rng(0).permutation(700), np.arange(3, 700, 7), *np.arange(700)[:5, None]):
        company = best_two(mf, vectors[rows])
        np.testing.assert_array_equal(company[0], models[rows])
        np.testing.assert_array_equal(company[1], logits[rows])


def test_equal_models_tie_by_name(asked):
    mf, vectors = asked
    mf.coef_[:], mf.intercept_[:] = mf.coef_[0], mf.intercept_[0]
    models, logits = best_two(mf, vectors)
    assert set(mf.model_names_[models[:, 0]]) == {"model-00"}
    assert set(mf.model_names_[models[:, 1]]) == {"model-01"}
    np.testing.assert_array_equal(logits[:, 0], logits[:, 1])


@pytest.mark.parametrize(
    "predictor",
    [
        KNNCorrectness(7),
        Tuned(KNNCorrectness(), "n_neighbors", [3, 7]),
        StackedCorrectness(
            {"mean": BenchmarkMean(), "KNN": Tuned(KNNCorrectness(), "n_neighbors", [7]), "MF": exact()}
        ),
    ],
    ids=["KNN", "tuned", "stack"],
)
def test_neighbours_do_not_depend_on_company(make_matrix, predictor):
    """Nor on doubled training questions, whose distances are equal."""
    matrix = make_matrix(n_questions=120, missing=0.2)
    labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    matrix = CorrectnessMatrix(labels, matrix.questions, np.tile(matrix.embeddings[:60], (2, 1)))
    fitted = clone(predictor).fit(matrix)
    if isinstance(fitted, StackedCorrectness):
        fitted.weights_[:] = 0.4  # no part is left out
    vectors = np.vstack([matrix.embeddings, np.random.default_rng(0).standard_normal((180, 12)).astype(np.float32)])
    together = pool_logits(fitted, vectors)
    alone = [pool_logits(fitted, vectors[[row]])[0] for row in range(len(vectors))]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(expit(together), fitted.predict_proba(vectors), atol=1e-6)
    assert pool_logits(fitted, vectors[:0]).shape == (0, matrix.n_models)
