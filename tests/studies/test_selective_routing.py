"""Orders of confidence, fallbacks and held-out benchmarks, by hand and by slow loops; what cannot be told is not."""

import numpy as np
import pandas as pd
import pytest
from fits import Known

from embedllm import KNNCorrectness, MatrixFactorization, fit_runs
from embedllm.matrix import Split
from embedllm.protocol.runs import Run
from embedllm.studies.selective_routing import (
    KEPT,
    ORACLE,
    SINGLE,
    Selection,
    best_threshold,
    choose,
    choose_without,
    mean_kept,
    person_share,
)

PREDICTORS = {"MF": MatrixFactorization(dim=4), "KNN": KNNCorrectness(15)}


def run_of(train, test, probability, val=None):
    """A run of the router R, which predicts a frame of models and questions."""
    known = Known(probability).fit(train)
    return Run(0, Split(train, val or test, test), {"R": known}, {"R": known.predict_matrix(test)})


def selection_of(matrix, predictors=PREDICTORS, n_seeds=1):
    return Selection(list(fit_runs(matrix, predictors, 0, n_seeds)), "KNN", "MF")


@pytest.fixture(scope="module")
def matrix(make_matrix):
    return make_matrix(n_models=5, n_questions=500, n_benchmarks=3, missing=0.2, seed=1)


@pytest.fixture(scope="module")
def runs(matrix):
    return list(fit_runs(matrix, PREDICTORS, 0, 2))


@pytest.fixture(scope="module")
def selection(runs):
    return Selection(runs, "KNN", "MF")


