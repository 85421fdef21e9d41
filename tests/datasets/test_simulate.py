"""The simulated pool: shaped like the paper's release, drawn from a ground truth that the methods recover."""

import numpy as np
import pandas as pd
import pytest

from embedllm import (
    BenchmarkMean,
    KNNCorrectness,
    MatrixFactorization,
    evaluate_forecasts,
    evaluate_routers,
    standard_routers,
)
from embedllm.datasets.simulate import simulate_pool


@pytest.fixture(scope="module")
def full():
    return simulate_pool()


class TestFullScale:
    def test_shape_and_split(self, full):
        matrix, truth = full
        assert matrix.labels.shape == truth.probability.shape == (112, 35_673)
        assert matrix.embeddings.shape == (35_673, 768)
        assert matrix.observed.all()
        assert [part.n_questions for part in matrix.split()] == [29_673, 3_000, 3_000]

    def test_benchmarks_are_as_in_the_release(self, full):
        # Items of the release; the pool is smaller by the 381 texts that occur twice there.
        items = {
            "MMLU": 14_042,
            "GPQA": 5_960,
            "MedMCQA": 4_183,
            "MathQA": 2_985,
            "ASDiv": 2_305,
            "SocialQA": 1_954,
            "PIQA": 1_838,
            "GSM8K": 1_319,
            "TruthfulQA": 817,
            "LogiQA": 651,
        }
        counts = full[0].questions["benchmark"].value_counts()
        assert set(counts.index) == set(items)
        for name, count in items.items():
            assert abs(counts[name] - count / 36_054 * 35_673) < 1, name

    def test_single_models_score_0_2_to_0_7(self, full):
        accuracy = full[0].accuracy(by="model")["accuracy"]
        assert 0.18 < accuracy.min() < 0.35
        assert 0.6 < accuracy.max() < 0.75

    def test_embeddings_have_unit_length(self, full):
        np.testing.assert_allclose(np.linalg.norm(full[0].embeddings, axis=1), 1, atol=1e-5)

    def test_labels_are_draws_from_the_true_probabilities(self, full):
        matrix, truth = full
        probability = truth.probability.astype(float)
        assert 0 <= probability.min() < 0.01
        assert 0.99 < probability.max() <= 1
        # Sum of independent draws against its mean, in standard deviations: over all, by size of the probability,
        # for each model and for each benchmark.
        decile = np.digitize(probability, np.linspace(0.1, 0.9, 9))
        groups = [np.zeros_like(decile), decile]
        groups.append(np.broadcast_to(np.arange(112)[:, None], decile.shape))
        groups.append(np.broadcast_to(pd.factorize(matrix.benchmarks)[0], decile.shape))
        for group in groups:
            excess = np.bincount(group.ravel(), (matrix.labels - probability).ravel())
            sd = np.sqrt(np.bincount(group.ravel(), (probability * (1 - probability)).ravel()))
            assert np.abs(excess / sd).max() < 4.5

    def test_wordings_of_a_question_are_alike(self, full):
        # Questions of one subject are more alike than those of one benchmark, and these more than any two.
        matrix, _ = full
        rng = np.random.default_rng(0)
        sample = matrix.subset(questions=rng.choice(matrix.question_ids, 3000, replace=False))
        cosine = sample.embeddings @ sample.embeddings.T
        np.fill_diagonal(cosine, np.nan)
        alike = {
            column: np.nanmean(cosine[np.equal.outer(values := sample.questions[column].to_numpy(), values)])
            for column in ("category", "benchmark")
        }
        assert alike["category"] > alike["benchmark"] + 0.05 > np.nanmean(cosine) + 0.1


class TestSeed:
    def test_same_seed_is_the_same_pool(self, small_pool, assert_same):
        matrix, truth = simulate_pool(scale=0.05)
        assert_same(matrix, small_pool[0])
        np.testing.assert_array_equal(truth.probability, small_pool[1].probability)

    def test_other_seed_is_another_pool_of_the_same_models(self, small_pool):
        matrix, truth = small_pool
        other, other_truth = simulate_pool(scale=0.05, random_state=1)
        pd.testing.assert_frame_equal(other.models, matrix.models)
        assert (other.labels != matrix.labels).mean() > 0.2
        assert not np.allclose(other.embeddings, matrix.embeddings)
        assert not np.allclose(other_truth.skills, truth.skills)

    def test_global_generators_are_left_alone(self):
        np.random.seed(3)  # noqa: NPY002 - the legacy state is what must not be touched
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        simulate_pool(scale=0.01)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_models_are_named_and_described(self, small_pool):
        models = small_pool[0].models
        assert len(models) == 112
        assert models.index.is_unique
        assert models[["params_b", "family", "tags"]].notna().all(axis=None)
        # Communities of the paper: sizes and specializations, each with several models.
        assert (models["params_b"].isin([7, 13, 70])).sum() == 50 + 12 + 9
        assert {"chat", "math", "code", "biomed", "physics"} <= set(models["tags"])


