"""Figures of the page on predicting accuracy on a held-out benchmark."""

import numpy as np
import pandas as pd

from embedllm.plots.benchmark_prediction import plot_heldout, plot_rank_correlations
from embedllm.studies.benchmark_prediction import EXACT, SGD, count_significant, summarize_correlations


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn(heldout, *predictors, benchmark="bench-0"):
    counts = count_significant(heldout.splits)
    models = heldout.models[heldout.models["benchmark"] == benchmark]
    return tuple(table[table["predictor"].isin(predictors)] for table in (counts, models))


class TestHeldout:
    def test_a_bar_for_each_benchmark_and_a_point_for_each_model(self, pool, heldout):
        counts, models = drawn(heldout, SGD, EXACT)
        figure = plot_heldout(counts, models)
        left, right = figure.axes
        names = pool.benchmark_names
        assert labels(left.yaxis) == [f"{name} (23)" for name in names[:3]] + [f"{names[3]}: too few models"]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [SGD, EXACT]
        for name, bars in zip((SGD, EXACT), left.containers, strict=True):
            rows = counts[counts["predictor"] == name]
            assert [bar.get_width() for bar in bars] == rows["splits"].fillna(0).tolist()
            assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == [0, 1, 2, 3]
        *points, diagonal = right.lines
        for name, line in zip((SGD, EXACT), points, strict=True):
            rows = models[models["predictor"] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["actual"])
            np.testing.assert_array_equal(line.get_ydata(), rows["predicted"])
        assert diagonal.get_slope() == 1
        assert "bench-0" in right.get_xlabel()

    def test_one_predictor_and_nothing_that_can_be_tested(self, heldout):
        counts, models = drawn(heldout, EXACT, benchmark="bench-3")
        left, right = plot_heldout(counts[counts["n_test"] == 0], models).axes
        assert [bar.get_width() for bar in left.patches] == [0]
        assert len(right.lines) == 2


class TestRankCorrelations:
    def test_markers_and_intervals(self, pool, heldout):
        summary = summarize_correlations(heldout.models, 50)
        (axes,) = plot_rank_correlations(summary).axes
        names = ["overall", *pool.benchmark_names]
        sizes = summary.drop_duplicates("benchmark")["n_models"]
        assert labels(axes.yaxis) == [f"{name} ({size})" for name, size in zip(names, sizes, strict=True)]
        assert sizes.tolist() == [9, 9, 8, 5, 0]
        found = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert list(found) == ["ridge", "mean accuracy"]
        for name, line in found.items():
            rows = summary[summary["predictor"] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["tau"])
            assert [round(place) for place in line.get_ydata()] == [0, 1, 2, 3, 4]
        segments = np.array([line for lines in axes.collections for line in lines.get_segments() if len(line)])
        shown = summary[summary["predictor"].isin(list(found))].dropna()
        assert sorted(segments[:, 0, 0]) == sorted(shown["low"])
        assert sorted(segments[:, 1, 0]) == sorted(pd.Series(shown["high"]))
