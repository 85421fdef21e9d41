"""Compare the values of a build with those recorded of its data set, in ``data/expected/<data set>.json``.

This is a regression test: it tells that a value changed, not that it is true. A count must be equal to what was
recorded. The tolerance of any other value is its recorded mean over the seeds plus or minus three standard errors of
that mean. Other machines sum in another order, so the tolerance is at least one ten-thousandth of the value, or of 1 if
the value is smaller, and of pairwise ranking accuracies a thousandth of a point. Of real answers, the labels, names and
split must be those of the record.

``python -m embedllm.book.regression record`` executes what is stale, records the values of this build and prints what
changed; ``python -m embedllm.book.regression compare`` executes what is stale and exits 1 if anything differs.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from embedllm._support.files import check_writable
from embedllm.book.contents import book_notebooks
from embedllm.book.execution import refresh
from embedllm.book.parameters import book_parameters
from embedllm.datasets.load import dataset_folder, load_dataset
from embedllm.protocol.recorded import Results, built_results, fingerprint, load_results, write_results
from embedllm.protocol.reported_values import ReportedValue, format_number

STANDARD_ERRORS = 3
ROUNDING = 1e-4
NEAR_TIES, LEAST = "pairwise ranking accuracy", 1e-3
"""Values that are named so count the order of nearly equal probabilities, which differs between processors: by 0.0003
points where it was seen. Their tolerance is a thousandth of a point."""

MAIN_FIGURES = (
    "forecasting-training-sizes",
    "routing-routers",
    "benchmark_prediction-rank-correlations",
    "baselines-baselines",
)
"""Figures whose tables are recorded, so that the page of real answers can draw them without the data."""

Tolerance = tuple[float, float]


def expected_path(root: Path, parameters: Mapping[str, Any]) -> Path:
    """Return the file that holds the record of a data set, whether it exists or not."""
    name = parameters.get("dataset", "simulated")
    folder = dataset_folder(name)
    return root / "data" / "expected" / f"{name if folder is None else folder.resolve().name}.json"


def tolerance_of(reported: ReportedValue) -> Tolerance:
    """Return the tolerance of a value: the value itself for a count, (NaN, NaN) for an undefined value."""
    if _is_exact(reported):
        return reported.value, reported.value
    least = LEAST if reported.what.startswith(NEAR_TIES) else ROUNDING * max(1.0, abs(reported.value))
    half = max(STANDARD_ERRORS * reported.seed_stderr, least)
    return reported.value - half, reported.value + half


def _is_exact(reported: ReportedValue) -> bool:
    """Tell whether a value is a count that all runs agree on."""
    return reported.count and reported.value.is_integer()


def check(root: Path, parameters: Mapping[str, Any]) -> tuple[bool, str]:
    """Compare the values of the executed notebooks with the record of their data set.

    Parameters
    ----------
    root : Path
        Root of the repository.
    parameters : mapping
        Those of the book.

    Returns
    -------
    passed : bool
        Also true where there is nothing to compare with.
    message : str
        What was compared or, as a table, what differs.

    Raises
    ------
    ValueError
        If the record is damaged.
    """
    path = expected_path(root, parameters)
    where = path.relative_to(root)
    if not path.exists():
        return True, f"{where} does not exist, so no value was compared: make expected records this build"
    record = load_results(path)
    if record.parameters != dict(parameters):
        return True, f"{where} was recorded with {record.parameters}, not {dict(parameters)}: no value was compared"
    found = _built(root)
    data = _fingerprint(parameters)
    table = pd.concat([data_departures(record.data, data), departures(record.values, found.values)])
    if table.empty:
        return True, f"all {len(found.values)} values are within the tolerances of {where}"
    return False, (
        f"{len(table)} of {len(record.values)} values are outside the tolerances of {where}; if the change is "
        f"intended, make expected records new ones.\n{table.to_string(index=False)}"
    )


def _built(root: Path) -> Results:
    empty = Results("", "", "", {}, {}, {}, {})
    return built_results(root / "book" / "notebooks") or empty


def _fingerprint(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of real answers; none of simulated ones, of which another machine may round a few differently."""
    dataset = parameters.get("dataset", "simulated")
    return {} if dataset == "simulated" else fingerprint(load_dataset(dataset))


def data_departures(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> pd.DataFrame:
    """Return what differs between two fingerprints, as `departures` does; nothing if one is empty."""
    pairs = {name: (str(found[name]), str(recorded[name])) for name in found if name in recorded}
    rows = [(f"data.{name}", name, ours, before, before) for name, (ours, before) in pairs.items() if ours != before]
    return pd.DataFrame(rows, columns=["value", "what", "found", "from", "to"])


def departures(recorded: Mapping[str, ReportedValue], found: Mapping[str, ReportedValue]) -> pd.DataFrame:
    """Return the values that are outside their tolerances, missing, or not recorded.

    Returns
    -------
    DataFrame
        Columns `value` (``<notebook>.<key>``), `what`, `found`, `from`, `to`, all text.
    """
    rows = []
    for key in [*recorded, *(key for key in found if key not in recorded)]:
        low, high = tolerance_of(recorded[key]) if key in recorded else (math.nan, math.nan)
        value = found[key].value if key in found else math.nan
        both_undefined = math.isnan(low) and math.isnan(value)
        if key not in recorded or key not in found or not (low <= value <= high or both_undefined):
            what = (found.get(key) or recorded[key]).what
            ends = (format_number(low), format_number(high)) if key in recorded else ("new", "new")
            rows.append((key, what, format_number(value) if key in found else "missing", *ends))
    return pd.DataFrame(rows, columns=["value", "what", "found", "from", "to"])


def record(root: Path, parameters: Mapping[str, Any]) -> str:
    """Record the values of a build and the tables behind its main figures, and return what that changes."""
    path, found = expected_path(root, parameters), _built(root)
    before = load_results(path).values if path.exists() else {}
    frames = {name: frame for name, frame in found.frames.items() if name in MAIN_FIGURES}
    data = fingerprint(load_dataset(parameters.get("dataset", "simulated")))
    today, version = datetime.date.today().isoformat(), metadata.version("embedllm")
    new = found._replace(when=today, version=version, parameters=dict(parameters), data=data, frames=frames)
    write_results(new, path)
    table = departures(before, found.values)
    changed = "the values are within the tolerances of before" if table.empty else table.to_string(index=False)
    return f"{path.relative_to(root)}: {len(found.values)} values recorded\n{changed}"


def _main(action: str) -> int:
    root = Path.cwd()
    configuration = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    parameters = book_parameters(configuration["sphinx"]["config"]["embedllm_parameters"])
    path = expected_path(root, parameters)
    try:  # before the notebooks run
        if path.exists():
            load_results(path)
        elif action == "compare":
            raise ValueError(f"{path.relative_to(root)} does not exist: make expected records this data set")
        if action == "record":
            check_writable(path.parent)
    except (OSError, ValueError) as fault:
        print(fault, file=sys.stderr)
        return 1
    failed = refresh(root, book_notebooks(root), parameters, say=print)
    for name, error in failed.items():
        print(f"notebooks/{name} failed. {error}", file=sys.stderr)
    if failed:
        return 1
    passed, message = (True, record(root, parameters)) if action == "record" else check(root, parameters)
    print(message)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
