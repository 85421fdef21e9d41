"""Routers: exact expectations over the observed models, ties by name, and the oracle above them all."""

import numpy as np
import pandas as pd
import pytest

from embedllm import (
    BenchmarkMean,
    CorrectnessMatrix,
    KNNCorrectness,
    MatrixFactorization,
    TrainingPreset,
    evaluate_routers,
    route_shares,
    standard_routers,
)
from embedllm.protocol.runs import Fitted
from embedllm.studies.routing import (
    BestSingleModel,
    Oracle,
    PredictedBest,
    RoutingPolicy,
    UniformRandom,
    WeightedRandom,
    fitted_routers,
    mean_route_shares,
    route_speed,
    route_table,
    route_values,
    tally_route_repetitions,
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

    def __init__(self, shares):
        self.given = shares

    def shares(self, matrix):
        rows = np.array([self.given[name] for name in matrix.model_names])
        return np.repeat(rows[:, None], matrix.n_questions, axis=1)


def routers_for(matrix, other=None):
    train = matrix if other is None else other
    preset = TrainingPreset(pairs_per_step=64, epochs=8, learning_rate=1e-2, weight_decay=1e-5)
    mf = MatrixFactorization(dim=6, preset=preset, device="cpu").fit(train)
    return standard_routers(train, mf, KNNCorrectness(7).fit(train))


NAMES = ["oracle", "MF", "KNN", "best model per benchmark", "best single model", "weighted random", "uniform random"]


class TestEveryRouter:
    def test_the_standard_ones_are_there(self, toy):
        assert list(routers_for(toy)) == NAMES

    @pytest.mark.parametrize("name", NAMES)
    def test_shares_of_a_question_sum_to_1_over_its_observed_models(self, toy_with_holes, relabel, name):
        labels = toy_with_holes.labels.copy()
        labels[:, [5, 30]] = -1
        matrix = relabel(toy_with_holes, labels)
        shares = routers_for(matrix)[name].shares(matrix)
        assert shares.shape == matrix.labels.shape
        assert shares.dtype == np.float64
        assert (shares >= 0).all()
        assert not shares[~matrix.observed].any()
        np.testing.assert_allclose(shares.sum(axis=0), matrix.observed.any(axis=0), atol=1e-12)

    @pytest.mark.parametrize("name", NAMES)
    def test_order_of_the_models_changes_nothing(self, toy_with_holes, name):
        router = routers_for(toy_with_holes)[name]
        expected = dict(zip(toy_with_holes.model_names, router.shares(toy_with_holes), strict=True))
        for seed in range(3):
            names = np.random.default_rng(seed).permutation(toy_with_holes.model_names)
            shares = router.shares(toy_with_holes.subset(models=names))
            np.testing.assert_allclose(shares, [expected[model] for model in names], atol=1e-12)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_oracle_is_an_upper_bound_in_every_benchmark(self, make_matrix, seed):
        train, _, test = make_matrix(n_questions=120, missing=0.3, n_benchmarks=3, seed=seed).split((0.4, 0.1, 0.5))
        table = evaluate_routers(routers_for(test, train), test)
        accuracy = table.pivot(index="benchmark", columns="router", values="accuracy")
        for name in NAMES:
            assert (accuracy["oracle"] >= accuracy[name] - 1e-12).all()
        right = ((test.labels == 1).any(axis=0))[test.observed.any(axis=0)]
        assert accuracy.loc["overall", "oracle"] == pytest.approx(right.mean())

    def test_unknown_model_lists_the_known_ones(self, toy):
        routers = routers_for(toy)
        names = ["renamed" if name == "model-3" else name for name in toy.model_names]
        renamed = CorrectnessMatrix(pd.DataFrame(toy.labels, names, toy.question_ids), toy.questions, toy.embeddings)
        for name in ("MF", "KNN", "best model per benchmark", "best single model"):
            with pytest.raises(KeyError, match="unknown model 'renamed'; known: ") as error:
                routers[name].shares(renamed)
            assert "model-5" in str(error.value)


class TestTies:
    """Case 15: the name that comes first wins, whatever the order of the matrix."""

    @pytest.fixture
    def identical(self):
        """1,000 questions that four models answer alike."""
        row = np.random.default_rng(0).integers(0, 2, 1000)
        labels = np.tile(row, (4, 1))
        frame = pd.DataFrame(labels, ["m10", "m2", "B", "a"], [f"q{number}" for number in range(1000)])
        questions = pd.DataFrame({"benchmark": np.resize(["x", "y"], 1000)}, index=frame.columns)
        return CorrectnessMatrix(frame, questions, np.random.default_rng(1).standard_normal((1000, 4)))

    @pytest.mark.parametrize("name", ["oracle", "KNN", "best model per benchmark", "best single model"])
    def test_first_name_gets_all(self, identical, name):
        for seed in range(4):
            matrix = identical.subset(models=np.random.default_rng(seed).permutation(identical.model_names))
            router = {
                "oracle": Oracle(),
                "KNN": PredictedBest(KNNCorrectness(7).fit(matrix)),
                "best model per benchmark": PredictedBest(BenchmarkMean().fit(matrix)),
                "best single model": BestSingleModel(matrix),
            }[name]
            shares = pd.DataFrame(router.shares(matrix), index=matrix.model_names).sum(axis=1)
            # Sorted as text is: capitals before small letters, "m10" before "m2".
            assert shares.to_dict() == {"B": 1000, "a": 0, "m10": 0, "m2": 0}

    def test_first_observed_name_gets_the_rest(self, identical, relabel):
        labels = identical.labels.copy()
        labels[2, ::2] = -1  # B
        matrix = relabel(identical, labels)
        router = BestSingleModel(identical)
        shares = pd.DataFrame(router.shares(matrix), index=matrix.model_names).sum(axis=1)
        assert shares.to_dict() == {"B": 500, "a": 500, "m10": 0, "m2": 0}

    def test_oracle_chooses_the_first_right_name(self, hand):
        shares = pd.DataFrame(Oracle().shares(hand), MODELS, hand.question_ids)
        chosen = {q: shares.index[shares[q] == 1].tolist() for q in shares}
        # Nobody answered q3; both that are right on q4 are equally good.
        assert chosen == {"q0": ["zeta"], "q1": ["mid"], "q2": ["alpha"], "q3": [], "q4": ["alpha"]}


class TestSingleBest:
    def test_next_best_where_the_best_was_not_observed(self, hand):
        train = matrix_of([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
        shares = pd.DataFrame(BestSingleModel(train).shares(hand), MODELS, hand.question_ids)
        assert [shares.index[shares[q] == 1].tolist() for q in shares] == [["zeta"], ["mid"], ["mid"], [], ["mid"]]

    def test_accuracy_is_over_observed_training_answers(self):
        # zeta: 2 of 2, mid: 3 of 4; missing answers that counted as wrong would turn them around.
        router = BestSingleModel(matrix_of([[1, 1, -1, -1], [0, 0, 0, 1], [1, 1, 1, 0]]))
        assert router.accuracy_.to_dict() == {"zeta": 1, "alpha": 0.25, "mid": 0.75}
        assert router.shares(matrix_of([[0], [0], [0]]))[:, 0].tolist() == [1, 0, 0]

    def test_model_without_a_training_answer_comes_last(self):
        router = BestSingleModel(matrix_of([[0, 0], [-1, -1], [0, 0]], models=["b", "a", "c"]))
        assert router.shares(matrix_of([[1], [1], [1]], models=["b", "a", "c"]))[:, 0].tolist() == [1, 0, 0]
        assert router.shares(matrix_of([[-1], [1], [-1]], models=["b", "a", "c"]))[:, 0].tolist() == [0, 1, 0]


class TestPredictedBest:
    def test_chooses_the_highest_prediction_among_the_observed(self, toy_with_holes):
        predictor = KNNCorrectness(5).fit(toy_with_holes)
        proba = predictor.predict_matrix(toy_with_holes)
        shares = PredictedBest(predictor).shares(toy_with_holes)
        for q in range(40):
            seen = np.flatnonzero(toy_with_holes.observed[:, q])
            best = [m for m in seen if proba[m, q] == proba[seen, q].max()]
            (chosen,) = np.flatnonzero(shares[:, q])
            assert toy_with_holes.model_names[chosen] == min(toy_with_holes.model_names[best])

    def test_best_of_each_benchmark(self):
        train = matrix_of([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]], benchmarks=["x", "x", "y", "y"])
        test = matrix_of([[0, 0, -1], [0, 0, 0], [0, 0, 0]], benchmarks=["y", "x", "x"])
        shares = PredictedBest(BenchmarkMean().fit(train)).shares(test)
        assert shares.T.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


class TestRandom:
    def test_uniform_is_the_mean_over_observed_labels(self, toy_with_holes):
        table = evaluate_routers({"u": UniformRandom()}, toy_with_holes)
        expected = [
            np.mean([label for label in toy_with_holes.labels[:, q] if label != -1])
            for q in range(40)
            if toy_with_holes.observed[:, q].any()
        ]
        assert table["accuracy"].iloc[0] == pytest.approx(np.mean(expected))

    def test_weighted_hand_computed(self, hand):
        router = WeightedRandom(Given({"zeta": 0.6, "alpha": 0.4, "mid": 0.0}))
        # q0: zeta, alpha; q1: all; q2: alpha, mid; q3: nobody; q4: all.
        np.testing.assert_allclose(
            router.shares(hand),
            [[0.6, 0.6, 0, 0, 0.6], [0.4, 0.4, 1, 0, 0.4], [0, 0, 0, 0, 0]],
            atol=1e-12,
        )
        table = evaluate_routers({"w": router}, hand).set_index("benchmark")
        assert table.loc["x", "accuracy"] == pytest.approx((0.6 + 0 + 1) / 3)
        assert table.loc["y", "accuracy"] == pytest.approx(1)

    def test_weighted_where_only_models_are_observed_that_the_router_never_chose(self, hand):
        shares = WeightedRandom(Given({"zeta": 1.0, "alpha": 0.0, "mid": 0.0})).shares(hand)
        assert shares[:, 2].tolist() == [0, 0.5, 0.5]
        assert shares[:, 3].tolist() == [0, 0, 0]

    def test_weights_are_the_frequencies_of_the_other_router(self, toy_with_holes):
        other = PredictedBest(KNNCorrectness(5).fit(toy_with_holes))
        frequency = other.shares(toy_with_holes).sum(axis=1)
        shares = WeightedRandom(other).shares(toy_with_holes)
        for q in range(40):
            seen = toy_with_holes.observed[:, q]
            weights = frequency * seen
            expected = weights / weights.sum() if weights.any() else seen / seen.sum()
            np.testing.assert_allclose(shares[:, q], expected, atol=1e-12)

    @pytest.mark.parametrize("kind", ["weighted", "uniform"])
    def test_expectation_is_the_average_of_many_draws(self, toy_with_holes, kind):
        router = {
            "weighted": WeightedRandom(PredictedBest(KNNCorrectness(5).fit(toy_with_holes))),
            "uniform": UniformRandom(),
        }[kind]
        exact = evaluate_routers({"r": router}, toy_with_holes)["accuracy"].iloc[0]
        shares = router.shares(toy_with_holes)
        rng = np.random.default_rng(0)
        draws = np.array(
            [
                (toy_with_holes.labels[rng.choice(6, size=4000, p=shares[:, q]), q] == 1)
                for q in range(40)
                if shares[:, q].any()
            ]
        ).mean(axis=0)
        stderr = draws.std(ddof=1) / len(draws) ** 0.5
        assert abs(draws.mean() - exact) < 4 * stderr


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
        for name, router in routers_for(toy_with_holes).items():
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

    def test_missing_answers_are_not_wrong(self, toy, relabel):
        # A model that is always right is worth 1, however rarely it was asked.
        labels = np.full_like(toy.labels, -1)
        labels[0, ::7] = 1
        table = evaluate_routers({"s": BestSingleModel(toy), "u": UniformRandom()}, relabel(toy, labels))
        overall = table[table["benchmark"] == "overall"]
        assert overall["accuracy"].tolist() == [1, 1]
        assert overall["n_questions"].tolist() == [6, 6]

    def test_benchmark_without_an_answer_is_undefined(self, toy, relabel):
        labels = toy.labels.copy()
        labels[:, toy.benchmarks == "bench-1"] = -1
        table = evaluate_routers({"u": UniformRandom()}, relabel(toy, labels)).set_index("benchmark")
        assert table["n_questions"].to_dict() == {"overall": 20, "bench-0": 20, "bench-1": 0}
        assert table.loc["bench-1", ["accuracy", "stderr"]].isna().all()
        assert table.loc["overall", "accuracy"] == table.loc["bench-0", "accuracy"]

    def test_nothing_at_all_is_undefined(self, toy, relabel):
        nothing = relabel(toy, np.full_like(toy.labels, -1))
        for matrix in (nothing, toy.subset(questions=[])):
            table = evaluate_routers({"u": UniformRandom(), "o": Oracle()}, matrix)
            assert table[["accuracy", "stderr"]].isna().all(axis=None)
            assert (table["n_questions"] == 0).all()


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
        shares = route_shares(BestSingleModel(toy), toy)
        assert set(shares.index) == set(toy.model_names)
        assert shares.iloc[0] == 1
        assert (shares.iloc[1:] == 0).all()

    def test_no_question_is_undefined(self, toy, relabel):
        shares = route_shares(UniformRandom(), relabel(toy, np.full_like(toy.labels, -1)))
        assert len(shares) == 6
        assert shares.isna().all()


class TestRepetitions:
    @pytest.fixture
    def fits(self, make_matrix):
        """Repetitions on random divisions; KNNs stand for the predictors, since they fit in no time."""
        matrix = make_matrix(n_questions=90, missing=0.3, n_benchmarks=3)
        splits = {seed: matrix.split((0.4, 0.1, 0.5), random_state=seed) for seed in (3, 4, 5)}
        return [
            Fitted(seed, split, {"MF": KNNCorrectness(9).fit(split.train), "KNN": KNNCorrectness(2).fit(split.train)})
            for seed, split in splits.items()
        ]

    @pytest.fixture
    def evaluations(self, fits):
        keys = ["router", "benchmark"]
        return [evaluate_routers(fitted_routers(each), each.split.test).set_index(keys) for each in fits]

    def test_routers_are_those_of_the_repetition(self, fits):
        routers = fitted_routers(fits[0])
        assert list(routers) == NAMES
        train, _, test = fits[0].split
        expected = standard_routers(train, fits[0].predictors["MF"], fits[0].predictors["KNN"])
        for name in NAMES:
            np.testing.assert_array_equal(routers[name].shares(test), expected[name].shares(test))

    def test_one_is_the_evaluation_of_one_matrix(self, fits):
        table = route_table(tally_route_repetitions(fits[:1]))
        pd.testing.assert_frame_equal(table, evaluate_routers(fitted_routers(fits[0]), fits[0].split.test))

    def test_accuracies_are_means_over_the_repetitions(self, fits, evaluations):
        table = route_table(tally_route_repetitions(fits)).set_index(["router", "benchmark"])
        expected = sum(one.loc[table.index, "accuracy"] for one in evaluations) / len(fits)
        np.testing.assert_allclose(table["accuracy"], expected)
        n_questions = sum(one.loc[table.index, "n_questions"] for one in evaluations) / len(fits)
        assert table["n_questions"].tolist() == n_questions.round().tolist()

    def test_values(self, fits, evaluations):
        reported_values = {one.key: one for one in route_values(tally_route_repetitions(fits))}
        overall = pd.DataFrame([100 * one["accuracy"].xs("overall", level=1) for one in evaluations])
        of = {
            "route_mf": "MF",
            "route_knn": "KNN",
            "route_single": "best single model",
            "route_best_of_benchmark": "best model per benchmark",
            "route_weighted": "weighted random",
            "route_uniform": "uniform random",
            "route_oracle": "oracle",
        }
        gains = {
            "route_gain": "best single model",
            "route_mf_minus_knn": "KNN",
            "route_mf_minus_weighted": "weighted random",
        }
        assert list(reported_values) == [*of, *gains, "route_questions"]
        for key, name in of.items():
            assert reported_values[key].runs == pytest.approx(overall[name].tolist())
            assert reported_values[key].unit == "%"
        for key, name in gains.items():
            assert reported_values[key].runs == pytest.approx((overall["MF"] - overall[name]).tolist())
            assert reported_values[key].unit == "points"
        for key in (*of, *gains):
            low, high = reported_values[key].interval
            assert low <= reported_values[key].value <= high
        assert reported_values["route_questions"].runs == [
            float(each.split.test.observed.any(axis=0).sum()) for each in fits
        ]

    def test_gain_of_the_oracle_is_positive_in_every_resample(self, fits):
        gains = tally_route_repetitions(fits).differences("best single model").set_index("router")
        assert (gains.loc["oracle", "low"] >= 0).all()
        assert len(gains) == 6 * 4

    def test_shares_are_means_over_the_repetitions(self, fits):
        shares = mean_route_shares(fits, ["KNN", "best single model"])
        assert list(shares) == ["KNN", "best single model"]
        for name, mean in shares.items():
            each = pd.DataFrame([route_shares(fitted_routers(one)[name], one.split.test) for one in fits])
            assert mean.to_dict() == pytest.approx(each.mean().to_dict())
            assert mean.sum() == pytest.approx(1)
            assert mean.is_monotonic_decreasing

    def test_speed(self, fits):
        table = route_speed(fits[0], ["KNN", "MF"], repeats=2)
        assert table.index.tolist() == ["KNN", "MF"]
        assert (table["questions"] == fits[0].split.test.n_questions).all()
        rates = table[["a second, in a batch", "a second, one by one"]]
        assert (rates > 0).all(axis=None)
        assert np.isfinite(rates.to_numpy()).all()
        assert (table["data"] == fits[0].split.test.source).all()
