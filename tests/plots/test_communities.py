"""Figures of the page on communities of models."""

import numpy as np
import pytest

from embedllm.plots.communities import plot_communities, plot_model_map, plot_raw_distances


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def title(axes):
    return "".join(axes.get_title(place) for place in ("left", "center", "right"))


class TestCommunities:
    def test_marks(self, communities):
        table = communities
        left, right = plot_communities(table).axes
        assert (title(left), title(right)) == ("exact coordinates", "SGD's vectors")
        assert labels(left.yaxis) == ["7B (50)", "physics (2)", "chat (40)"]
        for axes, space in ((left, "exact"), (right, "SGD")):
            rows = table[table["space"] == space]
            lines = {line.get_label(): line for line in axes.lines}
            for label, paper in (("the paper's", True), ("other", False)):
                drawn, chosen = lines[label], (rows["paper"] == paper).to_numpy()
                np.testing.assert_array_equal(drawn.get_xdata(), rows["ratio"][chosen])
                assert drawn.get_ydata().tolist() == np.flatnonzero(chosen).tolist()
            (bands,) = axes.collections
            ends = np.array([segment[:, 0] for segment in bands.get_segments() if len(segment)])
            np.testing.assert_array_equal(ends[:, 0], rows["limit"].dropna())
            assert (ends[:, 1] == axes.get_xlim()[1]).all()  # the limit is one-sided
            assert np.isclose(axes.get_xticks(), 1).any()
        assert [text.get_text() for text in left.texts] == ["p < 0.001", "undefined", "p = 0.800"]
        assert [text.get_fontweight() for text in right.texts] == ["bold", "normal", "normal"]

    def test_all_undefined(self, communities):
        table = communities.assign(ratio=np.nan, limit=np.nan, p_corrected=np.nan)
        for axes in plot_communities(table).axes:
            assert {text.get_text() for text in axes.texts} == {"undefined"}


class TestRawDistances:
    def test_bars(self, communities):
        table = communities.query("space == 'SGD' and paper")
        (axes,) = plot_raw_distances(table).axes
        within, between = axes.containers
        assert within[0].get_width() == 18.0
        assert between[0].get_width() == 18.2
        assert within[0].get_x() == between[0].get_x() == 0
        assert labels(axes.yaxis) == ["7B (50)", "physics (2)"]
        assert [text.get_text() for text in axes.texts] == ["18.00 / 18.20", "fewer than 3 members"]
        assert "Figure 6" in title(axes)

    def test_nothing_to_draw(self, communities):
        table = communities.query("community == 'physics' and space == 'SGD'")
        assert plot_raw_distances(table).axes[0].get_xlim() == (0, 1)


class TestModelMap:
    @pytest.mark.parametrize("n_models", [1, 7, 112, 300])
    @pytest.mark.parametrize("dpi", [192, 60])
    def test_labels(self, positions_of, n_models, dpi):
        positions = positions_of(n_models, seed=n_models)
        figure = plot_model_map(positions)
        figure.set_dpi(dpi)  # where text is wider or narrower by a hair
        figure.draw_without_rendering()
        (axes,) = figure.axes
        slack = 1.0 if dpi == 60 else 0.0  # pixel
        boxes = [text.get_window_extent() for text in axes.texts]
        frame = axes.get_window_extent()
        for number, box in enumerate(boxes):
            assert frame.x0 - slack <= box.x0 < box.x1 <= frame.x1 + slack
            assert frame.y0 - slack <= box.y0 < box.y1 <= frame.y1 + slack
            for other in boxes[:number]:
                apart = max(other.x0 - box.x1, box.x0 - other.x1, other.y0 - box.y1, box.y0 - other.y1)
                assert apart >= -slack
        # Each is of the point that it is tied to, lies beside it, and covers no other.
        pixels = axes.transData.transform(positions[["x", "y"]])
        for text, box in zip(axes.texts, boxes, strict=True):
            point = positions.index.get_loc(text.get_text())
            assert text.xy == tuple(positions.iloc[point][["x", "y"]])
            gaps = np.maximum([box.x0, box.y0] - pixels, pixels - [box.x1, box.y1]).max(axis=1)
            assert 0 < gaps[point] < 12 * dpi / 72
            assert (gaps > 0).all()
        assert len({text.get_text() for text in axes.texts}) == len(axes.texts)
        assert len(axes.texts) >= min(n_models, 6) - (n_models > 1)

    def test_distances_count_alike_in_all_directions(self, positions_of):
        assert plot_model_map(positions_of(30)).axes[0].get_aspect() == 1

    def test_the_same_point_twice(self, positions_of):
        positions = positions_of(2).assign(x=1.0, y=2.0)
        assert len(plot_model_map(positions).axes[0].texts) <= 2

    def test_markers(self, positions_of):
        positions = positions_of(30)
        figure = plot_model_map(positions)
        drawn = dict(zip(["chat", "code", ""], figure.axes[0].collections, strict=True))
        for specialization, points in drawn.items():
            rows = positions[positions["specialization"] == specialization]
            np.testing.assert_allclose(points.get_offsets(), rows[["x", "y"]])
            # The larger the model, the larger the marker; one of unknown size has the smallest.
            order = rows["params_b"].fillna(0).to_numpy().argsort(kind="stable")
            assert (np.diff(points.get_sizes()[order]) >= 0).all()
        kinds, sizes = ([text.get_text() for text in legend.get_texts()] for legend in figure.legends)
        assert kinds == ["chat", "code", "none or other"]
        assert sizes == ["0.5B", "7B", "70B", "not known"]

    def test_more_specializations_than_colours(self, positions_of):
        positions = positions_of(30).assign(specialization=[f"tag {number % 15}" for number in range(30)])
        (legend, _) = plot_model_map(positions).legends
        assert len(legend.get_texts()) == 10
        assert legend.get_texts()[-1].get_text() == "none or other"
