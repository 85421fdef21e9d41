"""Forecast metrics: over observed cells only, equal to scikit-learn's, and undefined where there is nothing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness, evaluate_forecasts
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.protocol.calibration import calibration_errors, reliability_repetitions
from embedllm.protocol.runs import Fitted
from embedllm.studies.forecasting import forecast_table, forecast_values, percent_table, tally_repetitions

METRICS = ["accuracy", "log_loss", "brier"]


class Fixed(CorrectnessPredictor):
    """Predicts what it is told."""

    def __init__(self, names, questions, probability):
        self.table = pd.DataFrame(probability, names, questions, dtype=np.float32)
        self.model_names_ = np.array(names, dtype=object)

    def fit(self, matrix):
        return self

    def predict_proba(self, embeddings):
        raise NotImplementedError

    def predict_matrix(self, matrix):
        return self.table.loc[matrix.model_names, matrix.question_ids].to_numpy()


@pytest.fixture
def hand():
    """Two models, four questions, two cells not observed, one of which leaves benchmark y without model b."""
    labels = pd.DataFrame([[1, 0, 1, -1], [0, 1, -1, -1]], ["a", "b"], list("wxyz"))
    questions = pd.DataFrame({"benchmark": ["x", "x", "y", "y"]}, index=list("wxyz"))
    matrix = CorrectnessMatrix(labels, questions, np.ones((4, 2)), source="by hand")
    return matrix, Fixed(["a", "b"], list("wxyz"), [[0.75, 0.5, 0.25, 0.9], [0.0, 1.0, 0.9, 0.9]])


class TestHandComputed:
    def test_by_benchmark(self, hand):
        matrix, predictor = hand
        table = evaluate_forecasts({"fixed": predictor}, matrix)
        assert table["predictor"].tolist() == ["fixed"] * 3
        assert table["data"].tolist() == ["by hand"] * 3
        assert table["benchmark"].tolist() == ["overall", "x", "y"]
        assert table["n_observed"].tolist() == [5, 4, 1]
        # 0.75 right, 0.5 counts as wrong and is, 0 and 1 right; 0.25 wrong.
        assert table["accuracy"].tolist() == pytest.approx([4 / 5, 1, 0])
        clipped = -np.log(0.999)
        x = [-np.log(0.75), -np.log(0.5), clipped, clipped]
        y = [-np.log(0.25)]
        assert table["log_loss"].tolist() == pytest.approx([np.mean(x + y), np.mean(x), np.mean(y)])
        assert table["brier"].tolist() == pytest.approx([(0.0625 + 0.25 + 0.5625) / 5, (0.0625 + 0.25) / 4, 0.5625])

    def test_by_model(self, hand):
        matrix, predictor = hand
        table = evaluate_forecasts({"fixed": predictor}, matrix, by="model").set_index("model")
        assert table.index.tolist() == ["overall", "a", "b"]
        assert table["n_observed"].tolist() == [5, 3, 2]
        assert table["accuracy"].tolist() == pytest.approx([4 / 5, 2 / 3, 1])
        assert table.loc["b", "brier"] == 0

    def test_certain_and_wrong_has_a_finite_log_loss(self, hand):
        matrix, _ = hand
        opposite = Fixed(["a", "b"], list("wxyz"), [[0, 1, 0, 0], [1, 0, 0, 0]])
        row = evaluate_forecasts({"opposite": opposite}, matrix).iloc[0]
        assert row["accuracy"] == 0
        assert row["log_loss"] == pytest.approx(-np.log(0.001))
        assert row["brier"] == 1

    def test_prediction_for_a_hidden_cell_is_of_no_consequence(self, hand):
        matrix, predictor = hand
        other = Fixed(["a", "b"], list("wxyz"), np.where(matrix.observed, predictor.table, 0.123))
        pd.testing.assert_frame_equal(
            evaluate_forecasts({"p": predictor}, matrix), evaluate_forecasts({"p": other}, matrix)
        )


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("by", ["benchmark", "model"])
    def test_metrics(self, toy_with_holes, by):
        train, _, test = toy_with_holes.split((0.4, 0.1, 0.5))
        predictors = {"KNN": KNNCorrectness(5).fit(train), "mean": BenchmarkMean().fit(train)}
        table = evaluate_forecasts(predictors, test, by=by)
        assert len(table) == 2 * (1 + (2 if by == "benchmark" else 6))
        names = np.broadcast_to(test.benchmarks if by == "benchmark" else test.model_names[:, None], test.labels.shape)
        for _, row in table.iterrows():
            cells = test.observed & ((names == row[by]) | (row[by] == "overall"))
            label = test.labels[cells]
            proba = predictors[row["predictor"]].predict_matrix(test)[cells].astype(float)
            assert row["n_observed"] == len(label) > 0
            assert row["accuracy"] == pytest.approx(accuracy_score(label, proba > 0.5))
            assert row["brier"] == pytest.approx(brier_score_loss(label, proba), abs=1e-7)
            clipped = proba.clip(0.001, 0.999)
            assert row["log_loss"] == pytest.approx(log_loss(label, clipped, labels=[0, 1]), abs=1e-7)

    def test_overall_is_the_mean_over_cells(self, toy_with_holes):
        predictor = KNNCorrectness(5).fit(toy_with_holes)
        for by in ("benchmark", "model"):
            table = evaluate_forecasts({"p": predictor}, toy_with_holes, by=by)
            parts = table.iloc[1:]
            weights = parts["n_observed"] / parts["n_observed"].sum()
            assert (parts["n_observed"] == 0).sum() == 0
            np.testing.assert_allclose(table.iloc[0][METRICS].astype(float), parts[METRICS].mul(weights, axis=0).sum())
            assert table.iloc[0]["accuracy"] == pytest.approx(predictor.score(toy_with_holes))


class TestUndefined:
    @pytest.mark.parametrize("by", ["benchmark", "model"])
    def test_group_without_an_answer(self, toy, relabel, by):
        labels = toy.labels.copy()
        labels[2] = -1
        labels[:, toy.benchmarks == "bench-1"] = -1
        table = evaluate_forecasts({"p": BenchmarkMean().fit(toy)}, relabel(toy, labels), by=by).set_index(by)
        empty = {"benchmark": "bench-1", "model": toy.model_names[2]}[by]
        assert table.loc[empty, METRICS].isna().all()
        assert table.loc[empty, "n_observed"] == 0
        assert table.drop(empty)[METRICS].notna().all(axis=None)

    def test_nothing_at_all(self, toy, relabel):
        nothing = relabel(toy, np.full_like(toy.labels, -1))
        table = evaluate_forecasts({"p": BenchmarkMean().fit(toy)}, nothing)
        assert table["benchmark"].tolist() == ["overall", "bench-0", "bench-1"]
        assert table[METRICS].isna().all(axis=None)
        assert (table["n_observed"] == 0).all()


def test_percent_table(hand):
    matrix, predictor = hand
    table = percent_table(evaluate_forecasts({"b": predictor, "a": predictor}, matrix), "predictor")
    assert table.index.tolist() == [("by hand", "overall"), ("by hand", "x"), ("by hand", "y")]
    assert table.columns.tolist() == ["b", "a"]
    assert table["a"].tolist() == table["b"].tolist() == [80, 100, 0]


def test_percent_table_is_rounded_and_keeps_the_order_of_the_rows(toy_with_holes):
    predictors = {"mean": BenchmarkMean().fit(toy_with_holes), "KNN": KNNCorrectness(5).fit(toy_with_holes)}
    matrix = toy_with_holes.subset(questions=toy_with_holes.question_ids[::-1])
    evaluation = evaluate_forecasts(predictors, matrix)
    table = percent_table(evaluation, "predictor")
    assert [benchmark for _, benchmark in table.index] == ["overall", "bench-1", "bench-0"]
    for row in evaluation.itertuples():
        assert table.loc[(row.data, row.benchmark), row.predictor] == round(100 * row.accuracy, 1)


def test_predictors_keep_their_order(toy):
    predictors = {"z": BenchmarkMean().fit(toy), "a": KNNCorrectness(3).fit(toy)}
    table = evaluate_forecasts(predictors, toy)
    assert table["predictor"].tolist() == ["z"] * 3 + ["a"] * 3
    one = evaluate_forecasts({"a": predictors["a"]}, toy)
    pd.testing.assert_frame_equal(table.iloc[3:].reset_index(drop=True), one)


def test_standard_error_is_over_questions(toy):
    # Answers to one question that are all right or all wrong count once, not once for each model.
    labels = np.tile(np.arange(toy.n_questions) % 4 > 0, (toy.n_models, 1)).astype(np.int8)
    matrix = CorrectnessMatrix(
        pd.DataFrame(labels, index=toy.model_names, columns=toy.question_ids), toy.questions, toy.embeddings
    )
    table = evaluate_forecasts({"mean": BenchmarkMean().fit(matrix)}, matrix)
    overall = table[table["benchmark"] == "overall"].iloc[0]
    assert overall["n_questions"] == toy.n_questions
    assert overall["stderr"] == pytest.approx(pd.Series(labels[0] == 1).sem())


def repetitions_of(matrix, seeds=(3, 4, 5)):
    """Repetitions on random divisions, with predictors that fit in no time under the names of the paper's."""
    for seed in seeds:
        split = matrix.split((0.4, 0.1, 0.5), random_state=seed, own=False)
        predictors = {
            "MF": KNNCorrectness(9).fit(split.train),
            "KNN": KNNCorrectness(2).fit(split.train),
            "benchmark mean": BenchmarkMean().fit(split.train),
        }
        yield Fitted(seed, split, predictors)


