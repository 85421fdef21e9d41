"""Figures by their structure: what stands on the axes, how many marks there are and what they are worth."""

import io

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
from embedllm.routing import Oracle, PredictedBest, SingleBest, UniformRandom


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
        "single best": SingleBest(parts.train),
        "uniform random": UniformRandom(),
        "my own": PredictedBest(KNNCorrectness(3).fit(parts.train)),
    }


@pytest.fixture(scope="module")
def evaluation(parts, routers):
    return evaluate_routers(routers, parts.test)


@pytest.fixture(scope="module")
def history():
    return pd.DataFrame(
        {"train_loss": [0.7, 0.6, 0.55], "val_loss": [0.69, 0.61, 0.58], "val_accuracy": [0.5, 0.6, 0.7]}
    )


@pytest.fixture(scope="module")
def figures(pool, parts, history, forecasts, evaluation, routers):
    """The functions that draw each figure of the companion."""
    shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "single best", "uniform random")}
    return {
        "composition": lambda: plots.plot_composition(pool),
        "accuracy": lambda: plots.plot_accuracy(pool),
        "history": lambda: plots.plot_history(history, pool.source),
        "forecasts": lambda: plots.plot_forecasts(forecasts),
        "routers": lambda: plots.plot_routers(evaluation),
        "route shares": lambda: plots.plot_route_shares(shares, pool.source),
    }


FIGURES = ["composition", "accuracy", "history", "forecasts", "routers", "route shares"]


def title(axes):
    return "".join(axes.get_title(place) for place in ("left", "center", "right"))


class TestEveryFigure:
    def test_there_is_a_test_for_each(self, figures):
        assert list(figures) == FIGURES
        assert len([name for name in dir(plots) if name.startswith("plot_")]) == len(FIGURES)

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
        assert figure.axes[0].get_xlabel()
        assert any(pool.source in title(axes) for axes in figure.axes)

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
        left, right = plots.plot_composition(pool).axes
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
        right = plots.plot_composition(pool).axes[1]
        drawn = [
            line.get_xdata()[0]
            for line in right.lines
            if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
        ]
        for name in pool.benchmark_names:
            assert np.isclose(drawn, medians[name]).any(), name

    def test_percent(self, pool):
        assert all(label.endswith("%") for label in labels(plots.plot_composition(pool).axes[1].xaxis))


class TestAccuracy:
    def test_cells(self, pool):
        axes, bar = plots.plot_accuracy(pool).axes
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
        figure = plots.plot_accuracy(make_matrix(n_models=300, n_questions=40))
        assert figure.get_size_inches()[1] <= 9
        assert len(labels(figure.axes[0].yaxis)) <= 40


class TestHistory:
    def test_lines(self, history):
        (axes,) = plots.plot_history(history, "toy").axes
        assert len(axes.lines) == 2
        for line, column in zip(axes.lines, ("train_loss", "val_loss"), strict=True):
            assert line.get_xdata().tolist() == [1, 2, 3]
            assert line.get_ydata().tolist() == history[column].tolist()
        assert axes.get_xlabel() == "epoch"
        assert "nats" in axes.get_ylabel()
        assert len(axes.get_legend().get_texts()) == 2


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
        figure = plots.plot_forecasts(forecasts)
        drawn = assert_markers(figure.axes[0], forecasts, "predictor", "n_questions")
        assert len(drawn) == 3
        assert figure.axes[0].get_xlabel() == "share of answers forecast rightly"
        assert "test questions" in figure.axes[0].get_ylabel()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(drawn)

    def test_a_method_looks_alike_in_every_figure(self, forecasts, evaluation):
        looks = []
        for figure in (plots.plot_forecasts(forecasts), plots.plot_routers(evaluation)):
            (line,) = [line for line in figure.axes[0].lines if line.get_label() == "KNN"]
            looks.append((line.get_color(), line.get_marker()))
        assert looks[0] == looks[1]


class TestRouters:
    def test_markers(self, evaluation):
        axes = plots.plot_routers(evaluation).axes[0]
        assert_markers(axes, evaluation, "router", "n_questions")
        assert axes.get_xlabel() == "share of questions answered rightly"
        assert "test questions" in axes.get_ylabel()

    def test_error_bars_are_two_standard_errors(self, evaluation):
        axes = plots.plot_routers(evaluation).axes[0]
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
        assert "bench-3 (0)" in labels(plots.plot_routers(table).axes[0].yaxis)


class TestRouteShares:
    @pytest.mark.parametrize("top", [3, 12])
    def test_bars(self, routers, parts, top):
        shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "single best")}
        axes = plots.plot_route_shares(shares, "toy", top=top).axes[0]
        models = min(top, 9)
        assert len(bars(axes)) == 2 * models
        assert len(labels(axes.yaxis)) == models
        for container, (_, series) in zip(axes.containers, shares.items(), strict=True):
            assert [bar.get_width() for bar in container] == series[labels(axes.yaxis)].tolist()
        assert "share" in axes.get_xlabel()
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(shares)

    def test_router_that_the_style_knows_nothing_of(self, routers, parts):
        shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "my own")}
        axes = plots.plot_route_shares(shares, "toy").axes[0]
        first, second = axes.containers
        assert first[0].get_facecolor() != second[0].get_facecolor()

    def test_most_used_models_come_first(self, routers, parts):
        shares = {"single best": route_shares(routers["single best"], parts.test)}
        axes = plots.plot_route_shares(shares, "toy", top=3).axes[0]
        assert labels(axes.yaxis)[0] == shares["single best"].index[0]


def test_simulated_pool_fits_on_the_page(small_pool):
    # 112 models and 10 benchmarks, the case that the book shows.
    for figure in (plots.plot_composition(small_pool[0]), plots.plot_accuracy(small_pool[0])):
        figure.draw_without_rendering()
        assert figure.get_tightbbox().x1 < figure.get_size_inches()[0] + 0.05


def test_one_benchmark_of_one_question():
    frame = pd.DataFrame([[1], [0]], ["a", "b"], ["q"])
    matrix = CorrectnessMatrix(frame, pd.DataFrame({"benchmark": ["x"]}, index=["q"]), np.ones((1, 2)))
    for figure in (
        plots.plot_composition(matrix),
        plots.plot_accuracy(matrix),
        plots.plot_routers(evaluate_routers({"u": UniformRandom()}, matrix)),
    ):
        assert figure.axes
