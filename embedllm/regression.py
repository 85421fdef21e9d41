"""Compare the numbers of a build with the bands recorded for its data set, in ``data/expected/<data set>.json``.

A band is the mean over the seeds plus or minus three standard errors of that mean. Other machines sum in another order,
so a number that no seed moves has a band, too: one ten-thousandth of its size, or of 1 if it is smaller.

``python -m embedllm.regression`` executes what is stale, writes the bands of this build and prints what changed.
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

from embedllm.execution import Notebook, refresh
from embedllm.files import replacing
from embedllm.headlines import Headline, format_number, read_headlines
from embedllm.sources import dataset_folder

STANDARD_ERRORS = 3
ROUNDING = 1e-4

Band = tuple[float, float]


def expected_path(root: Path, parameters: Mapping[str, Any]) -> Path:
    """Return the file that holds the bands of a data set, whether it exists or not."""
    name = parameters.get("dataset", "simulated")
    folder = dataset_folder(name)
    return root / "data" / "expected" / f"{name if folder is None else folder.resolve().name}.json"


def band_of(headline: Headline) -> Band:
    """Return the band of a number: (NaN, NaN) for one that is undefined."""
    half = max(STANDARD_ERRORS * headline.seed_stderr, ROUNDING * max(1.0, abs(headline.value)))
    return headline.value - half, headline.value + half


def found_headlines(root: Path, names: Sequence[str]) -> dict[str, Headline]:
    """Read the numbers of the executed notebooks, by ``<notebook>.<key>``."""
    found: dict[str, Headline] = {}
    for name in names:
        if (path := Notebook(root, name).headlines).exists():
            found |= {f"{name}.{key}": headline for key, headline in read_headlines(path)[1].items()}
    return found


def check(root: Path, names: Sequence[str], parameters: Mapping[str, Any]) -> tuple[bool, str]:
    """Compare the numbers of the executed notebooks with their bands.

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
        What was compared or, as a table, what left its band.

    Raises
    ------
    ValueError
        If the file of the bands is damaged.
    """
    path, found = expected_path(root, parameters), found_headlines(root, names)
    where = path.relative_to(root)
    if not path.exists():
        return True, f"{where} does not exist, so no number was compared: make expected records this build"
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
        recorded, bands = expected["parameters"], {key: _band(ends) for key, ends in expected["bands"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of bands: restore it, or remove it and make expected") from error
    if recorded != dict(parameters):
        return True, f"{where} was recorded with {recorded}, not {dict(parameters)}: no number was compared"
    table = departures(bands, found)
    if table.empty:
        return True, f"all {len(found)} numbers are within the bands of {where}"
    return False, (
        f"{len(table)} of {len(bands)} numbers left the bands of {where}; if that is meant, make expected "
        f"records new ones.\n{table.to_string(index=False)}"
    )


def departures(bands: Mapping[str, Band], found: Mapping[str, Headline]) -> pd.DataFrame:
    """Return the numbers that are outside their bands, missing, or without a band.

    Returns
    -------
    DataFrame
        Columns `number` (``<notebook>.<key>``), `what`, `found`, `from`, `to`, all text.
    """
    rows = []
    for key in [*bands, *(key for key in found if key not in bands)]:
        low, high = bands.get(key, (math.nan, math.nan))
        headline = found.get(key)
        value = headline.value if headline else math.nan
        both_undefined = math.isnan(low) and math.isnan(value)
        if key not in bands or headline is None or not (low <= value <= high or both_undefined):
            rows.append(
                {
                    "number": key,
                    "what": headline.what if headline else "",
                    "found": format_number(value) if headline else "gone",
                    "from": format_number(low) if key in bands else "new",
                    "to": format_number(high) if key in bands else "new",
                }
            )
    return pd.DataFrame(rows, columns=["number", "what", "found", "from", "to"])


def record(root: Path, names: Sequence[str], parameters: Mapping[str, Any]) -> str:
    """Write the bands of a build, one line a number, and return what that changes."""
    path, found = expected_path(root, parameters), found_headlines(root, names)
    before = json.loads(path.read_text(encoding="utf-8"))["bands"] if path.exists() else {}
    bands = [f"  {json.dumps(key)}: {json.dumps(_plain(band_of(headline)))}" for key, headline in found.items()]
    lines = ["{", f' "parameters": {json.dumps(dict(parameters))},', ' "bands": {', ",\n".join(bands), " }", "}", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    table = departures({key: _band(ends) for key, ends in before.items()}, found)
    changed = "the numbers are within the bands of before" if table.empty else table.to_string(index=False)
    return f"{path.relative_to(root)}: {len(found)} bands written\n{changed}"


def _plain(band: Band) -> list[float | None]:
    """Seven digits, which are more than a band needs and keep the file readable."""
    return [None if math.isnan(end) else float(f"{end:.7g}") for end in band]


def _band(ends: Sequence[float | None]) -> Band:
    low, high = (math.nan if end is None else float(end) for end in ends)
    return low, high


def _main() -> int:
    from embedllm.book import book_notebooks

    root = Path.cwd()
    configuration = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    parameters, names = configuration["sphinx"]["config"]["embedllm_parameters"], book_notebooks(root)
    failed = refresh(root, names, parameters, say=print)
    for name, error in failed.items():
        print(f"notebooks/{name} failed. {error}", file=sys.stderr)
    if not failed:
        print(record(root, names, parameters))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(_main())
