"""Contributions: predictions with and without a benchmark, on the same questions, and those of the ground truth."""

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix, MatrixFactorization, TrainingPreset, evaluate_forecasts
from embedllm.datasets.simulate import simulate_pool
from embedllm.protocol.leave_out import benchmarks_named
from embedllm.studies.contributions import (
    MATHEMATICS,
    MEASURES,
    Contributions,
    contribution_values,
    count_predictions,
    measure_contributions,
)

PRESET = TrainingPreset(pairs_per_step=64, epochs=4, learning_rate=0.01, weight_decay=0)
MF = MatrixFactorization(dim=3, solver="sgd", preset=PRESET)


def factorization(seed):
    return MatrixFactorization(dim=3, solver="sgd", preset=PRESET, random_state=seed)


class Fixed:
    """Predicts what it is told."""

    def __init__(self, probability):
        self.probability = np.array(probability, dtype=np.float32)

    def predict_matrix(self, matrix):
        return self.probability


@pytest.fixture(scope="module")
def matrix_with_gaps(make_matrix) -> CorrectnessMatrix:
    return make_matrix(n_models=8, n_questions=1200, n_benchmarks=3, missing=0.3, seed=11)


@pytest.fixture(scope="module")
def measured(matrix_with_gaps):
    return measure_contributions(matrix_with_gaps, MF, seed=1, n_seeds=2, n_resamples=200)


class TestCounts:
    def test_by_hand(self):
        labels = pd.DataFrame([[1, 1, -1], [0, 1, -1], [1, 0, 1], [-1, 0, 0]], list("abcd"), list("xyz"))
        matrix = CorrectnessMatrix(labels, pd.DataFrame({"benchmark": "b"}, index=list("xyz")), np.ones((3, 2)))
        hits, cases = count_predictions(
            Fixed([[0.9, 0.6, 0.9], [0.7, 0.4, 0.9], [0.2, 0.5, 0.8], [0.9, 0.1, 0.8]]), matrix
        )
        # x: a is predicted correctly; of (a, b), (c, b) the first is in order. y: a, c (0.5 is incorrect) and d; of
        # (a, c), (a, d), (b, c), (b, d) all but (b, c). z: c; (c, d) have equal predictions.
        assert hits["accuracy"].tolist() == [1, 3, 1]
        assert cases["accuracy"].tolist() == [3, 4, 2]
        assert hits["pairwise ranking accuracy"].tolist() == [1, 3, 0.5]
        assert cases["pairwise ranking accuracy"].tolist() == [2, 4, 1]

    def test_against_loops(self, matrix_with_gaps):
        # Few values, so that many models have equal predictions.
        probability = np.random.default_rng(0).integers(0, 5, matrix_with_gaps.labels.shape) / 4
        hits, cases = count_predictions(Fixed(probability), matrix_with_gaps)
        for place, question in enumerate(matrix_with_gaps.question_ids):
            label, predicted = matrix_with_gaps.labels[:, place], probability[:, place]
            in_order, pairs = 0.0, 0
            for correct in np.flatnonzero(label == 1):
                for incorrect in np.flatnonzero(label == 0):
                    pairs += 1
                    in_order += {1: 1, 0: 0.5, -1: 0}[np.sign(predicted[correct] - predicted[incorrect])]
            assert hits.at[question, "pairwise ranking accuracy"] == in_order
            assert cases.at[question, "pairwise ranking accuracy"] == pairs
            observed = label != -1
            assert hits.at[question, "accuracy"] == ((predicted > 0.5) == (label == 1))[observed].sum()
            assert cases.at[question, "accuracy"] == observed.sum()