class TestScale:
    @pytest.mark.parametrize("scale", [0.01, 0.05, 0.3])
    def test_is_the_share_of_the_questions(self, scale):
        matrix, truth = simulate_pool(scale)
        n = round(35_673 * scale)
        assert matrix.labels.shape == (112, n)
        assert len(matrix.benchmark_names) == 10
        assert truth.topics.index.equals(matrix.questions.index)
        assert truth.skills.index.equals(matrix.models.index)
        held_out = round(3_000 * scale)
        assert [part.n_questions for part in matrix.split()] == [n - 2 * held_out, held_out, held_out]

    @pytest.mark.parametrize("scale", [0, -0.1, 1.01, float("nan")])
    def test_out_of_range_is_refused(self, scale):
        with pytest.raises(ValueError, match="scale must be above 0 and at most 1"):
            simulate_pool(scale)

    def test_too_small_is_refused_with_the_limit(self):
        with pytest.raises(ValueError, match=r"leaves \w+ without questions: 0\.002 is enough"):
            simulate_pool(0.0001)
        assert len(simulate_pool(0.002)[0].benchmark_names) == 10


@pytest.fixture(scope="module", params=[0, 1, 2])
def contest(request):
    """Everything fitted on 60 % of a fifth of a pool: the parts, the predictors and the ground truth of the test."""
    matrix, truth = simulate_pool(scale=0.2, random_state=request.param)
    train, _, test = matrix.split((0.6, 0.1, 0.3), own=False)
    predictors = {
        "MF": MatrixFactorization(dim=64, device="cpu").fit(train),
        "KNN": KNNCorrectness(51).fit(train),
        "mean": BenchmarkMean().fit(train),
    }
    probability = pd.DataFrame(truth.probability, matrix.model_names, matrix.question_ids)
    return train, test, predictors, probability[test.question_ids].to_numpy()


class TestRecovery:
    """Three seeds, so that no order is luck; the margins are below the smallest seen over six seeds."""

    def test_mf_forecasts_better_than_knn_and_knn_than_the_benchmark_mean(self, contest):
        _, test, predictors, _ = contest
        table = evaluate_forecasts(predictors, test)
        overall = table[table["benchmark"] == "overall"].set_index("predictor")
        assert overall.loc["MF", "accuracy"] > overall.loc["KNN", "accuracy"] + 0.005
        assert overall.loc["KNN", "accuracy"] > overall.loc["mean", "accuracy"] + 0.025
        for metric in ("log_loss", "brier"):
            assert overall.loc["MF", metric] < overall.loc["KNN", metric] < overall.loc["mean", metric]

    def test_mf_recovers_the_true_probabilities(self, contest):
        _, test, predictors, probability = contest
        error = {name: np.mean((p.predict_matrix(test) - probability) ** 2) for name, p in predictors.items()}
        assert error["MF"] < error["KNN"] < error["mean"]

    def test_mf_routes_better_than_knn_and_knn_than_the_best_single_model(self, contest):
        train, test, predictors, probability = contest
        routers = standard_routers(train, predictors["MF"], predictors["KNN"])
        # The true probability of the chosen model instead of its answer: the noise of the answers drops out.
        expected = {name: (router.shares(test) * probability).sum(axis=0).mean() for name, router in routers.items()}
        assert expected["MF"] > expected["KNN"] + 0.005
        assert expected["KNN"] > expected["best single model"] + 0.007
        assert expected["best single model"] > expected["weighted random"] > expected["uniform random"]

    def test_oracle_is_above_all_in_every_benchmark(self, contest):
        train, test, predictors, _ = contest
        table = evaluate_routers(standard_routers(train, predictors["MF"], predictors["KNN"]), test)
        table = table.pivot(index="benchmark", columns="router", values="accuracy")
        assert len(table) == 11
        for name in table:
            assert (table["oracle"] >= table[name]).all(), name
        assert table.loc["overall", "oracle"] > table.loc["overall", "MF"] + 0.05
