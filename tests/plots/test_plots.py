"""Figures by their structure: what stands on the axes, how many marks there are and what they are worth."""

import io
import pkgutil
from importlib import import_module

import matplotlib

matplotlib.use("Agg")  # before pyplot looks for a screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from embedllm import (
    BenchmarkMean,
    CorrectnessMatrix,
    KNNCorrectness,
    evaluate_forecasts,
    evaluate_routers,
    plots,
    route_shares,
)
from embedllm.plots._style import TARGET
from embedllm.plots.benchmark_prediction import plot_heldout, plot_rank_correlations
from embedllm.plots.communities import plot_communities, plot_model_map
from embedllm.plots.contributions import plot_contributions
from embedllm.plots.cost import plot_routing_times, plot_training_flops
from embedllm.plots.dataset import plot_accuracy, plot_agreement, plot_composition, plot_coverage, plot_distributions
from embedllm.plots.forecasting import plot_forecasts, plot_history, plot_reliability, plot_training_sizes
from embedllm.plots.label_rules import plot_protocols
from embedllm.plots.routing import plot_route_shares, plot_router_gains, plot_routers
from embedllm.plots.speed import plot_growth, plot_speed
from embedllm.plots.tuning import plot_learning_curves, plot_sweep
from embedllm.protocol.calibration import pool_repetitions, reliability
from embedllm.protocol.runs import Settings
from embedllm.studies.benchmark_prediction import summarize_correlations
from embedllm.studies.contributions import MEASURES, Contributions
from embedllm.studies.dataset import coverage, histograms, pairwise_agreement, right_shares
from embedllm.studies.routing import BestSingleModel, Oracle, PredictedBest, UniformRandom, tally_routes
from embedllm.studies.speed import case_times, growth_table, load_run
from embedllm.studies.tuning import summarize_sweep, sweep_factorization


@pytest.fixture(scope="module")
def pool(make_matrix, relabel):
    """Another pool than the paper's: 4 benchmarks of other sizes, a third of the cells missing, whole holes."""
    matrix = make_matrix(n_models=9, n_questions=200, n_benchmarks=4, missing=0.3, seed=5)
    keep = (matrix.benchmarks != "bench-3") | (np.arange(200) < 60)
    labels = matrix.labels.copy()
    labels[2, matrix.benchmarks == "bench-1"] = -1
    labels[:4, matrix.benchmarks == "bench-2"] = -1
    return relabel(matrix, labels).subset(questions=keep)


@pytest.fixture(scope="module")
def parts(pool):
    return pool.split((0.5, 0.1, 0.4))


@pytest.fixture(scope="module")
def forecasts(parts):
    predictors = {"KNN": KNNCorrectness(7).fit(parts.train), "benchmark mean": BenchmarkMean().fit(parts.train)}
    # A name that the style knows nothing of.
    return evaluate_forecasts(predictors | {"my own": KNNCorrectness(3).fit(parts.train)}, parts.test)


@pytest.fixture(scope="module")
def routers(parts):
    return {
        "oracle": Oracle(),
        "KNN": PredictedBest(KNNCorrectness(7).fit(parts.train)),
        "best single model": BestSingleModel(parts.train),
        "uniform random": UniformRandom(),
        "my own": PredictedBest(KNNCorrectness(3).fit(parts.train)),
    }


@pytest.fixture(scope="module")
def evaluation(parts, routers):
    return evaluate_routers(routers, parts.test)


@pytest.fixture(scope="module")
def curve(pool):
    """Three sizes, two seeds, and a predictor that is undefined on the smallest size."""
    keys = [(seed, size, name) for seed in (0, 1) for size in (10, 200, 1000) for name in ("MF", "KNN", "my own")]
    table = pd.DataFrame(keys, columns=["seed", "size", "predictor"]).assign(data=pool.source)
    table["accuracy"] = 0.5 + 0.01 * np.arange(len(table)) % 0.37
    table["log_loss"] = 1 - table["accuracy"]
    table.loc[(table["predictor"] == "my own") & (table["size"] == 10), ["accuracy", "log_loss"]] = np.nan
    return table


@pytest.fixture(scope="module")
def reliability_bins(parts):
    predictors = {"KNN": KNNCorrectness(7).fit(parts.train), "benchmark mean": BenchmarkMean().fit(parts.train)}
    return pool_repetitions(reliability(predictors, parts.test, n_bins=5))


@pytest.fixture(scope="module")
def gains(parts, routers):
    return tally_routes(routers, parts.test).differences("best single model")


@pytest.fixture(scope="module")
def sweep_and_curves(pool):
    return sweep_factorization(pool, "dim", [1, 2, 4, 8, 16, 32], Settings(), n_seeds=2)


@pytest.fixture(scope="module")
def history():
    return pd.DataFrame(
        {"train_loss": [0.7, 0.6, 0.55], "val_loss": [0.69, 0.61, 0.58], "val_accuracy": [0.5, 0.6, 0.7]}
    )


