"""The strength of the penalty: exact fits along a path of values, compared on questions that were not learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch

from embedllm._support.checks import check_device, check_positive
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors._answers import Answers
from embedllm.predictors.base import check_matrix, check_validation
from embedllm.predictors.coordinates import model_coordinates
from embedllm.predictors.distributed import add_up
from embedllm.predictors.exact import Problem, Solution
from embedllm.predictors.pool_prior import RHOS, solve_with_pool

ALPHAS = (0.0125, 0.018, 0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4)
"""Values that are tried: steps of a factor of the square root of 2, around the authors' 0.05."""

N_FOLDS = 5

Solver = Callable[[Problem, float], Solution]
"""Solves a problem with a strength of the penalty."""


def fit_path(
    matrix: CorrectnessMatrix,
    validation: CorrectnessMatrix,
    alphas: Sequence[float] = ALPHAS,
    dims: Sequence[int] | None = None,
    tol: float = 1e-3,
    device: str = "auto",
) -> pd.DataFrame:
    """Score exact fits for several penalties and dimensions on the validation questions.

    Each alpha is one fit, and each dimension a part of it; the covariance of the questions is computed once.

    Parameters
    ----------
    matrix, validation : CorrectnessMatrix
    alphas : sequence of float
    dims : sequence of int, optional
        By default all that the pool has.
    tol : float
    device : "auto", "cpu" or "cuda"

    Returns
    -------
    DataFrame
        A row for each alpha and dimension. Columns `alpha`, `dim`, `n_iter`, and over the observed validation cells
        `log_loss` (nats) and `accuracy`; NaN if there are none.

    Examples
    --------
    >>> from embedllm import fit_path, load_dataset
    >>> train, val, _ = load_dataset("simulated", scale=0.02).split()
    >>> path = fit_path(train, val, alphas=[0.05, 0.1, 0.2], dims=[4, 112])
    >>> path.shape
    (6, 5)
    """
    check_validation(check_matrix(matrix), validation)
    names, where = sorted(matrix.model_names), torch.device(check_device(device))
    problem, held_out = Problem(Answers(matrix, names, where)), Answers(validation, names, where)
    tried = [check_positive("dim", dim) for dim in dims or [len(names)]]
    rows = []
    for alpha in alphas:
        solution = problem.solve(problem.ridge(alpha), tol=tol)
        coordinates, _ = model_coordinates(problem, solution.weights, max(tried))
        for dim in tried:
            u, t = coordinates.truncated(dim).multiplied_out()
            loss, accuracy = score_answers(u.T.float().to(where), t.float().to(where), held_out)
            rows.append((alpha, dim, solution.n_iter, loss, accuracy))
    return pd.DataFrame(rows, columns=["alpha", "dim", "n_iter", "log_loss", "accuracy"])


def choose_and_solve(
    answers: Answers, validation: Answers | None, alpha: float | str, rho: float | str | None, tol: float
) -> tuple[Problem, Solution, dict[str, float | None], pd.DataFrame]:
    """Fit with the penalty that predicts best, on the validation questions or by cross-validation over the questions.

    The choice walks downhill from the authors' alpha, and then from rho = 1, along the values of `ALPHAS` and `RHOS`.
    Where no rho predicts better than alpha alone, there is no prior.

    Parameters
    ----------
    answers, validation : Answers
    alpha : float or "auto"
        A number takes the place of the choice.
    rho : float, "auto" or None
        Of the prior that the other models give; None leaves it out.
    tol : float

    Returns
    -------
    problem : Problem
    solution : Solution
    chosen : dict
        `alpha`, and `rho`, None without a prior.
    path : DataFrame
        Columns `parameter`, `value`, `log_loss`: what was tried.
    """

    @cache
    def ridge(problem: Problem, alpha: float) -> Solution:
        return problem.solve(problem.ridge(alpha), tol=tol)

    @cache
    def with_pool(problem: Problem, alpha: float, rho: float) -> Solution:
        return solve_with_pool(problem, ridge(problem, alpha).weights, rho, tol)

    problem = Problem(answers)
    tried: list[tuple[str, float, float]] = []
    folds = [(problem, validation)] if validation is not None else []
    if "auto" in (alpha, rho) and not folds:
        folds = list(_folds(answers))

    def losses(parameter: str, grid: Sequence[float], start: float, solve: Solver) -> dict[float, float]:
        found = _walk(lambda value: _mean_loss(folds, lambda problem: solve(problem, value)), grid, start)
        tried.extend((parameter, value, loss) for value, loss in found.items())
        return found

    if alpha == "auto":
        alone = losses("alpha", ALPHAS, 0.05, ridge)
        alpha = min(alone, key=alone.__getitem__)
    strength = float(alpha)
    if rho == "auto":
        beside = losses("rho", RHOS, 1.0, lambda problem, value: with_pool(problem, strength, value))
        rho = min(beside, key=beside.__getitem__)
        if _mean_loss(folds, lambda problem: ridge(problem, strength)) < beside[rho]:
            rho = None
    solution = ridge(problem, strength) if rho is None else with_pool(problem, strength, float(rho))
    path = pd.DataFrame(tried, columns=["parameter", "value", "log_loss"])
    chosen = {"alpha": strength, "rho": None if rho is None else float(rho)}
    return problem, solution, chosen, path.astype({"value": float, "log_loss": float})


def score_answers(u: torch.Tensor, intercept: torch.Tensor, answers: Answers) -> tuple[float, float]:
    """Return the mean log loss (nats) and the accuracy of the logits z = x . u + intercept, as `Answers.score` does."""
    return answers.score(lambda x: torch.addmm(intercept, x, u), u.dtype)


def _folds(answers: Answers) -> Iterator[tuple[Problem, Answers]]:
    """Yield the questions without those of each fold, and those of the fold; groups of questions stay together."""
    fold = (answers.draws(of_groups=True) * N_FOLDS).long()
    for number in range(N_FOLDS):
        rest, part = answers.hide(fold == number), answers.hide(fold != number)
        counts = torch.stack([(each.labels >= 0).sum() for each in (rest, part)])
        add_up([counts])
        if counts.all():
            yield Problem(rest), part


def _mean_loss(folds: list[tuple[Problem, Answers]], solve: Callable[[Problem], Solution]) -> float:
    losses = [score_answers(*problem.linear(solve(problem).weights), held_out)[0] for problem, held_out in folds]
    return float(np.mean(losses)) if losses else float("nan")


def _walk(loss: Callable[[float], float], grid: Sequence[float], start: float) -> dict[float, float]:
    """Evaluate a function from a value of a grid downhill, up to the first rise on each side."""
    place = grid.index(start)
    found = {start: loss(start)}
    for direction in (-1, 1):
        i = place
        while 0 <= i + direction < len(grid):
            i += direction
            found[grid[i]] = loss(grid[i])
            if not found[grid[i]] < found[grid[i - direction]]:
                break
        if i - direction != place:
            break
    return found
