"""Figures of the page on communities of models."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from embedllm.plots._style import (
    GREY,
    PALETTE,
    WIDTH,
    beside_row,
    figure_of,
    head,
    label_rows,
    legend,
    marker_areas,
    tag_colors,
)

_SPACES = {"SGD": "SGD's vectors", "exact": "exact coordinates"}


@figure_of()
def plot_raw_distances(table: pd.DataFrame) -> Figure:
    """Mean distance within each of the paper's communities and to the other models: the paper's Figure 6.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.communities.compare_communities`: the paper's communities in one space.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 0.34 * len(table) + 1.4))
    places = np.arange(len(table))
    for offset, column, color in ((-0.2, "within", PALETTE[0]), (0.2, "between", GREY)):
        label = {"within": "within the community", "between": "members to other models"}[column]
        axes.barh(places + offset, table[column], 0.38, color=color, label=label)
    for place, (within, between) in enumerate(table[["within", "between"]].to_numpy(float)):
        beside_row(axes, place, "fewer than 3 members" if np.isnan(within) else f"{within:.2f} / {between:.2f}")
    if table["within"].isna().all():
        axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    label_rows(axes, _with_counts(table))
    axes.set(xlabel=f"mean L2 distance of model vectors, {table['space'].iat[0]}", ylabel="community (models)")
    axes.set_title(f"Figure 6 on: {table['data'].iat[0]}")
    legend(figure, axes, "outside upper left")
    return figure


@figure_of()
def plot_communities(table: pd.DataFrame) -> Figure:
    """Distance within each community over that to the other models, beside random communities of the same size.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.communities.compare_communities`.
    """
    spaces = list(pd.unique(table["space"]))
    first = table[table["space"] == spaces[0]]
    size = (WIDTH, len(spaces) * (0.2 * len(first) + 0.4) + 1)
    figure, panels = plt.subplots(len(spaces), sharex=True, squeeze=False, figsize=size)
    places = np.arange(len(first))
    known = table[["ratio", "limit"]].to_numpy(float)
    ends = (min(0.95, np.nanmin(known)), max(1.05, np.nanmax(known))) if not np.isnan(known).all() else (0.9, 1.1)
    left, right = (end + 0.05 * step * (ends[1] - ends[0]) for end, step in zip(ends, (-1, 1), strict=True))
    step = np.diff(MaxNLocator(5).tick_values(left, right))[0]
    for axes, space in zip(panels[:, 0], spaces, strict=True):
        rows = table[table["space"] == space]
        # p is one-sided, and so is the limit: 95 % of random communities lie above it.
        axes.hlines(places, rows["limit"], right, color="#d9d9d9", linewidth=7, label="95 % of random ones")
        axes.axvline(1, color="black", linewidth=0.8)
        paper = rows["paper"].to_numpy(bool)
        axes.plot(rows["ratio"][paper], places[paper], "o", color=PALETTE[0], label="the paper's")
        axes.plot(rows["ratio"][~paper], places[~paper], "D", color=PALETTE[1], label="other")
        for place, p in enumerate(rows["p_corrected"]):
            text = "undefined" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            beside_row(axes, place, text, bold=p < 0.05)
        axes.set_xlim(left, right)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MultipleLocator(step, offset=1))  # with a tick at 1
        axes.set(ylabel="community (models)", title=_SPACES.get(space, space))
        label_rows(axes, _with_counts(first))
    axes.set_xlabel("distance within / between")
    head(figure, first["data"].iat[0])
    legend(figure, axes, "outside lower center")
    return figure


def _with_counts(table: pd.DataFrame) -> list[str]:
    return [f"{name} ({n})" for name, n in zip(table["community"], table["n_models"], strict=True)]


@figure_of(lambda positions: positions.rename_axis("model"))
def plot_model_map(positions: pd.DataFrame) -> Figure:
    """Map of the models, coloured by specialization, larger markers for larger models; names where there is room.

    Parameters
    ----------
    positions : DataFrame
        From `embedllm.studies.communities.map_models`.
    """
    colors = tag_colors(positions)
    areas = marker_areas(positions["params_b"])
    figure, axes = plt.subplots(figsize=(WIDTH, 4.8))
    looks = [*zip(colors, colors.values(), itertools.cycle("os^DvP"), strict=False), ("none or other", "#bbbbbb", "o")]
    kinds = []
    for name, color, marker in looks:
        chosen = positions["specialization"] == name if name in colors else ~positions["specialization"].isin(colors)
        if chosen.any():
            points = positions[chosen]
            axes.scatter(points["x"], points["y"], areas[chosen], color=color, marker=marker, linewidths=0)
            kinds.append(Line2D([], [], linestyle="", marker=marker, markersize=6, color=color, label=name))
    axes.margins(0.06)
    axes.set_aspect("equal", adjustable="datalim")  # distances count alike in all directions
    axes.set(xticks=[], yticks=[], title=positions["data"].iat[0])
    axes.set_xlabel("near models are alike; the axes have no meaning")
    figure.legend(handles=kinds, loc="outside lower left", ncols=2, title="specialization")
    # The smallest, the median and the largest size, and one for those that are not known.
    shown = positions["params_b"].quantile([0, 0.5, 1], interpolation="nearest").drop_duplicates()
    sizes = pd.Series([*shown.dropna(), *positions["params_b"][positions["params_b"].isna()][:1]], dtype=float)
    words = sizes.map("{:g}B".format).where(sizes.notna(), "not known")
    dots = [
        Line2D([], [], linestyle="", marker="o", color=GREY, markersize=float(np.sqrt(area)), label=label)
        for label, area in zip(words, marker_areas(sizes), strict=True)
    ]
    figure.legend(handles=dots, loc="outside lower right", title="size")
    _label_points(figure, axes, positions, np.sqrt(areas.to_numpy()) / 2)
    return figure


def _label_points(figure: Figure, axes: Axes, points: pd.DataFrame, radii: np.ndarray) -> None:
    """Write the name of each point beside it, if one of eight places beside it is free.

    A place is free if it is inside the axes and covers neither another label nor the marker of a point. The points that
    are farthest from the others come first.

    Parameters
    ----------
    figure, axes : Figure, Axes
        Otherwise complete: the layout is fixed here.
    points : DataFrame indexed by name
        `x` and `y`.
    radii : ndarray of shape (n_points,)
        Of the markers, in typographic points.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    frame = axes.get_window_extent()
    centres = axes.transData.transform(points[["x", "y"]].to_numpy())  # in pixels, as all that follows
    pixels, gap = figure.dpi / 72, 1.5
    reach = (radii + gap)[:, None] * pixels  # no other marker comes as near to a label as its own
    taken = np.hstack([centres - reach, centres + reach])  # left, bottom, right, top
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    np.fill_diagonal(apart, np.inf)
    for point in np.argsort(-apart.min(axis=1), kind="stable"):
        name, radius = str(points.index[point]), radii[point] + gap
        xy = (float(points["x"].iat[point]), float(points["y"].iat[point]))
        label = axes.annotate(name, xy, (0, 0), textcoords="offset points", fontsize=7.5, in_layout=False)
        others = np.delete(taken, point, axis=0)
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            distance = radius / np.hypot(right, up)
            label.set_position((right * distance, up * distance))
            label.set(ha={1: "left", 0: "center", -1: "right"}[right], va={1: "bottom", 0: "center", -1: "top"}[up])
            left, bottom, end, top = label.get_window_extent().extents
            inside = frame.x0 <= left and end <= frame.x1 and frame.y0 <= bottom and top <= frame.y1
            covers = (others[:, 0] < end) & (left < others[:, 2]) & (others[:, 1] < top) & (bottom < others[:, 3])
            if inside and not covers.any():
                taken = np.vstack([taken, [left, bottom, end, top]])
                break
        else:
            label.remove()
