"""Ways to know a new model from some of its answers: what the prior of a pool is compared with.

A method takes a `Case` and strengths, and returns a function that predicts the logits of the questions of a part of the
division for each strength.

References
----------
The cluster table is that of UniRoute (arXiv 2502.08773), the frozen decoder that of EmbedLLM (arXiv 2410.02223), where
p_m alone is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import MiniBatchKMeans

from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED, Split
from embedllm.predictors._answers import Answers
from embedllm.predictors.path import choose_and_solve
from embedllm.predictors.placement import N_OWN, PoolPrior, leading_directions, most_probable, with_one

RIDGE, DECODER, CLUSTERS = "ridge, no pool", "frozen decoder", "cluster table"
NEAREST, MEAN = "nearest pool model", "mean of the pool"

N_WIDE = 256  # directions of the questions in the fit without a pool
_N_CLUSTERS = 32
_INTERCEPT = 10.0  # standard deviation of the intercept over that of a weight, in fits without a prior mean
_VARIANCES = (0.01, 0.05, 0.25, 1.0, 4.0)  # of the weights there
_COUNTS = (1.0, 4.0, 16.0, 64.0)  # of answers at the model's accuracy, added to each cluster


@dataclass(frozen=True)
class Material:
    """A division of the questions, and what does not depend on which models are new.

    All weights of models lie in the span of few directions, so that a question is its coordinates in these: the logits
    are the same, and everything is as small as the pool.

    Parameters
    ----------
    split : Split
    seed : int
        Of the clusters.
    """

    split: Split
    seed: int = 0

    @cached_property
    def _solved(self) -> torch.Tensor:
        """Weights in the coordinates of the embeddings, (width + 1, n_models)."""
        train, val, _ = self.split
        known, held_out = (Answers(part, list(train.model_names), torch.device("cpu")) for part in (train, val))
        return choose_and_solve(known, held_out, "auto", None, 1e-3)[1].weights.double()

    @cached_property
    def _basis(self) -> torch.Tensor:
        """Orthonormal directions: principal ones of the questions, the rest of the weights' span, the intercept."""
        both = torch.cat([self._principal[:-1, :-1][:, :N_OWN], self._solved[:-1]], dim=1)
        return torch.block_diag(torch.linalg.qr(both).Q, torch.ones(1, 1, dtype=torch.float64))

    @cached_property
    def _principal(self) -> torch.Tensor:
        return leading_directions(self._embedded["train"], N_WIDE)

    @cached_property
    def _embedded(self) -> dict[str, torch.Tensor]:
        mean = self.split.train.embeddings.mean(axis=0)
        return {name: with_one(part.embeddings - mean) for name, part in self.split._asdict().items()}

    @cached_property
    def x(self) -> dict[str, torch.Tensor]:
        """Coordinates of the questions in the span of the weights, the last one 1, by part of the division."""
        return {name: x @ self._basis for name, x in self._embedded.items()}

    @cached_property
    def wide(self) -> dict[str, torch.Tensor]:
        """Coordinates of the questions in their `N_WIDE` principal directions, and 1, by part of the division."""
        return {name: x @ self._principal for name, x in self._embedded.items()}

    @cached_property
    def y(self) -> dict[str, torch.Tensor]:
        """Labels, (n_questions, n_models), by part of the division."""
        return {name: torch.tensor(part.labels.T, dtype=torch.float64) for name, part in self.split._asdict().items()}

    @cached_property
    def weights(self) -> torch.Tensor:
        """Weights of every model from all its training answers alone, a column each, in the coordinates of `x`.

        Models are independent of each other in this fit, but for alpha, which is chosen once for all.
        """
        return self._basis.T @ self._solved

    @cached_property
    def own(self) -> torch.Tensor:
        """The principal directions of the questions, and the intercept, in the coordinates of `x`."""
        one = torch.eye(len(self.weights), dtype=torch.float64)
        n_own = min(N_OWN, self._principal.shape[1] - 1)
        return torch.cat([one[:, :n_own], one[:, -1:]], dim=1)

    @cached_property
    def clusters(self) -> dict[str, np.ndarray]:
        """k-means cluster of each question, by part of the division."""
        points = {name: x[:, :-1].numpy() for name, x in self.wide.items()}
        means = MiniBatchKMeans(min(_N_CLUSTERS, len(points["train"])), n_init=3, random_state=self.seed)
        means.fit(points["train"])
        return {name: means.predict(each) for name, each in points.items()}


@dataclass(frozen=True)
class Pool:
    """Models whose answers are known.

    Parameters
    ----------
    material : Material
    models : ndarray of int
        Their positions.
    """

    material: Material
    models: np.ndarray

    @property
    def weights(self) -> torch.Tensor:
        """Weights of the models, (width + 1, n_pool)."""
        return self.material.weights[:, self.models]

    @cached_property
    def labels(self) -> torch.Tensor:
        """Training labels, (n_train, n_pool)."""
        return self.material.y["train"][:, self.models]

    @cached_property
    def span(self) -> torch.Tensor:
        """Orthonormal directions that the weights span, the intercept apart, (width + 1, n_directions)."""
        left, values, _ = torch.linalg.svd(self.weights[:-1], full_matrices=False)
        return torch.nn.functional.pad(left[:, values > 1e-6 * values[0]], (0, 0, 0, 1))


