"""The exact fit of the factorization: one logistic regression a model, all models solved together.

With at least as many dimensions as models, the factorization of :mod:`embedllm.predictors.mf` truncates nothing: every
model has a linear function z of its own. To second order in alpha, the noise of its training is a ridge penalty, with s
the logistic function of z::

    E softplus(z + alpha |u| e) = softplus(z) + alpha^2/2 |u|^2 s(1 - s) + O(alpha^4)

What is left is convex, with one optimum and nothing random. For each model m, with n_m observed answers y in {0, 1}::

    minimize over u, c    1/n_m sum_q [softplus(z_q) - y_q z_q] + lambda/2 |u|^2,    z_q = u . (x_q - mean x) + c

with lambda = alpha^2 kappa, kappa the mean over the answers of r_m (1 - r_m) for the share r_m of correct answers, of
which one answer at the pool's share is a part. The models have the questions in common, so one matrix, H = kappa Cov(x)
+ lambda I, is close to the curvature of all. L-BFGS in this metric takes a few passes over the questions; each is two
products with all models at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from torch.nn.functional import softplus

from embedllm.predictors._answers import Answers
from embedllm.predictors.distributed import add_up

_MAX_ITER = 200
_PAIRS = 8  # curvature pairs that L-BFGS keeps
_MAX_HALVINGS = 30
_ROUNDING = 1e-7  # of a sum of losses, relative: a smaller rise is none
_SAMPLE = 8192  # questions in the covariance: enough for a metric
_FLAT = 1e-6  # smallest curvature of a direction, against the mean over directions


class Solution(NamedTuple):
    """Where a minimization ended.

    Attributes
    ----------
    weights : tensor of shape (width + 1, n_models)
        u_m, and in the last row the logit c_m of a model at the mean question, which is its mean logit.
    objective : tensor of shape (n_iter + 1, n_models), float64
        At the start and after each iteration.
    gradient : list of float
        The largest norm over the models of the gradient, likewise.
    """

    weights: torch.Tensor
    objective: torch.Tensor
    gradient: list[float]

    @property
    def n_iter(self) -> int:
        """Number of iterations."""
        return len(self.gradient) - 1


class Penalty(NamedTuple):
    """A quadratic penalty of the weights w of some models, weight / 2 (w - mean)' precision (w - mean).

    Parameters
    ----------
    precision : tensor of shape (width + 1, width + 1)
    mean : tensor of shape (width + 1, 1)
    weight : tensor of shape (n_models,)
    models : slice
        Which of the pool's.
    """

    precision: torch.Tensor
    mean: torch.Tensor
    weight: torch.Tensor
    models: slice = slice(None)

    def __call__(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the penalty of each model (n_models,), in float64, and its gradient (width + 1, n_models)."""
        distance = weights - self.mean
        gradient = self.weight * (self.precision @ distance)
        return (distance * gradient).sum(dim=0, dtype=torch.float64) / 2, gradient


