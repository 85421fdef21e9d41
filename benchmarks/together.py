"""A fit by the processes of a group: `torchrun -m benchmarks.together FOLDER` writes its loss and its time there."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from embedllm import CorrectnessMatrix, MatrixFactorization
from embedllm.predictors.distributed import own_share, process_group, rank


def main(folder: Path) -> None:
    with process_group("cpu"):
        train, validation = (own_share(CorrectnessMatrix.load(folder / f"{part}.npz")) for part in ("train", "val"))
        start = time.perf_counter()
        history = MatrixFactorization(device="cpu").fit(train, validation).history_
        seconds = time.perf_counter() - start
        number, n_processes = rank()
        if number == 0:
            found = {"processes": n_processes, "seconds": seconds, "val_loss": float(history["val_loss"].iloc[-1])}
            (folder / f"together-{n_processes}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
