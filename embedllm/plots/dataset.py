"""Figures of the page on the data."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from embedllm.matrix import CorrectnessMatrix
from embedllm.plots._style import PALETTE, WIDTH, figure_of, head, percent


def _accuracies(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Accuracy of each model on each benchmark, and the number of its questions."""
    table = matrix.accuracy(by=["model", "benchmark"]).reset_index()
    table["n_questions"] = table["benchmark"].map(matrix.questions["benchmark"].value_counts())
    return table.assign(data=matrix.source)


@figure_of(_accuracies)
def plot_composition(matrix: CorrectnessMatrix) -> Figure:
    """Number of questions of each benchmark, and the accuracies of the models on it.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    questions = matrix.questions["benchmark"].value_counts()
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(WIDTH, 0.24 * len(questions) + 1.2))
    left.barh(questions.index, questions, color=PALETTE[0])
    left.bar_label(left.containers[0], fmt="{:,.0f}", padding=2, fontsize=8)
    left.margins(x=0.18)
    left.invert_yaxis()
    left.set(xlabel="questions")
    left.grid(axis="y", visible=False)
    accuracy = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    boxes = [accuracy[benchmark].dropna() for benchmark in questions.index]
    looks = {"boxprops": {"facecolor": PALETTE[9]}, "medianprops": {"color": "black"}, "flierprops": {"markersize": 3}}
    place = {"positions": range(len(questions)), "widths": 0.6, "orientation": "horizontal", "manage_ticks": False}
    right.boxplot(boxes, patch_artist=True, **place, **looks)
    right.grid(axis="y", visible=False)
    percent(right.xaxis)
    right.set(xlabel="accuracy of a model")
    head(figure, f"{matrix.source}: {matrix.n_questions:,} questions, {matrix.n_models} models")
    return figure


@figure_of(_accuracies)
def plot_accuracy(matrix: CorrectnessMatrix) -> Figure:
    """Heatmap of the accuracy of every model on every benchmark, best models on top; blank where nothing was observed.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    best_first = matrix.accuracy(by="model")["accuracy"].sort_values(ascending=False).index
    table = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    table = table.loc[best_first, matrix.benchmark_names] * 100
    figure, axes = plt.subplots(figsize=(WIDTH, min(4.1, 1.8 + 0.12 * len(table))))
    ticks, bar = -(-len(table) // 20), {"label": "accuracy (%)"}
    sns.heatmap(table, ax=axes, cmap="cividis", vmin=0, vmax=100, yticklabels=ticks, cbar_kws=bar)
    axes.set(xlabel="benchmark", ylabel=f"model ({len(table)}, best first)", title=matrix.source)
    axes.tick_params(axis="y", labelsize=8, rotation=0)
    axes.tick_params(axis="x", rotation=40)
    plt.setp(axes.get_xticklabels(), ha="right")
    return figure


@figure_of()
def plot_distributions(bars: pd.DataFrame) -> Figure:
    """Histograms of the accuracies of the models, and of the share of models that are correct on a question.

    Parameters
    ----------
    bars : DataFrame
        From `embedllm.studies.dataset.histograms`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    for axes, (_, rows), color in zip((left, right), bars.groupby("counted"), PALETTE[:2], strict=True):
        axes.bar(rows["low"], rows["count"], rows["high"] - rows["low"], align="edge", color=color, edgecolor="white")
    left.set(xlabel="accuracy of a model", ylabel="models")
    right.set(xlabel="share of models that are correct", ylabel="questions")
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        percent(axes.xaxis)
    head(figure, bars["data"].iat[0])
    return figure


@figure_of()
def plot_agreement(pairs: pd.DataFrame, order: list[str], data: str) -> Figure:
    """Heatmaps of the agreement of each pair of models and of Cohen's kappa, models that agree next to each other.

    Parameters
    ----------
    pairs : DataFrame
        `Agreement.pairs` of `embedllm.studies.dataset`: one row for each pair of different models.
    order : list of str
        `Agreement.order`: the names of all models.
    data : str
        Source of the answers.
    """
    mirrored = pd.concat([pairs, pairs.rename(columns={"model": "other", "other": "model"})])
    figure, panels = plt.subplots(2, 1, sharex=True, figsize=(WIDTH, 5))
    words = {"agreement": "agreement", "kappa": "Cohen's kappa"}
    for axes, (name, title), color in zip(panels, words.items(), ("cividis", "viridis"), strict=True):
        table = mirrored.pivot(index="model", columns="other", values=name).reindex(index=order, columns=order)
        ends = {} if table.notna().any(axis=None) else {"vmin": 0, "vmax": 1}  # no pair shares a question
        looks = {"cmap": color, "square": True, "rasterized": True}  # thousands of cells would make a large file
        ticks = {"xticklabels": False, "yticklabels": -(-len(order) // 16)}
        sns.heatmap(table, ax=axes, cbar_kws={"label": title}, **ticks, **looks, **ends)
        axes.set(xlabel="", ylabel="")
        axes.tick_params(axis="y", labelsize=8, rotation=0)
    panels[0].set_title(data)
    panels[1].set_xlabel(f"{len(order)} models, same order")
    return figure
