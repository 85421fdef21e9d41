"""The choice of the penalty: what separate fits score, on the validation questions or in cross-validation."""

import numpy as np
import pytest
import torch
from fits import bits

from embedllm import MatrixFactorization, fit_path
from embedllm.predictors._answers import Answers
from embedllm.predictors.path import ALPHAS, _folds, choose_and_solve


def fit(train, validation=None, **settings):
    return MatrixFactorization(**({"device": "cpu"} | settings)).fit(train, validation)


@pytest.fixture(scope="module")
def parts(small_pool):
    return small_pool[0].split()


class TestFitPath:
    def test_equals_separate_fits(self, make_matrix):
        train, validation, _ = make_matrix(n_models=7, n_questions=200, missing=0.3).split()
        path = fit_path(train, validation, alphas=[0.03, 0.3], dims=[1, 3, 50], tol=1e-2, device="cpu")
        assert path.columns.tolist() == ["alpha", "dim", "n_iter", "log_loss", "accuracy"]
        assert path[["alpha", "dim"]].values.tolist() == [[a, d] for a in (0.03, 0.3) for d in (1, 3, 50)]
        for row in path.itertuples():
            model = fit(train, alpha=row.alpha, dim=row.dim, tol=1e-2)
            proba = model.predict_matrix(validation).astype(float)
            of_label = np.where(validation.labels == 1, proba, 1 - proba)[validation.observed]
            assert row.log_loss == pytest.approx(-np.log(of_label).mean(), abs=1e-6)
            assert row.accuracy == pytest.approx(
                ((proba > 0.5) == (validation.labels == 1))[validation.observed].mean()
            )
            assert row.n_iter == model.n_iter_

    def test_defaults(self, toy):
        train, validation, _ = toy.split()
        path = fit_path(train, validation, device="cpu")
        assert path["alpha"].tolist() == list(ALPHAS)
        assert set(path["dim"]) == {6}

    def test_nothing_to_score(self, toy):
        path = fit_path(toy, toy.subset(questions=[]), alphas=[0.1], device="cpu")
        assert path[["log_loss", "accuracy"]].isna().all(axis=None)

    def test_unsuitable_arguments(self, toy):
        with pytest.raises(ValueError, match="dim must be a positive whole number, got 0"):
            fit_path(toy, toy, dims=[0])
        with pytest.raises(ValueError, match="the validation data lack 1 of the models"):
            fit_path(toy, toy.subset(models=toy.model_names[1:]))


class TestAuto:
    def test_is_the_best_of_the_grid(self, parts):
        path = fit_path(parts.train, parts.val, device="cpu")
        best = path.loc[path["log_loss"].idxmin(), "alpha"]
        model = fit(parts.train, parts.val)
        assert model.alpha_ == best
        assert bits(model) == bits(fit(parts.train, alpha=best))
        # What it tried are neighbours in the grid, from the authors' value on, with the losses of the path.
        tried = model.path_.set_index("value")["log_loss"]
        assert set(model.path_["parameter"]) == {"alpha"} and tried.index[0] == 0.05
        np.testing.assert_allclose(tried, path.set_index("alpha").loc[tried.index, "log_loss"], atol=1e-6)
        neighbours = np.abs(np.subtract.outer(np.arange(len(ALPHAS)), [ALPHAS.index(best)])).ravel() == 1
        assert set(np.array(ALPHAS)[neighbours]) <= set(tried.index)

    def test_walks_down_on_either_side(self, make_matrix):
        for missing, scale in ((0, 1), (0.9, 1), (0, 40)):  # from hardly any need of a penalty to much of it
            train, validation, _ = make_matrix(n_questions=scale * 50, missing=missing).split((0.6, 0.3, 0.1))
            path = fit_path(train, validation, device="cpu").set_index("alpha")["log_loss"]
            chosen = fit(train, validation).alpha_
            place = ALPHAS.index(chosen)
            around = [alpha for alpha in ALPHAS[max(place - 1, 0) : place + 2] if alpha != chosen]
            assert all(path[chosen] <= path[alpha] for alpha in around)
            assert path[chosen] <= path[0.05]

    def test_number_fixes_it(self, parts):
        model = fit(parts.train, parts.val, alpha=0.2)
        assert model.alpha_ == 0.2 and model.path_.empty
        assert bits(model) == bits(fit(parts.train, alpha=0.2))

    @pytest.mark.parametrize("prior", [None, "pool"])
    def test_without_an_observed_validation_answer_it_is_the_authors(self, toy, prior):
        unobserved = toy.with_labels(np.full_like(toy.labels, -1))
        for nothing in (unobserved, toy.subset(questions=[])):
            model = fit(toy, nothing, prior=prior)
            assert model.alpha_ == 0.05
            assert bits(model) == bits(fit(toy, alpha=0.05, prior=prior, rho=1.0))

    def test_pool_prior_is_chosen_after_it(self, make_matrix):
        train, validation, _ = make_matrix(n_models=12, n_questions=80, missing=0.5).split((0.6, 0.3, 0.1))
        ridge, pool = fit(train, validation), fit(train, validation, prior="pool")
        assert pool.alpha_ == ridge.alpha_
        assert set(pool.path_["parameter"]) == {"alpha", "rho"}
        rho = pool.path_[pool.path_["parameter"] == "rho"].sort_values("log_loss").iloc[0]
        proba = pool.predict_matrix(validation).astype(float)
        of_label = np.where(validation.labels == 1, proba, 1 - proba)[validation.observed]
        assert -np.log(of_label).mean() == pytest.approx(rho["log_loss"], abs=1e-6)
        assert pool.rho_ == rho["value"]
        assert bits(pool) == bits(fit(train, alpha=pool.alpha_, rho=pool.rho_, prior="pool"))

    def test_pool_is_left_out_where_it_predicts_worse(self, make_matrix):
        """Two models that have nothing in common, with many answers: what the other one does is no hint."""
        train, validation, _ = make_matrix(n_models=2, n_questions=600, width=4, seed=3).split((0.6, 0.3, 0.1))
        ridge, pool = fit(train, validation), fit(train, validation, prior="pool")
        alone, beside = (pool.path_.loc[pool.path_["parameter"] == name, "log_loss"].min() for name in ("alpha", "rho"))
        assert alone < beside
        assert pool.rho_ is None and bits(pool) == bits(ridge)


