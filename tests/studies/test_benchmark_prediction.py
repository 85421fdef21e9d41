"""Held-out benchmarks: no model is in its own regression, and taus equal those of SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from embedllm import CorrectnessMatrix, MatrixFactorization
from embedllm.protocol.leave_out import fits_without
from embedllm.studies.benchmark_prediction import (
    LEAST_MODELS,
    PENALTIES,
    PREDICTORS,
    heldout_values,
    mean_accuracy,
    predict_heldout,
    rank_correlations,
    regress_out_of_fold,
    summarize_correlations,
    weighted_taus,
)

MF = MatrixFactorization(dim=3, alpha=0.1)


def by_hand(vectors, accuracy, folds):
    """Ridge regression in closed form, each penalty tried by refitting without each model in turn."""
    predicted = np.empty(len(accuracy))
    for outside in folds:
        inside = np.setdiff1d(np.arange(len(accuracy)), outside)
        shift, scale = vectors[inside].mean(axis=0), vectors[inside].std(axis=0)
        x, y = (vectors[inside] - shift) / scale, accuracy[inside]

        def slope(x, y, penalty):
            x = x - x.mean(axis=0)
            return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean()))

        def error(penalty, x=x, y=y):
            errors = []
            for one in range(len(y)):
                others = np.arange(len(y)) != one
                forecast = y[others].mean() + (x[one] - x[others].mean(axis=0)) @ slope(x[others], y[others], penalty)
                errors.append((forecast - y[one]) ** 2)
            return np.mean(errors)

        penalty = min(PENALTIES, key=error)
        predicted[outside] = accuracy.mean() + (vectors[outside] - shift) / scale @ slope(x, y, penalty)
    return predicted


class TestRegression:
    def test_against_refitting(self):
        # With ten models at most, each is a fold of its own, whatever the seed.
        rng = np.random.default_rng(3)
        vectors = rng.standard_normal((9, 5)) * [1, 10, 0.1, 1, 1]
        accuracy = 0.5 + vectors[:, 1] / 60 + 0.05 * rng.standard_normal(9)
        expected = by_hand(vectors, accuracy, [[one] for one in range(9)])
        np.testing.assert_allclose(regress_out_of_fold(vectors, accuracy), expected, atol=1e-6)

    def test_slope_of_a_model_is_from_others(self):
        rng = np.random.default_rng(0)
        vectors, accuracy = rng.standard_normal((30, 40)), rng.random(30)
        before = regress_out_of_fold(vectors, accuracy, seed=1)
        changed = accuracy.copy()
        changed[7] += 1
        after = regress_out_of_fold(vectors, changed, seed=1)
        # Its own accuracy moves the mean of all, and nothing else of its prediction.
        assert after[7] - before[7] == pytest.approx(1 / 30)
        assert (np.abs(after - before - 1 / 30) > 1e-6).sum() > 20

    def test_scale_and_sign_of_a_coordinate_do_not_matter(self):
        # So embeddings and embeddings times the classifier, whose sign and scale are not determined, predict the same.
        rng = np.random.default_rng(1)
        vectors, accuracy = rng.standard_normal((25, 6)), rng.random(25)
        scaled = vectors * [-1, 3, 0.01, 7, -20, 1]
        np.testing.assert_allclose(
            regress_out_of_fold(scaled, accuracy), regress_out_of_fold(vectors, accuracy), atol=1e-9
        )

    def test_finds_a_linear_relation_in_more_dimensions_than_models(self):
        rng = np.random.default_rng(2)
        latent = rng.standard_normal((60, 2))
        vectors = latent @ rng.standard_normal((2, 200)) + 0.3 * rng.standard_normal((60, 200))
        assert kendalltau(regress_out_of_fold(vectors, latent[:, 0]), latent[:, 0])[0] > 0.8

    @pytest.mark.parametrize("n_models", [8, 40])
    def test_uninformative_vectors_rank_nothing(self, n_models):
        # The mean of the models of the other folds would rank in reverse: a tau of -1 with a fold for each model.
        rng = np.random.default_rng(5)
        taus = []
        for seed in range(40):
            vectors, accuracy = rng.standard_normal((n_models, 50)), rng.random(n_models)
            taus.append(kendalltau(regress_out_of_fold(vectors, accuracy, seed), accuracy)[0])
        assert abs(np.mean(taus)) < 0.15

    def test_all_alike(self):
        vectors = np.random.default_rng(0).standard_normal((6, 4))
        np.testing.assert_allclose(regress_out_of_fold(vectors, np.full(6, 0.25)), 0.25)
        np.testing.assert_allclose(regress_out_of_fold(np.ones((6, 4)), np.arange(6)), 2.5)


class TestMeanAccuracy:
    def test_with_nothing_missing_the_plain_mean(self):
        table = pd.DataFrame(np.random.default_rng(0).random((5, 3)), list("abcde"))
        pd.testing.assert_series_equal(mean_accuracy(table), table.mean(axis=1))

    def test_skipping_the_hard_benchmark_does_not_help(self):
        table = pd.DataFrame({"easy": [0.9, 0.8], "hard": [0.2, np.nan]}, index=["does both", "skips"])
        result = mean_accuracy(table)
        # Distances to the means 0.85 and 0.2: 0.05 and 0, and -0.05; mean of the means 0.525.
        assert result.tolist() == pytest.approx([0.55, 0.475])
        assert table.mean(axis=1)["skips"] > table.mean(axis=1)["does both"]


@pytest.fixture(scope="module")
def holes(make_matrix) -> CorrectnessMatrix:
    """12 models on three benchmarks: one without an answer to bench-0, one with answers to bench-2 alone."""
    matrix = make_matrix(n_models=12, n_questions=90, n_benchmarks=3, missing=0.3, seed=3)
    labels = matrix.labels.copy()
    labels[4, matrix.benchmarks == "bench-0"] = -1
    labels[7, matrix.benchmarks != "bench-2"] = -1
    return matrix.with_labels(labels)


@pytest.fixture(scope="module")
def predictions(holes):
    return predict_heldout(holes, MF, seed=2, n_seeds=2)


class TestPredictions:
    def test_rows(self, holes, predictions):
        assert list(predictions) == ["data", "seed", "benchmark", "predictor", "model", "predicted", "actual"]
        assert len(predictions) == 2 * 3 * 3 * 12
        assert not predictions.duplicated(["seed", "benchmark", "predictor", "model"]).any()
        assert set(predictions["predictor"]) == set(PREDICTORS)
        assert (predictions["data"] == holes.source).all()

    def test_actual_is_over_all_questions_of_the_benchmark(self, holes, predictions):
        accuracy = holes.accuracy(by=["model", "benchmark"])["accuracy"]
        for row in predictions.dropna().itertuples():
            assert row.actual == accuracy[row.model, row.benchmark]

    def test_models_that_are_left_out(self, holes, predictions):
        without, alone = holes.model_names[[4, 7]]
        missing = predictions[predictions["predicted"].isna()]
        assert missing["actual"].isna().all()
        # `alone` has an answer to bench-2, but none elsewhere to be predicted from.
        expected = {(without, "bench-0"), (alone, "bench-0"), (alone, "bench-1"), (alone, "bench-2")}
        assert set(zip(missing["model"], missing["benchmark"], strict=True)) == expected
        assert len(missing) == len(expected) * 2 * 3

    def test_mean_accuracy_is_of_the_training_questions_of_the_others(self, holes, predictions):
        train = holes.split(random_state=3).train
        others = train.subset(questions=train.benchmarks != "bench-1")
        table = others.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
        expected = mean_accuracy(table.drop(index=holes.model_names[7]))
        rows = predictions.query("seed == 3 and benchmark == 'bench-1' and predictor == 'mean accuracy'")
        found = rows.set_index("model")["predicted"].dropna()
        assert found.to_dict() == pytest.approx(expected.to_dict())

    def test_order_of_models_has_no_effect(self, holes, predictions):
        split = holes.split(random_state=2)
        part = pd.concat([each.questions.assign(split=name) for name, each in split._asdict().items()])["split"]
        questions = holes.questions.assign(split=part)
        frame = pd.DataFrame(holes.labels, holes.model_names, holes.question_ids)
        matrix = CorrectnessMatrix(frame, questions, holes.embeddings)
        turned = CorrectnessMatrix(frame.iloc[::-1], questions, holes.embeddings)
        keys = ["seed", "benchmark", "predictor", "model"]
        one, two = (predict_heldout(each, MF, seed=2, n_seeds=1).set_index(keys) for each in (matrix, turned))
        pd.testing.assert_frame_equal(one, two.loc[one.index], check_exact=False, atol=1e-6)
        # And the source's own split is the one that is used.
        of_seed = predictions[predictions["seed"] == 2].set_index(keys)
        pd.testing.assert_frame_equal(one, of_seed.loc[one.index])

    def test_directions_are_the_embeddings_in_other_coordinates(self, toy):
        (fit, *_) = fits_without(toy, MF, n_seeds=1)
        embeddings, projection = fit.mf.model_embeddings_, fit.mf.parameters_.projection.numpy()
        directions = fit.mf.coef_ - fit.mf.coef_.mean(axis=0)
        np.testing.assert_allclose(directions, embeddings @ projection, atol=1e-5)

    def test_too_few_models(self, make_matrix):
        few = make_matrix(n_models=LEAST_MODELS - 1)
        table = predict_heldout(few, MF, n_seeds=1)
        assert table["predicted"].isna().all()
        correlations = rank_correlations(table)
        assert len(correlations) == 6
        assert correlations[["tau", "p_value"]].isna().all(axis=None)
        assert not correlations["significant"].any()
        assert summarize_correlations(table, 20)[["tau", "low", "high"]].isna().all(axis=None)
        values = {reported.key: reported.value for reported in heldout_values(table)}
        assert values.pop("heldout_benchmarks") == 0
        assert np.isnan(list(values.values())).all()

    def test_one_benchmark(self, make_matrix):
        table = predict_heldout(make_matrix(n_benchmarks=1), MF, n_seeds=1)
        assert len(table) == 18
        assert table["predicted"].isna().all()
        assert np.isnan(heldout_values(table)[1].value)


class TestRankCorrelations:
    def test_against_scipy(self, predictions):
        for row in rank_correlations(predictions).itertuples():
            rows = predictions[
                (predictions["seed"] == row.seed)
                & (predictions["benchmark"] == row.benchmark)
                & (predictions["predictor"] == row.predictor)
            ].dropna()
            expected = kendalltau(rows["predicted"].to_numpy(), rows["actual"].to_numpy())
            assert (row.tau, row.p_value) == pytest.approx(expected)
            assert row.n_models == len(rows) == {"bench-0": 10, "bench-1": 11, "bench-2": 11}[row.benchmark]
            assert row.significant == (expected.pvalue < 0.05 and expected.statistic > 0)

    def test_reverse_order_is_not_significant(self):
        table = frame_of({"x": (np.arange(12), -np.arange(12), np.arange(12))})
        correlations = rank_correlations(table).set_index("predictor")
        assert correlations["tau"].tolist() == pytest.approx([1, -1, 1])
        assert (correlations["p_value"] < 0.001).all()
        assert correlations["significant"].tolist() == [True, False, True]

    def test_predictions_that_are_all_alike(self):
        correlations = rank_correlations(frame_of({"x": (np.ones(6), np.arange(6), np.arange(6))}))
        assert np.isnan(correlations["tau"][0])
        assert not correlations["significant"][0]


def frame_of(benchmarks, seeds=(0,)):
    """Predictions by each of the three predictors, of actual accuracies 0, 1, 2 ..."""
    frames = []
    for seed in seeds:
        for name, columns in benchmarks.items():
            for predictor, predicted in zip(PREDICTORS, columns, strict=True):
                models = [f"m{number:02d}" for number in range(len(predicted))]
                rows = {"predictor": predictor, "model": models, "predicted": predicted}
                frames.append(pd.DataFrame(rows).assign(benchmark=name, seed=seed, actual=np.arange(len(predicted))))
    return pd.concat(frames, ignore_index=True).assign(data="by hand")


class TestWeightedTaus:
    def test_equal_to_scipy_on_samples_written_out(self):
        rng = np.random.default_rng(0)
        predicted, actual = rng.integers(0, 6, 15).astype(float), rng.integers(0, 6, 15).astype(float)
        times = rng.multinomial(15, np.full(15, 1 / 15), size=30)
        expected = [kendalltau(np.repeat(predicted, row), np.repeat(actual, row))[0] for row in times]
        np.testing.assert_allclose(weighted_taus(predicted, actual, times), expected)

    def test_sample_of_one_model_is_undefined(self):
        assert np.isnan(weighted_taus(np.arange(3.0), np.arange(3.0), np.array([[3, 0, 0]]))).all()


class TestSummary:
    def test_means_and_differences(self, predictions):
        summary = summarize_correlations(predictions, 50).set_index(["benchmark", "predictor"])
        taus = rank_correlations(predictions).groupby(["benchmark", "predictor"])["tau"].mean()
        for key, tau in taus.items():
            assert summary.loc[key, "tau"] == pytest.approx(tau)
        for predictor in PREDICTORS:
            mean = taus.xs(predictor, level="predictor").mean()
            assert summary.loc[("overall", predictor), "tau"] == pytest.approx(mean)
        for benchmark in ("overall", "bench-0"):
            for predictor in PREDICTORS[:2]:
                row = summary.loc[(benchmark, f"{predictor} minus mean accuracy"), "tau"]
                rows = summary.loc[benchmark]["tau"]
                assert row == pytest.approx(rows[predictor] - rows["mean accuracy"])
        assert (summary["low"] <= summary["high"]).all()
        assert summary.index[0] == ("overall", "embeddings")

    def test_difference_is_paired(self):
        # Two predictors that say the same differ by nothing, however few the models.
        same = np.random.default_rng(0).random(9)
        summary = summarize_correlations(frame_of({"x": (same, same, same)}), 100).set_index(["benchmark", "predictor"])
        row = summary.loc[("x", "embeddings minus mean accuracy")]
        assert row["tau"] == 0
        assert row[["low", "high"]].isna().all()  # where all resamples agree there is no interval
        assert summary.loc[("x", "embeddings"), "high"] > summary.loc[("x", "embeddings"), "low"] + 0.2

    def test_interval_covers(self):
        # Draws of models from a population whose tau is 2 / pi * arcsin(r), as of any normal pair.
        rng, r, covered = np.random.default_rng(1), 0.6, 0
        for _ in range(100):
            actual = rng.standard_normal(40)
            predicted = r * actual + np.sqrt(1 - r**2) * rng.standard_normal(40)
            table = frame_of({"x": (predicted, predicted, predicted)}).assign(actual=np.tile(actual, 3))
            row = summarize_correlations(table, 200).set_index(["benchmark", "predictor"]).loc[("x", "embeddings")]
            covered += row["low"] < 2 / np.pi * np.arcsin(r) < row["high"]
        assert 86 <= covered <= 100

    def test_same_seed_same_interval(self, predictions):
        pd.testing.assert_frame_equal(summarize_correlations(predictions, 30), summarize_correlations(predictions, 30))


class TestValues:
    def test_by_hand(self):
        up, down, swapped = np.arange(8.0), -np.arange(8.0), np.array([1.0, 0, 2, 3, 4, 5, 6, 7])
        table = frame_of({"GPQA": (up, up, down), "MMLU": (swapped, up, up), "ASDiv": (down, up, up)}, seeds=(0, 1))
        reported_values = {reported.key: reported for reported in heldout_values(table)}
        assert reported_values["heldout_benchmarks"].runs == [3, 3]
        assert reported_values["significant_embeddings"].runs == [2, 2]
        assert reported_values["significant_weights"].runs == [3, 3]
        assert reported_values["significant_mean_accuracy"].runs == [2, 2]
        assert reported_values["significant_exceptions"].runs == [1, 1]  # GPQA, not ASDiv
        one_swap = 1 - 2 / 28
        mean = (1 + one_swap - 1) / 3
        assert reported_values["tau_embeddings"].runs == pytest.approx([mean, mean])
        assert reported_values["tau_mean_accuracy"].value == pytest.approx(1 / 3)
        assert reported_values["embeddings_minus_mean"].value == pytest.approx(mean - 1 / 3)
        assert reported_values["weights_minus_mean"].value == pytest.approx(2 / 3)
        for key in ("tau_embeddings", "tau_weights", "tau_mean_accuracy", "weights_minus_mean"):
            low, high = reported_values[key].interval
            assert np.isnan(low) or low - 1e-9 <= reported_values[key].value <= high + 1e-9

    def test_four_models_give_no_interval(self):
        swapped = np.array([1.0, 0, 2, 3])
        row = summarize_correlations(frame_of({"x": (swapped, swapped, swapped)}), 50).iloc[0]
        assert row["tau"] == pytest.approx(2 / 3)
        assert row[["low", "high"]].isna().all()

    def test_exceptions_are_undefined_where_there_are_none(self):
        up = np.arange(8.0)
        reported_values = {reported.key: reported for reported in heldout_values(frame_of({"x": (up, up, up)}))}
        assert np.isnan(reported_values["significant_exceptions"].value)
        assert reported_values["significant_embeddings"].value == 1

    def test_benchmark_that_is_undefined_is_not_counted(self):
        up, nothing = np.arange(8.0), np.full(8, np.nan)
        reported_values = {
            reported.key: reported
            for reported in heldout_values(frame_of({"x": (up, up, up), "GPQA": (nothing, nothing, nothing)}))
        }
        assert reported_values["heldout_benchmarks"].value == 1
        assert reported_values["tau_embeddings"].value == pytest.approx(1)
        assert np.isnan(reported_values["significant_exceptions"].value)


def test_simulated_pool(small_pool):
    """Accuracies of the models are correlated over these benchmarks, so that some predict the others."""
    matrix, _ = small_pool
    matrix = matrix.subset(questions=np.isin(matrix.benchmarks, ["MMLU", "MathQA", "MedMCQA", "PIQA"]))
    predictions = predict_heldout(matrix, MatrixFactorization(dim=64), n_seeds=1)
    assert rank_correlations(predictions)["significant"].all()
    summary = summarize_correlations(predictions)
    overall = summary[summary["benchmark"] == "overall"].set_index("predictor")
    # Clearly above chance.
    assert overall.loc["model directions", "low"] > 0.3
    assert overall.loc["embeddings", "low"] > 0.3


def test_real_answers(zeroeval):
    table = predict_heldout(zeroeval, MatrixFactorization(dim=16), n_seeds=1)
    correlations = rank_correlations(table).set_index(["benchmark", "predictor"])
    assert correlations["n_models"].groupby("benchmark").first().to_dict() == {
        "gsm": 40,  # of 44: four models answered nothing else
        "math-l5": 42,
        "crux": 51,
        "numersense-v2": 9,
    }
    assert correlations["tau"].notna().all()
    for benchmark in ("gsm", "math-l5", "crux"):
        assert correlations.loc[(benchmark, "model directions"), "significant"]
        assert correlations.loc[(benchmark, "mean accuracy"), "significant"]