class TestRepetitions:
    def test_one_is_the_evaluation_of_one_matrix(self, toy_with_holes):
        (fitted,) = repetitions_of(toy_with_holes, [0])
        table = forecast_table(tally_repetitions([fitted]))
        pd.testing.assert_frame_equal(table, evaluate_forecasts(fitted.predictors, fitted.split.test))

    def test_metrics_are_means_over_the_repetitions(self, make_matrix):
        fits = list(repetitions_of(make_matrix(n_questions=90, missing=0.3, n_benchmarks=3)))
        keys = ["predictor", "benchmark"]
        table = forecast_table(tally_repetitions(fits)).set_index(keys)
        each = [evaluate_forecasts(fitted.predictors, fitted.split.test).set_index(keys) for fitted in fits]
        for metric in METRICS:
            expected = sum(one.loc[table.index, metric] for one in each) / len(each)
            np.testing.assert_allclose(table[metric], expected)
        n_observed = sum(one.loc[table.index, "n_observed"] for one in each) / len(each)
        assert table["n_observed"].tolist() == n_observed.round().tolist()

    def test_the_same_answers_again_do_not_narrow_the_error(self, toy_with_holes):
        (fitted,) = repetitions_of(toy_with_holes, [0])
        again = fitted._replace(seed=1)
        once, twice = (forecast_table(tally_repetitions(fits)) for fits in ([fitted], [fitted, again]))
        pd.testing.assert_frame_equal(once, twice)


