"""What a GPU makes of it: `python -m benchmarks --gpu`, in one process and in less than 4 minutes.

The same code runs on the CPU at a small scale with `--dry-run`, to test it where there is no GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import reference
from benchmarks.cases import pair_model, quick_fit
from benchmarks.growth import sgd_seconds
from embedllm import KNNCorrectness, MatrixFactorization, load_dataset

ROUTED, TRIALS, STEPS = 3000, 50, 2000


def measure(device: str, scale: float = 1.0, trials: int = TRIALS, steps: int = STEPS) -> dict[str, Any]:
    """Measure on a device, "cuda" or "cpu"; seconds include the transfer of what is not there yet."""
    train, _, test = load_dataset("simulated", scale=scale).split()
    asked = test.embeddings[:ROUTED]
    rows: list[dict[str, Any]] = []

    def synchronized(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def add(what: str, how: str, seconds: list[float]) -> None:
        peak = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None
        rows.append({"what": what, "how": how, "seconds": statistics.fmean(seconds), "gpu_mb": peak})
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    mf = MatrixFactorization(alpha=0.05, device=device)
    add("exact fit, first in the process", "once", [synchronized(lambda: mf.fit(train))])
    add("exact fit", f"mean of 5, {mf.n_iter_} iterations", [synchronized(lambda: mf.fit(train)) for _ in range(5)])

    knn = KNNCorrectness(device=device)
    seconds = [synchronized(lambda: knn.fit(train).predict_proba(test.embeddings)) for _ in range(4)]
    add(f"KNN of all models, {test.n_questions:,} questions", "mean of 3, after one", seconds[1:])

    # As the paper timed it: one question after the other, its embedding there, the mean of 50 trials.
    plain = pair_model(quick_fit(train), test).to(device)
    questions = torch.arange(len(asked), device=device)
    seconds = [synchronized(lambda: reference.route(plain, questions)) for _ in range(trials)]
    add(f"route {len(asked):,} questions one by one, plain", f"mean of {trials}", seconds)
    coef, intercept = (torch.from_numpy(value).to(device) for value in (mf.coef_, mf.intercept_))
    vectors = torch.tensor(asked, device=device)
    seconds = [synchronized(lambda: (vectors @ coef.T + intercept).argmax(dim=1).cpu()) for _ in range(trials)]
    add(f"route {len(asked):,} questions by one product", f"mean of {trials}", seconds)
    seconds = [synchronized(lambda: mf.predict_proba(asked).argmax(axis=1)) for _ in range(trials)]
    add(f"route {len(asked):,} questions by predict_proba, on the CPU", f"mean of {trials}", seconds)

    spent, done, total = sgd_seconds(train, steps, device=device)
    add("SGD, paper preset", f"{done:,} of {total:,} steps", [spent])
    add("SGD, paper preset, all steps", f"extrapolated from {done:,} steps", [spent * total / done])
    data = f"{train.source}, {train.n_models} models x {train.n_questions:,} training questions"
    return {"data": data, "rows": rows}
