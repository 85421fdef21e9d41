"""Small data for the figures, and the call that draws each of them."""

import matplotlib

matplotlib.use("Agg")  # before pyplot looks for a screen

from itertools import product

import numpy as np
import pandas as pd
import pytest
from beyond import beyond_figures
from hostile import text, with_hostile_names

from embedllm import (
    BenchmarkMean,
    KNNCorrectness,
    MatrixFactorization,
    evaluate_forecasts,
    evaluate_routers,
    fit_runs,
    route_shares,
)
from embedllm.datasets.published_counts import load_published_counts
from embedllm.plots.baselines import plot_baselines
from embedllm.plots.benchmark_prediction import plot_heldout, plot_rank_correlations
from embedllm.plots.communities import plot_communities, plot_model_map, plot_raw_distances
from embedllm.plots.contributions import plot_contribution_sums, plot_contributions
from embedllm.plots.cost import plot_routing_times, plot_training_flops
from embedllm.plots.dataset import plot_accuracy, plot_agreement, plot_composition, plot_distributions
from embedllm.plots.forecasting import plot_forecasts, plot_history, plot_reliability, plot_training_sizes
from embedllm.plots.label_rules import plot_protocols
from embedllm.plots.limits import plot_recovery, plot_structures
from embedllm.plots.published_numbers import (
    plot_published_forecasts,
    plot_published_routes,
)
from embedllm.plots.real_answers import plot_gains
from embedllm.plots.routing import plot_paper_routers, plot_route_shares, plot_router_gains, plot_routers
from embedllm.plots.speed import plot_growth, plot_speed
from embedllm.plots.tuning import plot_sweep
from embedllm.plots.what_embedllm_is import (
    plot_distances_are_differences,
    plot_loss_against_dim,
    plot_loss_against_time,
    plot_noise_penalty,
    plot_paired_differences,
    plot_recorded_times,
)
from embedllm.protocol.calibration import pool_runs, reliability
from embedllm.protocol.routers import BestSingleModel, Oracle, PredictedBest, UniformRandom, fit_routers
from embedllm.studies.benchmark_prediction import Heldout, count_significant, summarize_correlations
from embedllm.studies.contributions import Contributions
from embedllm.studies.dataset import histograms, pairwise_agreement
from embedllm.studies.published_numbers import forecasting_numbers, routing_numbers
from embedllm.studies.routing import Routes, tally_routes
from embedllm.studies.speed import case_times, growth_table, load_run
from embedllm.studies.tuning import along, summarize_sweep, sweep_factorization
from embedllm.studies.what_embedllm_is import paired_differences


@pytest.fixture(scope="session")
def hostile(request):
    """Number of the first of the hostile texts that come after names; None where there are none."""
    return getattr(request, "param", None)


@pytest.fixture(scope="session")
def pool(make_matrix, hostile):
    """Four benchmarks, a third of the answers missing, and all answers of some models to a benchmark."""
    matrix = make_matrix(n_models=9, n_questions=200, n_benchmarks=4, missing=0.3, seed=5)
    keep = (matrix.benchmarks != "bench-3") | (np.arange(200) < 60)
    labels = matrix.labels.copy()
    labels[2, matrix.benchmarks == "bench-1"] = -1
    labels[:4, matrix.benchmarks == "bench-2"] = -1
    matrix = matrix.with_labels(labels).subset(questions=keep)
    return matrix if hostile is None else with_hostile_names(matrix, hostile)


@pytest.fixture(scope="session")
def parts(pool):
    return pool.split((0.5, 0.1, 0.4))


@pytest.fixture(scope="session")
def forecasts(parts):
    predictors = {"KNN": KNNCorrectness(7).fit(parts.train), "benchmark mean": BenchmarkMean().fit(parts.train)}
    # A name that the style does not know.
    return evaluate_forecasts(predictors | {"my own": KNNCorrectness(3).fit(parts.train)}, parts.test)


@pytest.fixture(scope="session")
def routers(parts):
    policies = {
        "oracle": Oracle(),
        "KNN": PredictedBest("KNN"),
        "best single model": BestSingleModel(),
        "uniform random": UniformRandom(),
        "my own": PredictedBest("other"),
    }
    predictors = {"KNN": KNNCorrectness(7).fit(parts.train), "other": KNNCorrectness(3).fit(parts.train)}
    return fit_routers(policies, parts.train, predictors)


@pytest.fixture(scope="session")
def evaluation(parts, routers):
    return evaluate_routers(routers, parts.test)


