"""The values that the paper and its secondary sources report; ours stand beside them and are never mixed with them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pandas as pd
import yaml

from embedllm._support.whole_texts import WholeTexts

COLUMNS = ("figure", "value", "unit", "where", "seen_in", "verified")


def load_published(path: Path | None = None) -> pd.DataFrame:
    """Read the published values.

    Parameters
    ----------
    path : Path, optional
        A YAML list of entries with the keys `key` and `COLUMNS`; by default the project's own, `data/published.yml`.

    Returns
    -------
    DataFrame indexed by `key`
        Columns `figure` (what it is), `value` (a number, or text where qualitative), `unit`, `where` and `seen_in`
        (its source, and where that was read) and `verified` (whether it was read in the source itself).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If an entry lacks a key, a key occurs twice or is not an identifier, or `verified` is neither true nor false.

    Examples
    --------
    >>> from embedllm import load_published
    >>> published = load_published()
    >>> published.loc["dim", ["value", "where"]].tolist()
    [232, "authors' repository"]
    """
    file = path or resources.files("embedllm.data").joinpath("published.yml")
    if not file.is_file():
        raise FileNotFoundError(f"{file}, the list of published values, does not exist: restore it")
    entries: dict[str, dict[str, object]] = {}
    for number, entry in enumerate(yaml.safe_load(file.read_text(encoding="utf-8")) or [], start=1):
        place = f"{file.name}, entry {number} ({entry.get('key')})"
        if missing := {"key", *COLUMNS} - set(entry):
            raise ValueError(f"{place} lacks {', '.join(sorted(missing))}")
        if unknown := set(entry) - {"key", *COLUMNS}:
            raise ValueError(f"{place} has unknown keys {sorted(unknown)}: quote texts that hold commas")
        key = str(entry["key"])
        if not key.isidentifier() or key in entries:
            raise ValueError(f"{place}: a key is of letters, digits and underscores, and occurs once")
        if not isinstance(entry["verified"], bool):
            raise ValueError(f"{place}: verified is {entry['verified']!r}, not true or false")
        entries[key] = {column: entry[column] for column in COLUMNS}
    table = pd.DataFrame.from_dict(entries, orient="index", columns=list(COLUMNS)).rename_axis("key")
    return WholeTexts(table)


def published_values(published: pd.DataFrame) -> dict[str, str]:
    """Write each published value as text, with its unit, and mark those that nobody verified."""
    values = {}
    for key, row in published.iterrows():
        number = row["value"] if isinstance(row["value"], str) else f"{row['value']:,}"
        values[str(key)] = f"{number} {row['unit']}".strip() + ("" if row["verified"] else " (unverified)")
    return values
