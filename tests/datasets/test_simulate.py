"""The simulated pool: anchored to the published counts, drawn from a ground truth with a ceiling."""

import numpy as np
import pandas as pd
import pytest

from embedllm import BenchmarkMean, KNNCorrectness, MatrixFactorization
from embedllm.datasets.published_counts import PublishedCounts, load_published_counts
from embedllm.datasets.simulate import _integrated, shrunk_accuracies, simulate_pool
from embedllm.predictors.ceiling import Ceiling, ceiling_of
from embedllm.protocol.bootstrap import interval
from embedllm.studies.forecasting import tally_forecasts

STRUCTURES = ("linear", "nonlinear", "none")


class TestShape:
    @pytest.mark.parametrize("scale", [0.01, 0.05, 0.3])
    def test_scale_is_the_share_of_the_questions(self, scale):
        matrix, truth = simulate_pool(scale)
        n, held_out = round(35_673 * scale), round(3_000 * scale)
        assert matrix.labels.shape == truth.probability.shape == truth.ceiling.shape == (112, n)
        assert matrix.embeddings.shape == (n, 768)
        np.testing.assert_allclose(np.linalg.norm(matrix.embeddings, axis=1), 1, atol=1e-5)
        assert matrix.observed.all()
        assert truth.topics.index.equals(matrix.questions.index)
        assert truth.skills.index.equals(matrix.models.index)
        parts = matrix.split()
        assert [part.n_questions for part in parts] == [n - 2 * held_out, held_out, held_out]
        assert all(len(part.benchmark_names) == 10 for part in parts)

    @pytest.mark.parametrize("scale", [0, -0.1, 1.01, float("nan")])
    def test_scale_out_of_range_is_refused(self, scale):
        with pytest.raises(ValueError, match="scale must be above 0 and at most 1"):
            simulate_pool(scale)

    def test_too_small_is_refused_with_the_limit(self):
        with pytest.raises(ValueError, match=r"leaves \w+ without questions: 0\.002 is enough"):
            simulate_pool(0.0001)
        assert len(simulate_pool(0.002)[0].benchmark_names) == 10

    def test_unknown_structure_is_refused(self):
        with pytest.raises(ValueError, match=r"structure must be one of \['linear', 'nonlinear', 'none'\], got 'l'"):
            simulate_pool(0.01, structure="l")

    def test_wordings_of_an_item_stay_in_one_part(self, small_pool):
        questions = small_pool[0].questions
        items = questions.groupby("item")
        assert items["split"].nunique().max() == items["category"].nunique().max() == 1
        sizes = items.size()
        assert set(questions.loc[questions["item"].isin(sizes[sizes > 1].index), "benchmark"]) == {"GPQA"}
        assert sizes.max() > 10
        divided = small_pool[0].split(own=False)  # a random division keeps them together too
        assert not set(divided.train.questions["item"]) & set(divided.test.questions["item"])

    def test_questions_of_a_benchmark_are_alike(self, small_pool):
        matrix, _ = small_pool
        cosine = matrix.embeddings @ matrix.embeddings.T
        np.fill_diagonal(cosine, np.nan)
        alike = {
            column: np.nanmean(cosine[np.equal.outer(values := matrix.questions[column].to_numpy(), values)])
            for column in ("item", "category", "benchmark")
        }
        assert alike["item"] > alike["category"] > alike["benchmark"] > np.nanmean(cosine) + 0.2

    def test_models_are_named_and_described(self, small_pool):
        models = small_pool[0].models
        assert len(models) == 112
        assert models.index.is_unique
        real = load_published_counts().correct.index
        assert not set(models.index) & {name.split("__")[-1] for name in real}
        assert (models["params_b"] == 7).sum() > 30
        assert {"chat", "math", "code", "biomed", "physics"} <= set(";".join(models["tags"]).split(";"))


