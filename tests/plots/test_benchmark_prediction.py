"""Figures of the page on predicting accuracy on a held-out benchmark."""

import numpy as np
import pandas as pd

from embedllm.plots.benchmark_prediction import plot_heldout, plot_rank_correlations
from embedllm.studies.benchmark_prediction import summarize_correlations


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def title(axes):
    return "".join(axes.get_title(place) for place in ("left", "center", "right"))


class TestHeldout:
    def test_a_panel_for_each_benchmark_and_a_point_for_each_model(self, pool, heldout):
        panels = plot_heldout(heldout, "model directions").axes
        assert [title(axes) for axes in panels] == pool.benchmark_names
        means = heldout[heldout["predictor"] == "model directions"].groupby(["benchmark", "model"])[
            ["predicted", "actual"]
        ]
        for axes, benchmark in zip(panels, pool.benchmark_names, strict=True):
            points, diagonal = axes.lines
            expected = means.mean().loc[benchmark].loc[pool.model_names]
            np.testing.assert_array_equal(points.get_xdata(), expected["actual"])
            np.testing.assert_array_equal(points.get_ydata(), expected["predicted"])
            assert diagonal.get_slope() == 1
        # The model without an answer, and the benchmark without a prediction.
        assert [np.isfinite(axes.lines[0].get_ydata()).sum() for axes in panels] == [9, 8, 5, 0]

    def test_last_row_is_not_full(self, heldout):
        # Seven benchmarks in rows of four.
        more = [heldout.assign(benchmark=heldout["benchmark"] + suffix) for suffix in ("", "'")]
        table = pd.concat(more).query('benchmark != "bench-0\'"')
        figure = plot_heldout(table)
        assert len(figure.axes) == 7
        assert "embeddings" in figure.get_supylabel()


class TestRankCorrelations:
    def test_markers_and_intervals(self, pool, heldout):
        summary = summarize_correlations(heldout, 50)
        (axes,) = plot_rank_correlations(summary).axes
        names = ["overall", *pool.benchmark_names]
        sizes = summary.drop_duplicates("benchmark")["n_models"]
        assert labels(axes.yaxis) == [f"{name} ({size})" for name, size in zip(names, sizes, strict=True)]
        assert sizes.tolist() == [9, 9, 8, 5, 0]
        drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        assert list(drawn) == ["embeddings", "model directions", "mean accuracy"]
        for name, line in drawn.items():
            rows = summary[summary["predictor"] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["tau"])
            assert [round(place) for place in line.get_ydata()] == [0, 1, 2, 3, 4]
        segments = np.array([line for lines in axes.collections for line in lines.get_segments() if len(line)])
        shown = summary[summary["predictor"].isin(list(drawn))].dropna()
        assert sorted(segments[:, 0, 0]) == sorted(shown["low"])
        assert sorted(segments[:, 1, 0]) == sorted(shown["high"])
