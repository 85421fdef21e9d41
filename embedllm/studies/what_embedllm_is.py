"""What the factorization is: as many logistic regressions as models, solved exactly, and what SGD makes of them.

The argument has four steps, each with a test: enough dimensions truncate nothing; the noise of training is a ridge
penalty to second order; the penalized problem has one optimum; the dimensions of an embedding are the singular
directions of the logit differences between models.

References
----------
EmbedLLM (arXiv 2410.02223), section 4, for the factorization; the four steps are this companion's. *Inference for the
Generalization Error* (Nadeau and Bengio, Machine Learning 52, 2003), section 4, for the variance over random splits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist
from scipy.special import expit
from scipy.stats import t as student

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors._answers import Answers
from embedllm.predictors.exact import Problem
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.path import fit_path
from embedllm.predictors.scores import mean_scores
from embedllm.protocol.reported_values import ReportedValue

SGD = "SGD"

TEST_PER_TRAIN = 0.1 / 0.8
"""Test questions of a split for each of its training questions, in the recorded comparison."""


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


def noise_penalty_table(mf: MatrixFactorization, matrix: CorrectnessMatrix, alphas: Sequence[float]) -> pd.DataFrame:
    """Compare what noise on the question embeddings adds to the loss with the ridge penalty.

    The noise moves the logit of model m by ``alpha |u_m| e`` with e ~ N(0, 1), so the expected loss of a cell is an
    integral over one number, computed by Gauss-Hermite quadrature.

    Parameters
    ----------
    mf : MatrixFactorization
        Fitted.
    matrix : CorrectnessMatrix
    alphas : sequence of float

    Returns
    -------
    DataFrame indexed by `alpha`
        `data`; `noise`: expected rise of the mean loss over the observed cells (nats); `ridge`: the second-order term
        ``alpha^2 / 2 |u|^2 s(1 - s)``.
    """
    logits, positions = _logits(mf, matrix)
    sizes = np.linalg.norm(mf.coef_[positions].astype(float), axis=1)
    z, size = logits[matrix.observed], np.broadcast_to(sizes[:, None], logits.shape)[matrix.observed]
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    still, probability, rows = np.logaddexp(0, z), expit(z), {}
    for alpha in alphas:
        # The label's part of the loss is linear in the logit: its expectation does not rise.
        moved = [np.logaddexp(0, z + alpha * size * node).mean() for node in nodes]
        ridge = (alpha**2 / 2 * size**2 * probability * (1 - probability)).mean()
        noise = np.average(moved, weights=weights) - still.mean()
        rows[alpha] = {"data": matrix.source, "noise": float(noise), "ridge": float(ridge)}
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
    problem = Problem(Answers(train, sorted(train.model_names), torch.device("cpu")))
    vectors = torch.from_numpy(np.array(test.embeddings))

    def predict(weights: torch.Tensor) -> torch.Tensor:
        u, intercept = problem.linear(weights)
        return torch.addmm(intercept, vectors, u).sigmoid()

    reference = predict(problem.solve(problem.ridge(alpha), tol=tol).weights)
    generator, rows = torch.Generator().manual_seed(seed), {}
    for number in range(1, n_starts + 1):
        start = problem.start + torch.randn(problem.start.shape, generator=generator, dtype=problem.dtype)
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


def paired_differences(scores: pd.DataFrame, tuned: bool = True) -> pd.DataFrame:
    """Compare each solver with SGD on the same splits, with a 95 % interval by Student's corrected t over the splits.

    The splits overlap in their training questions, so that their differences are correlated. With a correlation of
    ``n_test / (n_train + n_test)``, as Nadeau and Bengio (2003) assume, the variance of the mean over n splits is
    ``s^2 (1 / n + n_test / n_train)``, where ``s^2 / n`` would be too small.

    Parameters
    ----------
    scores : DataFrame
        `scores` of what ``tools/record_solvers.py`` recorded, of one data set or several.
    tuned : bool
        Whether to take the fits at a chosen alpha.

    Returns
    -------
    DataFrame indexed by `data`, `solver`, `dim`
        `mean` log loss, that of SGD as `sgd`, the mean `difference`, `low` and `high` (NaN for fewer than two
        splits), the number of `splits` and the `verdict`: "better than SGD", "worse than SGD" or "not clear", where the
        interval includes 0.
    """
    chosen = scores[scores["tuned"] == tuned]
    wide = chosen.pivot(index=["data", "dim", "seed"], columns="solver", values="log_loss")
    both = wide.drop(columns=SGD).stack().rename("mean").reset_index("solver")
    both["sgd"] = wide[SGD]
    both = both.dropna().assign(difference=both["mean"] - both["sgd"])
    groups = both.groupby(["data", "solver", "dim"], sort=False)
    table, n = groups[["mean", "sgd", "difference"]].mean(), groups.size()
    margin = student.ppf(0.975, n - 1) * groups["difference"].std() * (1 / n + TEST_PER_TRAIN) ** 0.5
    table = table.assign(low=table["difference"] - margin, high=table["difference"] + margin, splits=n)
    words = ["better than SGD", "worse than SGD"]
    return table.assign(verdict=np.select([table["high"] < 0, table["low"] > 0], words, "not clear"))


def recorded_in_words(scores: pd.DataFrame, stability: pd.DataFrame) -> dict[str, str]:
    """Say what the recorded comparison found at the largest dim.

    Parameters
    ----------
    scores, stability : DataFrame
        Of `embedllm.protocol.recorded.load_recorded_comparison`.

    Returns
    -------
    dict of str to str
        At an alpha of 0.05, `seconds` of a fit and `loss`, the difference to SGD with its interval; `seeds`, the share
        of forecasts that another seed changes, and `samples`, that of routes that another bootstrap sample of the
        training questions changes. Each has a part for each data set.
    """
    largest = scores[(scores["dim"] == scores["dim"].max()) & ~scores["tuned"]]
    seconds = largest.groupby(["data", "solver"])["seconds"].mean().unstack()
    changed = {
        what: 100 * stability[stability["between"] == between].pivot(index="data", columns="solver", values=what)
        for what, between in (("forecasts", "seeds"), ("routes", "bootstrap samples"))
    }
    losses = paired_differences(scores, tuned=False).xs(("exact", scores["dim"].max()), level=["solver", "dim"])
    return {
        "seconds": "; ".join(f"{row.Index} {row.exact:.1f} s (SGD {row.SGD:.0f} s)" for row in seconds.itertuples()),
        "loss": "; ".join(
            f"{row.Index} {row.difference:+.4f} ({row.low:+.4f} to {row.high:+.4f}), {row.verdict}"
            for row in losses.itertuples()
        ),
        **{
            name: "; ".join(
                f"{row.Index} {row.exact:.1f} % (SGD {row.SGD:.1f} %)" for row in changed[what].itertuples()
            )
            for name, what in (("seeds", "forecasts"), ("samples", "routes"))
        },
    }


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

    The time of a fit is measured as a whole; all epochs of SGD count as equally long.

    Returns
    -------
    DataFrame
        Columns `data`, `fit` (a name of `exact`, or "SGD"), `seconds`, `val_loss` (nats per answer).
    """
    fitted, seconds = fit_timed(sgd, train, val)
    losses = fitted.history_["val_loss"].to_numpy()
    table = pd.DataFrame({"fit": SGD, "seconds": np.linspace(0, seconds, len(losses) + 1)[1:], "val_loss": losses})
    for name, estimator in exact.items():
        mf, seconds = fit_timed(estimator, train, val)
        path = fit_path(train, val, alphas=[mf.alpha_], dims=[mf.dim])
        table.loc[len(table)] = name, seconds, path["log_loss"].iloc[0]
    return table.assign(data=train.source)[["data", "fit", "seconds", "val_loss"]]


def fit_timed(
    mf: MatrixFactorization, train: CorrectnessMatrix, val: CorrectnessMatrix
) -> tuple[MatrixFactorization, float]:
    """Fit a factorization, and return it with the seconds that the fit took."""
    start = time.perf_counter()
    return mf.fit(train, validation=val), time.perf_counter() - start


def _logits(mf: MatrixFactorization, matrix: CorrectnessMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n_models, n_questions), float64, and the positions of the models in the fit."""
    positions = mf._model_positions(matrix.model_names)
    questions = np.asarray(matrix.embeddings, dtype=float)
    return mf.coef_[positions].astype(float) @ questions.T + mf.intercept_[positions, None], positions
