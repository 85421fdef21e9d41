"""Reading a long CSV, shaped like the release's train.csv, against pandas: `python -m benchmarks.reading`.

Each reader is a process of its own under /usr/bin/time, which tells its wall time and its peak memory, imports
included. The file, 112 models on 29,673 questions in 3.8 million rows, is written first, and read once unmeasured, so
that all readers find it in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from embedllm.lookalike import write_lookalike
from embedllm.tables import read_rows

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
from embedllm.longform import read_answers
from embedllm.tables import read_rows, read_table
folder = Path("{folder}")
models = read_table(folder / "model_order.csv").set_index("model_name").sort_index()
ids = [name for rows in read_rows(folder / "question_order.csv", ["prompt_id"]) for name in rows.columns[0].to_pylist()]
questions = pd.DataFrame(index=pd.Index(ids, dtype=object))
answers = read_answers({{"all": folder / "train.csv"}}, models.index, questions)
if {save}: np.save(folder / "embedllm.npy", answers.labels)
""",
}


def measure(reader: str, folder: Path, save: bool = False) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MiB of one process."""
    code = READERS[reader].format(folder=folder, save=save)
    command = ["/usr/bin/time", "-f", "%e %M", sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{reader} failed: {run.stderr}")
    seconds, kibibytes = run.stderr.split()[-2:]
    return float(seconds), float(kibibytes) / 1024


def check_equal(folder: Path) -> None:
    """The majority of repeated labels, from their mean as pandas gives it, is what was read here."""
    mean, labels = np.load(folder / "pandas.npy"), np.load(folder / "embedllm.npy")
    np.testing.assert_array_equal(np.where(mean > 0.5, 1, np.where(mean < 0.5, 0, -1)), labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the questions (default: 1, a file of 2.9 GB)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="processes a reader (default: 5)")
    options = parser.parse_args()
    if not shutil.which("/usr/bin/time"):
        sys.exit("error: /usr/bin/time is missing: install the package `time`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "release"
        write_lookalike(folder, scale=options.scale)
        for reader in READERS:
            measure(reader, folder, save=True)
        check_equal(folder)
        # In turn, so that a busy moment of the machine meets both.
        runs = [(reader, *measure(reader, folder)) for _ in range(options.repeats) for reader in READERS]
        size = (folder / "train.csv").stat().st_size
        n_rows = sum(len(rows.columns) for rows in read_rows(folder / "train.csv", ["label"]))
    table = pd.DataFrame(runs, columns=["reader", "seconds", "MiB"]).groupby("reader", sort=False)
    medians = table.median()
    print(f"train.csv: {size / 1e9:.2f} GB, {n_rows:,} rows; {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, pandas {pd.__version__}; medians of {options.repeats} (min to max)")
    for reader, frame in table:
        cells = [
            f"{statistics.median(frame[unit]):.2f} {unit} ({frame[unit].min():.2f} to {frame[unit].max():.2f})"
            for unit in ("seconds", "MiB")
        ]
        print(f"{reader:10}{cells[0]:36}{cells[1]}")
    ratios = medians.loc["pandas"] / medians.loc["embedllm"]
    print(f"ratio     {ratios['seconds']:.1f} x as fast, 1/{ratios['MiB']:.1f} of the peak memory")
    met = ratios["seconds"] >= 5 and ratios["MiB"] >= 4
    print(f"targets   5 x as fast at 1/4 of the peak memory: {'met' if met else 'missed'}")
    print(json.dumps({"scale": options.scale, "medians": medians.to_dict("index"), "ratios": ratios.to_dict()}))


if __name__ == "__main__":
    main()
