"""Figures of the page on portfolios."""

import numpy as np
import pandas as pd

from embedllm.plots.portfolio import plot_pairs


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


def test_numbers_of_near_pairs_are_apart():
    near = 0.3 + np.arange(8) / 500
    pairs = pd.DataFrame({"distance": near, "correlation": near[::-1], "model": "a", "other": "b", "data": "x"})
    far = pd.DataFrame({"distance": [2.0], "correlation": [0.0], "model": "a", "other": "b", "data": "x"})
    table = pd.concat([pairs.assign(flagged=True), far.assign(flagged=False)]).assign(same_family=False)
    figure = plot_pairs(table)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 8
    assert not [1 for n, box in enumerate(boxes) for other in boxes[:n] if box.overlaps(other)]
