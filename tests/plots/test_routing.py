"""Figures of the page on model routing."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from embedllm import KNNCorrectness, RoutingPolicy, evaluate_routers, fit_runs, route_shares
from embedllm.plots.forecasting import plot_forecasts
from embedllm.plots.routing import plot_paper_routers, plot_route_shares, plot_router_gains, plot_routers
from embedllm.protocol.routers import HighestScore, UniformRandom, standard_policies
from embedllm.studies.routing import mean_route_shares, route_runs, route_table, tally_routes


def bars(axes):
    return [bar for container in axes.containers if isinstance(container, BarContainer) for bar in container]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def title(axes):
    return "".join(axes.get_title(place) for place in ("left", "center", "right"))


class TestPaperRouters:
    def test_bars(self, evaluation):
        axes = plot_paper_routers(evaluation).axes[0]
        names = list(pd.unique(evaluation["router"]))
        benchmarks = list(pd.unique(evaluation["benchmark"]))
        for container, name in zip(axes.containers, names, strict=True):
            rows = evaluation[evaluation["router"] == name]
            assert container.get_label() == name
            np.testing.assert_array_equal([bar.get_width() for bar in container], rows["accuracy"])
            centres = [benchmarks[round(bar.get_y() + bar.get_height() / 2)] for bar in container]
            assert centres == rows["benchmark"].tolist()
        assert not [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
        assert "Figure 4" in title(axes)


class TestRouters:
    def test_markers(self, evaluation, assert_markers):
        axes = plot_routers(evaluation).axes[0]
        assert_markers(axes, evaluation, "router")
        assert axes.get_xlabel() == "share of questions answered correctly"
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

    def test_one_question(self, pool):
        one = pool.subset(questions=pool.question_ids[:1])
        assert plot_routers(evaluate_routers({"u": UniformRandom()}, one)).axes

    def test_a_method_looks_the_same_in_every_figure(self, forecasts, evaluation):
        looks = set()
        for figure in (plot_forecasts(forecasts), plot_routers(evaluation)):
            (line,) = [line for line in figure.axes[0].lines if line.get_label() == "KNN"]
            looks.add((line.get_color(), line.get_marker()))
        assert len(looks) == 1


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
            np.testing.assert_array_equal(ends, rows[["low", "high"]].dropna())
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

    def test_unknown_router_has_a_colour_of_its_own(self, routers, parts):
        shares = {name: route_shares(routers[name], parts.test) for name in ("KNN", "my own")}
        axes = plot_route_shares(shares, "toy").axes[0]
        first, second = axes.containers
        assert first[0].get_facecolor() != second[0].get_facecolor()

    def test_most_used_models_come_first(self, routers, parts):
        shares = {"best single model": route_shares(routers["best single model"], parts.test)}
        axes = plot_route_shares(shares, "toy", top=3).axes[0]
        assert labels(axes.yaxis)[0] == shares["best single model"].index[0]


class MeanOfBoth(HighestScore):
    """A router of a reader."""

    def fit(self, train, predictors):
        self.predictors_ = list(predictors.values())
        return self

    def scores(self, matrix):
        return sum(each.predict_matrix(matrix) for each in self.predictors_)


class Alternating(RoutingPolicy):
    """Another one: gives the observed models of a question decreasing shares."""

    def shares(self, matrix):
        shares = matrix.observed * np.linspace(2, 1, matrix.n_models)[:, None]
        return shares / np.where(shares.any(axis=0), shares.sum(axis=0), 1)


def test_own_routers_enter_every_figure(pool):
    runs = fit_runs(pool, {"MF": KNNCorrectness(9), "KNN": KNNCorrectness(2)}, n_seeds=2)
    routers = standard_policies() | {"mine": MeanOfBoth(), "other": Alternating()}
    routes = list(route_runs(runs, routers))
    tally = tally_routes(routes)
    axes = plot_routers(route_table(tally)).axes[0]
    drawn = {line.get_label(): line for line in axes.lines if line.get_label() in routers}
    assert list(drawn) == list(routers)
    styles = {(line.get_color(), line.get_marker()) for line in drawn.values()}
    assert len(styles) == len(routers)
    panels = {title(axes): axes for axes in plot_router_gains(tally.differences("best single model")).axes}
    for name in ("mine", "other"):
        (line,) = [line for line in panels[name].lines if line.get_marker() == drawn[name].get_marker()]
        assert line.get_color() == drawn[name].get_color()
    shares = plot_route_shares(mean_route_shares(routes, ["KNN", "mine", "other"]), pool.source).axes[0]
    assert len({container[0].get_facecolor() for container in shares.containers}) == 3
