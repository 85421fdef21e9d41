"""The cases: what this package does and what the plain procedure does, on the same data.

Each side is a function here and runs in a process of its own, `python -m benchmarks.cases FUNCTION FOLDER REPEATS`,
which prints what it measured as JSON. Its peak memory is that of the whole process since the data were read, with
interpreter, imports and data.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import reference
from embedllm import PRESETS, CorrectnessMatrix, KNNCorrectness, MatrixFactorization
from embedllm.predictors.ranking import best_models, pool_logits
from embedllm.protocol.timing import reset_peak, resident_mb

ALPHA = 0.05  # the authors' noise, and so the penalty of every fit that does not choose it


@dataclass
class Side:
    """What one side of a case measured.

    Attributes
    ----------
    seconds : list of float
        Of each repeat, for the whole task.
    how : str
        What was run of it, where that is not everything.
    checks : dict
        Numbers that the other side must agree with, or that a target is set for.
    peak_mb : float
        Of the process, 10^6 bytes.
    """

    seconds: list[float]
    how: str = ""
    checks: dict[str, Any] = field(default_factory=dict)
    peak_mb: float = 0.0


@dataclass(frozen=True)
class Case:
    """A task, two ways of doing it, and what is aimed at.

    Attributes
    ----------
    what : str
    ours, theirs : callable
        From the folder of the data and the number of repeats to a `Side`.
    targets : dict of str to float
        Any of `ratio`, how many times as fast at least, and `seconds` and `megabytes`, of ours at most.
    """

    what: str
    ours: Callable[[Path, int], Side]
    theirs: Callable[[Path, int], Side]
    targets: dict[str, float] = field(default_factory=dict)


def load(folder: Path, part: str) -> CorrectnessMatrix:
    """Read a part of the data, and measure the peak memory anew from here on."""
    matrix = CorrectnessMatrix.load(folder / f"{part}.npz")
    reset_peak()
    return matrix


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of some repeats, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def fit(mf: MatrixFactorization, folder: Path, repeats: int) -> Side:
    """Fit, and score the result on validation questions; the peak memory is that of the first fit."""
    train, validation = load(folder, "train"), load(folder, "val")
    seconds, peak = [], 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        mf.fit(train, validation if (mf.solver, mf.alpha) == ("exact", "auto") else None)
        seconds.append(time.perf_counter() - start)
        peak = peak or resident_mb("VmHWM")
    checks = scores(mf.coef_, mf.intercept_, validation)
    if mf.solver == "exact":
        checks |= {"alpha": mf.alpha_, "n_iter": mf.n_iter_, "product_flops": 2 * mf.coef_.size * train.n_questions}
    if mf.alpha_ == ALPHA and mf.prior is None:
        checks["objective"] = reference.objective(mf.coef_, mf.intercept_, train.embeddings, train.labels, ALPHA)
    return Side(seconds, checks=checks, peak_mb=peak)


def scores(coef: np.ndarray, intercept: np.ndarray, matrix: CorrectnessMatrix) -> dict[str, float]:
    """Mean log loss and accuracy over the observed cells."""
    logits = coef @ matrix.embeddings.T + intercept[:, None]
    loss = np.logaddexp(0, np.where(matrix.labels == 1, -logits, logits))[matrix.observed]
    agrees = ((logits > 0) == (matrix.labels == 1))[matrix.observed]
    return {"val_loss": float(loss.mean(dtype=float)), "val_accuracy": float(agrees.mean())}


def fit_exact(folder: Path, repeats: int) -> Side:
    return fit(MatrixFactorization(alpha=ALPHA), folder, 3 * repeats)


def fit_exact_chosen(folder: Path, repeats: int) -> Side:
    return fit(MatrixFactorization(), folder, repeats)


def fit_with_pool(folder: Path, repeats: int) -> Side:
    return fit(MatrixFactorization(alpha=ALPHA, prior="pool", rho=1.0), folder, repeats)


def fit_with_pool_chosen(folder: Path, repeats: int) -> Side:
    return fit(MatrixFactorization(prior="pool"), folder, repeats)


def fit_sgd(folder: Path, repeats: int) -> Side:
    """The paper's training in this package, all 50 epochs, once."""
    return fit(MatrixFactorization(solver="sgd", preset="paper", alpha=ALPHA), folder, 1)


def fit_by_model(folder: Path, repeats: int) -> Side:
    """scikit-learn's logistic regression of every model, one after the other, once."""
    train, validation = load(folder, "train"), load(folder, "val")
    start = time.perf_counter()
    coef, intercept = reference.logistic_regressions(train.embeddings, train.labels, ALPHA)
    seconds, peak = time.perf_counter() - start, resident_mb("VmHWM")
    checks = scores(coef, intercept, validation)
    checks["objective"] = reference.objective(coef, intercept, train.embeddings, train.labels, ALPHA)
    return Side([seconds], checks=checks, peak_mb=peak)


def fit_by_pair(folder: Path, repeats: int) -> Side:
    train = load(folder, "train")
    torch.manual_seed(0)
    model = reference.PairModel(train.embeddings, train.n_models)
    total, some = reference.n_steps(train.labels), 40
    steps = list(islice(reference.step_seconds(model, train.labels), some * repeats))
    seconds = [total * statistics.fmean(steps[start : start + some]) for start in range(0, len(steps), some)]
    return Side(seconds, f"{len(steps)} of {total:,} steps, {reference.EPOCHS} epochs")


