"""Reading a long CSV, shaped like the release's train.csv, against pandas.

Each reader is a process of its own under /usr/bin/time, which measures its wall time and its peak memory, imports
included. The file, 112 models on 29,673 questions in 3.8 million rows, is written first, and read once unmeasured, so
that it is in the page cache for all readers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from embedllm.datasets.formats._tables import read_rows
from embedllm.datasets.lookalike import write_lookalike

READERS = {
    "pandas": """
import numpy as np, pandas as pd
frame = pd.read_csv("{folder}/train.csv")
table = frame.pivot_table(index="model_name", columns="prompt_id", values="label")
if {save}: np.save("{folder}/pandas.npy", table.to_numpy())
""",
    "embedllm": """
import numpy as np, pandas as pd
from pathlib import Path
from embedllm.datasets.formats.answers import read_answers
from embedllm.datasets.formats._tables import read_rows, read_table
folder = Path("{folder}")
models = read_table(folder / "model_order.csv").set_index("model_name").sort_index()
ids = [name for rows in read_rows(folder / "question_order.csv", ["prompt_id"]) for name in rows.columns[0].to_pylist()]
questions = pd.DataFrame(index=pd.Index(ids, dtype=object))
answers, _ = read_answers({{"all": folder / "train.csv"}}, models.index, questions)
if {save}: np.save(folder / "embedllm.npy", answers.labels)
""",
}


def measure(reader: str, folder: Path, save: bool = False) -> tuple[float, float]:
    """Wall time in seconds and peak memory in 10^6 bytes of one process."""
    code = READERS[reader].format(folder=folder, save=save)
    command = ["/usr/bin/time", "-f", "%e %M", sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{reader} failed: {run.stderr}")
    seconds, kibibytes = run.stderr.split()[-2:]
    return float(seconds), float(kibibytes) * 1024 / 1e6


def check_equal(folder: Path) -> None:
    """Check that both readers agree: the majority of duplicate labels follows from their mean."""
    mean, labels = np.load(folder / "pandas.npy"), np.load(folder / "embedllm.npy")
    np.testing.assert_array_equal(np.where(mean > 0.5, 1, np.where(mean < 0.5, 0, -1)), labels)


def compare(scale: float, repeats: int) -> dict[str, Any]:
    """Write a look-alike of the release, read it with both readers, and return all times and memory peaks."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "release"
        write_lookalike(folder, scale=scale)
        for reader in READERS:
            measure(reader, folder, save=True)
        check_equal(folder)
        # In turn, so that other load on the machine affects both.
        runs = [(reader, *measure(reader, folder)) for _ in range(repeats) for reader in READERS]
        size = (folder / "train.csv").stat().st_size
        n_rows = sum(len(rows.columns) for rows in read_rows(folder / "train.csv", ["label"]))
    return {
        "how": f"{size / 1e9:.2f} GB, {n_rows:,} rows",
        **{
            reader: {
                "seconds": [seconds for name, seconds, _ in runs if name == reader],
                "peak_mb": max(peak for name, _, peak in runs if name == reader),
            }
            for reader in READERS
        },
    }
