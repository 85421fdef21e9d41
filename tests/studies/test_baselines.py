"""The table of strong baselines against other ways of computing its columns."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from embedllm import BenchmarkMean, KNNCorrectness, MatrixFactorization, ModelMean, StackedCorrectness
from embedllm.datasets.simulate import simulate_pool
from embedllm.predictors.scores import mean_scores
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.routers import BestModelPerBenchmark, BestSingleModel, PredictedBest
from embedllm.studies.baselines import (
    AsTyped,
    Comparison,
    ShuffledLabels,
    baseline_table,
    baseline_values,
    findings,
    small_pools,
    stack_weights,
    timed_runs,
)
from embedllm.studies.forecasting import tally_runs
from embedllm.studies.routing import evaluate_routers, route_runs, tally_routes


@pytest.fixture(scope="module")
def pool():
    return simulate_pool(0.03)[0]


@pytest.fixture(scope="module")
def comparison(pool):
    parts = {"benchmark mean": BenchmarkMean(), "KNN": KNNCorrectness(31)}
    predictors = {"MF": MatrixFactorization(dim=8, alpha=0.1), **parts, "stack": StackedCorrectness(parts)}
    routers = {name: PredictedBest(name) for name in predictors}
    routers |= {"best single model": BestSingleModel(), "best model per benchmark": BestModelPerBenchmark()}
    runs, seconds = timed_runs(pool, predictors, seed=1, n_seeds=1)
    return Comparison(runs, tally_runs(runs), tally_routes(route_runs(runs, routers)), seconds)


def test_table_against_other_ways_of_computing_it(comparison):
    (run,) = comparison.runs
    test, table = run.split.test, baseline_table(comparison, "benchmark mean", "best single model").set_index("method")
    for name, predictor in run.predictors.items():
        row, probability = table.loc[name], predictor.predict_matrix(test)
        assert row["log_loss"] == pytest.approx(mean_scores(probability, test)["log_loss"])
        assert row["accuracy"] == pytest.approx(100 * predictor.score(test))
        areas = [
            roc_auc_score(labels, given)
            for labels, given in zip(test.labels, probability, strict=True)
            if 0 < labels.mean() < 1
        ]
        assert row["auc"] == pytest.approx(np.mean(areas))
        fitted = PredictedBest(name).fit(run.split.train, run.predictors)
        routed = evaluate_routers({name: fitted}, test).set_index("benchmark").loc["overall", "accuracy"]
        assert row["routing"] == pytest.approx(100 * routed)
        assert row[["fit", "predict"]].gt(0).all()
    losses = comparison.forecasts.resampled(metric="log_loss")
    expected = interval(losses["MF"] - losses["benchmark mean"])
    assert tuple(table.loc["MF", ["loss_low", "loss_high"]]) == expected
    assert table.loc["MF", "loss_minus"] == table.loc["MF", "log_loss"] - table.loc["benchmark mean", "log_loss"]
    assert table.loc["best single model", "gain"] == 0
    assert table.loc["best single model"].isna().sum() >= 7


def test_shuffled_labels_tell_nothing_but_the_accuracy_of_a_model(pool):
    train, _, test = pool.split()
    control = ShuffledLabels(MatrixFactorization(dim=8, alpha=0.3)).fit(train)
    losses = [mean_scores(each.predict_matrix(test), test)["log_loss"] for each in (control, ModelMean().fit(train))]
    assert losses[0] == pytest.approx(losses[1], abs=0.01)
    with_missing = pool.with_labels(np.where(np.arange(pool.n_questions) % 3, pool.labels, -1))
    shuffled = ShuffledLabels(ModelMean()).fit(with_missing).predictor_
    np.testing.assert_allclose(shuffled.probability_, ModelMean().fit(with_missing).probability_)


def test_small_pools(pool):
    small = small_pools(pool, [(6, 100), (500, 10_000), (500, 20_000)], n_draws=2)
    assert len(small) == 4  # the last two shapes are one
    assert small[["models", "questions"]].drop_duplicates().to_numpy().tolist() == [
        [6, 100],
        [112, pool.n_questions // 2],
    ]
    parts = ["benchmark mean", "KNN", "MF, pool prior"]
    np.testing.assert_allclose(small["stack minus best part"], small["stack"] - small[parts].min(axis=1))
    assert small["stack minus best part"].max() < 0.01


def test_values_quote_the_table(comparison, pool):
    small = small_pools(pool, [(6, 100)], n_draws=1)
    values = {value.key: value for value in baseline_values(comparison, "stack", small)}
    table = baseline_table(comparison, "benchmark mean", "best single model").set_index("method")
    assert values["stack_log_loss"].value == pytest.approx(table.loc["stack", "log_loss"])
    best = table.loc[["benchmark mean", "KNN"], "log_loss"].min()
    assert values["stack_minus_part"].value == pytest.approx(table.loc["stack", "log_loss"] - best)
    rivals = table.loc[["best single model", "best model per benchmark", "KNN", "MF"], "routing"]
    assert values["stack_routing_gain"].value == pytest.approx(table.loc["stack", "routing"] - rivals.max())
    assert values["weight_1"].value == stack_weights(comparison, "stack")["KNN"].iloc[0]


def test_findings_say_what_the_intervals_say(comparison):
    table = baseline_table(comparison, "benchmark mean", "best single model").set_index("method")
    loss, single, best = findings(comparison, "MF")
    row = table.loc["MF"]
    word = {-1: "lower than", 0: "not told apart from", 1: "higher than"}
    side = int(row["loss_low"] > 0) - int(row["loss_high"] < 0)
    assert loss.startswith(f"log loss of the MF {word[side]} that of the benchmark mean: {row['loss_minus']:+.4f} nats")
    assert loss.endswith(f"interval {row['loss_low']:+.4f} to {row['loss_high']:+.4f}")
    side = int(row["gain_low"] > 0) - int(row["gain_high"] < 0)
    assert single.startswith(
        f"routing accuracy of the MF {word[side]} that of the best single model: {row['gain']:+.2f}"
    )
    assert f"{row['routing'] - table.loc['best model per benchmark', 'routing']:+.2f} points" in best
    assert "not told apart" in findings(comparison, "benchmark mean")[0]  # from itself: all differences are equal


def test_a_typed_question_has_no_benchmark(pool):
    train, _, test = pool.split()
    typed, told = AsTyped(BenchmarkMean()).fit(train), BenchmarkMean().fit(train)
    np.testing.assert_array_equal(typed.predict_matrix(test), told.predict_proba(test.embeddings).T)
    assert not np.allclose(typed.predict_matrix(test), told.predict_matrix(test))
