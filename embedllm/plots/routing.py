"""Figures of the page on model routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import (
    COLORS,
    WIDTH,
    beside_row,
    figure_of,
    label_benchmarks,
    label_rows,
    legend,
    offsets,
    percent,
    sources,
    styles_of,
)


@figure_of()
def plot_paper_routers(table: pd.DataFrame) -> Figure:
    """Accuracy of the routers of the paper's Figure 4, overall and by benchmark.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.routing.paper_routers`.
    """
    routers = list(pd.unique(table["router"]))
    figure, axes = plt.subplots(figsize=(WIDTH, 0.09 * len(table) + 1.4))
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
    legend(figure, axes)
    return figure


SHOWN = ("MF", "best single model", "best model per benchmark", "KNN")
"""Routers that are drawn benchmark by benchmark; others, but a reader's own, are drawn overall only."""


@figure_of()
def plot_routers(evaluation: pd.DataFrame) -> Figure:
    """Accuracy of each router overall, and of a few by benchmark, with two standard errors to each side.

    Parameters
    ----------
    evaluation : DataFrame
        From `evaluate_routers`.
    """
    overall = evaluation[evaluation["benchmark"] == "overall"].sort_values("accuracy", ascending=False)
    parts = evaluation[(evaluation["benchmark"] != "overall") & _by_benchmark(evaluation)]
    n_benchmarks, styles = parts["benchmark"].nunique(), styles_of(pd.unique(evaluation["router"]))
    heights = [0.18 * len(overall), 0.22 * n_benchmarks]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, sum(heights) + 2), sharex=True, height_ratios=heights)
    label_rows(upper, overall["router"].tolist())
    for place, row in enumerate(overall.to_dict("records")):
        _draw(upper, [place], pd.DataFrame([row]), styles[row["router"]], label=None)
        beside_row(upper, place, f"{row['accuracy']:.1%}", bold=row["router"] == "MF")
    upper.set(title=f"{sources(evaluation)}: overall, {overall['n_questions'].max():,.0f} test questions")
    benchmarks, methods = label_benchmarks(lower, parts), list(pd.unique(parts["router"]))
    for step, name in zip(offsets(len(methods)), methods, strict=True):
        rows = parts[parts["router"] == name]
        _draw(lower, [benchmarks.index(each) + step for each in rows["benchmark"]], rows, styles[name], label=name)
    lower.set(title="by benchmark (test questions)", xlabel="share of questions answered correctly")
    left, right = lower.get_xlim()
    lower.set_xlim(max(left, -0.02), min(right, 1.02))  # error bars of few questions reach beyond 0 and 1
    percent(lower.xaxis)
    for axes in (upper, lower):
        axes.grid(axis="y", visible=False)
    legend(figure, axes, "outside lower center")
    return figure


def _draw(axes: Axes, places: Sequence[float], rows: pd.DataFrame, style: Mapping[str, Any], label: str | None) -> None:
    axes.errorbar(rows["accuracy"], places, xerr=2 * rows["stderr"], fmt="none", ecolor=style["color"], elinewidth=0.8)
    axes.plot(rows["accuracy"], places, linewidth=0, markersize=6, label=label, **style)


def _by_benchmark(table: pd.DataFrame) -> pd.Series:
    """Tell which rows are of routers to draw benchmark by benchmark: all, if none of `SHOWN` is among them."""
    shown = table["router"].isin(SHOWN) | ~table["router"].isin(COLORS)
    return shown if shown.any() else ~shown


@figure_of()
def plot_router_gains(gains: pd.DataFrame) -> Figure:
    """Accuracy of a few routers minus that of a reference, overall and by benchmark, with paired 95 % intervals.

    Parameters
    ----------
    gains : DataFrame
        `Tally.differences` of routes.
    """
    gains = gains[_by_benchmark(gains)]
    methods, n_benchmarks = list(pd.unique(gains["router"])), gains["benchmark"].nunique()
    figure, axes = plt.subplots(figsize=(WIDTH, max(0.24, 0.08 * len(methods)) * n_benchmarks + 1.4))
    benchmarks = label_benchmarks(axes, gains)
    for step, (name, style) in zip(offsets(len(methods)), styles_of(methods).items(), strict=True):
        rows = gains[gains["router"] == name]
        places = np.array([benchmarks.index(benchmark) + step for benchmark in rows["benchmark"]])
        known = rows["low"].notna().to_numpy()  # from enough questions
        axes.hlines(places[known], *rows[["low", "high"]].to_numpy()[known].T, color=style["color"], linewidth=1.5)
        axes.plot(rows["points"], places, linewidth=0, markersize=5, label=name, **style)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"accuracy minus that of the {gains['minus'].iat[0]} (points)", title=sources(gains))
    axes.set_ylabel("benchmark (test questions)")
    legend(figure, axes, "outside lower center")
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
    figure, axes = plt.subplots(figsize=(WIDTH, 0.22 * len(table) + 1.2))
    table.plot.barh(ax=axes, color={name: style["color"] for name, style in styles_of(table).items()}, width=0.8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    percent(axes.xaxis)
    axes.set(xlabel="share of the test questions", ylabel="", title=data)
    axes.legend(title="router")
    return figure
