"""Figures of the page on model routing."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import by_benchmark, figure_of, head, label_benchmarks, percent, sources, styles_of


@figure_of()
def plot_paper_routers(table: pd.DataFrame) -> Figure:
    """Accuracy of the routers of the paper's Figure 4, overall and by benchmark.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.routing.paper_routers`.
    """
    routers = list(pd.unique(table["router"]))
    figure, axes = plt.subplots(figsize=(7.5, 0.16 * len(table) + 1.4))
    benchmarks = label_benchmarks(axes, table)
    height = 0.8 / len(routers)
    for number, (name, style) in enumerate(styles_of(routers).items()):
        rows = table[table["router"] == name]
        places = [benchmarks.index(each) + height * (number - (len(routers) - 1) / 2) for each in rows["benchmark"]]
        axes.barh(places, rows["accuracy"], height, color=style["color"], label=name)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1)
    percent(axes.xaxis)
    label = "share of questions answered correctly"
    axes.set(xlabel=label, ylabel="benchmark (test questions)", title=f"Figure 4 on: {sources(table)}")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@figure_of()
def plot_routers(evaluation: pd.DataFrame) -> Figure:
    """Accuracy of each router, overall and by benchmark, with two standard errors to each side.

    Parameters
    ----------
    evaluation : DataFrame
        From `evaluate_routers`.
    """
    return by_benchmark(evaluation, "router", "share of questions answered correctly")


@figure_of()
def plot_router_gains(gains: pd.DataFrame) -> Figure:
    """Accuracy of routers minus that of a reference, overall and by benchmark, with paired 95 % intervals.

    Parameters
    ----------
    gains : DataFrame
        `Tally.differences` of routes.
    """
    # The oracle, which needs the answers, comes last.
    methods = sorted(pd.unique(gains["router"]), key=lambda name: name == "oracle")
    styles, n_benchmarks = styles_of(methods), gains["benchmark"].nunique()
    n_columns = min(3, len(methods))
    n_rows = -(-len(methods) // n_columns)
    size = (7.5, n_rows * (0.2 * n_benchmarks + 0.9) + 0.4)
    figure, grid = plt.subplots(n_rows, n_columns, sharex="row", sharey=True, squeeze=False, figsize=size)
    benchmarks = label_benchmarks(grid[0, 0], gains)
    for axes, name in zip(grid.flat, methods, strict=False):
        rows = gains[gains["router"] == name]
        places = [benchmarks.index(benchmark) for benchmark in rows["benchmark"]]
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axhline(0.5, color="#888888", linewidth=0.8)
        known = rows["low"].notna().to_numpy()  # from enough questions
        ends = rows[["low", "high"]].to_numpy()[known].T
        axes.hlines(np.array(places)[known], *ends, color=styles[name]["color"], linewidth=1.5)
        axes.plot(rows["points"], places, linewidth=0, markersize=5, **styles[name])
        axes.set(title=name, xlabel=f"minus {rows['minus'].iat[0]}\n(points)")
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    head(figure, sources(gains))
    figure.supylabel("benchmark (test questions)", fontsize=10)
    return figure


@figure_of(lambda shares, data, *_: pd.DataFrame(shares).rename_axis("model").assign(data=data))
def plot_route_shares(shares: dict[str, pd.Series], data: str, top: int = 12) -> Figure:
    """Share of the questions that the most used models receive from each router.

    Parameters
    ----------
    shares : mapping from the name of a router to its `route_shares`
    data : str
        Source of the questions.
    top : int
        Models shown, those with the largest share from any router.
    """
    table = pd.DataFrame(shares)
    table = table.loc[table.max(axis=1).nlargest(top).index]
    figure, axes = plt.subplots(figsize=(7.5, 0.3 * len(table) + 1.2))
    table.plot.barh(ax=axes, color={name: style["color"] for name, style in styles_of(table).items()}, width=0.8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    percent(axes.xaxis)
    axes.set(xlabel="share of the test questions", ylabel="", title=data)
    axes.legend(title="router")
    return figure
