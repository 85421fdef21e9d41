"""The training: equal to the authors' procedure pair by pair, with their settings."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fits import quick

from embedllm import PRESETS, CorrectnessMatrix, TrainingPreset
from embedllm.predictors import sgd
from embedllm.predictors.sgd import Parameters, block_logits, block_loss, init_parameters


def random_parameters(n_models=5, width=7, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n_models, dim), (dim, width), (dim,), (2, dim), (2,)]
    return Parameters(*(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes))


def random_block(n_questions=9, n_models=5, width=7, missing=0.3, seed=1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n_questions, n_models)).astype(float)
    labels[rng.random(labels.shape) < missing] = -1
    return torch.tensor(rng.standard_normal((n_questions, width))), torch.tensor(labels)


def with_gradients(parameters, loss_of):
    """The loss and its gradients with respect to the five tensors."""
    leaves = Parameters(*(value.clone().requires_grad_() for value in parameters))
    loss = loss_of(leaves)
    return loss.detach(), torch.autograd.grad(loss, leaves)


def naive_loss(parameters, questions, labels):
    """The authors' procedure, one pair at a time: project, multiply, classify in two outputs, cross-entropy."""
    p, w, b, c, a = parameters
    losses = []
    for q in range(len(questions)):
        for m in range(len(p)):
            if labels[q, m] < 0:
                continue
            projected = torch.stack([torch.dot(w[i], questions[q]) + b[i] for i in range(len(b))])
            hidden = p[m] * projected
            scores = torch.stack([torch.dot(c[0], hidden) + a[0], torch.dot(c[1], hidden) + a[1]])
            losses.append(-torch.log_softmax(scores, dim=0)[int(labels[q, m])])
    return torch.stack(losses).mean()


class TestBlockLoss:
    @pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
    @pytest.mark.parametrize("sizes", [(9, 5, 7, 4), (1, 5, 7, 4), (9, 1, 7, 1), (3, 2, 1, 6)], ids=str)
    def test_equals_the_authors_procedure_pair_by_pair(self, missing, sizes):
        n_questions, n_models, width, dim = sizes
        questions, labels = random_block(n_questions, n_models, width, missing, seed=sum(sizes))
        labels[0, 0] = 1  # at least one pair
        parameters = random_parameters(n_models, width, dim)
        loss, gradients = with_gradients(parameters, lambda leaves: block_loss(leaves, questions, labels))
        expected, expected_gradients = with_gradients(parameters, lambda leaves: naive_loss(leaves, questions, labels))
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        for name, got, wanted in zip(Parameters._fields, gradients, expected_gradients, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9, msg=name)

    def test_large_logits_stay_finite(self):
        parameters = Parameters(*(value * 100 for value in random_parameters()))
        questions, labels = random_block()
        loss, gradients = with_gradients(parameters, lambda leaves: block_loss(leaves, questions, labels))
        assert torch.isfinite(loss)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)

    def test_nothing_observed_is_zero(self):
        questions, labels = random_block()
        loss, gradients = with_gradients(
            random_parameters(), lambda leaves: block_loss(leaves, questions, torch.full_like(labels, -1))
        )
        assert loss == 0
        assert not any(gradient.any() for gradient in gradients)

    def test_model_without_an_answer_changes_nothing_for_the_others(self):
        questions, labels = random_block(missing=0.2)
        labels[:, 3] = -1
        others = [0, 1, 2, 4]
        parameters = random_parameters()
        fewer = parameters._replace(model_embeddings=parameters.model_embeddings[others])
        loss, gradients = with_gradients(parameters, lambda leaves: block_loss(leaves, questions, labels))
        expected, expected_gradients = with_gradients(
            fewer, lambda leaves: block_loss(leaves, questions, labels[:, others])
        )
        assert loss.item() == pytest.approx(expected.item(), abs=1e-14)
        assert not gradients[0][3].any()
        torch.testing.assert_close(gradients[0][others], expected_gradients[0], rtol=0, atol=1e-14)
        for got, wanted in zip(gradients[1:], expected_gradients[1:], strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)

    def test_every_observed_pair_weighs_the_same(self):
        questions, labels = random_block(missing=0.5)
        parameters = random_parameters()
        pairs = (labels != -1).sum(dim=1)
        single = [block_loss(parameters, questions[q : q + 1], labels[q : q + 1]) for q in range(len(labels))]
        mean = sum(loss * n for loss, n in zip(single, pairs, strict=True)) / pairs.sum()
        assert block_loss(parameters, questions, labels).item() == pytest.approx(mean.item(), abs=1e-12)

    def test_logits_of_a_block_are_those_of_its_questions(self):
        questions, _ = random_block()
        parameters = random_parameters()
        together = block_logits(parameters, questions)
        assert together.shape == (9, 5)
        for q in range(len(questions)):
            torch.testing.assert_close(together[q : q + 1], block_logits(parameters, questions[q : q + 1]))


