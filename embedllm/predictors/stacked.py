"""Predictors put together: the parts that help, by log loss on questions that they were not fitted on.

Small and large pools, few and many benchmarks favour different predictors, and nobody knows beforehand which. A stack
weighs their logits,

    z[m, q] = sum_i w_i logit p_i(m, q),    w_i >= 0,

with the weights of least log loss on held-out questions. A part that does not help there is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from embedllm._support.checks import check_positive
from embedllm._support.division import question_groups
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_matrix
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.scores import CLIP
from embedllm.predictors.tuned import Tuned


def standard_parts(n_models: int = 2, device: str = "auto") -> dict[str, CorrectnessPredictor]:
    """Return the predictors that a stack weighs, not fitted; `device` is "auto", "cpu" or "cuda".

    Matrix factorization without the prior is none of them: the more answers there are, the less the prior weighs. A
    single model has no pool.
    """
    return {
        "benchmark mean": BenchmarkMean(),
        "KNN": Tuned(KNNCorrectness(device=device), "n_neighbors", (15, 31, 61, 131)),
        "MF, pool prior": MatrixFactorization(prior="pool" if n_models > 1 else None, device=device),
    }


class StackedCorrectness(CorrectnessPredictor):
    """A non-negative combination of the logits of several predictors, as simple as the answers allow.

    Of all subsets of the parts, one with the fewest parts is taken whose log loss on held-out questions is at most a
    standard error above the least; the error is that of the paired difference, over groups of questions.

    Parameters
    ----------
    parts : mapping of str to CorrectnessPredictor, optional
        Not fitted; by default, those of `standard_parts`. They stay as they are.
    n_folds : int
        Of the cross-validation over groups of questions.
    told_benchmark : bool
        Whether the parts are told the benchmark of a question, which only `predict_matrix` can be. A router is not: its
        parts have to be weighed by what they predict from the text alone.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    parts_ : dict of str to CorrectnessPredictor
        Fitted on all training questions.
    weights_ : Series of shape (n_parts,)
        0 for a part that was not taken.
    path_ : DataFrame
        A row for each subset: `parts` (names joined by " + "), `log_loss` (nats) on held-out questions, `above` (the
        least) and `stderr` of that difference.

    References
    ----------
    *Stacked Regressions*, Machine Learning 24 (1996): weights that are not negative.

    Examples
    --------
    >>> from embedllm import BenchmarkMean, KNNCorrectness, StackedCorrectness, load_dataset
    >>> train, _, test = load_dataset("simulated", scale=0.02).split()
    >>> stack = StackedCorrectness({"benchmark mean": BenchmarkMean(), "KNN": KNNCorrectness(31)}).fit(train)
    >>> stack.predict_matrix(test).shape
    (112, 60)
    >>> stack.path_["parts"].tolist()
    ['benchmark mean', 'KNN', 'benchmark mean + KNN']
    """

    def __init__(
        self,
        parts: Mapping[str, CorrectnessPredictor] | None = None,
        n_folds: int = 5,
        told_benchmark: bool = True,
    ) -> None:
        self.parts, self.n_folds, self.told_benchmark = parts, n_folds, told_benchmark

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        """Fit the parts, weigh them by cross-validation over the questions, and keep those that help.

        Hyperparameters that a part chooses are chosen once, on all questions, and not again in each fold. Where nothing
        can be held out, such as of one question, the parts are weighed on the training questions.

        Raises
        ------
        ValueError
            If there is no part, or no observed answer.
        """
        matrix = check_matrix(matrix)
        if check_positive("n_folds", self.n_folds) == 1:
            raise ValueError("n_folds must be at least 2, got 1: a fold is held out while the others are learned from")
        parts = standard_parts(matrix.n_models) if self.parts is None else dict(self.parts)
        if not parts:
            raise ValueError("parts is empty: name at least one predictor, or leave it out")
        fitted = {name: clone(part).fit(matrix) for name, part in parts.items()}
        held_out = [self._cells(*fold) for fold in self._held_out(matrix, list(fitted.values()))]
        if not held_out:  # one question, or one answer: all that there is
            held_out = [self._cells(matrix, question_groups(matrix.questions), list(fitted.values()))]
        logits, correct, group = (np.concatenate(each) for each in zip(*held_out, strict=True))
        self.path_, self.weights_ = _choose(list(parts), logits, correct, group)
        self.parts_ = fitted
        self.model_names_ = matrix.model_names
        return self

    def _held_out(
        self, matrix: CorrectnessMatrix, parts: list[CorrectnessPredictor]
    ) -> Iterator[tuple[CorrectnessMatrix, np.ndarray, list[CorrectnessPredictor]]]:
        """Yield the questions of each fold, their groups, and the parts, fitted on the other questions."""
        groups = question_groups(matrix.questions)
        if (n_folds := min(self.n_folds, groups.max() + 1)) < 2:
            return
        positions = np.arange(matrix.n_questions)
        folds = GroupKFold(n_folds, shuffle=True, random_state=0).split(positions, groups=groups)
        for rest, fold in tqdm(folds, "weighing", n_folds, unit="fold", leave=False, delay=2, disable=None):
            train, held_out = (matrix.subset(questions=np.isin(positions, each)) for each in (rest, fold))
            if train.observed.any() and held_out.observed.any():
                yield held_out, groups[fold], [_as_chosen(part).fit(train) for part in parts]

    def summary(self) -> str:
        """Say the weights, and the log loss on held-out questions beside that of each part."""
        check_is_fitted(self, "model_names_")
        loss = self.path_.set_index("parts")["log_loss"]
        taken = self.weights_[self.weights_ > 0]
        if taken.empty:
            return "no part predicts held-out questions better than one half: there is too little to learn from"
        weights = ", ".join(f"{weight:.2f} {name}" for name, weight in taken.items())
        alone = ", ".join(f"{name} {loss[name]:.4f}" for name in self.weights_.index)
        known = " of known benchmarks" if self.told_benchmark else ""
        return (
            f"weights of the logits: {weights}; log loss on held-out questions{known}: "
            f"{loss[' + '.join(taken.index)]:.4f}; of each part alone: {alone}"
        )

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return self.combine(lambda part: part.predict_proba(embeddings))

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        return self.combine(lambda part: self._of_matrix(part, matrix))

    def combine(self, predict: Callable[[CorrectnessPredictor], np.ndarray]) -> np.ndarray:
        """Combine the probabilities of the parts, all (n_questions, n_models) or all the transpose, float32."""
        check_is_fitted(self, "model_names_")
        # Where no part helps, all probabilities are one half.
        taken = {name: weight for name, weight in self.weights_.items() if weight > 0} or {next(iter(self.parts_)): 0}
        logits = [weight * _logits(predict(self.parts_[name])) for name, weight in taken.items()]
        return expit(np.sum(logits, axis=0)).astype(np.float32)

    def _of_matrix(self, part: CorrectnessPredictor, matrix: CorrectnessMatrix) -> np.ndarray:
        return part.predict_matrix(matrix) if self.told_benchmark else CorrectnessPredictor.predict_matrix(part, matrix)

    def _cells(
        self, matrix: CorrectnessMatrix, groups: np.ndarray, fitted: list[CorrectnessPredictor]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the logits (n_cells, n_parts), the labels and the group of the question, of the observed cells."""
        observed = matrix.observed
        logits = np.stack([_logits(self._of_matrix(part, matrix)[observed]) for part in fitted], axis=1)
        return logits, (matrix.labels == CORRECT)[observed], np.broadcast_to(groups, observed.shape)[observed]


