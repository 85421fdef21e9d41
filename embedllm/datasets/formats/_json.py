"""JSON lines, lists as text, and the fields of objects, with errors that name the file and the line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from embedllm._support.files import lines_of, opened, parse_json

_LONGEST_LIST = 1 << 20  # characters; Python takes 100 bytes for each to read it


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a file with one JSON object a line, a line at a time, `.gz` or plain; blank lines are skipped.

    Yields
    ------
    number : int
        Number of the line, counted from 1.
    line : dict

    Raises
    ------
    ValueError
        As `embedllm._support.files.opened` and `embedllm._support.files.parse_json` do, or if a line is no object.
    """
    # In bytes, a line ends at a line feed only; as text, it would also end at some that may stand inside a JSON string.
    with opened(path) as stream:
        for number, data in enumerate(lines_of(stream, path), start=1):
            if data.strip():
                yield number, as_object(parse_json(data, f"{path}, line {number}"), f"{path}, line {number}")


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Return an object.

    Raises
    ------
    ValueError
        If a value is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_kind(value)}, not an object with the fields of a row")
    return value


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


def list_in(text: str) -> list[Any] | None:
    """Return the list that Python would write as this text, or None."""
    if len(text) <= _LONGEST_LIST:
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return value if isinstance(value := ast.literal_eval(text), list) else None
    return None


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
