"""Fit SGD and the exact solver on several pools and record the comparison in data/solvers.json.

Run from the root: ``python tools/record_solvers.py zeroeval mmlu-pro simulated``, each a named data set. What the file
holds of other pools stays. A pool takes 5 to 40 minutes on a core.
"""

import datetime
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from embedllm import CorrectnessMatrix, MatrixFactorization, load_dataset
from embedllm.predictors._answers import Answers
from embedllm.predictors.exact import Problem
from embedllm.protocol.runs import split_runs
from embedllm.protocol.scores import mean_scores
from embedllm.studies.what_embedllm_is import SGD, Fit, fit_timed, stability

TARGET = Path("data/solvers.json")
SIMULATED_SCALE = 0.1  # without effect on real answers
EXACT, POOL = "exact", "exact, pool prior"
ALPHAS = (0.0, 0.025, 0.05, 0.1)  # noise of SGD that is tried on the validation questions
AUTHORS = 0.05


def compare_solvers(
    matrix: CorrectnessMatrix,
    sgd: MatrixFactorization,
    dims: Sequence[int] = (4, 8, 16, 232),
    seed: int = 0,
    n_seeds: int = 5,
) -> tuple[pd.DataFrame, pd.DataFrame]:
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
    scores : DataFrame
        Columns `data`, `seed`, `solver`, `dim`, `tuned` (whether alpha was chosen), `alpha`, `seconds` of the fit,
        `objective` (training loss and ridge penalty at alpha 0.05, mean over models), and on the test questions
        `log_loss` (nats) and `accuracy`.
    curves : DataFrame
        Columns `data`, `seed`, `seconds`, `val_loss`: SGD at alpha 0.05 and the largest dim, epoch by epoch.
    """
    rows, curves = [], []
    for run_seed, (train, val, test) in split_runs(matrix, seed, n_seeds):
        problem = Problem(Answers(train, sorted(train.model_names), torch.device("cpu")))
        for solver, tuned, fit in fits_of_run(train, val, clone(sgd).set_params(random_state=run_seed), dims):
            row = {"seed": run_seed, "solver": solver, "dim": fit.mf.dim, "tuned": tuned, "alpha": fit.mf.alpha_}
            row |= {"seconds": fit.seconds, "objective": objective(problem, fit.mf, AUTHORS)}
            rows.append(row | mean_scores(fit.mf.predict_matrix(test), test))
            if solver == SGD and not tuned and fit.mf.dim == dims[-1]:
                loss = fit.mf.history_["val_loss"].to_numpy()
                spent = fit.seconds * np.arange(1, len(loss) + 1) / len(loss)
                curves.append(pd.DataFrame({"seed": run_seed, "seconds": spent, "val_loss": loss}))
    scores, curve = pd.DataFrame(rows), pd.concat(curves, ignore_index=True)
    return scores.assign(data=matrix.source), curve.assign(data=matrix.source)


def fits_of_run(
    train: CorrectnessMatrix, val: CorrectnessMatrix, sgd: MatrixFactorization, dims: Sequence[int]
) -> Iterator[tuple[str, bool, Fit]]:
    """Yield solver, whether alpha was tuned, and fit, for each dim."""
    whole = {alpha: fit_timed(clone(sgd).set_params(alpha=alpha, dim=dims[-1]), train, val) for alpha in ALPHAS}
    best = min(ALPHAS, key=lambda alpha: whole[alpha].mf.history_["val_loss"].iloc[-1])
    for alpha in {AUTHORS, best}:
        fits = [fit_timed(clone(sgd).set_params(alpha=alpha, dim=dim), train, val) for dim in dims[:-1]]
        for fit in (*fits, whole[alpha]):
            yield from ((SGD, tuned, fit) for tuned, chosen in ((False, AUTHORS), (True, best)) if chosen == alpha)
    for solver, tuned, settings in (
        (EXACT, False, {"alpha": AUTHORS}),
        (EXACT, True, {}),
        (POOL, True, {"prior": "pool"}),
    ):
        exact = fit_timed(MatrixFactorization(dim=dims[-1], device="cpu").set_params(**settings), train, val)
        for dim in dims:
            yield solver, tuned, Fit(exact.mf.truncated(dim), exact.seconds)


def objective(problem: Problem, mf: MatrixFactorization, alpha: float) -> float:
    """Training loss and ridge penalty of a fit, mean over the models."""
    order = mf._model_positions(problem.answers.model_names)
    u, t = torch.from_numpy(mf.coef_[order]).T, torch.from_numpy(mf.intercept_[order])
    return float(problem.objective(torch.cat([u, (t + problem.mean @ u)[None]]), problem.ridge(alpha))[0].mean())


def record(pool: str) -> dict[str, object]:
    matrix = load_dataset(pool, scale=SIMULATED_SCALE)
    sgd = MatrixFactorization(solver="sgd", device="cpu")
    scores, curves = compare_solvers(matrix, sgd)
    pair = {SGD: sgd, EXACT: MatrixFactorization(device="cpu", alpha=0.05)}
    changes = stability(matrix, {name: mf.set_params(alpha=0.05) for name, mf in pair.items()})
    frames = {"scores": scores, "curves": curves, "stability": changes}
    return {
        "date": datetime.date.today().isoformat(),
        "data": matrix.source,
        "n_models": matrix.n_models,
        "n_questions": matrix.n_questions,
        "labels_sha256": hashlib.sha256(matrix.labels.astype("int8").tobytes()).hexdigest(),
        **{name: json.loads(frame.round(6).to_json(orient="split", index=False)) for name, frame in frames.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    pd.set_option("display.width", 160)
    for pool in sys.argv[1:]:
        recorded = record(pool)
        known = (json.loads(TARGET.read_text()) if TARGET.exists() else {}) | {pool: recorded}
        TARGET.write_text(json.dumps(known, indent=None, separators=(",", ":")) + "\n")
        print(f"recorded {pool}")
