"""Greedy choices against all subsets; agreement and routes against slow loops; a copy of a model is found."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from embedllm import BenchmarkMean, KNNCorrectness, MatrixFactorization, fit_runs
from embedllm.datasets.simulate import simulate_pool
from embedllm.matrix import CorrectnessMatrix
from embedllm.plots.portfolio import plot_pairs, plot_portfolio
from embedllm.protocol.routers import PredictedBest
from embedllm.studies.portfolio import (
    ACCURATE,
    GREEDY,
    MARGIN,
    Portfolio,
    _without,
    choose_greedily,
    drop_one_of_each,
    route_among_first,
    similar_pairs,
)


class TestGreedyChoice:
    @pytest.mark.parametrize("seed", range(20))
    def test_best_sets_are_between_the_choice_and_its_bounds(self, seed):
        p = np.random.default_rng(seed).random((7, 12)) ** 3  # no model is best everywhere
        chosen = choose_greedily(p)
        for k in range(1, 8):
            best = max(p[list(models)].max(axis=0).mean() for models in combinations(range(7), k))
            assert chosen.value[k - 1] == pytest.approx(p[chosen.order[:k]].max(axis=0).mean())
            assert (1 - (1 - 1 / k) ** k) * best <= chosen.value[k - 1] <= best + 1e-12
            assert best <= chosen.bound[k - 1] + 1e-12
        assert sorted(chosen.order) == list(range(7))
        assert chosen.bound[[0, -1]] == pytest.approx(chosen.value[[0, -1]])  # of one model, and of all

    def test_a_bound_that_the_choice_does_not_reach(self):
        # The first choice, 0.6 everywhere, is of no use beside the two others, which are best together.
        chosen = choose_greedily(np.array([[0.6] * 4, [1, 1, 0, 0], [0, 0, 1, 1.0]]))
        assert chosen.order.tolist() == [0, 1, 2]
        assert chosen.value.tolist() == pytest.approx([0.6, 0.8, 1.0])
        assert chosen.bound.tolist() == pytest.approx([0.6, 1.0, 1.0])

    def test_fewest_models_lose_no_more_than_the_margin(self):
        p = np.array([[0.5, 0.5], [0.6, 0.5], [0.6, 0.5 + 1.5 * MARGIN], [0.6, 0.5 + 2 * MARGIN]])
        assert choose_greedily(p).fewest == 1
        assert choose_greedily(np.array([[0.6, 0.5], [0.5, 0.5 + 2.1 * MARGIN]])).fewest == 2


def test_routes_among_the_first_models_are_a_slow_search():
    rng = np.random.default_rng(0)
    p, correct = rng.random((6, 40)).round(1), rng.integers(0, 2, (6, 40))  # with ties
    order = rng.permutation(6)
    obtained = route_among_first(p, correct, order)
    for k in range(1, 7):
        among = sorted(order[:k])
        assert obtained[k - 1].tolist() == [correct[max(among, key=lambda m: (p[m, q], -m)), q] for q in range(40)]


class TestSimilarPairs:
    def test_each_number_is_that_of_a_slow_loop(self, make_matrix):
        matrix = make_matrix(n_models=5, n_questions=300, missing=0.3, seed=1)
        p = np.random.default_rng(2).uniform(0.05, 0.95, matrix.labels.shape)
        pairs = similar_pairs(matrix, p).set_index(["model", "other"])
        y, seen, names = matrix.labels, matrix.observed, matrix.model_names
        expected = np.full(p.shape, np.nan)
        for m in range(5):
            at = np.flatnonzero(seen[m])
            others = [[y[n, q] - p[n, q] for n in range(5) if n != m and seen[n, q]] for q in at]
            harder = np.array([np.mean(rest) if rest else 0 for rest in others])
            slope = np.linalg.lstsq(harder[:, None], y[m, at] - p[m, at], rcond=None)[0]
            expected[m, at] = np.clip(p[m, at] + slope * harder, 0, 1)
        for (model, other), row in pairs.iterrows():
            i, j = (list(names).index(name) for name in (model, other))
            both = seen[i] & seen[j]
            e, f = expected[i, both], expected[j, both]
            rest = y[i, both] - e, y[j, both] - f
            assert row["n_shared"] == both.sum()
            assert row["agreement"] == pytest.approx((y[i, both] == y[j, both]).mean())
            assert row["expected"] == pytest.approx((e * f + (1 - e) * (1 - f)).mean())
            assert row["correlation"] == pytest.approx(
                (rest[0] * rest[1]).sum() / np.sqrt((rest[0] ** 2).sum() * (rest[1] ** 2).sum())
            )
            apart = logit(p[i, both]) - logit(p[j, both])
            assert row["distance"] == pytest.approx(np.sqrt((apart**2).mean()))
            assert row["gap"] == pytest.approx(y[i, both].mean() - y[j, both].mean())
        middle = pairs["correlation"].median()
        spread = 1.4826 * (pairs["correlation"] - middle).abs().median()
        outlier = (pairs["correlation"] - middle) / np.sqrt(spread**2 + 1 / pairs["n_shared"])
        np.testing.assert_allclose(pairs["outlier"], outlier)

    def test_agreement_by_hand(self):
        labels = pd.DataFrame([[1] * 60 + [0] * 60, [1] * 90 + [0] * 30], ["a@x", "A-fp8"]).rename(columns=str)
        questions = pd.DataFrame({"benchmark": "x"}, labels.columns)
        pair = similar_pairs(CorrectnessMatrix(labels, questions, np.eye(120)), np.full((2, 120), 0.5)).iloc[0]
        assert pair["agreement"] == pytest.approx(0.75)
        assert pair["gap"] == pytest.approx(-0.25)
        assert pair["same_weights"]
        assert not pair["same_family"]  # none is known

    def test_distance_is_that_of_the_embeddings(self, make_matrix):
        matrix = make_matrix(n_models=6, n_questions=200)
        mf = MatrixFactorization(dim=6, alpha=0.1).fit(matrix)
        pairs, distances = similar_pairs(matrix, mf.predict_matrix(matrix)), mf.distances()
        wanted = [distances.loc[pair.model, pair.other] for pair in pairs.itertuples()]
        np.testing.assert_allclose(pairs["distance"], wanted, rtol=1e-3)

    def test_pairs_with_few_common_questions_are_left_out(self, make_matrix):
        matrix = make_matrix(n_models=4, n_questions=99)
        assert not len(similar_pairs(matrix, np.full(matrix.labels.shape, 0.5)))

    def test_of_each_flagged_pair_the_less_accurate_model_is_dropped(self):
        rows = [("a", "b", 0.1, True), ("b", "c", 0.1, True), ("d", "c", -0.1, True), ("e", "f", 0.1, False)]
        assert drop_one_of_each(pd.DataFrame(rows, columns=["model", "other", "gap", "flagged"])) == ["b", "d"]


@pytest.fixture(scope="module")
def with_copies():
    """The simulated pool, and two models again, a twentieth of whose answers are drawn anew."""
    pool = simulate_pool(0.05)[0]
    pool = pool.subset(models=pool.model_names[:30])
    labels = pd.DataFrame(pool.labels, pool.model_names, pool.question_ids)
    rng = np.random.default_rng(0)
    for model in (3, 17):
        anew = np.where(rng.random(pool.n_questions) < 0.05, rng.integers(0, 2, pool.n_questions), labels.iloc[model])
        labels.loc[f"copy of {model}"] = anew
    return CorrectnessMatrix(labels, pool.questions, pool.embeddings)


class TestPortfolio:
    def test_copies_are_found_and_can_be_dropped(self, with_copies):
        runs = fit_runs(with_copies, {"MF": MatrixFactorization(dim=8, alpha=0.05)}, n_seeds=1)
        portfolio = Portfolio(with_copies, runs, "MF")
        flagged = portfolio.pairs[portfolio.pairs["flagged"]]
        names = with_copies.model_names
        assert set(map(frozenset, flagged[["model", "other"]].to_numpy())) == {
            frozenset([names[model], f"copy of {model}"]) for model in (3, 17)
        }
        values = {each.key: each for each in portfolio.values()}
        assert values["portfolio_dropped"].value == 2
        assert abs(values["portfolio_drop"].value) < 3
        assert "no names differ only in provider" in values["portfolio_runs_flagged"].shown

    def test_portfolios_of_one_model_and_of_all(self, make_matrix):
        matrix = make_matrix(n_models=6, n_questions=400, seed=3)
        run = next(iter(fit_runs(matrix, {"KNN": KNNCorrectness(31)}, n_seeds=1)))
        table = Portfolio(matrix, [run], "KNN").table().set_index(["models", "k"])
        correct = run.split.test.labels == 1
        best = (run.split.train.labels == 1).mean(axis=1).argmax()
        assert table.loc[(ACCURATE, 1), "accuracy"] == pytest.approx(100 * correct[best].mean())
        everyone = (PredictedBest("KNN").fit(run.split.train, run.predictors).shares(run.split.test) * correct).sum(
            axis=0
        )
        ends = table.xs(6, level="k")
        assert ends["accuracy"].tolist() == pytest.approx([100 * everyone.mean()] * 3)
        assert ends["minus"].tolist() == pytest.approx([0] * 3)
        inner = table[table["low"].notna()]
        assert ((inner["low"] <= inner["minus"]) & (inner["minus"] <= inner["high"])).all()

    def test_sizes_are_compared_without_missing_answers(self, make_matrix):
        matrix = make_matrix(n_models=5, n_questions=400, seed=4)
        labels = matrix.labels.copy()
        labels[4, :300] = -1
        matrix = matrix.with_labels(labels)
        portfolio = Portfolio(matrix, fit_runs(matrix, {"mean": BenchmarkMean()}, n_seeds=2), "mean")
        values = {each.key: each.value for each in portfolio.values()}
        assert values["portfolio_models"] == 4
        assert values["portfolio_questions"] == 40
        assert len(portfolio.choices()) == 4
        assert matrix.model_names[4] not in portfolio.choices()["model"].tolist()
        assert portfolio.choices()["reached"].between(63, 100 + 1e-9).all()

    def test_order_of_the_matrix_changes_nothing(self, make_matrix):
        matrix = make_matrix(n_models=5, n_questions=300, seed=5)
        both = [matrix, matrix.subset(models=matrix.model_names[::-1])]
        tables = [Portfolio(each, fit_runs(each, {"KNN": KNNCorrectness(15)}, n_seeds=1), "KNN") for each in both]
        pd.testing.assert_frame_equal(tables[0].table(), tables[1].table())

    def test_questions_that_only_a_dropped_model_answered_are_left_out(self, make_matrix):
        matrix = make_matrix(n_models=2, n_questions=300, seed=6)
        labels = np.repeat(matrix.labels[:1], 2, axis=0)  # two equal models
        labels[0, ::3] = -1
        matrix = matrix.with_labels(labels)
        (run,) = fit_runs(matrix, {"mean": BenchmarkMean()}, n_seeds=1)
        tally = _without(run, "mean", [matrix.model_names[1]])
        accuracy = tally.by_seed()["accuracy"].iloc[0]
        both = run.split.test.labels[:, run.split.test.observed.all(axis=0)]
        assert accuracy.tolist() == pytest.approx([(both[0] == 1).mean()] * 2)

    def test_table_without_a_test_question_is_refused(self, make_matrix):
        matrix = make_matrix(n_models=3, n_questions=60)
        labels = matrix.labels.copy()
        labels[0, 40:] = labels[1, :20] = labels[2, 40:] = -1
        questions = matrix.questions.assign(split=["train"] * 40 + ["test"] * 20)
        matrix = CorrectnessMatrix(
            pd.DataFrame(labels, matrix.models.index, questions.index), questions, matrix.embeddings
        )
        with pytest.raises(ValueError, match="of 3 models answered, none is a test question: portfolios need both"):
            Portfolio(matrix, fit_runs(matrix, {"mean": BenchmarkMean()}, n_seeds=1), "mean")

    def test_a_single_model(self, make_matrix):
        matrix = make_matrix(n_models=1, n_questions=100)
        portfolio = Portfolio(matrix, fit_runs(matrix, {"mean": BenchmarkMean()}, n_seeds=1), "mean")
        values = {each.key: each.value for each in portfolio.values()}
        assert values["portfolio_fewest"] == 1
        assert values["portfolio_pairs"] == 0
        assert np.isnan(values["portfolio_family"])
        plot_portfolio(portfolio.table(), portfolio.n_questions)
        plot_pairs(portfolio.pairs)


def test_greedy_choice_is_above_random_models_on_the_simulated_pool():
    pool = simulate_pool(0.05)[0]
    portfolio = Portfolio(pool, fit_runs(pool, {"KNN": KNNCorrectness(31)}, n_seeds=1), "KNN")
    values = {each.key: each for each in portfolio.values()}
    assert values["portfolio_few_minus_random"].interval[0] > 0
    assert portfolio.table().set_index(["models", "k"]).loc[(GREEDY, 112), "minus"] == 0
