"""Other vectors and other divisions of the questions, against slow ways of computing the same."""

import numpy as np
import pandas as pd
import pytest

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness, MatrixFactorization, ModelMean, fit_runs
from embedllm._support.division import question_groups
from embedllm.datasets.duplicates import near_duplicates
from embedllm.datasets.encodings import BENCHMARK, OWN, RANDOM, own_embeddings, standard_encodings
from embedllm.datasets.simulate import simulate_pool
from embedllm.predictors.scores import mean_scores
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.routers import BestSingleModel, PredictedBest
from embedllm.studies.forecasting import tally_runs
from embedllm.studies.routing import evaluate_routers, route_runs, tally_routes
from embedllm.studies.sensitivity import (
    ALONE,
    CATEGORY,
    NEAR,
    TEXT,
    WHOLE,
    Divisions,
    Encodings,
    division_rules,
    draw_questions,
    encoded_runs,
    folds_of,
    rule_runs,
)

SINGLE = "best single model"


@pytest.fixture(scope="module")
def pool():
    return simulate_pool(0.05)[0]


@pytest.fixture(scope="module")
def runs(pool):
    predictors = {"MF": MatrixFactorization(), "KNN": KNNCorrectness(31), "mean": ModelMean()}
    return encoded_runs(pool, standard_encodings(pool), predictors, n_seeds=2)


@pytest.fixture(scope="module")
def compared(runs):
    routers = {"MF": PredictedBest("MF"), "KNN": PredictedBest("KNN"), "mean": PredictedBest("mean")}
    routers[SINGLE] = BestSingleModel()
    forecasts = {name: tally_runs(each) for name, each in runs.items()}
    return Encodings(forecasts, {n: tally_routes(route_runs(each, routers)) for n, each in runs.items()}, SINGLE)


class TestEncodings:
    def test_own_embeddings_give_what_other_pages_give(self, make_matrix):
        matrix = make_matrix(n_questions=200)
        unit = matrix.embeddings / np.linalg.norm(matrix.embeddings, axis=1, keepdims=True)
        labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        plain = CorrectnessMatrix(labels, matrix.questions, unit)
        predictors = {"MF": MatrixFactorization(dim=4), "KNN": KNNCorrectness(15)}
        runs = encoded_runs(matrix, {OWN: own_embeddings}, predictors, seed=3, n_seeds=2)[OWN]
        for ours, other in zip(runs, fit_runs(plain, predictors, 3, 2), strict=True):
            assert ours.seed == other.seed
            assert ours.split.test.question_ids.tolist() == other.split.test.question_ids.tolist()
            for name in predictors:
                np.testing.assert_allclose(ours.probabilities[name], other.probabilities[name], atol=1e-3)

    def test_own_division_is_one_run(self, runs):
        assert {len(each) for each in runs.values()} == {1}

    def test_the_penalty_is_chosen_anew(self, runs):
        assert len({each[0].predictors["MF"].alpha_ for each in runs.values()}) > 2

    def test_table_against_other_ways_of_computing_it(self, compared, runs):
        table = compared.table().set_index(["encoding", "predictor"])
        for encoding, (run,) in runs.items():
            for name in ("MF", "KNN"):
                row, test = table.loc[encoding, name], run.split.test
                scores = mean_scores(run.predictors[name].predict_matrix(test), test)
                assert row["loss"] == pytest.approx(scores["log_loss"])
                assert row["accuracy"] == pytest.approx(100 * scores["accuracy"])
                routers = {name: PredictedBest(name), SINGLE: BestSingleModel()}
                routers = {key: each.fit(run.split.train, run.predictors) for key, each in routers.items()}
                routed = evaluate_routers(routers, test).query("benchmark == 'overall'").set_index("router")["accuracy"]
                assert row["routing"] == pytest.approx(100 * routed[name])
                assert row["gain"] == pytest.approx(100 * (routed[name] - routed[SINGLE]))
                for kind in ("loss", "accuracy", "routing"):
                    assert row[f"{kind}_minus"] == pytest.approx(row[kind] - table.loc[(OWN, name), kind])

    def test_intervals_are_paired(self, compared):
        row = compared.table().set_index(["encoding", "predictor"]).loc[BENCHMARK, "MF"]
        samples = [compared.forecasts[name].resampled(metric="log_loss")["MF"] for name in (BENCHMARK, OWN)]
        assert (row["loss_low"], row["loss_high"]) == interval(samples[0] - samples[1])
        ends = [interval(each) for each in samples]
        assert row["loss_high"] - row["loss_low"] < max(high - low for low, high in ends)

    def test_random_numbers_tell_nothing_and_the_benchmark_its_mean(self, compared, pool):
        table = compared.table().set_index(["encoding", "predictor"])
        assert table.loc[(RANDOM, "MF"), "loss"] == pytest.approx(table.loc[(OWN, "mean"), "loss"], abs=0.01)
        train, _, test = pool.split()
        by_benchmark = mean_scores(BenchmarkMean().fit(train).predict_matrix(test), test)["log_loss"]
        assert table.loc[(BENCHMARK, "MF"), "loss"] == pytest.approx(by_benchmark, abs=0.005)

    def test_a_predictor_that_sees_no_vectors_does_not_change(self, compared):
        rows = compared.table().query("predictor == 'mean'")
        assert (rows["loss_minus"] == 0).all() and (rows["routing_minus"] == 0).all()
        words = compared.words("mean")
        assert (words["loss_higher"], words["loss_lower"]) == ("none", "none")
        assert RANDOM in words["loss_alike"]

    def test_words_and_values_say_what_the_table_says(self, compared):
        table = compared.table().set_index(["encoding", "predictor"])
        values, words = {each.key: each for each in compared.values("MF", "KNN")}, compared.words("MF")
        for encoding, short in ((BENCHMARK, "benchmark"), (RANDOM, "random")):
            assert table.loc[(encoding, "MF"), "loss_low"] > 0 and encoding in words["loss_higher"]
            for key, name, kind in (("loss", "MF", "loss"), ("knn_loss", "KNN", "loss"), ("gain", "MF", "routing")):
                value, row = values[f"sensitivity_{short}_{key}"], table.loc[encoding, name]
                assert value.value == pytest.approx(row[f"{kind}_minus"])
                assert value.interval == (row[f"{kind}_low"], row[f"{kind}_high"])
        assert values["sensitivity_loss"].value == table.loc[(OWN, "MF"), "loss"]
        assert values["sensitivity_words_loss"].shown.endswith("its questions have no texts")


