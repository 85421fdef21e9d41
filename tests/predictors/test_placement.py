"""Placing a new model: its optimum by a general minimizer, its uncertainty by hand, and what the pool gains."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from embedllm import MatrixFactorization
from embedllm.predictors.placement import (
    RHOS,
    TAUS,
    PoolPrior,
    choose_on_pool,
    choose_strengths,
    leading_directions,
    log_loss,
    most_probable,
    place_model,
    with_one,
)


def made_up(n_models=12, n_questions=60, width=5, n_new=3, missing=0.3, seed=0):
    """Weights of a pool, questions, and answers of new models like those of the pool, some of them missing."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((width + 1, 2))
    weights = basis @ rng.standard_normal((2, n_models + n_new)) + rng.standard_normal((width + 1, 1))
    questions = with_one(rng.standard_normal((n_questions, width)))
    labels = (questions.numpy() @ weights[:, n_models:] + rng.logistic(size=(n_questions, n_new)) > 0).astype(float)
    labels[rng.random(labels.shape) < missing] = -1
    return torch.tensor(weights[:, :n_models]), questions, torch.tensor(labels)


class TestPrior:
    def test_is_the_gaussian_by_hand(self):
        weights = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 4.0]])  # deviations (-1, 0, -2) and (1, 0, 2)
        own = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        prior = PoolPrior.learn(weights, own, tau=2.0, rho=0.5)
        assert prior.mean.tolist() == [2, 2, 2]
        covariance = 2 * (np.array([[1, 0, 2], [0, 0, 0], [2, 0, 4]]) + 0.5 * np.diag([1, 0, 4]))
        np.testing.assert_allclose(prior.directions @ prior.directions.T, covariance, atol=1e-12)

    @pytest.mark.parametrize("weights", [[[2.0], [3.0]], [[2.0, 2.0], [3.0, 3.0]]], ids=["one", "equal"])
    def test_of_models_that_show_no_differences_is_their_mean_and_own_directions(self, weights):
        prior = PoolPrior.learn(torch.tensor(weights), torch.eye(2, dtype=torch.float64), tau=1.0, rho=0.5)
        assert prior.mean.tolist() == [2, 3]
        np.testing.assert_allclose(prior.directions @ prior.directions.T, 0.5 * np.eye(2))

    def test_directions_are_principal_and_end_with_the_intercept(self):
        x = np.random.default_rng(0).standard_normal((50, 4)) * [1, 9, 3, 0] + 5
        directions = leading_directions(with_one(x), 2).numpy()
        np.testing.assert_allclose(np.abs(directions[:, 0]), [0, 1, 0, 0, 0], atol=0.2)
        np.testing.assert_allclose(np.abs(directions[:, 1]), [0, 0, 1, 0, 0], atol=0.2)
        assert directions[:, 2].tolist() == [0, 0, 0, 0, 1]
        assert leading_directions(with_one(x), 9).shape == (5, 4)  # the last coordinate does not vary
        assert leading_directions(with_one(x[:1])).shape == (5, 1)


