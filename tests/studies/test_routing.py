"""Evaluation of routers: over observed answers, the same questions for all, means over runs."""

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix, KNNCorrectness, ModelMean, evaluate_routers, fit_runs, route_shares
from embedllm.protocol.routers import (
    BestSingleModel,
    HighestScore,
    Oracle,
    RoutingPolicy,
    UniformRandom,
    fit_routers,
    standard_policies,
)
from embedllm.studies.routing import (
    mean_route_shares,
    paper_routers,
    route_runs,
    route_table,
    route_values,
    tally_routes,
)

MODELS = ["zeta", "alpha", "mid"]
#           q0  q1  q2  q3  q4
LABELS = [[ 1,  0, -1, -1,  1],
          [ 0,  0,  1, -1,  1],
          [-1,  1,  0, -1,  0]]  # fmt: skip
BENCHMARKS = ["x", "x", "x", "y", "y"]


def matrix_of(labels, models=MODELS, benchmarks=None):
    labels = np.asarray(labels)
    ids = [f"q{number}" for number in range(labels.shape[1])]
    questions = pd.DataFrame({"benchmark": benchmarks or ["x"] * len(ids)}, index=ids)
    return CorrectnessMatrix(pd.DataFrame(labels, list(models), ids), questions, np.ones((len(ids), 2)))


@pytest.fixture
def hand():
    return matrix_of(LABELS, benchmarks=BENCHMARKS)


class Given(RoutingPolicy):
    """Routes as it is told: shares for each model by name, the same for every question."""

    def __init__(self, given):
        self.given = given

    def shares(self, matrix):
        rows = np.array([self.given[name] for name in matrix.model_names])
        return np.repeat(rows[:, None], matrix.n_questions, axis=1)


class Names(RoutingPolicy):
    """Gives what it is told, whatever the questions."""

    def __init__(self, given):
        self.given = given

    def shares(self, matrix):
        return self.given


class Unsure(HighestScore):
    def scores(self, matrix):
        return np.where(np.arange(matrix.n_questions) == 1, np.nan, np.ones(matrix.labels.shape))


class Turned(RoutingPolicy):
    """Has its axes in another order."""

    def shares(self, matrix):
        return UniformRandom().shares(matrix).T


