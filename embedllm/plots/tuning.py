"""Figures of the page on hyperparameters."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from embedllm.plots._style import COLORS, GREY, WIDTH, figure_of, legend

_PARAMETERS = {
    "n_neighbors": "k, neighbours",
    "dim": "dim, size of an embedding",
    "alpha": "alpha, strength of the penalty",
}


@figure_of()
def plot_sweep(table: pd.DataFrame, default: float) -> Figure:
    """Validation loss and accuracy over the values of one hyperparameter, with two standard errors over the seeds.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.tuning.summarize_sweep`.
    default : float
        The authors' value, drawn as a dotted line.
    """
    data, parameter, _ = table.index[0]
    table = table.droplevel(["data", "parameter"])
    color = COLORS["KNN" if parameter == "n_neighbors" else "MF"]
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3))
    words = {"log_loss": "validation loss (nats per answer)", "accuracy": "validation accuracy"}
    for axes, (metric, label) in zip(panels, words.items(), strict=True):
        mean, margin = table[metric], 2 * table[f"{metric}_se"].fillna(0)
        axes.plot(table.index, mean, "o-", color=color, markerfacecolor="white", markersize=5)
        axes.fill_between(table.index, mean - margin, mean + margin, color=color, alpha=0.25, linewidth=0)
        chosen = mean[table["chosen"]]
        axes.plot(chosen.index, chosen, "o", color=color, markersize=8, label=f"chosen: {chosen.index[0]:g}")
        axes.axvline(default, color=GREY, linestyle=":", label=f"authors: {default:g}")
        if parameter == "alpha":
            axes.set_xscale("log")
            axes.set_xticks(table.index, [f"{value:g}" for value in table.index], rotation=45)
            axes.set_xlim(right=1.2 * table.index.max())
        else:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
        axes.set(xlabel=_PARAMETERS[parameter], ylabel=label)
    panels[0].set_title(data)
    legend(figure, panels[0], "outside lower center")
    panels[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
    return figure
