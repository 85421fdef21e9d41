"""Matrix factorization: the authors' procedure pair by pair, blind to what was not observed, and repeatable."""

import inspect
import json
import pickle
import stat
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import embedllm.predictors.mf
from embedllm import PRESETS, CorrectnessMatrix, KNNCorrectness, MatrixFactorization, TrainingPreset, load_dataset
from embedllm.predictors.mf import Parameters, block_logits, block_loss, init_parameters

QUICK = TrainingPreset(pairs_per_step=64, epochs=12, learning_rate=1e-2, weight_decay=1e-5)


def quick(**settings):
    return MatrixFactorization(**({"dim": 6, "preset": QUICK, "device": "cpu"} | settings))


def bits(model):
    """Everything that a fit learned, for comparisons without any tolerance."""
    return [value.numpy().tobytes() for value in model.parameters_]


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

        def spy(parameters, questions, *others):
            seen.append(questions.detach().clone())
            return block_loss(parameters, questions, *others)

        monkeypatch.setattr(embedllm.predictors.mf, "block_loss", spy)
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


class TestPredictions:
    def test_equal_the_sigmoid_of_the_logits_and_of_the_multiplied_out_form(self, toy):
        model = quick().fit(toy)
        proba = model.predict_proba(toy.embeddings)
        assert proba.shape == (40, 6)
        assert proba.dtype == np.float32
        logits = block_logits(model.parameters_, torch.tensor(toy.embeddings))
        np.testing.assert_allclose(proba, torch.sigmoid(logits).numpy(), atol=1e-6)
        linear = toy.embeddings @ model.coef_.T + model.intercept_
        np.testing.assert_allclose(proba, 1 / (1 + np.exp(-linear)), atol=1e-6)

    def test_equal_the_authors_classifier_pair_by_pair(self, toy):
        model = quick().fit(toy)
        p, w, b, c, a = (value.double().numpy() for value in model.parameters_)
        proba = model.predict_matrix(toy)
        for m in range(6):
            for q in range(0, 40, 7):
                scores = c @ (p[m] * (w @ toy.embeddings[q] + b)) + a
                assert proba[m, q] == pytest.approx(np.exp(scores[1]) / np.exp(scores).sum(), abs=1e-6)

    def test_attributes(self, toy):
        model = quick().fit(toy)
        assert list(model.model_names_) == list(toy.model_names)
        assert model.model_embeddings_.shape == (6, 6)
        assert model.coef_.shape == (6, 12)
        assert model.intercept_.shape == (6,)
        np.testing.assert_array_equal(model.model_embeddings_, model.parameters_.model_embeddings.numpy())

    def test_question_never_seen_is_scored_from_its_embedding(self, toy):
        model = quick().fit(toy.subset(questions=toy.question_ids[:30]))
        proba = model.predict_proba(toy.embeddings[30:])
        assert proba.shape == (10, 6)
        np.testing.assert_allclose(proba[3:4], model.predict_proba(toy.embeddings[33:34]), atol=1e-6)

    def test_embeddings_of_another_width_are_refused(self, toy):
        model = quick().fit(toy)
        for shape in ((3, 11), (12,)):
            with pytest.raises(ValueError, match=r"the fit was on shape \(n_questions, 12\)"):
                model.predict_proba(np.ones(shape))

    def test_fit_learns(self, make_matrix):
        matrix = make_matrix(n_questions=400)
        train, _, test = matrix.split()
        model = quick().fit(train)
        assert model.score(test) > 0.7 > test.labels.mean() + 0.1
        assert model.history_["train_loss"].iloc[-1] < 0.9 * model.history_["train_loss"].iloc[0]

    def test_history(self, toy):
        train, val, _ = toy.split()
        history = quick().fit(train).history_
        assert list(history.columns) == ["train_loss"]
        assert history.index.name == "epoch"
        assert len(history) == QUICK.epochs
        model = quick().fit(train, validation=val)
        assert list(model.history_.columns) == ["train_loss", "val_loss", "val_accuracy"]
        last = model.history_.iloc[-1]
        proba = model.predict_matrix(val).astype(float)
        assert last["val_loss"] == pytest.approx(-np.log(np.where(val.labels == 1, proba, 1 - proba)).mean(), abs=1e-5)
        assert last["val_accuracy"] == pytest.approx(model.score(val), abs=1e-6)

    def test_validation_is_watched_and_not_learned_from(self, toy):
        train, val, _ = toy.split()
        models = val.model_names[::-1]
        assert bits(quick().fit(train)) == bits(quick().fit(train, validation=val))
        reordered = quick().fit(train, validation=val.subset(models=models)).history_
        pd.testing.assert_frame_equal(reordered, quick().fit(train, validation=val).history_)