def _as_chosen(fitted: CorrectnessPredictor) -> CorrectnessPredictor:
    """Return a predictor, not fitted, with the hyperparameters that a fit has chosen."""
    if isinstance(fitted, Tuned):
        return clone(fitted.predictor_)
    if isinstance(fitted, MatrixFactorization):
        prior = {"prior": None} if getattr(fitted, "rho_", None) is None else {"rho": fitted.rho_}
        return clone(fitted).set_params(alpha=fitted.alpha_, **prior)
    return clone(fitted)


def _logits(probability: np.ndarray) -> np.ndarray:
    return logit(probability.astype(float).clip(CLIP, 1 - CLIP))


def _choose(
    names: list[str], logits: np.ndarray, correct: np.ndarray, group: np.ndarray
) -> tuple[pd.DataFrame, pd.Series]:
    """Weigh each subset of the parts, and choose among them."""
    groups, of_cell = np.unique(group, return_inverse=True)
    sizes = range(1, len(names) + 1)
    subsets = [list(each) for size in sizes for each in itertools.combinations(range(len(names)), size)]
    weights = np.zeros((len(subsets), len(names)))
    for weight, subset in zip(weights, subsets, strict=True):
        weight[subset] = _weigh(logits[:, subset], correct)
    # Sums over the cells of a group, (n_subsets, n_groups).
    losses = np.stack([np.bincount(of_cell, _loss(logits @ weight, correct)) for weight in weights])
    size, n = np.bincount(of_cell), len(correct)
    mean = losses.sum(axis=1) / n
    above = losses - losses[mean.argmin()]
    deviations = above - np.outer(above.sum(axis=1) / n, size)
    stderr = np.sqrt(len(groups) / max(len(groups) - 1, 1) * (deviations**2).sum(axis=1)) / n
    path = pd.DataFrame(
        {
            "parts": [" + ".join(names[part] for part in subset) for subset in subsets],
            "log_loss": mean,
            "above": mean - mean.min(),
            "stderr": stderr,
        }
    )
    # Among the subsets within the error, those with the fewest parts, and of these the best.
    enough = [number for number in range(len(subsets)) if path["above"][number] <= stderr[number]]
    chosen = min(enough, key=lambda number: (len(subsets[number]), mean[number]))
    return path, pd.Series(weights[chosen], names, name="weight")


def _weigh(logits: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return the weights of least log loss that are not negative, (n_parts,)."""

    def mean_loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = logits @ weights
        return float(_loss(z, correct).mean()), logits.T @ (expit(z) - correct) / len(correct)

    start = np.full(logits.shape[1], 1 / logits.shape[1])
    return minimize(mean_loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start)).x


def _loss(z: np.ndarray, correct: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, z) - correct * z