class TestParts:
    def test_mean_kept_is_that_of_copied_questions(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            p, values, times = rng.random(20), rng.random(20), rng.multinomial(100, np.full(20, 1 / 20))
            order = np.argsort(-p)
            copies = np.repeat(values[order], times[order])  # 100 of them
            slow = [copies[:k].mean() for k in range(1, 101)]
            np.testing.assert_allclose(mean_kept(p, values, times[None])[0], slow)

    def test_equal_probabilities_are_in_random_order(self):
        rng = np.random.default_rng(1)
        p, values = rng.integers(0, 3, 50) / 2, rng.random(50)
        orders = []
        for _ in range(4000):
            shuffled = rng.permutation(50)
            sorted_ = values[shuffled][np.argsort(-p[shuffled], kind="stable")]
            orders.append([sorted_[:k].mean() for k in range(1, 51)])
        np.testing.assert_allclose(mean_kept(p, values, np.ones((1, 50)))[0, 1::2], np.mean(orders, axis=0), atol=0.03)

    def test_a_resample_without_a_question_is_undefined(self):
        assert np.isnan(mean_kept(np.array([0.5, 0.6]), np.ones(2), np.array([[0, 0], [1, 0]]))[0]).all()
        assert np.isnan(mean_kept(np.empty(0), np.empty(0), np.empty((3, 0)))).all()

    def test_person_halves_the_incorrect_answers(self):
        rng = np.random.default_rng(2)
        for _ in range(50):
            correct = rng.random(100) < rng.random()
            sent = next(k for k in range(101) if (~correct[: 100 - k]).sum() <= (~correct).sum() / 2)
            assert person_share(correct.cumsum() / np.arange(1, 101)) == pytest.approx(sent / 100)
        assert person_share(np.full((2, 100), 0.7)) == pytest.approx([0.5, 0.5])
        assert person_share(np.ones(100)) == 0
        assert np.isnan(person_share(np.full(100, np.nan)))

    def test_threshold_is_that_of_an_exhaustive_search(self):
        rng = np.random.default_rng(3)
        for _ in range(50):
            p, instead = rng.integers(1, 10, 12) / 10, rng.integers(-1, 2, 12)
            gains = {t: instead[p < t].sum() for t in np.arange(0, 1.01, 0.01)}
            t = best_threshold(p, instead)
            assert instead[p < t].sum() == max(gains.values())
            assert (p < t).sum() == min((p < each).sum() for each, gain in gains.items() if gain == max(gains.values()))
        assert best_threshold(np.array([0.3]), np.array([-1])) == 0
        assert np.isnan(best_threshold(np.empty(0), np.empty(0)))


class TestChoices:
    def test_by_hand(self, matrix_of):
        train = matrix_of([[1, 1, 1], [1, 0, 0], [0, 1, 1]], questions=["t0", "t1", "t2"])  # m0, then m2, then m1
        test = matrix_of([[1, 0, -1, -1], [0, 1, 0, -1], [1, -1, 1, -1]])
        probability = pd.DataFrame([[0.9, 0.5, 0.8, 1], [0.2, 0.7, 0.3, 1], [0.4, 0.9, 0.6, 1]], test.model_names)
        probability.columns = test.question_ids
        rows = choose(run_of(train, test, probability), "R").set_index(["method", "question"])
        assert rows.loc["R"].index.tolist() == ["q0", "q1", "q2"]  # q3 has no answer
        # m2 is not observed on q1, so that it is m1; m0 not on q2, so that both take m2.
        assert rows.loc["R", "probability"].tolist() == pytest.approx([0.9, 0.7, 0.6])
        assert rows.loc["R", "correct"].tolist() == [1, 1, 1]
        assert rows.loc[SINGLE, "probability"].tolist() == pytest.approx([0.9, 0.5, 0.6])
        assert rows.loc[SINGLE, "correct"].tolist() == [1, 0, 1]
        assert rows.loc["R", "instead"].tolist() == [0, -1, 0]
        assert rows.loc["R", "pool"].tolist() == pytest.approx([-0.5 / 3, 0.2 / 2, -0.1 / 2])
        assert rows.loc[ORACLE, "probability"].tolist() == [1, 1, 1]

    def test_familiarity_is_that_of_a_search(self, runs):
        train, _, test = runs[0].split
        rows = choose(runs[0], "KNN").query("method == 'MF'")
        unit = [each.embeddings / np.linalg.norm(each.embeddings, axis=1, keepdims=True) for each in (train, test)]
        np.testing.assert_allclose(rows["similarity"], (unit[1] @ unit[0].T).max(axis=1), atol=1e-3)

    def test_held_out_benchmarks_are_plain_fits_without_them(self, runs):
        run = runs[0]
        rows = choose_without(run, "MF").set_index("question")
        assert sorted(rows.index) == sorted(run.split.test.question_ids)
        assert set(rows["method"]) == {"MF"}
        train = run.split.train.subset(questions=run.split.train.benchmarks != "bench-1")
        test = run.split.test.subset(questions=run.split.test.benchmarks == "bench-1")
        fitted = MatrixFactorization(dim=4, alpha=run.predictors["MF"].alpha_).fit(train)
        best = np.where(test.observed, fitted.predict_matrix(test), -1)
        np.testing.assert_allclose(rows.loc[test.question_ids, "probability"], best.max(axis=0), rtol=1e-5)


class TestSelection:
    def test_curves_are_those_of_loops(self, selection, runs):
        table = selection.curves().set_index(["method", "kept"])
        accuracies, gains = [], []
        for run in runs:
            test, p = run.split.test, np.where(run.split.test.observed, run.probabilities["MF"], -1)
            right = test.labels[p.argmax(axis=0), range(test.n_questions)] == 1
            rates = run.split.train.accuracy(by="model")["accuracy"].loc[test.model_names].to_numpy()
            single = np.where(test.observed, rates[:, None], -1).argmax(axis=0)
            instead = test.labels[single, range(test.n_questions)] == 1
            order = np.argsort(-p.max(axis=0))
            assert len(order) == 50
            accuracies.append([right[order[:k]].mean() for k in (10, 25, 50)])
            gains.append([np.where(np.isin(range(50), order[:k]), right, instead).mean() for k in (10, 25, 50)])
        shown = table.loc["MF"].loc[[20, 50, 100]]
        np.testing.assert_allclose(shown["accuracy"], 100 * np.mean(accuracies, axis=0))
        means = np.mean(gains, axis=0)
        np.testing.assert_allclose(shown["gain"], 100 * (means - means[-1]), atol=1e-9)

    def test_no_interval_from_fewer_than_30_kept(self, selection):
        table = selection.curves().query("method == 'KNN'")
        assert (table["n_questions"] == 50).all()
        assert table["accuracy_low"].isna().tolist() == [share * 50 < 30 for share in KEPT]

    def test_intervals_lie_around_the_values(self, selection):
        table = selection.summary().set_index("method")
        for column in ("all", "order", "person", "excess", "pool"):
            for name in ("MF", "KNN", SINGLE):
                low, value, high = table.loc[name, [f"{column}_low", column, f"{column}_high"]]
                assert low <= value <= high

    def test_no_order_is_better_than_the_oracle_s(self, selection):
        table = selection.summary().set_index("method")
        assert table.loc[ORACLE, "all"] == table.loc["KNN", "all"]
        assert table.loc[ORACLE, "order"] > table.loc["KNN", "order"]
        assert table.loc[ORACLE, "person"] < table.loc["KNN", "person"]
        assert table.loc[SINGLE, "gain"] == 0

    def test_fifths_divide_the_questions_of_each_run(self, selection):
        for column in ("probability", "similarity"):
            table = selection.fifths(column)
            assert table["method"].tolist() == ["MF"] * 5 + ["KNN"] * 5
            for name, rows in table.groupby("method"):
                assert rows["at"].is_monotonic_increasing
                of = selection.rows[selection.rows["method"] == name]
                np.testing.assert_allclose(rows["accuracy"].mean(), 100 * of["correct"].mean(), atol=2)

    def test_values(self, selection):
        values = {each.key: each for each in selection.values()}
        table = selection.summary().set_index("method")
        assert values["selective_questions"].value == 50
        assert values["selective_order_mf"].value == pytest.approx(table.loc["MF", "order"])
        curse = table.loc["KNN", "excess"] - table.loc["KNN", "pool"]
        assert values["selective_curse"].value == pytest.approx(curse)
        assert values["selective_gain"].value == pytest.approx(table.loc["KNN", "gain"])
        fifths = selection.fifths("similarity").set_index(["method", "fifth"])["excess"]
        assert values["selective_far_excess"].value == pytest.approx(fifths["KNN", 1] - fifths["KNN", 5])
        first = selection.rows.query("method == 'MF' and seed == 0")
        assert values["selective_heldout_known_excess"].value == pytest.approx(100 * first["excess"].mean())
        more = values["selective_heldout_excess"].value - values["selective_heldout_known_excess"].value
        assert values["selective_heldout_more_excess"].value == pytest.approx(more)

    def test_threshold_comes_from_the_validation_questions(self, matrix_of):
        """The best single model is always correct there where the router is below 0.6, and never on test questions."""
        train = matrix_of([[1, 1], [0, 0]], questions=["t0", "t1"])
        labels, ids = np.array([[1, 0, 1], [0, 1, 0]]), ["v0", "v1", "v2"]
        val, test = matrix_of(labels, questions=ids), matrix_of(1 - labels)
        p = [[0.1, 0.2, 0.1], [0.5, 0.9, 0.55]]
        probability = pd.DataFrame(np.hstack([p, p]), train.model_names, [*ids, *test.question_ids])
        rows = _with_mf(run_of(train, test, probability, val), "R").rows.query("method == 'R'")
        assert rows["sent"].tolist() == [1, 0, 1]
        assert rows["gain"].tolist() == [-1, 0, -1]


def _with_mf(run, name):
    """A selection whose factorization is fitted on the training part."""
    mf = MatrixFactorization(dim=2).fit(run.split.train)
    probabilities = run.probabilities | {"MF": mf.predict_matrix(run.split.test)}
    return Selection([run._replace(predictors=run.predictors | {"MF": mf}, probabilities=probabilities)], name, "MF")


def test_choosing_the_highest_prediction_selects_overestimates(make_matrix):
    """Predictions with noise that is not theirs: right on average over all models, too high for those chosen."""
    rng, matrix = np.random.default_rng(0), make_matrix(n_models=8, n_questions=4000)
    truth = rng.uniform(0.3, 0.7, (8, 4000))
    matrix = matrix.with_labels((rng.random(truth.shape) < truth).astype(int))
    axes = matrix.model_names, matrix.question_ids
    table = {}
    for name, p in {"true": truth, "noisy": truth + rng.normal(0, 0.1, truth.shape)}.items():
        run = run_of(matrix.subset(questions=matrix.question_ids[:2000]), matrix, pd.DataFrame(p, *axes))
        rows = choose(run, "R").query("method == 'R'")
        table[name] = rows[["excess", "pool"]].mean()
    assert abs(table["true"]["excess"]) < 0.03 and abs(table["noisy"]["pool"]) < 0.02
    assert table["noisy"]["excess"] > 0.08


class TestWhatCannotBeTold:
    @pytest.mark.parametrize("n_questions", [12, 60])
    def test_few_questions_have_values_and_no_intervals(self, make_matrix, n_questions):
        selection = selection_of(make_matrix(n_questions=n_questions))
        values = {each.key: each for each in selection.values()}
        assert values["selective_all"].value >= 0
        assert not any(each.ends for each in values.values())
        assert selection.curves()["accuracy_low"].isna().all()
        assert len(selection.fifths("similarity"))

    def test_one_model(self, make_matrix):
        selection = selection_of(make_matrix(n_models=1, n_questions=400))
        table = selection.summary().set_index("method")
        assert table.loc["KNN", "all"] == table.loc[SINGLE, "all"]
        assert table.loc["KNN", "gain"] == 0

    def test_one_benchmark_has_no_other_to_learn_from(self, make_matrix):
        values = {each.key: each for each in selection_of(make_matrix(n_benchmarks=1, n_questions=400)).values()}
        assert "one benchmark" in values["selective_heldout_excess"].shown
        assert "one benchmark" in values["selective_heldout_known_excess"].shown
        assert values["selective_excess"].ends

    @pytest.mark.parametrize("empty", ["test", "val"])
    def test_a_part_without_answers(self, make_matrix, empty):
        matrix = make_matrix(n_questions=400)
        own = matrix.questions.assign(split=np.repeat(["train", "val", "test"], [300, 50, 50]))
        labels = np.where(own["split"] == empty, -1, matrix.labels)
        frame = pd.DataFrame(labels, matrix.model_names, matrix.question_ids)
        selection = selection_of(type(matrix)(frame, own, matrix.embeddings))
        values = {each.key: each for each in selection.values()}
        undefined = {key for key, each in values.items() if np.isnan(each.value)}
        if empty == "val":
            assert undefined == {"selective_sent", "selective_gain", "selective_gain_mf"}
        else:
            assert undefined == set(values) - {"selective_questions"}
            assert values["selective_questions"].value == 0
        assert len(selection.curves()) and "excess" in selection.fifths("probability")
