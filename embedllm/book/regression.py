"""Compare the values of a build with the tolerances recorded for its data set, in ``data/expected/<data set>.json``.

A count must be equal to what was recorded. The tolerance of any other value is its mean over the seeds plus or minus
three standard errors of that mean. Other machines sum in another order, so the tolerance is at least one ten-thousandth
of the value, or of 1 if the value is smaller.

``python -m embedllm.book.regression`` executes what is stale, records the tolerances of this build and prints what
changed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from embedllm._files import replacing
from embedllm.book.contents import book_notebooks
from embedllm.book.execution import refresh
from embedllm.book.notebooks import Notebook
from embedllm.book.parameters import book_parameters
from embedllm.datasets.load import dataset_folder
from embedllm.protocol.reported_values import ReportedValue, format_number, read_reported

STANDARD_ERRORS = 3
ROUNDING = 1e-4

Tolerance = tuple[float, float]


def expected_path(root: Path, parameters: Mapping[str, Any]) -> Path:
    """Return the file that holds the tolerances of a data set, whether it exists or not."""
    name = parameters.get("dataset", "simulated")
    folder = dataset_folder(name)
    return root / "data" / "expected" / f"{name if folder is None else folder.resolve().name}.json"


def tolerance_of(reported: ReportedValue) -> Tolerance:
    """Return the tolerance of a value: the value itself for a count, (NaN, NaN) for an undefined value."""
    if _is_exact(reported):
        return reported.value, reported.value
    half = max(STANDARD_ERRORS * reported.seed_stderr, ROUNDING * max(1.0, abs(reported.value)))
    return reported.value - half, reported.value + half


def _is_exact(reported: ReportedValue) -> bool:
    """Tell whether a value is a count that all runs agree on."""
    return reported.count and reported.value.is_integer()


def found_values(root: Path, names: Sequence[str]) -> dict[str, ReportedValue]:
    """Read the values of the executed notebooks, by ``<notebook>.<key>``."""
    found: dict[str, ReportedValue] = {}
    for name in names:
        if (path := Notebook(root, name).reported_values).exists():
            found |= {f"{name}.{key}": reported for key, reported in read_reported(path)[1].items()}
    return found


def check(root: Path, names: Sequence[str], parameters: Mapping[str, Any]) -> tuple[bool, str]:
    """Compare the values of the executed notebooks with their tolerances.

    Parameters
    ----------
    root : Path
        Root of the repository.
    names : sequence of str
        The notebooks of the book, all of them executed.
    parameters : mapping
        Those of the book.

    Returns
    -------
    passed : bool
        Also true where there is nothing to compare with.
    message : str
        What was compared or, as a table, what is outside its tolerance.

    Raises
    ------
    ValueError
        If the file of the tolerances is damaged.
    """
    path, found = expected_path(root, parameters), found_values(root, names)
    where = path.relative_to(root)
    if not path.exists():
        return True, f"{where} does not exist, so no value was compared: make expected records this build"
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
        recorded, tolerances = expected["parameters"], _read(expected["tolerances"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of tolerances: restore it, or remove it and run make expected") from error
    if recorded != dict(parameters):
        return True, f"{where} was recorded with {recorded}, not {dict(parameters)}: no value was compared"
    table = departures(tolerances, found)
    if table.empty:
        return True, f"all {len(found)} values are within the tolerances of {where}"
    return False, (
        f"{len(table)} of {len(tolerances)} values are outside the tolerances of {where}; if the change is intended, "
        f"make expected records new ones.\n{table.to_string(index=False)}"
    )


def departures(tolerances: Mapping[str, Tolerance], found: Mapping[str, ReportedValue]) -> pd.DataFrame:
    """Return the values that are outside their tolerances, missing, or without a tolerance.

    Returns
    -------
    DataFrame
        Columns `value` (``<notebook>.<key>``), `what`, `found`, `from`, `to`, all text.
    """
    rows = []
    for key in [*tolerances, *(key for key in found if key not in tolerances)]:
        low, high = tolerances.get(key, (math.nan, math.nan))
        reported = found.get(key)
        value = reported.value if reported else math.nan
        both_undefined = math.isnan(low) and math.isnan(value)
        if key not in tolerances or reported is None or not (low <= value <= high or both_undefined):
            rows.append(
                {
                    "value": key,
                    "what": reported.what if reported else "",
                    "found": format_number(value) if reported else "missing",
                    "from": format_number(low) if key in tolerances else "new",
                    "to": format_number(high) if key in tolerances else "new",
                }
            )
    return pd.DataFrame(rows, columns=["value", "what", "found", "from", "to"])


def record(root: Path, names: Sequence[str], parameters: Mapping[str, Any]) -> str:
    """Write the tolerances of a build, one line for each value, and return what that changes."""
    path, found = expected_path(root, parameters), found_values(root, names)
    before = json.loads(path.read_text(encoding="utf-8"))["tolerances"] if path.exists() else {}
    lines = ",\n".join(f"  {json.dumps(key)}: {_written(reported)}" for key, reported in found.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        content = f'{{\n "parameters": {json.dumps(dict(parameters))},\n "tolerances": {{\n{lines}\n }}\n}}\n'
        temporary.write_text(content, encoding="utf-8")
    table = departures(_read(before), found)
    changed = "the values are within the tolerances of before" if table.empty else table.to_string(index=False)
    return f"{path.relative_to(root)}: {len(found)} tolerances written\n{changed}"


def _written(reported: ReportedValue) -> str:
    """A tolerance as JSON: a count whole, the ends of any other with seven digits."""
    if _is_exact(reported):
        return str(int(reported.value))
    return json.dumps([float(f"{end:.7g}") for end in tolerance_of(reported)])


def _read(tolerances: Mapping[str, Any]) -> dict[str, Tolerance]:
    pairs = {key: each if isinstance(each, list) else [each, each] for key, each in tolerances.items()}
    return {key: (float(low), float(high)) for key, (low, high) in pairs.items()}


def _main() -> int:
    root = Path.cwd()
    configuration = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    parameters = book_parameters(configuration["sphinx"]["config"]["embedllm_parameters"])
    names = book_notebooks(root)
    failed = refresh(root, names, parameters, say=print)
    for name, error in failed.items():
        print(f"notebooks/{name} failed. {error}", file=sys.stderr)
    if not failed:
        print(record(root, names, parameters))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(_main())
