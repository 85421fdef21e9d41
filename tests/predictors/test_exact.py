"""The exact solver: the optimum that scipy finds, for every kind of data, by steps that never raise an objective."""

import numpy as np
import pandas as pd
import pytest
import torch
from fits import bits
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from embedllm import CorrectnessMatrix, MatrixFactorization, load_dataset
from embedllm.predictors._answers import Answers
from embedllm.predictors.exact import Problem
from embedllm.predictors.path import score_answers
from embedllm.predictors.pool_prior import pool_penalty

CPU = torch.device("cpu")


def problem_of(matrix, dtype=torch.float64):
    return Problem(Answers(matrix, list(matrix.model_names), CPU), dtype)


def exact(**settings):
    return MatrixFactorization(**({"alpha": 0.1, "device": "cpu"} | settings))


def with_embeddings(matrix, embeddings):
    labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    return CorrectnessMatrix(labels, matrix.questions, embeddings)


def ridge_loss(weights, embeddings, labels, strength):
    """Mean loss and penalty of one model on its observed questions, and the gradient: logistic regression by hand."""
    logits = embeddings @ weights[:-1] + weights[-1]
    n = max(len(labels), 1)
    loss = (np.logaddexp(0, logits) - labels * logits).sum() / n + strength / 2 * weights[:-1] @ weights[:-1]
    residual = (expit(logits) - labels) / n
    return loss, np.append(embeddings.T @ residual + strength * weights[:-1], residual.sum())


class TestOptimum:
    @pytest.mark.parametrize("missing", [0.0, 0.4])
    @pytest.mark.parametrize("alpha", [0.02, 0.5])
    def test_equals_scipy_s(self, make_matrix, missing, alpha):
        matrix = make_matrix(n_models=20, n_questions=500, missing=missing)
        problem = problem_of(matrix)
        weights = problem.solve(problem.ridge(alpha), tol=1e-9).weights.numpy()
        embeddings = matrix.embeddings.astype(float)
        centred = embeddings - embeddings.mean(axis=0)
        for m, (labels, observed) in enumerate(zip(matrix.labels, matrix.observed, strict=True)):
            expected = minimize(
                ridge_loss,
                np.zeros(13),
                (centred[observed], labels[observed], alpha**2 * problem.curvature),
                method="L-BFGS-B",
                jac=True,
                options={"ftol": 1e-16, "gtol": 1e-10, "maxiter": 10_000},
            )
            np.testing.assert_allclose(weights[:, m], expected.x, atol=1e-6)

    def test_strength_of_the_penalty(self, matrix_of):
        # Shares 3/4, 1/2 and, of the pool, 2/3 with one answer more at that share each: (3 + 2/3)/5, (1 + 2/3)/3.
        matrix = matrix_of([[1, 1, 1, 0], [1, 0, -1, -1]])
        shares, n_answers = np.array([(3 + 2 / 3) / 5, (1 + 2 / 3) / 3]), np.array([4, 2])
        kappa = (shares * (1 - shares) * n_answers).sum() / 6
        problem = problem_of(matrix)
        assert problem.curvature == pytest.approx(kappa)
        value, gradient = problem.ridge(0.3)(torch.tensor([[1.0, 0], [2, 0], [0, 3], [7, 7]], dtype=torch.float64))
        np.testing.assert_allclose(value, 0.3**2 * kappa / 2 * np.array([5, 9]))
        np.testing.assert_allclose(gradient, 0.3**2 * kappa * np.array([[1, 0], [2, 0], [0, 3], [0, 0]]))

    @pytest.mark.parametrize("prior", [None, "pool"])
    def test_gradient_is_that_of_finite_differences(self, make_matrix, prior):
        problem = problem_of(make_matrix(missing=0.3))
        generator = torch.Generator().manual_seed(0)
        weights, others, *directions = torch.randn(12, 13, 6, generator=generator, dtype=torch.float64)
        penalty = pool_penalty(others, problem.n_observed, rho=0.5) if prior else problem.ridge(0.5)
        gradient, step = problem.objective(weights, penalty)[1], 1e-5
        for direction in directions:
            above, below = (problem.objective(weights + sign * step * direction, penalty)[0] for sign in (1, -1))
            torch.testing.assert_close((above - below) / (2 * step), (gradient * direction).sum(dim=0))

    def test_only_the_observed_answers_of_a_model_count(self, toy_with_holes):
        problem = problem_of(toy_with_holes)
        penalty = problem.ridge(0.1)
        together = problem.linear(problem.solve(penalty, tol=1e-9).weights)
        for m, name in enumerate(toy_with_holes.model_names):
            answered = toy_with_holes.question_ids[toy_with_holes.observed[m]]
            one = problem_of(toy_with_holes.subset(models=[name], questions=answered))
            alone = one.linear(one.solve(penalty._replace(weight=penalty.weight[:1]), tol=1e-9).weights)
            for part, whole in zip(alone, together, strict=True):
                torch.testing.assert_close(part[..., 0], whole[..., m], rtol=0, atol=1e-6)

    def test_validation_loss_at_the_default_tol_is_that_of_the_optimum(self):
        train, validation, _ = load_dataset("simulated").split()
        held_out = Answers(validation, list(train.model_names), CPU)
        for alpha in (0.035, 0.05, 0.1):
            losses = []
            for dtype, tol in ((torch.float32, 1e-3), (torch.float64, 1e-6)):
                problem = problem_of(train, dtype)
                weights = problem.solve(problem.ridge(alpha), tol=tol).weights
                losses.append(score_answers(*problem.linear(weights), held_out)[0])
            assert losses[0] == pytest.approx(losses[1], abs=2e-5)

    def test_penalty_is_the_noise_of_the_training_to_second_order(self, make_matrix):
        problem = problem_of(make_matrix(n_models=1, n_questions=400))
        share = float((problem.answers.labels == 1).double().mean())
        generator = torch.Generator().manual_seed(0)
        # Small weights, so that every answer has about the curvature that the penalty takes.
        weights = 0.02 * torch.randn(13, 1, generator=generator, dtype=torch.float64)
        weights[-1] = np.log(share / (1 - share))
        u, intercept = problem.linear(weights)
        ((x, y),) = problem.answers.blocks(torch.float64)

        def loss(x):
            z = x @ u + intercept
            return float((torch.nn.functional.softplus(z) - y * z).mean())

        for alpha in (0.3, 0.6):
            rises = []
            for _ in range(400):
                noise = alpha * torch.randn(*x.shape, generator=generator, dtype=torch.float64)
                rises.append((loss(x + noise) + loss(x - noise)) / 2 - loss(x))
            penalty = float(problem.ridge(alpha)(weights)[0])
            assert np.mean(rises) == pytest.approx(penalty, rel=0.03)
            assert np.std(rises) / 20 < 0.01 * penalty


