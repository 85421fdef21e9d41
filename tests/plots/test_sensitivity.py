"""Figures of the page on the encoder and the division."""

import numpy as np
import pandas as pd

from embedllm.plots.sensitivity import plot_divisions, plot_encodings


def markers(axes):
    """Values of each series with markers, and the labels of the rows that they lie in."""
    rows = [label.get_text() for label in axes.get_yticklabels()]
    drawn = {line.get_label(): line for line in axes.lines if line.get_marker() in ("o", "s")}
    return {
        name: dict(zip([rows[round(y)] for y in line.get_ydata()], line.get_xdata(), strict=True))
        for name, line in drawn.items()
    }


def table_of(column, names, kinds):
    rows = [(name, predictor) for name in names for predictor in ("MF", "KNN")]
    table = pd.DataFrame(rows, columns=[column, "predictor"]).assign(data="x", n_questions=1000)
    for number, kind in enumerate(kinds):
        table[f"{kind}_minus"] = number + np.arange(len(table)) / 10
        table[f"{kind}_low"], table[f"{kind}_high"] = table[f"{kind}_minus"] - 1, table[f"{kind}_minus"] + 1
    return table


def test_each_encoding_is_a_row_with_a_marker_for_each_predictor():
    table = table_of("encoding", ["embedding", "words", "random"], ["loss", "routing"])
    figure = plot_encodings(table, "embedding")
    for axes, kind in zip(figure.axes, ("loss", "routing"), strict=True):
        expected = table[table["encoding"] != "embedding"].pivot(index="encoding", columns="predictor")[f"{kind}_minus"]
        assert markers(axes) == expected.to_dict()
    assert "n = 1,000 questions" in figure.axes[0].get_xlabel()
    assert [text.get_text() for text in figure.axes[0].texts] == ["+0.2000", "+0.4000", "+0.3000", "+0.5000"]


def test_each_rule_is_a_row_with_its_share_of_leaks():
    table = table_of("rule", ["nothing", "same text", "benchmark"], ["accuracy"])
    gap = np.repeat([1.0, 0.9, 5.0], 2)
    table = table.assign(gap=gap, interval_0=gap - 1, interval_1=gap + 1, leaks=[7, 7, 5, 5, 0, 0])
    upper, lower = plot_divisions(table.assign(difference="MF minus KNN"), "same text").axes
    assert markers(upper)["KNN"] == {"nothing": 0.1, "benchmark": 0.5}
    assert [label.get_text() for label in lower.get_yticklabels()] == [
        "nothing (7.0 %)",
        "same text (5.0 %)",
        "benchmark (0.0 %)",
    ]
    assert [line.get_xdata()[0] for line in lower.lines if line.get_marker() == "o"] == [1.0, 0.9, 5.0]
    assert lower.get_xlabel() == "accuracy: MF minus KNN (points)"
