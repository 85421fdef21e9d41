"""The prior of the pool: a Gaussian by hand, without the answers of the model itself, better where answers are few."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal

from embedllm import CorrectnessMatrix, MatrixFactorization
from embedllm.predictors import pool_prior
from embedllm.predictors._answers import Answers
from embedllm.predictors.exact import Problem
from embedllm.predictors.pool_prior import TAU, pool_penalty, solve_with_pool

CPU = torch.device("cpu")


def problem_of(matrix):
    return Problem(Answers(matrix, list(matrix.model_names), CPU), torch.float64)


def families(n_models=30, n_questions=400, width=30, n_answers=60, seed=0):
    """Models whose skills differ in three directions only, each with a few answers; and the answers that are hidden."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n_questions, width)).astype(np.float32)
    skills = rng.standard_normal((n_models, 3)) @ rng.standard_normal((3, width)) / 3 + rng.standard_normal(width) / 2
    truth = (skills @ embeddings.T + rng.logistic(size=(n_models, n_questions)) > 0).astype(int)
    asked = rng.random(truth.shape).argsort(axis=1) < n_answers
    names, ids = [f"m{m:02}" for m in range(n_models)], [f"q{q}" for q in range(n_questions)]
    questions = pd.DataFrame({"benchmark": "b"}, ids)
    seen, hidden = (
        CorrectnessMatrix(pd.DataFrame(np.where(part, truth, -1), names, ids), questions, embeddings)
        for part in (asked, ~asked)
    )
    return seen, hidden


def log_loss(model, matrix):
    proba = model.predict_matrix(matrix).astype(float)
    return -np.log(np.where(matrix.labels == 1, proba, 1 - proba)[matrix.observed]).mean()


class TestPenalty:
    @pytest.mark.parametrize("rho", [0.1, 3.0])
    def test_is_the_gaussian_by_hand(self, rho):
        others = np.array([[1.0, 3.0, -1.0, 1.0], [0.0, 2.0, 2.0, 0.0], [5.0, 5.0, 6.0, 4.0]])  # 3 weights, 4 models
        mean, deviations = np.array([1.0, 1.0, 5.0]), np.array([[0, 2, -2, 0], [-1, 1, 1, -1], [0, 0, 1, -1]])
        scale = (8 + 4 + 2) / 12  # mean square of the deviations
        covariance = TAU * deviations @ deviations.T / 4 + rho * scale * np.eye(3)
        prior = multivariate_normal(mean, covariance)
        penalty = pool_penalty(torch.tensor(others), torch.tensor([4.0, 1.0, 10.0]), rho)
        weights = np.random.default_rng(0).standard_normal((3, 3)) * 3
        value, gradient = penalty(torch.tensor(weights))
        expected = [(prior.logpdf(mean) - prior.logpdf(w)) / n for w, n in zip(weights.T, (4, 1, 10), strict=True)]
        np.testing.assert_allclose(value, expected)
        pull = np.linalg.solve(covariance, weights - mean[:, None]) / [4, 1, 10]
        np.testing.assert_allclose(gradient, pull)

    @pytest.mark.parametrize("others", [[[2.0], [3.0]], [[2.0, 2.0], [3.0, 3.0]]], ids=["one", "equal"])
    def test_of_models_that_show_no_differences_is_their_mean(self, others):
        penalty = pool_penalty(torch.tensor(others), torch.tensor([1.0]), rho=0.5)
        np.testing.assert_allclose(penalty.mean, [[2], [3]])
        np.testing.assert_allclose(penalty.precision, np.eye(2) / 0.5)


class TestPool:
    @pytest.fixture
    def priors(self, monkeypatch):
        """Return the function that lists the priors of a fit with the pool, in the order of its groups."""
        given = []

        def spy(others, n_observed, rho):
            given.append(pool_penalty(others, n_observed, rho))
            return given[-1]

        monkeypatch.setattr(pool_prior, "pool_penalty", spy)

        def of(matrix):
            given.clear()
            problem = problem_of(matrix)
            solve_with_pool(problem, problem.solve(problem.ridge(0.2), tol=1e-6).weights, 1.0, 1e-6)
            return list(given)

        return of

    def test_prior_of_a_model_does_not_depend_on_its_answers(self, make_matrix, priors):
        matrix = make_matrix(n_models=12, n_questions=80, missing=0.3)
        labels = matrix.labels.copy()
        # Model 7 is of the group of models 2 and 7. As many answers and correct ones: the penalty of the others stays.
        answers = labels[7][matrix.observed[7]]
        labels[7][matrix.observed[7]] = np.random.default_rng(0).permutation(answers)
        assert (labels[7] != matrix.labels[7]).any()
        before, after = priors(matrix), priors(matrix.with_labels(labels))
        assert len(before) == 5
        for group, (old, new) in enumerate(zip(before, after, strict=True)):
            same = [torch.allclose(getattr(old, part), getattr(new, part), atol=1e-9) for part in ("mean", "precision")]
            assert same == ([True, True] if group == 2 else [False, False])

    def test_model_without_an_answer_is_the_mean_of_other_groups(self, make_matrix):
        matrix = make_matrix(n_models=12, n_questions=80)
        labels = matrix.labels.copy()
        labels[7] = -1
        problem = problem_of(matrix.with_labels(labels))
        ridge = problem.solve(problem.ridge(0.2), tol=1e-8).weights
        weights = solve_with_pool(problem, ridge, 1.0, tol=1e-8).weights
        others = [m for m in range(12) if m % 5 != 2]
        torch.testing.assert_close(weights[:, 7], ridge[:, others].mean(dim=1), rtol=0, atol=1e-6)

    def test_many_answers_outweigh_it(self, make_matrix):
        distances = []
        for n_questions in (100, 1000, 10_000):
            problem = problem_of(make_matrix(n_models=8, n_questions=n_questions, width=4))
            unpenalized = problem.solve(problem.ridge(1e-6), tol=1e-7).weights
            ridge = problem.solve(problem.ridge(0.2), tol=1e-7).weights
            weights = solve_with_pool(problem, ridge, 1.0, tol=1e-7).weights
            distances.append(float((weights - unpenalized).norm() / unpenalized.norm()))
        assert distances[1] < distances[0] / 3 and distances[2] < distances[1] / 3
        assert distances[2] < 0.005

    def test_history_is_of_all_groups(self, make_matrix):
        model = MatrixFactorization(alpha=0.2, prior="pool", device="cpu").fit(make_matrix(n_models=12, missing=0.5))
        assert len(model.history_) == model.n_iter_ + 1
        assert model.history_["gradient"].iloc[-1] <= model.tol

    def test_lowers_the_loss_where_answers_are_few(self):
        seen, hidden = families()
        validation, test = (hidden.subset(questions=hidden.question_ids[part]) for part in np.s_[:100, 100:])
        losses = [
            log_loss(MatrixFactorization(prior=prior, device="cpu").fit(seen, validation), test)
            for prior in (None, "pool")
        ]
        assert losses[1] < losses[0] - 0.01

    def test_two_models(self, toy):
        pair = toy.subset(models=toy.model_names[:2])
        proba = MatrixFactorization(prior="pool", device="cpu").fit(pair).predict_matrix(pair)
        assert np.isfinite(proba).all() and ((proba > 0.5) == (pair.labels == 1)).mean() > 0.7

    def test_one_model_is_refused(self, toy):
        alone = toy.subset(models=toy.model_names[:1])
        with pytest.raises(ValueError, match="there is one model only: leave out the prior"):
            MatrixFactorization(prior="pool", device="cpu").fit(alone)
