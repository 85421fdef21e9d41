"""A new model without retraining: its weights from a few answers and the prior of a pool that stays as it is.

With x a question's embedding and a 1 behind it, the logit of model m is u_m . x. The weights U of the models of a pool
give the prior of the next one::

    u = mean + sqrt(tau) (B z + e),    B = (U - mean) / sqrt(n_models),    z ~ N(0, I),    e ~ N(0, rho S)

B z is what models of the pool differ in, in its leading directions. e is the model's own, in the leading directions of
the questions, with S the variances that the pool has there. So u = mean + G w with w ~ N(0, I) of a few dozen numbers,
and a placement is a small logistic regression. All new models are solved at once. The prior that the models of the pool
are themselves fitted with is another one: :mod:`embedllm.predictors.pool_prior`.

A few answers leave w uncertain. Laplace's approximation, w ~ N(w*, H^-1) with H the second derivatives at the optimum,
gives each logit a variance v = (G'x)' H^-1 (G'x), and the probability of a correct answer is then close to
sigmoid(z / sqrt(1 + pi v / 8)).

References
----------
MacKay, *The Evidence Framework Applied to Classification Networks*, Neural Computation 4 (1992), for the last formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import softplus

from embedllm._support.checks import name_positions
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors.exact import minimize
from embedllm.predictors.mf import MatrixFactorization

TAU, RHO = 1.0, 0.1
"""Strengths where no answers of the pool are there to choose them."""

TAUS, RHOS = (0.25, 0.5, 1.0, 2.0, 4.0), (0.03, 0.1, 0.3, 1.0)
"""Strengths that are tried."""

N_SHARED, N_OWN = 32, 16  # directions in which the pool differs, and of the questions: more change little
N_CHOICE = 64  # answers of a model of the pool where tau and rho are chosen
_N_FOLDS, _N_SCORED = 5, 1000
_KAPPA = 0.2  # about the mean of p (1 - p)
_RANK = 1e-6  # share of the largest singular value below which a direction is rounding


class PoolPrior(NamedTuple):
    """What a pool says of the weights of a new model: u = mean + directions w, w ~ N(0, I).

    Attributes
    ----------
    mean : tensor of shape (width + 1,), float64
    directions : tensor of shape (width + 1, n_directions), float64
        G.
    """

    mean: torch.Tensor
    directions: torch.Tensor

    @classmethod
    def learn(cls, weights: torch.Tensor, own: torch.Tensor, tau: float = TAU, rho: float = RHO) -> PoolPrior:
        """Return the prior that the weights of a pool's models give.

        Parameters
        ----------
        weights : tensor of shape (width + 1, n_models)
            U.
        own : tensor of shape (width + 1, n_own)
            Orthonormal directions of e, such as `leading_directions` gives.
        tau, rho : float
        """
        mean = weights.double().mean(dim=1)
        deviations = (weights.double() - mean[:, None]) / weights.shape[1] ** 0.5  # B     (width + 1, n_models)
        left, values, _ = torch.linalg.svd(deviations, full_matrices=False)
        kept = (values > _RANK * values[0]) & (torch.arange(len(values)) < N_SHARED)
        shared = left[:, kept] * values[kept]
        apart = (own.T @ deviations).norm(dim=1)  # its square is S
        if not apart.any():  # one model, or equal ones: they do not say how models differ
            apart = torch.ones_like(apart)
        return cls(mean, tau**0.5 * torch.cat([shared, rho**0.5 * own * apart], dim=1))

    def weights(self, w: torch.Tensor) -> torch.Tensor:
        """Return mean + G w, (width + 1, n_models), for w (n_directions, n_models)."""
        return self.mean[:, None] + self.directions @ w


class Placement(NamedTuple):
    """New models: the most probable weights, and how uncertain they are.

    Attributes
    ----------
    weights : tensor of shape (width + 1, n_models), float64
        u at the optimum.
    directions : tensor of shape (width + 1, n_directions), float64
        G of the prior.
    roots : tensor of shape (n_models, n_directions, n_directions), float64
        R of each model, with R R' = H^-1.
    """

    weights: torch.Tensor
    directions: torch.Tensor
    roots: torch.Tensor

    def logits(self, questions: torch.Tensor) -> torch.Tensor:
        """Return z / sqrt(1 + pi v / 8) of questions (n_questions, width + 1), (n_questions, n_models)."""
        features = questions @ self.directions
        variance = torch.stack([(features @ root).square().sum(dim=1) for root in self.roots], dim=1)
        return questions @ self.weights / (1 + torch.pi / 8 * variance).sqrt()

    @property
    def spreads(self) -> torch.Tensor:
        """S of each model, (n_models, n_directions, width + 1), with ``v = |S x|^2``."""
        return self.roots.mT @ self.directions.T


def place_model(
    prior: PoolPrior, questions: torch.Tensor, labels: torch.Tensor, scales: Sequence[float] = (1.0,)
) -> Placement:
    """Place new models in a pool by their answers to some questions.

    Parameters
    ----------
    prior : PoolPrior
    questions : tensor of shape (n_questions, width + 1)
        From `with_one`.
    labels : tensor of shape (n_questions, n_models)
        Correct (1), incorrect (0) or not observed (-1).
    scales : sequence of float
        Factors of the prior's variance: all models are placed with each in turn.

    Returns
    -------
    Placement
        Of n_scales * n_models.

    Examples
    --------
    >>> import torch
    >>> from embedllm.predictors.placement import PoolPrior, leading_directions, place_model, with_one
    >>> pool = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [0.5, 0.5, 0.5]])  # three models, two dimensions
    >>> questions = with_one([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    >>> prior = PoolPrior.learn(pool, leading_directions(questions))
    >>> placed = place_model(prior, questions, torch.tensor([[1], [0], [-1]]))
    >>> placed.logits(questions).sigmoid().ravel().numpy().round(2)
    array([0.72, 0.48, 0.55])
    """
    known = _OwnAnswers(prior, questions, labels)
    w = known.most_probable(scales, 1e-4)
    hessians, one = [], torch.eye(len(w), dtype=torch.float64)
    for scale, p in zip(scales, known.logits(w).sigmoid().unbind(dim=2), strict=True):
        curvature = p * (1 - p) * known.observed  # (n_models, n_answers)
        hessians.append(known.features.mT * curvature[:, None] @ known.features + one / scale)
    factor = torch.linalg.cholesky(torch.cat(hessians))
    roots = torch.linalg.solve_triangular(factor, one.expand_as(factor), upper=False).mT
    return Placement(prior.weights(w), prior.directions, roots)


def most_probable(
    prior: PoolPrior,
    questions: torch.Tensor,
    labels: torch.Tensor,
    scales: Sequence[float] = (1.0,),
    tol: float = 1e-4,
) -> torch.Tensor:
    """Return the most probable weights of new models, (width + 1, n_scales * n_models).

    Parameters are those of `place_model`. A model's gradient, of the mean over its answers, ends with a norm of at most
    `tol`.
    """
    return prior.weights(_OwnAnswers(prior, questions, labels).most_probable(scales, tol))


class _OwnAnswers:
    """The answers of new models, those of each model side by side: a model has few, and to questions of its own.

    Attributes
    ----------
    features : tensor of shape (n_models, n_answers, n_directions)
        G'x; n_answers are those of the model that has most.
    observed : tensor of shape (n_models, n_answers), bool
        Whether the model has that many.
    """

    def __init__(self, prior: PoolPrior, questions: torch.Tensor, labels: torch.Tensor) -> None:
        asked = (labels != NOT_OBSERVED).any(dim=1)
        questions, y = questions[asked], labels[asked].double().T
        self.n = (y != NOT_OBSERVED).sum(dim=1)
        self.observed = torch.arange(int(self.n.max())) < self.n[:, None]
        rows = torch.zeros(self.observed.shape, dtype=torch.long)
        rows[self.observed] = (y != NOT_OBSERVED).nonzero()[:, 1]  # model by model, as `observed` is
        everyone = questions @ prior.directions
        self.features, self._y = everyone[rows], y.gather(1, rows)[..., None]
        self._offset = (questions @ prior.mean)[rows][..., None]
        # All models have about the same curvature: its eigenvectors make the penalty of each a diagonal.
        self._curvature, self._basis = torch.linalg.eigh(_KAPPA / max(len(everyone), 1) * everyone.T @ everyone)

    def logits(self, w: torch.Tensor) -> torch.Tensor:
        """Return z of the answers, (n_models, n_answers, n_scales), for w (n_directions, n_scales * n_models)."""
        return self._offset + self.features @ w.reshape(len(w), -1, len(self.n)).permute(2, 0, 1)

    def most_probable(self, scales: Sequence[float], tol: float) -> torch.Tensor:
        """Return w (n_directions, n_scales * n_models).

        The sum over the answers of a model of ``softplus(z) - y z``, plus ``|w|^2 / (2 scale)``, is minimized, for all
        models together.
        """
        n = self.n.clamp(min=1)
        penalty = (1 / (torch.tensor(scales, dtype=torch.float64)[:, None] * n)).ravel()
        weight = (self.observed / n[:, None])[..., None]

        def objective(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z = self.logits(w)
            loss = ((softplus(z) - self._y * z) * weight).sum(dim=1).T.ravel() + penalty * w.square().sum(dim=0) / 2
            pull = self.features.mT @ ((z.sigmoid() - self._y) * weight)  # (n_models, n_directions, n_scales)
            return loss, pull.permute(1, 2, 0).reshape(w.shape) + penalty * w

        def precondition(gradient: torch.Tensor) -> torch.Tensor:
            return self._basis @ ((self._basis.T @ gradient) / (self._curvature.clamp(min=0)[:, None] + penalty))

        start = torch.zeros(len(self._basis), len(penalty), dtype=torch.float64)
        return minimize(objective, precondition, start, tol).weights


def choose_strengths(
    weights: torch.Tensor,
    own: torch.Tensor,
    folds: Iterable[np.ndarray],
    asked: tuple[torch.Tensor, torch.Tensor],
    scored: tuple[torch.Tensor, torch.Tensor],
) -> tuple[float, float]:
    """Return the tau and rho that predict best for models of the pool, each placed by a prior without its own fold.

    Parameters
    ----------
    weights : tensor of shape (width + 1, n_models)
    own : tensor of shape (width + 1, n_own)
    folds : iterable of arrays of int
        Positions of models.
    asked, scored : pairs of tensors
        Questions (n_questions, width + 1) and labels (n_questions, n_models): answers that place the models, and others
        on which the log loss of the placed models is taken.
    """
    losses = torch.zeros(len(TAUS), len(RHOS), dtype=torch.float64)
    for fold in folds:
        rest = np.setdiff1d(np.arange(weights.shape[1]), fold)
        for column, rho in enumerate(RHOS if len(rest) else ()):
            prior = PoolPrior.learn(weights[:, rest], own, 1.0, rho)
            logits = place_model(prior, asked[0], asked[1][:, fold], TAUS).logits(scored[0])
            loss = log_loss(logits, scored[1][:, fold].repeat(1, len(TAUS)))
            losses[:, column] += loss.reshape(len(TAUS), -1).sum(dim=1)
    row, column = divmod(int(losses.argmin()), len(RHOS))
    return TAUS[row], RHOS[column]


def choose_on_pool(factorization: MatrixFactorization, matrix: CorrectnessMatrix) -> tuple[float, float]:
    """Return the tau and rho of `choose_strengths`, with answers of models of a factorization drawn at random.

    Each model of five folds is placed by 64 of its answers and scored on its other answers to up to 1,000 questions.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(matrix.n_questions)
    known = name_positions("model", matrix.model_names, factorization.model_names_)
    weights = np.vstack([factorization.coef_[known].T, factorization.intercept_[known]])
    x, y = with_one(matrix.embeddings[order]), torch.from_numpy(matrix.labels.T[order]).double()
    asked = ask(y, np.arange(len(y)), min(N_CHOICE, len(y) // 2))
    answered = asked != NOT_OBSERVED
    of_someone, others = answered.any(dim=1), y.masked_fill(answered, NOT_OBSERVED)
    parts = (x[of_someone], asked[of_someone]), (x[-_N_SCORED:], others[-_N_SCORED:])
    folds = [fold for fold in np.array_split(rng.permutation(len(known)), _N_FOLDS) if len(fold)]
    return choose_strengths(torch.from_numpy(weights), leading_directions(x), folds, *parts)


def ask(labels: torch.Tensor, order: np.ndarray, n: int) -> torch.Tensor:
    """Keep the first n observed answers of each model.

    Parameters
    ----------
    labels : tensor of shape (n_questions, n_models)
    order : ndarray of shape (n_questions,) or (n_questions, n_models)
        Of the questions; one for all models, or one for each.
    n : int
    """
    places = torch.from_numpy(order).reshape(len(labels), -1).expand(labels.shape)
    ordered = labels.gather(0, places)
    kept = (ordered != NOT_OBSERVED) & ((ordered != NOT_OBSERVED).cumsum(dim=0) <= n)
    return torch.empty_like(labels).scatter_(0, places, torch.where(kept, ordered, NOT_OBSERVED))


def place_beside(
    factorization: MatrixFactorization, embeddings: npt.ArrayLike, labels: np.ndarray, pool: CorrectnessMatrix | None
) -> Placement:
    """Place one new model among those of a factorization, whose strengths are chosen on a pool where there is one.

    Parameters
    ----------
    factorization : MatrixFactorization
    embeddings : ndarray of shape (n_questions, width)
    labels : ndarray of shape (n_questions,)
        Correct (1) or incorrect (0).
    pool : CorrectnessMatrix or None
        Answers of models of the factorization.
    """
    weights = np.vstack([factorization.coef_.T, factorization.intercept_])
    tau, rho = (TAU, RHO) if pool is None else choose_on_pool(factorization, pool)
    questions = with_one(embeddings)
    prior = PoolPrior.learn(torch.from_numpy(weights), leading_directions(questions), tau, rho)
    return place_model(prior, questions, torch.from_numpy(labels)[:, None])


def log_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of the log loss over the observed answers of each model; both (..., n_questions, n_models)."""
    return ((softplus(logits) - labels * logits) * (labels != NOT_OBSERVED)).sum(dim=-2)


def leading_directions(questions: torch.Tensor, n_directions: int = N_OWN) -> torch.Tensor:
    """Return the principal directions of questions, and last the one of the intercept, (width + 1, n_directions + 1).

    They are orthonormal; there are fewer if the questions vary in fewer.

    Parameters
    ----------
    questions : tensor of shape (n_questions, width + 1)
        From `with_one`.
    n_directions : int
    """
    values, basis = torch.linalg.eigh(torch.cov(questions[:, :-1].T, correction=0))
    kept = min(n_directions, int((values > _RANK**2 * values[-1]).sum()))
    return torch.block_diag(basis.flip(1)[:, :kept], torch.ones(1, 1, dtype=torch.float64))


def with_one(embeddings: npt.ArrayLike) -> torch.Tensor:
    """Return question embeddings with a last column of ones, (n_questions, width + 1), float64."""
    x = torch.tensor(np.asarray(embeddings), dtype=torch.float64)
    return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
