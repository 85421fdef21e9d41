"""Figures of the page on selective routing."""

import numpy as np
import pandas as pd

from embedllm.plots.selective_routing import plot_kept, plot_reliability_of_choices


def test_gains_are_drawn_of_routers_and_accuracies_of_all():
    rows = [
        ("stack", 50, 90, 1),
        ("stack", 100, 70, 0),
        ("oracle order", 50, 100, np.nan),
        ("oracle order", 100, 70, np.nan),
    ]
    curves = pd.DataFrame(rows, columns=["method", "kept", "accuracy", "gain"]).assign(data="x", n_questions=1234)
    curves = curves.assign(accuracy_low=60.0, accuracy_high=95.0, gain_low=-1.0, gain_high=2.0)
    upper, lower = plot_kept(curves, "stack").axes
    drawn = {line.get_label(): line for line in upper.lines}
    assert set(drawn) == {"stack", "oracle order", "stack, random order"}
    np.testing.assert_array_equal(drawn["stack"].get_xydata(), [[50, 90], [100, 70]])
    assert set(drawn["stack, random order"].get_ydata()) == {70}
    stack, *_ = lower.lines
    np.testing.assert_array_equal(stack.get_xydata(), [[50, 1], [100, 0]])
    assert stack.get_color() == drawn["stack"].get_color()
    assert lower.get_xlabel() == "questions kept, most confident first (%; n = 1,234)"


def test_each_fifth_has_a_marker_for_each_method():
    fifths = pd.DataFrame({"method": ["MF", "MF", "stack", "stack"], "fifth": [1, 5] * 2, "at": [0.2, 0.6, 0.4, 0.8]})
    fifths = fifths.assign(data="x", n_questions=[8, 9, 8, 9], excess=[1, 2, 3, 4], accuracy=[50, 60, 70, 80])
    fifths = fifths.assign(**{f"{column}_{end}": 1.0 for column in ("excess", "accuracy") for end in ("low", "high")})
    figure = plot_reliability_of_choices(fifths, fifths)
    for axes, column in zip(figure.axes, ("excess", "excess", "accuracy"), strict=True):
        drawn = {line.get_label(): line for line in axes.lines if line.get_marker() == "o"}
        assert {name: line.get_ydata().tolist() for name, line in drawn.items()} == {
            name: rows[column].tolist() for name, rows in fifths.groupby("method")
        }
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0.30", "0.70"]
    assert figure.axes[-1].get_xlabel().endswith("mean of each fifth, n = 8 to 9 in each)")
