"""Held-out benchmarks: the paper's protocol against loops, and taus equal to those of SciPy."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from sklearn.linear_model import LinearRegression

from embedllm import CorrectnessMatrix, MatrixFactorization, TrainingPreset
from embedllm.protocol.recorded import answers_sha256
from embedllm.studies.benchmark_prediction import (
    EXACT,
    MEAN_ACCURACY,
    PENALTIES,
    RIDGE,
    SGD,
    Heldout,
    closest_to_mathematics,
    count_significant,
    heldout_values,
    mean_accuracy,
    predict_heldout,
    recorded_heldout,
    regress_out_of_fold,
    smallest_significant_tau,
    summarize_correlations,
    weighted_taus,
)

MF = MatrixFactorization(dim=3, alpha=0.1)


def by_hand(vectors, accuracy, folds):
    """Ridge regression in closed form, each penalty tried by refitting without each model in turn."""
    predicted = np.empty(len(accuracy))
    for outside in folds:
        inside = np.setdiff1d(np.arange(len(accuracy)), outside)
        shift = vectors[inside].mean(axis=0)
        x, y = vectors[inside] - shift, accuracy[inside]

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
        predicted[outside] = accuracy.mean() + (vectors[outside] - shift) @ slope(x, y, penalty)
    return predicted


class TestRidge:
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

    @pytest.mark.parametrize("n_models", [20, 40])
    def test_uninformative_vectors_rank_nothing(self, n_models):
        # The mean of the models of the other folds would rank in reverse: a tau of -1 with a fold for each model.
        rng = np.random.default_rng(5)
        taus = []
        for seed in range(40):
            vectors, accuracy = rng.standard_normal((n_models, 50)), rng.random(n_models)
            taus.append(kendalltau(regress_out_of_fold(vectors, accuracy, seed), accuracy)[0])
        assert abs(np.mean(taus)) < 0.15


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
    """26 models on four benchmarks, one of which 19 answered; one model with answers to another one alone."""
    matrix = make_matrix(n_models=26, n_questions=160, n_benchmarks=4, missing=0.3, seed=3)
    labels = matrix.labels.copy()
    labels[:7, matrix.benchmarks == "bench-0"] = -1
    labels[7, matrix.benchmarks != "bench-2"] = -1
    return matrix.with_labels(labels)


@pytest.fixture(scope="module")
def heldout(holes):
    return predict_heldout(holes, {EXACT: MF}, seed=2)


class TestPaper:
    def test_against_loops(self, holes, heldout):
        train = holes.split(random_state=2).train
        accuracy = holes.accuracy(by=["model", "benchmark"])["accuracy"].unstack()
        for benchmark in ("bench-1", "bench-2", "bench-3"):
            fitted = MatrixFactorization(dim=3, alpha=0.1).fit(train.subset(questions=train.benchmarks != benchmark))
            vectors = pd.DataFrame(fitted.model_embeddings_, fitted.model_names_, dtype=float)
            names = sorted(set(holes.model_names) - {holes.model_names[7]})  # of it, nothing else was seen
            taus, p_values, tested = [], [], {name: [] for name in names}
            rng = np.random.RandomState(2)  # as scikit-learn draws
            for _ in range(100):
                order = rng.permutation(25)
                test, inside = order[:13], order[13:]
                x, y = vectors.loc[names].to_numpy(), accuracy.loc[names, benchmark].to_numpy()
                predicted = LinearRegression().fit(x[inside], y[inside]).predict(x[test])
                tau, p_value = kendalltau(predicted, y[test])
                taus.append(tau)
                p_values.append(p_value)
                for place, value in zip(test, predicted, strict=True):
                    tested[names[place]].append(value)
            rows = heldout.splits.query("benchmark == @benchmark and predictor == 'exact'")
            np.testing.assert_allclose(rows["tau"], taus)
            np.testing.assert_allclose(rows["p_value"], p_values)
            assert (rows[["n_models", "n_test"]] == [25, 13]).all(axis=None)
            models = (
                heldout.models.query("benchmark == @benchmark and predictor == 'exact'").set_index("model").dropna()
            )
            assert models.index.tolist() == names
            assert models["actual"].to_dict() == pytest.approx(accuracy.loc[names, benchmark].to_dict())
            expected = {name: np.mean(values) for name, values in tested.items()}
            assert models["predicted"].to_dict() == pytest.approx(expected)
            counts = count_significant(rows).iloc[0]
            assert counts["splits"] == sum(p < 0.05 for p in p_values)
            assert counts["reversed"] == sum(p < 0.05 and t < 0 for p, t in zip(p_values, taus, strict=True))
            assert counts["tau"] == pytest.approx(np.median(taus))
            assert counts["significant"] == (counts["splits"] > 50)

    def test_benchmark_with_too_few_models_is_not_tested(self, heldout):
        counts = count_significant(heldout.splits).set_index(["predictor", "benchmark"])
        assert len(counts) == 8
        for predictor in (EXACT, MEAN_ACCURACY):
            row = counts.loc[(predictor, "bench-0")]
            assert row[["n_models", "n_test"]].tolist() == [18, 0]
            assert row[["splits", "reversed", "tau", "least", "significant"]].isna().all()
        of_it = heldout.models[heldout.models["benchmark"] == "bench-0"]
        assert of_it["predicted"].isna().all()
        assert (of_it.groupby("predictor")["actual"].count() == 18).all()

    def test_mean_accuracy_is_of_the_training_questions_of_the_others(self, holes, heldout):
        train = holes.split(random_state=2).train
        others = train.subset(questions=train.benchmarks != "bench-1")
        table = others.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
        expected = mean_accuracy(table).drop(holes.model_names[7])
        rows = heldout.models.query("benchmark == 'bench-1' and predictor == 'mean accuracy'").set_index("model")
        assert rows["predicted"].dropna().to_dict() == pytest.approx(expected.to_dict())

    def test_order_of_models_has_no_effect(self, holes, heldout):
        turned = predict_heldout(holes.subset(models=holes.model_names[::-1]), {EXACT: MF}, seed=2)
        pd.testing.assert_frame_equal(turned.splits, heldout.splits, check_exact=False, atol=1e-4)
        pd.testing.assert_frame_equal(turned.models, heldout.models, check_exact=False, atol=1e-4)

    @pytest.mark.parametrize("size", [{"n_models": 6}, {"n_models": 24, "n_benchmarks": 1}, {"n_models": 1}])
    def test_pool_that_cannot_be_tested(self, make_matrix, size):
        found = predict_heldout(make_matrix(**size), {EXACT: MF})
        assert found.splits[["tau", "p_value"]].isna().all(axis=None)
        assert found.models["predicted"].isna().all()
        assert summarize_correlations(found.models, 20)[["tau", "low", "high"]].isna().all(axis=None)
        values = {reported.key: reported.value for reported in heldout_values(found)}
        assert values.pop("heldout_benchmarks") == 0
        assert np.isnan(list(values.values())).all()


class TestSmallestTau:
    @pytest.mark.parametrize("n", [5, 10, 15, 23])
    def test_one_pair_less_is_not_significant(self, n):
        tau, step = smallest_significant_tau(n), 4 / (n * (n - 1))
        # Rankings of so many discordant pairs, made by exchanging neighbours.
        found = {}
        for discordant in range(n * (n - 1) // 4):
            ranking, left = list(range(n)), discordant
            for end in range(n - 1, 0, -1):
                for place in range(end):
                    if left:
                        ranking[place], ranking[place + 1] = ranking[place + 1], ranking[place]
                        left -= 1
            statistic, p_value = kendalltau(range(n), ranking)
            found[round(statistic, 9)] = p_value
        assert found[round(tau, 9)] < 0.05 <= found[round(tau - step, 9)]

    @pytest.mark.parametrize("n", [0, 1, 4])
    def test_of_a_handful_none_is(self, n):
        assert np.isnan(smallest_significant_tau(n))


def test_right_panel_is_of_the_benchmark_closest_to_mathqa():
    assert closest_to_mathematics(["MMLU", "GSM8K", "MathQA", "math-l5"]) == "MathQA"
    assert closest_to_mathematics(["gsm", "math-l5", "crux"]) == "math-l5"
    assert closest_to_mathematics(["law", "history"]) == "law"


class TestRecord:
    @pytest.fixture
    def record(self, holes, tmp_path):
        splits = {"data": "holes", "predictor": SGD, "benchmark": ["a", "b"], "n_models": 26, "n_test": [13, 13]}
        frames = {
            "splits": pd.DataFrame(splits | {"tau": [[0.5, None], [0.1, 0.2]], "p_value": [[0.01, None], [0.3, 0.4]]}),
            "models": pd.DataFrame(
                {"data": "holes", "predictor": SGD, "benchmark": "a", "model": ["m"], "predicted": 0.5, "actual": 0.4}
            ),
        }
        content = {
            "holes": {
                "data": holes.source,
                "date": "2026-01-02",
                "version": "0.1",
                "settings": {"dim": 232, "seed": 0},
                "sha256": answers_sha256(holes),
                "frames": {
                    name: json.loads(frame.to_json(orient="split", index=False)) for name, frame in frames.items()
                },
            }
        }
        path = tmp_path / "sgd.json"
        path.write_text(json.dumps(content))
        return path

    def test_of_the_same_answers(self, holes, heldout, record):
        recorded, about = recorded_heldout(holes, record)
        assert recorded.splits["tau"].tolist() == pytest.approx([0.5, np.nan, 0.1, 0.2], nan_ok=True)
        assert recorded.splits["benchmark"].tolist() == ["a", "a", "b", "b"]
        assert about.loc[0, ["recorded", "settings"]].tolist() == ["2026-01-02", "dim 232, seed 0"]
        both = recorded.joined(heldout)
        assert list(both.splits) == list(heldout.splits)
        assert list(both.models) == list(heldout.models)
        assert heldout_values(both)[3].key == "significant_sgd"
        assert heldout_values(both)[3].value == 0

    def test_of_other_answers(self, holes, heldout, record):
        labels = holes.labels.copy()
        labels[3, 0] = labels[3, 0] != 1
        recorded, about = recorded_heldout(holes.with_labels(labels), record)
        assert "other answers" in about.loc[0, "recorded"]
        assert recorded.joined(heldout).splits.equals(heldout.splits)
        value = heldout_values(recorded.joined(heldout))[3]
        assert value.shown == "not testable on this data set: the vectors of SGD are not recorded"

    def test_none(self, holes, tmp_path):
        recorded, about = recorded_heldout(holes, tmp_path / "none.json")
        assert recorded.splits.empty
        assert "tools/record_sgd.py" in about.loc[0, "recorded"]


def frame_of(benchmarks):
    """Predictions by ridge and mean accuracy of actual accuracies 0, 1, 2 ..."""
    frames = []
    for name, columns in benchmarks.items():
        for predictor, predicted in zip((RIDGE, MEAN_ACCURACY), columns, strict=True):
            models = [f"m{number:02d}" for number in range(len(predicted))]
            rows = {"predictor": predictor, "model": models, "predicted": predicted}
            frames.append(pd.DataFrame(rows).assign(benchmark=name, actual=np.arange(len(predicted))))
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
    def test_means_and_differences(self, heldout):
        summary = summarize_correlations(heldout.models, 50).set_index(["benchmark", "predictor"])
        defined = heldout.models.dropna()
        for predictor in (RIDGE, MEAN_ACCURACY):
            rows = defined[defined["predictor"] == predictor].groupby("benchmark")
            taus = rows[["predicted", "actual"]].apply(lambda both: kendalltau(both["predicted"], both["actual"])[0])
            assert summary.xs(predictor, level=1)["tau"].dropna().to_dict() == pytest.approx(
                taus.to_dict() | {"overall": taus.mean()}
            )
        for benchmark in ("overall", "bench-1"):
            tau = summary.loc[benchmark]["tau"]
            assert tau["ridge minus mean accuracy"] == pytest.approx(tau[RIDGE] - tau[MEAN_ACCURACY])
        assert summary.index[0] == ("overall", RIDGE)
        assert summary.loc[("bench-0", RIDGE), "n_models"] == 0

    def test_difference_is_paired(self):
        # Two predictors that say the same differ by nothing, however few the models.
        same = np.random.default_rng(0).random(9)
        summary = summarize_correlations(frame_of({"x": (same, same)}), 100).set_index(["benchmark", "predictor"])
        row = summary.loc[("x", "ridge minus mean accuracy")]
        assert row["tau"] == 0
        assert row[["low", "high"]].isna().all()  # where all resamples agree there is no interval
        assert summary.loc[("x", RIDGE), "high"] > summary.loc[("x", RIDGE), "low"] + 0.2

    def test_interval_covers(self):
        # Draws of models from a population whose tau is 2 / pi * arcsin(r), as of any normal pair.
        rng, r, covered = np.random.default_rng(1), 0.6, 0
        for _ in range(100):
            actual = rng.standard_normal(40)
            predicted = r * actual + np.sqrt(1 - r**2) * rng.standard_normal(40)
            table = frame_of({"x": (predicted, predicted)}).assign(actual=np.tile(actual, 2))
            row = summarize_correlations(table, 200).set_index(["benchmark", "predictor"]).loc[("x", RIDGE)]
            covered += row["low"] < 2 / np.pi * np.arcsin(r) < row["high"]
        assert 86 <= covered <= 100

    def test_four_models_give_no_interval(self):
        swapped = np.array([1.0, 0, 2, 3])
        row = summarize_correlations(frame_of({"x": (swapped, swapped)}), 50).iloc[0]
        assert row["tau"] == pytest.approx(2 / 3)
        assert row[["low", "high"]].isna().all()


def test_values_by_hand():
    rows = []
    for name, predictor, n_significant in (
        *(("GPQA", EXACT, 50), ("MMLU", EXACT, 51), ("GPQA", SGD, 100), ("MMLU", SGD, 100)),
        *(("GPQA", MEAN_ACCURACY, 0), ("MMLU", MEAN_ACCURACY, 50)),
    ):
        p_values = np.where(np.arange(100) < n_significant, 0.01, 0.9)
        tau = np.where(np.arange(100) < n_significant, 0.8, 0.2)
        rows.append(pd.DataFrame({"predictor": predictor, "benchmark": name, "tau": tau, "p_value": p_values}))
    splits = pd.concat(rows, ignore_index=True).assign(data="by hand", n_models=112, n_test=23)
    up, down = np.arange(8.0), -np.arange(8.0)
    heldout = Heldout(splits, frame_of({"GPQA": (up, down), "MMLU": (up, up)}))
    values = {reported.key: reported for reported in heldout_values(heldout)}
    assert values["heldout_benchmarks"].runs == [2]
    assert values["test_models"].value == 23
    assert values["least_tau"].value == pytest.approx(0.2964, abs=1e-4)
    assert [values[f"significant_{key}"].value for key in ("sgd", "exact", "mean_accuracy")] == [2, 1, 0]
    assert values["median_tau_exact"].value == pytest.approx((0.5 + 0.8) / 2)
    assert values["tau_gain"].value == pytest.approx(1)


def test_simulated_pool(small_pool):
    """Accuracies of the models are correlated over these benchmarks, so that some predict the others."""
    matrix, _ = small_pool
    matrix = matrix.subset(questions=np.isin(matrix.benchmarks, ["MMLU", "MathQA", "MedMCQA", "PIQA"]))
    heldout = predict_heldout(matrix, {EXACT: MatrixFactorization(alpha=0.05)})
    significant = count_significant(heldout.splits).set_index(["predictor", "benchmark"])["significant"]
    assert significant[EXACT, "MMLU"] == significant[EXACT, "MathQA"] == 1
    overall = summarize_correlations(heldout.models).set_index(["benchmark", "predictor"]).loc["overall"]
    assert overall.loc[RIDGE, "low"] > 0.2


def test_vectors_of_sgd(make_matrix):
    preset = TrainingPreset(pairs_per_step=64, epochs=2, learning_rate=0.01, weight_decay=0)
    mf = MatrixFactorization(dim=30, solver="sgd", preset=preset)
    matrix = make_matrix(n_models=22, n_questions=120, n_benchmarks=2)
    first, second = (predict_heldout(matrix, {SGD: mf}, seed=1) for _ in range(2))
    pd.testing.assert_frame_equal(first.splits, second.splits)
    assert set(first.models["predictor"]) == {SGD, MEAN_ACCURACY}
    assert first.splits["tau"].notna().all()


def test_real_answers(zeroeval):
    counts = count_significant(predict_heldout(zeroeval, {EXACT: MatrixFactorization(alpha=0.05)}).splits)
    of_exact = counts[counts["predictor"] == EXACT].set_index("benchmark")
    # Of 44 models four answered nothing but gsm; numersense cannot be tested.
    assert of_exact["n_models"].to_dict() == {"gsm": 40, "math-l5": 42, "crux": 51, "numersense-v2": 9}
    assert of_exact["n_test"].to_dict() == {"gsm": 20, "math-l5": 21, "crux": 26, "numersense-v2": 0}
    assert (of_exact["splits"].dropna() > 90).all()
