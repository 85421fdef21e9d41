"""Figures of the page on the contributions of benchmarks."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from embedllm.plots._style import PALETTE, WIDTH, figure_of, head, label_rows, sources


@figure_of()
def plot_contribution_sums(sums: pd.DataFrame) -> Figure:
    """Figure 7: what each benchmark gives to all others, and what it gains from all others, with 95 % intervals.

    Parameters
    ----------
    sums : DataFrame
        From `embedllm.studies.contributions.Contributions.sums`, of the test MSE.
    """
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(WIDTH, 0.25 * len(sums) + 1.3))
    places = np.arange(len(sums))
    for axes, name, label in zip(panels, ("gives", "gains"), ("gives (row sum)", "gains (column sum)"), strict=True):
        axes.barh(places, sums[name].fillna(0), 0.7, color=np.where(sums[name] < 0, PALETTE[1], PALETTE[0]))
        axes.hlines(places, sums[f"{name}, low"], sums[f"{name}, high"], color="#333333", linewidth=1)
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=label)
        for place in places[sums[name].isna()]:
            axes.annotate("cannot be tested", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    label_rows(panels[0], list(sums["benchmark"]))
    figure.supxlabel("change of the total test MSE, 100 splits: above 0 helps", fontsize=9)
    head(figure, sources(sums))
    return figure


@figure_of()
def plot_contributions(table: pd.DataFrame, framed: Iterable[tuple[str, str]] = (), annotated: int = 10) -> Figure:
    """Heatmap of the contribution of each benchmark to each other one; above 0 helps, blank where undefined.

    The colours span the contributions to other benchmarks, those to itself are mostly larger. Columns of a benchmark
    with few questions are hatched.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.contributions.Contributions.table`.
    framed : iterable of (contributor, testee)
        Cells to draw a frame around.
    annotated : int
        With at most so many benchmarks, each cell shows its value, and a star where the interval excludes 0; with more,
        only the star.
    """
    benchmarks = list(pd.unique(table["testee"]))
    values, clear = (
        table.pivot(index="contributor", columns="testee", values=name).reindex(index=benchmarks, columns=benchmarks)
        for name in ("contribution", "clear")
    )
    limit = np.nanmax(values.mask(np.eye(len(values), dtype=bool)).abs().to_numpy(), initial=0) or 1
    decimals = 1 if limit >= 1 else 2 if limit >= 0.1 else 3
    number = "" if len(benchmarks) > annotated else f"{{:.{decimals}f}}"
    texts = values.map(number.format) + np.where(clear.eq(True), "*", "")
    figure, axes = plt.subplots(figsize=(WIDTH, min(9.0, 0.28 * len(benchmarks) + 1.8)))
    measure = table["measure"].iat[0]
    label = "rise of the total test MSE without it" if "MSE" in measure else f"{measure} lost without it (points)"
    bar = {"label": label, "extend": "both", "location": "top"}
    looks = {"cmap": "vlag_r", "vmin": -limit, "vmax": limit, "linewidths": 0.5}
    sns.heatmap(values, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 7.5}, cbar_kws=bar, **looks)
    questions = table.drop_duplicates("testee").set_index("testee")
    for place, few in enumerate(questions.loc[benchmarks, "few"]):
        if few:
            axes.axvspan(place, place + 1, fill=False, hatch="///", edgecolor="#BBBBBB", linewidth=0)
    for contributor, testee in framed:
        corner = benchmarks.index(testee), benchmarks.index(contributor)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    axes.grid(visible=False)
    axes.set(xlabel="testee (questions)", ylabel="contributor", title=sources(table))
    axes.set_xticklabels([f"{name} ({questions.at[name, 'n_questions']:,})" for name in benchmarks], ha="right")
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=40)
    return figure
