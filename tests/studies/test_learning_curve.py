"""Accuracy against training size: nested subsets, no fit repeated, and the last point that of the comparison."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from embedllm import MatrixFactorization, TrainingPreset, evaluate_forecasts
from embedllm.predictors.sgd import PRESETS
from embedllm.protocol.runs import Settings, fit_repetitions
from embedllm.studies.learning_curve import learning_curve, neighbors_for, nested_subsets, size_table, training_sizes

SETTINGS = Settings(dim=8, n_neighbors=15, preset="brief")


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """A preset that takes no time on small data."""
    preset = TrainingPreset(pairs_per_step=2000, epochs=8, learning_rate=1e-2, weight_decay=1e-5, one_cycle=True)
    monkeypatch.setitem(PRESETS, "brief", preset)


class TestSizes:
    def test_of_the_paper(self):
        paper = [1000, 2000, 5000, 10_000, 15_000, 20_000, 25_000]
        assert training_sizes(29_673) == [*paper, 29_673]
        assert training_sizes(25_001) == [*paper, 25_001]
        assert training_sizes(25_000) == paper
        assert training_sizes(6000) == [1000, 2000, 5000, 6000]

    def test_small_data_are_divided(self):
        assert training_sizes(2682) == [134, 268, 670, 1341, 2682]
        assert training_sizes(32) == [2, 3, 8, 16, 32]

    @pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 1001, 4999, 40_000])
    def test_ascend_to_all(self, n):
        sizes = training_sizes(n)
        assert sizes == sorted(set(sizes))
        assert sizes[0] >= 1
        assert sizes[-1] == n


class TestSubsets:
    def test_are_nested(self, toy):
        subsets = list(nested_subsets(toy, [1, 5, 17, 40], seed=2))
        assert [part.n_questions for part in subsets] == [1, 5, 17, 40]
        for smaller, larger in pairwise(subsets):
            assert set(smaller.question_ids) < set(larger.question_ids)
        for part in subsets:
            assert sorted(part.question_ids, key=toy.question_ids.tolist().index) == part.question_ids.tolist()
            assert part.model_names.tolist() == toy.model_names.tolist()

    def test_seed_draws_them(self, toy):
        drawn = [next(nested_subsets(toy, [10], seed)).question_ids.tolist() for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]

    def test_every_benchmark_is_drawn_from(self, small_pool):
        matrix = small_pool[0]
        (part,) = nested_subsets(matrix, [matrix.n_questions // 2], seed=0)
        share = part.questions["benchmark"].value_counts() / matrix.questions["benchmark"].value_counts()
        assert share.max() < 0.7
        assert share.min() > 0.3

    def test_unanswered_questions_come_last(self, toy, relabel):
        labels = toy.labels.copy()
        labels[:, 10:] = -1
        for seed in range(3):
            ten, all_ = nested_subsets(relabel(toy, labels), [10, 40], seed)
            assert set(ten.question_ids) == set(toy.question_ids[:10])
            assert all_.n_questions == 40


def test_neighbors_fall_with_the_size():
    assert neighbors_for(131, 29_673, 29_673) == 131
    assert [neighbors_for(131, size, 29_673) for size in (1000, 5000, 20_000)] == [42, 72, 115]
    assert neighbors_for(131, 1000, 8000) == 66  # an eighth of the questions, half the neighbours
    assert neighbors_for(1, 1, 1000) == 1


@pytest.mark.parametrize("own_split", [True, False])
def test_curve(small_pool, own_split, monkeypatch):
    matrix = small_pool[0] if own_split else small_pool[0].subset(questions=np.arange(1784) % 6 == 0)
    if not own_split:
        matrix.questions = matrix.questions.drop(columns="split")
    fits = list(fit_repetitions(matrix, SETTINGS, seed=4, n_seeds=2))
    seeds, fit = [], MatrixFactorization.fit

    def counted(self, part, validation=None):
        seeds.append((self.random_state, part.n_questions))
        return fit(self, part, validation)

    monkeypatch.setattr(MatrixFactorization, "fit", counted)
    curve = learning_curve(fits, SETTINGS)
    *smaller, everything = training_sizes(fits[0].split.train.n_questions)
    # One fit a size and seed, none for the last size.
    assert seeds == [(seed, size) for seed in (4, 5) for size in smaller]
    keys = [(s, n, p) for s in (4, 5) for n in [*smaller, everything] for p in ("MF", "KNN", "benchmark mean")]
    assert list(curve[["seed", "size", "predictor"]].itertuples(index=False, name=None)) == keys
    assert (curve["data"] == matrix.source).all()
    # The last point is the comparison on all training questions.
    for each in fits:
        expected = evaluate_forecasts(each.predictors, each.split.test).query("benchmark == 'overall'")
        last = curve[(curve["seed"] == each.seed) & (curve["size"] == everything)]
        for metric in ("accuracy", "log_loss", "brier"):
            np.testing.assert_allclose(last[metric], expected[metric])
    pd.testing.assert_frame_equal(learning_curve(fits, SETTINGS), curve)


def test_points_are_fits_on_the_subsets(make_matrix):
    matrix = make_matrix(n_questions=100, missing=0.2)
    (fitted,) = fit_repetitions(matrix, SETTINGS, n_seeds=1)
    curve = learning_curve([fitted], SETTINGS)
    size = 20  # a quarter of the training questions
    (part,) = nested_subsets(fitted.split.train, [size], seed=0)
    mf = MatrixFactorization(dim=8, preset="brief", random_state=0).fit(part)
    row = curve[(curve["size"] == size) & (curve["predictor"] == "MF")].iloc[0]
    assert row["accuracy"] == pytest.approx(mf.score(fitted.split.test))


def test_more_questions_help_on_the_simulated_pool(small_pool):
    fits = list(fit_repetitions(small_pool[0], SETTINGS, n_seeds=1))
    accuracy = learning_curve(fits, SETTINGS).pivot(index="size", columns="predictor", values="accuracy")
    assert accuracy["MF"].iloc[-1] > accuracy["MF"].iloc[0] + 0.02
    assert accuracy["KNN"].iloc[-1] > accuracy["KNN"].iloc[0] + 0.02
    # What does not read the question has learned all it can from a few.
    assert abs(accuracy["benchmark mean"].iloc[-1] - accuracy["benchmark mean"].iloc[1]) < 0.02


def test_table_of_sizes():
    curve = pd.DataFrame(
        {
            "data": "d",
            "seed": [0, 0, 0, 0, 1, 1, 1, 1],
            "size": [10, 10, 200, 200] * 2,
            "predictor": ["b", "a"] * 4,
            "accuracy": [0.5, 0.6, 0.7, np.nan, 0.6, 0.7, 0.70004, np.nan],
        }
    )
    table = size_table(curve)
    assert table.index.tolist() == [("d", 10), ("d", 200)]
    assert table.columns.tolist() == ["b", "a"]
    assert table["b"].tolist() == [55, 70]
    assert table["a"].iloc[0] == 65
    assert np.isnan(table["a"].iloc[1])
