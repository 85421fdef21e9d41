"""1PL and 2PL with question features: the optimum by another solver, and what the form implies."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from embedllm import CorrectnessMatrix
from embedllm.predictors.item_response import ItemResponse


def objective(parameters, x, labels, penalty, discrimination):
    n_models, width = len(labels), x.shape[1]
    ability, w, v = np.split(parameters, [n_models, n_models + width])
    z = np.exp(x @ v * discrimination) * (ability[:, None] - x @ w)
    observed = labels >= 0
    loss = (np.logaddexp(0, z) - labels * z)[observed].mean()
    return loss + penalty * (w @ w + v @ v + 1e-4 * (ability**2).mean())


@pytest.mark.parametrize("discrimination", [False, True])
def test_reaches_the_optimum_of_another_solver(make_matrix, discrimination):
    matrix = make_matrix(n_models=5, n_questions=60, width=3, missing=0.2)
    x = matrix.embeddings - matrix.embeddings.mean(axis=0)
    fitted = ItemResponse(discrimination, penalty=0.01).fit(matrix)
    found = np.concatenate([fitted.ability_, fitted.difficulty_, fitted.discrimination_]).astype(float)
    arguments = (x.astype(float), matrix.labels, 0.01, discrimination)
    best = minimize(objective, np.zeros(5 + 6), arguments, method="BFGS")
    assert objective(found, *arguments) == pytest.approx(best.fun, abs=1e-5)
    z = np.exp(x @ fitted.discrimination_) * (fitted.ability_[:, None] - x @ fitted.difficulty_)
    np.testing.assert_allclose(fitted.predict_matrix(matrix), expit(z), atol=1e-5)


@pytest.mark.parametrize("seed", [0, 5, 24])
def test_separable_answers_give_finite_predictions(seed):
    """Without a penalty the best logits are infinite, and so were steps of the line search."""
    rng = np.random.default_rng(seed)
    ids = [f"q{number}" for number in range(8)]
    labels = pd.DataFrame((rng.random((4, 8)) < 0.5).astype(int), list("abcd"), ids)
    questions = pd.DataFrame({"benchmark": "one"}, index=ids)
    matrix = CorrectnessMatrix(labels, questions, rng.standard_normal((8, 5)).astype(np.float32))
    assert np.isfinite(ItemResponse(True, penalty=0.0).fit(matrix).predict_matrix(matrix)).all()


def test_discrimination_is_learned(make_matrix):
    rng = np.random.default_rng(0)
    x, ability = rng.standard_normal((4000, 2)).astype(np.float32), np.linspace(-2, 2, 12)
    p = expit(np.exp(x[:, 0]) * (ability[:, None] - x[:, 1]))
    labels = (rng.random(p.shape) < p).astype(int)
    ids = [f"q{number}" for number in range(len(x))]
    frame = pd.DataFrame(labels, [f"m{number}" for number in range(12)], ids)
    matrix = CorrectnessMatrix(frame, pd.DataFrame({"benchmark": "b"}, ids), x)
    fitted = ItemResponse(discrimination=True).fit(matrix)
    np.testing.assert_allclose(fitted.discrimination_, [1, 0], atol=0.1)
    np.testing.assert_allclose(fitted.difficulty_ / np.ptp(fitted.ability_), [0, 1 / 4], atol=0.03)


@pytest.mark.parametrize("discrimination", [False, True])
def test_models_are_in_one_order_on_every_question(toy, discrimination):
    fitted = ItemResponse(discrimination).fit(toy)
    proba = fitted.predict_proba(toy.embeddings)[:, np.argsort(fitted.ability_)].astype(float)
    assert (np.diff(proba, axis=1) >= -1e-6).all()


def test_penalty_must_not_be_negative(toy):
    with pytest.raises(ValueError, match="penalty must be at least 0"):
        ItemResponse(penalty=-1.0).fit(toy)