class TestMissing:
    def test_question_that_nobody_answered_changes_no_bit(self, toy, relabel):
        labels = toy.labels.copy()
        labels[:, [3, 17]] = -1
        vectors = toy.embeddings.copy()
        vectors[[3, 17]] *= -5
        one = relabel(toy, labels)
        other = CorrectnessMatrix(
            pd.DataFrame(labels, toy.model_names, toy.question_ids), toy.questions, vectors, models=toy.models
        )
        assert bits(quick().fit(one)) == bits(quick().fit(other))

    def test_hidden_cell_is_neither_right_nor_wrong(self, toy, relabel):
        def fitted(value):
            labels = toy.labels.copy()
            labels[2, 10:20] = value
            return quick(alpha=0, preset=replace(QUICK, epochs=60)).fit(relabel(toy, labels)).predict_matrix(toy)

        right, wrong, hidden = (fitted(value)[2, 10:20].mean() for value in (1, 0, -1))
        assert wrong < hidden < right

    def test_model_without_a_row_keeps_its_initial_embedding(self, toy, relabel):
        labels = toy.labels.copy()
        labels[4] = -1
        # Without weight decay nothing moves what no answer speaks of.
        settings = {"preset": replace(QUICK, weight_decay=0.0)}
        model = quick(**settings).fit(relabel(toy, labels))
        untrained = quick(**settings | {"preset": replace(QUICK, weight_decay=0.0, epochs=0)}).fit(toy)
        np.testing.assert_array_equal(model.model_embeddings_[4], untrained.model_embeddings_[4])
        assert (model.model_embeddings_[:4] != untrained.model_embeddings_[:4]).all()

    def test_everything_missing_is_refused(self, toy, relabel):
        with pytest.raises(ValueError, match=r"nothing to learn from: .*0\.0% observed"):
            quick().fit(relabel(toy, np.full_like(toy.labels, -1)))


class TestRepeatability:
    def test_same_seed_gives_the_same_bits_and_another_seed_does_not(self, toy_with_holes):
        first, again, other = (bits(quick(random_state=seed).fit(toy_with_holes)) for seed in (3, 3, 4))
        assert first == again
        assert all(one != two for one, two in zip(first, other, strict=True))

    def test_second_fit_of_one_object_starts_anew(self, toy, toy_with_holes):
        model = quick().fit(toy_with_holes)
        assert bits(model.fit(toy)) == bits(quick().fit(toy))

    def test_global_generators_are_neither_used_nor_reseeded(self, toy):
        import random

        def states():
            return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002

        torch.manual_seed(1)
        before = states()
        first = bits(quick().fit(toy))
        assert states() == before
        torch.manual_seed(2)
        assert bits(quick().fit(toy)) == first

    def test_order_of_the_models_changes_nothing(self, toy_with_holes):
        model = quick().fit(toy_with_holes)
        learned = dict(zip(model.model_names_, model.model_embeddings_, strict=True))
        for seed in range(3):
            names = np.random.default_rng(seed).permutation(toy_with_holes.model_names)
            other = quick().fit(toy_with_holes.subset(models=names))
            assert list(other.model_names_) == list(names)
            np.testing.assert_array_equal(other.model_embeddings_, [learned[name] for name in names])
            # Matrix products round by the place of a row.
            predicted = [fitted.predict_matrix(toy_with_holes) for fitted in (other, model)]
            np.testing.assert_allclose(*predicted, atol=1e-6)

    def test_number_of_threads_changes_rounding_only(self, small_pool):
        train, _, test = small_pool[0].split()
        preset = TrainingPreset(pairs_per_step=14_336, epochs=4, learning_rate=5e-3, weight_decay=1e-5)
        predicted = []
        before = torch.get_num_threads()
        try:
            for threads in (1, 4):
                torch.set_num_threads(threads)
                predicted.append(quick(dim=64, preset=preset).fit(train).predict_matrix(test))
        finally:
            torch.set_num_threads(before)
        # Sums are taken in another order. The tolerance is ten thousand times below what separates two models.
        np.testing.assert_allclose(*predicted, atol=1e-5)

    def test_imports_reseed_nothing_and_their_order_changes_no_bit(self):
        code = (
            "import random, numpy, pandas, torch\n"
            "def states():\n"
            "    return random.getstate(), numpy.random.get_state()[1].tobytes(), bytes(torch.get_rng_state())\n"
            "random.seed(5); numpy.random.seed(5); torch.manual_seed(5); torch.set_num_threads(1)\n"
            "before = states()\n"
            "{}\n"
            "assert states() == before\n"
            "from embedllm import CorrectnessMatrix, MatrixFactorization, TrainingPreset\n"
            "rng, ids = numpy.random.default_rng(0), [str(i) for i in range(50)]\n"
            "labels = pandas.DataFrame(rng.integers(-1, 2, (3, 50)), list('abc'), ids)\n"
            "questions = pandas.DataFrame({{'benchmark': 'x'}}, index=ids)\n"
            "matrix = CorrectnessMatrix(labels, questions, rng.standard_normal((50, 8)))\n"
            "model = MatrixFactorization(8, preset=TrainingPreset(20, 2, 5e-3, 1e-5), device='cpu').fit(matrix)\n"
            "print(model.coef_.tobytes().hex(), model.history_.to_json())\n"
        )
        orders = (
            "import embedllm",
            "import embedllm.plots, embedllm.studies.routing, embedllm.predictors.knn, embedllm.book.extension, "
            "embedllm.predictors.mf",
        )
        printed = [
            subprocess.run(
                [sys.executable, "-c", code.format(order)], capture_output=True, text=True, check=True
            ).stdout
            for order in orders
        ]
        assert printed[0] == printed[1] != ""


