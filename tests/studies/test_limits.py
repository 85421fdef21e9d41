"""The comparison of structures, and the recovery of the ground truth."""

import numpy as np
import pandas as pd
import pytest

from embedllm import BenchmarkMean, KNNCorrectness, MatrixFactorization, fit_runs
from embedllm.datasets.simulate import simulate_pool
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.ceiling import Ceiling, ceiling_of
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.routers import BestModelPerBenchmark, PredictedBest
from embedllm.studies.forecasting import tally_runs
from embedllm.studies.limits import DIMS, limit_values, recovery, structure_table
from embedllm.studies.routing import route_runs, tally_routes


@pytest.fixture(scope="module")
def tallies():
    """Forecasts and routes on small pools of two structures."""
    forecasts, routes = {}, {}
    for structure in ("linear", "none"):
        matrix, _ = simulate_pool(0.03, structure=structure)
        predictors = {"benchmark mean": BenchmarkMean(), "KNN": KNNCorrectness(15), "MF": MatrixFactorization(dim=8)}
        runs = list(fit_runs(matrix, predictors | ceiling_of("simulated", 0.03, 0, structure), 0, 1))
        routers = {"best model per benchmark": BestModelPerBenchmark()}
        routers |= {name: PredictedBest(name) for name in ("KNN", "MF", "ceiling")}
        forecasts[structure], routes[structure] = tally_runs(runs), tally_routes(route_runs(runs, routers))
    return forecasts, routes


class TestTable:
    def test_is_of_the_overall_accuracies(self, tallies):
        forecasts, _ = tallies
        table = structure_table(forecasts, "benchmark mean").set_index(["structure", "method"])
        assert table.index.unique("structure").tolist() == ["linear", "none"]
        for structure, tally in forecasts.items():
            accuracy = 100 * tally.by_seed()["accuracy"].iloc[0]
            samples = 100 * tally.resampled()
            for method in ("KNN", "MF", "ceiling"):
                row = table.loc[structure, method]
                assert row["accuracy"] == pytest.approx(accuracy[method])
                assert row["points"] == pytest.approx(accuracy[method] - accuracy["benchmark mean"])
                assert (row["low"], row["high"]) == interval(samples[method])
                paired = interval(samples[method] - samples["benchmark mean"])
                assert (row["points_low"], row["points_high"]) == paired
        assert table.xs("benchmark mean", level="method").filter(like="points").isna().all(axis=None)
        assert table["data"].unique().tolist() == ["simulated pool", "simulated pool (none)"]


class TrueLogits(CorrectnessPredictor):
    """The ground truth with what the recovery must not depend on: ability, and the accuracies on each benchmark."""

    def __init__(self, noise=0.0):
        self.noise = noise

    def fit(self, matrix):
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        raise NotImplementedError

    def predict_matrix(self, matrix):
        p = Ceiling(0.02).fit(matrix).predict_matrix(matrix).astype(float)
        rng = np.random.default_rng(0)
        levels = pd.DataFrame(rng.standard_normal((matrix.n_models, 10)), columns=matrix.benchmark_names)
        logits = np.log(p / (1 - p)) + levels[matrix.benchmarks].to_numpy()
        logits += self.noise * rng.standard_normal(p.shape)
        return 1 / (1 + np.exp(-logits))


class TestRecovery:
    def test_the_truth_is_recovered_whatever_the_level_of_a_benchmark(self):
        train, val, _ = simulate_pool(0.02)[0].split()
        ceiling = Ceiling(0.02).fit(train)
        exact, noisy = (recovery(TrueLogits(noise), [train], val, ceiling).iloc[0] for noise in (0, 10))
        assert exact[[f"angle_{d}" for d in DIMS]].max() < 0.1
        assert exact["correlation"] == pytest.approx(1, abs=1e-4)
        assert (exact["data"], exact["size"]) == ("simulated pool", train.n_questions)
        assert noisy[[f"angle_{d}" for d in DIMS]].min() > 20
        assert noisy["correlation"] < 0.9

    def test_more_questions_recover_more(self):
        train, val, _ = simulate_pool(0.1)[0].split()
        fewer = train.subset(questions=train.question_ids[::10])
        table = recovery(MatrixFactorization(dim=112), [fewer, train], val, Ceiling(0.1).fit(train))
        assert table["size"].tolist() == [fewer.n_questions, train.n_questions]
        assert table["correlation"].is_monotonic_increasing
        assert table["angle_4"].is_monotonic_decreasing


def test_values(tallies):
    recovered = pd.DataFrame([{"data": "x", "size": 9, "correlation": 0.5} | {f"angle_{d}": 10.0 * d for d in DIMS}])
    values = {each.key: each for each in limit_values(*tallies, recovered)}
    assert values["limits_correlation"].value == 0.5
    assert values["limits_angle_4"].value == 40
    accuracy = tallies[0]["linear"].by_seed()["accuracy"].iloc[0] * 100
    assert values["limits_forecast_linear_mf"].value == pytest.approx(accuracy["MF"])
    assert values["limits_forecast_linear_mf_minus_knn"].value == pytest.approx(accuracy["MF"] - accuracy["KNN"])
    assert values["limits_route_none_ceiling"].interval[0] < values["limits_route_none_ceiling"].value