@pytest.fixture(scope="module")
def comparison(pool):
    """Two protocols as `compare_protocols` has them, one of them undefined by one way of scoring."""
    table = pd.DataFrame(
        [(name, way) for name in ("majority", "any") for way in ("own labels", "majority labels", "every row")],
        columns=["protocol", "scored on"],
    ).assign(data=pool.source, MF=74.0 + np.arange(6), KNN=71.0, low=-1.0, high=9.0)
    table["benchmark mean"] = 65.0
    table["gap"] = table["MF"] - table["KNN"]
    table.loc[5, ["MF", "KNN", "benchmark mean", "gap", "low", "high"]] = np.nan
    return table


@pytest.fixture(scope="module")
def figures(
    pool, parts, comparison, history, forecasts, evaluation, routers, curve, reliability_bins, gains, sweep_and_curves
):
    """The functions that draw each figure of the companion."""
    sweep, curves = sweep_and_curves
    shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "best single model", "uniform random")}
    return {
        "composition": lambda: plot_composition(pool),
        "accuracy": lambda: plot_accuracy(pool),
        "distributions": lambda: plot_distributions(histograms(pool)),
        "coverage": lambda: plot_coverage(coverage(pool)),
        "agreement": lambda: plot_of_agreement(pool),
        "protocols": lambda: plot_protocols(comparison),
        "held-out": lambda: plot_heldout(heldout_of(pool)),
        "rank correlations": lambda: plot_rank_correlations(summarize_correlations(heldout_of(pool), 50)),
        "contributions": lambda: plot_contributions(contributions_of(pool).table("accuracy")),
        "communities": lambda: plot_communities(communities_of(pool.source)),
        "model map": lambda: plot_model_map(positions_of(pool.source, 20)),
        "training FLOPs": lambda: plot_training_flops(training_of(pool.source), 107.71),
        "routing times": lambda: plot_routing_times(costs_of(pool.source), 3.8),
        "history": lambda: plot_history(history, pool.source),
        "sweep": lambda: plot_sweep(summarize_sweep(sweep), default=232),
        "learning curves": lambda: plot_learning_curves(curves),
        "forecasts": lambda: plot_forecasts(forecasts),
        "training sizes": lambda: plot_training_sizes(curve),
        "reliability": lambda: plot_reliability(reliability_bins),
        "routers": lambda: plot_routers(evaluation),
        "router gains": lambda: plot_router_gains(gains),
        "route shares": lambda: plot_route_shares(shares, pool.source),
        "speed": lambda: plot_speed(case_times(load_run() | {"data": pool.source})),
        "growth": lambda: plot_growth(growth_table(load_run()), "seconds"),
    }


FIGURES = [
    "composition",
    "accuracy",
    "distributions",
    "coverage",
    "agreement",
    "protocols",
    "held-out",
    "rank correlations",
    "contributions",
    "communities",
    "model map",
    "training FLOPs",
    "routing times",
    "history",
    "sweep",
    "learning curves",
    "forecasts",
    "training sizes",
    "reliability",
    "routers",
    "router gains",
    "route shares",
    "speed",
    "growth",
]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_described_and_kept_with_its_data(figures, name, pool, tmp_path, monkeypatch):
    monkeypatch.setenv(TARGET, str(tmp_path / "page"))
    described = figures[name]()._repr_mimebundle_()[1]["image/png"]
    assert described["title"].endswith("."), "the docstring begins with a sentence of one line"
    assert described["alt"].startswith(described["title"])
    source = "random data" if name == "growth" else pool.source
    assert source in described["alt"]
    # What is drawn, and what the data are, so that simulated ones are known as such.
    table = pd.read_csv(tmp_path / "page" / f"{described['name']}.csv")
    assert len(table)
    assert table["data"].str.contains(source, regex=False).any()
    assert not [column for column in table if "Unnamed" in column], "name the index, if it is more than row numbers"


def heldout_of(pool):
    """Predictions of two seeds, where a model is left out of one benchmark and everything of another is undefined."""
    rng, names = np.random.default_rng(0), ("embeddings", "model directions", "mean accuracy")
    keys = [
        (seed, benchmark, predictor, model)
        for seed in (0, 1)
        for benchmark in pool.benchmark_names
        for predictor in names
        for model in pool.model_names
    ]
    table = pd.DataFrame(keys, columns=["seed", "benchmark", "predictor", "model"]).assign(data=pool.source)
    actual = pool.accuracy(by=["model", "benchmark"])["accuracy"]
    table["actual"] = [actual[model, benchmark] for _, benchmark, _, model in keys]
    table["predicted"] = table["actual"] + 0.1 * rng.standard_normal(len(table))
    table.loc[table["benchmark"] == "bench-3", "predicted"] = np.nan
    return table


