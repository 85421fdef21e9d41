"""Figures of the page on the published numbers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import COLORS, GREY, WIDTH, figure_of, sources, value_rows


@figure_of()
def plot_published_forecasts(numbers: pd.DataFrame) -> Figure:
    """Published forecasting accuracies beside baselines that follow from the published counts.

    Parameters
    ----------
    numbers : DataFrame
        From `embedllm.studies.published_numbers.forecasting_numbers`.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 0.4 * len(numbers) + 1.4))
    _rows(axes, numbers, "prompts")
    counted = numbers["rows"] != numbers["prompts"]
    places = [place for place, differs in enumerate(counted) if differs]
    axes.scatter(numbers["rows"][counted], places, 50, facecolors="none", edgecolors=GREY, label="if rows are scored")
    axes.legend(loc="upper right")
    axes.set(xlabel="share of answers predicted correctly (%)", title=sources(numbers))
    return figure


@figure_of()
def plot_published_routes(numbers: pd.DataFrame) -> Figure:
    """Published routing accuracies beside those of single models.

    Parameters
    ----------
    numbers : DataFrame
        From `embedllm.studies.published_numbers.routing_numbers`.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 0.36 * len(numbers) + 1.2))
    _rows(axes, numbers, "accuracy")
    axes.axvline(numbers.at["best single model", "accuracy"], color=COLORS["best single model"], linestyle=":")
    axes.set(xlabel="share of test questions answered correctly (%)", title=sources(numbers))
    return figure


def _rows(axes: Axes, numbers: pd.DataFrame, column: str) -> None:
    names = [str(name) for name in numbers.index]
    colors = [COLORS.get(name.replace("EmbedLLM", "MF").partition(",")[0], GREY) for name in names]
    value_rows(axes, names, numbers[column], colors, "{:.1f}")
