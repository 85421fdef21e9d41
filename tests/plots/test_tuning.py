"""Figures of the page on hyperparameters."""

import numpy as np

from embedllm.plots.tuning import plot_sweep
from embedllm.studies.tuning import along, summarize_sweep, sweep_factorization


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestSweep:
    def test_lines_and_the_two_marks(self, sweep):
        table = summarize_sweep(sweep)
        for axes, metric in zip(plot_sweep(table, default=232).axes, ("log_loss", "accuracy"), strict=True):
            line, chosen, default = axes.lines
            np.testing.assert_array_equal(line.get_ydata(), table[metric])
            assert line.get_xdata().tolist() == [1, 2, 4, 8, 16, 32]
            assert chosen.get_ydata().tolist() == table.loc[table["chosen"], metric].tolist()
            assert set(default.get_xdata()) == {232}

    def test_values_of_alpha_are_written(self, pool):
        paths = sweep_factorization(pool, [0.025, 0.05, 0.2], [2], n_seeds=1)
        axes = plot_sweep(summarize_sweep(along(paths, "alpha", fixed=2)), default=0.05).axes[0]
        assert labels(axes.xaxis) == ["0.025", "0.05", "0.2"]
