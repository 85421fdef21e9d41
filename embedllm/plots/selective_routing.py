"""Figures of the page on selective routing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from embedllm.plots._style import GREY, PALETTE, WIDTH, figure_of, legend, offsets, sources, styles_of


@figure_of()
def plot_kept(curves: pd.DataFrame, router: str) -> Figure:
    """Accuracy on the questions that are kept, and what a fallback for the others gains, by the share kept.

    Parameters
    ----------
    curves : DataFrame
        From `embedllm.studies.selective_routing.Selection.curves`.
    router : str
        The method that gets a band in the upper panel, and whose questions are also kept in random order.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 5.6), sharex=True)
    for name, look in _looks(pd.unique(curves["method"])).items():
        rows = curves[curves["method"] == name]
        upper.plot(rows["kept"], rows["accuracy"], label=name, **look)
        lower.plot(rows["kept"], rows["gain"], **look)
        lower.fill_between(rows["kept"], rows["gain_low"], rows["gain_high"], alpha=0.15, linewidth=0, **look)
        if name == router:
            ends = rows["accuracy_low"], rows["accuracy_high"]
            upper.fill_between(rows["kept"], *ends, alpha=0.15, linewidth=0, **look)
    everything = curves.loc[(curves["method"] == router) & (curves["kept"] == 100), "accuracy"]
    dashed: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.2}
    upper.axhline(everything.mean(), label=f"{router}, random order", **dashed)
    lower.axhline(0, **dashed)
    upper.set(ylabel="correct answers\namong those kept (%)", title=sources(curves))
    lower.set(ylabel="fallback to the best single\nmodel: gain over all (points)")
    lower.set_xlabel(f"questions kept, most confident first (%; n = {curves['n_questions'].max():,})")
    legend(figure, upper)
    return figure


@figure_of(
    lambda *tables: pd.concat(
        each.assign(by=by) for each, by in zip(tables, ("probability", "similarity"), strict=True)
    )
)
def plot_reliability_of_choices(probability: pd.DataFrame, similarity: pd.DataFrame) -> Figure:
    """Predicted minus observed for the chosen models, by their probability and by the distance from training questions.

    Parameters
    ----------
    probability, similarity : DataFrame
        From `embedllm.studies.selective_routing.Selection.fifths`, by either.
    """
    figure, (upper, middle, lower) = plt.subplots(3, 1, figsize=(WIDTH, 7))
    looks, said = _looks(pd.unique(probability["method"])), "predicted minus\nobserved (points)"
    for axes, table, column, label in (
        (upper, probability, "excess", said),
        (middle, similarity, "excess", said),
        (lower, similarity, "accuracy", "correct answers (%)"),
    ):
        for (name, look), offset in zip(looks.items(), offsets(len(looks)), strict=True):
            rows = table[table["method"] == name]
            places = rows["fifth"] + offset
            axes.plot(places, rows[column], "o", markersize=5, label=name, **look)
            axes.vlines(places, rows[f"{column}_low"], rows[f"{column}_high"], linewidth=1.5, **look)
        axes.set_ylabel(label)
        means = table.groupby("fifth")["at"].mean()
        axes.set_xticks(means.index, [f"{each:.2f}" for each in means])
        axes.grid(axis="x", visible=False)
    for axes in (upper, middle):
        axes.axhline(0, color="black", linewidth=0.8)
    upper.set_xlabel("predicted probability of the chosen model\n(mean of each fifth of the questions)")
    sizes = sorted({*probability["n_questions"], *similarity["n_questions"]} or {0})
    n = f"{sizes[0]:,}" + (f" to {sizes[-1]:,}" if len(sizes) > 1 else "")
    lower.set_xlabel(f"similarity with the nearest training question\n(cosine; mean of each fifth, n = {n} in each)")
    upper.set_title(sources(probability))
    legend(figure, upper)
    return figure


def _looks(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The colour of each method, that of the stack as on the page on baselines."""
    colors = {name: {"color": style["color"]} for name, style in styles_of(methods).items()}
    own = {"stack": PALETTE[3], "best single model": PALETTE[4], "oracle order": PALETTE[2]}
    return {name: {"color": own.get(name, look["color"])} for name, look in colors.items()}
