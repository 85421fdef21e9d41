"""Figures of the page on speed."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, beside_row, figure_of, head, label_rows, legend


@figure_of()
def plot_speed(times: pd.DataFrame) -> Figure:
    """Time of each case, of the package and of a plain implementation, on a logarithmic axis, with their ratio.

    A plain time that was extrapolated from a part is an open square, and its ratio is marked "about".

    Parameters
    ----------
    times : DataFrame
        From `embedllm.studies.speed.case_times`.
    """
    places = np.arange(len(times))
    figure, axes = plt.subplots(figsize=(WIDTH, 0.4 * len(times) + 1.3))
    axes.hlines(places, times["ours"], times["plain"], color=GREY, linewidth=1)
    part = times["extrapolated"].to_numpy(dtype=bool)
    everything = np.ones_like(part)
    sides = [("ours", "ours", everything), ("plain", "plain", ~part), ("plain", "plain, extrapolated", part)]
    for side, label, rows in sides:
        colour = PALETTE[side == "plain"]
        face, marker = ("white" if rows is part else colour), "os"[side == "plain"]
        axes.scatter(
            times[side][rows], places[rows], 40, color=face, edgecolors=colour, marker=marker, zorder=3, label=label
        )
    for place, ratio in enumerate(times["plain"] / times["ours"]):
        beside_row(axes, place, f"{'about ' if part[place] else ''}{ratio:,.0f} x")
    axes.set_xscale("log")
    label_rows(axes, times.index)
    axes.set(xlabel="seconds")
    head(figure, times["data"].iat[0])
    legend(figure, axes, "outside lower right")
    return figure


@figure_of()
def plot_growth(points: pd.DataFrame, measure: str) -> Figure:
    """How time or memory grows with questions, models and dim, on log-log axes.

    Parameters
    ----------
    points : DataFrame
        From `embedllm.studies.speed.growth_table`.
    measure : "seconds" or "peak_mb"
    """
    panels = list(pd.unique(points["axis"]))
    figure, row = plt.subplots(1, len(panels), sharey=True, figsize=(WIDTH, 3), squeeze=False)
    for axes, axis in zip(row[0], panels, strict=True):
        for number, (what, line) in enumerate(points[points["axis"] == axis].groupby("what", sort=False)):
            label = str(what) if axis == panels[0] else None
            axes.plot(line[axis], line[measure], marker="os^"[number], color=PALETTE[number], label=label)
        axes.set(xscale="log", yscale="log", xlabel=axis)
        axes.grid(True, which="both", alpha=0.3)
    row[0][0].set_ylabel("seconds" if measure == "seconds" else "peak of the process (MB)")
    head(figure, points["data"].iat[0])
    legend(figure, row[0][0], "outside lower center")
    return figure