@pytest.fixture(scope="session")
def curve(pool):
    """Three sizes, two seeds, and a predictor that is undefined on the smallest size."""
    keys = [(seed, size, name) for seed in (0, 1) for size in (10, 200, 1000) for name in ("MF", "KNN", "my own")]
    table = pd.DataFrame(keys, columns=["seed", "size", "predictor"]).assign(data=pool.source)
    table["accuracy"] = 0.5 + 0.01 * np.arange(len(table)) % 0.37
    table["log_loss"] = 1 - table["accuracy"]
    table.loc[(table["predictor"] == "my own") & (table["size"] == 10), ["accuracy", "log_loss"]] = np.nan
    return table


@pytest.fixture(scope="session")
def reliability_bins(pool):
    return pool_runs(
        reliability(fit_runs(pool, {"KNN": KNNCorrectness(7), "benchmark mean": BenchmarkMean()}), n_bins=5)
    )


@pytest.fixture(scope="session")
def gains(parts, routers):
    shares = {name: router.shares(parts.test) for name, router in routers.items()}
    return tally_routes([Routes(0, parts.test, shares)]).differences("best single model")


@pytest.fixture(scope="session")
def mf():
    """A factorization that fits in no time."""
    return MatrixFactorization(dim=2, alpha=0.1)


@pytest.fixture(scope="session")
def sweep(pool):
    return along(sweep_factorization(pool, [0.1], [1, 2, 4, 8, 16, 32], n_seeds=2), "dim", fixed=0.1)


@pytest.fixture(scope="session")
def history():
    return pd.DataFrame(
        {"train_loss": [0.7, 0.6, 0.55], "val_loss": [0.69, 0.61, 0.58], "val_accuracy": [0.5, 0.6, 0.7]}
    )


@pytest.fixture(scope="session")
def comparison(pool):
    """Two protocols as `compare_protocols` has them, one of them undefined by one way of scoring."""
    table = pd.DataFrame(
        [(name, way) for name in ("majority", "any") for way in ("own labels", "majority labels")],
        columns=["protocol", "scored on"],
    ).assign(data=pool.source, difference="MF minus KNN", MF=74.0 + np.arange(4), KNN=71.0, low=-1.0, high=9.0)
    table["benchmark mean"] = 65.0
    table["gap"] = table["MF"] - table["KNN"]
    table.loc[3, ["MF", "KNN", "benchmark mean", "gap", "low", "high"]] = np.nan
    return table


@pytest.fixture(scope="session")
def heldout(pool):
    """Predictions where a model is left out of one benchmark and everything of another is undefined."""
    rng, names = np.random.default_rng(0), ("SGD", "exact", "ridge", "mean accuracy")
    keys = list(product(pool.benchmark_names, names, pool.model_names))
    models = pd.DataFrame(keys, columns=["benchmark", "predictor", "model"]).assign(data=pool.source)
    actual = pool.accuracy(by=["model", "benchmark"])["accuracy"]
    models["actual"] = [actual[model, benchmark] for benchmark, _, model in keys]
    models["predicted"] = models["actual"] + 0.1 * rng.standard_normal(len(models))
    models.loc[models["benchmark"] == pool.benchmark_names[3], "predicted"] = np.nan
    keys = list(product(names[:2], pool.benchmark_names, range(100)))
    splits = pd.DataFrame(keys, columns=["predictor", "benchmark", "split"]).assign(data=pool.source, n_models=112)
    splits = splits.assign(n_test=23, tau=rng.random(len(splits)), p_value=0.1 * rng.random(len(splits)))
    splits.loc[splits["benchmark"] == pool.benchmark_names[3], ["n_test", "tau", "p_value"]] = 0, np.nan, np.nan
    return Heldout(splits, models)


@pytest.fixture(scope="session")
def contributions(pool):
    """Contributions to three benchmarks; nothing is defined on the last one."""
    rng, names = np.random.default_rng(0), pool.benchmark_names
    cells = pd.MultiIndex.from_product([names, names])
    resampled = pd.DataFrame(rng.normal(1, 1, (50, len(cells))), columns=cells)
    giver, taker = (cells.get_level_values(level) for level in (0, 1))
    resampled.loc[:, (giver == taker) | (taker == names[-1])] = np.nan
    n_questions = pd.Series([150, 150, 60, 60], names)
    return Contributions(pool.source, "test MSE", resampled.mean(), resampled, n_questions)


