"""Runs over seeds: clones fitted alike in all of them, predictions of the test part computed once."""

import itertools

import numpy as np
import pytest

from embedllm import BenchmarkMean, CorrectnessPredictor, KNNCorrectness, MatrixFactorization, TrainingPreset, fit_runs
from embedllm.protocol.runs import fit_clone, split_runs

BRIEF = TrainingPreset(pairs_per_step=64, epochs=2, learning_rate=0.01, weight_decay=0)
PREDICTORS = {
    "MF": MatrixFactorization(dim=4, alpha=0.02, solver="sgd", preset=BRIEF, random_state=77),
    "KNN": KNNCorrectness(n_neighbors=3),
    "benchmark mean": BenchmarkMean(),
}


class Counted(CorrectnessPredictor):
    """Predicts one half, and counts fits and predictions over all its clones."""

    fits, predictions = [], []

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, matrix, validation=None):
        self.fits.append((self.random_state, validation))
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        self.predictions.append(len(embeddings))
        return np.full((len(embeddings), len(self.model_names_)), 0.5, dtype=np.float32)


class Unseeded(Counted):
    fits, predictions = [], []

    def __init__(self):
        pass

    def fit(self, matrix):
        self.fits.append(None)
        self.model_names_ = matrix.model_names
        return self


@pytest.fixture(autouse=True)
def reset():
    for kind in (Counted, Unseeded):
        kind.fits.clear()
        kind.predictions.clear()


@pytest.mark.parametrize(
    ("seed", "n_seeds", "message"),
    [(0, 0, "n_seeds must be a positive whole number, got 0"), (-1, 2, "the seed"), (0.5, 2, "the seed")],
)
def test_bad_seeds_are_named(toy, seed, n_seeds, message):
    with pytest.raises(ValueError, match=message):
        next(split_runs(toy, seed, n_seeds))


def test_a_random_split_is_drawn_for_each_seed(toy):
    runs = dict(split_runs(toy, seed=1, n_seeds=2))
    assert list(runs) == [1, 2]
    for seed, split in runs.items():
        for got, wanted in zip(split, toy.split(random_state=seed), strict=True):
            assert got.question_ids.tolist() == wanted.question_ids.tolist()
    assert set(runs[1].test.question_ids) != set(runs[2].test.question_ids)


def test_questions_of_a_group_stay_in_one_part(toy):
    grouped = toy.subset()
    grouped.questions = toy.questions.assign(passage=np.arange(toy.n_questions) // 4)
    for run in fit_runs(grouped, {"benchmark mean": BenchmarkMean()}, n_seeds=2, group_by="passage"):
        train, val, test = (set(part.questions["passage"]) for part in run.split)
        assert not train & val and not train & test and not val & test
    with pytest.raises(ValueError, match=r"no column 'text'; they have .*: name one of these \(group_by=.*--group-by"):
        next(split_runs(grouped, group_by="text"))


def test_the_sources_own_split_is_kept(small_pool):
    (_, first), (_, second) = split_runs(small_pool[0], n_seeds=2)
    assert first is second
    assert set(first.test.questions["split"]) == {"test"}


def test_runs_are_fits_and_predictions_of_the_classes(toy_with_holes):
    for run in fit_runs(toy_with_holes, PREDICTORS, seed=2, n_seeds=2):
        train, _, test = run.split
        alone = {
            "MF": MatrixFactorization(dim=4, alpha=0.02, solver="sgd", preset=BRIEF, random_state=run.seed),
            "KNN": KNNCorrectness(n_neighbors=3),
            "benchmark mean": BenchmarkMean(),
        }
        assert list(run.predictors) == list(run.probabilities) == list(alone)
        for name, predictor in alone.items():
            expected = predictor.fit(train).predict_matrix(test)
            np.testing.assert_array_equal(run.probabilities[name], expected)
            np.testing.assert_array_equal(run.predictors[name].predict_matrix(test), expected)


def test_estimators_given_stay_as_they_are(toy):
    given = {
        "MF": MatrixFactorization(dim=4, solver="sgd", preset=BRIEF, random_state=77),
        "KNN": KNNCorrectness(3).fit(toy),
    }
    (run,) = fit_runs(toy, given, n_seeds=1)
    assert not hasattr(given["MF"], "model_names_")
    assert given["MF"].random_state == 77
    assert run.predictors["KNN"] is not given["KNN"]
    assert given["KNN"].predict_matrix(toy).shape == (6, 40)


def test_seed_and_validation_reach_those_that_take_them(toy):
    for run in fit_runs(toy, {"a": Counted(), "b": Unseeded()}, seed=5, n_seeds=2):
        assert Counted.fits[-1] == (run.seed, run.split.val)
    assert [seed for seed, _ in Counted.fits] == [5, 6]
    assert Unseeded.fits == [None, None]  # each seed divides the questions anew


def test_what_no_seed_changes_is_computed_once(small_pool):
    first, second = fit_runs(small_pool[0], {"a": Counted(), "b": Unseeded()}, n_seeds=2)
    assert (len(Counted.fits), len(Unseeded.fits)) == (2, 1)
    assert len(Unseeded.predictions) == 1
    assert first.predictors["b"] is second.predictors["b"]
    assert first.probabilities["b"] is second.probabilities["b"]
    assert first.predictors["a"] is not second.predictors["a"]


def test_time_of_each_fit_and_prediction(toy, small_pool, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr("embedllm.protocol.runs.time.perf_counter", lambda: next(now) ** 2)
    (run,) = fit_runs(toy, {"a": Counted(), "b": Unseeded()}, n_seeds=1)
    assert run.seconds == {"a": (1, 3), "b": (7, 9)}
    assert run.with_those_of(run._replace(seconds={"c": (1, 1)})).seconds == {**run.seconds, "c": (1, 1)}
    first, second = fit_runs(small_pool[0], {"a": Counted(), "b": Unseeded()}, n_seeds=2)
    assert first.seconds["b"] == second.seconds["b"]  # the fit is shared
    assert first.seconds["a"] != second.seconds["a"]


def test_clone_without_validation_and_seed(toy):
    assert fit_clone(Counted(), toy, seed=3).random_state == 3
    assert Counted.fits == [(3, None)]
    assert fit_clone(Unseeded(), toy, seed=3, validation=toy).model_names_.tolist() == toy.model_names.tolist()
