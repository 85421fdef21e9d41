"""Measure everything: `python -m benchmarks`, with `--quick` at a small scale, with `--record` for the book.

Each measurement is a process of its own, one at a time, so keep the machine quiet. What the plain procedure would take
for too long is measured on a part of it and scaled, as the column "part of plain run" says. The exit status is 1 if a
target is missed or two results that must agree do not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import fitting, growth, reading
from benchmarks.cases import CASES
from embedllm import load_dataset
from embedllm._files import replacing
from embedllm.studies.speed import RECORD, case_table, fitting_table

ROOT = Path(__file__).parents[1]


def child(*arguments: object) -> dict[str, Any]:
    """Run a module of the benchmarks and return the JSON that it prints."""
    command = [sys.executable, "-m", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def say(what: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)


def machine() -> dict[str, str]:
    """What times depend on; names no host."""
    found = Path("/proc/cpuinfo")
    lines = found.read_text().splitlines() if found.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {name: __import__(name).__version__ for name in ("numpy", "torch", "sklearn", "pandas")}
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "GPU": gpu,
        "Python": platform.python_version(),
        **versions,
    }


def write_parts(folder: Path, scale: float) -> str:
    """Save the three parts of the simulated pool, and return what they are."""
    matrix = load_dataset("simulated", scale=scale)
    for name, part in matrix.split()._asdict().items():
        part.save(folder / f"{name}.npz")
    return f"{matrix.source}, {matrix.n_models} models x {matrix.n_questions:,} questions"


def measure_cases(folder: Path, repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name, case in CASES.items():
        say(case.what)
        theirs, ours = (child("benchmarks.cases", name, side, folder, repeats) for side in ("theirs", "ours"))
        row = {"what": case.what, "ours": ours, "theirs": theirs, "agree": agreement(ours["checks"], theirs["checks"])}
        for side in (ours, theirs):
            for key in ("proba", "chosen"):
                side["checks"].pop(key, None)
        targets = {"ratio": case.ratio, "seconds": case.seconds, "megabytes": case.megabytes}
        rows.append(row | {"targets": {key: value for key, value in targets.items() if np.isfinite(value)}})
    return rows


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Say how far the results of the two sides agree."""
    if "proba" in ours:
        return f"probabilities within {np.abs(np.subtract(ours['proba'], theirs['proba'])).max():.1g}"
    if "chosen" in theirs:
        same = np.equal(ours["chosen"][: len(theirs["chosen"])], theirs["chosen"]).mean()
        return f"{same:.1%} of the choices"
    return ""


def measure_reading(scale: float, repeats: int) -> dict[str, Any]:
    say("read the release's train.csv")
    found = reading.compare(scale, repeats)
    ours, theirs = ({"how": "", "checks": {}, **found[reader]} for reader in ("embedllm", "pandas"))
    return {
        "what": f"read a long CSV ({found['how']})",
        "ours": ours,
        "theirs": theirs,
        "agree": "all labels",
        "targets": {"ratio": 5.0, "memory_ratio": 4.0},
    }


def measure_together(folder: Path) -> list[dict[str, Any]]:
    found = []
    for n_processes in (1, 2):
        say(f"fit by {n_processes} process(es)")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, "-m", "benchmarks.together", folder], check=True, capture_output=True, cwd=ROOT, env=environment
        )
        found.append(json.loads((folder / f"together-{n_processes}.json").read_text()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the questions, few repeats")
    parser.add_argument(
        "--record",
        metavar="FILE",
        nargs="?",
        const=ROOT / RECORD,
        type=Path,
        help="write the run to a file, by default the one that the book shows",
    )
    options = parser.parse_args()
    if not shutil.which("/usr/bin/time"):
        sys.exit("error: /usr/bin/time is missing: install the package `time`")
    scale, repeats = (0.05, 1) if options.quick else (1.0, 3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_parts(folder, scale)
        cases = measure_cases(folder, repeats)
        tried = []
        for name in fitting.NAMES:
            say(f"fitting: {name}")
            tried.append({"what": name, **child("benchmarks.fitting", name, folder)})
        together = measure_together(folder)
    cases.append(measure_reading(scale, repeats))
    grown = []
    for point in growth.points(scale):
        say(f"growth: {point}")
        sizes = [point[key] for key in ("what", "questions", "models", "dim")]
        grown.append({**point, **child("benchmarks.growth", *sizes)})
    recorded = {
        "recorded": f"{datetime.date.today()}",
        "machine": machine(),
        "data": data,
        "repeats": repeats,
        "cases": cases,
        "fitting": tried,
        "together": together,
        "growth": grown,
    }
    if options.record:
        with replacing(options.record) as temporary_file:
            temporary_file.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    for key, value in recorded["machine"].items():
        print(f"{key}: {value}")
    print(f"data: {data}; medians of {repeats} repeats (least to most)\n")
    table = case_table(recorded)
    print(table.to_string(), "\n")
    print(fitting_table(recorded).to_string(), "\n")
    losses = [each["val_loss"] for each in together]
    print(f"validation loss by 1 and 2 processes: {losses[0]:.6f} and {losses[1]:.6f}")
    paper, fast = (next(each for each in tried if each["what"].startswith(name)) for name in ("paper", "fast"))
    same = abs(losses[0] - losses[1]) <= 1e-4
    print(f"validation loss of the fast and the paper preset: {fast['val_loss']:.5f} and {paper['val_loss']:.5f}")
    good = bool((table["targets"] != "missed").all()) and same and fast["val_loss"] <= paper["val_loss"]
    print("all targets met" if good else "a target is missed")
    return 0 if good or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
