"""Figures of the page on contributions of benchmarks."""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle

from embedllm.plots.contributions import plot_contribution_sums, plot_contributions


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestSums:
    def test_bars_and_intervals(self, pool, contributions):
        sums = contributions.sums()
        left, right = plot_contribution_sums(sums).axes
        assert labels(left.yaxis) == pool.benchmark_names
        for axes, name in ((left, "gives"), (right, "gains")):
            assert [bar.get_width() for bar in axes.patches] == pytest.approx(sums[name].fillna(0).tolist())
            segments = np.array([line for line in axes.collections[0].get_segments() if len(line)])[:, :, 0]
            np.testing.assert_allclose(segments, sums[[f"{name}, low", f"{name}, high"]].dropna())
        # On the last one nothing is defined.
        assert [text.get_text() for text in right.texts] == ["cannot be tested"]
        assert not left.texts


class TestContributions:
    def test_cells(self, pool, contributions):
        table = contributions.table()
        names = pool.benchmark_names
        axes, bar = plot_contributions(table, [(names[0], names[2])]).axes
        (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
        drawn = np.ma.filled(mesh.get_array(), np.nan).reshape(4, 4)
        # Rows give, columns gain; blank, not zero, where nothing is defined.
        expected = table.pivot(index="contributor", columns="testee", values="contribution").loc[names, names]
        np.testing.assert_array_equal(drawn, expected)
        assert np.isnan(drawn[:, 3]).all()
        assert labels(axes.yaxis) == names
        sizes = ["(150)", "(150)", "(60)", "(60)"]
        assert labels(axes.xaxis) == [f"{name} {size}" for name, size in zip(names, sizes, strict=True)]
        assert bar.get_xlabel() == "rise of the total test MSE without it"
        others = np.abs(drawn[~np.eye(4, dtype=bool)])
        assert mesh.norm.vmax == -mesh.norm.vmin == np.nanmax(others)
        rows = table.dropna().itertuples()
        texts = [f"{row.contribution:.1f}{'*' * row.clear}" for row in rows]
        assert sorted(text.get_text() for text in axes.texts) == sorted(texts)
        frames = [patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_hatch()]
        assert [frame.get_xy() for frame in frames] == [(2, 0)]
        assert [patch.get_x() for patch in axes.patches if patch.get_hatch()] == [2, 3]

    def test_many_benchmarks_have_stars_alone(self, contributions):
        table = contributions.table().assign(clear=True)
        axes, _ = plot_contributions(table, annotated=3).axes
        assert {text.get_text() for text in axes.texts} == {"*"}

    def test_one_benchmark(self, contributions):
        table = contributions.table().query("contributor == testee == 'bench-0'")
        assert plot_contributions(table).axes