class TestSeed:
    @pytest.mark.parametrize("structure", STRUCTURES)
    def test_same_seed_is_the_same_pool(self, assert_same, structure):
        one, two = (simulate_pool(scale=0.01, structure=structure) for _ in range(2))
        assert_same(one[0], two[0])
        for left, right in zip(one[1], two[1], strict=True):
            np.testing.assert_array_equal(left, right)

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


class TestMarginals:
    def test_noise_of_the_counts_is_removed(self):
        # Accuracies with a known spread, and counts drawn from them: the moments are those before the draw.
        rng = np.random.default_rng(0)
        true = np.clip(rng.normal(0.4, 0.05, 20_000), 0, 1)
        counts = PublishedCounts(
            pd.DataFrame({"spread": rng.binomial(50, true), "none": rng.binomial(50, 0.4, len(true))}),
            pd.Series({"spread": 50, "none": 50}),
        )
        shrunk = shrunk_accuracies(counts)
        assert shrunk["spread"].std() == pytest.approx(0.05, rel=0.03)
        assert (counts.correct["spread"] / 50).std() > 0.08
        assert shrunk["none"].std() < 0.01
        assert shrunk["spread"].mean() == pytest.approx(0.4, abs=0.002)

    def test_no_spread_beyond_the_noise_leaves_the_mean(self):
        shrunk = shrunk_accuracies(load_published_counts())
        assert (shrunk["SocialQA"] == shrunk["SocialQA"].mean()).all()
        assert ((shrunk > 0) & (shrunk < 1)).all(axis=None)

    @pytest.mark.parametrize("structure", STRUCTURES)
    def test_each_model_has_its_accuracy_on_each_benchmark(self, structure):
        matrix, truth = simulate_pool(0.05, structure=structure)
        expected = pd.DataFrame(truth.probability.astype(float).T, matrix.benchmarks).groupby(level=0).mean().T
        published = shrunk_accuracies(load_published_counts())
        np.testing.assert_allclose(expected.to_numpy(), published[expected.columns].to_numpy(), atol=1e-4)

    def test_labels_are_draws_from_the_true_probabilities(self):
        matrix, truth = simulate_pool(0.3)
        probability = truth.probability.astype(float)
        decile = np.digitize(probability, np.linspace(0.1, 0.9, 9))
        # Sum of independent draws against its mean, in standard deviations.
        for group in (decile, np.broadcast_to(np.arange(112)[:, None], decile.shape)):
            excess = np.bincount(group.ravel(), (matrix.labels - probability).ravel())
            sd = np.sqrt(np.bincount(group.ravel(), (probability * (1 - probability)).ravel()))
            assert np.abs(excess / sd).max() < 4.5


class TestCeiling:
    @pytest.mark.parametrize("sd", [0.9, 1.6])
    def test_is_the_integral_over_the_hidden_difficulty(self, sd):
        logits = np.array([[-6.0, -1.2, 0.0], [0.3, 2.5, 7.0]], dtype=np.float32)
        hidden = sd * np.random.default_rng(0).standard_normal(1_000_000)
        slow = [[np.mean(1 / (1 + np.exp(hidden - each))) for each in row] for row in logits]
        np.testing.assert_allclose(_integrated(logits, sd), slow, atol=1e-3)

    @pytest.mark.parametrize("structure", STRUCTURES)
    def test_is_the_mean_of_the_true_probabilities_that_share_it(self, structure):
        _, truth = simulate_pool(0.2, structure=structure)
        bin_ = np.digitize(truth.ceiling, np.linspace(0.05, 0.95, 19))
        means = pd.DataFrame({name: getattr(truth, name).ravel() for name in ("ceiling", "probability")})
        means = means.astype(float).groupby(bin_.ravel()).mean()
        np.testing.assert_allclose(means["probability"], means["ceiling"], atol=0.03)
        assert truth.probability.std() > truth.ceiling.std()

    def test_none_is_the_benchmark_alone(self):
        matrix, truth = simulate_pool(0.02, structure="none")
        for columns in matrix.questions.groupby("benchmark").indices.values():
            assert np.ptp(truth.ceiling[:, columns], axis=1).max() < 1e-6
        assert np.ptp(truth.probability, axis=1).min() > 0.02

    def test_predictor_looks_it_up_by_name(self, small_pool):
        matrix, truth = small_pool
        fitted = Ceiling(0.05).fit(matrix.split().train)
        part = matrix.subset(models=matrix.model_names[[5, 2]], questions=matrix.question_ids[[900, 4, 30]])
        np.testing.assert_array_equal(fitted.predict_matrix(part), truth.ceiling[np.ix_([5, 2], [900, 4, 30])])
        with pytest.raises(NotImplementedError, match="call predict_matrix"):
            fitted.predict_proba(matrix.embeddings)

    @pytest.mark.parametrize("other", [{"scale": 0.02}, {"pool_seed": 1}, {"structure": "nonlinear"}])
    def test_another_pool_is_refused(self, small_pool, other):
        with pytest.raises(ValueError, match="give the same scale, seed and structure"):
            Ceiling(**({"scale": 0.05} | other)).fit(small_pool[0])

    def test_only_the_simulated_pool_has_one(self):
        assert ceiling_of("embedllm", 1.0, 0) == {}
        assert ceiling_of("simulated", 0.1, 3)["ceiling"].get_params() == {
            "scale": 0.1,
            "pool_seed": 3,
            "structure": "linear",
        }


