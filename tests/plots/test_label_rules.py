"""Figure of the page on rules for duplicated and missing labels."""

import numpy as np

from embedllm.plots.label_rules import plot_protocols


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestProtocols:
    def test_markers(self, comparison):
        left, right = plot_protocols(comparison).axes
        assert labels(left.yaxis) == ["majority", "any"]
        gaps = [line for line in right.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
        for line, way in zip(gaps, comparison["scored on"].unique(), strict=True):
            rows = comparison[comparison["scored on"] == way]
            np.testing.assert_array_equal(line.get_xdata(), rows["gap"])
            assert [round(place) for place in line.get_ydata()] == [0, 1]
        assert len(left.lines) == 6  # three methods, two ways of scoring
        assert len({line.get_ydata()[0] for line in gaps}) == 2
        assert "points" in right.get_xlabel()

    def test_intervals(self, comparison):
        right = plot_protocols(comparison).axes[1]
        segments = [segment for lines in right.collections for segment in lines.get_segments() if len(segment)]
        assert [segment[:, 0].tolist() for segment in segments] == [[-1, 9]] * 3  # the fourth is undefined

    def test_other_methods(self, comparison):
        named = comparison.rename(columns={"MF": "mine"}).assign(difference="mine minus KNN")
        figure = plot_protocols(named)
        assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == ["mine", "KNN", "benchmark mean"]
        assert figure.axes[1].get_xlabel() == "mine minus KNN (points)"
