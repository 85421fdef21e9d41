"""Figures of the page on sensitivity to the encoder and to the division of the questions."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedllm.plots._style import WIDTH, beside_row, figure_of, head, label_rows, legend, sources, styles_of


@figure_of()
def plot_encodings(table: pd.DataFrame, reference: str) -> Figure:
    """What predictors and routers gain or lose by other vectors of the questions, with paired 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.sensitivity.Encodings.table`.
    reference : str
        The encoding that was subtracted.
    """
    shown, n_questions = table[table["encoding"] != reference], table["n_questions"].iat[0]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 0.58 * shown["encoding"].nunique() + 2.2))
    _by_predictor(upper, shown, "encoding", "loss", "{:+z.4f}")
    _by_predictor(lower, shown, "encoding", "routing", "{:+z.2f}")
    upper.set(xlabel=f"log loss minus that by the {reference}\n(nats; n = {n_questions:,} questions)")
    upper.set_title("forecasting: left is better", fontsize=10)
    lower.set(xlabel=f"routing accuracy minus that by the {reference} (points)")
    lower.set_title("routing: right is better", fontsize=10)
    _finish(figure, table)
    return figure


@figure_of()
def plot_divisions(table: pd.DataFrame, reference: str) -> Figure:
    """How the accuracy of predictors changes with what a division of the questions keeps together.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.sensitivity.Divisions.table`.
    reference : str
        The rule that was subtracted.
    """
    rules = table.drop_duplicates("rule")
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 0.58 * len(rules) + 2.2))
    shown = table[table["rule"] != reference]
    _by_predictor(upper, shown, "rule", "accuracy", "{:+z.2f}")
    n_questions = table["n_questions"].iat[0]
    upper.set(xlabel=f"accuracy minus that by {reference}\n(points; n = {n_questions:,} questions)")
    upper.set_title("what a division keeps together", fontsize=10)
    label_rows(lower, [f"{rule} ({leaks:.1f} %)" for rule, leaks in zip(rules["rule"], rules["leaks"], strict=True)])
    for place, row in enumerate(rules.to_dict("records")):
        lower.hlines(place, row["interval_0"], row["interval_1"], color="#333333", linewidth=1.5)
        lower.plot(row["gap"], place, "o", color="#333333", markersize=6)
        beside_row(lower, place, f"{row['gap']:+z.2f}")
    lower.set(xlabel=f"accuracy: {rules['difference'].iat[0]} (points)")
    lower.set_title("in brackets: test questions with a near duplicate in training", fontsize=10)
    _finish(figure, table)
    return figure


def _by_predictor(axes: Axes, table: pd.DataFrame, rows: str, kind: str, form: str) -> None:
    """Draw a row for each encoding or rule, and in it a marker, its interval and its value for each predictor."""
    names, styles = list(pd.unique(table[rows])), styles_of(pd.unique(table["predictor"]))
    label_rows(axes, names)
    for number, (name, style) in enumerate(styles.items()):
        of = table[table["predictor"] == name]
        step = 0.7 / len(styles) * (number - (len(styles) - 1) / 2)  # one below the other, so that values have room
        places = [names.index(each) + step for each in of[rows]]
        axes.hlines(places, of[f"{kind}_low"], of[f"{kind}_high"], color=style["color"], linewidth=1.5)
        axes.plot(of[f"{kind}_minus"], places, linewidth=0, markersize=5, label=name, **style)
        for place, value in zip(places, of[f"{kind}_minus"], strict=True):
            beside_row(axes, place, form.format(value))
    axes.grid(axis="y", visible=False)


def _finish(figure: Figure, table: pd.DataFrame) -> None:
    for axes in figure.axes:
        axes.axvline(0, color="black", linewidth=0.8)
    head(figure, sources(table))
    legend(figure, figure.axes[0])
