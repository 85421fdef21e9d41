"""Reliability diagrams and the expected calibration error."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness, fit_runs
from embedllm.matrix import Split
from embedllm.protocol.calibration import calibration_errors, pool_runs, reliability
from embedllm.protocol.runs import Run


def run_of(labels, seed=0, **probabilities):
    labels = np.asarray(labels)
    models = [f"m{number}" for number in range(len(labels))]
    ids = [f"q{number}" for number in range(labels.shape[1])]
    questions = pd.DataFrame({"benchmark": "x"}, index=ids)
    matrix = CorrectnessMatrix(pd.DataFrame(labels, models, ids), questions, np.ones((len(ids), 2)), source="by hand")
    predicted = {name: np.asarray(values, dtype=float) for name, values in probabilities.items()}
    return Run(seed, Split(matrix, matrix, matrix), {}, predicted)


@pytest.fixture
def hand():
    """The last entry was not observed."""
    return run_of([[1, 0, 1, 0, 1, -1]], p=[[0.0, 0.05, 0.5, 0.55, 1.0, 0.7]])


@pytest.fixture
def runs(make_matrix):
    predictors = {"KNN": KNNCorrectness(7), "a": BenchmarkMean()}
    return list(fit_runs(make_matrix(n_questions=400, missing=0.2), predictors, seed=3, n_seeds=2))


def test_hand_computed(hand):
    bins = reliability([hand])
    # An edge belongs to the bin above it, 1 to the last; a bin without an answer has no row.
    assert bins["bin"].tolist() == [0, 5, 9]
    assert bins["predicted"].tolist() == pytest.approx([0.025, 0.525, 1])
    assert bins["observed"].tolist() == pytest.approx([1 / 2, 1 / 2, 1])
    assert bins["n_observed"].tolist() == [2, 2, 1]
    assert set(bins["data"]) == {"by hand"}
    assert calibration_errors(bins).loc[0, "p"] == pytest.approx((2 * 0.475 + 2 * 0.025 + 0) / 5)


def test_one_bin_compares_the_means(hand):
    (row,) = reliability([hand], n_bins=1).to_dict("records")
    assert row["predicted"] == pytest.approx(np.mean([0, 0.05, 0.5, 0.55, 1]))
    assert row["observed"] == pytest.approx(3 / 5)


@pytest.mark.parametrize("n_bins", [0, 2.5])
def test_bad_number_of_bins_is_named(hand, n_bins):
    with pytest.raises(ValueError, match=f"n_bins must be a positive whole number, got {n_bins}"):
        reliability([hand], n_bins)


def test_against_scikit_learn(runs):
    bins = reliability(runs, n_bins=13)
    assert bins["predictor"].unique().tolist() == ["KNN", "a"]
    for run in runs:
        observed = run.split.test.observed
        for name, predicted in run.probabilities.items():
            probability = predicted[observed].astype(float)
            assert not np.isin(probability, np.arange(1, 13) / 13).any()  # scikit-learn puts edges into the bin below
            frequency, mean = calibration_curve(run.split.test.labels[observed], probability, n_bins=13)
            mine = bins[(bins["predictor"] == name) & (bins["seed"] == run.seed)]
            np.testing.assert_allclose(mine["observed"], frequency)
            np.testing.assert_allclose(mine["predicted"], mean)
            assert mine["n_observed"].sum() == observed.sum()


def test_error_of_true_probabilities_vanishes():
    rng = np.random.default_rng(0)
    truth = rng.random((50, 2000))
    labels = (rng.random(truth.shape) < truth).astype(int)
    run = run_of(labels, true=truth, overconfident=(truth > 0.5).astype(float), constant=0 * truth + 0.5)
    errors = calibration_errors(reliability([run])).loc[0]
    assert errors["true"] < 0.01
    assert errors["overconfident"] == pytest.approx(0.25, abs=0.01)
    # Calibrated, but uninformative: log loss and Brier score tell it from the truth.
    assert errors["constant"] < 0.01


def test_errors_are_those_of_each_run(runs):
    errors = calibration_errors(reliability(runs))
    assert errors.index.tolist() == [3, 4]
    for run in runs:
        assert errors.loc[run.seed].to_dict() == pytest.approx(
            calibration_errors(reliability([run])).loc[run.seed].to_dict()
        )


def test_pooled_bins_hold_the_answers_of_all_runs(runs):
    pooled = pool_runs(reliability(runs))
    assert pooled["predictor"].unique().tolist() == ["KNN", "a"]
    for name in ("KNN", "a"):
        mine = pooled[pooled["predictor"] == name]
        tests = [run.split.test for run in runs]
        predicted = [run.probabilities[name][test.observed] for run, test in zip(runs, tests, strict=True)]
        probability = np.concatenate(predicted).astype(float)
        label = np.concatenate([test.labels[test.observed] for test in tests])
        assert mine["share"].sum() == pytest.approx(1)
        assert mine["bin"].is_monotonic_increasing
        for row in mine.itertuples():
            inside = (probability * 10).astype(int).clip(max=9) == row.bin
            assert row.n_observed == inside.sum()
            assert row.predicted == pytest.approx(probability[inside].mean())
            assert row.observed == pytest.approx(label[inside].mean())


def test_nothing_observed_gives_no_bin():
    bins = reliability([run_of([[-1, -1]], mean=[[0.5, 0.5]])])
    assert bins.empty
    assert pool_runs(bins).empty
