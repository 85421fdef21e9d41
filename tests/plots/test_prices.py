"""Figure of the page on prices."""

import numpy as np
import pandas as pd

from embedllm.plots.prices import plot_frontiers


def test_methods_are_lines_and_single_models_are_points():
    rows = [("stack", 1, 40), ("stack", 3, 60), ("oracle", 1, 90), ("random mixture", 1, 40), ("random mixture", 5, 50)]
    rows += [("single models", 1, 40), ("single models", 5, 50), ("best single model", 5, 50)]
    table = pd.DataFrame(rows, columns=["method", "cost", "accuracy"]).assign(data="x", unit="tokens")
    gains = [("stack", 1, 0, np.nan, np.nan), ("stack", 5, 10, 5, 15), ("oracle", 1, 50, 40, 60)]
    gains = pd.DataFrame(gains, columns=["method", "cost", "points", "low", "high"]).assign(data="x", unit="tokens")
    figure = plot_frontiers(table, gains)
    upper, lower = figure.axes
    drawn = {line.get_label(): line for line in upper.lines}
    assert set(drawn) == set(table["method"])
    for name, line in drawn.items():
        of = table[table["method"] == name]
        np.testing.assert_array_equal(line.get_xydata(), of[["cost", "accuracy"]])
        assert (line.get_linewidth() == 0) == (name in ("single models", "best single model"))
    stack, zero = lower.lines
    np.testing.assert_array_equal(stack.get_xydata(), [[1, 0], [5, 10]])
    assert stack.get_color() == drawn["stack"].get_color()
    assert set(zero.get_ydata()) == {0}
    assert figure.get_supxlabel() == "cost of a question (tokens)"


def test_without_costs_the_figure_says_so():
    table = pd.DataFrame(columns=["data", "unit", "method", "cost", "accuracy"])
    gains = pd.DataFrame(columns=["data", "unit", "method", "cost", "points", "low", "high"])
    assert plot_frontiers(table, gains).axes[0].get_title("left") == "no two models of known, different cost"