class TestHeadlines:
    KEYS = (
        "mf_accuracy knn_accuracy floor_accuracy mf_minus_knn mf_minus_knn_smallest smallest_size above_floor "
        "forecast_benchmarks forecast_answers mf_log_loss knn_log_loss mf_brier knn_brier mf_ece knn_ece"
    )

    @staticmethod
    def curve_of(fits):
        rows = [
            (fitted.seed, size, name, accuracy)
            for fitted in fits
            for size, shift in ((300, 0.0), (50, -0.1))
            for name, accuracy in (("MF", 0.7 + fitted.seed / 100 + shift), ("KNN", 0.65 + shift / 2))
        ]
        return pd.DataFrame(rows, columns=["seed", "size", "predictor", "accuracy"]).assign(data="d")

    def test_against_the_evaluation_of_each_repetition(self, make_matrix):
        fits = list(repetitions_of(make_matrix(n_questions=90, missing=0.3, n_benchmarks=3)))
        bins = reliability_repetitions(fits)
        reported_values = {one.key: one for one in forecast_values(tally_repetitions(fits), bins, self.curve_of(fits))}
        assert list(reported_values) == self.KEYS.split()
        expected = {key: [] for key in reported_values}
        for fitted in fits:
            test = fitted.split.test
            table = evaluate_forecasts(fitted.predictors, test).set_index(["predictor", "benchmark"])
            overall = table.xs("overall", level="benchmark")
            accuracy = table["accuracy"].unstack("predictor").drop("overall")
            percent = 100 * overall["accuracy"]
            expected["mf_accuracy"].append(percent["MF"])
            expected["knn_accuracy"].append(percent["KNN"])
            expected["floor_accuracy"].append(percent["benchmark mean"])
            expected["mf_minus_knn"].append(percent["MF"] - percent["KNN"])
            # At 50 questions: 0.6 + seed / 100 against 0.6.
            expected["mf_minus_knn_smallest"].append(fitted.seed)
            expected["above_floor"].append((accuracy["MF"] > accuracy["benchmark mean"]).sum())
            expected["forecast_benchmarks"].append(3)
            expected["forecast_answers"].append(test.observed.sum())
            for key, name in (("mf", "MF"), ("knn", "KNN")):
                expected[f"{key}_log_loss"].append(overall.loc[name, "log_loss"])
                expected[f"{key}_brier"].append(overall.loc[name, "brier"])
                expected[f"{key}_ece"].append(100 * calibration_errors(bins).loc[fitted.seed, name])
        expected["smallest_size"] = [50]
        for key, reported in reported_values.items():
            assert reported.runs == pytest.approx(expected[key]), key
            assert all(type(run) is float for run in reported.runs), key
        for key in ("mf_accuracy", "knn_accuracy", "floor_accuracy", "mf_minus_knn"):
            low, high = reported_values[key].interval
            assert low < reported_values[key].value < high

    def test_benchmark_without_a_test_answer_does_not_count(self, make_matrix, relabel):
        matrix = make_matrix(n_questions=90, n_benchmarks=3)
        labels = matrix.labels.copy()
        labels[:, matrix.benchmarks == "bench-2"] = -1
        fits = list(repetitions_of(relabel(matrix, labels)))
        reported_values = forecast_values(tally_repetitions(fits), reliability_repetitions(fits), self.curve_of(fits))
        values = {reported.key: reported.value for reported in reported_values}
        assert values["forecast_benchmarks"] == 2
        assert values["above_floor"] <= 2
        assert not np.isnan(list(values.values())).any()