class TestMeasured:
    def test_change_of_accuracy_is_that_of_the_predictions(self, matrix_with_gaps, measured):
        changes = []
        for seed in (1, 2):
            train, _, test = matrix_with_gaps.split(random_state=seed)
            predictors = {
                left_out: factorization(seed).fit(train.subset(questions=train.benchmarks != left_out))
                for left_out in (*matrix_with_gaps.benchmark_names, "none")
            }
            accuracy = evaluate_forecasts(predictors, test).pivot(
                index="predictor", columns="benchmark", values="accuracy"
            )
            changes.append(100 * (accuracy - accuracy.loc["none"]))
        for cell in measured.runs["accuracy"]:
            expected = [change.loc[cell] for change in changes]
            assert measured.runs["accuracy"][cell].tolist() == pytest.approx(expected)
        assert measured.runs.index.tolist() == [1, 2]
        assert measured.runs.shape == (2, 18)
        assert (measured.runs != 0).any(axis=None)

    def test_table(self, matrix_with_gaps, measured):
        for measure in MEASURES:
            table = measured.table(measure)
            assert list(zip(table["left_out"], table["benchmark"], strict=True)) == [
                (a, b) for a in matrix_with_gaps.benchmark_names for b in matrix_with_gaps.benchmark_names
            ]
            assert (table["data"] == matrix_with_gaps.source).all()
            assert (table["measure"] == measure).all()
            for row in table.itertuples():
                cell = (measure, row.left_out, row.benchmark)
                assert row.change == pytest.approx(measured.runs[cell].mean())
                low, high = np.quantile(measured.resampled[cell], [0.025, 0.975])
                assert (row.low, row.high) == pytest.approx((low, high))
                assert row.clear == (low > 0 or high < 0)
            tested = {id for seed in (1, 2) for id in matrix_with_gaps.split(random_state=seed).test.question_ids}
            counts = matrix_with_gaps.questions.loc[list(tested), "benchmark"].value_counts()
            assert (table["n_test"] == table["benchmark"].map(counts)).all()

    def test_order_of_models_has_no_effect(self, matrix_with_gaps, measured):
        turned = matrix_with_gaps.subset(models=matrix_with_gaps.model_names[::-1])
        again = measure_contributions(turned, MF, seed=1, n_seeds=2, n_resamples=200)
        pd.testing.assert_frame_equal(again.runs, measured.runs)
        pd.testing.assert_frame_equal(again.resampled, measured.resampled)

    def test_ranking(self, matrix_with_gaps, measured):
        ranking = measured.ranking()
        assert sorted(ranking.index) == sorted(matrix_with_gaps.benchmark_names)
        assert ranking["accuracy"].is_monotonic_increasing
        for left_out, row in ranking.iterrows():
            others = [name for name in matrix_with_gaps.benchmark_names if name != left_out]
            for measure in MEASURES:
                assert row[measure] == pytest.approx(measured.runs[measure][left_out][others].mean(axis=None))
                assert row[f"{measure}, low"] <= row[f"{measure}, high"]
            of_it = matrix_with_gaps.subset(questions=matrix_with_gaps.benchmarks == left_out)
            assert row["n_questions"] == of_it.n_questions
            assert row["own accuracy"] == pytest.approx(100 * (of_it.labels == 1).sum() / of_it.observed.sum())

    def test_spread_over_resampled_questions(self, matrix_with_gaps):
        # Against the standard error of a ratio of sums over questions.
        measured = measure_contributions(matrix_with_gaps, MF, seed=1, n_seeds=1)
        train, _, test = matrix_with_gaps.split(random_state=1)
        complete, cases = count_predictions(factorization(1).fit(train), test)
        without, _ = count_predictions(
            factorization(1).fit(train.subset(questions=train.benchmarks != "bench-0")), test
        )
        of_it = test.benchmarks == "bench-2"
        for measure in MEASURES:
            difference, n = (without - complete)[measure][of_it], cases[measure][of_it]
            ratio = difference.sum() / n.sum()
            stderr = 100 * np.sqrt(((difference - ratio * n) ** 2).sum()) / n.sum()
            cell = (measure, "bench-0", "bench-2")
            assert measured.runs[cell].tolist() == pytest.approx([100 * ratio])
            assert measured.resampled[cell].mean() == pytest.approx(100 * ratio, abs=0.2 * stderr)
            assert measured.resampled[cell].std() == pytest.approx(stderr, rel=0.25)