def contributions_of(pool):
    """Changes of two seeds; nothing is defined on the last benchmark."""
    rng, names = np.random.default_rng(0), pool.benchmark_names
    order = pd.MultiIndex.from_product([MEASURES, names, names], names=["measure", "left_out", "benchmark"])
    runs, resampled = (pd.DataFrame(rng.normal(1, 1, (n, len(order))), columns=order) for n in (2, 50))
    for frame in (runs, resampled):
        frame.loc[:, frame.columns.get_level_values("benchmark") == names[-1]] = np.nan
    benchmarks = pool.accuracy(by="benchmark")[["accuracy"]].assign(n_questions=60, n_test=20)
    return Contributions(pool.source, benchmarks, runs, resampled)


def communities_of(data):
    """One community of the paper, one that is undefined and another, in two spaces."""
    table = pd.DataFrame(
        [
            ("direction", "7B", True, 50, 0.92, 0.97, 1.03, 0.0001),
            ("direction", "physics", True, 2, np.nan, np.nan, np.nan, np.nan),
            ("direction", "chat", False, 40, 1.01, 0.98, 1.02, 0.8),
            ("embedding", "7B", True, 50, 0.99, 0.99, 1.01, 0.04),
            ("embedding", "physics", True, 2, np.nan, np.nan, np.nan, np.nan),
            ("embedding", "chat", False, 40, 1.0, 0.99, 1.01, 0.5),
        ],
        columns=["space", "community", "paper", "n_models", "ratio", "null_low", "null_high", "p"],
    )
    return table.assign(data=data)


