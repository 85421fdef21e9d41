"""Figure of the page on strong baselines."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, beside_row, figure_of, head, label_rows, sources

HIGHLIGHTED = {"MF": PALETTE[0], "stack": PALETTE[3], "ceiling": "black"}
"""Colours of the methods that the page is about; others are grey."""


@figure_of()
def plot_baselines(table: pd.DataFrame, baseline: str, single: str) -> Figure:
    """What each method gains over a baseline in forecasting and in routing, with paired 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.baselines.baseline_table`. The oracle, which knows the answers, is not drawn.
    baseline, single : str
        What was subtracted.
    """
    shown = table[table["method"] != "oracle"]
    forecasts = shown[shown["loss_minus"].notna() & (shown["method"] != baseline)]
    routes = shown[shown["gain"].notna() & (shown["method"] != single)]
    size = (WIDTH, 0.18 * (len(forecasts) + len(routes)) + 1.9)
    figure, (upper, lower) = plt.subplots(2, 1, figsize=size, height_ratios=[len(forecasts), len(routes)])
    _draw(upper, forecasts.sort_values("loss_minus"), "loss_minus", "loss", "{:+.3f}")
    _draw(lower, routes.sort_values("gain", ascending=False), "gain", "gain", "{:+.2f}")
    upper.set(xlabel=f"log loss minus that of {baseline} (nats)")
    upper.set_title("forecasting: left is better")
    lower.set(xlabel=f"accuracy minus that of {single} (points)")
    lower.set_title("routing: right is better")
    head(figure, sources(table))
    return figure


def _draw(axes: plt.Axes, rows: pd.DataFrame, value: str, ends: str, form: str) -> None:
    label_rows(axes, rows["method"].tolist())
    for place, row in enumerate(rows.to_dict("records")):
        color = HIGHLIGHTED.get(row["method"], GREY)
        axes.hlines(place, row[f"{ends}_low"], row[f"{ends}_high"], color=color, linewidth=1.5)
        axes.plot(row[value], place, "o", color=color, markersize=6)
        beside_row(axes, place, form.format(row[value]), bold=row["method"] in HIGHLIGHTED)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", visible=False)