@pytest.fixture(scope="session")
def communities(pool, hostile):
    """One community of the paper, one that is undefined and another, in two spaces."""
    table = pd.DataFrame(
        [
            ("exact", "7B", True, 50, 0.9, 0.98, 0.92, 0.97, 0.0001),
            ("exact", "physics", True, 2, np.nan, np.nan, np.nan, np.nan, np.nan),
            ("exact", "chat", False, 40, 1.01, 1.0, 1.01, 0.98, 0.8),
            ("SGD", "7B", True, 50, 18.0, 18.2, 0.99, 0.99, 0.04),
            ("SGD", "physics", True, 2, np.nan, np.nan, np.nan, np.nan, np.nan),
            ("SGD", "chat", False, 40, 18.5, 18.5, 1.0, 0.99, 0.5),
        ],
        columns=["space", "community", "paper", "n_models", "within", "between", "ratio", "limit", "p_corrected"],
    )
    named = [f"{name}{text(number % 3, hostile)}" for number, name in enumerate(table["community"])]
    return table.assign(data=pool.source, community=named)


@pytest.fixture(scope="session")
def positions_of(pool, hostile):
    """Return the function that places models in three clusters; of some no size or specialization is known."""

    def place(n_models, seed=0):
        rng = np.random.default_rng(seed)
        kind = np.arange(n_models) % 3
        centres = np.array([[0.0, 0], [8, 1], [3, 9]])[kind]
        x, y = (centres + rng.standard_normal((n_models, 2))).T
        names = [f"organisation__Model-{number}-of-a-long-name{text(number, hostile)}" for number in range(n_models)]
        specializations = np.array(["", *(f"{name}{text(n, hostile)}" for n, name in enumerate(("chat", "code")))])
        sizes, tags = rng.choice([0.5, 7, 70, np.nan], n_models), specializations[kind]
        columns = {"data": pool.source, "x": x, "y": y, "params_b": sizes, "specialization": tags}
        return pd.DataFrame(columns, names)

    return place


@pytest.fixture(scope="session")
def training(pool):
    columns = ["data", "questions", "epochs", "TFLOPs"]
    rows = {"the paper's, by pair": ("the paper's", 20_000, 50, 80.1), "by block": (pool.source, 1000, 10, 0.02)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


@pytest.fixture(scope="session")
def costs(pool):
    rows = [("fit", "MF", 9.0), ("route all at once", "MF", 0.02), ("route one at a time", "MF, by pair", 1.5)]
    return pd.DataFrame(rows, columns=["what", "method", "s for 3,000"]).assign(data=pool.source)


@pytest.fixture(scope="session")
def draw(
    pool, parts, comparison, history, forecasts, evaluation, routers, curve, reliability_bins, gains, sweep,
    heldout, contributions, communities, positions_of, training, costs,
):  # fmt: skip
    """The call that draws each figure of the companion, by the name of its function."""
    agreement, run = pairwise_agreement(pool), load_run()
    shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "best single model", "uniform random")}
    return {
        "plot_composition": lambda: plot_composition(pool),
        "plot_accuracy": lambda: plot_accuracy(pool),
        "plot_distributions": lambda: plot_distributions(histograms(pool)),
        "plot_agreement": lambda: plot_agreement(agreement.pairs(), agreement.order(), pool.source),
        "plot_protocols": lambda: plot_protocols(comparison),
        "plot_heldout": lambda: plot_heldout(
            count_significant(heldout.splits), heldout.models[heldout.models["benchmark"] == pool.benchmark_names[0]]
        ),
        "plot_rank_correlations": lambda: plot_rank_correlations(summarize_correlations(heldout.models, 50)),
        "plot_contribution_sums": lambda: plot_contribution_sums(contributions.sums()),
        "plot_contributions": lambda: plot_contributions(contributions.table()),
        "plot_communities": lambda: plot_communities(communities),
        "plot_raw_distances": lambda: plot_raw_distances(communities.query("space == 'SGD' and paper")),
        "plot_model_map": lambda: plot_model_map(positions_of(20)),
        "plot_training_flops": lambda: plot_training_flops(training, 107.71),
        "plot_routing_times": lambda: plot_routing_times(costs, 3.8),
        "plot_history": lambda: plot_history(history, pool.source),
        "plot_sweep": lambda: plot_sweep(summarize_sweep(sweep), default=232),
        "plot_forecasts": lambda: plot_forecasts(forecasts),
        "plot_training_sizes": lambda: plot_training_sizes(curve),
        "plot_reliability": lambda: plot_reliability(reliability_bins),
        "plot_routers": lambda: plot_routers(evaluation),
        "plot_paper_routers": lambda: plot_paper_routers(evaluation),
        "plot_router_gains": lambda: plot_router_gains(gains),
        "plot_route_shares": lambda: plot_route_shares(shares, pool.source),
        "plot_speed": lambda: plot_speed(case_times(run | {"data": pool.source})),
        "plot_gains": lambda: plot_gains(_made_up_gains(pool)),
        "plot_baselines": lambda: plot_baselines(_made_up_baselines(pool), "benchmark mean", "best single model"),
        **_solver_figures(pool),
        **_published_figures(pool),
        **_limit_figures(pool),
        **beyond_figures(pool),
        "plot_growth": lambda: plot_growth(growth_table(run | {"data": pool.source}), "seconds"),
    }


