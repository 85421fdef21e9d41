"""Costs, frontiers and hulls by hand; a price that is not known is never free."""

import numpy as np
import pandas as pd
import pytest

from embedllm import BenchmarkMean, CorrectnessMatrix, KNNCorrectness, fit_runs, load_dataset, write_long_form
from embedllm.datasets.simulate import simulate_pool
from embedllm.matrix import Split
from embedllm.plots.prices import plot_frontiers
from embedllm.protocol.routers import PredictedBest
from embedllm.protocol.runs import Run
from embedllm.studies.prices import (
    SIZE,
    TRADEOFFS,
    Frontiers,
    cost_to_reach,
    frontier_accuracy,
    hull,
    price_pool,
    sweep,
    tally_settings,
)

MODELS = ["a cheap", "b middle", "c dear"]
#             q0    q1    q2    q3    q4    q5
LABELS =    [[1,    1,    0,    0,    0,    0],
             [1,    1,    1,    1,    0,    0],
             [1,    1,    1,    1,    1,    0]]  # fmt: skip
FORECASTS = [[0.9,  0.9,  0.1,  0.1,  0.1,  0.1],
             [0.9,  0.9,  0.9,  0.9,  0.1,  0.1],
             [0.9,  0.9,  0.9,  0.9,  0.9,  0.1]]  # fmt: skip
PRICES = [1.0, 2.0, 5.0]


def matrix_of(labels, costs=None, sizes=None, models=MODELS):
    """A matrix of small arrays; costs (n_models, n_questions) or (n_models, 1)."""
    labels = np.asarray(labels)
    frame = pd.DataFrame(labels, models[: len(labels)], [f"q{number}" for number in range(labels.shape[1])])
    if costs is not None:
        costs = pd.DataFrame(np.broadcast_to(costs, labels.shape), frame.index, frame.columns)
    about = None if sizes is None else pd.DataFrame({"params_b": sizes}, frame.index)
    questions = pd.DataFrame({"benchmark": "x"}, frame.columns)
    return CorrectnessMatrix(frame, questions, np.eye(labels.shape[1]) + 1, about, costs=costs)


def run_of(matrix, probability, seed=0):
    """A run that was fitted on its own test questions."""
    return Run(seed, Split(matrix, matrix, matrix), {}, {"R": np.asarray(probability)})


@pytest.fixture
def hand():
    pool = price_pool(matrix_of(LABELS, np.array(PRICES)[:, None]))
    return Frontiers(pool, [run_of(pool.matrix, FORECASTS)], "R")