@pytest.fixture(scope="module", params=STRUCTURES)
def contest(request):
    """All fitted on a tenth of each pool, with more test questions than its own division has."""
    scale, structure = 0.1, request.param
    matrix, _ = simulate_pool(scale, structure=structure)
    train, val, test = matrix.split((0.6, 0.1, 0.3), own=False)
    predictors = {
        "MF": MatrixFactorization(dim=112, device="cpu").fit(train, validation=val),
        "KNN": KNNCorrectness(31).fit(train),
        "baseline": BenchmarkMean().fit(train),
        "ceiling": Ceiling(scale, 0, structure).fit(train),
    }
    return structure, tally_forecasts({name: each.predict_matrix(test) for name, each in predictors.items()}, test)


class TestStructures:
    def test_which_predictor_wins_where(self, contest):
        structure, tally = contest
        samples = 100 * tally.resampled()
        low = {
            pair: interval(samples[pair[0]] - samples[pair[1]])[0]
            for pair in [("MF", "KNN"), ("KNN", "MF"), ("MF", "baseline"), ("KNN", "baseline")]
        }
        if structure == "linear":
            assert low["MF", "KNN"] > 0
            assert low["MF", "baseline"] > 0
        elif structure == "nonlinear":
            assert low["KNN", "MF"] > 0
        else:  # the negative control
            assert low["MF", "baseline"] <= 0
            assert low["KNN", "baseline"] <= 0

    def test_none_is_above_the_ceiling_beyond_noise(self, contest):
        samples = contest[1].resampled()
        for name in ("MF", "KNN", "baseline"):
            assert interval(samples[name] - samples["ceiling"])[0] <= 0, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_is_anchored_to_what_is_published(seed):
    matrix, _ = simulate_pool(random_state=seed)
    assert [part.n_questions for part in matrix.split()] == [29_673, 3_000, 3_000]
    counts = load_published_counts()
    weight = counts.questions / counts.questions.sum()
    published = counts.correct / counts.questions
    accuracy = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")[published.columns]
    both = {"published": published, "pool": accuracy}
    figures = pd.DataFrame(
        {
            name: {
                "mean": share.mean() @ weight,
                "baseline": np.maximum(share, 1 - share).mean() @ weight,
                "single": (share @ weight).max(),
                "best per benchmark": share.max() @ weight,
            }
            for name, share in both.items()
        }
    )
    assert figures["published"].round(3).tolist() == [0.406, 0.695, 0.605, 0.690]
    apart = (figures["pool"] - figures["published"]).abs()
    assert apart[["mean", "baseline"]].max() < 0.01
    assert apart[["single", "best per benchmark"]].max() < 0.015
    assert matrix.labels.max(axis=0).mean() == pytest.approx(0.979, abs=0.01)  # the oracle
