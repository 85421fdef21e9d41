"""What the factorization is: as many logistic regressions as models, solved exactly, and what SGD makes of them.

The argument has four steps, each with a test: enough dimensions truncate nothing; the noise of training is a ridge
penalty to second order; the penalized problem has one optimum; the dimensions of an embedding are the singular
directions of the logit differences between models.

References
----------
EmbedLLM (arXiv 2410.02223), section 4, for the factorization; the four steps are this companion's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist
from scipy.special import expit
from scipy.stats import spearmanr
from scipy.stats import t as student
from sklearn.base import clone

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors._answers import Answers
from embedllm.predictors.base import THRESHOLD
from embedllm.predictors.exact import Problem
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.path import fit_path
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.scores import mean_scores

SGD = "SGD"

_CPU = torch.device("cpu")


def truncation_table(mf: MatrixFactorization, test: CorrectnessMatrix, dims: Sequence[int]) -> pd.DataFrame:
    """Compare the first dimensions of an exact fit with all of them.

    Parameters
    ----------
    mf : MatrixFactorization
        Fitted, with at least as many dimensions as models.
    test : CorrectnessMatrix
    dims : sequence of int

    Returns
    -------
    DataFrame indexed by `dim`
        `largest_difference` of a probability to that of all dimensions, `explained` (share of the squared logit
        differences), `log_loss` (nats) and `accuracy` on the observed test cells.
    """
    whole, rows = mf.predict_matrix(test), {}
    for dim in dims:
        probability = mf.truncated(dim).predict_matrix(test)
        difference = float(np.abs(probability - whole).max())
        rows[dim] = {"largest_difference": difference, "explained": float(mf.explained_[:dim].sum())}
        rows[dim] |= mean_scores(probability, test)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("dim")


def noise_penalty_table(
    mf: MatrixFactorization, matrix: CorrectnessMatrix, alphas: Sequence[float], n_draws: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Compare what noise on the question embeddings adds to the loss with the ridge penalty.

    The noise moves the logit of model m by ``alpha |u_m| e`` with e ~ N(0, 1), so one number is drawn for each cell.

    Parameters
    ----------
    mf : MatrixFactorization
        Fitted.
    matrix : CorrectnessMatrix
    alphas : sequence of float
    n_draws : int
        Draws of the noise, in pairs of opposite sign.
    seed : int

    Returns
    -------
    DataFrame indexed by `alpha`
        `data`; `noise`: rise of the mean loss over the observed cells, by drawing (nats); `ridge`: the second-order
        term ``alpha^2 / 2 |u|^2 s(1 - s)``.
    """
    logits, positions = _logits(mf, matrix)
    observed, size = matrix.observed, np.linalg.norm(mf.coef_[positions].astype(float), axis=1)[:, None]
    rng, rows = np.random.default_rng(seed), {}
    probability = expit(logits)
    for alpha in alphas:
        rises = []
        for _ in range(-(-n_draws // 2)):
            moved = alpha * size * rng.standard_normal(logits.shape)
            # Averaged over both signs: the label's part, linear in the logit, cancels.
            both = np.logaddexp(0, logits + moved) + np.logaddexp(0, logits - moved)
            rises.append((both / 2 - np.logaddexp(0, logits))[observed].mean())
        ridge = (alpha**2 / 2 * size**2 * probability * (1 - probability))[observed].mean()
        rows[alpha] = {"data": matrix.source, "noise": float(np.mean(rises)), "ridge": float(ridge)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("alpha")


def optimum_from_random_starts(
    train: CorrectnessMatrix, test: CorrectnessMatrix, alpha: float, tol: float, n_starts: int = 3, seed: int = 0
) -> pd.DataFrame:
    """Solve the penalized problem from random weights and compare the predictions with those from the usual start.

    Returns
    -------
    DataFrame indexed by `start`
        `at_start` and `at_end`: largest difference of a predicted probability on the test questions.
    """
    problem = Problem(Answers(train, sorted(train.model_names), _CPU))
    vectors = torch.from_numpy(np.array(test.embeddings))

    def predict(weights: torch.Tensor) -> torch.Tensor:
        u, intercept = problem.linear(weights)
        return torch.addmm(intercept, vectors, u).sigmoid()

    reference = predict(problem.solve(problem.ridge(alpha), tol=tol).weights)
    generator, rows = torch.Generator().manual_seed(seed), {}
    for number in range(1, n_starts + 1):
        start = problem.start + torch.randn(problem.start.shape, generator=generator)
        solved = problem.solve(problem.ridge(alpha), start=start, tol=tol).weights
        rows[number] = {
            "at_start": float((predict(start) - reference).abs().max()),
            "at_end": float((predict(solved) - reference).abs().max()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("start")


def distance_table(mf: MatrixFactorization, train: CorrectnessMatrix) -> pd.DataFrame:
    """Return, for each pair of models, ``|p_m - p_n|`` and the root mean square difference of their logits.

    Returns
    -------
    DataFrame
        Columns `data`, `embedding` and `logits`, a row for each pair.
    """
    logits, positions = _logits(mf, train)
    rms = pdist(logits) / np.sqrt(logits.shape[1])
    embeddings = mf.model_embeddings_[positions].astype(float)
    return pd.DataFrame({"data": train.source, "embedding": pdist(embeddings), "logits": rms})


def paired_differences(scores: pd.DataFrame, tuned: bool = True, metric: str = "log_loss") -> pd.DataFrame:
    """Compare each solver with SGD on the same splits, with a 95 % interval by Student's t over the splits.

    The splits overlap in their training questions, so the interval speaks of these data, and not of new ones.

    Parameters
    ----------
    scores : DataFrame
        `scores` of what ``tools/record_solvers.py`` recorded, of one data set or several.
    tuned : bool
        Whether to take the fits at a chosen alpha.
    metric : "log_loss" or "accuracy"

    Returns
    -------
    DataFrame indexed by `data`, `solver`, `dim`
        `mean` of the metric, that of SGD as `sgd`, the mean `difference`, `low` and `high` (NaN for fewer than two
        splits), the number of `splits` and the `verdict`: "better than SGD", "worse than SGD" or "not clear", where the
        interval includes 0.
    """
    chosen = scores[scores["tuned"] == tuned]
    wide = chosen.pivot(index=["data", "dim", "seed"], columns="solver", values=metric)
    both = wide.drop(columns=SGD).stack().rename("mean").reset_index("solver")
    both["sgd"] = wide[SGD]
    both = both.dropna().assign(difference=both["mean"] - both["sgd"])
    groups = both.groupby(["data", "solver", "dim"], sort=False)
    table, n = groups[["mean", "sgd", "difference"]].mean(), groups.size()
    margin = student.ppf(0.975, n - 1) * groups["difference"].sem()
    table = table.assign(low=table["difference"] - margin, high=table["difference"] + margin, splits=n)
    sign = 1 if metric == "accuracy" else -1
    better, worse = (table[["low", "high"]].mul(each * sign).min(axis=1, skipna=False) > 0 for each in (1, -1))
    table["verdict"] = np.select([better, worse], ["better than SGD", "worse than SGD"], "not clear")
    return table


def stability(
    matrix: CorrectnessMatrix, estimators: Mapping[str, MatrixFactorization], seed: int = 0, n_fits: int = 3
) -> pd.DataFrame:
    """Count the forecasts and routes that differ between two fits: of two seeds, and of two bootstrap samples.

    A bootstrap sample draws the training questions with replacement. The test questions are the same throughout.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    estimators : mapping of str to MatrixFactorization
    seed : int
    n_fits : int
        Fits of each kind; all pairs of them are compared.

    Returns
    -------
    DataFrame
        A row for each solver and kind. Columns `data`, `solver`, `between` ("seeds" or "bootstrap samples"),
        `forecasts` and `routes` (mean share that differs), `distances` (mean Spearman correlation of the distances
        between the model embeddings).
    """
    train, _, test = matrix.split(random_state=seed)
    rng = np.random.default_rng(seed)
    samples = [_bootstrap(train, rng) for _ in range(n_fits)]
    rows = []
    for solver, estimator in estimators.items():
        for between, parts in (("seeds", [train] * n_fits), ("bootstrap samples", samples)):
            found = []
            for number, part in enumerate(parts):
                random_state = seed + number if between == "seeds" else seed
                fitted = clone(estimator).set_params(random_state=random_state).fit(part)
                found.append((fitted.predict_matrix(test), pdist(fitted.model_embeddings_.astype(float))))
            changes = [_changes(one, other) for one, other in combinations(found, 2)]
            mean = pd.DataFrame(changes, columns=["forecasts", "routes", "distances"]).mean()
            rows.append({"data": matrix.source, "solver": solver, "between": between, **mean})
    return pd.DataFrame(rows)


def solver_values(noise: pd.DataFrame, starts: pd.DataFrame, distances: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    noise, starts, distances : DataFrame
        From `noise_penalty_table`, `optimum_from_random_starts` and `distance_table`.
    """
    ratio = noise["noise"] / noise["ridge"]
    error = (distances["embedding"] - distances["logits"]).abs().max()
    values = {
        "noise_ratio": ("Rise of the loss by noise, per second-order term, largest alpha", ratio.iloc[-1]),
        "start_difference": ("Largest difference of a probability between starts", starts["at_end"].max()),
        "distance_error": ("Largest difference between |p_m - p_n| and the RMS logit difference", error),
    }
    return [ReportedValue(key, what, [value]) for key, (what, value) in values.items()]


def loss_against_time(
    train: CorrectnessMatrix,
    val: CorrectnessMatrix,
    sgd: MatrixFactorization,
    exact: Mapping[str, MatrixFactorization],
) -> pd.DataFrame:
    """Fit SGD and exact solvers and note the validation loss and the time, for SGD after each epoch.

    Returns
    -------
    DataFrame
        Columns `data`, `fit` (a name of `exact`, or "SGD"), `seconds`, `val_loss` (nats per answer).
    """
    fitted, seconds = fit_timed(sgd, train, val)
    epochs = np.arange(1, len(fitted.history_) + 1)
    rows = pd.DataFrame(
        {"fit": SGD, "seconds": seconds * epochs / len(epochs), "val_loss": fitted.history_["val_loss"]}
    )
    points = []
    for name, estimator in exact.items():
        fit = fit_timed(estimator, train, val)
        path = fit_path(train, val, alphas=[fit.mf.alpha_], dims=[fit.mf.dim])
        points.append({"fit": name, "seconds": fit.seconds, "val_loss": path["log_loss"].iloc[0]})
    table = pd.concat([rows, pd.DataFrame(points)], ignore_index=True)
    return table.assign(data=train.source)[["data", "fit", "seconds", "val_loss"]]


class Fit(NamedTuple):
    """A fitted factorization and the seconds that the fit took."""

    mf: MatrixFactorization
    seconds: float


def fit_timed(mf: MatrixFactorization, train: CorrectnessMatrix, val: CorrectnessMatrix) -> Fit:
    """Fit a factorization in place and measure the time."""
    start = time.perf_counter()
    return Fit(mf.fit(train, validation=val), time.perf_counter() - start)


def _logits(mf: MatrixFactorization, matrix: CorrectnessMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n_models, n_questions), float64, and the positions of the models in the fit."""
    positions = mf._model_positions(matrix.model_names)
    questions = np.asarray(matrix.embeddings, dtype=float)
    return mf.coef_[positions].astype(float) @ questions.T + mf.intercept_[positions, None], positions


def _bootstrap(matrix: CorrectnessMatrix, rng: np.random.Generator) -> CorrectnessMatrix:
    """Draw the questions with replacement; a question that is drawn again has a number after its id."""
    drawn = np.sort(rng.integers(0, matrix.n_questions, matrix.n_questions))
    times = pd.Series(drawn).groupby(drawn).cumcount()
    ids = [f"{name} #{number}" for name, number in zip(matrix.question_ids[drawn], times, strict=True)]
    questions = matrix.questions.iloc[drawn].set_axis(ids)
    labels = pd.DataFrame(matrix.labels[:, drawn], matrix.model_names, ids)
    return CorrectnessMatrix(labels, questions, matrix.embeddings[drawn], models=matrix.models, source=matrix.source)


def _changes(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float]:
    """Shares of forecasts and of routes that differ, and the correlation of the distances."""
    (p, distances), (q, other_distances) = one, other
    forecasts = float(((p > THRESHOLD) != (q > THRESHOLD)).mean())
    routes = float((p.argmax(axis=0) != q.argmax(axis=0)).mean())
    return forecasts, routes, float(spearmanr(distances, other_distances).statistic)