class TestNoise:
    """With noise the models of a question share it; in the authors' code every pair has its own."""

    ALPHA = 1.0

    def expected_loss(self, parameters, questions, labels):
        """Mean over pairs of the expected loss of a pair with noise of its own.

        The logit of a pair is linear in the noise, so normal with mean z and standard deviation alpha |W' direction|,
        and the expectation a one-dimensional integral: Gauss-Hermite quadrature.
        """
        p, w, b, c, a = parameters
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        nodes, weights = torch.tensor(nodes), torch.tensor(weights / weights.sum())
        losses = []
        for q in range(len(questions)):
            for m in range(len(p)):
                if labels[q, m] < 0:
                    continue
                direction = w.T @ ((c[1] - c[0]) * p[m])
                mean = direction @ questions[q] + ((c[1] - c[0]) * p[m]) @ b + a[1] - a[0]
                z = mean + self.ALPHA * direction.norm() * nodes
                sign = 1 if labels[q, m] == 1 else -1
                losses.append(weights @ torch.log1p(torch.exp(-sign * z)))
        return torch.stack(losses).mean()

    def test_shared_noise_has_the_expected_loss_and_gradients_of_noise_for_each_pair(self):
        parameters = Parameters(*(value / 2 for value in random_parameters(n_models=4, width=3, dim=3)))
        questions, labels = random_block(n_questions=3, n_models=4, width=3)
        assert ((labels != -1).sum(dim=1) > 1).any()  # there is noise to share
        expected, expected_gradients = with_gradients(
            parameters, lambda leaves: self.expected_loss(leaves, questions, labels)
        )
        leaves = Parameters(*(value.clone().requires_grad_() for value in parameters))
        generator = torch.Generator().manual_seed(0)
        draws = []
        for _ in range(6000):
            noisy = questions + self.ALPHA * torch.randn(*questions.shape, generator=generator, dtype=torch.float64)
            loss = block_loss(leaves, noisy, labels)
            draws.append(torch.cat([loss[None], *(g.ravel() for g in torch.autograd.grad(loss, leaves))]).detach())
        draws = torch.stack(draws)
        wanted = torch.cat([expected[None], *(g.ravel() for g in expected_gradients)])
        stderr = draws.std(dim=0) / len(draws) ** 0.5
        assert ((draws.mean(dim=0) - wanted).abs() <= 5 * stderr).all()
        # The noise is large enough for the check to fail: without it loss and gradients are others.
        loss, gradients = with_gradients(parameters, lambda leaves: block_loss(leaves, questions, labels))
        without = torch.cat([loss[None], *(g.ravel() for g in gradients)])
        assert ((without - wanted).abs() > 10 * stderr).float().mean() > 0.25

    @pytest.fixture
    def batches(self, monkeypatch):
        seen = []

        def spy(parameters, questions):
            seen.append(questions.detach().clone())
            return block_logits(parameters, questions)

        monkeypatch.setattr(sgd, "block_logits", spy)
        return seen

    def constant(self, make_matrix):
        """Questions of one embedding, so that what a step sees more than that is its noise."""
        toy = make_matrix(n_questions=200, width=30)
        frame = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
        return CorrectnessMatrix(frame, toy.questions, np.full((200, 30), 0.25))

    @pytest.mark.parametrize("alpha", [0.05, 1.0])
    def test_training_draws_fresh_noise_of_that_size(self, make_matrix, batches, alpha):
        quick(alpha=alpha).fit(self.constant(make_matrix))
        noise = torch.cat(batches) - 0.25
        assert noise.std().item() == pytest.approx(alpha, rel=0.02)
        assert abs(noise.mean().item()) < 0.02 * alpha
        assert len(torch.unique(noise[:, 0])) > 0.99 * len(noise)  # no draw comes twice

    def test_without_noise_training_sees_the_questions(self, make_matrix, batches):
        quick(alpha=0).fit(self.constant(make_matrix))
        assert (torch.cat(batches) == 0.25).all()

    def test_validation_and_prediction_are_without_noise(self, toy, batches):
        train, val, _ = toy.split()
        model = quick(alpha=0.5).fit(train, validation=val)
        assert sum(
            len(batch) == val.n_questions and torch.equal(batch, torch.tensor(val.embeddings)) for batch in batches
        )
        np.testing.assert_array_equal(model.predict_matrix(val), model.predict_matrix(val))


