"""Forecast metrics over observed entries only, runs, and accuracy against training size."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from embedllm import (
    BenchmarkMean,
    CorrectnessMatrix,
    CorrectnessPredictor,
    KNNCorrectness,
    MatrixFactorization,
    ModelMean,
    evaluate_forecasts,
    fit_runs,
)
from embedllm.protocol.calibration import calibration_errors, reliability
from embedllm.protocol.runs import Run
from embedllm.studies.forecasting import (
    fit_tuned,
    forecast_table,
    forecast_values,
    learning_curve,
    nested_subsets,
    published_table,
    size_table,
    tally_runs,
    training_sizes,
)

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
    """Two models, four questions, two entries not observed, one of which leaves benchmark y without model b."""
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
        # 0.75 correct; 0.5 counts as incorrect, which is correct; 0 and 1 correct; 0.25 incorrect.
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

    def test_certain_and_incorrect_has_a_finite_log_loss(self, hand):
        matrix, _ = hand
        opposite = Fixed(["a", "b"], list("wxyz"), [[0, 1, 0, 0], [1, 0, 0, 0]])
        row = evaluate_forecasts({"opposite": opposite}, matrix).iloc[0]
        assert row["accuracy"] == 0
        assert row["log_loss"] == pytest.approx(-np.log(0.001))
        assert row["brier"] == 1

    def test_prediction_for_a_missing_entry_has_no_effect(self, hand):
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

    def test_overall_is_the_mean_over_entries(self, toy_with_holes):
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
    def test_group_without_an_answer(self, toy, by):
        labels = toy.labels.copy()
        labels[2] = -1
        labels[:, toy.benchmarks == "bench-1"] = -1
        table = evaluate_forecasts({"p": BenchmarkMean().fit(toy)}, toy.with_labels(labels), by=by).set_index(by)
        empty = {"benchmark": "bench-1", "model": toy.model_names[2]}[by]
        assert table.loc[empty, METRICS].isna().all()
        assert table.loc[empty, "n_observed"] == 0
        assert table.drop(empty)[METRICS].notna().all(axis=None)

    def test_nothing_at_all(self, toy):
        nothing = toy.with_labels(np.full_like(toy.labels, -1))
        table = evaluate_forecasts({"p": BenchmarkMean().fit(toy)}, nothing)
        assert table["benchmark"].tolist() == ["overall", "bench-0", "bench-1"]
        assert table[METRICS].isna().all(axis=None)
        assert (table["n_observed"] == 0).all()


def test_predictors_keep_their_order(toy):
    predictors = {"z": BenchmarkMean().fit(toy), "a": KNNCorrectness(3).fit(toy)}
    table = evaluate_forecasts(predictors, toy)
    assert table["predictor"].tolist() == ["z"] * 3 + ["a"] * 3
    one = evaluate_forecasts({"a": predictors["a"]}, toy)
    pd.testing.assert_frame_equal(table.iloc[3:].reset_index(drop=True), one)


def test_standard_error_is_over_questions(toy):
    # Answers to one question that are all correct or all incorrect count once, not once for each model.
    labels = np.tile(np.arange(toy.n_questions) % 4 > 0, (toy.n_models, 1)).astype(np.int8)
    matrix = CorrectnessMatrix(
        pd.DataFrame(labels, index=toy.model_names, columns=toy.question_ids), toy.questions, toy.embeddings
    )
    table = evaluate_forecasts({"mean": BenchmarkMean().fit(matrix)}, matrix)
    overall = table[table["benchmark"] == "overall"].iloc[0]
    assert overall["n_questions"] == toy.n_questions
    assert overall["stderr"] == pytest.approx(pd.Series(labels[0] == 1).sem())


MEANS = {"benchmark mean": BenchmarkMean(), "model mean": ModelMean()}
PREDICTORS = {"MF": KNNCorrectness(9), "KNN": KNNCorrectness(2)} | MEANS
"""Predictors that fit in no time, under the names of the paper's."""


@pytest.fixture(scope="module")
def runs(make_matrix):
    return list(fit_runs(make_matrix(n_questions=300, missing=0.3, n_benchmarks=3), PREDICTORS, seed=3, n_seeds=3))


