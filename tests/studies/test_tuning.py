"""Choosing hyperparameters on validation questions."""

import numpy as np
import pandas as pd
import pytest

from embedllm import KNNCorrectness, MatrixFactorization
from embedllm.matrix import CorrectnessMatrix
from embedllm.studies.tuning import (
    along,
    choose_value,
    summarize_sweep,
    sweep_factorization,
    sweep_neighbors,
    tuning_values,
)

KNN = KNNCorrectness()


def sweep_of(accuracy: dict[float, list[float]]) -> pd.DataFrame:
    rows = [
        {"data": "toy", "parameter": "dim", "value": value, "seed": seed, "log_loss": 1.0 + value, "accuracy": score}
        for value, scores in accuracy.items()
        for seed, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


class TestChoose:
    def test_best_of_one_seed(self):
        assert choose_value(sweep_of({1: [0.6], 2: [0.8], 4: [0.7]})) == 2

    def test_smallest_within_a_tenth_of_a_point(self):
        # On average 2 is below 4 by 0.0008, and 1 by 0.0015.
        sweep = sweep_of({1: [0.7000, 0.7010], 2: [0.7010, 0.7014], 4: [0.7030, 0.7010], 8: [0.7, 0.7]})
        assert choose_value(sweep) == 2

    def test_order_of_rows_changes_nothing(self):
        sweep = sweep_of({1: [0.6, 0.6], 2: [0.7, 0.71], 4: [0.7, 0.71]})
        assert choose_value(sweep) == choose_value(sweep.iloc[::-1]) == 2

    def test_alpha_by_its_loss(self):
        sweep = sweep_of({0.1: [0.7], 0.2: [0.6]}).assign(parameter="alpha")
        assert choose_value(sweep.assign(log_loss=[0.6, 0.5])) == 0.2

    def test_undefined(self):
        with pytest.raises(ValueError, match="a validation accuracy is undefined"):
            choose_value(sweep_of({1: [np.nan], 2: [0.7]}))


class TestNeighbors:
    def test_equals_a_fit_for_each_k(self, toy_with_holes):
        sweep = sweep_neighbors(toy_with_holes, KNN, [1, 3, 7], seed=4, n_seeds=2)
        assert len(sweep) == 6
        for row in sweep.itertuples():
            train, val, _ = toy_with_holes.split(random_state=row.seed)
            knn = KNNCorrectness(row.value).fit(train)
            assert row.accuracy == pytest.approx(knn.score(val))
            seen = val.observed
            of_label = np.where(val.labels == 1, knn.predict_matrix(val), 1 - knn.predict_matrix(val))[seen]
            assert row.log_loss == pytest.approx(-np.log(of_label.clip(1e-3, 1 - 1e-3)).mean(), rel=1e-5)

    def test_k_above_the_number_of_questions_is_left_out(self, toy):
        assert sorted(sweep_neighbors(toy, KNN, n_seeds=1)["value"]) == [1, 2, 4, 8, 16, 31]

    def test_own_split_gives_each_seed_the_same(self, small_pool):
        sweep = sweep_neighbors(small_pool[0], KNN, [8, 61], n_seeds=2)
        assert (sweep.groupby("value")["accuracy"].nunique() == 1).all()


class TestFactorization:
    def test_equals_a_fit_for_each_value(self, toy_with_holes):
        paths = sweep_factorization(toy_with_holes, [0.1, 0.4], [1, 3], seed=1, n_seeds=2)
        assert len(paths) == 8
        for row in paths.itertuples():
            train, val, _ = toy_with_holes.split(random_state=row.seed)
            mf = MatrixFactorization(dim=row.dim, alpha=row.alpha).fit(train)
            assert row.accuracy == pytest.approx(mf.score(val))
            assert row.n_iter == mf.n_iter_

    def test_along_one_parameter(self, toy):
        paths = sweep_factorization(toy, [0.1, 0.4], [1, 3], n_seeds=2)
        sweep = along(paths, "dim", fixed=0.4)
        assert sweep["value"].tolist() == [1, 3, 1, 3]
        assert sweep["parameter"].unique().tolist() == ["dim"]
        assert sweep["log_loss"].tolist() == paths.loc[paths["alpha"] == 0.4, "log_loss"].tolist()
        assert along(paths, "alpha", fixed=3)["value"].tolist() == [0.1, 0.4, 0.1, 0.4]

    def test_test_questions_have_no_effect(self, toy):
        """Other answers to the test questions change nothing."""
        labels = toy.labels.copy()
        found = []
        hidden = np.isin(toy.question_ids, toy.split(random_state=0).test.question_ids)
        labels[:, hidden] = 1 - labels[:, hidden]
        for matrix in (toy, toy.with_labels(labels)):
            paths = sweep_factorization(matrix, [0.1], [2], n_seeds=1)
            neighbors = sweep_neighbors(matrix, KNN, [3], n_seeds=1)
            found.append((paths["log_loss"].item(), neighbors["log_loss"].item()))
        assert found[0] == found[1]

    def test_noise_of_the_paper_is_close_to_the_best_of_the_simulated_pool(self, small_pool):
        paths = sweep_factorization(small_pool[0], [0.0125, 0.05, 0.2], [112], n_seeds=1)
        loss = paths.set_index("alpha")["log_loss"]
        assert loss[0.05] < loss[0.0125] - 0.01
        assert loss[0.05] < loss[0.2] - 0.01


def test_summary():
    table = summarize_sweep(sweep_of({4: [0.7, 0.72], 1: [0.6, 0.6]}))
    assert table.index.get_level_values("value").tolist() == [4, 1]
    assert table["accuracy"].tolist() == pytest.approx([0.71, 0.6])
    assert table["accuracy_se"].tolist() == pytest.approx([0.01, 0])
    assert table["chosen"].tolist() == [True, False]


def test_values_are_those_chosen():
    neighbors = sweep_of({1: [0.6, 0.6], 31: [0.7, 0.7]}).assign(parameter="n_neighbors")
    dims = sweep_of({1: [0.65, 0.66], 64: [0.74, 0.73]})
    alphas = sweep_of({0.05: [0.75, 0.76], 0.1: [0.70, 0.71]}).assign(parameter="alpha")
    found = {reported.key: reported for reported in tuning_values(neighbors, dims, alphas)}
    assert [found[key].value for key in ("n_neighbors", "dim", "alpha")] == [31, 64, 0.05]
    assert found["tuned_mf"].runs == pytest.approx([74, 73])
    assert found["tuned_knn"].runs == pytest.approx([70, 70])
    assert found["smallest_mf"].runs == pytest.approx([65, 66])


def test_no_validation_answer(toy):
    questions = toy.questions.assign(split=["train"] * 30 + ["test"] * 10)
    labels = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
    matrix = CorrectnessMatrix(labels, questions, toy.embeddings)
    with pytest.raises(ValueError, match="validation"):
        choose_value(sweep_neighbors(matrix, KNN, [3], n_seeds=1))
