"""Figures of the page on cost."""

import numpy as np

from embedllm.plots.cost import plot_routing_times, plot_training_flops


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestCosts:
    def test_training(self, training):
        (axes,) = plot_training_flops(training, 107.71).axes
        np.testing.assert_allclose(axes.collections[0].get_offsets(), [[80.1, 0], [0.02, 1]])
        assert axes.get_xscale() == "log"
        assert labels(axes.yaxis)[1] == "by block\n1,000 questions, 10 epochs"
        assert [text.get_text() for text in axes.texts] == ["80.1", "0.02"]
        assert axes.lines[0].get_xdata()[0] == 107.71

    def test_routing(self, costs):
        figure = plot_routing_times(costs, 3.8)
        (axes,) = figure.axes
        np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0.02, 0], [1.5, 1]])
        assert labels(axes.yaxis) == ["MF: route all at once", "MF, by pair: route one at a\ntime"]
        assert "A100: 3.80 s" in figure.legends[0].get_texts()[0].get_text()
