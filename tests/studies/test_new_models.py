"""Which models are new, what is asked of them, the methods by hand, and the tables that follow."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from embedllm.datasets.simulate import simulate_pool
from embedllm.predictors.placement import ask
from embedllm.protocol.placing import (
    METHODS,
    Case,
    Material,
    Pool,
    cluster_table,
    disagreement_order,
    frozen_decoder,
    nearest_model,
    ridge,
    stratified_order,
    stratum_shares,
)
from embedllm.studies.new_models import (
    ALL_ALONE,
    ALL_WITH,
    ASKING,
    PRIOR,
    benchmark_errors,
    best_table,
    curve_table,
    error_table,
    learning_curves,
    new_model_values,
    target_table,
)


@pytest.fixture(scope="module")
def material(make_matrix):
    return Material(
        make_matrix(n_models=12, n_questions=300, n_benchmarks=3, missing=0.2, seed=1).split(random_state=0)
    )


@pytest.fixture(scope="module")
def quarter(material):
    return learning_curves(material, 4, n_partitions=2, sizes=(8, 64, 128, 9999))


@pytest.fixture(scope="module")
def third(material):
    return learning_curves(material, 3, n_partitions=1, sizes=(64,), asking=["random"])[0]


class TestAsking:
    def test_the_first_observed_answers_are_kept(self):
        labels = torch.tensor([[1, -1], [0, 1], [-1, 0], [1, 1]]).double()
        asked = ask(labels, np.array([2, 3, 0, 1]), 2)
        assert asked.tolist() == [[1, -1], [-1, -1], [-1, 0], [1, 1]]

    def test_each_model_may_have_an_order_of_its_own(self):
        labels = torch.tensor([[1, -1], [0, 1], [-1, 0], [1, 1]]).double()
        asked = ask(labels, np.array([[2, 0], [3, 1], [0, 2], [1, 3]]), 2)
        assert asked.tolist() == [[1, -1], [-1, 1], [-1, 0], [1, -1]]

    def test_stratified_questions_have_the_benchmarks_in_proportion(self):
        benchmarks = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
        order = stratified_order(benchmarks, np.random.default_rng(0))
        assert sorted(order) == list(range(100))
        for n in (10, 20, 50):
            counts = pd.Series(benchmarks[order[:n]]).value_counts()
            for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
                assert abs(counts.get(name, 0) - share * n) <= 1, (n, name)

    def test_disagreement_comes_first(self):
        known = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 0], [-1, -1, 0, 1], [-1, -1, -1, -1]])
        order = disagreement_order(known, np.random.default_rng(0)).tolist()
        assert set(order[:2]) == {1, 3}
        assert order[2] == 2


class TestMethods:
    @pytest.fixture
    def case(self, material):
        pool, new = np.arange(3, 12), np.arange(3)
        return Case(Pool(material, pool), new, ask(material.y["train"][:, new], np.arange(240), 60))

    def test_coordinates_give_the_logits_of_the_fit(self, material):
        train = material.split.train
        logits = material._embedded["train"] @ material._solved
        torch.testing.assert_close(material.x["train"] @ material.weights, logits)
        assert material.x["train"].shape[1] < 2 * train.n_models + 12
        torch.testing.assert_close(material.own.T @ material.own, torch.eye(material.own.shape[1], dtype=torch.float64))

    def test_ridge_is_the_logistic_regression_of_scikit_learn(self, case):
        """All directions are kept here; the prior of the intercept is wide there, and there is none in scikit-learn."""
        variance = 0.25
        ours = ridge(case, [variance])("test")[0]
        train, test = case.material.split.train, case.material.split.test
        centre = train.embeddings.mean(axis=0)
        for k, y in enumerate(case.labels.T.numpy()):
            fit = LogisticRegression(C=variance, tol=1e-8, max_iter=1000)
            fit.fit((train.embeddings - centre)[y >= 0], y[y >= 0])
            theirs = fit.decision_function(test.embeddings - centre)
            np.testing.assert_allclose(ours[:, k], theirs, atol=0.05)

    def test_frozen_decoder_stays_in_the_span_of_the_pool(self, case):
        logits = frozen_decoder(case, [0.1, 1.0])("train")
        assert logits.shape == (2, 240, 3)
        span = torch.cat([case.material.x["train"] @ case.pool.weights, torch.ones(240, 1, dtype=torch.float64)], dim=1)
        for each in logits:
            residual = each - span @ torch.linalg.lstsq(span, each).solution
            assert float(residual.abs().max()) < 1e-6

    def test_stratum_shares_by_hand(self):
        labels = torch.tensor([[1, 1], [0, -1], [1, 0], [-1, 0]]).double()
        shares = stratum_shares(np.array([0, 0, 1, 2]), labels, count=2.0)
        mean = np.array([3 / 5, 2 / 5])  # (correct + 1) / (answers + 2)
        expected = [(1 + 2 * mean) / (np.array([2, 1]) + 2), (np.array([1, 0]) + 2 * mean) / 3]
        np.testing.assert_allclose(shares[:2], expected)
        np.testing.assert_allclose(shares[2], [mean[0], (0 + 2 * mean[1]) / 3])

    def test_cluster_table_is_constant_in_a_cluster(self, case):
        logits, clusters = cluster_table(case, [4.0])("test")[0], case.material.clusters["test"]
        table = stratum_shares(case.material.clusters["train"], case.labels, 4.0).logit()
        torch.testing.assert_close(logits, table[clusters])

    def test_nearest_model_of_a_copy_is_its_original(self, material):
        labels = ask(material.y["train"][:, [5]], np.arange(240), 100)
        case = Case(Pool(material, np.array([2, 5, 7])), np.array([0]), labels)
        expected = material.x["test"] @ material.weights[:, [5]]
        torch.testing.assert_close(nearest_model(case)("test")[0], expected)

    def test_nearest_models_that_tie_are_averaged(self, material):
        case = Case(Pool(material, np.array([2, 5])), np.array([0]), torch.full((240, 1), -1.0, dtype=torch.float64))
        expected = material.x["test"] @ material.weights[:, [2, 5]].mean(dim=1, keepdim=True)
        torch.testing.assert_close(nearest_model(case)("test")[0], expected)


class TestCurves:
    def test_every_model_is_new_once_in_each_partition(self, material, quarter):
        scores, _ = quarter
        counts = scores.groupby(["method", "asking", "n"])["model"].value_counts()
        assert (counts == 2).all()
        assert set(scores["model"]) == set(material.split.train.model_names)
        assert set(scores["method"]) == {PRIOR, ALL_ALONE, ALL_WITH, *METHODS}
        assert set(scores.loc[scores["method"] == PRIOR, "asking"]) == set(ASKING)
        assert set(scores["n"]) == {8, 64, 128, 240}  # the training questions, and no more than there are

    def test_all_answers_alone_is_the_fit_of_each_model(self, material, quarter):
        scores = quarter[0].query("method == @ALL_ALONE").drop_duplicates("model").set_index("model")
        z = (material.x["test"] @ material.weights).numpy()
        y = material.y["test"].numpy()
        for k, name in enumerate(material.split.test.model_names):
            seen = y[:, k] >= 0
            assert scores.loc[name, "count"] == seen.sum()
            assert scores.loc[name, "correct"] == ((z[:, k] > 0) == (y[:, k] == 1))[seen].sum()
            loss = np.logaddexp(0, np.clip(z[:, k], -6.9068, 6.9068)) - y[:, k] * np.clip(z[:, k], -6.9068, 6.9068)
            assert scores.loc[name, "loss"] == pytest.approx(loss[seen].sum(), rel=1e-3)

    def test_the_same_seed_gives_the_same_bits(self, material, quarter):
        same = learning_curves(material, 4, n_partitions=2, sizes=(8, 64, 128, 9999))
        pd.testing.assert_frame_equal(same[0], quarter[0])
        pd.testing.assert_frame_equal(same[1], quarter[1])

    def test_table_has_the_means_and_paired_points(self, quarter):
        table = curve_table(quarter[0]).set_index(["method", "asking", "n"])
        sums = quarter[0].groupby(["method", "asking", "n"])[["correct", "loss", "count"]].sum()
        np.testing.assert_allclose(table["accuracy"], (100 * sums["correct"] / sums["count"])[table.index])
        np.testing.assert_allclose(table["log_loss"], (sums["loss"] / sums["count"])[table.index])
        base = table.loc[(ALL_ALONE, "random", 240)]
        np.testing.assert_allclose(table["points"], table["accuracy"] - base["accuracy"])
        assert base["points"] == 0
        assert (table["accuracy_low"] < table["accuracy"]).all()

    def test_order_of_the_rows_changes_no_interval(self, quarter):
        by_name = quarter[0].sort_values("model", ascending=False, kind="stable")
        tables = [curve_table(each).set_index(["method", "asking", "n"]) for each in (quarter[0], by_name)]
        pd.testing.assert_frame_equal(tables[0], tables[1].loc[tables[0].index])

    def test_verdicts_follow_from_the_interval(self):
        rows = [
            (PRIOR, "random", 64, -0.5, -0.9, 0),
            (PRIOR, "stratified", 64, -2.0, -3, -1.1),
            (PRIOR, "random", 128, 0, -1, 1),
        ]
        table = pd.DataFrame(rows, columns=["method", "asking", "n", "points", "points_low", "points_high"])
        assert target_table(table)["verdict"].tolist() == ["met", "missed", "open"]

    def test_no_interval_is_no_verdict(self):
        table = pd.DataFrame(
            [(PRIOR, "random", 64, 0.0, np.nan, np.nan)],
            columns=["method", "asking", "n", "points", "points_low", "points_high"],
        )
        assert target_table(table)["verdict"].tolist() == ["open"]

    def test_best_is_the_lowest_loss_and_the_highest_accuracy(self, quarter):
        best, table = best_table(quarter[0]), curve_table(quarter[0]).query("asking == 'random'")
        compared = table[table["method"].isin([PRIOR, *METHODS])]
        for _, row in best.iterrows():
            values = compared[compared["n"] == row["n"]].set_index("method")[row["measure"]].sort_values()
            ordered = values if row["measure"] == "log_loss" else values[::-1]
            assert row["ahead"] == pytest.approx(abs(ordered.iloc[0] - ordered.iloc[1]), abs=1e-9)
            assert values[row["best"]] == ordered.iloc[0]
            assert (row["verdict"] == "clear") == (row["low"] > 0)


class TestBenchmarks:
    def test_errors_by_hand(self, material):
        new = np.array([4])
        pool = Pool(material, np.setdiff1d(np.arange(12), new))
        labels = ask(material.y["train"][:, new], np.arange(240), 50)
        probability = torch.full((240, 1), 0.25, dtype=torch.float64)
        table = benchmark_errors(Case(pool, new, labels), probability, 50).set_index("benchmark")
        train, y, asked = material.split.train, material.y["train"][:, 4].numpy(), labels[:, 0].numpy() >= 0
        for name in train.benchmark_names:
            here = (train.benchmarks == name) & (y >= 0)
            true = y[here].mean()
            assert table.loc[name, "subset mean"] == pytest.approx(abs(y[here & asked].mean() - true))
            mixed = np.where(asked, y, 0.25)[here].mean()
            assert table.loc[name, "predictions"] == pytest.approx(abs(mixed - true))
        assert (table["post-stratified"] < 0.6).all()

    def test_all_answers_leave_no_error(self, material):
        new = np.array([4])
        labels = material.y["train"][:, new]
        table = benchmark_errors(Case(Pool(material, np.array([1, 2])), new, labels), torch.rand(240, 1).double(), 240)
        np.testing.assert_allclose(table[["predictions", "subset mean"]], 0, atol=1e-12)

    def test_means(self, quarter):
        table = error_table(quarter[1]).set_index(["estimate", "n"])
        for name in ("predictions", "post-stratified", "subset mean"):
            expected = 100 * quarter[1].query("n == 64")[name].mean()
            assert table.loc[(name, 64), "error"] == pytest.approx(expected)
            assert table.loc[(name, 64), "low"] < expected < table.loc[(name, 64), "high"]


def test_values(quarter, third):
    values = {each.key: each for each in new_model_values(quarter[0], third, quarter[1])}
    table = curve_table(quarter[0]).set_index(["method", "asking", "n"])
    assert values["new_prior_64_minus_all"].value == pytest.approx(table.loc[(PRIOR, "random", 64), "points"])
    assert values["new_prior_64_minus_all"].interval[0] < values["new_prior_64_minus_all"].value
    by_third = curve_table(third).set_index(["method", "asking", "n"])
    assert values["new_third_64_minus_all"].value == pytest.approx(by_third.loc[(PRIOR, "random", 64), "points"])
    ends = by_third.loc[(PRIOR, "random", 64), ["points_low", "points_high"]]
    assert values["new_third_64_minus_all"].interval == pytest.approx(tuple(ends))  # as the table has it
    gain = table.loc[(PRIOR, "stratified", 64), "accuracy"] - table.loc[(PRIOR, "random", 64), "accuracy"]
    assert values["new_stratified"].value == pytest.approx(gain)
    assert values["new_sizes"].value == 3
    assert len(values) == 12


def test_a_pool_that_is_too_small_has_values_that_say_so(toy_with_holes):
    material = Material(toy_with_holes.split(random_state=0))
    quarter, benchmarks = learning_curves(material, 4, n_partitions=1)
    third, _ = learning_curves(material, 3, n_partitions=1, asking=["random"])
    values = {each.key: each for each in new_model_values(quarter, third, benchmarks)}
    assert "fewer than 128 training questions" in values["new_prior_64_minus_all"].shown
    assert values["new_sizes"].value == 3  # 8, 16 and 32 of 32 questions
    assert not len(target_table(curve_table(quarter)))


@pytest.mark.parametrize("n_models", [2, 3])
def test_a_pool_of_fewer_models_than_groups(make_matrix, n_models):
    material = Material(make_matrix(n_models=n_models, n_questions=60).split(random_state=0))
    scores, _ = learning_curves(material, 4, n_partitions=1, sizes=(8,), asking=["random"])
    counts = scores[scores["n"] == 8].groupby(["method", "model"]).size()
    assert (counts == 1).all() and counts.index.get_level_values("model").nunique() == n_models


def test_one_model_has_no_pool(make_matrix):
    with pytest.raises(ValueError, match="there is 1 model: pass more"):
        learning_curves(Material(make_matrix(n_models=1).split(random_state=0)), 4)


def test_the_pool_helps_where_answers_are_few_on_the_simulated_pool():
    material = Material(simulate_pool(0.05)[0].split())
    scores, _ = learning_curves(material, 4, n_partitions=1, sizes=(16,), asking=["random"])
    table = curve_table(scores).set_index("method")
    assert table.loc[PRIOR, "log_loss"] < table.loc[list(METHODS), "log_loss"].min()
