"""Figures of the page on predicting accuracy on a held-out benchmark."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from embedllm.plots._style import GREY, PALETTE, figure_of, head, label_benchmarks, offsets, percent, sources

_HELDOUT_COLORS = {"embeddings": PALETTE[0], "model directions": PALETTE[2], "mean accuracy": GREY}


@figure_of(lambda predictions, predictor="embeddings": predictions[predictions["predictor"] == predictor])
def plot_heldout(predictions: pd.DataFrame, predictor: str = "embeddings") -> Figure:
    """Predicted against actual accuracy of the models on each held-out benchmark, one panel each.

    Parameters
    ----------
    predictions : DataFrame
        From `embedllm.studies.benchmark_prediction.predict_heldout`. Predictions are drawn as means over the seeds.
    predictor : "embeddings", "model directions" or "mean accuracy"
    """
    rows = predictions[predictions["predictor"] == predictor]
    means = rows.groupby(["benchmark", "model"], sort=False)[["predicted", "actual"]].mean()
    benchmarks = list(pd.unique(rows["benchmark"]))
    n_columns = min(4, len(benchmarks))
    n_rows = -(-len(benchmarks) // n_columns)
    figure, grid = plt.subplots(n_rows, n_columns, squeeze=False, figsize=(7.5, 1.9 * n_rows + 0.8))
    for axes, benchmark in itertools.zip_longest(grid.flat, benchmarks):
        if benchmark is None:
            axes.remove()
            continue
        points = means.loc[benchmark]
        color = _HELDOUT_COLORS[predictor]
        axes.plot(points["actual"], points["predicted"], "o", color=color, markersize=3.5, alpha=0.6, linewidth=0)
        axes.axline((0.5, 0.5), slope=1, color="#888888", linewidth=0.8)  # on it, predicted and actual are the same
        low, high = points.min().min(), points.max().max()
        if high > low:
            margin = 0.08 * (high - low)
            axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.set_title(benchmark, fontsize=9)
        axes.set_box_aspect(1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(3))
        percent(axes.xaxis, axes.yaxis)
        axes.tick_params(labelsize=8)
    figure.supxlabel("actual accuracy of a model", fontsize=10)
    figure.supylabel(f"predicted from {predictor}", fontsize=10)
    head(figure, sources(rows))
    return figure


@figure_of()
def plot_rank_correlations(summary: pd.DataFrame) -> Figure:
    """Kendall's tau of each predictor on each held-out benchmark, with its 95 % interval.

    Parameters
    ----------
    summary : DataFrame
        From `embedllm.studies.benchmark_prediction.summarize_correlations`; differences between predictors are not
        drawn.
    """
    rows = summary[summary["predictor"].isin(list(_HELDOUT_COLORS))]
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * rows["benchmark"].nunique() + 1.6))
    benchmarks = label_benchmarks(axes, rows, "n_models")
    names = list(pd.unique(rows["predictor"]))
    for offset, name, marker in zip(offsets(len(names)), names, "osD", strict=False):
        of_name = rows[rows["predictor"] == name]
        places = [benchmarks.index(benchmark) + offset for benchmark in of_name["benchmark"]]
        color = _HELDOUT_COLORS[name]
        axes.hlines(places, of_name["low"], of_name["high"], color=color, linewidth=1)
        axes.plot(of_name["tau"], places, marker, color=color, markersize=5, linewidth=0, label=name)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="Kendall's tau between predicted and actual accuracy", ylabel="held-out benchmark (models)")
    axes.set_title(sources(rows))
    figure.legend(loc="outside upper center", ncols=3)
    return figure