class TestFolds:
    def folds(self, matrix):
        """Ids of the questions that each fold holds out and keeps."""
        answers = Answers(matrix, list(matrix.model_names), torch.device("cpu"))
        return [
            tuple(
                set(matrix.question_ids[(part.labels >= 0).any(dim=1).numpy()]) for part in (held_out, problem.answers)
            )
            for problem, held_out in _folds(answers)
        ]

    def test_hold_out_every_question_once(self, parts):
        folds = self.folds(parts.train)
        assert len(folds) == 5
        everything = set(parts.train.question_ids)
        for held_out, kept in folds:
            assert held_out | kept == everything and not held_out & kept
            assert len(held_out) == pytest.approx(len(everything) / 5, rel=0.2)
        assert sum(len(held_out) for held_out, _ in folds) == len(everything)

    def test_keep_wordings_of_a_question_together(self, make_matrix):
        matrix = make_matrix(n_questions=300)
        matrix.questions["item"] = [f"item {number // 3}" for number in range(300)]
        folds = self.folds(matrix)
        items = matrix.questions["item"]
        for held_out, kept in folds:
            assert not set(items[list(held_out)]) & set(items[list(kept)])
        # Large groups do not gather in one fold.
        assert max(len(held_out) for held_out, _ in folds) < 100

    def test_depend_on_the_ids_alone(self, parts):
        shuffled = parts.train.subset(questions=np.random.default_rng(0).permutation(parts.train.question_ids))
        assert self.folds(shuffled) == self.folds(parts.train)
        half = parts.train.subset(questions=parts.train.question_ids[::2])
        kept = set(half.question_ids)
        assert [held_out & kept for held_out, _ in self.folds(parts.train)] == [h for h, _ in self.folds(half)]

    def test_cross_validation_scores_what_each_fold_holds_out(self, make_matrix):
        matrix = make_matrix(n_questions=60, missing=0.3)
        tried = fit(matrix, tol=1e-4).path_.set_index("value")["log_loss"]
        alpha, losses = tried.index.max(), []
        for held_out, kept in self.folds(matrix):
            model = fit(matrix.subset(questions=sorted(kept)), alpha=alpha, tol=1e-4)
            part = matrix.subset(questions=sorted(held_out))
            proba = model.predict_matrix(part).astype(float)
            losses.append(-np.log(np.where(part.labels == 1, proba, 1 - proba)[part.observed]).mean())
        assert tried[alpha] == pytest.approx(np.mean(losses), abs=1e-4)

    def test_order_of_the_questions_changes_nothing(self, parts):
        train = parts.train.subset(models=parts.train.model_names[:20])
        shuffled = train.subset(questions=np.random.default_rng(0).permutation(train.question_ids))
        one, other = fit(train), fit(shuffled)
        assert one.alpha_ == other.alpha_
        np.testing.assert_allclose(one.predict_matrix(shuffled), other.predict_matrix(shuffled), atol=1e-4)

    def test_too_few_questions_for_a_fold(self, toy):
        one = toy.subset(questions=toy.question_ids[:1])
        answers = Answers(one, list(one.model_names), torch.device("cpu"))
        _, _, chosen, path = choose_and_solve(answers, None, "auto", rho=None, tol=1e-3)
        assert chosen["alpha"] == 0.05
        assert path["log_loss"].isna().all()
