"""Figures of the page on correctness forecasting."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import (
    COLORS,
    GREY,
    WIDTH,
    by_benchmark,
    figure_of,
    legend,
    log_sizes,
    percent,
    sources,
    styles_of,
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
    figure, axes = plt.subplots(figsize=(WIDTH, 3))
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
    return by_benchmark(forecasts, "predictor", "share of answers predicted correctly")


@figure_of()
def plot_training_sizes(curve: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Forecasting accuracy and log loss against the number of training questions: mean and range over the seeds.

    Parameters
    ----------
    curve : DataFrame
        From `embedllm.studies.forecasting.learning_curve`.
    published : DataFrame, optional
        From `embedllm.studies.forecasting.published_table`: hollow markers where the sizes are those of the curve, all
        questions being the largest.
    """
    sizes, styles = sorted(pd.unique(curve["size"])), styles_of(pd.unique(curve["predictor"]))
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    words = {"accuracy": "share of answers predicted correctly", "log_loss": "log loss (nats per answer)"}
    for axes, (metric, label) in zip(panels, words.items(), strict=True):
        for name, style in styles.items():
            runs = curve[curve["predictor"] == name].groupby("size")[metric].agg(["mean", "min", "max"])
            axes.plot(runs.index, runs["mean"], markersize=5, label=name, **style)
            axes.fill_between(runs.index, runs["min"], runs["max"], color=style["color"], alpha=0.2, linewidth=0)
        log_sizes(axes, sizes, "training questions")
        axes.set_ylabel(label)
    for name, rows in published.groupby("predictor", sort=False) if published is not None else ():
        at = rows["size"].fillna(sizes[-1])
        rows = rows[at.isin(sizes) & (at < sizes[-1]) | rows["size"].isna()]
        if name in styles and len(rows) > 1:
            style = styles[name] | {"linestyle": "none", "markerfacecolor": "none", "markersize": 7}
            panels[0].plot(at[rows.index], rows["accuracy"], label=f"{name}, published", **style)
    panels[0].set_title(sources(curve))
    percent(panels[0].yaxis)
    legend(figure, panels[0])
    return figure


@figure_of()
def plot_reliability(bins: pd.DataFrame) -> Figure:
    """Predicted probability of a correct answer minus the observed frequency, and how often each was predicted.

    Parameters
    ----------
    bins : DataFrame
        From `embedllm.protocol.calibration.pool_runs`.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 3.4), height_ratios=[2, 1], sharex=True)
    upper.axhline(0, color="black", linewidth=0.8)
    for name, style in styles_of(pd.unique(bins["predictor"])).items():
        rows = bins[bins["predictor"] == name]
        upper.plot(rows["predicted"], 100 * (rows["predicted"] - rows["observed"]), label=name, markersize=5, **style)
        lower.plot(rows["predicted"], rows["share"], markersize=5, **style)
    upper.set(title=sources(bins), ylabel="predicted minus\nobserved (points)")
    lower.set(xlim=(0, 1), ylim=(0, None), xlabel="predicted probability, mean of its bin", ylabel="share of\nanswers")
    percent(lower.xaxis, lower.yaxis)
    legend(figure, upper, "outside lower center")
    return figure
