"""How time and memory grow with questions, models and dim: `python -m benchmarks.growth WHAT N_QUESTIONS N_MODELS DIM`.

Each point is a process of its own on random embeddings, with labels drawn from a logistic regression a model.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from embedllm import PRESETS, CorrectnessMatrix, KNNCorrectness, MatrixFactorization
from embedllm.protocol.timing import resident_mb

WIDTH, ASKED, STEPS = 768, 1000, 200
EXACT, SGD, KNN = "exact fit", f"SGD, paper preset, extrapolated from {STEPS} steps", f"KNN of {ASKED:,} questions"
BASE = {"questions": 10_000, "models": 112, "dim": 232}
AXES = {
    "questions": (1000, 3000, 10_000, 30_000, 100_000),
    "models": (7, 28, 112, 448, 1792),
    "dim": (8, 32, 128, 512),
}


def points(scale: float = 1.0) -> list[dict[str, int | str]]:
    """What to measure: along each axis from the base, with the questions of all scaled."""
    found = []
    for axis, values in AXES.items():
        for value in values:
            sizes = BASE | {axis: value}
            sizes["questions"] = max(200, int(sizes["questions"] * scale))
            found += [{"axis": axis, "what": what, **sizes} for what in (EXACT, SGD, KNN)]
    # KNN has no dim.
    return [point for point in found if (point["axis"], point["what"]) != ("dim", KNN)]


def random_matrix(n_questions: int, n_models: int) -> CorrectnessMatrix:
    """Embeddings of unit length whose variance decays over the dimensions as 1 / rank, and logits of about 1."""
    rng = np.random.default_rng(0)
    scales = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
    embeddings = rng.standard_normal((n_questions, WIDTH), dtype=np.float32) * scales
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = rng.standard_normal((n_models, WIDTH), dtype=np.float32)
    share = 1 / (1 + np.exp(-directions @ embeddings.T))  # (n_models, n_questions)
    labels = (rng.random(share.shape, dtype=np.float32) < share).astype(np.int8)
    models, ids = [f"m{number}" for number in range(n_models)], [f"q{number}" for number in range(n_questions)]
    return CorrectnessMatrix(
        pd.DataFrame(labels, models, ids), pd.DataFrame({"benchmark": "random"}, ids), embeddings, source="random"
    )


def sgd_seconds(matrix: CorrectnessMatrix, steps: int, **options: Any) -> tuple[float, int, int]:
    """Time some steps of the paper preset, and return the seconds, how many steps it were, and those of a whole fit."""
    paper = PRESETS["paper"]
    plan = paper.schedule(matrix.n_questions, int(matrix.observed.sum()))
    part = matrix.subset(questions=matrix.question_ids[: plan.block * steps])
    mf = MatrixFactorization(solver="sgd", preset=replace(paper, epochs=1), **options)
    mf.fit(part)  # not counted
    start = time.perf_counter()
    mf.fit(part)
    return time.perf_counter() - start, -(-part.n_questions // plan.block), plan.epochs * plan.steps_per_epoch


def main() -> None:
    what, n_questions, n_models, dim = sys.argv[1], *map(int, sys.argv[2:])
    matrix = random_matrix(n_questions, n_models)
    asked = matrix.embeddings[:ASKED]
    small = matrix.subset(questions=matrix.question_ids[:200])
    # What is loaded at the first use is no cost of this size.
    KNNCorrectness(1).fit(small).predict_proba(asked[:1])
    MatrixFactorization(alpha=0.05).fit(small)
    found: dict[str, Any] = {}
    start = time.perf_counter()
    if what == EXACT:
        found["n_iter"] = MatrixFactorization(dim=dim, alpha=0.05).fit(matrix).n_iter_
    elif what == KNN:
        KNNCorrectness().fit(matrix).predict_proba(asked)
    found["seconds"] = time.perf_counter() - start
    if what == SGD:
        seconds, done, total = sgd_seconds(matrix, STEPS, dim=dim)
        found["seconds"] = seconds * total / done
    print(json.dumps(found | {"peak_mb": resident_mb("VmHWM")}))


if __name__ == "__main__":
    main()
