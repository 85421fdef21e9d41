"""Figures of the page on new models."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, figure_of, legend, log_sizes, sources

_METRICS = {"accuracy": "answers predicted correctly (%)", "log_loss": "log loss (nats per answer)"}


@figure_of()
def plot_new_models(table: pd.DataFrame) -> Figure:
    """Accuracy and log loss of forecasts for new models by the number of their answers, with intervals over models.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.new_models.curve_table`, of one way of asking. Methods with all answers are lines
        across.
    """
    return _curves(table, "method", "answers of the new model")


@figure_of()
def plot_asking(table: pd.DataFrame) -> Figure:
    """Accuracy and log loss by the number of answers, for several ways to choose the questions.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.new_models.curve_table`, of one method and of those with all answers.
    """
    curve = table.groupby("method")["n"].transform("min") < table["n"].max()
    return _curves(table.assign(line=table["asking"].where(curve, table["method"])), "line", "questions asked")


@figure_of()
def plot_benchmark_errors(errors: pd.DataFrame) -> Figure:
    """Mean absolute error of estimated accuracies on benchmarks by the number of answers, with intervals over models.

    Parameters
    ----------
    errors : DataFrame
        From `embedllm.studies.new_models.error_table`.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
    for (name, rows), color, marker in zip(errors.groupby("estimate", sort=False), PALETTE, "osD", strict=False):
        _line(axes, rows, "error", str(name), {"color": color, "marker": marker})
        axes.fill_between(rows["n"], rows["low"], rows["high"], color=color, alpha=0.2, linewidth=0)
    log_sizes(axes, errors["n"], "questions asked")
    axes.set(ylim=(0, None), ylabel="mean absolute error (points)", title=sources(errors))
    axes.legend()
    return figure


def _curves(table: pd.DataFrame, by: str, label: str) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 4.2))
    least = table.groupby(by, sort=False)["n"].min()
    curves = least.index[least < table["n"].max()]  # the others got all answers
    styles = {
        name: {"color": color, "marker": marker}
        for name, color, marker in zip(curves, PALETTE[:7] + PALETTE[8:], "osDv^PX<>", strict=False)
    }
    dashes = itertools.cycle([("black", "--"), (GREY, ":"), ("black", "-.")])
    for name in least.index:
        rows, (color, dash) = table[table[by] == name], ("", "") if name in styles else next(dashes)
        for axes, metric in zip(panels, _METRICS, strict=True):
            if name in styles:
                _line(axes, rows, metric, name, styles[name])
                ends = (rows[f"{metric}_{end}"] for end in ("low", "high"))
                axes.fill_between(rows["n"], *ends, color=styles[name]["color"], alpha=0.08, linewidth=0)
            else:
                axes.axhline(rows[metric].iloc[0], color=color, linestyle=dash, linewidth=1.2, label=name)
    for axes, words in zip(panels, _METRICS.values(), strict=True):
        log_sizes(axes, table.loc[table[by].isin(list(styles)), "n"] if styles else table["n"], label)
        axes.set_ylabel(words)
    panels[0].set_title(sources(table))
    legend(figure, panels[0])
    return figure


def _line(axes: Axes, rows: pd.DataFrame, column: str, name: str, style: dict[str, str]) -> None:
    axes.plot(rows["n"], rows[column], label=name, markersize=4, **style)  # type: ignore[arg-type]