class TestSettings:
    def test_paper_preset_is_the_paper_s(self):
        assert PRESETS["paper"] == TrainingPreset(
            pairs_per_step=2048, epochs=50, learning_rate=1e-4, weight_decay=1e-5, one_cycle=False, min_steps=0
        )

    def test_defaults_are_the_authors(self):
        model = MatrixFactorization()
        assert (model.dim, model.alpha, model.random_state, model.device) == (232, 0.05, 0, "auto")
        assert KNNCorrectness().n_neighbors == 131
        names = list(inspect.signature(MatrixFactorization).parameters)
        assert names == ["dim", "alpha", "preset", "device", "random_state"]

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

        monkeypatch.setattr(embedllm.predictors.mf, "block_loss", loss_spy)
        monkeypatch.setattr(torch.optim.Adam, "step", step_spy)
        return pairs, groups

    @pytest.mark.parametrize("missing", [0, 0.3, 0.8])
    def test_step_of_the_paper_preset_holds_about_2048_observed_pairs(self, small_pool, relabel, steps, missing):
        train = small_pool[0].split().train
        labels = train.labels.copy()
        labels[np.random.default_rng(0).random(labels.shape) < missing] = -1
        matrix = relabel(train, labels)
        quick(preset=replace(PRESETS["paper"], epochs=2)).fit(matrix)
        pairs, groups = steps
        epoch = len(pairs) // 2
        assert sum(pairs[:epoch]) == sum(pairs[epoch:]) == matrix.observed.sum()
        full = [*pairs[: epoch - 1], *pairs[epoch:-1]]  # the last step of an epoch takes what is left
        assert np.mean(full) == pytest.approx(2048, rel=0.05)
        assert set(groups) == {(1e-4, 1e-5)}

    def test_small_data_gets_the_wanted_number_of_steps(self, toy, steps):
        preset = TrainingPreset(60, epochs=1, learning_rate=1e-2, weight_decay=0, one_cycle=True, min_steps=10)
        model = quick(preset=preset).fit(toy)
        # 240 pairs are 4 steps, so 3 epochs have the 10 steps.
        assert len(steps[0]) == 12
        assert len(model.history_) == 3
        rates = [rate for rate, _ in steps[1]]
        assert max(rates) == pytest.approx(1e-2, rel=0.05)
        assert rates[-1] < rates[0] < max(rates)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            *(({"dim": dim}, f"dim must be a positive whole number, got {dim!r}") for dim in (-3, 0, 2.5, "ten", True)),
            ({"alpha": -1}, "alpha must be a number of at least 0, got -1"),
            ({"alpha": float("nan")}, "alpha must be a number of at least 0, got nan"),
            ({"alpha": float("inf")}, "alpha must be a number of at least 0, got inf"),
            ({"alpha": "ten"}, "alpha must be a number of at least 0, got 'ten'"),
            ({"preset": "slow"}, r"preset must be one of \['fast', 'paper'\] or a TrainingPreset, got 'slow'"),
            ({"preset": None}, "preset must be one of .* got None"),
            ({"device": "tpu"}, "device must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ],
        ids=str,
    )
    def test_bad_setting_is_named_when_fitting(self, toy, settings, message):
        model = quick(**settings)  # the constructor takes anything, as in scikit-learn
        with pytest.raises(ValueError, match=message):
            model.fit(toy)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
    def test_gpu_that_is_not_there_is_refused(self, toy):
        with pytest.raises(ValueError, match="device 'cuda' was asked for, but this machine has no usable GPU"):
            quick(device="cuda").fit(toy)

    def test_numbers_of_numpy_are_numbers(self, toy, tmp_path):
        # As they come out of a loop over np.arange, or of a frame.
        settings = {"dim": np.int64(6), "alpha": np.float32(0.5), "random_state": np.int64(2)}
        model = quick(**settings).fit(toy)
        assert bits(model) == bits(quick(dim=6, alpha=0.5, random_state=2).fit(toy))
        model.save(tmp_path / "mf")
        assert bits(MatrixFactorization.load(tmp_path / "mf")) == bits(model)

    @pytest.mark.parametrize("argument", [np.ones((6, 40)), [[1]], None], ids=["array", "list", "None"])
    def test_bare_data_is_refused(self, argument):
        with pytest.raises(TypeError, match=f"expected a CorrectnessMatrix, got {type(argument).__name__}"):
            quick().fit(argument)

    def test_initial_values_are_pytorch_s(self):
        # Embedding: standard normal. Linear: uniform within 1 / sqrt(inputs), weights and biases.
        drawn = init_parameters(300, 400, 100, torch.Generator().manual_seed(0))
        assert drawn.model_embeddings.std().item() == pytest.approx(1, abs=0.02)
        for name, inputs in (("projection", 400), ("projection_bias", 400), ("classifier", 100)):
            bound = inputs**-0.5
            assert 0.9 * bound < getattr(drawn, name).abs().max() <= bound
        assert [tuple(value.shape) for value in drawn] == [(300, 100), (100, 400), (100,), (2, 100), (2,)]


