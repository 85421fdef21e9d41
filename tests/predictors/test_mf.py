"""Matrix factorization: settings of both solvers; trained by SGD, the authors' classifier, and repeatable."""

import inspect
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fits import QUICK, bits, quick
from sklearn.exceptions import NotFittedError

from embedllm import CorrectnessMatrix, KNNCorrectness, MatrixFactorization, TrainingPreset
from embedllm.predictors import sgd
from embedllm.predictors.sgd import block_logits


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
    def test_question_that_nobody_answered_changes_no_bit(self, toy):
        labels = toy.labels.copy()
        labels[:, [3, 17]] = -1
        vectors = toy.embeddings.copy()
        vectors[[3, 17]] *= -5
        one = toy.with_labels(labels)
        other = CorrectnessMatrix(
            pd.DataFrame(labels, toy.model_names, toy.question_ids), toy.questions, vectors, models=toy.models
        )
        assert bits(quick().fit(one)) == bits(quick().fit(other))

    def test_unobserved_cell_is_neither_correct_nor_incorrect(self, toy):
        def fitted(value):
            labels = toy.labels.copy()
            labels[2, 10:20] = value
            return quick(alpha=0, preset=replace(QUICK, epochs=60)).fit(toy.with_labels(labels)).predict_matrix(toy)

        correct, incorrect, unobserved = (fitted(value)[2, 10:20].mean() for value in (1, 0, -1))
        assert incorrect < unobserved < correct

    def test_model_without_a_row_keeps_its_initial_embedding(self, toy):
        labels = toy.labels.copy()
        labels[4] = -1
        # Without weight decay nothing moves what no answer speaks of.
        settings = {"preset": replace(QUICK, weight_decay=0.0)}
        model = quick(**settings).fit(toy.with_labels(labels))
        untrained = quick(**settings | {"preset": replace(QUICK, weight_decay=0.0, epochs=0)}).fit(toy)
        np.testing.assert_array_equal(model.model_embeddings_[4], untrained.model_embeddings_[4])
        assert (model.model_embeddings_[:4] != untrained.model_embeddings_[:4]).all()

    def test_everything_missing_is_refused(self, toy):
        with pytest.raises(ValueError, match=r"nothing to learn from: .*0\.0% observed"):
            quick().fit(toy.with_labels(np.full_like(toy.labels, -1)))


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

    @pytest.mark.slow
    def test_imports_reseed_nothing_and_their_order_changes_no_bit(self):
        # scikit-learn loads rich, which draws one number of `random` as it is imported: so it comes first here.
        code = (
            "import random, numpy, pandas, sklearn.preprocessing, torch\n"
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
            "sgd = MatrixFactorization(8, solver='sgd', preset=TrainingPreset(20, 2, 5e-3, 1e-5), device='cpu')\n"
            "for model in (sgd, MatrixFactorization(device='cpu')):\n"
            "    model.fit(matrix)\n"
            "    print(model.coef_.tobytes().hex(), model.history_.to_json())\n"
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
    def test_defaults(self):
        model = MatrixFactorization()
        assert (model.dim, model.preset, model.random_state, model.device) == (232, "paper", 0, "auto")
        assert KNNCorrectness().n_neighbors == 131
        names = list(inspect.signature(MatrixFactorization).parameters)
        assert names == ["dim", "alpha", "solver", "prior", "tol", "preset", "device", "random_state", "rho"]

    def test_auto_is_the_authors_alpha_for_sgd(self, toy):
        model = quick(alpha="auto").fit(toy)
        assert model.alpha_ == 0.05
        assert bits(model) == bits(quick(alpha=0.05).fit(toy))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            *(({"dim": dim}, f"dim must be a positive whole number, got {dim!r}") for dim in (-3, 0, 2.5, "ten", True)),
            ({"alpha": -1}, "alpha must be 'auto' or a number of at least 0, got -1"),
            *(
                ({"solver": "exact", "alpha": alpha}, f"alpha must be 'auto' or a number above 0, got {alpha!r}")
                for alpha in (0, -1, float("nan"), float("inf"), "ten", None)
            ),
            ({"solver": "newton"}, "solver must be 'exact' or 'sgd', got 'newton'"),
            ({"solver": "exact", "prior": "models"}, "prior must be None or 'pool', got 'models'"),
            ({"prior": "pool"}, "prior 'pool' is for the exact solver: leave out solver='sgd', or the prior"),
            *(({"tol": tol}, f"tol must be a number above 0, got {tol!r}") for tol in (0, float("nan"), "small")),
            ({"preset": "slow"}, r"preset must be one of \['paper'\] or a TrainingPreset, got 'slow'"),
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


class TestEdges:
    @pytest.mark.parametrize("value", [0, 1])
    def test_one_answer_to_everything(self, toy, value):
        model = quick(preset=replace(QUICK, epochs=60)).fit(toy.with_labels(np.full_like(toy.labels, value)))
        proba = model.predict_matrix(toy)
        assert np.isfinite(proba).all()
        assert (np.abs(proba - value) < 0.3).all()

    @pytest.mark.parametrize("size", [(1, 40), (6, 1), (1, 1)], ids=["one model", "one question", "one cell"])
    def test_smallest_data(self, toy, size):
        part = toy.subset(models=toy.model_names[: size[0]], questions=toy.question_ids[: size[1]])
        model = quick().fit(part, validation=part.subset(questions=[]))
        proba = model.predict_matrix(part)
        assert proba.shape == size
        assert np.isfinite(proba).all()
        assert model.history_["val_loss"].isna().all()
        assert model.history_["train_loss"].notna().all()

    def test_model_without_a_row(self, toy):
        labels = toy.labels.copy()
        labels[4] = -1
        proba = quick().fit(toy.with_labels(labels)).predict_matrix(toy)
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
            with pytest.raises(NotFittedError, match="MatrixFactorization instance is not fitted yet"):
                call()
        assert not list(tmp_path.iterdir())

    def test_interrupted_fit_leaves_what_was_fitted_before(self, toy, monkeypatch):
        other = toy.subset(models=toy.model_names[::-1])
        fresh, fitted = quick(), quick().fit(toy)
        before = fitted.predict_matrix(toy)

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(sgd, "block_loss", interrupt)
        for model in (fresh, fitted):
            with pytest.raises(KeyboardInterrupt):
                model.fit(other)
        # Otherwise the new names would go with the old embeddings.
        np.testing.assert_array_equal(fitted.predict_matrix(toy), before)
        with pytest.raises(NotFittedError):
            fresh.predict_matrix(toy)


def test_unsuitable_validation_is_named(toy):
    with pytest.raises(TypeError, match="validation must be a CorrectnessMatrix, got ndarray"):
        quick().fit(toy, toy.embeddings)
    with pytest.raises(ValueError, match="the validation data lack 1 of the models, the first"):
        quick().fit(toy, toy.subset(models=toy.model_names[1:]))
