"""Figure of the page on the contributions of benchmarks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from embedllm.plots._style import figure_of


@figure_of()
def plot_contributions(changes: pd.DataFrame, annotated: int = 12) -> Figure:
    """Heatmap of the change on each benchmark when another is left out of training; blank where undefined.

    The colours span the changes on other benchmarks; those on a benchmark without itself are mostly larger.

    Parameters
    ----------
    changes : DataFrame
        From `embedllm.studies.contributions.Contributions.table`.
    annotated : int
        With at most so many benchmarks, each cell shows its value, and a star where the interval excludes 0; with more,
        only the star.
    """
    benchmarks = list(pd.unique(changes["left_out"]))
    table, clear = (
        changes.pivot(index="left_out", columns="benchmark", values=value).loc[benchmarks, benchmarks]
        for value in ("change", "clear")
    )
    others = table.mask(np.eye(len(table), dtype=bool)).abs().max(axis=None)
    limit = others if others > 0 else 1
    number = "" if len(benchmarks) > annotated else "{:+.1f}" if limit >= 1 else "{:+.2f}"
    texts = table.map(number.format) + np.where(clear, "*", "")
    figure, axes = plt.subplots(figsize=(7.5, min(9.0, 0.42 * len(benchmarks) + 2)))
    bar = {"label": f"change of the {changes['measure'].iat[0]} (points)", "extend": "both"}
    looks = {"cmap": "vlag", "vmin": -limit, "vmax": limit, "linewidths": 0.5}
    sns.heatmap(table, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 7.5}, cbar_kws=bar, **looks)
    axes.grid(visible=False)
    axes.set(xlabel="predicted on", ylabel="left out of training", title=changes["data"].iat[0])
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=40)
    plt.setp(axes.get_xticklabels(), ha="right")
    return figure
