"""Repetitions over seeds, and predictors that are fitted alike in all of them."""

import numpy as np
import pytest

from embedllm import KNNCorrectness, MatrixFactorization
from embedllm.protocol.runs import Remembered, Settings, fit_repetitions, repetitions, seeds_of


@pytest.fixture(scope="module")
def settings():
    return Settings(dim=4, alpha=0.02, n_neighbors=3)


def test_defaults_are_the_papers():
    assert (Settings().dim, Settings().alpha, Settings().n_neighbors) == (232, 0.05, 131)


def test_settings_reach_the_predictors(settings):
    mf = Settings(dim=7, alpha=0.1, preset="paper").mf(5)
    assert (mf.dim, mf.alpha, mf.preset, mf.random_state) == (7, 0.1, "paper", 5)
    assert settings.knn().n_neighbors == 3


def test_seeds():
    assert list(seeds_of(3, 2)) == [3, 4]
    with pytest.raises(ValueError, match="n_seeds must be a positive whole number, got 0"):
        seeds_of(0, 0)
    with pytest.raises(ValueError, match="the seed"):
        seeds_of(-1, 2)


def test_a_random_split_is_drawn_for_each_seed(toy):
    first, second = repetitions(toy, seed=1, n_seeds=2)
    assert (first.seed, second.seed) == (1, 2)
    for repetition in (first, second):
        expected = toy.split(random_state=repetition.seed)
        for got, wanted in zip(repetition.split, expected, strict=True):
            assert got.question_ids.tolist() == wanted.question_ids.tolist()
    assert set(first.split.test.question_ids) != set(second.split.test.question_ids)


def test_the_sources_own_split_is_kept(small_pool):
    matrix = small_pool[0]
    first, second = repetitions(matrix, n_seeds=2)
    assert first.split is second.split
    assert set(first.split.test.questions["split"]) == {"test"}


def test_fits_are_those_of_the_classes(toy_with_holes, settings):
    for fitted in fit_repetitions(toy_with_holes, settings, seed=2, n_seeds=2):
        train, val, test = fitted.split
        alone = MatrixFactorization(dim=4, alpha=0.02, random_state=fitted.seed).fit(train)
        np.testing.assert_array_equal(fitted.predictors["MF"].predict_matrix(test), alone.predict_matrix(test))
        knn = KNNCorrectness(3).fit(train)
        np.testing.assert_array_equal(fitted.predictors["KNN"].predict_matrix(val), knn.predict_matrix(val))
        assert list(fitted.predictors) == ["MF", "KNN", "benchmark mean"]


def test_what_no_seed_moves_is_fitted_once(small_pool, toy, settings):
    first, second = fit_repetitions(small_pool[0], settings, n_seeds=2)
    assert first.predictors["KNN"] is second.predictors["KNN"]
    assert first.predictors["MF"] is not second.predictors["MF"]
    first, second = fit_repetitions(toy, settings, n_seeds=2)
    assert first.predictors["KNN"] is not second.predictors["KNN"]


def test_predictions_are_computed_once_for_a_matrix(toy):
    class Counted(KNNCorrectness):
        calls = 0

        def predict_proba(self, embeddings):
            self.calls += 1
            return super().predict_proba(embeddings)

    counted = Counted(3).fit(toy)
    remembered = Remembered(counted)
    part = toy.subset(questions=toy.question_ids[:5])
    for matrix in (toy, toy, part, part):
        np.testing.assert_array_equal(
            remembered.predict_matrix(matrix), KNNCorrectness(3).fit(toy).predict_matrix(matrix)
        )
    assert counted.calls == 2
    assert remembered.score(part) == counted.score(part)
    np.testing.assert_array_equal(remembered.predict_proba(part.embeddings), counted.predict_proba(part.embeddings))
    with pytest.raises(NotImplementedError, match="fit the predictor first"):
        remembered.fit(toy)
