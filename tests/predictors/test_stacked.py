"""The stack: its weights against a grid, its rule for leaving parts out, and that it never learns from a copy."""

import numpy as np
import pandas as pd
import pytest
from fits import Known, noise_with_copies
from scipy.special import expit, logit

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness, MatrixFactorization, ModelMean
from embedllm.predictors.stacked import StackedCorrectness, _choose, _weigh, standard_parts
from embedllm.predictors.tuned import Tuned


def random_pool(n_models=6, n_questions=400, seed=0):
    """Labels with two known logits whose sum, the first one doubled, is true."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, n_models, n_questions))
    labels = (rng.random(first.shape) < expit(2 * first + second)).astype(int)
    models, ids = [f"m{number}" for number in range(n_models)], [f"q{number}" for number in range(n_questions)]
    matrix = CorrectnessMatrix(
        pd.DataFrame(labels, models, ids), pd.DataFrame({"benchmark": "b"}, ids), rng.standard_normal((n_questions, 3))
    )
    return matrix, *(pd.DataFrame(expit(each), models, ids) for each in (first, second))


def test_weights_are_those_of_least_loss():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3000, 2))
    correct = rng.random(3000) < expit(1.5 * logits[:, 0] - logits[:, 1])
    grid = np.linspace(0, 2.5, 251)
    losses = [np.mean(np.logaddexp(0, w * logits[:, 0]) - correct * w * logits[:, 0]) for w in grid]
    weights = _weigh(logits, correct)
    assert weights[1] == 0  # it would be negative
    assert weights[0] == pytest.approx(grid[np.argmin(losses)], abs=0.011)


def test_both_parts_are_found_and_combined():
    matrix, first, second = random_pool()
    stack = StackedCorrectness({"first": Known(first), "second": Known(second)}).fit(matrix)
    np.testing.assert_allclose(stack.weights_, [2, 1], atol=0.25)
    logits = sum(stack.weights_[name] * logit(table) for name, table in (("first", first), ("second", second)))
    np.testing.assert_allclose(stack.predict_matrix(matrix), expit(logits), atol=1e-3)


def test_a_part_that_tells_nothing_is_left_out():
    matrix, first, second = random_pool()
    noise = pd.DataFrame(np.random.default_rng(1).random(first.shape), first.index, first.columns)
    stack = StackedCorrectness({"noise": Known(noise), "first": Known(first), "second": Known(second)}).fit(matrix)
    assert stack.weights_["noise"] == 0
    assert (stack.weights_[["first", "second"]] > 0).all()
    assert len(stack.path_) == 7


def test_fewest_parts_within_an_error_of_the_least_loss():
    rng = np.random.default_rng(2)
    z, noise = rng.standard_normal((2, 4000))
    correct = rng.random(4000) < expit(z)
    group = np.arange(4000) // 10
    path, weights = _choose(["one", "same"], np.stack([z, z + 1e-3 * noise], axis=1), correct, group)
    assert (weights > 0).sum() == 1
    # The error of a paired mean difference, by definition, with groups as the units.
    losses = [np.logaddexp(0, w * z) - correct * w * z for w in (_weigh(z[:, None], correct)[0], 0.0)]
    difference = losses[1] - losses[0]
    path, _ = _choose(["zero", "one"], np.stack([0 * z, z], axis=1), correct, group)
    sums = np.bincount(group, difference - difference.mean())
    expected = np.sqrt(400 / 399 * (sums**2).sum()) / 4000
    assert path["stderr"][0] == pytest.approx(expected, rel=1e-3)
    assert path["above"][0] == pytest.approx(difference.mean(), rel=1e-3)


def test_copies_of_a_question_are_in_one_fold():
    """Labels are noise: one nearest neighbour would be perfect if it could look at the copy."""
    matrix = noise_with_copies(60)
    stack = StackedCorrectness({"model mean": ModelMean(), "KNN": KNNCorrectness(1)}).fit(matrix)
    assert stack.weights_["KNN"] == 0


def test_standard_parts_on_any_pool(make_matrix):
    for n_models in (1, 4):
        matrix = make_matrix(n_models=n_models, n_questions=60, missing=0.2)
        stack = StackedCorrectness().fit(matrix)
        assert list(stack.weights_.index) == list(standard_parts())
        assert np.isfinite(stack.predict_proba(matrix.embeddings)).all()
    assert isinstance(stack.parts_["KNN"], Tuned)


def test_chosen_hyperparameters_are_kept_in_the_folds(toy, monkeypatch):
    alphas = []
    fit = MatrixFactorization.fit
    monkeypatch.setattr(MatrixFactorization, "fit", lambda self, *rest: alphas.append(self.alpha) or fit(self, *rest))
    stack = StackedCorrectness({"MF": MatrixFactorization(dim=4)}, n_folds=3).fit(toy)
    assert alphas == ["auto"] + 3 * [stack.parts_["MF"].alpha_]


def test_the_prior_is_that_of_the_part_in_the_folds(make_matrix, monkeypatch):
    matrix, fits, fit = make_matrix(n_models=8, n_questions=60, missing=0.4), [], MatrixFactorization.fit
    monkeypatch.setattr(MatrixFactorization, "fit", lambda self, *rest: fits.append(self) or fit(self, *rest))
    stack = StackedCorrectness({"MF": MatrixFactorization(dim=4, prior="pool")}, n_folds=3).fit(matrix)
    chosen = stack.parts_["MF"]
    assert [each.rho_ for each in fits] == 4 * [chosen.rho_]
    assert [each.alpha_ for each in fits] == 4 * [chosen.alpha_]


def test_parts_that_are_not_told_the_benchmark_are_weighed_without_it():
    """The accuracy on a benchmark is all that there is to know, and the text does not show the benchmark."""
    rng = np.random.default_rng(0)
    ids, models = [f"q{number}" for number in range(600)], [f"m{number}" for number in range(6)]
    hard = rng.random(600) < 0.5
    labels = (rng.random((6, 600)) < np.where(hard, 0.1, 0.9)).astype(int)
    questions = pd.DataFrame({"benchmark": np.where(hard, "hard", "easy")}, index=ids)
    matrix = CorrectnessMatrix(pd.DataFrame(labels, models, ids), questions, rng.standard_normal((600, 4)))
    parts = {"benchmark mean": BenchmarkMean(), "model mean": ModelMean()}
    told, typed = (StackedCorrectness(parts, told_benchmark=told).fit(matrix) for told in (True, False))
    assert told.path_["log_loss"].min() < 0.35
    assert typed.path_["log_loss"].min() > 0.69  # as good as no prediction
    np.testing.assert_array_equal(typed.predict_matrix(matrix), typed.predict_proba(matrix.embeddings).T)
    assert "of known benchmarks" in told.summary()
    assert "of known benchmarks" not in typed.summary()


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (StackedCorrectness({}), "parts is empty"),
        (StackedCorrectness({"mean": BenchmarkMean()}, n_folds=0), "n_folds must be a positive whole number"),
        (StackedCorrectness({"mean": BenchmarkMean()}, n_folds=1), "n_folds must be at least 2"),
    ],
)
def test_nothing_to_hold_out_or_weigh_is_refused(toy, stack, message):
    with pytest.raises(ValueError, match=message):
        stack.fit(toy)


def test_where_nothing_helps_every_probability_is_one_half():
    matrix, first, _ = random_pool(n_questions=60)
    wrong = Known(1 - first)
    stack = StackedCorrectness({"wrong": wrong}).fit(matrix)
    assert stack.weights_.tolist() == [0]
    assert (stack.predict_matrix(matrix) == 0.5).all()
    assert stack.summary().startswith("no part predicts held-out questions better")
