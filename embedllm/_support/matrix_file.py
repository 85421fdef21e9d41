"""The file of a correctness matrix: an `.npz` archive that holds the arrays and, as JSON, the tables."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from embedllm._support.files import check_archive, parse_json, replacing, user_path

_TABLES = "tables.json"


def write_archive(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    tables: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any],
) -> None:
    """Write arrays, tables and facts that JSON can hold, under a temporary name that then becomes `path`."""
    described = {**facts, **{key: _to_json(table) for key, table in tables.items()}}
    with replacing(path) as temporary:
        with temporary.open("wb") as stream:
            # Not compressed: that takes seven times as long, and embeddings, most of the file, hardly shrink.
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_TABLES, json.dumps(described))


def read_archive(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, pd.DataFrame], dict[str, Any]]:
    """Return the arrays, the tables and the facts of an archive; no pickled object is ever loaded."""
    check_archive(user_path(path))
    with open(user_path(path), "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        described = parse_json(archive[_TABLES], str(path))
        arrays = {name: archive[name] for name in archive.files if name != _TABLES}
    tables = {key: _from_json(value) for key, value in described.items() if _is_table(value)}
    return arrays, tables, {key: value for key, value in described.items() if key not in tables}


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"name", "index", "columns"}


def _to_json(table: pd.DataFrame) -> dict[str, object]:
    columns = {name: table[name].astype(object).where(table[name].notna(), None).tolist() for name in table}
    return {"name": table.index.name, "index": table.index.tolist(), "columns": columns}


def _from_json(table: dict) -> pd.DataFrame:
    return pd.DataFrame(table["columns"], index=pd.Index(table["index"], dtype=object, name=table["name"]))