class TestEvaluation:
    def test_hand_computed(self, hand):
        table = evaluate_routers({"oracle": Oracle(), "uniform": UniformRandom()}, hand)
        assert table["router"].tolist() == ["oracle"] * 3 + ["uniform"] * 3
        assert table["benchmark"].tolist() == ["overall", "x", "y"] * 2
        # q3 has no answer and counts for no router.
        assert table["n_questions"].tolist() == [4, 3, 1] * 2
        assert table["accuracy"].tolist()[:3] == [1, 1, 1]
        uniform = [1 / 2, 1 / 3, 1 / 2, 2 / 3]
        assert table["accuracy"].tolist()[3:] == pytest.approx([np.mean(uniform), np.mean(uniform[:3]), uniform[3]])
        errors = [np.std(part, ddof=1) / len(part) ** 0.5 for part in (uniform, uniform[:3])]
        assert table["stderr"].tolist()[3:5] == pytest.approx(errors)
        assert np.isnan(table["stderr"].iloc[5])  # of a single question

    def test_stderr_and_overall(self, toy_with_holes):
        knn = KNNCorrectness(7).fit(toy_with_holes)
        for name, router in fit_routers(standard_policies(), toy_with_holes, {"MF": knn, "KNN": knn}).items():
            expected = (router.shares(toy_with_holes) * (toy_with_holes.labels == 1)).sum(axis=0)
            answered = toy_with_holes.observed.any(axis=0)
            table = evaluate_routers({name: router}, toy_with_holes).set_index("benchmark")
            for benchmark in ("overall", "bench-0", "bench-1"):
                of = expected[answered & ((toy_with_holes.benchmarks == benchmark) | (benchmark == "overall"))]
                row = table.loc[benchmark]
                assert row["n_questions"] == len(of)
                assert row["accuracy"] == pytest.approx(np.mean(of))
                assert row["stderr"] == pytest.approx(np.std(of, ddof=1) / np.sqrt(len(of)))
            parts = table.drop("overall")
            weighted = (parts["accuracy"] * parts["n_questions"]).sum() / parts["n_questions"].sum()
            assert table.loc["overall", "accuracy"] == pytest.approx(weighted)

    def test_missing_answers_are_not_incorrect(self, toy):
        # A model that is always correct has an accuracy of 1, however rarely it was observed.
        labels = np.full_like(toy.labels, -1)
        labels[0, ::7] = 1
        table = evaluate_routers({"s": BestSingleModel().fit(toy, {}), "u": UniformRandom()}, toy.with_labels(labels))
        overall = table[table["benchmark"] == "overall"]
        assert overall["accuracy"].tolist() == [1, 1]
        assert overall["n_questions"].tolist() == [6, 6]

    def test_benchmark_without_an_answer_is_undefined(self, toy):
        labels = toy.labels.copy()
        labels[:, toy.benchmarks == "bench-1"] = -1
        table = evaluate_routers({"u": UniformRandom()}, toy.with_labels(labels)).set_index("benchmark")
        assert table["n_questions"].to_dict() == {"overall": 20, "bench-0": 20, "bench-1": 0}
        assert table.loc["bench-1", ["accuracy", "stderr"]].isna().all()
        assert table.loc["overall", "accuracy"] == table.loc["bench-0", "accuracy"]

    def test_nothing_at_all_is_undefined(self, toy):
        nothing = toy.with_labels(np.full_like(toy.labels, -1))
        for matrix in (nothing, toy.subset(questions=[])):
            table = evaluate_routers({"u": UniformRandom(), "o": Oracle()}, matrix)
            assert table[["accuracy", "stderr"]].isna().all(axis=None)
            assert (table["n_questions"] == 0).all()


def test_paper_routers(toy_with_holes):
    knn = KNNCorrectness(7).fit(toy_with_holes)
    routers = fit_routers(standard_policies(), toy_with_holes, {"MF": knn, "KNN": knn})
    evaluation = evaluate_routers(routers, toy_with_holes)
    table = paper_routers(evaluation, "MF").set_index(["router", "benchmark"])["accuracy"]
    everything = evaluation.set_index(["router", "benchmark"])["accuracy"]
    assert set(table.index.get_level_values("router")) == {"MF", "best single model", "weighted random"}
    assert table["best single model", "overall"] == everything["best single model", "overall"]
    for name in ("bench-0", "bench-1"):
        assert table["best single model", name] == everything["best model per benchmark", name]
    assert table["MF"].equals(everything["MF"])
    # Nothing that is not the paper's.
    assert paper_routers(evaluation, "MF").columns.tolist() == [
        "data", "router", "benchmark", "accuracy", "n_questions",
    ]  # fmt: skip


