"""Model embeddings of an exact fit: distances are differences of logits, and each dimension the best one more."""

import numpy as np
import pytest
from fits import quick

from embedllm import MatrixFactorization


@pytest.fixture(scope="module", params=["toy", "missing", "pool"])
def train(request, make_matrix, small_pool):
    if request.param == "pool":
        return small_pool[0].split().train
    return make_matrix(missing=0.4 if request.param == "missing" else 0, n_models=9, n_questions=60)


def fit(matrix, **settings):
    return MatrixFactorization(**({"alpha": 0.1, "device": "cpu"} | settings)).fit(matrix)


def logits(model, matrix):
    """Logits of all models on all questions of a matrix, observed or not: (n_questions, n_models)."""
    return matrix.embeddings.astype(float) @ model.coef_.T.astype(float) + model.intercept_


class TestGeometry:
    @pytest.mark.parametrize("prior", [None, "pool"])
    def test_distances_are_root_mean_square_differences_of_logits(self, train, prior):
        model = fit(train, prior=prior)
        z, p = logits(model, train), model.model_embeddings_.astype(float)
        expected = np.sqrt(((z[:, :, None] - z[:, None, :]) ** 2).mean(axis=0)) if len(p) < 20 else None
        for m in range(len(p)):
            row = expected[m] if expected is not None else np.sqrt(((z - z[:, m : m + 1]) ** 2).mean(axis=0))
            np.testing.assert_allclose(np.linalg.norm(p - p[m], axis=1), row, atol=1e-5)

    def test_centred_and_ordered(self, train):
        model = fit(train)
        p = model.model_embeddings_.astype(float)
        np.testing.assert_allclose(p.mean(axis=0), 0, atol=1e-6)
        squares = (p**2).sum(axis=0)
        assert (np.diff(squares) <= 1e-6 * squares[0]).all()
        # Dimensions are orthogonal, and the sign is such that the largest entry is positive.
        np.testing.assert_allclose(p.T @ p, np.diag(squares), atol=1e-5 * squares[0])
        used = p[:, : model.dim_]
        assert (used[np.abs(used).argmax(axis=0), range(model.dim_)] > 0).all()
        np.testing.assert_allclose(model.explained_[: model.dim_], squares[: model.dim_] / squares.sum(), atol=1e-6)

    def test_ability_is_the_mean_logit(self, train):
        model = fit(train)
        np.testing.assert_allclose(model.ability_, logits(model, train).mean(axis=0), atol=1e-5)

    def test_models_in_another_order_keep_their_embeddings(self, train):
        names = train.model_names[::-1]
        model, other = fit(train), fit(train.subset(models=names))
        assert list(other.model_names_) == list(names)
        np.testing.assert_array_equal(other.model_embeddings_[::-1], model.model_embeddings_)
        np.testing.assert_array_equal(other.ability_[::-1], model.ability_)


class TestDimensions:
    @pytest.mark.parametrize("dim", [1, 2, 5])
    def test_are_the_best_approximation_of_the_centred_logits(self, train, dim):
        full, part = fit(train), fit(train, dim=dim)
        z = logits(full, train)
        mean = z.mean(axis=1, keepdims=True)
        u, s, v = np.linalg.svd(z - mean, full_matrices=False)
        np.testing.assert_allclose(logits(part, train), (u[:, :dim] * s[:dim]) @ v[:dim] + mean, atol=1e-4)
        assert part.explained_.sum() == pytest.approx((s[:dim] ** 2).sum() / (s**2).sum(), abs=1e-6)

    @pytest.mark.parametrize("dim", [1, 3])
    def test_a_model_is_described_by_that_many_numbers(self, train, dim):
        full, part = fit(train), fit(train, dim=dim)
        p, a, b, u, t, _ = (value.numpy() for value in part.parameters_)
        assert p.shape == (train.n_models, dim)
        shared = train.embeddings @ u + t
        np.testing.assert_allclose(logits(part, train).T, p @ (a @ train.embeddings.T + b[:, None]) + shared, atol=1e-4)
        short = full.truncated(dim)
        assert (short.dim, short.dim_) == (dim, dim)
        for name in ("model_embeddings_", "coef_", "intercept_", "ability_", "explained_"):
            np.testing.assert_allclose(getattr(short, name), getattr(part, name), atol=1e-5)
        assert full.dim_ > dim and full.model_embeddings_.shape == (train.n_models, 232)  # the fit stays as it is

    def test_beyond_the_rank_are_zero(self, train):
        model = fit(train)
        rank = train.n_models - 1
        assert model.dim_ == rank
        assert model.model_embeddings_.shape == (train.n_models, 232)
        assert not model.model_embeddings_[:, rank:].any() and not model.explained_[rank:].any()
        assert model.explained_.sum() == pytest.approx(1)

    def test_fewer_than_models_where_the_questions_have_fewer(self, make_matrix):
        model = fit(make_matrix(n_models=9, n_questions=60, width=3))
        assert model.dim_ == 4  # 3 directions and the mean logit

    def test_truncated_beyond_the_dimension(self, toy):
        model = fit(toy, dim=3)
        with pytest.raises(ValueError, match="dim must be at most 3, that of the fit, got 4"):
            model.truncated(4)

    def test_of_sgd_have_no_order(self, toy):
        model = quick().fit(toy)
        with pytest.raises(ValueError, match="the dimensions of a fit by 'sgd' have no order: fit with solver='exact'"):
            model.truncated(1)
