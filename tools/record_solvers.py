"""Fit SGD and the exact solver on several pools and record the comparison in data/solvers.json.

Run from the root: ``python tools/record_solvers.py zeroeval mmlu-pro``, each a named data set. What the file
holds of other pools stays. A pool takes 5 to 40 minutes on a core.
"""

import datetime
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.base import clone

from embedllm import CorrectnessMatrix, MatrixFactorization, load_dataset
from embedllm._support.files import check_writable, replacing
from embedllm.predictors._answers import Answers
from embedllm.predictors.exact import Problem
from embedllm.predictors.scores import THRESHOLD, mean_scores
from embedllm.protocol.runs import split_runs
from embedllm.studies.what_embedllm_is import SGD, fit_timed

TARGET = Path("data/solvers.json")
EXACT, POOL = "exact", "exact, pool prior"
ALPHAS = (0.0, 0.025, 0.05, 0.1)  # noise of SGD that is tried on the validation questions
AUTHORS = 0.05


class Fit(NamedTuple):
    """A fitted factorization and the seconds that the fit took."""

    mf: MatrixFactorization
    seconds: float


def compare_solvers(
    matrix: CorrectnessMatrix,
    sgd: MatrixFactorization,
    dims: Sequence[int] = (4, 8, 16, 232),
    seed: int = 0,
    n_seeds: int = 5,
) -> pd.DataFrame:
    """Fit SGD, the exact solver and the exact solver with the pool prior on the same divisions of the questions.

    Each is fitted at the authors' alpha, 0.05, and at an alpha chosen on the validation questions: SGD's among
    `ALPHAS`, with the largest dim. One exact fit serves all dims.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    sgd : MatrixFactorization
        With solver "sgd"; brings the preset.
    dims : sequence of int
        The last one is the largest.
    seed, n_seeds : int

    Returns
    -------
    DataFrame
        Columns `data`, `seed`, `solver`, `dim`, `tuned` (whether alpha was chosen), `alpha`, `seconds` of the fit,
        `objective` (training loss and ridge penalty at alpha 0.05, mean over models), and on the test questions
        `log_loss` (nats) and `accuracy`.
    """
    rows = []
    for run_seed, (train, val, test) in split_runs(matrix, seed, n_seeds):
        problem = Problem(Answers(train, sorted(train.model_names), torch.device("cpu")))
        for solver, tuned, fit in fits_of_run(train, val, clone(sgd).set_params(random_state=run_seed), dims):
            row = {"seed": run_seed, "solver": solver, "dim": fit.mf.dim, "tuned": tuned, "alpha": fit.mf.alpha_}
            row |= {"seconds": fit.seconds, "objective": objective(problem, fit.mf, AUTHORS)}
            rows.append(row | mean_scores(fit.mf.predict_matrix(test), test))
    return pd.DataFrame(rows).assign(data=matrix.source)


def fits_of_run(
    train: CorrectnessMatrix, val: CorrectnessMatrix, sgd: MatrixFactorization, dims: Sequence[int]
) -> Iterator[tuple[str, bool, Fit]]:
    """Yield solver, whether alpha was tuned, and fit, for each dim."""
    whole = {alpha: Fit(*fit_timed(clone(sgd).set_params(alpha=alpha, dim=dims[-1]), train, val)) for alpha in ALPHAS}
    best = min(ALPHAS, key=lambda alpha: whole[alpha].mf.history_["val_loss"].iloc[-1])
    for alpha in {AUTHORS, best}:
        fits = [Fit(*fit_timed(clone(sgd).set_params(alpha=alpha, dim=dim), train, val)) for dim in dims[:-1]]
        for fit in (*fits, whole[alpha]):
            yield from ((SGD, tuned, fit) for tuned, chosen in ((False, AUTHORS), (True, best)) if chosen == alpha)
    for solver, tuned, settings in (
        (EXACT, False, {"alpha": AUTHORS}),
        (EXACT, True, {}),
        (POOL, True, {"prior": "pool"}),
    ):
        exact = Fit(*fit_timed(MatrixFactorization(dim=dims[-1], device="cpu").set_params(**settings), train, val))
        for dim in dims:
            yield solver, tuned, Fit(exact.mf.truncated(dim), exact.seconds)


