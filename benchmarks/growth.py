"""How time and memory grow with questions, models and dim: `python -m benchmarks.growth WHAT N_QUESTIONS N_MODELS DIM`.

Each point is a process of its own on random embeddings and labels, which cost as much as any others.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd

from embedllm import CorrectnessMatrix, KNNCorrectness, MatrixFactorization
from embedllm.protocol.timing import resident_mb

WIDTH, ASKED = 768, 1000
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
            found += [{"axis": axis, "what": what, **sizes} for what in ("fit MF", "KNN of 1,000 questions")]
    # KNN has no dim.
    return [point for point in found if not (point["axis"] == "dim" and point["what"] != "fit MF")]


def random_matrix(n_questions: int, n_models: int) -> CorrectnessMatrix:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((n_questions, WIDTH), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = rng.integers(0, 2, (n_models, n_questions), dtype=np.int8)
    models, ids = [f"m{number}" for number in range(n_models)], [f"q{number}" for number in range(n_questions)]
    return CorrectnessMatrix(
        pd.DataFrame(labels, models, ids), pd.DataFrame({"benchmark": "random"}, ids), embeddings, source="random"
    )


def main() -> None:
    what, n_questions, n_models, dim = sys.argv[1], *map(int, sys.argv[2:])
    matrix = random_matrix(n_questions, n_models)
    asked = matrix.embeddings[:ASKED]
    KNNCorrectness(1).fit(matrix).predict_proba(asked[:1])  # what is loaded at the first use is no cost of this size
    start = time.perf_counter()
    if what == "fit MF":
        MatrixFactorization(dim=dim).fit(matrix)
    else:
        KNNCorrectness().fit(matrix).predict_proba(asked)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": resident_mb("VmHWM")}))


if __name__ == "__main__":
    main()
