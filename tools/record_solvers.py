"""Fit SGD and the exact solver on several pools and record the comparison in data/solvers.json.

Run from the root: ``python tools/record_solvers.py zeroeval mmlu-pro simulated``, each a named data set. What the file
holds of other pools stays. A pool takes 5 to 40 minutes on a core.
"""

import datetime
import hashlib
import json
import sys
from pathlib import Path

import pandas as pd
import torch

from embedllm import MatrixFactorization, load_dataset
from embedllm.studies.what_embedllm_is import EXACT, SGD, compare_solvers, stability

TARGET = Path("data/solvers.json")
SIMULATED_SCALE = 0.1  # without effect on real answers


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
