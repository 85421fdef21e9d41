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
    return parse_json(path.read_bytes(), str(path))


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
                line = parse_json(data, f"{path}, line {number}")
                if not isinstance(line, dict):
                    raise ValueError(f"{path}, line {number} is {_kind(line)}, not an object with the fields of a row")
                yield number, line


def field(entry: dict[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return a field of an object.

    Raises
    ------
    ValueError
        If it is missing or of another kind.
    """
    if name not in entry:
        raise ValueError(f"{where} has no {name!r}; it has {list(entry)}: add it, or remove the entry")
    if not isinstance(value := entry[name], kind) or isinstance(value, bool):
        raise ValueError(f"{where}: {name} is {_kind(value)}: correct it, or remove the entry")
    return value


def parse_json(data: bytes, where: str) -> Any:
    """Return the value that bytes hold.

    Raises
    ------
    ValueError
        As `read_json` does; `where` names the place.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if re.search(rb"\\u[dD][89a-fA-F]", data):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} holds half a surrogate pair, which is no character: remove it") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and lists in lists in lists
        raise ValueError(f"{where} is not JSON ({error}): was it cut short, or edited?") from error


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
