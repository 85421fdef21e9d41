"""A fit by the processes of a group: `torchrun -m benchmarks.together FOLDER` writes objective and time there."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from embedllm import CorrectnessMatrix, MatrixFactorization
from embedllm.predictors.distributed import own_share, process_group, rank


def main(folder: Path) -> None:
    with process_group("cpu"):
        train = own_share(CorrectnessMatrix.load(folder / "train.npz"))
        start = time.perf_counter()
        history = MatrixFactorization(alpha=0.05, device="cpu").fit(train).history_
        seconds = time.perf_counter() - start
        number, n_processes = rank()
        if number == 0:
            found = {"processes": n_processes, "seconds": seconds, "objective": float(history["objective"].iloc[-1])}
            (folder / f"together-{n_processes}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