class TestRuns:
    def test_one_is_the_evaluation_of_one_matrix(self, runs):
        table = forecast_table(tally_runs(runs[:1]))
        pd.testing.assert_frame_equal(table, evaluate_forecasts(runs[0].predictors, runs[0].split.test))

    def test_metrics_are_means_over_the_runs(self, runs):
        keys = ["predictor", "benchmark"]
        table = forecast_table(tally_runs(runs)).set_index(keys)
        each = [evaluate_forecasts(run.predictors, run.split.test).set_index(keys) for run in runs]
        for metric in METRICS:
            expected = sum(one.loc[table.index, metric] for one in each) / len(each)
            np.testing.assert_allclose(table[metric], expected)
        n_observed = sum(one.loc[table.index, "n_observed"] for one in each) / len(each)
        assert table["n_observed"].tolist() == n_observed.round().tolist()

    def test_the_same_answers_again_do_not_narrow_the_error(self, runs):
        again = runs[0]._replace(seed=1)
        once, twice = (forecast_table(tally_runs(some)) for some in ([runs[0]], [runs[0], again]))
        pd.testing.assert_frame_equal(once, twice)


def values_of(runs):
    rows = [
        (run.seed, size, name, accuracy)
        for run in runs
        for size, shift in ((300, 0.0), (50, -0.1))
        for name, accuracy in (("MF", 0.7 + run.seed / 100 + shift), ("KNN", 0.65 + shift / 2))
    ]
    curve = pd.DataFrame(rows, columns=["seed", "size", "predictor", "accuracy"]).assign(data="d")
    table_1 = tally_runs(runs[:1])  # as if fewer runs had been tuned
    # KNN stands for the paper's training, too.
    beside = Run(runs[0].seed, runs[0].split, {}, {"SGD": runs[0].probabilities["KNN"]})
    first = tally_runs([runs[0].with_those_of(beside)])
    return {one.key: one for one in forecast_values(tally_runs(runs), first, reliability(runs), curve, table_1)}


class TestValues:
    KEYS = (
        "mf_accuracy knn_accuracy floor_accuracy model_floor_accuracy mf_minus_knn mf_minus_floor sgd_accuracy "
        "mf_minus_sgd table_1_mf table_1_knn table_1_mf_minus_knn mf_minus_knn_smallest smallest_size above_floor "
        "below_knn forecast_benchmarks forecast_answers mf_ece knn_ece"
    )

    def test_against_the_evaluation_of_each_run(self, runs):
        reported, errors = values_of(runs), calibration_errors(reliability(runs))
        assert list(reported) == self.KEYS.split()
        expected = {key: [] for key in reported}
        for run in runs:
            table = evaluate_forecasts(run.predictors, run.split.test).set_index(["predictor", "benchmark"])
            overall = table.xs("overall", level="benchmark")
            accuracy = table["accuracy"].unstack("predictor").drop("overall")
            percent = 100 * overall["accuracy"]
            expected["mf_accuracy"].append(percent["MF"])
            expected["knn_accuracy"].append(percent["KNN"])
            expected["floor_accuracy"].append(percent["benchmark mean"])
            expected["model_floor_accuracy"].append(percent["model mean"])
            expected["mf_minus_knn"].append(percent["MF"] - percent["KNN"])
            expected["mf_minus_floor"].append(percent["MF"] - percent["benchmark mean"])
            # At 50 questions: 0.6 + seed / 100 against 0.6.
            expected["mf_minus_knn_smallest"].append(run.seed)
            expected["above_floor"].append((accuracy["MF"] > accuracy["benchmark mean"]).sum())
            expected["below_knn"].append((accuracy["MF"] < accuracy["KNN"]).sum())
            expected["forecast_benchmarks"].append(3)
            expected["forecast_answers"].append(run.split.test.observed.sum())
            for key, name in (("mf", "MF"), ("knn", "KNN")):
                expected[f"{key}_ece"].append(100 * errors.loc[run.seed, name])
        expected["smallest_size"] = [50]
        expected["sgd_accuracy"] = expected["knn_accuracy"][:1]
        expected["mf_minus_sgd"] = expected["mf_minus_knn"][:1]
        for key, of in (("mf", "mf_accuracy"), ("knn", "knn_accuracy"), ("mf_minus_knn", "mf_minus_knn")):
            expected[f"table_1_{key}"] = expected[of][:1]
        for key, each in reported.items():
            assert each.runs == pytest.approx(expected[key]), key
            assert all(type(value) is float for value in each.runs), key
        for key in ("mf_accuracy", "knn_accuracy", "floor_accuracy", "mf_minus_knn"):
            low, high = reported[key].interval
            assert low < reported[key].value < high
        assert {key for key, each in reported.items() if each.count} == {
            "smallest_size", "forecast_benchmarks", "forecast_answers",
        }  # fmt: skip

    def test_benchmark_without_a_test_answer_does_not_count(self, make_matrix):
        matrix = make_matrix(n_questions=300, n_benchmarks=3)
        labels = matrix.labels.copy()
        labels[:, matrix.benchmarks == "bench-2"] = -1
        runs = list(fit_runs(matrix.with_labels(labels), PREDICTORS))
        values = {key: each.value for key, each in values_of(runs).items()}
        assert values["forecast_benchmarks"] == 2
        assert values["above_floor"] <= 2
        assert not np.isnan(list(values.values())).any()