class TestRules:
    def test_coarser_rules_keep_more_together(self, pool):
        rules = division_rules(pool, near_duplicates(pool))
        assert list(rules) == [ALONE, TEXT, NEAR, CATEGORY, WHOLE]
        fine = rules[ALONE]
        for coarse in list(rules.values())[1:]:
            assert pd.Series(coarse).groupby(fine).nunique().eq(1).all()
            fine = coarse
        assert fine.max() + 1 == len(pool.benchmark_names)

    def test_rules_of_fewer_than_three_groups_are_left_out(self, toy):
        assert list(division_rules(toy, near_duplicates(toy))) == [ALONE, TEXT, NEAR]  # two benchmarks
        assert list(division_rules(toy, np.zeros(40, int))) == [ALONE, TEXT]

    def test_two_texts_can_be_divided_and_one_cannot(self, matrix_of):
        two = matrix_of(np.ones((2, 6)), prompt=["a", "b"] * 3)
        assert list(division_rules(two, np.arange(6))) == [ALONE, TEXT, NEAR]
        one = matrix_of(np.ones((2, 6)), prompt=["a"] * 6)
        with pytest.raises(ValueError, match="all 6 questions have one text or item: nothing to divide"):
            division_rules(one, np.arange(6))

    @pytest.mark.parametrize("n_groups", [3, 4, 5, 60, 200])
    def test_folds_are_not_empty_and_keep_groups_together(self, n_groups):
        groups = pd.factorize(np.random.default_rng(0).permutation(np.arange(200) % n_groups))[0]
        folds = folds_of(groups, seed=1)
        assert pd.Series(folds).groupby(groups).nunique().eq(1).all()
        sizes = pd.Series(folds).groupby(groups).first().value_counts()
        assert len(sizes) == min(5, n_groups) and np.ptp(sizes) <= 1

    def test_folds_of_one_seed_are_alike(self, pool):
        alone, together = (folds_of(each, 2) for each in (np.arange(pool.n_questions), question_groups(pool.questions)))
        first = ~pd.Series(question_groups(pool.questions)).duplicated()
        assert (alone == together)[first].mean() > 0.95
        assert (alone == folds_of(np.arange(pool.n_questions), 3)).mean() < 0.3

    def test_whole_groups_are_drawn(self, pool):
        groups = question_groups(pool.questions)
        drawn, kept = draw_questions(pool, groups, 300, seed=1)
        inside = np.isin(pool.question_ids, drawn.question_ids)
        assert not set(groups[inside]) & set(groups[~inside])
        assert 300 <= drawn.n_questions <= 300 + np.bincount(groups).max()
        np.testing.assert_array_equal(kept[:, None] == kept, groups[inside][:, None] == groups[inside])
        assert draw_questions(pool, groups, 10**6)[0].n_questions == pool.n_questions


