"""Figures of the page on the limits of the method."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, figure_of, head, log_sizes, sources, styles_of


@figure_of()
def plot_structures(table: pd.DataFrame, label: str) -> Figure:
    """Accuracy of each method on the pool of each structure, with 95 % intervals over questions.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.limits.structure_table`.
    label : str
        Of the horizontal axes.
    """
    structures, methods = pd.unique(table["structure"]), list(pd.unique(table["method"]))
    figure, panels = plt.subplots(
        1, len(structures), figsize=(WIDTH, 0.35 * len(methods) + 1.3), sharex=True, sharey=True, squeeze=False
    )
    for axes, structure in zip(panels[0], structures, strict=True):
        rows = table[table["structure"] == structure].set_index("method")
        for place, (name, style) in enumerate(styles_of(methods).items()):
            row = rows.loc[name]
            axes.plot([row["low"], row["high"]], [place, place], color=style["color"])
            axes.plot(row["accuracy"], place, markersize=6, **style)
        axes.axvline(rows["accuracy"].iloc[0], color=GREY, linewidth=0.8, linestyle="--")
        axes.set(title=structure, yticks=range(len(methods)), ylim=(len(methods) - 0.5, -0.5))
        axes.set_yticklabels(methods)
    figure.supxlabel(f"{label} (%)", fontsize=9)
    head(figure, table["data"].iat[0])  # the panels name the structures
    return figure


@figure_of()
def plot_recovery(recovered: pd.DataFrame) -> Figure:
    """How far exact fits recover the ground truth, by the number of training questions.

    Parameters
    ----------
    recovered : DataFrame
        From `embedllm.studies.limits.recovery`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    for name, color, marker in zip(recovered.filter(like="angle_"), PALETTE, "osDv^", strict=False):
        d = name.removeprefix("angle_")
        left.plot(recovered["size"], recovered[name], color=color, marker=marker, label=f"dimension {d}")
    right.plot(recovered["size"], recovered["correlation"], color=PALETTE[0], marker="o")
    for axes in (left, right):
        log_sizes(axes, recovered["size"], "training questions")
    left.set(ylim=(0, 90), ylabel="angle to the true space (degrees)", title=sources(recovered))
    right.set(ylim=(None, 1), ylabel="correlation with the true distances")
    left.legend()
    return figure