class TestByHand:
    def test_limits_are_the_cheapest_and_the_best_model(self, hand):
        assert hand.limits == pytest.approx((1, 5))

    def test_frontier_of_the_router(self, hand):
        # The cheapest model; the middle one where it helps, at 0.8 a unit; the dear one too, at 0.8 for 4 units.
        rows = hand.table().query("method == 'R'")
        points = {(round(cost, 6), round(accuracy, 6)) for cost, accuracy in rows[["cost", "accuracy"]].to_numpy()}
        assert points == {(1, 33.333333), (1.333333, 66.666667), (2, 83.333333)}

    def test_oracle_takes_the_cheapest_correct_model(self, hand):
        rows = hand.table().query("method == 'oracle'")
        assert rows[["cost", "accuracy"]].to_numpy()[-1] == pytest.approx([2, 500 / 6])

    def test_single_models_and_their_mixtures(self, hand):
        table = hand.table().set_index(["method", "setting"])[["cost", "accuracy"]]
        assert table.loc["single models"].index.tolist() == MODELS
        np.testing.assert_allclose(table.loc["single models"], np.c_[PRICES, np.array([200, 400, 500]) / 6])
        np.testing.assert_allclose(table.loc["best single model"], [[5, 500 / 6]])
        mixture = table.loc["random mixture"].to_numpy()
        np.testing.assert_allclose(mixture[:, 0], np.linspace(1, 5, 65))
        np.testing.assert_allclose(mixture[:, 1], np.interp(mixture[:, 0], PRICES, np.array([200, 400, 500]) / 6))

    def test_weighted_random_asks_the_same_models_at_random(self, hand):
        rows = hand.table().query("method == 'weighted random'")[["cost", "accuracy"]].to_numpy()
        assert rows[-1] == pytest.approx([2, 100 * (3 / 6 * 2 / 6 + 2 / 6 * 4 / 6 + 1 / 6 * 5 / 6)])

    def test_summary(self, hand):
        table = hand.summary().set_index("method")
        router = (1 / 3 * (200 + 400) / 12 + 2 / 3 * (400 + 500) / 12 + 3 * 500 / 6) / 4
        mixture = ((200 + 400) / 12 + 3 * (400 + 500) / 12) / 4
        numbers = table[["area", "gain", "saved", "equal"]]
        assert numbers.loc["R"].tolist() == pytest.approx([router, router - mixture, 100 * (1 - 2 / 5), 0])
        assert numbers.loc["random mixture"].tolist() == pytest.approx([mixture, 0, 0, 0])
        assert table.filter(regex="_low|_high").isna().all(axis=None)  # six questions give no interval

    def test_gains_at_equal_cost(self, hand):
        gains = hand.gains(n_costs=5).set_index(["method", "cost"])["points"]
        assert gains["R"].tolist() == pytest.approx([0, *(500 / 6 - np.array([400, 433.333333, 466.666667, 500]) / 6)])

    def test_values(self, hand):
        values = {each.key: each.value for each in hand.values()}
        table = hand.summary().set_index("method")
        assert [values[f"price_{key}"] for key in ("models", "low", "high")] == pytest.approx([3, 1, 5])
        assert values["price_gain"] == table.loc["R", "gain"]
        assert values["price_saved"] == pytest.approx(60)
        assert values["price_area_oracle"] == table.loc["oracle", "area"]


