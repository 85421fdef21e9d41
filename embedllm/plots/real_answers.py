"""Figure of the page on real answers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import PALETTE, WIDTH, beside_row, figure_of, head, label_rows, legend, offsets


@figure_of()
def plot_gains(gains: pd.DataFrame) -> Figure:
    """What MF gains over baselines on each data set of real answers, with 95 % intervals.

    Parameters
    ----------
    gains : DataFrame
        From `embedllm.studies.real_answers.gains_table`.
    """
    names, data = list(pd.unique(gains["what"])), list(pd.unique(gains["data"]))
    figure, axes = plt.subplots(figsize=(WIDTH, 0.32 * len(names) * max(2, len(data)) + 1.3))
    label_rows(axes, [name.replace(" minus ", "\nminus ") for name in names])
    for step, title, color, marker in zip(offsets(len(data)), data, PALETTE, "osD^vP", strict=False):
        rows = gains[gains["data"] == title]
        places = [names.index(name) + 1.6 * step for name in rows["what"]]
        axes.hlines(places, rows["low"], rows["high"], color=color, linewidth=1.5)
        axes.plot(rows["points"], places, marker, color=color, markersize=6, linewidth=0, label=title)
        for place, points in zip(places, rows["points"], strict=True):
            beside_row(axes, place, f"{points:+.2f}")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="difference in accuracy (points): MF is better above 0")
    head(figure, f"MF minus a baseline, on {' and '.join(name.partition(',')[0] for name in data)}")
    legend(figure, axes, "outside lower center")
    return figure
