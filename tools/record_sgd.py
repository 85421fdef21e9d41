"""Predict held-out benchmarks from SGD's embeddings and record it in data/sgd_heldout.json.

Run from the root: ``python tools/record_sgd.py zeroeval mmlu-pro simulated``. Pools of real answers are downloaded, or
read from the folder that EMBEDLLM_POOLS names. Each pool is written when it is done; what the file holds of others
stays, and a pool whose answers, settings and version are those of the record is not computed again. A fit for each
benchmark of the pool: of `simulated`, 10 with 50 epochs each take more than half an hour on two cores.
"""

import datetime
import json
import sys
from importlib.metadata import version
from pathlib import Path

from embedllm import MatrixFactorization, load_dataset
from embedllm._support.files import check_writable, replacing
from embedllm.protocol.recorded import answers_sha256
from embedllm.studies.benchmark_prediction import SGD, closest_to_mathematics, predict_heldout

TARGET = Path("data/sgd_heldout.json")
SEED, DIM, ALPHA = 0, 232, 0.05  # of the paper and the authors


def main(pools: list[str]) -> None:
    check_writable(TARGET.parent)  # before hours of work
    for pool in pools:
        known = json.loads(TARGET.read_text()) if TARGET.exists() else {}
        matrix = load_dataset(pool)
        described = {
            "data": matrix.source,
            "version": version("embedllm"),
            "settings": {"dim": DIM, "alpha": ALPHA, "preset": "paper", "seed": SEED},
            "sha256": answers_sha256(matrix),
        }
        if described.items() <= known.get(pool, {}).items():
            print(f"{pool} is recorded already, on {known[pool]['date']}")
            continue
        mf = MatrixFactorization(dim=DIM, alpha=ALPHA, solver="sgd")
        splits, models = (
            table[table["predictor"] == SGD].round(5) for table in predict_heldout(matrix, {SGD: mf}, SEED)
        )
        keys = ["data", "predictor", "benchmark", "n_models", "n_test"]
        entered = splits[splits["n_test"] > 0]
        shown = closest_to_mathematics(list(entered["benchmark"].unique()) or matrix.benchmark_names)
        frames = {
            "splits": splits.groupby(keys, sort=False)[["tau", "p_value"]].agg(list).reset_index(),
            "models": models[models["benchmark"] == shown].dropna(),
        }
        recorded = described | {
            "date": datetime.date.today().isoformat(),
            "frames": {key: json.loads(frame.to_json(orient="split", index=False)) for key, frame in frames.items()},
        }
        with replacing(TARGET) as temporary:
            temporary.write_text(json.dumps(known | {pool: recorded}, separators=(",", ":")) + "\n")
        print(f"recorded {pool}")


if __name__ == "__main__":
    main(sys.argv[1:])
