"""Figures of the page on correctness forecasting."""

import numpy as np
import pandas as pd
import pytest

from embedllm import BenchmarkMean, CorrectnessPredictor, KNNCorrectness, fit_runs
from embedllm.plots.forecasting import plot_forecasts, plot_history, plot_reliability, plot_training_sizes
from embedllm.protocol.calibration import pool_runs, reliability
from embedllm.studies.forecasting import forecast_table, learning_curve, tally_runs


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestHistory:
    def test_lines(self, history):
        (axes,) = plot_history(history, "toy").axes
        assert len(axes.lines) == 2
        for line, column in zip(axes.lines, ("train_loss", "val_loss"), strict=True):
            assert line.get_xdata().tolist() == [1, 2, 3]
            assert line.get_ydata().tolist() == history[column].tolist()
        assert axes.get_xlabel() == "epoch"
        assert "nats" in axes.get_ylabel()
        assert len(axes.get_legend().get_texts()) == 2


class TestForecasts:
    def test_markers(self, forecasts, assert_markers):
        figure = plot_forecasts(forecasts)
        drawn = assert_markers(figure.axes[0], forecasts, "predictor")
        assert len(drawn) == 3
        assert figure.axes[0].get_xlabel() == "share of answers predicted correctly"
        assert "test questions" in figure.axes[0].get_ylabel()
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(drawn)


class TestTrainingSizes:
    def test_lines_are_means_and_bands_ranges(self, curve):
        panels = plot_training_sizes(curve).axes
        for axes, metric in zip(panels, ("accuracy", "log_loss"), strict=True):
            assert labels(axes.xaxis) == ["10", "200", "1,000"]
            for line, band, name in zip(axes.lines, axes.collections, ("MF", "KNN", "my own"), strict=True):
                assert line.get_label() == name
                values = curve[curve["predictor"] == name].pivot(index="seed", columns="size", values=metric)
                np.testing.assert_array_equal(line.get_xdata(), [10, 200, 1000])
                np.testing.assert_allclose(line.get_ydata(), values.mean())
                corners = np.concatenate([path.vertices for path in band.get_paths()])
                for size in values.columns[values.notna().all()]:
                    ends = corners[corners[:, 0] == size, 1]
                    assert (ends.min(), ends.max()) == pytest.approx((values[size].min(), values[size].max()))
        assert "training questions" in panels[0].get_xlabel()
        assert "nats" in panels[1].get_ylabel()

    @pytest.mark.parametrize(("size", "expected"), [(200, [200, 1000]), (300, None)])
    def test_published_values_are_hollow_markers_at_the_same_sizes(self, curve, size, expected):
        rows = [("MF", size, 0.64), ("MF", np.nan, 0.74), ("another", 200, 0.5), ("another", np.nan, 0.5)]
        published = pd.DataFrame(rows, columns=["predictor", "size", "accuracy"])
        lines = {line.get_label(): line for line in plot_training_sizes(curve, published).axes[0].lines}
        assert "another, published" not in lines
        assert ("MF, published" in lines) == (expected is not None)
        if expected:
            assert lines["MF, published"].get_xdata().tolist() == expected
            assert lines["MF, published"].get_ydata().tolist() == [0.64, 0.74]
            assert lines["MF, published"].get_markerfacecolor() == "none"


class TestReliability:
    def test_points(self, reliability_bins):
        upper, lower = plot_reliability(reliability_bins).axes
        for name in ("KNN", "benchmark mean"):
            rows = reliability_bins[reliability_bins["predictor"] == name]
            (line,) = [line for line in upper.lines if line.get_label() == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["predicted"])
            np.testing.assert_allclose(line.get_ydata(), 100 * (rows["predicted"] - rows["observed"]))
        assert sum(sum(line.get_ydata()) for line in lower.lines) == pytest.approx(2)


class HalfOfKNN(CorrectnessPredictor):
    """A predictor of a reader: halfway between KNN and one half."""

    def __init__(self, n_neighbors=5):
        self.n_neighbors = n_neighbors

    def fit(self, matrix):
        self.knn_ = KNNCorrectness(self.n_neighbors).fit(matrix)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        return (self.knn_.predict_proba(embeddings) + 0.5) / 2


def test_own_predictor_enters_every_figure(pool):
    predictors = {
        "KNN": KNNCorrectness(9),
        "benchmark mean": BenchmarkMean(),
        "mine": HalfOfKNN(),
        "other": HalfOfKNN(2),
    }
    runs = list(fit_runs(pool, predictors, n_seeds=2))
    forecasts, curve, bins = forecast_table(tally_runs(runs)), learning_curve(runs)[0], pool_runs(reliability(runs))
    looks = set()
    for figure in (plot_forecasts(forecasts), plot_training_sizes(curve), plot_reliability(bins)):
        assert {"mine", "other"} < {text.get_text() for text in figure.legends[0].get_texts()}
        lines = {line.get_label(): line for line in figure.axes[0].lines if line.get_label() in predictors}
        assert list(lines) == list(predictors)
        looks.add(tuple((line.get_color(), line.get_marker()) for line in lines.values()))
    # The same colour and marker in every figure, and different ones for each predictor.
    (styles,) = looks
    assert len(set(styles)) == len({color for color, _ in styles}) == len(predictors)