class Problem:
    """The observed answers of all models, ready to be solved for one penalty or another.

    Parameters
    ----------
    answers : Answers
        What this process holds of the questions; sums are over all processes of the group.
    dtype : torch.dtype

    Attributes
    ----------
    mean : tensor of shape (width,)
        Of the question embeddings.
    covariance : tensor of shape (width, width)
        Of about `_SAMPLE` of them, or of all.
    n_observed : tensor of shape (n_models,)
    curvature : float
        kappa.
    start : tensor of shape (width + 1, n_models)
        Every question has the probability r_m. One answer at the pool's share is added to those of a model, so that
        no logit is infinite and a model without an answer has the pool's share.
    """

    def __init__(self, answers: Answers, dtype: torch.dtype = torch.float32) -> None:
        self.answers, self.dtype = answers, dtype
        observed, n_correct = (answers.labels >= 0).sum(dim=0), (answers.labels == 1).sum(dim=0)
        embedding_sum = sum(x.sum(dim=0).double() for x, _ in answers.blocks())
        assert isinstance(embedding_sum, torch.Tensor)
        n_questions = torch.tensor(float(len(answers)), dtype=torch.float64, device=answers.device)
        sums = [observed.double(), n_correct.double(), embedding_sum, n_questions]
        add_up(sums)
        self.mean, self.n_questions = (sums[2] / sums[3]).to(dtype), int(sums[3])
        pool = sums[1].sum() / sums[0].sum()
        share = (sums[1] + pool) / (sums[0] + 1)
        self.n_observed = sums[0].clamp(min=1).to(dtype)
        self.curvature = max(float((share * (1 - share) * sums[0]).sum() / sums[0].sum()), _FLAT)
        self.start = torch.zeros(answers.width + 1, len(share), dtype=dtype, device=answers.device)
        self.start[-1] = torch.logit(share, eps=1e-6).to(dtype)
        self.covariance = self._covariance()

    def _covariance(self) -> torch.Tensor:
        rows = (self.answers.draws() < _SAMPLE / self.n_questions).nonzero()[:, 0]
        squares = torch.zeros(len(self.mean), len(self.mean), dtype=self.dtype, device=self.mean.device)
        for part in rows.split(_SAMPLE // 4):
            sample = self.answers.block(part)[0].to(self.dtype) - self.mean
            squares += sample.T @ sample
        sums = [squares, torch.tensor(float(len(rows)), dtype=self.dtype, device=squares.device)]
        add_up(sums)
        return sums[0] / sums[1]

    def ridge(self, alpha: float) -> Penalty:
        """Return the penalty that noise of standard deviation alpha is: lambda on u, nothing on c."""
        diagonal = torch.ones(len(self.start), dtype=self.dtype, device=self.start.device)
        diagonal[-1] = 0
        everyone = torch.full_like(self.n_observed, alpha**2 * self.curvature)
        return Penalty(diagonal.diag(), torch.zeros_like(self.start[:, :1]), everyone)

    def solve(self, *penalties: Penalty, start: torch.Tensor | None = None, tol: float = 1e-3) -> Solution:
        """Minimize the penalized loss of all models.

        Parameters
        ----------
        *penalties : Penalty
            Each model has one.
        start : tensor of shape (width + 1, n_models), optional
        tol : float
            Largest norm of a model's gradient at the end.

        Warns
        -----
        ConvergenceWarning
            If it is not reached in `_MAX_ITER` iterations, or at the precision of the numbers.
        """
        factors = [torch.linalg.cholesky(self._metric(penalty)) for penalty in penalties]

        def precondition(gradient: torch.Tensor) -> torch.Tensor:
            result = torch.empty_like(gradient)
            for penalty, factor in zip(penalties, factors, strict=True):
                result[:, penalty.models] = torch.cholesky_solve(gradient[:, penalty.models], factor)
            return result

        start = self.start if start is None else start
        return minimize(lambda weights: self.objective(weights, *penalties), precondition, start, tol)

    def _metric(self, penalty: Penalty) -> torch.Tensor:
        metric = torch.block_diag(self.covariance, torch.ones_like(self.covariance[:1, :1])) * self.curvature
        metric += penalty.weight.median() * penalty.precision
        metric.diagonal().add_(_FLAT * metric.diagonal().mean())
        return metric

    def objective(self, weights: torch.Tensor, *penalties: Penalty) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the penalized mean loss of each model (n_models,), float64, and its gradient (width + 1, n_models)."""
        u, intercept = self.linear(weights)
        loss = torch.zeros(len(intercept), dtype=torch.float64, device=u.device)
        gradient = torch.zeros_like(weights)
        for x, y in self.answers.blocks(self.dtype):
            z = torch.addmm(intercept, x, u)  # (n_rows, n_models)
            observed = y >= 0
            loss += ((softplus(z) - y * z) * observed).sum(dim=0, dtype=torch.float64)
            residual = (z.sigmoid() - y) * observed
            gradient[:-1] += x.T @ residual
            gradient[-1] += residual.sum(dim=0)
        add_up([loss, gradient])
        gradient[:-1] -= torch.outer(self.mean, gradient[-1])
        loss, gradient = loss / self.n_observed, gradient / self.n_observed
        for penalty in penalties:
            value, pull = penalty(weights[:, penalty.models])
            loss[penalty.models] += value
            gradient[:, penalty.models] += pull
        return loss, gradient

    def linear(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u (width, n_models) and the logits at the question 0 (n_models,), so that z = x . u + the latter."""
        return weights[:-1], weights[-1] - self.mean @ weights[:-1]


def minimize(
    objective: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    precondition: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    tol: float,
) -> Solution:
    """Minimize a function of each column of a matrix by L-BFGS, all columns together.

    A step of a column is halved until its function does not rise. A pair of a step and its change of gradient is used
    for the columns where it shows an upward curvature.

    Parameters
    ----------
    objective : callable
        Takes a tensor of shape (n, n_columns) and returns the functions (n_columns,), in float64, and their gradients.
    precondition : callable
        Takes gradients and returns them times an approximate inverse of the second derivatives.
    start : tensor of shape (n, n_columns)
    tol : float
        Largest norm of a gradient at the end.
    """
    x, (value, gradient) = start, objective(start)
    values, norms = [value], [float(gradient.norm(dim=0).max())]
    pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    while norms[-1] > tol and len(norms) <= _MAX_ITER:
        step = -_two_loops(gradient, pairs, precondition)
        new_x, (new_value, new_gradient) = x + step, objective(x + step)
        halvings = 0
        while (rises := new_value > value + _ROUNDING * value.abs()).any():
            halvings += 1
            # A column that still rises stays where it is: as its pairs are replaced, its direction is another.
            step = torch.where(rises, step / 2 if halvings < _MAX_HALVINGS else 0, step)
            new_x, (new_value, new_gradient) = x + step, objective(x + step)
        change = new_gradient - gradient
        product, size = (step * change).sum(dim=0), (change * change).sum(dim=0)
        usable = product > 1e-10 * size
        pairs = [*pairs, (step, change, torch.where(usable, 1 / product, 0))][-_PAIRS:]
        x, value, gradient = new_x, new_value, new_gradient
        values.append(value)
        norms.append(float(gradient.norm(dim=0).max()))
    if not norms[-1] <= tol:
        warnings.warn(
            f"after {len(norms) - 1} iterations the largest gradient is {norms[-1]:.1e}, above tol = {tol:.1e}: "
            "a larger alpha or a larger tol converges sooner",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Solution(x, torch.stack(values), norms)


def _two_loops(
    gradient: torch.Tensor,
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    precondition: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Multiply gradients by the inverse second derivatives that the pairs describe (the two-loop recursion)."""
    direction, seen = gradient.clone(), []
    for step, change, inverse in reversed(list(pairs)):
        share = inverse * (step * direction).sum(dim=0)
        direction -= share * change
        seen.append((step, change, inverse, share))
    direction = precondition(direction)
    for step, change, inverse, share in reversed(seen):
        direction += step * (share - inverse * (change * direction).sum(dim=0))
    return direction
