"""What every predictor must do, whatever it has learned: tests that run over all of them, a reader's own included."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fits import QUICK, quick
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from embedllm import (
    BenchmarkMean,
    CorrectnessMatrix,
    KNNCorrectness,
    MatrixFactorization,
    ModelMean,
    StackedCorrectness,
    evaluate_forecasts,
)
from embedllm.predictors.base import CorrectnessPredictor, check_matrix
from embedllm.predictors.item_response import ItemResponse
from embedllm.predictors.local import ClusterTable, WeightedKNN
from embedllm.predictors.ranking import pool_logits
from embedllm.predictors.ridge_labels import RidgeLabels
from embedllm.predictors.scores import THRESHOLD
from embedllm.predictors.tuned import Tuned


class MeanAccuracy(CorrectnessPredictor):
    """What a reader may write: each model gets its accuracy on the training questions, shrunk to 1/2."""

    def __init__(self, prior=1.0):
        self.prior = prior

    def fit(self, matrix):
        table = check_matrix(matrix).accuracy(by="model")
        n_correct = table["accuracy"].fillna(0) * table["n_observed"]
        self.accuracy_ = ((n_correct + self.prior) / (table["n_observed"] + 2 * self.prior)).to_numpy(np.float32)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        return np.tile(self.accuracy_, (len(embeddings), 1))


PREDICTORS = {
    "exact": lambda: MatrixFactorization(dim=6, device="cpu"),
    "exact, pool prior": lambda: MatrixFactorization(dim=6, alpha=0.2, prior="pool", device="cpu"),
    "sgd": lambda: quick(preset=replace(QUICK, epochs=30)),
    "KNN": lambda: KNNCorrectness(7),
    "BenchmarkMean": BenchmarkMean,
    "ModelMean": ModelMean,
    "1PL": ItemResponse,
    "2PL": lambda: ItemResponse(discrimination=True),
    "ridge on labels": RidgeLabels,
    "cluster table": lambda: ClusterTable(n_clusters=4),
    "weighted KNN": lambda: WeightedKNN(9, bandwidth=3.0),
    "tuned": lambda: Tuned(KNNCorrectness(), "n_neighbors", [3, 7]),
    "stack": lambda: StackedCorrectness({"mean": BenchmarkMean(), "KNN": KNNCorrectness(7)}),
    "a reader's own": MeanAccuracy,
}
READING = (
    "exact",
    "exact, pool prior",
    "sgd",
    "KNN",
    "1PL",
    "ridge on labels",
    "cluster table",
    "weighted KNN",
    "tuned",
)  # those that read the question


@pytest.fixture(params=PREDICTORS.values(), ids=PREDICTORS)
def new(request):
    """Return the function that makes an unfitted predictor."""
    return request.param


def saved_and_loaded(predictor, folder):
    if not isinstance(predictor, MatrixFactorization):
        return predictor
    predictor.save(folder / "predictor")
    return MatrixFactorization.load(folder / "predictor", device="cpu")


class TestNames:
    """Models travel by name through fit, save, load and evaluation."""

    def test_models_5_and_2_in_that_order(self, new, toy, tmp_path):
        train, _, test = toy.split((0.5, 0.1, 0.4))
        fitted = saved_and_loaded(new().fit(train), tmp_path)
        wanted = [toy.model_names[5], toy.model_names[2]]
        full = evaluate_forecasts({"p": fitted}, test, by="model").set_index("model")
        part = evaluate_forecasts({"p": fitted}, test.subset(models=wanted), by="model").set_index("model")
        assert part.index.tolist() == ["overall", *wanted]
        for metric in ("accuracy", "log_loss", "brier", "n_observed"):
            np.testing.assert_allclose(part.loc[wanted, metric], full.loc[wanted, metric], atol=1e-6)
        # The order matters here: the two models differ.
        assert full.loc[wanted[0], "brier"] != pytest.approx(full.loc[wanted[1], "brier"], abs=1e-3)

    def test_any_order_of_models_gives_each_its_own_predictions(self, new, toy):
        fitted = new().fit(toy)
        expected = dict(zip(toy.model_names, fitted.predict_matrix(toy), strict=True))
        names = np.random.default_rng(2).permutation(toy.model_names)
        predicted = fitted.predict_matrix(toy.subset(models=names))
        np.testing.assert_allclose(predicted, [expected[name] for name in names], atol=1e-6)

    def test_renamed_model_is_unknown(self, new, toy, tmp_path):
        fitted = saved_and_loaded(new().fit(toy), tmp_path)
        names = ["renamed" if name == "model-3" else name for name in toy.model_names]
        renamed = CorrectnessMatrix(pd.DataFrame(toy.labels, names, toy.question_ids), toy.questions, toy.embeddings)
        for call in (fitted.predict_matrix, fitted.score, lambda matrix: evaluate_forecasts({"p": fitted}, matrix)):
            with pytest.raises(KeyError, match="unknown model 'renamed'; known: ") as error:
                call(renamed)
            for name in toy.model_names:
                assert name in str(error.value)


class TestMissing:
    def test_predictions_exist_for_every_cell(self, new, toy_with_holes):
        predicted = new().fit(toy_with_holes).predict_matrix(toy_with_holes)
        assert predicted.shape == (6, 40)
        assert predicted.dtype == np.float32
        assert ((predicted >= 0) & (predicted <= 1)).all()

    def test_unobserved_cells_are_not_taken_for_incorrect_answers(self, new, toy):
        # A model that answers every observed question correctly, on one benchmark of two.
        unobserved = toy.benchmarks == "bench-1"

        def predicted(value):
            labels = toy.labels.copy()
            labels[1] = np.where(unobserved, value, 1)
            return new().fit(toy.with_labels(labels)).predict_matrix(toy)[1, unobserved].mean()

        assert predicted(-1) >= 0.5
        assert predicted(-1) > predicted(0) + 0.1

    def test_score_is_taken_over_observed_cells(self, new, toy_with_holes):
        fitted = new().fit(toy_with_holes)
        predicted = fitted.predict_matrix(toy_with_holes)
        agrees = [
            (predicted[m, q] > 0.5) == (toy_with_holes.labels[m, q] == 1)
            for m in range(6)
            for q in range(40)
            if toy_with_holes.labels[m, q] != -1
        ]
        assert fitted.score(toy_with_holes) == pytest.approx(np.mean(agrees))
        # The other cells do not count.
        assert len(agrees) < 0.75 * 240

    def test_score_of_nothing_is_undefined(self, new, toy):
        fitted = new().fit(toy)
        for nothing in (toy.with_labels(np.full_like(toy.labels, -1)), toy.subset(questions=[])):
            assert np.isnan(fitted.score(nothing))

    def test_nothing_to_learn_from_is_refused(self, new, toy):
        for nothing in (toy.with_labels(np.full_like(toy.labels, -1)), toy.subset(questions=[]), toy.subset(models=[])):
            with pytest.raises(ValueError, match="nothing to learn from"):
                new().fit(nothing)

    def test_part_without_a_question_has_undefined_metrics(self, new, toy):
        # As the test part of a split of few questions.
        empty = toy.subset(questions=[])
        fitted = new().fit(toy)
        assert fitted.predict_matrix(empty).shape == (6, 0)
        table = evaluate_forecasts({"p": fitted}, empty)
        assert table["benchmark"].tolist() == ["overall"]
        assert table[["accuracy", "log_loss", "brier"]].isna().all(axis=None)
        assert table["n_observed"].tolist() == [0]

    @pytest.mark.parametrize("value", [0, 1])
    def test_one_answer_to_everything(self, new, toy, value):
        labels = np.full_like(toy.labels, value)
        labels[0] = -1
        fitted = new().fit(toy.with_labels(labels))
        assert np.isfinite(fitted.predict_matrix(toy)).all()
        assert fitted.score(toy.with_labels(labels)) == 1

    @pytest.mark.parametrize("size", [(1, 40), (6, 1), (1, 1)], ids=["one model", "one question", "one cell"])
    def test_smallest_data(self, new, toy, size):
        part = toy.subset(models=toy.model_names[: size[0]], questions=toy.question_ids[: size[1]])
        if size[0] == 1 and new().get_params().get("prior") == "pool":
            with pytest.raises(ValueError, match="there is one model only: leave out the prior"):
                new().fit(part)
            return
        predicted = new().fit(part).predict_matrix(part)
        assert predicted.shape == size
        assert np.isfinite(predicted).all()


class TestEstimator:
    """The conventions of scikit-learn."""

    def test_hyperparameters_come_from_the_constructor_unchanged(self, new):
        predictor = new()
        parameters = predictor.get_params(deep=False)
        for name, value in parameters.items():
            assert getattr(predictor, name) is value
            changed = clone(predictor).set_params(**{name: "anything"})  # refused by `fit` at the earliest
            # As text: the predictors in a predictor are copied.
            assert repr(changed.get_params(deep=False)) == repr(parameters | {name: "anything"})

    def test_clone_is_unfitted_and_fits_alike(self, new, toy):
        fitted = new().fit(toy)
        copy = clone(fitted)
        assert repr(copy.get_params()) == repr(fitted.get_params())
        assert sorted(vars(copy)) == sorted(fitted.get_params(deep=False))
        np.testing.assert_array_equal(copy.fit(toy).predict_matrix(toy), fitted.predict_matrix(toy))

    def test_repr_names_the_class_and_what_differs_from_its_defaults(self, new):
        predictor = new()
        assert repr(predictor).startswith(f"{type(predictor).__name__}(")
        assert repr(KNNCorrectness(7)) == "KNNCorrectness(n_neighbors=7)"
        assert repr(MatrixFactorization(dim=6)) == "MatrixFactorization(dim=6)"

    def test_what_a_fit_learns_is_named_so(self, new, toy):
        predictor = new().fit(toy)
        for name in set(vars(predictor)) - set(predictor.get_params()):
            assert name.startswith("_") or name.endswith("_")

    def test_second_fit_forgets_the_first(self, new, toy, toy_with_holes):
        twice = new().fit(toy_with_holes).fit(toy)
        np.testing.assert_array_equal(twice.predict_matrix(toy), new().fit(toy).predict_matrix(toy))

    def test_default_type_of_pytorch_changes_nothing(self, new, toy):
        expected = new().fit(toy).predict_matrix(toy)
        torch.set_default_dtype(torch.float64)
        try:
            found = new().fit(toy).predict_matrix(toy)
        finally:
            torch.set_default_dtype(torch.float32)
        assert found.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(found, expected)

    def test_fit_returns_the_predictor(self, new, toy):
        predictor = new()
        assert predictor.fit(toy) is predictor
        assert list(predictor.model_names_) == list(toy.model_names)

    def test_fit_leaves_the_data_alone(self, new, toy_with_holes):
        before = toy_with_holes.labels.copy(), toy_with_holes.embeddings.copy()
        new().fit(toy_with_holes).predict_matrix(toy_with_holes)
        np.testing.assert_array_equal(toy_with_holes.labels, before[0])
        np.testing.assert_array_equal(toy_with_holes.embeddings, before[1])

    def test_not_fitted(self, new, toy):
        for call in (lambda predictor: predictor.predict_matrix(toy), lambda predictor: predictor.score(toy)):
            predictor = new()
            with pytest.raises(NotFittedError, match=rf"This {type(predictor).__name__} instance is not fitted yet"):
                call(predictor)

    def test_bare_array_is_refused(self, new, toy):
        with pytest.raises(TypeError, match="expected a CorrectnessMatrix, got ndarray"):
            new().fit(toy.labels)

    def test_rows_of_predict_proba_are_questions(self, new, toy):
        fitted = new().fit(toy)
        proba = fitted.predict_proba(toy.embeddings)
        assert proba.shape == (40, 6)
        if isinstance(fitted, BenchmarkMean | StackedCorrectness):  # `predict_matrix` is told the benchmark
            return
        np.testing.assert_array_equal(proba.T, fitted.predict_matrix(toy))


@pytest.mark.parametrize("name", READING)
class TestReading:
    """Predictors that read the question."""

    def test_bad_embeddings_are_named(self, name, toy):
        fitted = PREDICTORS[name]().fit(toy)
        with pytest.raises(ValueError, match=r"embeddings has shape \(40, 11\)"):
            fitted.predict_proba(toy.embeddings[:, 1:])
        broken = toy.embeddings.copy()
        broken[3, 2] = np.nan
        with pytest.raises(ValueError, match="the embedding in row 3 is not finite"):
            fitted.predict_proba(broken)

    def test_predict_proba_needs_a_fit(self, name, toy):
        with pytest.raises(NotFittedError):
            PREDICTORS[name]().predict_proba(toy.embeddings)

    def test_beats_the_majority_label_of_each_model(self, name, make_matrix):
        train, _, test = make_matrix(n_questions=600).split((0.6, 0.1, 0.3))
        share = test.labels.mean(axis=1)
        majority = np.maximum(share, 1 - share).mean()
        assert PREDICTORS[name]().fit(train).score(test) > majority + 0.05


class TestBenchmarkMean:
    def frame(self, rows, benchmarks, models=("a", "b")):
        ids = [f"q{number}" for number in range(len(benchmarks))]
        questions = pd.DataFrame({"benchmark": benchmarks}, index=ids)
        return CorrectnessMatrix(pd.DataFrame(rows, list(models), ids), questions, np.ones((len(ids), 2)))

    def test_hand_computed(self):
        train = self.frame([[1, 1, 0, -1, 0], [0, -1, 0, -1, -1]], ["x", "x", "x", "x", "y"])
        test = self.frame([[1, 1, 1], [1, 1, 1]], ["y", "x", "new"], models=("b", "a"))
        predicted = BenchmarkMean().fit(train).predict_matrix(test)
        # (correct + 1) / (observed + 2); one half where nothing was observed, also on a benchmark outside the fit.
        np.testing.assert_allclose(predicted, [[1 / 2, 1 / 4, 1 / 2], [1 / 3, 3 / 5, 1 / 2]], atol=1e-7)

    def test_one_half_is_predicted_incorrect(self):
        even = self.frame([[1, 0], [1, 0]], ["x", "x"])
        asked = self.frame([[1, 1, 0], [1, 0, 0]], ["x", "x", "x"])
        assert BenchmarkMean().fit(even).score(asked) == pytest.approx(3 / 6)
        assert BenchmarkMean().fit(even).score(asked.subset(models=["b"])) == pytest.approx(2 / 3)

    def test_is_the_majority_label_once_thresholded(self, toy_with_holes):
        predicted = BenchmarkMean().fit(toy_with_holes).predict_matrix(toy_with_holes) > THRESHOLD
        for m in range(6):
            for name in toy_with_holes.benchmark_names:
                columns = toy_with_holes.benchmarks == name
                seen = toy_with_holes.labels[m, columns & toy_with_holes.observed[m]]
                assert (predicted[m, columns] == ((seen == 1).sum() > (seen == 0).sum())).all()


def test_model_mean_is_the_majority_label_of_each_model(toy_with_holes):
    predicted = ModelMean().fit(toy_with_holes).predict_matrix(toy_with_holes)
    for model, labels in enumerate(toy_with_holes.labels):
        known = labels[labels >= 0]
        assert predicted[model] == pytest.approx((known.sum() + 1) / (len(known) + 2))


class Wrong(CorrectnessPredictor):
    """A reader's predictor whose probabilities are none."""

    def __init__(self, change=None):
        self.change = change

    def fit(self, matrix):
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        return self.change(np.full((len(embeddings), len(self.model_names_)), 0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p * np.nan, "predict_proba of Wrong returned nan: return probabilities, from 0 to 1"),
        (lambda p: p + 1, "returned 1.5: return"),
        (lambda p: p - 1, "returned -0.5: return"),
        (lambda p: p.T, r"returned shape \(6, 40\): return \(n_questions, n_models\), here \(40, 6\)"),
        (lambda p: p[:, 0], "returned shape"),
    ],
)
def test_what_is_no_probability_is_refused(toy, change, message):
    with pytest.raises(ValueError, match=message):
        Wrong(change).fit(toy).score(toy)
    with pytest.raises(ValueError, match="predict_proba of Wrong returned"):
        pool_logits(Wrong(change).fit(toy), toy.embeddings)
