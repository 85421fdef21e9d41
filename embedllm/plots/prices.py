"""Figure of the page on prices."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, figure_of, legend, sources, styles_of


@figure_of()
def plot_frontiers(table: pd.DataFrame, gains: pd.DataFrame) -> Figure:
    """Accuracy over the cost of a question, and what is gained over random mixtures of models at equal cost.

    Parameters
    ----------
    table, gains : DataFrame
        From `embedllm.studies.prices.Frontiers.table` and `gains`. The oracle is only in the upper panel.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 6), sharex=True)
    looks: dict[str, dict[str, Any]] = {
        "single models": {"marker": "o", "markersize": 4, "linewidth": 0, "color": GREY},
        "best single model": {"marker": "*", "markersize": 12, "linewidth": 0, "color": "black"},
        "random mixture": {"linestyle": "--", "color": "black"},
    }
    methods = [name for name in pd.unique(table["method"]) if name not in looks]
    looks |= {name: {"color": style["color"]} for name, style in styles_of(methods).items()}
    looks |= {"stack": {"color": PALETTE[3]}}  # as on the page on baselines
    for name, rows in table.groupby("method", sort=False):
        upper.plot(rows["cost"], rows["accuracy"], label=name, **looks[str(name)])
    for name, rows in gains[gains["method"] != "oracle"].groupby("method", sort=False):
        lower.plot(rows["cost"], rows["points"], **looks[str(name)])
        lower.fill_between(rows["cost"], rows["low"], rows["high"], alpha=0.15, linewidth=0, **looks[str(name)])
    lower.axhline(0, linewidth=1.2, **looks["random mixture"])
    upper.set(ylabel="correct answers (%)", title=sources(table) or "no two models of known, different cost")
    lower.set(ylabel="minus random mixture\nat equal cost (points)")
    figure.supxlabel(f"cost of a question ({', '.join(pd.unique(table['unit']))})", fontsize=9)
    legend(figure, upper)
    return figure