class TestPlacement:
    def test_is_the_optimum_that_a_general_minimizer_finds(self):
        weights, questions, labels = made_up()
        prior = PoolPrior.learn(weights, leading_directions(questions), 1.3, 0.4)
        scales = [0.1, 5.0]
        placed = most_probable(prior, questions, labels, scales, tol=1e-9)
        g, x = prior.directions.numpy(), questions.numpy()
        for column, (scale, y) in enumerate(product(scales, labels.T.numpy())):
            seen = y >= 0

            def objective(w, y=y, seen=seen, scale=scale):
                z = x[seen] @ (prior.mean.numpy() + g @ w)
                return (np.logaddexp(0, z) - y[seen] * z).sum() + w @ w / scale / 2

            found = minimize(objective, np.zeros(g.shape[1]), method="BFGS", options={"gtol": 1e-7})
            np.testing.assert_allclose(placed[:, column], prior.mean.numpy() + g @ found.x, atol=1e-4)

    def test_uncertainty_is_the_inverse_of_the_second_derivatives(self):
        weights, questions, labels = made_up()
        prior = PoolPrior.learn(weights, leading_directions(questions))
        scales = [0.5, 2.0]
        placed = place_model(prior, questions, labels, scales)
        g, x = prior.directions.numpy(), questions.numpy()
        logits = placed.logits(questions).numpy()
        for k, (scale, y) in enumerate(product(scales, labels.T.numpy())):
            z = x @ placed.weights[:, k].numpy()
            p = expit(z)
            features = x @ g
            hessian = (features * (p * (1 - p) * (y >= 0))[:, None]).T @ features + np.eye(g.shape[1]) / scale
            variance = np.einsum("ij,jk,ik->i", features, np.linalg.inv(hessian), features)
            np.testing.assert_allclose(logits[:, k], z / np.sqrt(1 + np.pi / 8 * variance), rtol=1e-6)
            np.testing.assert_allclose(((x @ placed.spreads[k].T.numpy()) ** 2).sum(axis=1), variance, rtol=1e-6)

    def test_moderated_probability_is_near_the_mean_over_the_posterior(self):
        weights, questions, labels = made_up()
        placed = place_model(PoolPrior.learn(weights, leading_directions(questions)), questions, labels[:, :1])
        draws = torch.tensor(np.random.default_rng(0).standard_normal((placed.roots.shape[1], 20_000)))
        logits = questions @ (placed.weights + placed.directions @ placed.roots[0] @ draws)
        expected = logits.sigmoid().mean(dim=1)
        np.testing.assert_allclose(placed.logits(questions)[:, 0].sigmoid(), expected, atol=0.02)

    def test_without_an_answer_a_model_is_the_mean_of_the_pool_and_unsure(self):
        weights, questions, labels = made_up()
        prior = PoolPrior.learn(weights, leading_directions(questions))
        placed = place_model(prior, questions, torch.full_like(labels, -1))
        np.testing.assert_allclose(placed.weights, prior.mean[:, None].expand(-1, 3))
        variance = (questions @ prior.directions).square().sum(dim=1)
        np.testing.assert_allclose(
            placed.logits(questions)[:, 0], questions @ prior.mean / (1 + np.pi / 8 * variance).sqrt()
        )

    def test_each_model_is_placed_as_if_it_were_alone(self):
        weights, questions, labels = made_up()
        prior = PoolPrior.learn(weights, leading_directions(questions))
        together = place_model(prior, questions, labels).logits(questions)
        for k in range(labels.shape[1]):
            alone = place_model(prior, questions, labels[:, [k]]).logits(questions)
            np.testing.assert_allclose(together[:, [k]], alone, atol=1e-3)

    def test_the_same_answers_seen_by_another_basis_of_the_questions(self):
        """A rotation of the embeddings, and of the weights, changes nothing."""
        weights, questions, labels = made_up()
        turn = torch.block_diag(
            torch.linalg.qr(torch.tensor(np.random.default_rng(1).standard_normal((5, 5)))).Q, torch.ones(1, 1)
        )
        own = leading_directions(questions)
        one = place_model(PoolPrior.learn(weights, own), questions, labels).logits(questions)
        other = place_model(PoolPrior.learn(turn.T @ weights, turn.T @ own), questions @ turn, labels).logits(
            questions @ turn
        )
        np.testing.assert_allclose(one, other, atol=1e-3)


class TestStrengths:
    def test_are_those_of_the_lowest_loss_on_other_answers(self):
        weights, questions, _ = made_up(n_models=9)
        rng = np.random.default_rng(3)
        labels = torch.tensor((questions.numpy() @ weights.numpy() + rng.logistic(size=(60, 9)) > 0).astype(float))
        own, folds = leading_directions(questions), [np.arange(3), np.arange(3, 6), np.arange(6, 9)]
        asked, scored = (questions[:20], labels[:20]), (questions[20:], labels[20:])
        losses = {}
        for tau in TAUS:
            for rho in RHOS:
                total = 0.0
                for fold in folds:
                    prior = PoolPrior.learn(weights[:, np.setdiff1d(np.arange(9), fold)], own, tau, rho)
                    logits = place_model(prior, asked[0], asked[1][:, fold]).logits(scored[0])
                    total += float(log_loss(logits, scored[1][:, fold]).sum())
                losses[tau, rho] = total
        assert choose_strengths(weights, own, folds, asked, scored) == min(losses, key=losses.get)

    def test_of_a_factorization_come_from_its_own_models(self, make_matrix, matrix_of):
        matrix = make_matrix(n_models=8, n_questions=150, missing=0.2)
        mf = MatrixFactorization(dim=4, alpha=0.1).fit(matrix)
        tau, rho = choose_on_pool(mf, matrix)
        assert tau in TAUS
        assert rho in RHOS
        assert choose_on_pool(mf, matrix.subset(models=matrix.model_names[::-1]))[0] in TAUS
        with pytest.raises(KeyError, match="q-1"):
            choose_on_pool(mf, matrix_of([[0, 1]], ["q-1"]))


def test_few_answers_say_more_with_the_pool():
    weights, questions, labels = made_up(n_models=30, n_questions=400, width=20, n_new=20, missing=0.0)
    own, asked = leading_directions(questions), torch.where(torch.arange(400)[:, None] < 20, labels, -1.0)
    with_pool = PoolPrior.learn(weights, own)
    without = PoolPrior(torch.zeros(21, dtype=torch.float64), torch.eye(21, dtype=torch.float64))
    losses = [
        float(log_loss(place_model(prior, questions, asked).logits(questions), labels).sum())
        for prior in (with_pool, without)
    ]
    assert losses[0] < 0.8 * losses[1]
