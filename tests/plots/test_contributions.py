"""Figure of the page on contributions of benchmarks."""

import numpy as np
from matplotlib.collections import QuadMesh

from embedllm.plots.contributions import plot_contributions


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestContributions:
    def test_cells(self, pool, contributions):
        changes = contributions.table("pairwise ranking accuracy")
        axes, bar = plot_contributions(changes).axes
        (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
        drawn = np.ma.filled(mesh.get_array(), np.nan).reshape(4, 4)
        # Rows are left out, columns forecast; blank, not zero, where nothing is defined.
        np.testing.assert_array_equal(drawn, changes["change"].to_numpy().reshape(4, 4))
        assert np.isnan(drawn[:, 3]).all()
        assert labels(axes.yaxis) == labels(axes.xaxis) == pool.benchmark_names
        assert "left out" in axes.get_ylabel()
        assert "pairwise ranking accuracy (points)" in bar.get_ylabel()
        others = np.abs(drawn[~np.eye(4, dtype=bool)])
        assert mesh.norm.vmax == -mesh.norm.vmin == np.nanmax(others)
        texts = [f"{row.change:+.1f}{'*' * row.clear}" for row in changes.dropna().itertuples()]
        assert [text.get_text() for text in axes.texts] == texts

    def test_many_benchmarks_have_stars_alone(self, pool, contributions):
        changes = contributions.table("accuracy").assign(clear=[True, False] * 8)
        axes, _ = plot_contributions(changes, annotated=3).axes
        assert [text.get_text() for text in axes.texts] == ["*", "", "*"] * 2 + ["*", "", "*"] * 2

    def test_one_benchmark(self, contributions):
        changes = contributions.table("accuracy").query("left_out == benchmark == 'bench-0'")
        assert plot_contributions(changes).axes