class TestSteps:
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize("alpha", [1e-4, 0.05, 1.0])
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"missing": 0.8},
            {"n_questions": 8, "width": 30},
            {"n_models": 1},
            {"n_models": 30, "n_questions": 300, "missing": 0.5},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("scale", [0.01, 1, 100])
    def test_no_step_raises_the_objective_of_a_model(self, make_matrix, settings, alpha, scale):
        matrix = make_matrix(**settings)
        matrix = with_embeddings(matrix, matrix.embeddings * np.float32(scale))
        for dtype, tol in ((torch.float32, 1e-3), (torch.float64, 1e-5)):
            problem = problem_of(matrix, dtype)
            solution = problem.solve(problem.ridge(alpha), tol=tol)
            assert (solution.objective[1:] <= solution.objective[:-1] * (1 + 1.1e-7)).all()  # of float32's rounding
            assert solution.objective.isfinite().all() and solution.weights.isfinite().all()

    @pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-4])
    def test_stop_at_the_largest_gradient_over_the_models(self, toy_with_holes, tol):
        problem = problem_of(toy_with_holes)
        penalty = problem.ridge(0.05)
        solution = problem.solve(penalty, tol=tol)
        norms = problem.objective(solution.weights, penalty)[1].norm(dim=0)
        assert solution.gradient[-1] == pytest.approx(float(norms.max())) and solution.gradient[-1] <= tol
        assert min(solution.gradient[:-1]) > tol
        assert solution.n_iter == len(solution.gradient) - 1 == len(solution.objective) - 1
        torch.testing.assert_close(solution.objective[-1], problem.objective(solution.weights, penalty)[0])

    def test_history_shows_the_iterations(self, toy):
        model = exact().fit(toy)
        assert model.history_.columns.tolist() == ["objective", "gradient"]
        assert model.history_.index.name == "iteration" and len(model.history_) == model.n_iter_ + 1
        assert model.history_["gradient"].iloc[-1] <= model.tol
        assert model.history_["objective"].is_monotonic_decreasing

    def test_tol_below_the_rounding_is_warned_of(self, toy):
        with pytest.warns(ConvergenceWarning, match=r"after 200 iterations the largest gradient is .*, above tol"):
            model = exact(tol=1e-12).fit(toy)
        assert model.n_iter_ == 200
        np.testing.assert_allclose(model.predict_matrix(toy), exact(tol=1e-5).fit(toy).predict_matrix(toy), atol=1e-4)