class TestRefused:
    """A router that is broken is an error, never a higher accuracy."""

    @pytest.mark.parametrize("share", [2.0, -0.1, float("nan")])
    def test_shares_that_are_no_probabilities(self, hand, share):
        router = Given({"zeta": share, "alpha": 0.0, "mid": 0.0})
        with pytest.raises(ValueError, match=r"router 'own': share .* of model '\w+' on question 'q0' is "):
            evaluate_routers({"own": router}, hand)

    def test_shares_that_sum_to_more_than_one(self, hand):
        router = Given({"zeta": 0.7, "alpha": 0.7, "mid": 0.0})
        with pytest.raises(ValueError, match="router 'own'"):
            evaluate_routers({"own": router}, hand)

    def test_shares_of_another_shape(self, hand):
        with pytest.raises(ValueError, match=r"router 'own': shares gave float64 of shape \(5, 3\); return numbers of"):
            evaluate_routers({"own": Turned()}, hand)

    def test_abstaining_and_unobserved_models_count_as_incorrect(self, hand):
        abstains, unobserved = Given({"zeta": 0, "alpha": 0, "mid": 0}), Given({"zeta": 0, "alpha": 0, "mid": 1.0})
        table = evaluate_routers({"abstains": abstains, "mid": unobserved}, hand).query("benchmark == 'overall'")
        assert table["n_questions"].tolist() == [4, 4]
        assert table["accuracy"].tolist() == [0, 0.25]  # of q0, q1, q2, q4, mid is correct on q1 alone
        assert table["abstained"].tolist() == [1, 0.25]  # and was not observed on q0

    def test_names_are_shares(self, hand):
        names = Names(["mid", "zeta", None, "zeta", "zeta"])
        table = evaluate_routers({"names": names}, hand).query("benchmark == 'overall'")
        assert table["accuracy"].item() == 1 / 4  # q4
        assert table["abstained"].item() == 2 / 4  # q0, on which mid was not observed, and q2

    @pytest.mark.parametrize("given", [None, "zeta", ["zeta"] * 3, [["zeta"] * 5] * 3])
    def test_what_is_neither_shares_nor_names(self, hand, given):
        with pytest.raises(ValueError, match=r"router 'own': shares gave .*; return numbers of shape \(3, 5\)"):
            evaluate_routers({"own": Names(given)}, hand)

    def test_unknown_name(self, hand):
        with pytest.raises(KeyError, match="unknown model 'omega'; known: "):
            evaluate_routers({"own": Names(["omega"] * 5)}, hand)

    def test_score_that_is_not_a_number(self, hand):
        with pytest.raises(ValueError, match="the score of model 'zeta' on question 'q1' is not a number"):
            evaluate_routers({"own": Unsure()}, hand)


class TestRouteShares:
    def test_hand_computed(self, hand):
        shares = route_shares(UniformRandom(), hand)
        # Of the four questions that somebody answered.
        received = {"zeta": 1 / 2 + 1 / 3 + 1 / 3, "alpha": 1 / 2 + 1 / 3 + 1 / 2 + 1 / 3, "mid": 1 / 3 + 1 / 2 + 1 / 3}
        assert shares.index.tolist() == sorted(received, key=lambda name: (-received[name], name))
        assert shares.to_dict() == pytest.approx({name: value / 4 for name, value in received.items()})
        assert shares.sum() == pytest.approx(1)

    def test_equal_shares_stand_in_the_order_of_their_names(self):
        shares = route_shares(UniformRandom(), matrix_of([[1, 0], [1, 0], [1, 0]]))
        assert shares.index.tolist() == ["alpha", "mid", "zeta"]

    def test_every_model_is_listed(self, toy):
        shares = route_shares(BestSingleModel().fit(toy, {}), toy)
        assert set(shares.index) == set(toy.model_names)
        assert shares.iloc[0] == 1
        assert (shares.iloc[1:] == 0).all()

    def test_no_question_is_undefined(self, toy):
        shares = route_shares(UniformRandom(), toy.with_labels(np.full_like(toy.labels, -1)))
        assert len(shares) == 6
        assert shares.isna().all()


def first_of(routes):
    """The first run alone, in which another router is called SGD."""
    return tally_routes([routes[0]._replace(shares=routes[0].shares | {"SGD": routes[0].shares["KNN"]})])


