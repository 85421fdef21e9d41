"""A prior for the weights of each model, learned from the other models of the pool.

A model with few answers borrows from the others: its weights are w = mean + B z + e, with the mean and the deviations
B = (W - mean) / sqrt(n) of the ridge weights W of n other models, z ~ N(0, tau I), and e ~ N(0, rho s I) for what no
other model shows. The scale s, the mean square of the entries of W - mean, makes rho a number without unit. The more
answers a model has, the less the prior weighs, and the fit goes to the optimum without any penalty.

The other models are those of four of five groups: a prior that has seen the answers of the model itself would be too
sure of them. This is the prior of models that are fitted; a model that is added to a fit gets that of
:class:`embedllm.predictors.placement.PoolPrior`.
"""

from __future__ import annotations

import torch

from embedllm.predictors.exact import Penalty, Problem, Solution

TAU = 0.25
"""Variance of what a model shares with others."""

RHOS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Strengths that are tried; tau and rho together change little that one of them does not."""

_N_GROUPS = 5


def pool_penalty(others: torch.Tensor, n_observed: torch.Tensor, rho: float) -> Penalty:
    """Return minus the logarithm of the prior, for each answer of a model.

    Parameters
    ----------
    others : tensor of shape (width + 1, n_others)
        Weights of other models.
    n_observed : tensor of shape (n_models,)
        Answers of the models that get the prior.
    rho : float
        Variance of what is the model's own.
    """
    mean = others.mean(dim=1, keepdim=True)
    deviations = (others - mean).double() / others.shape[1] ** 0.5  # B        (width + 1, n_others)
    own = rho * deviations.square().sum() / len(deviations)
    if not own > 0:  # one other model, or equal ones: their mean is all that is known
        own = torch.full_like(own, rho)
    # The covariance is tau B B' + own I, with few directions beside the identity.
    directions, size, _ = torch.linalg.svd(deviations, full_matrices=False)
    shared = TAU * size.square()
    precision = -(directions * (shared / (shared + own))) @ directions.T
    precision.diagonal().add_(1)
    precision /= own
    return Penalty(precision.to(others.dtype), mean, 1 / n_observed)


def solve_with_pool(problem: Problem, ridge: torch.Tensor, rho: float, tol: float) -> Solution:
    """Fit every model with the prior that the models of the other groups give.

    Parameters
    ----------
    problem : Problem
    ridge : tensor of shape (width + 1, n_models)
        Weights of all models, fitted one by one.
    rho, tol : float

    Returns
    -------
    Solution
    """
    n_models = ridge.shape[1]
    penalties = []
    for first in range(min(_N_GROUPS, n_models)):
        models = slice(first, None, _N_GROUPS)
        others = torch.ones(n_models, dtype=torch.bool, device=ridge.device)
        others[models] = False
        penalties.append(pool_penalty(ridge[:, others], problem.n_observed[models], rho)._replace(models=models))
    return problem.solve(*penalties, start=ridge, tol=tol)
