"""Figures of the page on hyperparameters."""

import numpy as np

from embedllm.plots.tuning import plot_learning_curves, plot_sweep
from embedllm.studies.tuning import summarize_sweep, sweep_factorization


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestSweep:
    def test_lines_and_the_two_marks(self, sweep_and_curves):
        table = summarize_sweep(sweep_and_curves[0])
        for axes, metric in zip(plot_sweep(table, default=232).axes, ("log_loss", "accuracy"), strict=True):
            line, chosen, default = axes.lines
            np.testing.assert_array_equal(line.get_ydata(), table[metric])
            assert line.get_xdata().tolist() == [1, 2, 4, 8, 16, 32]
            assert chosen.get_ydata().tolist() == table.loc[table["chosen"], metric].tolist()
            assert set(default.get_xdata()) == {232}

    def test_noise_of_zero_is_drawn(self, pool, mf):
        sweep, _ = sweep_factorization(pool, mf, "alpha", [0.0, 0.05, 0.2], n_seeds=1)
        axes = plot_sweep(summarize_sweep(sweep), default=0.05).axes[0]
        assert labels(axes.xaxis) == ["0", "0.05", "0.2"]
        assert axes.get_xlim()[0] < 0 < 0.2 < axes.get_xlim()[1]


class TestLearningCurves:
    def test_lines_are_means_over_the_seeds(self, sweep_and_curves):
        curves = sweep_and_curves[1]
        left, right = plot_learning_curves(curves, values=3).axes
        assert [line.get_label() for line in right.lines] == ["1", "4", "32"]
        mean = curves[curves["value"] == 4].groupby("epoch")[["train_loss", "val_loss"]].mean()
        np.testing.assert_allclose(left.lines[1].get_ydata(), mean["train_loss"])
        np.testing.assert_allclose(right.lines[1].get_ydata(), mean["val_loss"])

    def test_fewer_values_than_asked_for(self, sweep_and_curves):
        curves = sweep_and_curves[1]
        axes = plot_learning_curves(curves[curves["value"] <= 2], values=5).axes[0]
        assert [line.get_label() for line in axes.lines] == ["1", "2"]
