"""Contributions: the paper's protocol against loops, and predictions with and without a benchmark."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from embedllm import CorrectnessMatrix, MatrixFactorization, evaluate_forecasts
from embedllm.datasets.simulate import simulate_pool
from embedllm.studies.contributions import (
    ACCURACY,
    MEASURES,
    MSE,
    ORDER,
    Contributions,
    contribution_values,
    count_predictions,
    measure_contributions,
    published_cells,
)

MF = MatrixFactorization(dim=30, alpha=0.1)
NAMES = [f"bench-{number}" for number in range(4)]


class Fixed:
    """Predicts what it is told."""

    def __init__(self, probability):
        self.probability = np.array(probability, dtype=np.float32)

    def predict_matrix(self, matrix):
        return self.probability


@pytest.fixture(scope="module")
def matrix_with_gaps(make_matrix) -> CorrectnessMatrix:
    """24 models on four benchmarks, two without an answer to one of them, one with answers to two only."""
    matrix = make_matrix(n_models=24, n_questions=600, n_benchmarks=4, missing=0.3, seed=11)
    labels = matrix.labels.copy()
    labels[:2, matrix.benchmarks == "bench-3"] = -1
    labels[2, np.isin(matrix.benchmarks, ["bench-0", "bench-1"])] = -1
    return matrix.with_labels(labels)


@pytest.fixture(scope="module")
def measured(matrix_with_gaps):
    return measure_contributions(matrix_with_gaps, MF, seed=1, n_resamples=200)


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


def total_error(matrix, left_out, testee, names):
    """Total test mean squared error over 100 splits of the models, as section 6.2 has it, model by model."""
    train = matrix.split(random_state=1).train
    fitted = MatrixFactorization(dim=30, alpha=0.1).fit(train.subset(questions=~np.isin(train.benchmarks, left_out)))
    vectors = pd.DataFrame(fitted.model_embeddings_, fitted.model_names_, dtype=float).loc[names].to_numpy()
    accuracy = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack().loc[names, testee].to_numpy()
    n_test = -(-len(names) // 2)
    rng, errors = np.random.RandomState(1), []
    for _ in range(100):  # as scikit-learn draws
        order = rng.permutation(len(names))
        test, inside = order[:n_test], order[n_test:]
        predicted = LinearRegression().fit(vectors[inside], accuracy[inside]).predict(vectors[test])
        errors.append(np.mean((predicted - accuracy[test]) ** 2))
    return sum(errors)


class TestPaper:
    def test_against_loops(self, matrix_with_gaps, measured):
        found = measured[MSE]
        assert found.cells.dropna().index.tolist() == list(itertools.permutations(NAMES, 2))
        for contributor, testee in [("bench-0", "bench-1"), ("bench-1", "bench-0"), ("bench-2", "bench-3")]:
            # Of a model, two others must be known beside the testee, so that one is left without the contributor.
            without = {"bench-3": [0, 1], "bench-0": [2], "bench-1": [2]}[testee]
            out = [*without, 2] if testee == "bench-3" else without
            names = sorted(set(matrix_with_gaps.model_names) - set(matrix_with_gaps.model_names[out]))
            added = total_error(matrix_with_gaps, [testee], testee, names)
            removed = total_error(matrix_with_gaps, [contributor, testee], testee, names)
            assert found.cells[contributor, testee] == pytest.approx(removed - added, abs=1e-6)

    def test_sums(self, measured):
        found = measured[MSE]
        matrix = found.cells.unstack()
        sums = found.sums().set_index("benchmark")
        assert sums.index.tolist() == NAMES
        assert sums["gives"].to_dict() == pytest.approx(matrix.sum(axis=1).to_dict())
        assert sums["gains"].to_dict() == pytest.approx(matrix.sum(axis=0).to_dict())
        assert sums["gives"].sum() == pytest.approx(sums["gains"].sum())
        for name in ("gives", "gains"):
            assert (sums[f"{name}, low"] < sums[name]).all()
            assert (sums[name] < sums[f"{name}, high"]).all()
        value, samples = found.lead("bench-2")
        assert value == pytest.approx(sums["gives"]["bench-2"] - sums["gives"].drop("bench-2").max())
        assert len(samples) == 200

    def test_spread_over_resampled_models(self, matrix_with_gaps):
        # A sum over models varies, if these are drawn again, with the root of n times its deviation.
        found = measure_contributions(matrix_with_gaps, MF, seed=1)[MSE]
        for cell in [("bench-0", "bench-1"), ("bench-3", "bench-2")]:
            assert found.resampled[cell].mean() == pytest.approx(
                found.cells[cell], abs=0.2 * found.resampled[cell].std()
            )

    def test_order_of_models_has_no_effect(self, matrix_with_gaps, measured):
        turned = matrix_with_gaps.subset(models=matrix_with_gaps.model_names[::-1])
        again = measure_contributions(turned, MF, seed=1, n_resamples=200)
        for measure in MEASURES:
            pd.testing.assert_series_equal(again[measure].cells, measured[measure].cells, atol=1e-5)
            pd.testing.assert_frame_equal(again[measure].resampled, measured[measure].resampled, atol=1e-4)


class TestOurs:
    def test_loss_of_accuracy_is_that_of_the_predictions(self, matrix_with_gaps, measured):
        train, _, test = matrix_with_gaps.split(random_state=1)
        predictors = {
            left_out: MatrixFactorization(dim=30, alpha=0.1).fit(train.subset(questions=train.benchmarks != left_out))
            for left_out in (*NAMES, "none")
        }
        table = evaluate_forecasts(predictors, test).pivot(index="predictor", columns="benchmark", values="accuracy")
        losses = 100 * (table.loc["none"] - table)
        for contributor, testee in itertools.product(NAMES, NAMES):
            assert measured[ACCURACY].cells[contributor, testee] == pytest.approx(losses.loc[contributor, testee])
        assert (measured[ACCURACY].cells != 0).any()

    def test_spread_over_resampled_questions(self, make_matrix):
        # Against the standard error of a ratio of sums over questions.
        matrix = make_matrix(n_models=8, n_questions=1200, n_benchmarks=3, missing=0.3, seed=11)
        measured = measure_contributions(matrix, MF, seed=1)
        train, _, test = matrix.split(random_state=1)
        complete, cases = count_predictions(MatrixFactorization(dim=30, alpha=0.1).fit(train), test)
        rest = train.subset(questions=train.benchmarks != "bench-0")
        without, _ = count_predictions(MatrixFactorization(dim=30, alpha=0.1).fit(rest), test)
        of_it, cell = test.benchmarks == "bench-2", ("bench-0", "bench-2")
        for measure in (ACCURACY, ORDER):
            difference, n = (complete - without)[measure][of_it], cases[measure][of_it]
            ratio = difference.sum() / n.sum()
            stderr = 100 * np.sqrt(((difference - ratio * n) ** 2).sum()) / n.sum()
            found = measured[measure]
            assert found.cells[cell] == pytest.approx(100 * ratio)
            assert found.resampled[cell].mean() == pytest.approx(100 * ratio, abs=0.2 * stderr)
            assert found.resampled[cell].std() == pytest.approx(stderr, rel=0.25)
        assert measured[MSE].cells.isna().all()  # too few models


def test_table(matrix_with_gaps, measured):
    n_test = matrix_with_gaps.split(random_state=1).test.questions["benchmark"].value_counts()
    for measure in (MSE, ACCURACY):
        table = measured[measure].table()
        assert len(table) == 16
        assert (table["data"] == matrix_with_gaps.source).all()
        for row in table.itertuples():
            cell = (row.contributor, row.testee)
            expected = measured[measure].cells[cell]
            assert row.contribution == pytest.approx(expected, nan_ok=True)
            low, high = row.low, row.high
            assert row.clear == (low > 0 or high < 0)
            n = 150 if measure == MSE else n_test[row.testee]
            assert row.n_questions == n
            assert row.few == (n < 100)
            assert np.isnan(low) == (n < 30 if measure == ACCURACY else cell[0] == cell[1])


class TestUndefined:
    @pytest.mark.parametrize("size", [{"n_benchmarks": 1, "n_models": 24}, {"n_models": 24}, {}, {"n_models": 1}])
    def test_paper_measure(self, make_matrix, size):
        measured = measure_contributions(make_matrix(**size), MF, n_resamples=10)
        assert measured[MSE].cells.isna().all()
        sums = measured[MSE].sums()
        assert sums.drop(columns=["data", "benchmark"]).isna().all(axis=None)
        assert published_cells(measured[MSE]).empty
        values = {reported.key: reported.value for reported in contribution_values(measured)}
        assert np.isnan(values["mmlu_lead"])
        assert np.isnan(values["own_loss"]) == (size.get("n_benchmarks") == 1)

    def test_benchmark_without_a_test_question(self, toy):
        questions = toy.questions.assign(split=["train", "train", "test", "val"] * 10)  # every other one is of bench-1
        frame = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
        matrix = CorrectnessMatrix(frame, questions, toy.embeddings)
        measured = measure_contributions(matrix, MF, n_resamples=10)
        table = measured[ACCURACY].table().set_index("testee")
        assert table.loc["bench-1", "contribution"].isna().all()
        assert (table.loc["bench-1", "n_questions"] == 0).all()
        assert table.loc["bench-0", "contribution"].notna().all()
        values = {reported.key: reported for reported in contribution_values(measured)}
        # The mean over what is defined.
        assert values["own_loss"].value == pytest.approx(table.loc["bench-0", "contribution"].iloc[0])
        assert np.isnan(values["own_loss"].interval).all()  # ten test questions

    def test_benchmark_without_a_training_question_contributes_nothing(self, toy):
        split = np.where(toy.benchmarks == "bench-1", "test", ["train", "val", "train", "test"] * 10)
        frame = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
        matrix = CorrectnessMatrix(frame, toy.questions.assign(split=split), toy.embeddings)
        cells = measure_contributions(matrix, MF, n_resamples=10)[ACCURACY].cells
        # On bench-1 itself; on bench-0 nothing is tested.
        assert cells["bench-1"].dropna().tolist() == [0]


def by_hand(names, matrix, measure=MSE):
    """Contributions with resamples of 0.8 and 1.2 times the values."""
    cells = {(i, j): float(matrix[a][b]) for a, i in enumerate(names) for b, j in enumerate(names)}
    if measure == MSE:
        cells |= {(name, name): np.nan for name in names}
    series = pd.Series(cells)
    resampled = pd.DataFrame([0.8 * series, 1.2 * series])
    return Contributions("by hand", measure, series, resampled, pd.Series(500, names))


class TestValues:
    PAPER = ("PIQA", "MMLU", "MathQA", "GSM8K", "GPQA", "asdiv")
    MATRIX = (
        (9, 1, 1, 1, -4, 0),
        (1, 9, 2, 3, -4, 1),
        (0, 0, 9, 3, 2, 0.19),
        (1, 0, 0.271, 9, 0, 0),
        (0, 0, 0, 1, 9, 0),
        (0, 0, -0.103, 0, 0, 9),
    )

    def test_values(self):
        contributions = {measure: by_hand(self.PAPER, self.MATRIX, measure) for measure in MEASURES}
        values = {reported.key: reported for reported in contribution_values(contributions)}
        expected = {
            "mmlu_lead": 3 - 5.19,  # behind MathQA
            "gpqa_hurt": 6,
            "contribution_gsm8k_mathqa": 0.271,
            "contribution_mathqa_asdiv": 0.19,
            "contribution_asdiv_mathqa": -0.103,
            "giver_lead": 5.19 - 3,  # of MathQA
            "own_loss": 9,
            "own_loss_order": 9,
            "others_loss": sum(map(sum, self.MATRIX)) / 30 - 9 * 6 / 30,
        }
        for key, value in expected.items():
            assert values[key].value == pytest.approx(value)
            assert values[key].interval == pytest.approx(sorted((0.81 * value, 1.19 * value)))
        assert len({reported.what for reported in values.values()}) == len(values) == 10
        assert "MathQA gives most" in values["giver_lead"].what

    def test_published_beside_ours(self):
        table = published_cells(by_hand(self.PAPER, self.MATRIX))
        assert table.index.tolist() == [("GSM8K", "MathQA"), ("MathQA", "asdiv"), ("asdiv", "MathQA")]
        assert table["published"].tolist() == [0.271, 0.19, 0.103]
        assert table["contribution"].tolist() == [0.271, 0.19, -0.103]

    def test_names_that_are_not_there(self):
        contributions = {
            measure: by_hand(("one", "MathQA", "arithmetic_2da"), np.ones((3, 3)), measure) for measure in MEASURES
        }
        values = {reported.key: reported for reported in contribution_values(contributions)}
        absent = {"mmlu_lead": "MMLU", "gpqa_hurt": "GPQA", "contribution_gsm8k_mathqa": "GSM8K"}
        for key, name in absent.items():
            assert values[key].shown == f"not testable on this data set: it has no benchmark named {name}"
        assert np.isnan(values["contribution_asdiv_mathqa"].value)
        assert values["others_loss"].value == 1


def test_own_questions_help_in_the_simulated_pool():
    matrix, _ = simulate_pool(scale=0.1)
    some = ["MathQA", "ASDiv", "GSM8K", "SocialQA", "PIQA"]
    part = matrix.subset(questions=np.isin(matrix.benchmarks, some))
    values = {
        reported.key: reported.value
        for reported in contribution_values(
            measure_contributions(part, MatrixFactorization(alpha=0.05), n_resamples=10)
        )
    }
    assert values["own_loss_order"] > 0.2
    assert values["own_loss_order"] > 3 * abs(values["others_loss_order"])


def test_real_answers(zeroeval):
    found = measure_contributions(zeroeval, MF, n_resamples=50)[MSE].cells.unstack(0)
    # Nine models answered numersense: it contributes, but it cannot be tested.
    assert found.loc["numersense-v2"].isna().all()
    assert found.drop(index="numersense-v2").isna().sum().sum() == 3  # the diagonal
