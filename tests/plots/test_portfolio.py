"""Figures of the page on portfolios."""

import numpy as np


def test_portfolios_are_lines_and_random_ones_are_only_above(draw):
    upper, lower = draw["plot_portfolio"]().axes
    drawn = {line.get_label(): line for line in upper.lines}
    assert set(drawn) == {
        "greedy choice", "most accurate models", "random models", "all 9 models", "best single model"
    }  # fmt: skip
    np.testing.assert_array_equal(drawn["greedy choice"].get_xydata(), np.c_[range(1, 10), range(51, 60)])
    np.testing.assert_array_equal(drawn["best single model"].get_xydata(), [[1, 51]])
    below = [line for line in lower.lines if len(line.get_xdata()) == 9]
    assert [line.get_color() for line in below] == [drawn[n].get_color() for n in list(drawn)[:2]]
    assert [label.get_text() for label in lower.get_xticklabels()] == ["1", "2", "3", "5", "9"]


def test_flagged_pairs_are_named(draw, pool):
    figure = draw["plot_pairs"]()
    counts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert counts == ["other pairs (27)", "other pairs of one family (6)", "flagged pairs (3)"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3"]
    assert pool.model_names[1] in figure.get_supxlabel()