def positions_of(data, n_models, seed=0):
    """Models in three clusters, of some of which no size or specialization is known."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_models) % 3
    centres = np.array([[0.0, 0], [8, 1], [3, 9]])[kind]
    x, y = (centres + rng.standard_normal((n_models, 2))).T
    names = [f"organisation__Model-{number}-of-a-long-name" for number in range(n_models)]
    sizes, tags = rng.choice([0.5, 7, 70, np.nan], n_models), np.array(["", "chat", "code"])[kind]
    return pd.DataFrame({"data": data, "x": x, "y": y, "params_b": sizes, "specialization": tags}, names)


def training_of(data):
    columns = ["data", "questions", "epochs", "TFLOPs"]
    rows = {"the paper's, by pair": ("the paper's", 20_000, 50, 80.1), "by block": (data, 1000, 10, 0.02)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def costs_of(data):
    rows = [("fit", "MF", 9.0), ("route all at once", "MF", 0.02), ("route one at a time", "MF, by pair", 1.5)]
    return pd.DataFrame(rows, columns=["what", "method", "s for 3,000"]).assign(data=data)


def plot_of_agreement(matrix):
    agreement = pairwise_agreement(matrix)
    return plot_agreement(agreement.pairs(), agreement.order(), matrix.source)


def title(axes):
    return "".join(axes.get_title(place) for place in ("left", "center", "right"))


class TestEveryFigure:
    def test_there_is_a_test_for_each(self, figures):
        assert list(figures) == FIGURES
        modules = [import_module(f"embedllm.plots.{module.name}") for module in pkgutil.iter_modules(plots.__path__)]
        drawn = {name for module in modules for name in dir(module) if name.startswith("plot_")}
        assert len(drawn) == len(FIGURES)

    @pytest.mark.parametrize("name", FIGURES)
    def test_is_closed_and_can_be_saved(self, figures, name):
        before = plt.get_fignums()
        figure = figures[name]()
        assert isinstance(figure, Figure)
        assert plt.get_fignums() == before
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        assert stream.getvalue().startswith(b"\x89PNG")

    @pytest.mark.parametrize("name", FIGURES)
    def test_style_does_not_leak(self, figures, name):
        before = dict(matplotlib.rcParams)
        figures[name]()
        assert dict(matplotlib.rcParams) == before

    @pytest.mark.parametrize("name", FIGURES)
    def test_does_not_depend_on_the_style_of_the_caller(self, figures, name):
        expected = figures[name]()
        with plt.style.context({"axes.labelsize": 40, "font.size": 30, "figure.dpi": 30}):
            figure = figures[name]()
        assert figure.axes[0].xaxis.label.get_size() == expected.axes[0].xaxis.label.get_size()

    @pytest.mark.parametrize("name", FIGURES)
    def test_says_what_is_drawn_from_which_data(self, figures, name, pool):
        figure = figures[name]()
        assert figure.axes[0].get_xlabel() or figure.get_supxlabel()
        source = "random data" if name == "growth" else pool.source
        assert any(source in words for words in (figure.get_suptitle(), *map(title, figure.axes)))

    @pytest.mark.parametrize("name", FIGURES)
    def test_text_stays_inside_the_figure(self, figures, name):
        figure = figures[name]()
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert box.x0 > -0.05
        assert box.y0 > -0.05
        assert box.x1 < width + 0.05
        assert box.y1 < height + 0.05


def bars(axes):
    return [bar for container in axes.containers if isinstance(container, BarContainer) for bar in container]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestComposition:
    def test_bars_are_the_questions_of_each_benchmark(self, pool):
        left, right = plot_composition(pool).axes
        counts = pool.questions["benchmark"].value_counts()
        assert [bar.get_width() for bar in bars(left)] == counts.tolist()
        assert labels(left.yaxis) == counts.index.tolist()
        assert [text.get_text() for text in left.texts] == [f"{count:,}" for count in counts]
        assert left.get_xlabel() == "questions"
        assert f"{pool.n_questions} questions" in title(left)
        assert f"{pool.n_models} models" in title(right)
        assert right.get_xlabel() == "accuracy of a model"

    def test_boxes_leave_out_what_was_not_observed(self, pool):
        # The median line of each box against the accuracies over observed cells.
        accuracy = pool.accuracy(by=["model", "benchmark"])["accuracy"]
        assert accuracy.isna().sum() == 5
        medians = accuracy.groupby("benchmark").median()
        right = plot_composition(pool).axes[1]
        drawn = [
            line.get_xdata()[0]
            for line in right.lines
            if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
        ]
        for name in pool.benchmark_names:
            assert np.isclose(drawn, medians[name]).any(), name

    def test_percent(self, pool):
        assert all(label.endswith("%") for label in labels(plot_composition(pool).axes[1].xaxis))


class TestAccuracy:
    def test_cells(self, pool):
        axes, bar = plot_accuracy(pool).axes
        (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
        drawn = np.ma.asarray(mesh.get_array()).reshape(9, 4)
        best_first = pool.accuracy(by="model")["accuracy"].sort_values(ascending=False).index
        table = pool.accuracy(by=["model", "benchmark"])["accuracy"]
        for row, model in enumerate(best_first):
            for column, benchmark in enumerate(pool.benchmark_names):
                value = table[model, benchmark]
                if np.isnan(value):
                    assert drawn.mask[row, column]  # blank, not zero
                else:
                    assert drawn[row, column] == pytest.approx(100 * value)
        assert labels(axes.xaxis) == pool.benchmark_names
        assert labels(axes.yaxis) == best_first.tolist()
        assert bar.get_ylabel() == "accuracy (%)"
        assert "9" in axes.get_ylabel()

    def test_many_models_do_not_make_the_figure_endless(self, make_matrix):
        figure = plot_accuracy(make_matrix(n_models=300, n_questions=40))
        assert figure.get_size_inches()[1] <= 9
        assert len(labels(figure.axes[0].yaxis)) <= 40


class TestDistributions:
    def test_every_model_and_question_is_counted(self, pool):
        left, right = plot_distributions(histograms(pool)).axes
        assert sum(bar.get_height() for bar in bars(left)) == pool.n_models
        assert sum(bar.get_height() for bar in bars(right)) == pool.n_questions
        assert bars(right)[-1].get_height() == (right_shares(pool) >= 0.95).sum()
        assert all(label.endswith("%") for label in labels(left.xaxis) + labels(right.xaxis))


class TestCoverage:
    def test_bars_are_models(self, pool):
        table = coverage(pool)
        (axes,) = plot_coverage(table).axes
        assert labels(axes.yaxis) == [*pool.benchmark_names, "overall"]
        for container, column in zip(axes.containers, ("all", "some", "none"), strict=True):
            assert container.get_label() == column
            assert [bar.get_width() for bar in container] == table[column].tolist()
        shares = [f"{missing:.1f} % missing" for missing in table["missing (%)"]]
        assert [text.get_text() for text in axes.texts] == shares


class TestAgreement:
    def test_cells(self, pool):
        agreement = pairwise_agreement(pool)
        left, right, *_ = plot_agreement(agreement.pairs(), agreement.order(), pool.source).axes
        order = agreement.order()
        for axes, table in ((left, agreement.agreement), (right, agreement.kappa)):
            (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
            drawn = np.ma.filled(mesh.get_array(), np.nan).reshape(len(order), len(order))
            expected = table.loc[order, order].to_numpy(copy=True)
            np.fill_diagonal(expected, np.nan)  # a model and itself
            np.testing.assert_array_equal(drawn, expected)
        assert labels(left.yaxis) == order

    @pytest.mark.parametrize("answers", [[[1]], [[1, -1], [-1, 0]]])
    def test_no_pair_to_compare(self, answers):
        frame = pd.DataFrame(answers, [f"m{n}" for n in range(len(answers))], [f"q{n}" for n in range(len(answers))])
        questions = pd.DataFrame({"benchmark": "x"}, frame.columns)
        matrix = CorrectnessMatrix(frame, questions, np.ones((len(questions), 2)))
        assert plot_of_agreement(matrix).axes


class TestProtocols:
    def test_markers(self, comparison):
        left, right = plot_protocols(comparison).axes
        assert labels(left.yaxis) == ["majority", "any"]
        gaps = [line for line in right.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
        for line, way in zip(gaps, comparison["scored on"].unique(), strict=True):
            rows = comparison[comparison["scored on"] == way]
            np.testing.assert_array_equal(line.get_xdata(), rows["gap"])
            assert [round(place) for place in line.get_ydata()] == [0, 1]
        assert len(left.lines) == 9  # three methods, three ways of scoring
        assert len({line.get_ydata()[0] for line in gaps}) == 3
        assert "points" in right.get_xlabel()

    def test_intervals(self, comparison):
        right = plot_protocols(comparison).axes[1]
        segments = [segment for lines in right.collections for segment in lines.get_segments() if len(segment)]
        assert [segment[:, 0].tolist() for segment in segments] == [[-1, 9]] * 5  # the sixth is undefined


class TestHeldout:
    def test_a_panel_for_each_benchmark_and_a_point_for_each_model(self, pool):
        table = heldout_of(pool)
        panels = plot_heldout(table, "model directions").axes
        assert [title(axes) for axes in panels] == pool.benchmark_names
        means = table[table["predictor"] == "model directions"].groupby(["benchmark", "model"])[["predicted", "actual"]]
        for axes, benchmark in zip(panels, pool.benchmark_names, strict=True):
            points, diagonal = axes.lines
            expected = means.mean().loc[benchmark].loc[pool.model_names]
            np.testing.assert_array_equal(points.get_xdata(), expected["actual"])
            np.testing.assert_array_equal(points.get_ydata(), expected["predicted"])
            assert diagonal.get_slope() == 1
        # The model without an answer, and the benchmark without a prediction.
        assert [np.isfinite(axes.lines[0].get_ydata()).sum() for axes in panels] == [9, 8, 5, 0]

    def test_seven_benchmarks(self, make_matrix):
        # The second row is not full.
        figure = plot_heldout(heldout_of(make_matrix(n_models=5, n_questions=70, n_benchmarks=7)))
        assert len(figure.axes) == 7
        assert "embeddings" in figure.get_supylabel()


class TestRankCorrelations:
    def test_markers_and_intervals(self, pool):
        summary = summarize_correlations(heldout_of(pool), 50)
        (axes,) = plot_rank_correlations(summary).axes
        names = ["overall", *pool.benchmark_names]
        sizes = summary.drop_duplicates("benchmark")["n_models"]
        assert labels(axes.yaxis) == [f"{name} ({size})" for name, size in zip(names, sizes, strict=True)]
        assert sizes.tolist() == [9, 9, 8, 5, 0]
        drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert list(drawn) == ["embeddings", "model directions", "mean accuracy"]
        for name, line in drawn.items():
            rows = summary[summary["predictor"] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["tau"])
            assert [round(place) for place in line.get_ydata()] == [0, 1, 2, 3, 4]
        segments = np.array([line for lines in axes.collections for line in lines.get_segments() if len(line)])
        shown = summary[summary["predictor"].isin(list(drawn))].dropna()
        assert sorted(segments[:, 0, 0]) == sorted(shown["low"])
        assert sorted(segments[:, 1, 0]) == sorted(shown["high"])


class TestContributions:
    def test_cells(self, pool):
        changes = contributions_of(pool).table("pairwise ranking accuracy")
        axes, bar = plot_contributions(changes).axes
        (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
        drawn = np.ma.filled(mesh.get_array(), np.nan).reshape(4, 4)
        # Rows are left out, columns forecast; blank, not zero, where nothing is defined.
        np.testing.assert_array_equal(drawn, changes["change"].to_numpy().reshape(4, 4))
        assert np.isnan(drawn[:, 3]).all()
        assert labels(axes.yaxis) == labels(axes.xaxis) == pool.benchmark_names
        assert "left out" in axes.get_ylabel()
        assert "pairwise ranking accuracy (points)" in bar.get_ylabel()
        others = np.abs(drawn[~np.eye(4, dtype=bool)])
        assert mesh.norm.vmax == -mesh.norm.vmin == np.nanmax(others)
        texts = [f"{row.change:+.1f}{'*' * row.clear}" for row in changes.dropna().itertuples()]
        assert [text.get_text() for text in axes.texts] == texts

    def test_many_benchmarks_have_stars_alone(self, pool):
        changes = contributions_of(pool).table("accuracy").assign(clear=[True, False] * 8)
        axes, _ = plot_contributions(changes, annotated=3).axes
        assert [text.get_text() for text in axes.texts] == ["*", "", "*"] * 2 + ["*", "", "*"] * 2

    def test_one_benchmark(self, make_matrix):
        changes = contributions_of(make_matrix(n_benchmarks=1)).table("accuracy")
        assert plot_contributions(changes).axes


class TestHistory:
    def test_lines(self, history):
        (axes,) = plot_history(history, "toy").axes
        assert len(axes.lines) == 2
        for line, column in zip(axes.lines, ("train_loss", "val_loss"), strict=True):
            assert line.get_xdata().tolist() == [1, 2, 3]
            assert line.get_ydata().tolist() == history[column].tolist()
        assert axes.get_xlabel() == "epoch"
        assert "nats" in axes.get_ylabel()
        assert len(axes.get_legend().get_texts()) == 2


class TestSweep:
    def test_lines_and_the_two_marks(self, sweep_and_curves):
        table = summarize_sweep(sweep_and_curves[0])
        for axes, metric in zip(plot_sweep(table, default=232).axes, ("log_loss", "accuracy"), strict=True):
            line, chosen, default = axes.lines
            np.testing.assert_array_equal(line.get_ydata(), table[metric])
            assert line.get_xdata().tolist() == [1, 2, 4, 8, 16, 32]
            assert chosen.get_ydata().tolist() == table.loc[table["chosen"], metric].tolist()
            assert set(default.get_xdata()) == {232}

    def test_noise_of_zero_is_drawn(self, pool):
        sweep, _ = sweep_factorization(pool, "alpha", [0.0, 0.05, 0.2], Settings(dim=2), n_seeds=1)
        axes = plot_sweep(summarize_sweep(sweep), default=0.05).axes[0]
        assert labels(axes.xaxis) == ["0", "0.05", "0.2"]
        assert axes.get_xlim()[0] < 0 < 0.2 < axes.get_xlim()[1]


class TestLearningCurves:
    def test_lines_are_means_over_the_seeds(self, sweep_and_curves):
        curves = sweep_and_curves[1]
        left, right = plot_learning_curves(curves, values=3).axes
        assert [line.get_label() for line in right.lines] == ["1", "4", "32"]
        mean = curves[curves["value"] == 4].groupby("epoch")[["train_loss", "val_loss"]].mean()
        np.testing.assert_allclose(left.lines[1].get_ydata(), mean["train_loss"])
        np.testing.assert_allclose(right.lines[1].get_ydata(), mean["val_loss"])

    def test_fewer_values_than_asked_for(self, sweep_and_curves):
        curves = sweep_and_curves[1]
        axes = plot_learning_curves(curves[curves["value"] <= 2], values=5).axes[0]
        assert [line.get_label() for line in axes.lines] == ["1", "2"]


def assert_markers(axes, table, method, count):
    benchmarks = list(pd.unique(table["benchmark"]))
    sizes = table.drop_duplicates("benchmark").set_index("benchmark")[count]
    assert labels(axes.yaxis) == [f"{name} ({sizes[name]:,})" for name in benchmarks]
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


class TestForecasts:
    def test_markers(self, forecasts):
        figure = plot_forecasts(forecasts)
        drawn = assert_markers(figure.axes[0], forecasts, "predictor", "n_questions")
        assert len(drawn) == 3
        assert figure.axes[0].get_xlabel() == "share of answers forecast rightly"
        assert "test questions" in figure.axes[0].get_ylabel()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(drawn)

    def test_a_method_looks_alike_in_every_figure(self, forecasts, evaluation):
        looks = []
        for figure in (plot_forecasts(forecasts), plot_routers(evaluation)):
            (line,) = [line for line in figure.axes[0].lines if line.get_label() == "KNN"]
            looks.append((line.get_color(), line.get_marker()))
        assert looks[0] == looks[1]


class TestRouters:
    def test_markers(self, evaluation):
        axes = plot_routers(evaluation).axes[0]
        assert_markers(axes, evaluation, "router", "n_questions")
        assert axes.get_xlabel() == "share of questions answered rightly"
        assert "test questions" in axes.get_ylabel()

    def test_error_bars_are_two_standard_errors(self, evaluation):
        axes = plot_routers(evaluation).axes[0]
        containers = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
        segments = np.array([segment for bars in containers for segment in bars[2][0].get_segments()])
        assert len(segments) == len(evaluation)
        half = 2 * evaluation["stderr"]
        np.testing.assert_allclose(segments[:, 0, 0], evaluation["accuracy"] - half)
        np.testing.assert_allclose(segments[:, 1, 0], evaluation["accuracy"] + half)

    def test_benchmark_without_a_question(self, evaluation):
        # As in a test part that holds none of a small benchmark's questions.
        table = evaluation.copy()
        empty = table["benchmark"] == "bench-3"
        table.loc[empty, ["accuracy", "stderr"]] = np.nan
        table.loc[empty, "n_questions"] = 0
        assert "bench-3 (0)" in labels(plot_routers(table).axes[0].yaxis)


class TestTrainingSizes:
    def test_lines_are_means_and_bands_ranges(self, curve):
        panels = plot_training_sizes(curve).axes
        for axes, metric in zip(panels, ("accuracy", "log_loss"), strict=True):
            assert labels(axes.xaxis) == ["10", "200", "1,000"]
            for line, band, name in zip(axes.lines, axes.collections, ("MF", "KNN", "my own"), strict=True):
                assert line.get_label() == name
                values = curve[curve["predictor"] == name].pivot(index="seed", columns="size", values=metric)
                np.testing.assert_array_equal(line.get_xdata(), [10, 200, 1000])
                np.testing.assert_allclose(line.get_ydata(), values.mean())
                corners = np.concatenate([path.vertices for path in band.get_paths()])
                for size in values.columns[values.notna().all()]:
                    ends = corners[corners[:, 0] == size, 1]
                    assert (ends.min(), ends.max()) == pytest.approx((values[size].min(), values[size].max()))
        assert "training questions" in panels[0].get_xlabel()
        assert "nats" in panels[1].get_ylabel()


class TestReliability:
    def test_points(self, reliability_bins):
        left, right = plot_reliability(reliability_bins).axes
        for name in ("KNN", "benchmark mean"):
            rows = reliability_bins[reliability_bins["predictor"] == name]
            (line,) = [line for line in left.lines if line.get_label() == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["predicted"])
            np.testing.assert_array_equal(line.get_ydata(), rows["observed"])
        assert sum(sum(line.get_ydata()) for line in right.lines) == pytest.approx(2)
        assert left.lines[0].get_label() == "perfect"


class TestRouterGains:
    def test_a_panel_for_each_router(self, gains):
        panels = [axes for axes in plot_router_gains(gains).axes if axes.get_visible()]
        assert [title(axes) for axes in panels] == ["KNN", "uniform random", "my own", "oracle"]
        benchmarks = gains["benchmark"].unique().tolist()
        for axes in panels:
            rows = gains[gains["router"] == title(axes)]
            (line,) = [line for line in axes.lines if len(line.get_xdata()) == len(benchmarks)]
            np.testing.assert_array_equal(line.get_xdata(), rows["points"])
            assert [benchmarks[place] for place in line.get_ydata()] == rows["benchmark"].tolist()
            (intervals,) = axes.collections
            ends = np.array([segment[:, 0] for segment in intervals.get_segments()])
            np.testing.assert_array_equal(ends, rows[["low", "high"]])
            assert axes.get_xlabel() == "minus best single model\n(points)"
        sizes = gains.drop_duplicates("benchmark")["n_questions"]
        expected = [f"{name} ({size:,})" for name, size in zip(benchmarks, sizes, strict=True)]
        assert labels(panels[0].yaxis) == expected


class TestRouteShares:
    @pytest.mark.parametrize("top", [3, 12])
    def test_bars(self, routers, parts, top):
        shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "best single model")}
        axes = plot_route_shares(shares, "toy", top=top).axes[0]
        models = min(top, 9)
        assert len(bars(axes)) == 2 * models
        assert len(labels(axes.yaxis)) == models
        for container, (_, series) in zip(axes.containers, shares.items(), strict=True):
            assert [bar.get_width() for bar in container] == series[labels(axes.yaxis)].tolist()
        assert "share" in axes.get_xlabel()
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(shares)

    def test_router_that_the_style_knows_nothing_of(self, routers, parts):
        shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "my own")}
        axes = plot_route_shares(shares, "toy").axes[0]
        first, second = axes.containers
        assert first[0].get_facecolor() != second[0].get_facecolor()

    def test_most_used_models_come_first(self, routers, parts):
        shares = {"best single model": route_shares(routers["best single model"], parts.test)}
        axes = plot_route_shares(shares, "toy", top=3).axes[0]
        assert labels(axes.yaxis)[0] == shares["best single model"].index[0]


class TestCommunities:
    def test_marks(self):
        table = communities_of("toy")
        left, right = plot_communities(table).axes
        assert (title(left), title(right)) == ("by directions", "by embeddings")
        assert labels(left.yaxis) == ["7B (50)", "physics (2)", "chat (40)"]
        for axes, space in ((left, "direction"), (right, "embedding")):
            rows = table[table["space"] == space]
            lines = {line.get_label(): line for line in axes.lines}
            for label, paper in (("the paper's", True), ("other", False)):
                drawn, chosen = lines[label], (rows["paper"] == paper).to_numpy()
                np.testing.assert_array_equal(drawn.get_xdata(), rows["ratio"][chosen])
                assert drawn.get_ydata().tolist() == np.flatnonzero(chosen).tolist()
            (bands,) = axes.collections
            ends = [segment[:, 0].tolist() for segment in bands.get_segments() if len(segment)]
            assert ends == rows[["null_low", "null_high"]].dropna().to_numpy().tolist()
        assert [text.get_text() for text in left.texts] == ["p < 0.001", "undefined", "p = 0.800"]
        assert [text.get_fontweight() for text in right.texts] == ["bold", "normal", "normal"]

    def test_all_undefined(self):
        table = communities_of("toy").assign(ratio=np.nan, null_low=np.nan, null_high=np.nan, p=np.nan)
        for axes in plot_communities(table).axes:
            assert {text.get_text() for text in axes.texts} == {"undefined"}


class TestModelMap:
    @pytest.mark.parametrize("n_models", [1, 7, 112, 300])
    @pytest.mark.parametrize("dpi", [110, 60])
    def test_labels(self, n_models, dpi):
        positions = positions_of("toy", n_models, seed=n_models)
        figure = plot_model_map(positions)
        figure.set_dpi(dpi)  # where text is wider or narrower by a hair
        figure.draw_without_rendering()
        (axes,) = figure.axes
        slack = 1.0 if dpi == 60 else 0.0  # pixel
        boxes = [text.get_window_extent() for text in axes.texts]
        frame = axes.get_window_extent()
        for number, box in enumerate(boxes):
            assert frame.x0 - slack <= box.x0 < box.x1 <= frame.x1 + slack
            assert frame.y0 - slack <= box.y0 < box.y1 <= frame.y1 + slack
            for other in boxes[:number]:
                apart = max(other.x0 - box.x1, box.x0 - other.x1, other.y0 - box.y1, box.y0 - other.y1)
                assert apart >= -slack
        # Each is of the point that it is tied to, lies beside it, and covers no other.
        pixels = axes.transData.transform(positions[["x", "y"]])
        for text, box in zip(axes.texts, boxes, strict=True):
            point = positions.index.get_loc(text.get_text())
            assert text.xy == tuple(positions.iloc[point][["x", "y"]])
            gaps = np.maximum([box.x0, box.y0] - pixels, pixels - [box.x1, box.y1]).max(axis=1)
            assert 0 < gaps[point] < 12 * dpi / 72
            assert (gaps > 0).all()
        assert len({text.get_text() for text in axes.texts}) == len(axes.texts)
        assert len(axes.texts) >= min(n_models, 7) - (n_models > 1)

    def test_the_same_point_twice(self):
        positions = positions_of("toy", 2).assign(x=1.0, y=2.0)
        assert len(plot_model_map(positions).axes[0].texts) <= 2

    def test_markers(self):
        positions = positions_of("toy", 30)
        figure = plot_model_map(positions)
        drawn = dict(zip(["chat", "code", ""], figure.axes[0].collections, strict=True))
        for specialization, points in drawn.items():
            rows = positions[positions["specialization"] == specialization]
            np.testing.assert_allclose(points.get_offsets(), rows[["x", "y"]])
            # The larger the model, the larger the marker; one of unknown size has the smallest.
            order = rows["params_b"].fillna(0).to_numpy().argsort(kind="stable")
            assert (np.diff(points.get_sizes()[order]) >= 0).all()
        kinds, sizes = ([text.get_text() for text in legend.get_texts()] for legend in figure.legends)
        assert kinds == ["chat", "code", "none or other"]
        assert sizes == ["0.5B", "7B", "70B", "not known"]

    def test_more_specialities_than_colours(self):
        positions = positions_of("toy", 30).assign(specialization=[f"tag {number % 15}" for number in range(30)])
        (legend, _) = plot_model_map(positions).legends
        assert len(legend.get_texts()) == 10
        assert legend.get_texts()[-1].get_text() == "none or other"


class TestCosts:
    def test_training(self):
        table = training_of("toy")
        (axes,) = plot_training_flops(table, 107.71).axes
        np.testing.assert_allclose(axes.collections[0].get_offsets(), [[80.1, 0], [0.02, 1]])
        assert axes.get_xscale() == "log"
        assert labels(axes.yaxis)[1] == "by block\n1,000 questions, 10 epochs"
        assert [text.get_text() for text in axes.texts] == ["80.1", "0.02"]
        assert axes.lines[0].get_xdata()[0] == 107.71

    def test_routing(self):
        figure = plot_routing_times(costs_of("toy"), 3.8)
        (axes,) = figure.axes
        np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0.02, 0], [1.5, 1]])
        assert labels(axes.yaxis) == ["MF: route all at once", "MF, by pair: route one at a time"]
        assert "A100: 3.80 s" in figure.legends[0].get_texts()[0].get_text()


def test_simulated_pool_fits_on_the_page(small_pool):
    # 112 models and 10 benchmarks, the case that the book shows.
    for figure in (plot_composition(small_pool[0]), plot_accuracy(small_pool[0])):
        figure.draw_without_rendering()
        assert figure.get_tightbbox().x1 < figure.get_size_inches()[0] + 0.05


def test_one_benchmark_of_one_question():
    frame = pd.DataFrame([[1], [0]], ["a", "b"], ["q"])
    matrix = CorrectnessMatrix(frame, pd.DataFrame({"benchmark": ["x"]}, index=["q"]), np.ones((1, 2)))
    for figure in (
        plot_composition(matrix),
        plot_accuracy(matrix),
        plot_routers(evaluate_routers({"u": UniformRandom()}, matrix)),
    ):
        assert figure.axes
