"""Measure everything: `python -m benchmarks`, with `--quick` at a small scale, with `--record` for the book.

Each measurement is a process of its own, one at a time, so keep the machine quiet. What the plain procedure would take
for too long is measured on a part of it and scaled, as the column "part of plain run" says. The exit status is 1 if a
target is missed or two results that must agree do not.

`--gpu` measures what a GPU makes of it and nothing else; with `--dry-run`, on the CPU at a small scale.
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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import gpu, growth, reading
from benchmarks.cases import CASES, FITS
from embedllm import load_dataset
from embedllm._support.files import check_writable, replacing
from embedllm.studies.speed import RECORD, case_table, fitting_table, gpu_table, machine_table

ROOT = Path(__file__).parents[1]


@cache  # a side that several cases have in common is measured once
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
    versions = {name: __import__(name).__version__ for name in ("numpy", "torch", "sklearn", "pandas")}
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
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
    for case in CASES:
        say(case.what)
        theirs, ours = (child("benchmarks.cases", side.__name__, folder, repeats) for side in (case.theirs, case.ours))
        agree = agreement(ours["checks"], theirs["checks"])
        rows.append({"what": case.what, "ours": ours, "theirs": theirs, "agree": agree, "targets": case.targets})
    return [row | {side: without_results(row[side]) for side in ("ours", "theirs")} for row in rows]


def measure_fits(folder: Path, repeats: int) -> list[dict[str, Any]]:
    rows = []
    for what, (call, targets) in FITS.items():
        say(f"fit: {what}")
        side = child("benchmarks.cases", call.__name__, folder, repeats)
        measured = {"seconds": side["seconds"], "peak_mb": side["peak_mb"]}
        rows.append({"what": what, "targets": targets, **side["checks"], **measured})
    return rows


def without_results(side: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a side: probabilities and choices are not."""
    return side | {"checks": {key: value for key, value in side["checks"].items() if not isinstance(value, list)}}


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Say how far the results of the two sides agree."""
    if "proba" in ours:
        return f"probabilities within {np.abs(np.subtract(ours['proba'], theirs['proba'])).max():.1g}"
    if "chosen" in theirs:
        same = np.equal(ours["chosen"][: len(theirs["chosen"])], theirs["chosen"]).mean()
        return f"{same:.1%} of the choices"
    if "objective" in theirs:
        names = {"objective": "objective", "val_loss": "validation loss"}
        return "; ".join(f"{name} {ours[key]:.6f}, plain {theirs[key]:.6f}" for key, name in names.items())
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
        "targets": {"ratio": 2, "memory_ratio": 4},
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
    parser.add_argument("--gpu", action="store_true", help="measure what a GPU makes of it, and nothing else")
    parser.add_argument("--dry-run", action="store_true", help="with --gpu: on the CPU, at a small scale")
    options = parser.parse_args()
    if options.record:
        check_writable(options.record.parent)  # before minutes of work
    measured = run_gpu(options.dry_run) if options.gpu else run_all(options.quick)
    if options.record:
        # A run on the CPU keeps that on a GPU, and the other way round.
        kept = json.loads(options.record.read_text("utf-8")) if options.record.is_file() else {}
        with replacing(options.record) as temporary_file:
            temporary_file.write_text(json.dumps(kept | measured, indent=1) + "\n", encoding="utf-8")
    return 0 if options.gpu or report(measured) or options.quick else 1


def run_gpu(dry_run: bool) -> dict[str, Any]:
    if not (dry_run or torch.cuda.is_available()):
        sys.exit("error: PyTorch finds no GPU here: add --dry-run to run the same on the CPU at a small scale")
    found = gpu.measure("cpu", scale=0.02, trials=2, steps=5) if dry_run else gpu.measure("cuda")
    run = {"gpu": {"recorded": f"{datetime.date.today()}", "machine": machine(), **found}}
    print(gpu_table(run).to_string())
    return run


def run_all(quick: bool) -> dict[str, Any]:
    if not shutil.which("/usr/bin/time"):
        sys.exit("error: /usr/bin/time is missing: install the package `time`")
    scale, repeats = (0.05, 1) if quick else (1.0, 3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_parts(folder, scale)
        cases, fits = measure_cases(folder, repeats), measure_fits(folder, repeats)
        together = measure_together(folder)
    cases.append(measure_reading(scale, repeats))
    grown = []
    for point in growth.points(scale):
        say(f"growth: {point}")
        sizes = [point[key] for key in ("what", "questions", "models", "dim")]
        grown.append({**point, **child("benchmarks.growth", *sizes)})
    return {
        "recorded": f"{datetime.date.today()}",
        "machine": machine(),
        "data": data,
        "repeats": repeats,
        "cases": cases,
        "fitting": fits,
        "together": together,
        "growth": grown,
    }


def report(run: dict[str, Any]) -> bool:
    """Print the run, and return whether it met the targets and results that must agree do."""
    cases, fits = case_table(run), fitting_table(run)
    print(machine_table(run).to_string(), "\n\nmedians of the repeats (least to most):\n")
    print(cases.to_string(), "\n\n", fits.to_string(), "\n")
    alone, together = (each["objective"] for each in run["together"])
    print(f"objective by 1 and 2 processes: {alone:.7f} and {together:.7f}")
    exact, plain = fits["objective"][["exact, alpha 0.05", "scikit-learn model by model, alpha 0.05"]]
    met = not (pd.concat([cases["targets"], fits["targets"]]) == "missed").any()
    good = met and abs(alone - together) <= 1e-6 and exact <= plain + 1e-5
    print("all targets met" if good else "a target is missed, or results differ")
    return bool(good)


if __name__ == "__main__":
    sys.exit(main())
