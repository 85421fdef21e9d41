"""The cases: what this package does and what the plain procedure does, on the same data.

Each side is a process of its own, `python -m benchmarks.cases CASE SIDE FOLDER REPEATS`, which prints what it measured
as JSON. Its peak memory is that of the whole process: interpreter, imports and data included.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks import reference
from embedllm import CorrectnessMatrix, KNNCorrectness, MatrixFactorization
from embedllm.protocol.timing import resident_mb
from embedllm.router import best_two

SEVERAL_K = (1, 3, 5, 9, 17, 31, 65, 131, 201, 301, 401, 501)


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
    ratio, seconds, megabytes : float
        Targets: how many times as fast at least, and time and peak memory of ours at most.
    """

    what: str
    ours: Callable[[Path, int], Side]
    theirs: Callable[[Path, int], Side]
    ratio: float
    seconds: float = float("inf")
    megabytes: float = float("inf")


def load(folder: Path, part: str) -> CorrectnessMatrix:
    return CorrectnessMatrix.load(folder / f"{part}.npz")


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of some repeats, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def fit(folder: Path, repeats: int) -> Side:
    train, validation = load(folder, "train"), load(folder, "val")
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        MatrixFactorization().fit(train)
        seconds.append(time.perf_counter() - start)
    history = MatrixFactorization().fit(train, validation).history_
    return Side(seconds, checks=history.iloc[-1][["val_loss", "val_accuracy"]].to_dict())


def fit_by_pair(folder: Path, repeats: int) -> Side:
    train = load(folder, "train")
    torch.manual_seed(0)
    model = reference.PairModel(train.embeddings, train.n_models)
    total, some = reference.n_steps(train.labels), 40
    steps = list(islice(reference.step_seconds(model, train.labels), some * repeats))
    seconds = [total * statistics.fmean(steps[start : start + some]) for start in range(0, len(steps), some)]
    return Side(seconds, f"{len(steps)} of {total:,} steps, {reference.EPOCHS} epochs")


def fit_as_the_paper(folder: Path, repeats: int) -> Side:
    """What 50 epochs of the paper's settings reach; not timed against anything."""
    start = time.perf_counter()
    history = MatrixFactorization(preset="paper").fit(load(folder, "train"), load(folder, "val")).history_
    checks = history.iloc[-1][["val_loss", "val_accuracy"]].to_dict()
    return Side([time.perf_counter() - start], checks=checks)


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


def several_k(folder: Path, repeats: int) -> Side:
    train, test = load(folder, "train"), load(folder, "test")
    return Side(timed(lambda: KNNCorrectness().fit(train).predict_proba_each(test.embeddings, SEVERAL_K), repeats))


def several_k_by_model(folder: Path, repeats: int) -> Side:
    train, test = load(folder, "train"), load(folder, "test")
    each = [
        timed(lambda k=k: reference.knn_proba(train.embeddings, train.labels[0], test.embeddings, k), 1)[0]
        for k in SEVERAL_K[:: len(SEVERAL_K) // 3]
    ]
    tasks = train.n_models * len(SEVERAL_K)
    return Side([tasks * statistics.fmean(each)], f"{len(each)} of {tasks:,} searches")


def quick_fit(train: CorrectnessMatrix) -> MatrixFactorization:
    """A factorization of the paper's size; how good it is does not matter to the time of routing."""
    few = train.subset(questions=train.question_ids[:2000])
    return MatrixFactorization().fit(few)


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
    seconds = timed(lambda: best_two(mf, test.embeddings), 10 * repeats)
    return Side(seconds, checks={"chosen": best_two(mf, test.embeddings)[0][:, 0].tolist()})


def route_one(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    mf = quick_fit(load(folder, "train"))
    return Side(timed(lambda: mf.predict_proba(test.embeddings[:1]).argmax(axis=1), 200 * repeats))


def route_one_typed(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    mf = quick_fit(load(folder, "train"))
    return Side(timed(lambda: best_two(mf, test.embeddings[:1]), 200 * repeats))


def route_one_by_pair(folder: Path, repeats: int) -> Side:
    test = load(folder, "test")
    model = pair_model(quick_fit(load(folder, "train")), test)
    return Side(timed(lambda: reference.route(model, torch.arange(1)), 50 * repeats))


CASES = {
    "fit": Case("fit MF, dim 232", fit, fit_by_pair, ratio=200, seconds=15, megabytes=1000),
    "knn": Case("KNN of all models, k 131", knn, knn_by_model, ratio=150),
    "several_k": Case(f"KNN of all models, {len(SEVERAL_K)} values of k", several_k, several_k_by_model, ratio=200),
    "route": Case("route all test questions", route, route_by_question, ratio=100, seconds=0.05),
    "route_typed": Case("route them as Router does", route_typed, route_by_question, ratio=100, seconds=0.05),
    "route_one": Case("route one question", route_one, route_one_by_pair, ratio=1, seconds=0.001),
    "route_one_typed": Case("route one as Router does", route_one_typed, route_one_by_pair, ratio=1, seconds=0.001),
}


def main() -> None:
    name, side, folder, repeats = sys.argv[1:]
    call = fit_as_the_paper if name == "paper" else getattr(CASES[name], side)
    found = call(Path(folder), int(repeats))
    # Not ru_maxrss, which begins with what the parent held.
    found.peak_mb = resident_mb("VmHWM")
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
