"""Figures of the page on portfolios of models."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, figure_of, legend, sources

_LOOKS = {"greedy choice": (PALETTE[3], "-"), "most accurate models": (PALETTE[0], "--"), "random models": (GREY, "-")}
_NAMED = 8
_APART = 10  # typographic points between a number and what else is written or named


@figure_of()
def plot_portfolio(table: pd.DataFrame, n_questions: float) -> Figure:
    """Routing accuracy among the first k models, and minus that among all models, with paired 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.portfolio.Portfolio.table`. Random models are only in the upper panel.
    n_questions : float
        Test questions of a run.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 5.2), sharex=True, height_ratios=(3, 2))
    for name, rows in table.groupby("models", sort=False):
        color, line = _LOOKS[str(name)]
        upper.plot(rows["k"], rows["accuracy"], line, color=color, label=name)
        if name != "random models":
            lower.plot(rows["k"], rows["minus"], line, color=color)
            lower.fill_between(rows["k"], rows["low"], rows["high"], color=color, alpha=0.15, linewidth=0)
    n_models = int(table["k"].max())
    upper.axhline(table["accuracy"].iat[n_models - 1], color="black", linewidth=0.8, label=f"all {n_models} models")
    single = table[(table["models"] == "most accurate models") & (table["k"] == 1)]
    upper.plot(single["k"], single["accuracy"], "*", color="black", markersize=11, label="best single model")
    lower.axhline(0, color="black", linewidth=0.8)
    ticks = [k for k in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if k < 0.8 * n_models]
    upper.set(xscale="log", ylabel="correct answers (%)")
    lower.set(ylabel="minus all models\n(points)", xlabel="models to choose among, k (logarithmic)")
    lower.set_xticks([*ticks, n_models], [*map(str, ticks), str(n_models)])
    lower.minorticks_off()
    upper.set_title(f"{sources(table)}, {n_questions:,.0f} test questions in a run")
    legend(figure, upper)
    return figure


@figure_of()
def plot_pairs(pairs: pd.DataFrame) -> Figure:
    """Correlation of the answers of each pair of models beyond what is expected, over the distance of the two.

    Parameters
    ----------
    pairs : DataFrame
        From `embedllm.studies.portfolio.similar_pairs`. The first flagged ones are named.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 5.4))
    flagged, family = pairs["flagged"], pairs["same_family"]
    kinds = [
        (~flagged & ~family, "o", "#bbbbbb", 9, "other pairs"),
        (~flagged & family, "^", PALETTE[0], 22, "other pairs of one family"),
        (flagged, "o", PALETTE[3], 34, "flagged pairs"),
    ]
    for rows, marker, color, size, label in kinds:
        count = f"{label} ({rows.sum():,})"
        axes.scatter("distance", "correlation", size, data=pairs[rows], color=color, marker=marker, lw=0, label=count)
    named = pairs[flagged].head(_NAMED)
    axes.margins(0.1)
    axes.set_xlabel("distance: RMS difference of the predictions (logits)")
    axes.set_ylabel("correlation of the answers\nbeyond expectation")
    axes.set_title(f"{sources(pairs) or 'no pair of models has enough common questions'}, n = {len(pairs):,} pairs")
    legend(figure, axes)
    lines = [f"{number}  {a} | {b}" for number, (a, b) in enumerate(named[["model", "other"]].to_numpy(), start=1)]
    figure.supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=8)
    figure.draw_without_rendering()
    _number_points(axes, named[["distance", "correlation"]].to_numpy())
    return figure


def _number_points(axes: Axes, points: np.ndarray) -> None:
    """Write numbers beside points, (n_points, 2), each at the nearest place that is away from points and numbers.

    Unlike the names on a map of the models, none may be left out: the list below the figure refers to them.
    """
    taken = axes.transData.transform(points) * 72 / axes.figure.dpi
    angles = np.arange(16) * np.pi / 8
    around = np.column_stack([np.cos(angles), np.sin(angles)])
    steps = np.vstack([radius * around for radius in (_APART, 1.5 * _APART, 2 * _APART, 3 * _APART)])
    looks: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "weight": "bold"}
    for number, point in enumerate(points, start=1):
        places = taken[number - 1] + steps
        gaps = np.linalg.norm(places[:, None] - taken, axis=2).min(axis=1)
        best = int(np.argmax(gaps > 0.999 * _APART)) if (gaps > 0.999 * _APART).any() else int(gaps.argmax())
        axes.annotate(str(number), point, steps[best], textcoords="offset points", **looks)
        taken = np.vstack([taken, places[best]])
