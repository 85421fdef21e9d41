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
        `recorded` (the day), `machine`, `data`, `repeats`, `cases`, `fitting`, `together`, `growth` and, where one was
        recorded, `gpu`, which the other functions turn into tables.

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
    """Return what the times depend on, and when they were measured, for the run and for one on a GPU."""
    parts = {"the recorded run": run} | ({"the run on a GPU": run["gpu"]} if "gpu" in run else {})
    columns = {
        what: {"recorded": part["recorded"], "data": part["data"], **part["machine"]} for what, part in parts.items()
    }
    return pd.DataFrame(columns)


def case_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return a table of the cases.

    Returns
    -------
    DataFrame indexed by `case`
        Columns: `ours (s)` and `plain (s)`, medians of the repeats with minimum and maximum; `ratio` of the
        medians, "extrapolated" where the plain time is; `aimed at` and `targets`, "met" or "missed", where there are
        any; `part of plain run`, where its time is scaled from a part; `agreement` of the results; `ours (MB)` and
        `plain (MB)`, peak memory of the whole process since the data were read, 10^6 bytes.
    """
    rows = {}
    for case in run["cases"]:
        ours, plain = case["ours"], case["theirs"]
        ratio = statistics.median(plain["seconds"]) / statistics.median(ours["seconds"])
        met = [_TARGETS[name](value, ratio, ours, plain) for name, value in case["targets"].items()]
        rows[case["what"]] = {
            "ours (s)": _spread(ours["seconds"]),
            "plain (s)": _spread(plain["seconds"]),
            "ratio": f"{ratio:,.1f}" + (", extrapolated" if plain["how"] else ""),
            **_aims(case["targets"], met),
            "part of plain run": plain["how"] or "all",
            "agreement": case["agree"],
            "ours (MB)": round(ours["peak_mb"]),
            "plain (MB)": round(plain["peak_mb"]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")


def case_times(run: dict[str, Any]) -> pd.DataFrame:
    """Return the medians of the cases in seconds.

    Returns
    -------
    DataFrame indexed by `case`
        Columns: `ours` and `plain`; `extrapolated`, whether `plain` is scaled from a part; `data`.
    """
    table = pd.DataFrame(index=pd.Index([case["what"] for case in run["cases"]], name="case"))
    for column, side in (("ours", "ours"), ("plain", "theirs")):
        table[column] = [statistics.median(case[side]["seconds"]) for case in run["cases"]]
    table["extrapolated"] = [bool(case["theirs"]["how"]) for case in run["cases"]]
    return table.assign(data=f"{run['data']}\n{_recorded(run)}")


def _recorded(run: dict[str, Any]) -> str:
    return f"recorded {run['recorded']} on {run['machine']['processor']}"


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g})"


def _aims(targets: dict[str, float], met: list[bool]) -> dict[str, str]:
    aimed_at = ", ".join(f"{name} {value:g}" for name, value in targets.items())
    return {"aimed at": aimed_at, "targets": ("met" if all(met) else "missed") if met else ""}


def fitting_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the ways of fitting, with what they reach.

    Returns
    -------
    DataFrame indexed by `fit`
        Columns: `seconds`, median; `iterations` of the exact fit; `objective`, the mean over the models of loss and
        penalty on the training questions, where alpha is that of the others; `val_loss` and `val_accuracy` on the
        validation questions; `peak MB` of the process; `aimed at` and `targets`, "met" or "missed", where there is one.
    """
    rows = {}
    for fit in run["fitting"]:
        seconds, targets = statistics.median(fit["seconds"]), fit["targets"]
        reached = {"seconds": seconds, "val_loss": fit["val_loss"]}
        rows[fit["what"]] = {
            "seconds": round(seconds, 2),
            "iterations": str(fit.get("n_iter", "")),
            "objective": round(fit.get("objective", float("nan")), 6),
            "val_loss": round(fit["val_loss"], 5),
            "val_accuracy": round(fit["val_accuracy"], 5),
            "peak MB": round(fit["peak_mb"]),
            **_aims(targets, [reached[name] <= target for name, target in targets.items()]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("fit")


def together_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the exact fits by one process and by several: `seconds` and `objective`, indexed by `processes`."""
    return pd.DataFrame(run["together"]).set_index("processes").round({"seconds": 2, "objective": 7})


def growth_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the points of growth.

    Returns
    -------
    DataFrame
        Columns: `axis`, `what`, `questions`, `models`, `dim`, `n_iter` (of the exact fit), `seconds`, `peak_mb`,
        `data`.
    """
    return pd.DataFrame(run["growth"]).assign(data=f"random data, {_recorded(run)}")


def gpu_table(run: dict[str, Any]) -> pd.DataFrame:
    """Return the run on a GPU: `seconds`, `how` they were measured and `GPU MB`, the peak, indexed by `what`.

    The table is empty if no such run is recorded.
    """
    rows = run["gpu"]["rows"] if "gpu" in run else []
    table = pd.DataFrame(rows, columns=["what", "seconds", "how", "gpu_mb"]).set_index("what")
    table["seconds"] = [f"{value:.3g}" for value in table["seconds"]]
    return table.rename(columns={"gpu_mb": "GPU MB"}).round(0)


def scaling_table(run: dict[str, Any], n_models: int, n_questions: int, width: int = 768) -> pd.DataFrame:
    """Compute what an exact fit needs at a given size, with every answer observed.

    Parameters
    ----------
    run : dict
        Its exact fit tells the number of iterations and how many FLOPs it does in a second.
    n_models, n_questions, width : int

    Returns
    -------
    DataFrame
        One column, `amount`, as text.

    """
    exact = next(fit for fit in run["fitting"] if "n_iter" in fit)
    # Two products (logits and gradient) at the start and in each iteration; a step that is halved takes two more.
    products = 2 * (exact["n_iter"] + 1)
    rate = products * exact["product_flops"] / statistics.median(exact["seconds"])
    product = 2 * width * n_models * n_questions
    weights = (width + 1) * n_models
    seconds = products * product / rate
    rows = {
        "embeddings, float32 (GB)": 4 * width * n_questions / 1e9,
        "labels, int8 (GB)": n_models * n_questions / 1e9,
        "weights, gradient and eight curvature pairs, float32 (GB)": 4 * weights * (2 + 2 * 8) / 1e9,
        "arithmetic of a product (TFLOPs)": product / 1e12,
        "all-reduces of an iteration": 1,
        "sent by a process in an iteration, float64 (MB)": 8 * (weights + n_models) / 1e6,
        "GFLOP/s of the recorded run": rate / 1e9,
        "hours on one machine like that, extrapolated": seconds / 3600,
        "minutes on 64 of them, without communication, extrapolated": seconds / 64 / 60,
        "dimensions: the models' inner products, float64 (TFLOPs)": 2 * n_models**2 * n_questions / 1e12,
    }
    amounts = {what: f"{amount:,.0f}" if amount >= 100 else f"{amount:,.3g}" for what, amount in rows.items()}
    return pd.DataFrame.from_dict(amounts, orient="index", columns=["amount"])