@pytest.fixture(scope="module")
def leaking():
    """Pairs of near duplicates with the same answers, which nothing but the other question of the pair tells."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((120, 30)), 2, axis=0) + 0.05 * rng.standard_normal((240, 30))
    ids = [f"q{number}" for number in range(240)]
    labels = pd.DataFrame(np.repeat(rng.integers(0, 2, (5, 120)), 2, axis=1), list("abcde"), ids)
    prompts = [*["the same"] * 2, *(f"text {number}" for number in range(2, 240))]
    benchmarks = np.repeat([f"b{number % 4}" for number in range(120)], 2)
    return CorrectnessMatrix(labels, pd.DataFrame({"benchmark": benchmarks, "prompt": prompts}, ids), vectors)


@pytest.fixture(scope="module")
def divisions(leaking):
    near = near_duplicates(leaking)
    rules = division_rules(leaking, near)
    predictors = {"MF": MatrixFactorization(dim=4, alpha=0.4), "KNN": KNNCorrectness(1)}
    return Divisions(tally_runs(rule_runs(leaking, rules, predictors, 4, 2)), rules, near, "MF", "KNN")


class TestDivisions:
    def test_a_leak_is_seen(self, divisions):
        table = divisions.table().set_index(["rule", "predictor"])
        assert table["groups"].unique().tolist() == [240, 239, 120, 4]
        assert table.loc[(NEAR, "KNN"), "accuracy_high"] < -20  # points below the rule that looks at texts alone
        assert table.loc[(NEAR, "KNN"), "accuracy"] == pytest.approx(50, abs=8)
        assert divisions.words()["gap_higher"].split("; ")[0] == NEAR

    def test_shares_of_leaks_by_a_slow_search(self, divisions):
        for rule, groups in divisions.rules.items():
            for seed, found in zip((4, 5), divisions.leaks(rule), strict=True):
                folds = folds_of(groups, seed)
                slow = [((divisions.near == divisions.near[q]) & (folds != folds[q])).any() for q in range(240)]
                assert found == pytest.approx(100 * np.mean(slow))
        assert divisions.leaks(NEAR) == [0, 0]

    def test_each_question_is_predicted_without_its_fold(self, leaking, divisions):
        predictors = {"KNN": KNNCorrectness(3), "mean": BenchmarkMean()}
        (run,) = rule_runs(leaking, {TEXT: divisions.rules[TEXT], "again": divisions.rules[TEXT].copy()}, predictors, 7)
        folds = folds_of(divisions.rules[TEXT], 7)
        for q in (0, 17, 100, 239):
            train = leaking.subset(questions=folds != folds[q])
            for name, predictor in predictors.items():
                expected = predictor.fit(train).predict_matrix(leaking.subset(questions=[f"q{q}"]))[:, 0]
                np.testing.assert_allclose(run.probabilities[f"{name}, {TEXT}"][:, q], expected, rtol=1e-6)
        np.testing.assert_array_equal(run.probabilities["KNN, again"], run.probabilities[f"KNN, {TEXT}"])

    def test_table_against_plain_means(self, leaking, divisions):
        predictors = {"MF": MatrixFactorization(dim=4, alpha=0.4), "KNN": KNNCorrectness(1)}
        runs = rule_runs(leaking, divisions.rules, predictors, 4, 2)
        table = divisions.table().set_index(["rule", "predictor"])
        hits = {}
        for rule in divisions.rules:
            for name in predictors:
                given = [run.probabilities[f"{name}, {rule}"] for run in runs]
                hits[name, rule] = 100 * np.mean([(each > 0.5) == leaking.labels for each in given])
                row = table.loc[rule, name]
                assert row["accuracy"] == pytest.approx(hits[name, rule])
                assert row["loss"] == pytest.approx(np.mean([mean_scores(each, leaking)["log_loss"] for each in given]))
            assert table.loc[(rule, "MF"), "gap"] == pytest.approx(hits["MF", rule] - hits["KNN", rule])

    def test_values_quote_the_table(self, divisions):
        table, values = divisions.table().set_index(["rule", "predictor"]), {v.key: v for v in divisions.values()}
        row = table.loc[NEAR, "KNN"]
        for key, column in (("knn", "accuracy_minus"), ("change", "gap_minus"), ("gap", "gap"), ("leaks", "leaks")):
            assert values[f"sensitivity_near_{key}"].value == pytest.approx(row[column])
        assert values["sensitivity_near_knn"].interval == (row["accuracy_low"], row["accuracy_high"])
        assert values["sensitivity_near_gap"].interval == (row["interval_0"], row["interval_1"])
        assert "no categories are parts of its benchmarks" in values["sensitivity_category_gap"].shown
        assert "sensitivity_text_change" not in values

    def test_intervals_are_over_groups_of_near_duplicates(self, divisions):
        alone = Divisions(divisions.tally, divisions.rules, np.arange(240), "MF", "KNN")
        width = [each.table()["interval_1"].iloc[0] - each.table()["interval_0"].iloc[0] for each in (divisions, alone)]
        assert width[0] != width[1]
        few = Divisions(divisions.tally, divisions.rules, np.arange(240) // 12, "MF", "KNN")  # 20 groups
        assert few.table()[["accuracy_low", "interval_0"]].isna().all(axis=None)
