"""The figures of the companion: each function takes a matrix or a tidy frame and returns a matplotlib figure.

One style file, `companion.mplstyle`, serves them all, and a method has the same colour in every figure.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from importlib import resources
from typing import ParamSpec

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from embedllm.correctness import CorrectnessMatrix

# By value: a colour named "C0" would be looked up when the figure is shown, after the style is gone.
_PALETTE = sns.color_palette("colorblind").as_hex()
_GREY = _PALETTE[7]
_COLORS = {
    "MF": _PALETTE[0],
    "KNN": _PALETTE[1],
    "benchmark mean": _GREY,
    "best of benchmark": _GREY,
    "oracle": _PALETTE[2],
    "single best": _PALETTE[3],
    "weighted random": _PALETTE[4],
    "uniform random": _PALETTE[5],
}
_MARKERS = dict(zip(_COLORS, "osDDv^PX", strict=True))

_P = ParamSpec("_P")


def _styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Draw in the companion's style, and hand the figure out closed, so that a notebook shows it once."""

    @functools.wraps(draw)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with plt.style.context(str(resources.files("embedllm").joinpath("companion.mplstyle"))):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # the layout is part of the style
        plt.close(figure)
        return figure

    return wrapper


@_styled
def plot_composition(matrix: CorrectnessMatrix) -> Figure:
    """Questions of each benchmark, and the accuracies of the models on it.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    questions = matrix.questions["benchmark"].value_counts()
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(7.5, 0.32 * len(questions) + 1.2))
    left.barh(questions.index, questions, color=_PALETTE[0])
    left.bar_label(left.containers[0], fmt="{:,.0f}", padding=2, fontsize=8)
    left.margins(x=0.18)
    left.invert_yaxis()
    left.set(xlabel="questions", title=f"{matrix.source}: {matrix.n_questions:,} questions")
    left.grid(axis="y", visible=False)
    accuracy = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    right.boxplot(
        [accuracy[benchmark].dropna() for benchmark in questions.index],
        positions=range(len(questions)),
        widths=0.6,
        orientation="horizontal",
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": _PALETTE[9]},
        medianprops={"color": "black"},
        flierprops={"markersize": 3},
    )
    right.grid(axis="y", visible=False)
    _percent(right)
    right.set(xlabel="accuracy of a model", title=f"{matrix.n_models} models")
    return figure


@_styled
def plot_accuracy(matrix: CorrectnessMatrix) -> Figure:
    """Heatmap of the accuracy of every model on every benchmark, best models on top; blank where nothing was observed.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    best_first = matrix.accuracy(by="model")["accuracy"].sort_values(ascending=False).index
    table = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    table = table.loc[best_first, matrix.benchmark_names] * 100
    figure, axes = plt.subplots(figsize=(7.5, min(9.0, 1.8 + 0.12 * len(table))))
    sns.heatmap(
        table,
        ax=axes,
        cmap="cividis",
        vmin=0,
        vmax=100,
        yticklabels=max(1, len(table) // 28),
        cbar_kws={"label": "accuracy (%)"},
    )
    axes.set(xlabel="benchmark", ylabel=f"model ({len(table)}, best first)", title=matrix.source)
    axes.tick_params(axis="y", labelsize=7, rotation=0)
    axes.tick_params(axis="x", rotation=40)
    plt.setp(axes.get_xticklabels(), ha="right")
    return figure


@_styled
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
    axes.plot(epochs, history["train_loss"], "o-", color=_GREY, label="training, with noise")
    axes.plot(epochs, history["val_loss"], "s-", color=_COLORS["MF"], label="validation")
    axes.set(xlabel="epoch", ylabel="cross-entropy (nats per answer)", title=data)
    axes.legend()
    return figure


@_styled
def plot_forecasts(forecasts: pd.DataFrame) -> Figure:
    """Forecasting accuracy of each predictor, overall and by benchmark, with two standard errors to each side.

    Parameters
    ----------
    forecasts : DataFrame
        From `evaluate_forecasts`.
    """
    return _by_benchmark(forecasts, "predictor", "share of answers forecast rightly")


@_styled
def plot_routers(evaluation: pd.DataFrame) -> Figure:
    """Accuracy of each router, overall and by benchmark, with two standard errors to each side.

    Parameters
    ----------
    evaluation : DataFrame
        From `evaluate_routers`.
    """
    return _by_benchmark(evaluation, "router", "share of questions answered rightly")


@_styled
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
    figure, axes = plt.subplots(figsize=(7.5, 0.3 * len(table) + 1.2))
    table.plot.barh(ax=axes, color=_colors(table), width=0.8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    _percent(axes)
    axes.set(xlabel="share of the test questions", ylabel="", title=data)
    axes.legend(title="router")
    return figure


def _by_benchmark(table: pd.DataFrame, method: str, label: str) -> Figure:
    """One row for each benchmark, one marker for each method."""
    benchmarks = list(pd.unique(table["benchmark"]))
    sizes = table.drop_duplicates("benchmark").set_index("benchmark")["n_questions"]
    figure, axes = plt.subplots(figsize=(7.5, 0.36 * len(benchmarks) + 1.6))
    methods = list(pd.unique(table[method]))
    colors = _colors(methods)
    for offset, name in zip(_offsets(len(methods)), methods, strict=True):
        rows = table[table[method] == name]
        positions = [benchmarks.index(benchmark) + offset for benchmark in rows["benchmark"]]
        axes.plot(rows["accuracy"], positions, _MARKERS.get(name, "o"), color=colors[name], label=name)
        axes.errorbar(
            rows["accuracy"], positions, xerr=2 * rows["stderr"], fmt="none", ecolor=colors[name], elinewidth=0.8
        )
    axes.set_yticks(range(len(benchmarks)), [f"{name} ({sizes[name]:,})" for name in benchmarks])
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.invert_yaxis()
    _percent(axes)
    axes.set(xlabel=label, ylabel="benchmark (test questions)", title=", ".join(pd.unique(table["data"])))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _colors(methods: Iterable[str]) -> dict[str, str]:
    """Colour of each method: its own everywhere, or, for one that the companion does not know, one of the rest."""
    rest = itertools.cycle(color for color in _PALETTE if color not in _COLORS.values())
    return {name: _COLORS.get(name) or next(rest) for name in methods}


def _offsets(n: int) -> list[float]:
    """Small vertical steps that keep markers of one row apart."""
    return [0.08 * (i - (n - 1) / 2) for i in range(n)]


def _percent(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
