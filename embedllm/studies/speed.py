"""The recorded run of the benchmarks: time and memory of the package and of plain implementations.

`python -m benchmarks --record` measures and writes it, on a quiet machine; pages only show it.
"""

from __future__ import annotations

import json
import os
import statistics
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from embedllm.predictors.sgd import init_parameters
from embedllm.protocol.flops import Shape, block_flops, pair_flops

RECORD = "data/benchmarks.json"
"""Where the run is kept, in the repository."""

_PARTS = ("recorded", "machine", "data", "repeats", "cases", "fitting", "together", "growth")
_TARGETS = {
    "ratio": lambda target, ratio, ours, plain: ratio >= target,
    "seconds": lambda target, ratio, ours, plain: statistics.median(ours["seconds"]) < target,
    "megabytes": lambda target, ratio, ours, plain: ours["peak_mb"] < target,
    "memory_ratio": lambda target, ratio, ours, plain: plain["peak_mb"] >= target * ours["peak_mb"],
}


def load_run(path: str | os.PathLike[str] = "") -> dict[str, Any]:
    """Read a recorded run.

    Parameters
    ----------
    path : str or path, optional
        By default the project's own.

    Returns
    -------
    dict
        `recorded` (the day), `machine`, `data`, `repeats`, `cases`, `fitting`, `together` and `growth`, which the other
        functions turn into tables.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a run of the benchmarks.
    """
    file = Path(path) if str(path) else resources.files("embedllm.data").joinpath(Path(RECORD).name)
    if not file.is_file():
        raise FileNotFoundError(f"no such run: {file}; python -m benchmarks --record FILE writes one")
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if missing := set(_PARTS) - set(run if isinstance(run, dict) else {}):
        raise ValueError(f"{file} is not a run of the benchmarks: it lacks {', '.join(sorted(missing))}")
    return run


def machine_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return what the times depend on, and when they were measured."""
    rows = {"recorded": run["recorded"], "data": run["data"], **run["machine"]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["the recorded run"])


def case_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return a table of the cases.

    Returns
    -------
    DataFrame indexed by `case`
        Columns: `ours (s)` and `plain (s)`, medians of the repeats with minimum and maximum; `ratio` of the
        medians; `aimed at` and `targets`, "met" or "missed"; `part of plain run`, where its time is scaled from a
        part; `agreement` of the results; `ours (MB)` and `plain (MB)`, peak memory of the whole process, 10^6 bytes.
    """
    rows = {}
    for case in run["cases"]:
        ours, plain = case["ours"], case["theirs"]
        ratio = statistics.median(plain["seconds"]) / statistics.median(ours["seconds"])
        met = [_TARGETS[name](value, ratio, ours, plain) for name, value in case["targets"].items()]
        rows[case["what"]] = {
            "ours (s)": _spread(ours["seconds"]),
            "plain (s)": _spread(plain["seconds"]),
            "ratio": round(ratio, 1),
            "aimed at": ", ".join(f"{name} {value:g}" for name, value in case["targets"].items()),
            "targets": "met" if all(met) else "missed",
            "part of plain run": plain["how"] or "all",
            "agreement": case["agree"],
            "ours (MB)": round(ours["peak_mb"]),
            "plain (MB)": round(plain["peak_mb"]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")


def case_times(run: dict[str, Any]) -> pd.DataFrame:
    """Return the medians of the cases in seconds, `ours` and `plain`, indexed by `case`, with a column `data`."""
    medians = {
        case["what"]: [statistics.median(case[side]["seconds"]) for side in ("ours", "theirs")] for case in run["cases"]
    }
    table = pd.DataFrame.from_dict(medians, orient="index", columns=["ours", "plain"]).rename_axis("case")
    return table.assign(data=f"{run['data']}\n{_recorded(run)}")


def _recorded(run: dict[str, Any]) -> str:
    return f"recorded {run['recorded']} on {run['machine']['processor']}"


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g})"


def fitting_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the ways of fitting that were tried: `seconds`, `val_loss` and `val_accuracy`, indexed by `fit`."""
    table = pd.DataFrame(run["fitting"]).set_index("what").rename_axis("fit")
    return table.round({"seconds": 2, "val_loss": 5, "val_accuracy": 5})


def together_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the fits by one process and by several: `seconds` and `val_loss`, indexed by `processes`."""
    return pd.DataFrame(run["together"]).set_index("processes").round({"seconds": 2, "val_loss": 6})


def growth_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the points of growth: `data`, `axis`, `what`, `questions`, `models`, `dim`, `seconds`, `peak_mb`."""
    return pd.DataFrame(run["growth"]).assign(data=f"random data, {_recorded(run)}")


def scaling_table(n_models: int, n_questions: int, dim: int = 232, width: int = 768, block: int = 128) -> pd.DataFrame:
    """Compute what a fit needs at a given size, with every answer observed.

    Parameters
    ----------
    n_models, n_questions, dim, width : int
    block : int
        Questions in an optimizer step.

    Returns
    -------
    DataFrame
        One column, `amount`, as text.
    """
    shape = Shape(n_models, width, dim)
    n_parameters = sum(value.numel() for value in init_parameters(*shape, generator=torch.Generator()))
    each, by_pair = block_flops(shape)["needed"], n_models * pair_flops(shape)["needed"]
    steps = -(-n_questions // block)
    rows = {
        "embeddings, float32 (GB)": 4 * width * n_questions / 1e9,
        "labels, int8 (GB)": n_models * n_questions / 1e9,
        "parameters, gradients, Adam's moments (MB)": 4 * 4 * n_parameters / 1e6,
        "arithmetic of a pass (TFLOPs)": each * n_questions / 1e12,
        "the same, pair by pair (TFLOPs)": by_pair * n_questions / 1e12,
        "hours of a pass at 50 GFLOP/s, a core": each * n_questions / 50e9 / 3600,
        "seconds of a pass at 20 TFLOP/s, a GPU": each * n_questions / 20e12,
        "steps of a pass": steps,
        "gradients sent by a process in a pass (GB)": 4 * n_parameters * steps / 1e9,
        "KNN: arithmetic of a question (GFLOPs)": 2 * width * n_questions / 1e9,
    }
    amounts = {what: f"{amount:,.0f}" if amount >= 100 else f"{amount:,.3g}" for what, amount in rows.items()}
    return pd.DataFrame.from_dict(amounts, orient="index", columns=["amount"])
