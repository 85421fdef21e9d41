"""Figure of the page on rules for duplicated and missing labels."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from embedllm.plots._style import GREY, WIDTH, figure_of, head, label_rows, sources, styles_of

_NO_METHODS = ["data", "protocol", "scored on", "difference", "gap", "low", "high"]


@figure_of()
def plot_protocols(comparison: pd.DataFrame) -> Figure:
    """Accuracies under each rule for labels, and the difference of two methods, by each way of scoring.

    Parameters
    ----------
    comparison : DataFrame
        From `embedllm.studies.label_rules.compare_protocols`.
    """
    protocols, ways = list(pd.unique(comparison["protocol"])), list(pd.unique(comparison["scored on"]))
    styles = styles_of(name for name in comparison if name not in _NO_METHODS)
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(WIDTH, 0.55 * len(protocols) + 1.5))
    for number, (way, shape) in enumerate(zip(ways, "os", strict=True)):
        rows = comparison[comparison["scored on"] == way]
        places = [protocols.index(name) + 0.24 * (number - (len(ways) - 1) / 2) for name in rows["protocol"]]
        for name, style in styles.items():
            left.plot(rows[name], places, shape, color=style["color"], markersize=5)
        right.plot(rows["gap"], places, shape, color="#333333", markersize=5)
        right.hlines(places, rows["low"], rows["high"], color="#333333", linewidth=1)
    right.axvline(0, color=GREY, linewidth=0.8)
    label_rows(left, protocols)
    left.xaxis.set_major_formatter(PercentFormatter())
    left.set(xlabel="labels predicted correctly")
    head(figure, sources(comparison))
    right.set(xlabel=f"{comparison['difference'].iat[0]} (points)")
    colors = [
        Line2D([], [], linewidth=0, marker="_", markeredgewidth=3, color=each["color"]) for each in styles.values()
    ]
    shapes = [Line2D([], [], linewidth=0, marker=shape, color="#333333", markersize=5) for shape in "os"]
    figure.legend([*colors, *shapes], [*styles, *ways], loc="outside lower left", ncols=2, columnspacing=1)
    return figure