class TestUndefined:
    def test_interval_over_a_handful_of_questions(self, make_matrix):
        measured = measure_contributions(make_matrix(n_questions=200), MF, n_seeds=1, n_resamples=10)
        table = measured.table("accuracy")
        assert (table["n_test"] < 30).all()
        assert table["change"].notna().all()
        assert table[["low", "high"]].isna().all(axis=None)
        assert not table["clear"].any()

    def test_one_benchmark(self, make_matrix):
        measured = measure_contributions(make_matrix(n_benchmarks=1), MF, n_seeds=2, n_resamples=10)
        assert measured.runs.isna().all(axis=None)
        assert measured.table("accuracy")[["change", "low", "high"]].isna().all(axis=None)
        assert not measured.table("accuracy")["clear"].any()
        assert measured.ranking()["accuracy"].isna().all()
        assert all(np.isnan(reported.value) for reported in contribution_values(measured))

    def test_benchmark_without_a_test_question(self, toy):
        questions = toy.questions.assign(split=["train", "train", "test", "val"] * 10)  # every other one is of bench-1
        frame = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
        matrix = CorrectnessMatrix(frame, questions, toy.embeddings)
        measured = measure_contributions(matrix, MF, n_seeds=1, n_resamples=10)
        table = measured.table("accuracy").set_index("benchmark")
        assert table.loc["bench-1", "change"].isna().all()
        assert (table.loc["bench-1", "n_test"] == 0).all()
        assert table.loc["bench-0", "change"].notna().all()
        reported_values = {reported.key: reported for reported in contribution_values(measured)}
        # The mean over what is defined; no mathematics, and no MMLU.
        assert reported_values["own_loss"].value == pytest.approx(-table.loc["bench-0", "change"].iloc[0])
        for key in ("maths_loss", "maths_lead", "mmlu_rank", "mmlu_lead"):
            assert np.isnan(reported_values[key].value)

    def test_benchmark_without_a_training_question_changes_nothing(self, toy):
        split = np.where(toy.benchmarks == "bench-1", "test", ["train", "val", "train", "test"] * 10)
        frame = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
        matrix = CorrectnessMatrix(frame, toy.questions.assign(split=split), toy.embeddings)
        runs = measure_contributions(matrix, MF, n_seeds=1, n_resamples=10).runs
        assert runs["accuracy"]["bench-1"].iloc[0].dropna().tolist() == [0] * runs["accuracy"]["bench-1"].notna().sum(
            axis=None
        )


def by_hand(names, accuracy, n_questions, changes):
    """Contributions of one seed, with resamples of 1.8 and 2.2 times the changes."""
    order = pd.MultiIndex.from_product([MEASURES, names, names], names=["measure", "left_out", "benchmark"])
    flat = np.concatenate([np.ravel(changes[measure]) for measure in MEASURES]).astype(float)
    benchmarks = pd.DataFrame({"accuracy": accuracy, "n_questions": n_questions, "n_test": 50}, index=names)
    return Contributions(
        "by hand", benchmarks, pd.DataFrame([flat], columns=order), pd.DataFrame([1.8 * flat, 2.2 * flat], None, order)
    )


