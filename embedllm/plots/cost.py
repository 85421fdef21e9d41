"""Figures of the page on cost."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import COLORS, GREY, PALETTE, WIDTH, figure_of, value_rows


@figure_of()
def plot_training_flops(training: pd.DataFrame, published: float) -> Figure:
    """FLOPs of training by each procedure, on a logarithmic axis, with the published value.

    Parameters
    ----------
    training : DataFrame
        From `embedllm.studies.cost.training_flops`.
    published : float
        TFLOPs.
    """
    sizes = zip(training.index, training["questions"], training["epochs"], strict=True)
    labels = [f"{procedure}\n{questions:,} questions, {epochs} epochs" for procedure, questions, epochs in sizes]
    colors = [GREY, *[PALETTE[0]] * (len(training) - 1)]  # the first is of the paper's data
    figure, axes = _log_rows(labels, training["TFLOPs"], colors, f"published: {published:g}", published, 0.5)
    axes.set(xlabel="TFLOPs of the training", title=training["data"].iat[-1])
    return figure


@figure_of()
def plot_routing_times(costs: pd.DataFrame, published: float) -> Figure:
    """Time to route 3,000 questions by each method, on a logarithmic axis, with the published value.

    Parameters
    ----------
    costs : DataFrame
        From `embedllm.studies.cost.measure_costs`.
    published : float
        Seconds, on another machine.
    """
    routes = costs[costs["what"] != "fit"]
    labels = [f"{method}: {what}" for method, what in zip(routes["method"], routes["what"], strict=True)]
    colors = [COLORS.get(method.partition(",")[0], GREY) for method in routes["method"]]
    words = f"published, on an A100: {published:.2f} s"
    figure, axes = _log_rows(labels, routes["s for 3,000"], colors, words, published, 0.4)
    axes.set(xlabel="seconds for 3,000 questions", title=routes["data"].iat[0])
    return figure


def _log_rows(
    labels: list[str], values: pd.Series, colors: list[str], reference: str, published: float, height: float
) -> tuple[Figure, Axes]:
    """One row and one marker for each value, on a logarithmic axis, with the value at the right and a reference."""
    figure, axes = plt.subplots(figsize=(WIDTH, height * len(labels) + 1.3))
    value_rows(axes, labels, values, colors, "{:,.3g}")
    axes.axvline(published, color=PALETTE[3], linestyle=":", label=reference)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    figure.legend(loc="outside upper left")
    return figure, axes