class TestEdges:
    @pytest.mark.parametrize("prior", [None, "pool"])
    @pytest.mark.parametrize("value", [0, 1])
    def test_one_answer_to_everything(self, toy, value, prior):
        proba = exact(prior=prior).fit(toy.with_labels(np.full_like(toy.labels, value))).predict_matrix(toy)
        assert ((proba > 0.9) if value else (proba < 0.1)).all()

    @pytest.mark.parametrize("alpha", ["auto", 0.05])
    @pytest.mark.parametrize("size", [(1, 40), (6, 1), (1, 1)], ids=["one model", "one question", "one cell"])
    def test_smallest_data(self, toy, size, alpha):
        part = toy.subset(models=toy.model_names[: size[0]], questions=toy.question_ids[: size[1]])
        for validation in (None, part.subset(questions=[]), part):
            model = exact(alpha=alpha, dim=4).fit(part, validation)
            assert np.isfinite(model.predict_matrix(part)).all()
            assert np.isfinite(model.model_embeddings_).all() and model.model_embeddings_.shape == (size[0], 4)
            assert model.dim_ <= size[0] - 1

    def test_model_without_an_answer_has_the_share_of_the_pool(self, toy):
        labels = toy.labels.copy()
        labels[4] = -1
        proba = exact().fit(toy.with_labels(labels)).predict_matrix(toy)
        np.testing.assert_allclose(proba[4], (labels == 1).sum() / (labels >= 0).sum(), atol=1e-6)
        without = toy.subset(models=np.delete(toy.model_names, 4))
        np.testing.assert_allclose(np.delete(proba, 4, axis=0), exact().fit(without).predict_matrix(without), atol=1e-3)

    def test_unanswered_question_changes_no_prediction(self, toy):
        labels = toy.labels.copy()
        labels[:, [3, 17]] = -1
        answered = toy.subset(questions=np.delete(toy.question_ids, [3, 17]))
        predicted = [exact(tol=1e-5).fit(matrix).predict_matrix(toy) for matrix in (toy.with_labels(labels), answered)]
        np.testing.assert_allclose(*predicted, atol=1e-4)

    def test_everything_missing_is_refused(self, toy):
        with pytest.raises(ValueError, match=r"nothing to learn from: .*0\.0% observed"):
            exact().fit(toy.with_labels(np.full_like(toy.labels, -1)))

    def test_equal_questions(self, toy):
        same = with_embeddings(toy, np.ones_like(toy.embeddings))
        proba = exact().fit(same).predict_matrix(same)
        np.testing.assert_allclose(proba, np.repeat(toy.labels.mean(axis=1)[:, None], 40, axis=1), atol=1e-3)


class TestRepeatability:
    @pytest.mark.parametrize("settings", [{}, {"alpha": "auto"}, {"alpha": "auto", "prior": "pool"}], ids=str)
    def test_second_fit_has_the_same_bits(self, toy_with_holes, settings):
        model = exact(**settings).fit(toy_with_holes)
        first = bits(model)
        assert bits(model.fit(toy_with_holes)) == first
        assert bits(exact(random_state=1, **settings).fit(toy_with_holes)) == first

    @pytest.mark.parametrize("prior", [None, "pool"])
    def test_order_changes_rounding_only(self, small_pool, prior, monkeypatch):
        monkeypatch.setattr("embedllm.predictors.exact._SAMPLE", 500)  # as where there are many questions
        train, _, test = small_pool[0].split()
        rng = np.random.default_rng(0)
        expected = exact(alpha=0.05, prior=prior).fit(train).predict_matrix(test)
        questions, models = rng.permutation(train.question_ids), rng.permutation(train.model_names)
        for other in (train.subset(questions=questions), train.subset(models=models)):
            predicted = exact(alpha=0.05, prior=prior).fit(other).predict_matrix(test)
            np.testing.assert_allclose(predicted, expected, atol=1e-4)

    def test_blocks_change_rounding_only(self, toy_with_holes, monkeypatch):
        expected = exact().fit(toy_with_holes).predict_matrix(toy_with_holes)
        monkeypatch.setattr("embedllm.predictors._answers._BLOCK", 7)
        predicted = exact().fit(toy_with_holes).predict_matrix(toy_with_holes)
        np.testing.assert_allclose(predicted, expected, atol=1e-5)

    def test_embeddings_mapped_to_memory(self, toy, tmp_path):
        np.save(tmp_path / "embeddings.npy", toy.embeddings)
        mapped = with_embeddings(toy, np.load(tmp_path / "embeddings.npy", mmap_mode="r"))
        assert bits(exact().fit(mapped)) == bits(exact().fit(toy))

    def test_interrupted_fit_leaves_what_was_fitted_before(self, toy, monkeypatch):
        fitted = exact().fit(toy)
        before = fitted.predict_matrix(toy)

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(Problem, "solve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fitted.fit(toy.subset(models=toy.model_names[::-1]))
        np.testing.assert_array_equal(fitted.predict_matrix(toy), before)

    def test_fit_by_one_solver_forgets_what_the_other_learned(self, toy):
        model = exact().fit(toy)
        model.set_params(solver="sgd", dim=3).fit(toy)
        assert not {"ability_", "explained_", "n_iter_", "path_"} & set(vars(model))