class TestSteps:
    def test_paper_preset_is_the_paper_s(self):
        assert {"paper": TrainingPreset(2048, epochs=50, learning_rate=1e-4, weight_decay=1e-5)} == PRESETS

    @pytest.fixture
    def steps(self, monkeypatch):
        """Observed pairs, and learning rate and weight decay, of every step of a fit."""
        pairs, groups = [], []
        step = torch.optim.Adam.step

        def loss_spy(parameters, questions, labels, *others):
            pairs.append(int((labels != -1).sum()))
            return block_loss(parameters, questions, labels, *others)

        def step_spy(self, *args, **kwargs):
            groups.append((self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]))
            return step(self, *args, **kwargs)

        monkeypatch.setattr(sgd, "block_loss", loss_spy)
        monkeypatch.setattr(torch.optim.Adam, "step", step_spy)
        return pairs, groups

    @pytest.mark.parametrize("missing", [0, 0.3, 0.8])
    def test_step_of_the_paper_preset_holds_about_2048_observed_pairs(self, small_pool, steps, missing):
        train = small_pool[0].split().train
        labels = train.labels.copy()
        labels[np.random.default_rng(0).random(labels.shape) < missing] = -1
        matrix = train.with_labels(labels)
        quick(preset=replace(PRESETS["paper"], epochs=2)).fit(matrix)
        pairs, groups = steps
        epoch = len(pairs) // 2
        assert sum(pairs[:epoch]) == sum(pairs[epoch:]) == matrix.observed.sum()
        full = [*pairs[: epoch - 1], *pairs[epoch:-1]]  # the last step of an epoch takes what is left
        assert np.mean(full) == pytest.approx(2048, rel=0.05)
        assert set(groups) == {(1e-4, 1e-5)}

    def test_initial_values_are_pytorch_s(self):
        # Embedding: standard normal. Linear: uniform within 1 / sqrt(inputs), weights and biases.
        drawn = init_parameters(300, 400, 100, torch.Generator().manual_seed(0))
        assert drawn.model_embeddings.std().item() == pytest.approx(1, abs=0.02)
        for name, inputs in (("projection", 400), ("projection_bias", 400), ("classifier", 100)):
            bound = inputs**-0.5
            assert 0.9 * bound < getattr(drawn, name).abs().max() <= bound
        assert [tuple(value.shape) for value in drawn] == [(300, 100), (100, 400), (100,), (2, 100), (2,)]