class Case(NamedTuple):
    """Models that are placed by some of their answers.

    Attributes
    ----------
    pool : Pool
    models : ndarray of int
        Positions of the placed models.
    labels : tensor of shape (n_train, n_placed)
        Not observed where not asked.
    """

    pool: Pool
    models: np.ndarray
    labels: torch.Tensor

    @property
    def material(self) -> Material:
        """What all pools have in common."""
        return self.pool.material


Predict = Callable[[str], torch.Tensor]
"""Takes a part of the division and returns logits (n_strengths, n_questions, n_placed)."""


def ridge(case: Case, variances: Sequence[float] = _VARIANCES) -> Predict:
    """Fit logistic regressions without the pool: weights N(0, variance) in directions of the questions."""
    one = torch.eye(case.material.wide["train"].shape[1], dtype=torch.float64)
    return _without_mean(case.material.wide, case, one[:, :-1], variances)


def frozen_decoder(case: Case, variances: Sequence[float] = _VARIANCES) -> Predict:
    """Fit p_m alone: u_m = W'((c1 - c0) * p_m) stays in the span of the pool's weights, N(0, variance) there.

    With at least as many dimensions as models, the decoder of the paper's factorization at its optimum spans just that.
    """
    return _without_mean(case.material.x, case, case.pool.span, variances)


def _without_mean(
    x: dict[str, torch.Tensor], case: Case, directions: torch.Tensor, variances: Sequence[float]
) -> Predict:
    """Weights N(0, variance) in some directions, and a wide prior of the intercept; all variances solved together."""
    n_models = len(case.models)
    last = torch.zeros(len(directions), 1, dtype=torch.float64)
    last[-1] = _INTERCEPT
    prior = PoolPrior(torch.zeros(len(directions), dtype=torch.float64), torch.cat([directions, last], dim=1))
    weights = most_probable(prior, x["train"], case.labels, variances, 1e-3)
    return lambda part: (x[part] @ weights).reshape(-1, len(variances), n_models).transpose(0, 1)


def cluster_table(case: Case, counts: Sequence[float] = _COUNTS) -> Predict:
    """Take the accuracy in the k-means cluster of the question; `counts` answers at the model's accuracy are added."""
    clusters = case.material.clusters
    tables = torch.stack([stratum_shares(clusters["train"], case.labels, count) for count in counts])
    return lambda part: tables[:, clusters[part]].logit()


def stratum_shares(strata: np.ndarray, labels: torch.Tensor, count: float) -> torch.Tensor:
    """Estimate the accuracy of each model in each stratum, with answers at its accuracy added.

    Parameters
    ----------
    strata : ndarray of shape (n_questions,), int
    labels : tensor of shape (n_questions, n_models)
    count : float
        How many answers are added to those in a stratum.

    Returns
    -------
    tensor of shape (n_strata, n_models)
        (correct + count r) / (answers + count), with r = (correct + 1) / (answers + 2) over all strata.
    """
    member = torch.nn.functional.one_hot(torch.from_numpy(strata).long()).double().T  # (n_strata, n_questions)
    correct, answers = (labels == CORRECT).double(), (labels != NOT_OBSERVED).double()
    share = (correct.sum(dim=0) + 1) / (answers.sum(dim=0) + 2)
    return (member @ correct + count * share) / (member @ answers + count)


def nearest_model(case: Case, _: Sequence[float] = (0.0,)) -> Predict:
    """Take the fit of the pool's model that agrees most on the answers; of several, the mean of their logits."""
    known = case.pool.labels
    correct, incorrect = (case.labels == CORRECT).double(), (case.labels == INCORRECT).double()
    agree = correct.T @ (known == CORRECT).double() + incorrect.T @ (known == INCORRECT).double()
    common = (correct + incorrect).T @ (known != NOT_OBSERVED).double()
    share = agree / common.clamp(min=1)  # (n_placed, n_pool)
    best = (share == share.max(dim=1, keepdim=True).values).double()
    weights = case.pool.weights @ (best / best.sum(dim=1, keepdim=True)).T
    return lambda part: (case.material.x[part] @ weights)[None]


def mean_model(case: Case, _: Sequence[float] = (0.0,)) -> Predict:
    """Take the mean logit of the pool's models, whatever the answers."""
    mean = case.pool.weights.mean(dim=1, keepdim=True).expand(-1, len(case.models))
    return lambda part: (case.material.x[part] @ mean)[None]


def stratified_order(benchmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of questions (n_questions,) each start of which has the benchmarks in their proportions."""
    draws = pd.Series(rng.random(len(benchmarks)))
    groups = draws.groupby(benchmarks)
    return np.argsort(((groups.rank() - rng.random(len(benchmarks))) / groups.transform("size")).to_numpy())


def disagreement_order(known: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
    """Return the questions by the variance of their labels in a pool (n_questions, n_pool), the highest first."""
    share = (known == CORRECT).sum(dim=1) / (known != NOT_OBSERVED).sum(dim=1).clamp(min=1)
    return np.lexsort((rng.random(len(known)), -(share * (1 - share)).numpy()))


METHODS: dict[str, tuple[Callable[..., Predict], tuple[float, ...]]] = {
    RIDGE: (ridge, _VARIANCES),
    DECODER: (frozen_decoder, _VARIANCES),
    CLUSTERS: (cluster_table, _COUNTS),
    NEAREST: (nearest_model, (0.0,)),
    MEAN: (mean_model, (0.0,)),
}
"""What the pool's prior is compared with: a function, and the strengths of which one is chosen for each n."""

ALONE = (RIDGE, CLUSTERS)
"""Those in which the pool plays no part."""
