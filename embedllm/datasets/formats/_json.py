"""JSON and JSON lines, with errors that name the file and the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """Read a file that holds one JSON value.

    Raises
    ------
    ValueError
        If it is empty, not UTF-8 or not JSON, or holds half a surrogate pair.
    """
    return _parse(path.read_bytes(), str(path))


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a file with one JSON object a line, a line at a time; blank lines are skipped.

    Yields
    ------
    number : int
        Number of the line, counted from 1.
    line : dict

    Raises
    ------
    ValueError
        If a line is not UTF-8, not JSON or no object, or holds half a surrogate pair.
    """
    # In bytes, a line ends at a line feed only; as text, it would also end at some that may stand inside a JSON string.
    with path.open("rb") as stream:
        for number, data in enumerate(stream, start=1):
            if data.strip():
                line = _parse(data, f"{path}, line {number}")
                if not isinstance(line, dict):
                    raise ValueError(f"{path}, line {number} is {_kind(line)}, not an object with the fields of a row")
                yield number, line


def _parse(data: bytes, where: str) -> Any:
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if re.search(rb"\\u[dD][89a-fA-F]", data):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} holds half a surrogate pair, which is no character: remove it") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error}): was it cut short, or edited?") from error


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
