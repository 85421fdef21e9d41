"""Figures of the page on correctness forecasting."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from embedllm.plots._style import (
    COLORS,
    GREY,
    MARKERS,
    by_benchmark,
    colors_of,
    figure_of,
)


@figure_of(lambda history, data: history.set_axis(history.index + 1).rename_axis("epoch").assign(data=data))
def plot_history(history: pd.DataFrame, data: str) -> Figure:
    """Cross-entropy of the factorization over the epochs of its fit.

    Parameters
    ----------
    history : DataFrame
        `MatrixFactorization.history_`, with validation data.
    data : str
        Source of the training data.
    """
    figure, axes = plt.subplots(figsize=(7.5, 3))
    epochs = history.index + 1
    axes.plot(epochs, history["train_loss"], "o-", color=GREY, label="training, with noise")
    axes.plot(epochs, history["val_loss"], "s-", color=COLORS["MF"], label="validation")
    axes.set(xlabel="epoch", ylabel="cross-entropy (nats per answer)", title=data)
    axes.legend()
    return figure


@figure_of()
def plot_forecasts(forecasts: pd.DataFrame) -> Figure:
    """Forecasting accuracy of each predictor, overall and by benchmark, with two standard errors to each side.

    Parameters
    ----------
    forecasts : DataFrame
        From `evaluate_forecasts`.
    """
    return by_benchmark(forecasts, "predictor", "share of answers forecast rightly")


@figure_of()
def plot_training_sizes(curve: pd.DataFrame) -> Figure:
    """Forecasting accuracy and log loss against the number of training questions: mean and range over the seeds.

    Parameters
    ----------
    curve : DataFrame
        From `embedllm.studies.learning_curve.learning_curve`.
    """
    sizes = sorted(pd.unique(curve["size"]))
    methods = list(pd.unique(curve["predictor"]))
    colors = colors_of(methods)
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.6))
    words = {"accuracy": "share of answers forecast rightly", "log_loss": "log loss (nats per answer)"}
    for axes, (metric, label) in zip(panels, words.items(), strict=True):
        for name in methods:
            over_seeds = curve[curve["predictor"] == name].groupby("size")[metric].agg(["mean", "min", "max"])
            axes.plot(
                over_seeds.index,
                over_seeds["mean"],
                f"-{MARKERS.get(name, 'o')}",
                color=colors[name],
                markersize=5,
                label=name,
            )
            axes.fill_between(
                over_seeds.index, over_seeds["min"], over_seeds["max"], color=colors[name], alpha=0.2, linewidth=0
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=90)
        axes.minorticks_off()
        axes.set(xlabel="training questions", ylabel=label)
    panels[0].set_title(", ".join(pd.unique(curve["data"])))
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@figure_of()
def plot_reliability(bins: pd.DataFrame) -> Figure:
    """Observed frequency of right answers against the predicted probability, and how often each was predicted.

    Parameters
    ----------
    bins : DataFrame
        From `embedllm.protocol.calibration.pool_repetitions`.
    """
    methods = list(pd.unique(bins["predictor"]))
    colors = colors_of(methods)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.9))
    left.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle="--", label="perfect")
    for name in methods:
        rows = bins[bins["predictor"] == name]
        style = {"color": colors[name], "marker": MARKERS.get(name, "o"), "markersize": 5}
        left.plot(rows["predicted"], rows["observed"], label=name, **style)
        right.plot(rows["predicted"], rows["share"], **style)
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=", ".join(pd.unique(bins["data"])))
    left.set(xlabel="predicted probability of a right answer", ylabel="share of right answers")
    right.set(xlim=(0, 1), ylim=(0, None), xlabel="predicted probability, mean of its bin", ylabel="share of answers")
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