def _made_up_gains(pool):
    rows = [(what, data, 1.0, 0.5, 1.5, 3) for what in ("MF minus KNN", "MF minus x") for data in (pool.source, "two")]
    return pd.DataFrame(rows, columns=["what", "data", "points", "low", "high", "runs"])


def _published_figures(pool):
    """Those of the page on the published numbers, as if they were of the pool."""
    counts = load_published_counts()
    tables = (forecasting_numbers(counts), routing_numbers(counts))
    forecasts, routes = (table.assign(data=pool.source) for table in tables)
    return {
        "plot_published_forecasts": lambda: plot_published_forecasts(forecasts),
        "plot_published_routes": lambda: plot_published_routes(routes),
    }


def _limit_figures(pool):
    """Those of the page on the limits of the method, on made-up results."""
    rows = [(s, m, 70 + n, 68 + n, 72 + n) for s in ("linear", "none") for n, m in enumerate(("MF", "KNN", "ceiling"))]
    table = pd.DataFrame(rows, columns=["structure", "method", "accuracy", "low", "high"]).assign(data=pool.source)
    recovered = {
        "data": pool.source,
        "size": [10, 100],
        "angle_1": [80, 40],
        "angle_4": [60, 30],
        "correlation": [0, 1],
    }
    return {
        "plot_structures": lambda: plot_structures(table, "answers predicted correctly"),
        "plot_recovery": lambda: plot_recovery(pd.DataFrame(recovered)),
    }


def _made_up_baselines(pool):
    names = ["MF", "benchmark mean", "stack", "best single model", "oracle"]
    table = pd.DataFrame({"data": pool.source, "method": names, "loss_minus": [-0.1, 0, -0.2, np.nan, np.nan]})
    table["gain"] = [1.0, 2.0, 3.0, 0.0, 20.0]
    ends = {"low": -1, "high": 1}
    return table.assign(**{f"loss_{end}": table["loss_minus"] + step / 20 for end, step in ends.items()}).assign(
        **{f"gain_{end}": table["gain"] + step for end, step in ends.items()}
    )


def _solver_figures(pool):
    """Those of the page on what the factorization is, on made-up results."""
    noise = pd.DataFrame(
        {"data": pool.source, "noise": [0.1, 0.2], "ridge": [0.1, 0.3]}, pd.Index([0.1, 0.2], name="alpha")
    )
    distances = pd.DataFrame({"data": pool.source, "embedding": [1.0, 2.0], "logits": [1.0, 2.0]})
    times = pd.DataFrame({"data": pool.source, "fit": ["SGD", "SGD", "exact"], "seconds": [1, 2, 0.1], "val_loss": 0.5})
    rows = [
        (pool.source, seed, solver, dim, tuned, 0.5 + 0.01 * seed * dim)
        for seed, solver, dim, tuned in product(range(3), ("SGD", "exact"), (2, 4), (False, True))
    ]
    scores = pd.DataFrame(rows, columns=["data", "seed", "solver", "dim", "tuned", "log_loss"]).assign(seconds=2.0)
    return {
        "plot_noise_penalty": lambda: plot_noise_penalty(noise),
        "plot_distances_are_differences": lambda: plot_distances_are_differences(distances),
        "plot_loss_against_time": lambda: plot_loss_against_time(times),
        "plot_loss_against_dim": lambda: plot_loss_against_dim(scores),
        "plot_recorded_times": lambda: plot_recorded_times(scores),
        "plot_paired_differences": lambda: plot_paired_differences(paired_differences(scores)),
    }


@pytest.fixture(scope="session")
def assert_markers():
    """Return the check that a row stands for each benchmark and a marker in it for each method."""

    def check(axes, table, method):
        benchmarks = list(pd.unique(table["benchmark"]))
        sizes = table.drop_duplicates("benchmark").set_index("benchmark")["n_questions"]
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            f"{name} ({sizes[name]:,})" for name in benchmarks
        ]
        drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert list(drawn) == list(pd.unique(table[method]))
        assert sum(len(line.get_xdata()) for line in drawn.values()) == len(table)
        for name, line in drawn.items():
            rows = table[table[method] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["accuracy"])
            # Each marker belongs to the tick of its benchmark.
            nearest = [benchmarks[round(y)] for y in line.get_ydata()]
            assert nearest == rows["benchmark"].tolist()
        # Markers of one row do not lie on each other.
        assert len({line.get_ydata()[0] for line in drawn.values()}) == len(drawn)
        return drawn

    return check