class TestValues:
    NAMES = ("PIQA", "MMLU", "MathQA", "GSM8K", "GPQA")
    ACCURACY = (0.7, 0.5, 0.6, 0.4, 0.3)
    CHANGES = np.array(
        [
            [-9, 1, 1, 1, 4],
            [-1, -9, -1, -2, -4],
            [0, 0, -9, -3, 2],
            [1, 1, -5, -9, 0],
            [1, 1, 1, 1, -9],
        ]
    )

    @pytest.fixture
    def reported_values(self):
        changes = {"accuracy": self.CHANGES, "pairwise ranking accuracy": -self.CHANGES}
        found = contribution_values(by_hand(self.NAMES, self.ACCURACY, [100, 60, 10, 10, 20], changes))
        return {reported.key: reported for reported in found}

    def test_values(self, reported_values):
        maths, rest = (-3 - 5) / 2, (0 + 0 + 2 + 1 + 1 + 0) / 6
        expected = {
            "own_loss": 9,
            "largest_loss": -7 / 4,  # PIQA
            "mmlu_lead": 8 / 4 - 3 / 4,  # before GSM8K
            "maths_loss": -maths,
            "maths_lead": rest - maths,
            "easy_gain": (4 + 2) / 2,  # PIQA and MathQA are above the median of 0.5
        }
        for key, value in expected.items():
            assert reported_values[key].value == pytest.approx(value)
            assert reported_values[key].interval == pytest.approx(sorted((1.81 * value, 2.19 * value)))
            assert reported_values[key].unit == "points"
            if key != "mmlu_lead":
                assert reported_values[f"{key}_order"].value == pytest.approx(-value)
        assert reported_values["mmlu_lead_order"].value == pytest.approx(-8 / 4 - 7 / 4)  # behind PIQA, turned around
        assert reported_values["mmlu_rank"].runs == [1]
        assert reported_values["mmlu_rank_order"].runs == [5]
        assert len({reported.what for reported in reported_values.values()}) == len(reported_values) == 14

    def test_names_that_are_not_there(self):
        names = ("one", "two", "arithmetic_2da")
        changes = {measure: np.ones((3, 3)) for measure in MEASURES}
        found = contribution_values(by_hand(names, [0.5, 0.6, 0.7], [5, 5, 5], changes))
        reported_values = {reported.key: reported for reported in found}
        for suffix in ("", "_order"):
            for key in ("mmlu_rank", "mmlu_lead", "maths_loss", "maths_lead"):
                assert np.isnan(reported_values[key + suffix].value)
            assert reported_values["easy_gain" + suffix].value == 1

    def test_nothing_but_mathematics(self):
        changes = {measure: np.ones((2, 2)) for measure in MEASURES}
        found = contribution_values(by_hand(("GSM8K", "MATH"), [0.5, 0.6], [5, 5], changes))
        reported_values = {reported.key: reported for reported in found}
        assert reported_values["maths_loss"].value == -1
        assert np.isnan(reported_values["maths_lead"].value)


def test_benchmarks_of_mathematics():
    paper = ["MMLU", "TruthfulQA", "SocialQA", "PIQA", "MedMCQA", "MathQA", "LogiQA", "GSM8K", "GPQA", "ASDiv"]
    assert benchmarks_named(paper, MATHEMATICS) == ["MathQA", "GSM8K", "ASDiv"]
    zeroeval = ["gsm", "math-l5", "crux", "numersense-v2"]
    assert benchmarks_named(zeroeval, MATHEMATICS) == ["gsm", "math-l5"]


@pytest.fixture(scope="module")
def measured_pool():
    matrix, _ = simulate_pool(scale=0.2)
    some = ["MathQA", "ASDiv", "GSM8K", "SocialQA", "PIQA"]  # two domains of like size
    return measure_contributions(
        matrix.subset(questions=np.isin(matrix.benchmarks, some)), MatrixFactorization(alpha=0.05), n_seeds=1
    )


class TestGroundTruth:
    """Each benchmark has accuracies of its own, which the others do not show."""

    def test_nothing_replaces_a_benchmark(self, measured_pool):
        reported_values = {reported.key: reported for reported in contribution_values(measured_pool)}
        for key in ("own_loss", "own_loss_order"):
            assert reported_values[key].interval[0] > 0
        order = measured_pool.table("pairwise ranking accuracy").pivot(
            index="left_out", columns="benchmark", values="change"
        )
        assert (order.idxmin() == order.columns).all()
        assert (order.to_numpy().diagonal() < -0.5).all()