def objective(problem: Problem, mf: MatrixFactorization, alpha: float) -> float:
    """Training loss and ridge penalty of a fit, mean over the models."""
    order = mf._model_positions(problem.answers.model_names)
    u, t = torch.from_numpy(mf.coef_[order]).T, torch.from_numpy(mf.intercept_[order])
    return float(problem.objective(torch.cat([u, (t + problem.mean @ u)[None]]), problem.ridge(alpha))[0].mean())


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
    samples = [bootstrap(train, rng) for _ in range(n_fits)]
    rows = []
    for solver, estimator in estimators.items():
        for between, parts in (("seeds", [train] * n_fits), ("bootstrap samples", samples)):
            found = []
            for number, part in enumerate(parts):
                random_state = seed + number if between == "seeds" else seed
                fitted = clone(estimator).set_params(random_state=random_state).fit(part)
                found.append((fitted.predict_matrix(test), pdist(fitted.model_embeddings_.astype(float))))
            pairs = [changes(one, other) for one, other in combinations(found, 2)]
            mean = pd.DataFrame(pairs, columns=["forecasts", "routes", "distances"]).mean()
            rows.append({"data": matrix.source, "solver": solver, "between": between, **mean})
    return pd.DataFrame(rows)


def bootstrap(matrix: CorrectnessMatrix, rng: np.random.Generator) -> CorrectnessMatrix:
    """Draw the questions with replacement; a question that is drawn again has a number after its id."""
    drawn = np.sort(rng.integers(0, matrix.n_questions, matrix.n_questions))
    times = pd.Series(drawn).groupby(drawn).cumcount()
    ids = [f"{name} #{number}" for name, number in zip(matrix.question_ids[drawn], times, strict=True)]
    questions = matrix.questions.iloc[drawn].set_axis(ids)
    labels = pd.DataFrame(matrix.labels[:, drawn], matrix.model_names, ids)
    return CorrectnessMatrix(labels, questions, matrix.embeddings[drawn], models=matrix.models, source=matrix.source)


def changes(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float]:
    """Shares of forecasts and of routes that differ, and the correlation of the distances."""
    (p, distances), (q, other_distances) = one, other
    forecasts = float(((p > THRESHOLD) != (q > THRESHOLD)).mean())
    routes = float((p.argmax(axis=0) != q.argmax(axis=0)).mean())
    return forecasts, routes, float(spearmanr(distances, other_distances).statistic)


def record(pool: str) -> dict[str, object]:
    matrix = load_dataset(pool)
    sgd = MatrixFactorization(solver="sgd", device="cpu")
    scores = compare_solvers(matrix, sgd)
    pair = {SGD: sgd, EXACT: MatrixFactorization(device="cpu", alpha=0.05)}
    changed = stability(matrix, {name: mf.set_params(alpha=0.05) for name, mf in pair.items()})
    frames = {"scores": scores, "stability": changed}
    return {
        "date": datetime.date.today().isoformat(),
        "data": matrix.source,
        "n_models": matrix.n_models,
        "n_questions": matrix.n_questions,
        "labels_sha256": hashlib.sha256(matrix.labels.astype("int8").tobytes()).hexdigest(),
        **{name: json.loads(frame.round(6).to_json(orient="split", index=False)) for name, frame in frames.items()},
    }


def main(pools: list[str]) -> None:
    check_writable(TARGET.parent)  # before an hour of work
    torch.set_num_threads(1)
    for pool in pools:
        recorded = record(pool)
        known = (json.loads(TARGET.read_text()) if TARGET.exists() else {}) | {pool: recorded}
        with replacing(TARGET) as temporary:
            temporary.write_text(json.dumps(known, indent=None, separators=(",", ":")) + "\n")
        print(f"recorded {pool}")


if __name__ == "__main__":
    main(sys.argv[1:])