def knn(folder: Path, repeats: int) -> Side:
    train, test = load(folder, "train"), load(folder, "test")
    seconds = timed(lambda: KNNCorrectness().fit(train).predict_proba(test.embeddings), repeats)
    proba = KNNCorrectness().fit(train).predict_proba(test.embeddings)
    return Side(seconds, checks={"proba": proba[:, 0].tolist()})


def knn_by_model(folder: Path, repeats: int) -> Side:
    train, test = load(folder, "train"), load(folder, "test")
    each = timed(lambda: reference.knn_proba(train.embeddings, train.labels[0], test.embeddings), repeats)
    proba = reference.knn_proba(train.embeddings, train.labels[0], test.embeddings)
    how = f"1 of {train.n_models} models"
    return Side([train.n_models * seconds for seconds in each], how, {"proba": proba.tolist()})


def quick_fit(train: CorrectnessMatrix) -> MatrixFactorization:
    """A factorization of the paper's size; how good it is does not matter to the time of routing."""
    few = train.subset(questions=train.question_ids[:2000])
    return MatrixFactorization(solver="sgd", preset=replace(PRESETS["paper"], epochs=1)).fit(few)


def pair_model(mf: MatrixFactorization, test: CorrectnessMatrix) -> reference.PairModel:
    """The same factorization in the plain form, on the questions to route."""
    model = reference.PairModel(test.embeddings, len(mf.model_names_), mf.dim)
    p, w, b, c, a = mf.parameters_
    theirs = (
        model.P.weight,
        model.text_proj.weight,
        model.text_proj.bias,
        model.classifier.weight,
        model.classifier.bias,
    )
    for value, ours in zip(theirs, (p, w, b, c, a), strict=True):
        value.data = ours
    return model


def route(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    mf = quick_fit(load(folder, "train"))
    seconds = timed(lambda: mf.predict_proba(test.embeddings).argmax(axis=1), 10 * repeats)
    return Side(seconds, checks={"chosen": mf.predict_proba(test.embeddings).argmax(axis=1).tolist()})


def route_by_question(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    model = pair_model(quick_fit(load(folder, "train")), test)
    some = torch.arange(min(200, test.n_questions))
    each = timed(lambda: reference.route(model, some), repeats)
    scale = test.n_questions / len(some)
    how = f"{len(some)} of {test.n_questions:,} questions" if scale > 1 else ""
    return Side([scale * seconds for seconds in each], how, {"chosen": reference.route(model, some)})


def route_typed(folder: Path, repeats: int) -> Side:
    """As `Router` chooses for typed questions, after its encoder: independent of their company, with a runner-up."""
    test = load(folder, "test")
    mf = quick_fit(load(folder, "train"))
    seconds = timed(lambda: _best_two(mf, test.embeddings), 10 * repeats)
    return Side(seconds, checks={"chosen": _best_two(mf, test.embeddings)[:, 0].tolist()})


def _best_two(mf: MatrixFactorization, vectors: np.ndarray) -> np.ndarray:
    return best_models(pool_logits(mf, vectors), mf.model_names_, 2)


def route_one_typed(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    mf = quick_fit(load(folder, "train"))
    return Side(timed(lambda: _best_two(mf, test.embeddings[:1]), 200 * repeats))


def route_one_by_pair(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    model = pair_model(quick_fit(load(folder, "train")), test)
    return Side(timed(lambda: reference.route(model, torch.arange(1)), 50 * repeats))


CASES = [
    Case("fit MF, against our SGD, paper preset", fit_exact, fit_sgd, {"ratio": 50, "seconds": 1, "megabytes": 600}),
    Case("fit MF, against scikit-learn model by model", fit_exact, fit_by_model, {"ratio": 30}),
    Case("fit MF, against the plain trainer", fit_exact, fit_by_pair),
    Case("KNN of all models, k 131", knn, knn_by_model, {"ratio": 150}),
    Case("route all test questions", route, route_by_question, {"ratio": 100, "seconds": 0.01}),
    Case("route them as Router does", route_typed, route_by_question, {"ratio": 100, "seconds": 0.01}),
    Case("route one as Router does", route_one_typed, route_one_by_pair, {"ratio": 1, "seconds": 0.001}),
]

FITS: dict[str, tuple[Callable[[Path, int], Side], dict[str, float]]] = {
    "exact, alpha 0.05": (fit_exact, {"seconds": 1}),
    "exact, alpha chosen on validation questions": (fit_exact_chosen, {"val_loss": 0.5394}),
    "exact with the pool prior, alpha 0.05": (fit_with_pool, {"seconds": 2}),
    "exact with the pool prior, strengths chosen": (fit_with_pool_chosen, {}),
    "SGD, paper preset, alpha 0.05": (fit_sgd, {}),
    "scikit-learn model by model, alpha 0.05": (fit_by_model, {}),
}
"""Ways of fitting, with what is aimed at: seconds at most, and `val_loss`, the validation loss, at most.

The loss is that of SGD with the paper preset on the simulated pool, as recorded.
"""


def main() -> None:
    name, folder, repeats = sys.argv[1:]
    found = globals()[name](Path(folder), int(repeats))
    # Not ru_maxrss, which begins with what the parent held.
    found.peak_mb = found.peak_mb or resident_mb("VmHWM")
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
