"""Figures of the page on the data, by what stands on the axes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.container import BarContainer

from embedllm import CorrectnessMatrix
from embedllm.plots.dataset import plot_accuracy, plot_agreement, plot_composition, plot_distributions
from embedllm.studies.dataset import correct_shares, histograms, pairwise_agreement


def bars(axes):
    return [bar for container in axes.containers if isinstance(container, BarContainer) for bar in container]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def title(axes):
    return "".join(axes.get_title(place) for place in ("left", "center", "right"))


class TestComposition:
    def test_bars_are_the_questions_of_each_benchmark(self, pool):
        figure = plot_composition(pool)
        left, right = figure.axes
        counts = pool.questions["benchmark"].value_counts()
        assert [bar.get_width() for bar in bars(left)] == counts.tolist()
        assert labels(left.yaxis) == counts.index.tolist()
        assert [text.get_text() for text in left.texts] == [f"{count:,}" for count in counts]
        assert left.get_xlabel() == "questions"
        assert f"{pool.n_questions} questions, {pool.n_models} models" in figure.get_suptitle()
        assert right.get_xlabel() == "accuracy of a model"

    def test_boxes_are_over_observed_answers(self, pool):
        # The median line of each box against the accuracies over observed cells.
        accuracy = pool.accuracy(by=["model", "benchmark"])["accuracy"]
        assert accuracy.isna().sum() == 5
        medians = accuracy.groupby("benchmark").median()
        right = plot_composition(pool).axes[1]
        drawn = [
            line.get_xdata()[0]
            for line in right.lines
            if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
        ]
        for name in pool.benchmark_names:
            assert np.isclose(drawn, medians[name]).any(), name

    def test_percent(self, pool):
        assert all(label.endswith("%") for label in labels(plot_composition(pool).axes[1].xaxis))


class TestAccuracy:
    def test_cells(self, pool):
        axes, bar = plot_accuracy(pool).axes
        (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
        drawn = np.ma.asarray(mesh.get_array()).reshape(9, 4)
        best_first = pool.accuracy(by="model")["accuracy"].sort_values(ascending=False).index
        table = pool.accuracy(by=["model", "benchmark"])["accuracy"]
        for row, model in enumerate(best_first):
            for column, benchmark in enumerate(pool.benchmark_names):
                value = table[model, benchmark]
                if np.isnan(value):
                    assert drawn.mask[row, column]  # blank, not zero
                else:
                    assert drawn[row, column] == pytest.approx(100 * value)
        assert labels(axes.xaxis) == pool.benchmark_names
        assert labels(axes.yaxis) == best_first.tolist()
        assert bar.get_ylabel() == "accuracy (%)"
        assert "9" in axes.get_ylabel()

    def test_many_models_do_not_make_the_figure_endless(self, make_matrix):
        figure = plot_accuracy(make_matrix(n_models=300, n_questions=40))
        assert figure.get_size_inches()[1] <= 9
        assert len(labels(figure.axes[0].yaxis)) <= 40


class TestDistributions:
    def test_every_model_and_question_is_counted(self, pool):
        left, right = plot_distributions(histograms(pool)).axes
        assert sum(bar.get_height() for bar in bars(left)) == pool.n_models
        assert sum(bar.get_height() for bar in bars(right)) == pool.n_questions
        assert bars(right)[-1].get_height() == (correct_shares(pool) >= 0.95).sum()
        assert all(label.endswith("%") for label in labels(left.xaxis) + labels(right.xaxis))


class TestAgreement:
    def test_cells(self, pool):
        agreement = pairwise_agreement(pool)
        left, right, *_ = plot_agreement(agreement.pairs(), agreement.order(), pool.source).axes
        order = agreement.order()
        for axes, table in ((left, agreement.agreement), (right, agreement.kappa)):
            (mesh,) = [artist for artist in axes.collections if isinstance(artist, QuadMesh)]
            drawn = np.ma.filled(mesh.get_array(), np.nan).reshape(len(order), len(order))
            expected = table.loc[order, order].to_numpy(copy=True)
            np.fill_diagonal(expected, np.nan)  # a model and itself
            np.testing.assert_array_equal(drawn, expected)
        assert labels(left.yaxis) == order

    @pytest.mark.parametrize("answers", [[[1]], [[1, -1], [-1, 0]]])
    def test_no_pair_to_compare(self, answers):
        frame = pd.DataFrame(answers, [f"m{n}" for n in range(len(answers))], [f"q{n}" for n in range(len(answers))])
        questions = pd.DataFrame({"benchmark": "x"}, frame.columns)
        matrix = CorrectnessMatrix(frame, questions, np.ones((len(questions), 2)))
        agreement = pairwise_agreement(matrix)
        assert plot_agreement(agreement.pairs(), agreement.order(), matrix.source).axes


def test_simulated_pool_fits_on_the_page(small_pool):
    # 112 models and 10 benchmarks, the case that the book shows.
    for figure in (plot_composition(small_pool[0]), plot_accuracy(small_pool[0])):
        figure.draw_without_rendering()
        assert figure.get_tightbbox().x1 < figure.get_size_inches()[0] + 0.05


def test_one_benchmark_of_one_question():
    frame = pd.DataFrame([[1], [0]], ["a", "b"], ["q"])
    matrix = CorrectnessMatrix(frame, pd.DataFrame({"benchmark": ["x"]}, index=["q"]), np.ones((1, 2)))
    for figure in (
        plot_composition(matrix),
        plot_accuracy(matrix),
    ):
        assert figure.axes
