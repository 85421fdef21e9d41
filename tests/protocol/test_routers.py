"""Routers: exact expectations over the observed models, ties by name, and the oracle above them all."""

import numpy as np
import pandas as pd
import pytest

from embedllm import (
    CorrectnessMatrix,
    KNNCorrectness,
    MatrixFactorization,
    TrainingPreset,
    evaluate_routers,
    fit_runs,
    standard_routers,
)
from embedllm.protocol.routers import (
    BestModelPerBenchmark,
    BestSingleModel,
    GuardedKNN,
    HighestScore,
    Oracle,
    PredictedBest,
    RoutingPolicy,
    UniformRandom,
    WeightedRandom,
    fit_routers,
    routers_of,
    standard_policies,
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


def routers_for(train):
    preset = TrainingPreset(pairs_per_step=64, epochs=8, learning_rate=1e-2, weight_decay=1e-5)
    mf = MatrixFactorization(dim=6, solver="sgd", preset=preset, device="cpu").fit(train)
    return standard_routers(train, mf, KNNCorrectness(7).fit(train))


def by_knn(matrix):
    return PredictedBest("KNN").fit(matrix, {"KNN": KNNCorrectness(5).fit(matrix)})


NAMES = ["oracle", "MF", "KNN", "best model per benchmark", "best single model", "weighted random", "uniform random"]


class TestEveryRouter:
    def test_the_standard_ones_are_there(self, toy):
        assert list(routers_for(toy)) == list(standard_policies()) == NAMES

    @pytest.mark.parametrize("name", NAMES)
    def test_shares_of_a_question_sum_to_1_over_its_observed_models(self, toy_with_holes, name):
        labels = toy_with_holes.labels.copy()
        labels[:, [5, 30]] = -1
        matrix = toy_with_holes.with_labels(labels)
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
        table = evaluate_routers(routers_for(train), test)
        accuracy = table.pivot(index="benchmark", columns="router", values="accuracy")
        for name in NAMES:
            assert (accuracy["oracle"] >= accuracy[name] - 1e-12).all()
        correct = ((test.labels == 1).any(axis=0))[test.observed.any(axis=0)]
        assert accuracy.loc["overall", "oracle"] == pytest.approx(correct.mean())

    def test_unknown_model_lists_the_known_ones(self, toy):
        routers = routers_for(toy)
        names = ["renamed" if name == "model-3" else name for name in toy.model_names]
        renamed = CorrectnessMatrix(pd.DataFrame(toy.labels, names, toy.question_ids), toy.questions, toy.embeddings)
        for name in ("MF", "KNN", "best model per benchmark", "best single model"):
            with pytest.raises(KeyError, match="unknown model 'renamed'; known: ") as error:
                routers[name].shares(renamed)
            assert "model-5" in str(error.value)


class TestTies:
    """The name that comes first wins, whatever the order of the matrix."""

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
            knn = KNNCorrectness(7).fit(matrix)
            router = standard_routers(matrix, knn, knn)[name]
            shares = pd.DataFrame(router.shares(matrix), index=matrix.model_names).sum(axis=1)
            # Sorted as text is: capitals before small letters, "m10" before "m2".
            assert shares.to_dict() == {"B": 1000, "a": 0, "m10": 0, "m2": 0}

    def test_first_observed_name_gets_the_rest(self, identical):
        labels = identical.labels.copy()
        labels[2, ::2] = -1  # B
        matrix = identical.with_labels(labels)
        router = BestSingleModel().fit(identical, {})
        shares = pd.DataFrame(router.shares(matrix), index=matrix.model_names).sum(axis=1)
        assert shares.to_dict() == {"B": 500, "a": 500, "m10": 0, "m2": 0}

    def test_oracle_chooses_the_first_correct_name(self, hand):
        shares = pd.DataFrame(Oracle().shares(hand), MODELS, hand.question_ids)
        chosen = {q: shares.index[shares[q] == 1].tolist() for q in shares}
        # Nobody answered q3; both that are correct on q4 are equally good.
        assert chosen == {"q0": ["zeta"], "q1": ["mid"], "q2": ["alpha"], "q3": [], "q4": ["alpha"]}


class TestBestSingleModel:
    def test_next_best_where_the_best_was_not_observed(self, hand):
        train = matrix_of([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
        shares = pd.DataFrame(BestSingleModel().fit(train, {}).shares(hand), MODELS, hand.question_ids)
        assert [shares.index[shares[q] == 1].tolist() for q in shares] == [["zeta"], ["mid"], ["mid"], [], ["mid"]]

    def test_accuracy_is_over_observed_training_answers(self):
        # zeta: 2 of 2, mid: 3 of 4; missing answers that counted as incorrect would turn them around.
        router = BestSingleModel().fit(matrix_of([[1, 1, -1, -1], [0, 0, 0, 1], [1, 1, 1, 0]]), {})
        assert router.accuracy_.to_dict() == {"zeta": 1, "alpha": 0.25, "mid": 0.75}
        assert router.shares(matrix_of([[0], [0], [0]]))[:, 0].tolist() == [1, 0, 0]

    def test_model_without_a_training_answer_comes_last(self):
        router = BestSingleModel().fit(matrix_of([[0, 0], [-1, -1], [0, 0]], models=["b", "a", "c"]), {})
        assert router.shares(matrix_of([[1], [1], [1]], models=["b", "a", "c"]))[:, 0].tolist() == [1, 0, 0]
        assert router.shares(matrix_of([[-1], [1], [-1]], models=["b", "a", "c"]))[:, 0].tolist() == [0, 1, 0]


class TestPredictedBest:
    def test_chooses_the_highest_prediction_among_the_observed(self, toy_with_holes):
        predictor = KNNCorrectness(5).fit(toy_with_holes)
        proba = predictor.predict_matrix(toy_with_holes)
        shares = by_knn(toy_with_holes).shares(toy_with_holes)
        for q in range(40):
            seen = np.flatnonzero(toy_with_holes.observed[:, q])
            best = [m for m in seen if proba[m, q] == proba[seen, q].max()]
            (chosen,) = np.flatnonzero(shares[:, q])
            assert toy_with_holes.model_names[chosen] == min(toy_with_holes.model_names[best])

    def test_best_of_each_benchmark(self):
        train = matrix_of([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]], benchmarks=["x", "x", "y", "y"])
        test = matrix_of([[0, 0, -1], [0, 0, 0], [0, 0, 0]], benchmarks=["y", "x", "x"])
        shares = BestModelPerBenchmark().fit(train, {}).shares(test)
        assert shares.T.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]

    def test_unknown_predictor_lists_the_known_ones(self, toy):
        with pytest.raises(KeyError, match=r"no predictor is called 'MF'; there are: KNN"):
            PredictedBest("MF").fit(toy, {"KNN": KNNCorrectness(5).fit(toy)})


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
        router = WeightedRandom(Given({"zeta": 0.6, "alpha": 0.4, "mid": 0.0})).fit(hand, {})
        # q0: zeta, alpha; q1: all; q2: alpha, mid; q3: nobody; q4: all. Where zeta is observed it is chosen 1.8 times,
        # and alpha 1.6 times.
        zeta, alpha = 9 / 17, 8 / 17
        expected = [[zeta, zeta, 0, 0, zeta], [alpha, alpha, 1, 0, alpha], [0, 0, 0, 0, 0]]
        np.testing.assert_allclose(router.shares(hand), expected, atol=1e-12)
        table = evaluate_routers({"w": router}, hand).set_index("benchmark")
        assert table.loc["x", "accuracy"] == pytest.approx((zeta + 0 + 1) / 3)
        assert table.loc["y", "accuracy"] == pytest.approx(1)

    def test_weighted_where_only_models_are_observed_that_the_router_never_chose(self, hand):
        router = WeightedRandom(Given({"zeta": 1.0, "alpha": 0.0, "mid": 0.0}))
        shares = router.fit(hand, {}).shares(hand)
        assert shares[:, 2].tolist() == [0, 0.5, 0.5]
        assert shares[:, 3].tolist() == [0, 0, 0]

    def test_weights_are_the_frequencies_of_the_other_router(self, toy_with_holes):
        predictors = {"KNN": KNNCorrectness(5).fit(toy_with_holes)}
        frequency = by_knn(toy_with_holes).shares(toy_with_holes).sum(axis=1)
        shares = WeightedRandom(PredictedBest("KNN")).fit(toy_with_holes, predictors).shares(toy_with_holes)
        for q in range(40):
            seen = toy_with_holes.observed[:, q]
            weights = frequency * seen
            expected = weights / weights.sum() if weights.any() else seen / seen.sum()
            np.testing.assert_allclose(shares[:, q], expected, atol=1e-12)

    @pytest.mark.parametrize("kind", ["weighted", "uniform"])
    def test_expectation_is_the_average_of_many_draws(self, toy_with_holes, kind):
        router = {
            "weighted": WeightedRandom(PredictedBest("KNN")),
            "uniform": UniformRandom(),
        }[kind].fit(toy_with_holes, {"KNN": KNNCorrectness(5).fit(toy_with_holes)})
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


class Halves(HighestScore):
    """Scores of two predictors, one of which it also asks about the training data."""

    def fit(self, train, predictors):
        self.bias_ = predictors["KNN"].predict_matrix(train).mean()
        self.predictor_ = predictors["KNN"]
        return self

    def scores(self, matrix):
        return self.predictor_.predict_matrix(matrix) - self.bias_


class TestGuardedKNN:
    def test_scores_equal_a_loop(self, make_matrix):
        train, test = make_matrix(n_questions=60, missing=0.3), make_matrix(n_questions=9, seed=4)
        scores = GuardedKNN(n_neighbors=12, z=1.5).fit(train, {}).scores(test)
        best = int(train.accuracy(by="model")["accuracy"].argmax())
        for q, vector in enumerate(test.embeddings.astype(float)):
            nearest = np.argsort(((train.embeddings - vector) ** 2).sum(axis=1))[:12]
            for name in train.model_names:
                model = list(train.model_names).index(name)
                both = nearest[train.observed[model, nearest] & train.observed[best, nearest]]
                gains = (train.labels[model, both] == 1).astype(int) - (train.labels[best, both] == 1)
                gains = np.array([*gains, 1, -1])
                expected = 0 if model == best else gains.mean() - 1.5 * gains.std() / np.sqrt(len(gains))
                assert scores[list(test.model_names).index(name), q] == pytest.approx(expected, abs=1e-6)

    def test_stays_with_the_best_single_model_without_evidence(self, make_matrix):
        matrix = make_matrix(n_questions=200)
        shuffled = matrix.labels.copy()
        for row in shuffled:
            np.random.default_rng(0).shuffle(row)  # one order for all: models differ, questions do not
        noise = matrix.with_labels(shuffled)
        guarded = GuardedKNN(n_neighbors=50, z=6.0).fit(noise, {}).shares(noise)
        np.testing.assert_array_equal(guarded, BestSingleModel().fit(noise, {}).shares(noise))

    def test_few_answers_that_agree_are_no_evidence(self):
        train = matrix_of([[1, 1, 1, 0, 1, -1], [-1, -1, -1, 1, -1, 0], [0, 1, 0, 1, 0, 1]])
        assert GuardedKNN(n_neighbors=6).fit(train, {}).scores(train)[1, :5].max() < 0  # zeta was observed

    def test_stays_with_the_next_where_the_best_was_not_observed(self):
        train = matrix_of([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]])
        asked = matrix_of([[-1, 1], [0, 1], [1, 1]])
        shares = GuardedKNN(n_neighbors=5).fit(train, {}).shares(asked)
        np.testing.assert_array_equal(shares, [[0, 1], [1, 0], [0, 0]])


class TestOfARun:
    @pytest.fixture
    def run(self, make_matrix):
        predictors = {"MF": KNNCorrectness(9), "KNN": KNNCorrectness(2)}
        (run,) = fit_runs(make_matrix(n_questions=90, missing=0.3, n_benchmarks=3), predictors, seed=3, n_seeds=1)
        return run

    def test_equal_to_routers_fitted_on_its_predictors(self, run):
        policies = standard_policies() | {"own": Halves()}
        of_run, alone = routers_of(run, policies), fit_routers(policies, run.split.train, run.predictors)
        assert list(of_run) == [*NAMES, "own"]
        for name, router in of_run.items():
            for matrix in (run.split.test, run.split.val):
                np.testing.assert_array_equal(router.shares(matrix), alone[name].shares(matrix))
        assert not hasattr(policies["MF"], "predictor_")

    def test_predictions_of_the_test_part_are_not_computed_again(self, run, monkeypatch):
        def never(*_):
            raise AssertionError("this was predicted before")

        monkeypatch.setattr(KNNCorrectness, "predict_proba", never)
        for router in routers_of(run, standard_policies()).values():
            assert router.shares(run.split.test).shape == run.split.test.labels.shape