CURVE = {"MF": MatrixFactorization(dim=8, alpha=0.1), "KNN": KNNCorrectness(15), "benchmark mean": BenchmarkMean()}


class TestSizes:
    def test_of_the_paper(self):
        paper = [1000, 5000, 10_000, 15_000, 20_000, 25_000]
        assert training_sizes(29_673) == [*paper, 29_673]
        assert training_sizes(25_001) == [*paper, 25_001]
        assert training_sizes(25_000) == paper
        assert training_sizes(12_000) == [1000, 5000, 10_000, 12_000]

    def test_small_data_are_divided(self):
        assert training_sizes(2682) == [134, 268, 670, 1341, 2682]
        assert training_sizes(32) == [2, 3, 8, 16, 32]

    @pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 1001, 4999, 40_000])
    def test_ascend_to_all(self, n):
        sizes = training_sizes(n)
        assert sizes == sorted(set(sizes))
        assert sizes[0] >= 1
        assert sizes[-1] == n


class TestSubsets:
    def test_are_nested(self, toy):
        subsets = list(nested_subsets(toy, [1, 5, 17, 40], seed=2))
        assert [part.n_questions for part in subsets] == [1, 5, 17, 40]
        for smaller, larger in pairwise(subsets):
            assert set(smaller.question_ids) < set(larger.question_ids)
        for part in subsets:
            assert sorted(part.question_ids, key=toy.question_ids.tolist().index) == part.question_ids.tolist()
            assert part.model_names.tolist() == toy.model_names.tolist()

    def test_seed_draws_them(self, toy):
        drawn = [next(nested_subsets(toy, [10], seed)).question_ids.tolist() for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]

    def test_every_benchmark_is_drawn_from(self, small_pool):
        matrix = small_pool[0]
        (part,) = nested_subsets(matrix, [matrix.n_questions // 2], seed=0)
        share = part.questions["benchmark"].value_counts() / matrix.questions["benchmark"].value_counts()
        assert share.max() < 0.7
        assert share.min() > 0.3

    def test_unanswered_questions_come_last(self, toy):
        labels = toy.labels.copy()
        labels[:, 10:] = -1
        for seed in range(3):
            ten, all_ = nested_subsets(toy.with_labels(labels), [10, 40], seed)
            assert set(ten.question_ids) == set(toy.question_ids[:10])
            assert all_.n_questions == 40


class TestTuned:
    def test_has_the_best_validation_accuracy_of_separate_fits(self, make_matrix):
        train, val, _ = make_matrix(n_questions=300, missing=0.2).split((0.4, 0.5, 0.1))
        for predictor, name, values in (
            (KNNCorrectness(1), "n_neighbors", [1, 3, 9, 27, 500]),
            (MatrixFactorization(dim=1, alpha=0.2, device="cpu"), "dim", [1, 2, 4]),
        ):
            scores = [clone(predictor).set_params(**{name: value}).fit(train).score(val) for value in values]
            fitted = fit_tuned(predictor, train, val, 0, values)
            assert fitted.get_params()[name] == values[int(np.argmax(scores))]
            assert fitted.score(val) == pytest.approx(max(scores), abs=1e-3)

    def test_without_a_validation_answer_nothing_is_chosen(self, toy):
        nothing = toy.with_labels(np.full_like(toy.labels, -1))
        assert fit_tuned(KNNCorrectness(7), toy, nothing, 0, [1, 2]).n_neighbors == 7
        assert fit_tuned(MatrixFactorization(dim=3, alpha=0.1, device="cpu"), toy, nothing, 0, [1, 2]).dim == 3

    def test_other_predictors_are_only_fitted(self, toy):
        assert fit_tuned(BenchmarkMean(), toy, toy, 0, [1]).score(toy) == BenchmarkMean().fit(toy).score(toy)


def test_published_table():
    table = published_table().set_index(["predictor", "size"])["accuracy"]
    assert len(table) == 14
    assert table["KNN", 1000] == pytest.approx(0.6372)
    assert table["MF", 25_000] == pytest.approx(0.7394)
    assert table["MF"][table["MF"].index.isna()].item() == pytest.approx(0.7409)


@pytest.mark.parametrize("own_split", [True, False])
def test_curve(small_pool, own_split, monkeypatch):
    matrix = small_pool[0] if own_split else small_pool[0].subset(questions=np.arange(1784) % 6 == 0)
    if not own_split:
        matrix.questions = matrix.questions.drop(columns="split")
    runs = list(fit_runs(matrix, CURVE, seed=4, n_seeds=2))
    fits, fit = [], MatrixFactorization.fit

    def counted(self, part, validation=None):
        fits.append(part.n_questions)
        return fit(self, part, validation)

    monkeypatch.setattr(MatrixFactorization, "fit", counted)
    curve, tally = learning_curve(runs)
    *smaller, everything = training_sizes(runs[0].split.train.n_questions)
    # One fit for each size and seed, none for the last size.
    assert fits == [*smaller, *smaller]
    keys = [(s, n, p) for s in (4, 5) for n in [*smaller, everything] for p in CURVE]
    assert list(curve[["seed", "size", "predictor"]].itertuples(index=False, name=None)) == keys
    assert (curve["data"] == matrix.source).all()
    # The last point is the comparison on all training questions.
    for run in runs:
        expected = evaluate_forecasts(run.predictors, run.split.test).query("benchmark == 'overall'")
        last = curve[(curve["seed"] == run.seed) & (curve["size"] == everything)]
        for metric in ("accuracy", "log_loss", "brier"):
            np.testing.assert_allclose(last[metric], expected[metric])
    pd.testing.assert_frame_equal(forecast_table(tally), forecast_table(tally_runs(runs)))
    pd.testing.assert_frame_equal(learning_curve(runs)[0], curve)
    # Tuned fits on all questions are made once where they are alike in all runs.
    values = {"KNN": [1, 5, 25], "MF": [2, 4]}
    alone = pd.concat([learning_curve([run], values)[0] for run in runs], ignore_index=True)
    fits.clear()
    pd.testing.assert_frame_equal(learning_curve(runs, values)[0], alone)
    assert fits.count(everything) == (1 if own_split else 2)


def test_points_are_fits_on_the_subsets(make_matrix):
    (run,) = fit_runs(make_matrix(n_questions=100, missing=0.2), CURVE, n_seeds=1)
    curve = learning_curve([run])[0].set_index(["size", "predictor"])
    size = 20  # a quarter of the training questions
    (part,) = nested_subsets(run.split.train, [size], seed=0)
    for name, predictor in CURVE.items():
        assert curve.at[(size, name), "accuracy"] == pytest.approx(clone(predictor).fit(part).score(run.split.test))
    assert curve["chosen"].isna().all()


def test_values_are_chosen_for_each_size(make_matrix):
    (run,) = fit_runs(make_matrix(n_questions=100, missing=0.2), CURVE, n_seeds=1)
    curve = learning_curve([run], {"KNN": [1, 5, 25]})[0].set_index(["size", "predictor"])
    for size, part in zip([4, 80], [next(nested_subsets(run.split.train, [4], 0)), run.split.train], strict=True):
        fitted = fit_tuned(KNNCorrectness(), part, run.split.val, 0, [1, 5, 25])
        assert curve.at[(size, "KNN"), "chosen"] == fitted.n_neighbors
        assert curve.at[(size, "KNN"), "accuracy"] == pytest.approx(fitted.score(run.split.test))
    assert curve["chosen"].notna().sum() == curve.index.get_level_values("size").nunique()


def test_more_questions_help_on_the_simulated_pool(small_pool):
    runs = fit_runs(small_pool[0], CURVE, n_seeds=1)
    accuracy = learning_curve(runs)[0].pivot(index="size", columns="predictor", values="accuracy")
    assert accuracy["MF"].iloc[-1] > accuracy["MF"].iloc[0] + 0.01
    assert accuracy["KNN"].iloc[-1] > accuracy["KNN"].iloc[0] + 0.01
    # What does not read the question has learned all it can from a few.
    assert abs(accuracy["benchmark mean"].iloc[-1] - accuracy["benchmark mean"].iloc[1]) < 0.04


def test_table_of_sizes():
    curve = pd.DataFrame(
        {
            "data": "d",
            "seed": [0, 0, 0, 0, 1, 1, 1, 1],
            "size": [10, 10, 200, 200] * 2,
            "predictor": ["b", "a"] * 4,
            "accuracy": [0.5, 0.6, 0.7, np.nan, 0.6, 0.7, 0.70004, np.nan],
        }
    )
    table = size_table(curve)
    assert table.index.tolist() == [("d", 10), ("d", 200)]
    assert table.columns.tolist() == ["b", "a"]
    assert table["b"].tolist() == [55, 70]
    assert table["a"].iloc[0] == 65
    assert np.isnan(table["a"].iloc[1])


def test_unknown_grouping_is_refused(toy):
    with pytest.raises(ValueError, match=r"by must be one of .*'benchmark', 'model'.*, got 'modell'"):
        evaluate_forecasts({"mean": ModelMean().fit(toy)}, toy, by="modell")
