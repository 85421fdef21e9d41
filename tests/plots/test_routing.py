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
    def test_overall_has_all_routers_and_the_benchmarks_a_few(self, evaluation):
        upper, lower = plot_routers(evaluation).axes
        overall = evaluation[evaluation["benchmark"] == "overall"].sort_values("accuracy", ascending=False)
        assert labels(upper.yaxis) == overall["router"].tolist()
        assert [line.get_xdata()[0] for line in upper.lines if len(line.get_xdata())] == overall["accuracy"].tolist()
        drawn = {line.get_label(): line for line in lower.lines if not line.get_label().startswith("_")}
        assert set(drawn) == {"KNN", "best single model", "my own"}
        benchmarks = [name for name in pd.unique(evaluation["benchmark"]) if name != "overall"]
        for name, line in drawn.items():
            rows = evaluation[(evaluation["router"] == name) & (evaluation["benchmark"] != "overall")]
            np.testing.assert_array_equal(line.get_xdata(), rows["accuracy"])
            assert [benchmarks[round(place)] for place in line.get_ydata()] == rows["benchmark"].tolist()
        assert lower.get_xlabel() == "share of questions answered correctly"
        assert "test questions" in title(lower)

    def test_error_bars_are_two_standard_errors(self, evaluation):
        ends = {
            tuple(np.round(segment[:, 0], 9))
            for axes in plot_routers(evaluation).axes
            for container in axes.containers
            for segment in container[2][0].get_segments()
        }
        half = 2 * evaluation["stderr"]
        every = zip(np.round(evaluation["accuracy"] - half, 9), np.round(evaluation["accuracy"] + half, 9), strict=True)
        assert ends <= set(every)
        assert len(ends) > 1

    def test_benchmark_without_a_question(self, evaluation):
        # As in a test part that holds none of a small benchmark's questions.
        table = evaluation.copy()
        empty = table["benchmark"] == "bench-3"
        table.loc[empty, ["accuracy", "stderr"]] = np.nan
        table.loc[empty, "n_questions"] = 0
        assert "bench-3 (0)" in labels(plot_routers(table).axes[1].yaxis)

    def test_one_question(self, pool):
        one = pool.subset(questions=pool.question_ids[:1])
        assert plot_routers(evaluate_routers({"u": UniformRandom()}, one)).axes

    def test_a_method_looks_the_same_in_every_figure(self, forecasts, evaluation):
        looks = set()
        for axes in (plot_forecasts(forecasts).axes[0], plot_routers(evaluation).axes[1]):
            (line,) = [line for line in axes.lines if line.get_label() == "KNN"]
            looks.add((line.get_color(), line.get_marker()))
        assert len(looks) == 1


class TestRouterGains:
    def test_a_marker_and_an_interval_for_each_benchmark(self, gains):
        (axes,) = plot_router_gains(gains).axes
        drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert list(drawn) == ["KNN", "my own"]
        benchmarks = gains["benchmark"].unique().tolist()
        ends = [np.array([segment[:, 0] for segment in each.get_segments()]) for each in axes.collections]
        for (name, line), intervals in zip(drawn.items(), ends, strict=True):
            rows = gains[gains["router"] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["points"])
            assert [benchmarks[round(place)] for place in line.get_ydata()] == rows["benchmark"].tolist()
            np.testing.assert_array_equal(intervals, rows[["low", "high"]].dropna())
        assert " ".join(axes.get_xlabel().split()) == "accuracy minus that of the best single model (points)"
        sizes = gains.drop_duplicates("benchmark")["n_questions"]
        expected = [f"{name} ({size:,})" for name, size in zip(benchmarks, sizes, strict=True)]
        assert labels(axes.yaxis) == expected


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
    upper, lower = plot_routers(route_table(tally)).axes
    assert set(labels(upper.yaxis)) == set(routers)
    drawn = {line.get_label(): line for line in lower.lines if line.get_label() in routers}
    assert {"mine", "other"} < set(drawn)
    styles = {(line.get_color(), line.get_marker()) for line in drawn.values()}
    assert len(styles) == len(drawn)
    (axes,) = plot_router_gains(tally.differences("best single model")).axes
    for name in ("mine", "other"):
        (line,) = [line for line in axes.lines if line.get_label() == name]
        assert (line.get_color(), line.get_marker()) == (drawn[name].get_color(), drawn[name].get_marker())
    shares = plot_route_shares(mean_route_shares(routes, ["KNN", "mine", "other"]), pool.source).axes[0]
    assert len({container[0].get_facecolor() for container in shares.containers}) == 3
