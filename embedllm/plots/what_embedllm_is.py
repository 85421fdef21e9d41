"""Figures of the page on what the factorization is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, figure_of, head, legend, offsets

_COLORS = {"SGD": PALETTE[1], "exact": PALETTE[0], "exact, pool prior": PALETTE[2]}
_MARKERS = {"SGD": "s", "exact": "o", "exact, pool prior": "D"}


@figure_of()
def plot_noise_penalty(table: pd.DataFrame) -> Figure:
    """Rise of the loss by noise on the questions, and the ridge penalty that equals it to second order.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.what_embedllm_is.noise_penalty_table`.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 3))
    axes.plot(table.index, table["ridge"], color=GREY, label="second-order term: ridge penalty")
    axes.plot(table.index, table["noise"], "o", color=PALETTE[0], label="noise")
    axes.set(xscale="log", yscale="log", xlabel="alpha", ylabel="rise of the loss (nats)")
    axes.legend()
    head(figure, table["data"].iat[0])
    return figure


@figure_of()
def plot_distances_are_differences(table: pd.DataFrame) -> Figure:
    """Distance between the embeddings of two models, and root mean square difference of their logits.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.what_embedllm_is.distance_table`.
    """
    figure, axes = plt.subplots(figsize=(3.5, 3.5))
    axes.axline((0, 0), slope=1, color=GREY, linewidth=0.8)
    axes.plot(table["logits"], table["embedding"], ".", color=PALETTE[0], markersize=3, alpha=0.5)
    axes.set(xlabel="RMS difference of the logits", ylabel="distance of the embeddings", aspect="equal")
    head(figure, table["data"].iat[0])
    return figure


@figure_of()
def plot_loss_against_time(table: pd.DataFrame) -> Figure:
    """Validation loss against the time of the fit: SGD epoch by epoch, and exact fits.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.what_embedllm_is.loss_against_time`.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 3))
    for number, (fit, points) in enumerate(table.groupby("fit", sort=False)):
        if fit == "SGD":
            axes.plot(points["seconds"], points["val_loss"], color=_COLORS["SGD"], label="SGD, each epoch")
        else:
            axes.plot(points["seconds"], points["val_loss"], "oD^v"[number % 4], color=PALETTE[0], label=str(fit))
    axes.set(xscale="log", xlabel="seconds", ylabel="validation loss (nats per answer)")
    axes.legend()
    head(figure, table["data"].iat[0])
    return figure


@figure_of()
def plot_recorded_times(scores: pd.DataFrame) -> Figure:
    """Test loss against the seconds of a fit, mean over the splits: alpha as chosen (filled) and 0.05 (open).

    Parameters
    ----------
    scores : DataFrame
        `scores` of what ``tools/record_solvers.py`` recorded, of one data set or several. The largest dim is drawn.
    """
    scores = scores[scores["dim"] == scores["dim"].max()]
    pools = sorted(pd.unique(scores["data"]))
    figure, panels = _panels(pools, "test loss (nats per answer)", "seconds of a fit")
    for axes, pool in zip(panels, pools, strict=True):
        means = scores[scores["data"] == pool].groupby(["solver", "tuned"])[["seconds", "log_loss"]].mean()
        for (solver, tuned), row in means.iterrows():
            color, label = _COLORS[solver], solver if tuned and pool == pools[0] else None
            looks: dict[str, Any] = {"markerfacecolor": color if tuned else "white", "markersize": 8, "linewidth": 0}
            axes.plot(row["seconds"], row["log_loss"], _MARKERS[solver], color=color, label=label, **looks)
        axes.set(xscale="log", xlim=(means["seconds"].min() / 2, means["seconds"].max() * 2))
        axes.margins(y=0.2)
        axes.xaxis.set_major_formatter("{x:g}")
    legend(figure, panels[0], "outside lower center")
    return figure


@figure_of()
def plot_loss_against_dim(scores: pd.DataFrame) -> Figure:
    """Test loss against dim for each solver, mean over the splits: alpha as chosen (filled) and 0.05 (open).

    Parameters
    ----------
    scores : DataFrame
        `scores` of what ``tools/record_solvers.py`` recorded, of one data set or several.
    """
    pools = sorted(pd.unique(scores["data"]))
    figure, panels = _panels(pools, "test loss (nats per answer)")
    for axes, pool in zip(panels, pools, strict=True):
        means = scores[scores["data"] == pool].groupby(["solver", "tuned", "dim"])["log_loss"].mean()
        for (solver, tuned), line in means.groupby(level=[0, 1]):
            color, label = _COLORS[solver], solver if tuned and pool == pools[0] else None
            fill = color if tuned else "white"
            looks: dict[str, Any] = {"linestyle": "-" if tuned else ":", "markerfacecolor": fill}
            axes.plot(line.index.get_level_values("dim"), line, _MARKERS[solver], color=color, label=label, **looks)
        dims = sorted(means.index.get_level_values("dim").unique())
        axes.set_xscale("log", base=2)
        axes.set_xticks(dims, [str(dim) for dim in dims])
        axes.minorticks_off()
    legend(figure, panels[0], "outside lower center")
    return figure


@figure_of()
def plot_paired_differences(table: pd.DataFrame) -> Figure:
    """Test loss minus that of SGD at the same dim and on the same splits, with 95 % intervals over the splits.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.what_embedllm_is.paired_differences`.
    """
    pools = sorted(table.index.unique("data"))
    figure, panels = _panels(pools, "test loss minus SGD's (nats)")
    for axes, pool in zip(panels, pools, strict=True):
        part = table.loc[pool]
        dims = list(part.index.unique("dim"))
        solvers = list(part.index.unique("solver"))
        for shift, solver in zip(offsets(len(solvers)), solvers, strict=True):
            line = part.loc[solver].reindex(dims)
            places = np.arange(len(dims)) + shift
            axes.vlines(places, line["low"], line["high"], color=_COLORS[solver])
            label = solver if pool == pools[0] else None
            axes.plot(places, line["difference"], _MARKERS[solver], color=_COLORS[solver], label=label)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_xticks(np.arange(len(dims)), [str(dim) for dim in dims])
    legend(figure, panels[0], "outside lower center")
    return figure


def _panels(pools: Sequence[str], label: str, below: str = "dim") -> tuple[Figure, Sequence[Axes]]:
    figure, row = plt.subplots(1, len(pools), figsize=(WIDTH, 3), squeeze=False)
    for axes, pool in zip(row[0], pools, strict=True):
        axes.set(title=pool, xlabel=below)
    row[0][0].set_ylabel(label)
    return figure, row[0]
