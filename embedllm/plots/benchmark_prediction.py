"""Figures of the page on predicting accuracy on a held-out benchmark."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import (
    GREY,
    PALETTE,
    WIDTH,
    figure_of,
    head,
    label_benchmarks,
    label_rows,
    legend,
    offsets,
    percent,
    sources,
)

_COLORS = {"SGD": PALETTE[1], "exact": PALETTE[0], "ridge": PALETTE[2], "mean accuracy": GREY}
_MARKERS = dict(zip(_COLORS, "so^D", strict=True))


@figure_of()
def plot_heldout(counts: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """Figure 5: splits with a significant tau, by held-out benchmark, and predicted against actual accuracy on one.

    Parameters
    ----------
    counts : DataFrame
        From `embedllm.studies.benchmark_prediction.count_significant`, of the predictors to be drawn.
    models : DataFrame
        `embedllm.studies.benchmark_prediction.Heldout.models`, of the same predictors and one benchmark.
    """
    benchmarks, predictors = list(pd.unique(counts["benchmark"])), list(pd.unique(counts["predictor"]))
    heights = [0.28 * len(benchmarks), 2.4]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, sum(heights) + 1.6), height_ratios=heights)
    tested = counts.groupby("benchmark", sort=False)["n_test"].max()
    label_rows(upper, [f"{name} ({n:,})" if n else f"{name}: too few models" for name, n in tested.items()])
    height = 0.8 / len(predictors)
    for number, name in enumerate(predictors):
        rows = counts[counts["predictor"] == name]
        places = [benchmarks.index(each) + height * (number - (len(predictors) - 1) / 2) for each in rows["benchmark"]]
        upper.barh(places, rows["splits"].fillna(0), height, color=_COLORS[name], label=name)
        points = models[models["predictor"] == name]
        looks = {"color": _COLORS[name], "markersize": 4, "alpha": 0.6, "linewidth": 0}
        lower.plot(points["actual"], points["predicted"], _MARKERS[name], **looks)
    upper.axvline(50, color="#888888", linewidth=0.8, linestyle="--")
    upper.grid(axis="y", visible=False)
    upper.set(xlim=(0, 100), xlabel="splits with p < 0.05, of 100", ylabel="held-out benchmark (test models)")
    lower.axline((0.5, 0.5), slope=1, color="#888888", linewidth=0.8)  # on it, predicted and actual are equal
    if (values := models[["predicted", "actual"]].dropna()).size:
        low, high = values.min().min(), values.max().max()
        margin = 0.06 * (high - low) + 0.01
        lower.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    percent(lower.xaxis, lower.yaxis)
    lower.set_box_aspect(1)
    shown = " ".join(pd.unique(models["benchmark"]))
    lower.set(xlabel=f"actual accuracy on {shown}", ylabel="predicted accuracy")
    head(figure, sources(counts))
    legend(figure, upper, "outside lower center")
    return figure


@figure_of()
def plot_rank_correlations(summary: pd.DataFrame) -> Figure:
    """Ours: Kendall's tau over all models on each held-out benchmark, with its 95 % interval.

    Parameters
    ----------
    summary : DataFrame
        From `embedllm.studies.benchmark_prediction.summarize_correlations`; the difference of the predictors is not
        drawn.
    """
    rows = summary[summary["predictor"].isin(list(_COLORS))]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.28 * rows["benchmark"].nunique() + 1.4))
    benchmarks = label_benchmarks(axes, rows, "n_models")
    names = list(pd.unique(rows["predictor"]))
    for offset, name in zip(offsets(len(names)), names, strict=True):
        of_name = rows[rows["predictor"] == name]
        places = [benchmarks.index(benchmark) + offset for benchmark in of_name["benchmark"]]
        axes.hlines(places, of_name["low"], of_name["high"], color=_COLORS[name], linewidth=1)
        axes.plot(of_name["tau"], places, _MARKERS[name], color=_COLORS[name], markersize=5, linewidth=0, label=name)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="Kendall's tau between predicted and actual accuracy", ylabel="held-out benchmark (models)")
    axes.set_title(sources(rows))
    legend(figure, axes)
    return figure