class TestRuns:
    @pytest.fixture
    def runs(self, make_matrix):
        """Runs on random divisions; KNNs stand for the predictors, since they fit in no time."""
        matrix = make_matrix(n_questions=300, missing=0.3, n_benchmarks=3)
        return list(fit_runs(matrix, {"MF": KNNCorrectness(9), "KNN": KNNCorrectness(2)}, seed=3, n_seeds=3))

    @pytest.fixture
    def routers(self, runs):
        return [fit_routers(standard_policies(), run.split.train, run.predictors) for run in runs]

    @pytest.fixture
    def routes(self, runs):
        return list(route_runs(runs, standard_policies()))

    @pytest.fixture
    def evaluations(self, runs, routers):
        keys = ["router", "benchmark"]
        return [evaluate_routers(each, run.split.test).set_index(keys) for each, run in zip(routers, runs, strict=True)]

    def test_one_is_the_evaluation_of_one_matrix(self, routes, evaluations):
        table = route_table(tally_routes(routes[:1]))
        pd.testing.assert_frame_equal(table.set_index(["router", "benchmark"]), evaluations[0])

    def test_accuracies_are_means_over_the_runs(self, routes, evaluations):
        table = route_table(tally_routes(routes)).set_index(["router", "benchmark"])
        expected = sum(one.loc[table.index, "accuracy"] for one in evaluations) / 3
        np.testing.assert_allclose(table["accuracy"], expected)
        n_questions = sum(one.loc[table.index, "n_questions"] for one in evaluations) / 3
        assert table["n_questions"].tolist() == n_questions.round().tolist()

    def test_values(self, runs, routes, evaluations):
        reported = {one.key: one for one in route_values(tally_routes(routes), first_of(routes))}
        overall = pd.DataFrame([100 * one["accuracy"].xs("overall", level=1) for one in evaluations])
        of = {
            "route_mf": "MF",
            "route_knn": "KNN",
            "route_single": "best single model",
            "route_best_of_benchmark": "best model per benchmark",
            "route_weighted": "weighted random",
            "route_oracle": "oracle",
        }
        gains = {
            "route_gain": "best single model",
            "route_gain_benchmark": "best model per benchmark",
            "route_mf_minus_knn": "KNN",
            "route_mf_minus_weighted": "weighted random",
        }
        assert list(reported) == [*of, *gains, "route_sgd", "route_mf_minus_sgd", "route_questions"]
        assert reported["route_sgd"].runs == reported["route_knn"].runs[:1]  # which stands for it
        assert reported["route_mf_minus_sgd"].runs == pytest.approx(reported["route_mf_minus_knn"].runs[:1])
        for key, name in of.items():
            assert reported[key].runs == pytest.approx(overall[name].tolist())
            assert reported[key].unit == "%"
        for key, name in gains.items():
            assert reported[key].runs == pytest.approx((overall["MF"] - overall[name]).tolist())
            assert reported[key].unit == "points"
        for key in (*of, *gains):
            low, high = reported[key].interval
            assert low <= reported[key].value <= high
        assert reported["route_questions"].count
        assert reported["route_questions"].runs == [float(run.split.test.observed.any(axis=0).sum()) for run in runs]

    def test_gain_of_the_oracle_is_positive_in_every_resample(self, routes):
        gains = tally_routes(routes).differences("best single model").set_index("router")
        lows = gains.loc["oracle", "low"].dropna()  # of benchmarks with enough questions
        assert len(lows) and (lows >= 0).all()
        assert len(gains) == 6 * 4

    def test_shares_are_means_over_the_runs(self, runs, routers, routes):
        shares = mean_route_shares(routes, ["KNN", "best single model"])
        assert list(shares) == ["KNN", "best single model"]
        for name, mean in shares.items():
            pairs = zip(routers, runs, strict=True)
            each = pd.DataFrame([route_shares(fitted[name], run.split.test) for fitted, run in pairs])
            assert mean.to_dict() == pytest.approx(each.mean().to_dict())
            assert mean.sum() == pytest.approx(1)
            assert mean.is_monotonic_decreasing


def test_a_predictor_is_no_router(toy):
    with pytest.raises(TypeError, match=r"'mine' is a ModelMean and no RoutingPolicy: .* PredictedBest\('mine'\)"):
        evaluate_routers({"mine": ModelMean().fit(toy)}, toy)