class TestEdges:
    @pytest.mark.parametrize("value", [0, 1])
    def test_one_answer_to_everything(self, toy, relabel, value):
        model = quick(preset=replace(QUICK, epochs=60)).fit(relabel(toy, np.full_like(toy.labels, value)))
        proba = model.predict_matrix(toy)
        assert np.isfinite(proba).all()
        assert (np.abs(proba - value) < 0.3).all()

    @pytest.mark.parametrize("size", [(1, 40), (6, 1), (1, 1)], ids=["one model", "one question", "one cell"])
    @pytest.mark.parametrize("preset", [QUICK, replace(PRESETS["fast"], min_steps=20)], ids=["quick", "fast"])
    def test_smallest_data(self, toy, size, preset):
        part = toy.subset(models=toy.model_names[: size[0]], questions=toy.question_ids[: size[1]])
        model = quick(preset=preset).fit(part, validation=part.subset(questions=[]))
        proba = model.predict_matrix(part)
        assert proba.shape == size
        assert np.isfinite(proba).all()
        assert model.history_["val_loss"].isna().all()
        assert model.history_["train_loss"].notna().all()

    def test_model_without_a_row(self, toy, relabel):
        labels = toy.labels.copy()
        labels[4] = -1
        proba = quick().fit(relabel(toy, labels)).predict_matrix(toy)
        assert np.isfinite(proba).all()
        assert ((proba > 0) & (proba < 1)).all()

    def test_dim_above_everything_else(self, toy):
        assert np.isfinite(quick(dim=100).fit(toy).predict_matrix(toy)).all()

    def test_not_fitted(self, toy, tmp_path):
        model = quick()
        for call in (
            lambda: model.predict_proba(toy.embeddings),
            lambda: model.predict_matrix(toy),
            lambda: model.score(toy),
            lambda: model.save(tmp_path / "mf"),
        ):
            with pytest.raises(
                RuntimeError, match=r"this MatrixFactorization is not fitted yet: call fit\(matrix\) first"
            ):
                call()
        assert not list(tmp_path.iterdir())

    def test_interrupted_fit_leaves_what_was_fitted_before(self, toy, monkeypatch):
        other = toy.subset(models=toy.model_names[::-1])
        fresh, fitted = quick(), quick().fit(toy)
        before = fitted.predict_matrix(toy)

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(embedllm.predictors.mf, "block_loss", interrupt)
        for model in (fresh, fitted):
            with pytest.raises(KeyboardInterrupt):
                model.fit(other)
        # Otherwise the new names would go with the old embeddings.
        np.testing.assert_array_equal(fitted.predict_matrix(toy), before)
        with pytest.raises(RuntimeError, match="not fitted"):
            fresh.predict_matrix(toy)


