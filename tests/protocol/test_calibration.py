"""Reliability diagrams and the expected calibration error."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.protocol.calibration import calibration_errors, pool_repetitions, reliability, reliability_repetitions
from embedllm.protocol.runs import Fitted


class Fixed(CorrectnessPredictor):
    """Predicts what it is told, for every matrix of that shape."""

    def __init__(self, probability):
        self.probability = np.asarray(probability)

    def fit(self, matrix):
        return self

    def predict_proba(self, embeddings):
        raise NotImplementedError

    def predict_matrix(self, matrix):
        return self.probability


def matrix_of(labels):
    labels = np.asarray(labels)
    models = [f"m{number}" for number in range(len(labels))]
    ids = [f"q{number}" for number in range(labels.shape[1])]
    questions = pd.DataFrame({"benchmark": "x"}, index=ids)
    return CorrectnessMatrix(pd.DataFrame(labels, models, ids), questions, np.ones((len(ids), 2)), source="by hand")


@pytest.fixture
def hand():
    """The last cell was not observed."""
    return matrix_of([[1, 0, 1, 0, 1, -1]]), Fixed([[0.0, 0.05, 0.5, 0.55, 1.0, 0.7]])


def test_hand_computed(hand):
    matrix, predictor = hand
    bins = reliability({"p": predictor}, matrix)
    # An edge belongs to the bin above it, 1 to the last; a bin without an answer has no row.
    assert bins["bin"].tolist() == [0, 5, 9]
    assert bins["predicted"].tolist() == pytest.approx([0.025, 0.525, 1])
    assert bins["observed"].tolist() == pytest.approx([1 / 2, 1 / 2, 1])
    assert bins["n_observed"].tolist() == [2, 2, 1]
    assert set(bins["data"]) == {"by hand"}
    assert calibration_errors(bins).loc[0, "p"] == pytest.approx((2 * 0.475 + 2 * 0.025 + 0) / 5)


def test_one_bin_compares_the_means(hand):
    matrix, predictor = hand
    (row,) = reliability({"p": predictor}, matrix, n_bins=1).to_dict("records")
    assert row["predicted"] == pytest.approx(np.mean([0, 0.05, 0.5, 0.55, 1]))
    assert row["observed"] == pytest.approx(3 / 5)


@pytest.mark.parametrize("n_bins", [0, 2.5])
def test_bad_number_of_bins_is_named(hand, n_bins):
    matrix, predictor = hand
    with pytest.raises(ValueError, match=f"n_bins must be a positive whole number, got {n_bins}"):
        reliability({"p": predictor}, matrix, n_bins)


def test_against_scikit_learn(toy_with_holes):
    predictors = {"KNN": KNNCorrectness(7).fit(toy_with_holes), "mean": BenchmarkMean().fit(toy_with_holes)}
    bins = reliability(predictors, toy_with_holes, n_bins=13)
    assert bins["predictor"].unique().tolist() == ["KNN", "mean"]
    observed = toy_with_holes.observed
    for name, predictor in predictors.items():
        probability = predictor.predict_matrix(toy_with_holes)[observed].astype(float)
        assert not np.isin(probability, np.arange(1, 13) / 13).any()  # where edges belong differs
        frequency, mean = calibration_curve(toy_with_holes.labels[observed], probability, n_bins=13)
        mine = bins[bins["predictor"] == name]
        np.testing.assert_allclose(mine["observed"], frequency)
        np.testing.assert_allclose(mine["predicted"], mean)
        assert mine["n_observed"].sum() == observed.sum()


def test_error_of_true_probabilities_vanishes():
    rng = np.random.default_rng(0)
    truth = rng.random((50, 2000))
    matrix = matrix_of((rng.random(truth.shape) < truth).astype(int))
    predictors = {"true": Fixed(truth), "too sure": Fixed((truth > 0.5).astype(float)), "vague": Fixed(0 * truth + 0.5)}
    errors = calibration_errors(reliability(predictors, matrix)).loc[0]
    assert errors["true"] < 0.01
    assert errors["too sure"] == pytest.approx(0.25, abs=0.01)
    # Calibrated as far as it goes: log loss and Brier score tell it from the truth.
    assert errors["vague"] < 0.01


class TestRepetitions:
    @pytest.fixture
    def fits(self, make_matrix):
        matrix = make_matrix(n_questions=120, missing=0.2)
        splits = [matrix.split((0.5, 0.1, 0.4), random_state=seed) for seed in (3, 4)]
        return [
            Fitted(seed, split, {"KNN": KNNCorrectness(7).fit(split.train), "a": BenchmarkMean().fit(split.train)})
            for seed, split in zip((3, 4), splits, strict=True)
        ]

    def test_errors_are_those_of_each_repetition(self, fits):
        errors = calibration_errors(reliability_repetitions(fits))
        assert errors.index.tolist() == [3, 4]
        for each in fits:
            alone = calibration_errors(reliability(each.predictors, each.split.test)).loc[0]
            assert errors.loc[each.seed].to_dict() == pytest.approx(alone.to_dict())

    def test_pooled_bins_hold_the_answers_of_all(self, fits):
        pooled = pool_repetitions(reliability_repetitions(fits))
        assert pooled["predictor"].unique().tolist() == ["KNN", "a"]
        for name in ("KNN", "a"):
            mine = pooled[pooled["predictor"] == name]
            cells = [
                (each.predictors[name].predict_matrix(each.split.test)[each.split.test.observed], each.split.test)
                for each in fits
            ]
            probability = np.concatenate([predicted for predicted, _ in cells]).astype(float)
            label = np.concatenate([test.labels[test.observed] for _, test in cells])
            assert mine["share"].sum() == pytest.approx(1)
            assert mine["bin"].is_monotonic_increasing
            for row in mine.itertuples():
                inside = (probability * 10).astype(int).clip(max=9) == row.bin
                assert row.n_observed == inside.sum()
                assert row.predicted == pytest.approx(probability[inside].mean())
                assert row.observed == pytest.approx(label[inside].mean())


def test_nothing_observed_gives_no_bin(toy, relabel):
    nothing = relabel(toy, np.full_like(toy.labels, -1))
    bins = reliability({"mean": BenchmarkMean().fit(toy)}, nothing)
    assert bins.empty
    assert pool_repetitions(bins).empty