class TestParts:
    def test_hull_is_that_of_an_exhaustive_search(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            costs, accuracies = rng.integers(1, 6, (2, 5)).astype(float)
            vertices = hull(costs, accuracies)
            assert costs[vertices[0]] == costs.min()
            assert accuracies[vertices[-1]] == accuracies.max()
            for budget in np.linspace(costs.min(), 6, 23):
                best = max(  # over all pairs of models, mixed to cost at most the budget
                    share * accuracies[i] + (1 - share) * accuracies[j]
                    for i in range(5)
                    for j in range(5)
                    for share in (
                        [1.0] if costs[i] == costs[j] else [np.clip((budget - costs[j]) / (costs[i] - costs[j]), 0, 1)]
                    )
                    if share * costs[i] + (1 - share) * costs[j] <= budget + 1e-9
                )
                assert np.interp(budget, costs[vertices], accuracies[vertices]) == pytest.approx(best)

    def test_sweep_is_a_slow_search(self, make_matrix):
        matrix = make_matrix(n_models=5, n_questions=30)
        p, prices = np.random.default_rng(1).random((5, 30)), np.array([1.0, 4, 2, 2, 9])
        tradeoffs = [0, 0.01, 0.1, 1e9]
        for row, tradeoff in zip(sweep(p, prices, matrix.model_names, tradeoffs), tradeoffs, strict=True):
            assert row.tolist() == [int(np.argmax(p[:, q] - tradeoff * prices)) for q in range(30)]

    def test_no_tradeoff_is_the_plain_router_and_a_large_one_the_cheapest_model(self, toy):
        knn = KNNCorrectness(7).fit(toy)
        prices = np.array([3.0, 2, 5, 1, 1, 4])
        plain, cheapest = sweep(knn.predict_matrix(toy), prices, toy.model_names, [0, 1e9])
        shares = PredictedBest("KNN").fit(toy, {"KNN": knn}).shares(toy)
        assert plain.tolist() == shares.argmax(axis=0).tolist()
        assert set(cheapest) == {3, 4}

    def test_area_with_a_fine_grid(self):
        rng = np.random.default_rng(2)
        costs, accuracies = np.append(1.0, 1 + 4 * rng.random(6)), rng.random(7)
        at, order = np.linspace(1, 3.5, 200_001), np.argsort(costs)
        fine = np.interp(at, costs[order], accuracies[order]).mean()
        assert frontier_accuracy(costs, accuracies, 1, 3.5) == pytest.approx(fine, abs=1e-5)
        assert np.isnan(frontier_accuracy(costs, accuracies, 1, 1))

    @pytest.mark.parametrize(("accuracy", "cost"), [(0.1, 1), (0.4, 1), (0.5, 2), (0.6, 3), (0.7, 4), (0.9, 5)])
    def test_cost_to_reach(self, accuracy, cost):
        costs, accuracies = np.array([4.0, 1, 3]), np.array([0.7, 0.4, 0.6])
        assert cost_to_reach(costs, accuracies, accuracy, at_most=5) == pytest.approx(cost)
        assert cost_to_reach(costs, accuracies, accuracy, at_most=1.5) == pytest.approx(min(cost, 1.5))


class TestPool:
    def test_costs_of_the_matrix_count_before_sizes(self):
        costs = np.array([[0.1, np.nan, 0.3, 0.4], [1, 1, 1, 1], [np.nan] * 4])
        matrix = matrix_of(np.ones((3, 4), int), costs, sizes=[7.0, 70.0, 1.0])
        pool = price_pool(matrix)
        assert pool.unit == "US dollars"
        assert pool.matrix.model_names.tolist() == MODELS[:2]
        assert pool.matrix.question_ids.tolist() == ["q0", "q2", "q3"]
        np.testing.assert_allclose(pool.matrix.costs, costs[:2, [0, 2, 3]], rtol=1e-6)
        assert (pool.n_unknown, pool.n_incomplete) == (1, 0)
        assert str(pool).splitlines()[0] == "cost: US dollars a question"

    def test_costs_that_were_written_and_read(self, tmp_path):
        rng = np.random.default_rng(0)
        matrix = matrix_of(rng.integers(0, 2, (3, 40)), rng.random((3, 40)))
        questions = matrix.questions.assign(prompt=[f"What is {n}?" for n in range(40)])
        labels, costs = (
            pd.DataFrame(each, matrix.model_names, questions.index) for each in (matrix.labels, matrix.costs)
        )
        tokens = CorrectnessMatrix(labels, questions, matrix.embeddings, costs=1000 * costs, cost_unit="tokens")
        write_long_form(tokens, tmp_path / "pool")
        pool = price_pool(load_dataset(tmp_path / "pool"))
        assert pool.unit == "tokens"
        np.testing.assert_allclose(pool.matrix.costs, tokens.costs, rtol=1e-5)

    def test_sizes_stand_in_and_unknown_ones_are_left_out(self):
        pool = price_pool(matrix_of(LABELS, sizes=[7.0, np.nan, 70.0]))
        assert pool.unit == SIZE
        assert pool.matrix.model_names.tolist() == ["a cheap", "c dear"]
        assert pool.matrix.costs.mean(axis=1).tolist() == [7, 70]
        assert (pool.n_unknown, pool.n_incomplete) == (1, 0)
        assert "size (billion parameters), a proxy for the price" in str(pool)

    def test_a_table_of_prices_counts_first(self):
        matrix = matrix_of(LABELS, np.ones((3, 1)))
        with pytest.raises(ValueError, match="no price of model 'b middle' is known"):
            price_pool(matrix, {"a cheap": 1.0, "c dear": 5.0})
        pool = price_pool(matrix, {"a cheap": 1.0, "c dear": 5.0}, default=2.0)
        assert pool.matrix.costs[:, 0].tolist() == PRICES
        assert pool.n_unknown == 0

    def test_the_largest_table_without_a_gap(self):
        labels = np.ones((3, 6), int)
        labels[2, 1:] = -1
        labels[1, 0] = -1
        pool = price_pool(matrix_of(labels, sizes=[1.0, 2.0, 3.0]))
        assert pool.matrix.labels.shape == (2, 5)  # 2 x 5 cells, against 1 x 6 and 3 x 0
        assert (pool.n_unknown, pool.n_incomplete) == (0, 1)


class TestWithoutCosts:
    @pytest.mark.parametrize("sizes", [None, [np.nan] * 3, [7.0] * 3])
    def test_nothing_is_fitted_and_the_values_say_why(self, sizes):
        pool = price_pool(matrix_of(LABELS, sizes=sizes))
        frontiers = Frontiers(pool, fit_runs(pool.matrix, {"R": None}), "R")
        assert not len(frontiers.table()) and not len(frontiers.gains()) and not len(frontiers.summary())
        values = {each.key: each for each in frontiers.values()}
        assert values["price_unknown"].value == (0 if sizes == [7.0] * 3 else 3)
        assert values["price_models"].value == 3 - values["price_unknown"].value
        assert "no two models of known, different cost" in values["price_saved"].shown
        plot_frontiers(frontiers.table(), frontiers.gains())

    def test_best_model_that_is_the_cheapest_leaves_nothing_to_save(self):
        for prices in ([5.0, 2.0, 1.0], [5.0, 2.0, 0.0]):
            pool = price_pool(matrix_of(LABELS, np.array(prices)[:, None]))
            frontiers = Frontiers(pool, [run_of(pool.matrix, FORECASTS)], "R")
            row = frontiers.summary().set_index("method").loc["R"]
            assert np.isnan(row["area"]) and row["saved"] == 0 and row["equal"] == 0
            values = {each.key: each.shown for each in frontiers.values()}
            assert values["price_gain"].endswith("the best model is the cheapest")


@pytest.fixture(scope="module")
def pool(make_matrix):
    matrix = make_matrix(n_models=5, n_questions=400, seed=3)
    costs = np.random.default_rng(0).gamma(2, np.array([1, 2, 3, 5, 8.0])[:, None], matrix.labels.shape)
    labels, costs = (pd.DataFrame(each, matrix.model_names, matrix.question_ids) for each in (matrix.labels, costs))
    return price_pool(CorrectnessMatrix(labels, matrix.questions, matrix.embeddings, costs=costs))


@pytest.fixture(scope="module")
def runs(pool):
    return list(fit_runs(pool.matrix, {"KNN": KNNCorrectness(31), "mean": BenchmarkMean()}, n_seeds=2))


class TestCostsOfAnswers:
    """Costs that differ between questions: the router knows the mean on training questions, and pays what it is."""

    def test_router_pays_for_the_answers_that_it_gets(self, runs):
        (run, _), tally = runs, tally_settings(runs[0], "KNN")
        train, test = run.split.train, run.split.test
        prices = train.costs.mean(axis=1)
        for k in (0, 10, 20, 32):
            tradeoff = TRADEOFFS[k] / (prices.max() - prices.min())
            for q in range(test.n_questions):
                m = np.argmax(run.probabilities["KNN"][:, q] - tradeoff * prices.astype(float))
                assert tally.sums["cost", "KNN", k][q] == pytest.approx(test.costs[m, q])
                assert tally.sums["accuracy", "KNN", k][q] == test.labels[m, q]

    def test_intervals_are_paired(self, pool, runs):
        table = Frontiers(pool, runs, "KNN").summary().set_index("method")
        row = table.loc["KNN"]
        for number in ("area", "gain", "saved", "equal"):
            assert row[f"{number}_low"] <= row[number] <= row[f"{number}_high"]
        assert row["gain_high"] - row["gain_low"] < row["area_high"] - row["area_low"]
        alike = Frontiers(pool, [run._replace(probabilities={"R": run.split.test.labels * 1.0}) for run in runs], "R")
        both = alike.summary().set_index("method")["area"]
        assert both["R"] == pytest.approx(both["oracle"])


def test_router_is_above_random_mixtures_on_the_simulated_pool():
    pool = price_pool(simulate_pool(0.05)[0])
    frontiers = Frontiers(pool, fit_runs(pool.matrix, {"KNN": KNNCorrectness(31)}, n_seeds=1), "KNN")
    table = frontiers.summary().set_index("method")
    assert table.loc["KNN", "gain_low"] > 0
    assert table.loc["oracle", "area"] > table.loc["KNN", "area"] > table.loc["weighted random", "area"]