class TestFile:
    @pytest.mark.parametrize("preset", ["fast", QUICK], ids=["named", "own"])
    def test_round_trip_keeps_every_bit(self, toy, tmp_path, preset):
        train, val, _ = toy.split()
        model = quick(preset=QUICK, alpha=0.125, random_state=7).fit(train, validation=val)
        model.preset = preset
        model.save(tmp_path / "mf.safetensors")
        loaded = MatrixFactorization.load(tmp_path / "mf.safetensors", device="cpu")
        assert bits(loaded) == bits(model)
        np.testing.assert_array_equal(loaded.predict_matrix(toy), model.predict_matrix(toy))
        np.testing.assert_array_equal(loaded.model_embeddings_, model.model_embeddings_)
        assert list(loaded.model_names_) == list(model.model_names_)
        for name in inspect.signature(MatrixFactorization).parameters:
            assert getattr(loaded, name) == getattr(model, name)
        pd.testing.assert_frame_equal(loaded.history_, model.history_)
        assert [path.name for path in tmp_path.iterdir()] == ["mf.safetensors"]

    def test_loaded_factorization_can_be_fitted_again(self, toy, tmp_path):
        model = quick().fit(toy)
        model.save(tmp_path / "mf")
        assert bits(MatrixFactorization.load(tmp_path / "mf", device="cpu").fit(toy)) == bits(model)

    def test_odd_names_travel(self, toy, tmp_path):
        names = ["NA", "null", "007", "🦙", "a@b.c (d)__e", "模型"]
        frame = pd.DataFrame(toy.labels, names, toy.question_ids)
        model = quick().fit(CorrectnessMatrix(frame, toy.questions, toy.embeddings))
        model.save(tmp_path / "mf")
        assert list(MatrixFactorization.load(tmp_path / "mf").model_names_) == names

    @pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
    def test_truncated_file_is_refused_with_its_path(self, toy, tmp_path, kept):
        path = tmp_path / "mf.safetensors"
        quick().fit(toy).save(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data))])
        with pytest.raises(
            ValueError, match=r"mf\.safetensors is not a factorization written by MatrixFactorization\.save"
        ):
            MatrixFactorization.load(path)

    def test_foreign_files_are_refused_with_their_path(self, toy, tmp_path):
        from safetensors.torch import save_file

        model = quick().fit(toy)
        tensors = model.parameters_._asdict()
        (tmp_path / "garbage").write_bytes(b"not tensors at all" * 10)
        (tmp_path / "pickle").write_bytes(pickle.dumps({"P.weight": [1.0]}))
        torch.save(tensors, tmp_path / "torch.pt")
        save_file(tensors, tmp_path / "no header")
        save_file(tensors, tmp_path / "other header", metadata={"embedllm": json.dumps({"model_names": []})})
        model.save(tmp_path / "whole")
        header = embedllm.predictors.mf.safe_open(tmp_path / "whole", "pt").metadata()
        del tensors["classifier"]
        save_file(tensors, tmp_path / "a tensor less", metadata=header)
        (tmp_path / "whole").unlink()
        for path in list(tmp_path.iterdir()):
            with pytest.raises(ValueError, match=f"{path.name} is not a factorization written by"):
                MatrixFactorization.load(path)

    def test_file_of_an_earlier_version_is_told_so(self, toy, tmp_path):
        from safetensors.torch import save_file

        model = quick().fit(toy)
        model.save(tmp_path / "mf")
        header = json.loads(embedllm.predictors.mf.safe_open(tmp_path / "mf", "pt").metadata()["embedllm"])
        del header["sha256"]
        save_file(model.parameters_._asdict(), tmp_path / "mf", metadata={"embedllm": json.dumps(header)})
        with pytest.raises(ValueError, match=r"mf is not .*: it has no checksum, .*: fit and save it again"):
            MatrixFactorization.load(tmp_path / "mf")

    def test_pickle_is_not_run(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return Path.touch, (tmp_path / "ran",)

        (tmp_path / "mf").write_bytes(pickle.dumps(Bomb()))
        torch.save(Bomb(), tmp_path / "mf.pt")
        for name in ("mf", "mf.pt"):
            with pytest.raises(ValueError, match=name):
                MatrixFactorization.load(tmp_path / name)
        assert not (tmp_path / "ran").exists()

    def test_missing_file_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            MatrixFactorization.load(tmp_path / "nowhere")

    def test_failed_save_leaves_the_old_file_and_nothing_else(self, toy, tmp_path, monkeypatch):
        path = tmp_path / "mf"
        model = quick().fit(toy)
        model.save(path)

        def fail(target, content):
            with target.open("wb") as stream:
                stream.write(content[: len(content) // 2])
            raise OSError("disk full")

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="disk full"):
            quick(random_state=1).fit(toy).save(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["mf"]
        assert bits(MatrixFactorization.load(path)) == bits(model)

    def test_file_is_as_readable_as_any_other(self, toy, tmp_path):
        quick().fit(toy).save(tmp_path / "mf")
        (tmp_path / "plain").touch()
        assert len({stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}) == 1


def test_unsuitable_validation_is_named(toy):
    with pytest.raises(TypeError, match="validation must be a CorrectnessMatrix, got ndarray"):
        quick().fit(toy, toy.embeddings)
    with pytest.raises(ValueError, match="the validation data lack 1 of the models, the first"):
        quick().fit(toy, toy.subset(models=toy.model_names[1:]))


def test_names_that_do_not_fit_the_tensors_are_refused(toy, tmp_path):
    model = quick().fit(toy)
    model.model_names_ = model.model_names_[:2]
    model.save(tmp_path / "mf")
    with pytest.raises(ValueError, match="does not fit the model embeddings"):
        MatrixFactorization.load(tmp_path / "mf")


@pytest.fixture(params=["simulated", "zeroeval"])
def pool(request):
    if request.param == "zeroeval":
        return request.getfixturevalue("zeroeval")
    return load_dataset("simulated", scale=0.2)


def test_fast_preset_is_no_worse_than_the_paper_preset(pool):
    train, val, _ = pool.split()
    fast, paper = (MatrixFactorization(preset=preset).fit(train, val).history_.iloc[-1] for preset in ("fast", "paper"))
    # The loss of the paper preset itself wanders by this much between its last epochs.
    assert fast["val_loss"] < paper["val_loss"] + 0.002
    assert fast["val_accuracy"] > paper["val_accuracy"] - 0.002


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestGpu:
    def test_fit_equals_that_on_the_cpu_up_to_rounding(self, toy):
        # Without noise, which each device draws in its own way, both start from the same values in the same order.
        predicted = [quick(alpha=0, device=device).fit(toy).predict_matrix(toy) for device in ("cpu", "cuda")]
        np.testing.assert_allclose(*predicted, atol=1e-3)

    def test_same_seed_gives_the_same_bits(self, toy):
        assert bits(quick(device="cuda").fit(toy)) == bits(quick(device="cuda").fit(toy))

    def test_file_of_a_gpu_loads_on_the_cpu(self, toy, tmp_path):
        model = quick(device="cuda").fit(toy)
        model.save(tmp_path / "mf")
        loaded = MatrixFactorization.load(tmp_path / "mf", device="cpu")
        np.testing.assert_array_equal(loaded.predict_matrix(toy), model.predict_matrix(toy))

    def test_host_never_waits_between_steps(self, make_matrix):
        # It does some times an epoch, however many steps that has.
        def waits(n_questions):
            torch.cuda.set_sync_debug_mode("warn")
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    preset = TrainingPreset(pairs_per_step=60, epochs=2, learning_rate=1e-3, weight_decay=0)
                    MatrixFactorization(dim=3, preset=preset, device="cuda").fit(make_matrix(n_questions=n_questions))
            finally:
                torch.cuda.set_sync_debug_mode("default")
            return sum("synchroniz" in str(each.message) for each in caught)

        waits(100)  # what happens once
        assert waits(100) == waits(1000)

    def test_auto_takes_the_gpu(self, toy):
        assert bits(quick(device="auto").fit(toy)) == bits(quick(device="cuda").fit(toy))
