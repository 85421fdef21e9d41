"""Refuse parameters that a notebook does not declare.

Papermill accepts any ``-p name value``: it logs an unknown name and continues without it, and a value of another type
fails far from its cause. A code cell of a notebook is therefore tagged ``parameters`` and holds annotated assignments
only, and the next calls :func:`check_parameters`::

    dim: int = 232  # size of a model embedding
    dataset: str = "simulated"  # a named data set, or a folder
"""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

DATASET = "EMBEDLLM_DATASET"
"""Environment variable that names the data set of the whole book; `make book DATASET=name` sets it."""


def book_parameters(configured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the book: those of `_config.yml`, but for the data set where `DATASET` names one."""
    return dict(configured) | ({"dataset": name} if (name := os.environ.get(DATASET)) else {})


def declared_parameters(source: str) -> dict[str, str]:
    """Return the names that a cell declares, with their annotations; none if it holds anything but declarations."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return {}
    declarations = [each for each in body if isinstance(each, ast.AnnAssign) and each.value]
    found = {ast.unparse(each.target): ast.unparse(each.annotation) for each in declarations}
    return found if len(found) == len(body) else {}


def check_parameters() -> None:
    """Compare the parameters that Papermill injected with those that the notebook declares.

    The cells are read from IPython's history. Outside IPython, and in a notebook that is run by hand without injected
    parameters, the function does nothing.

    Raises
    ------
    ValueError
        If a name is not declared, or the injected cell ran before the declarations, whose defaults then win.
    TypeError
        If a value is not of the declared type; an int is accepted where a float is declared.
    """
    ipython = sys.modules.get("IPython")
    if shell := ipython.get_ipython() if ipython else None:
        check_history(shell.user_ns["In"], shell.user_ns)


def check_history(cells: Sequence[str], namespace: Mapping[str, Any]) -> None:
    """Do what :func:`check_parameters` does, for the sources of the cells that ran and the variables that they set."""
    declared: dict[str, str] = {}
    given: list[str] = []
    for cell in cells:
        if cell.startswith("# Parameters\n"):  # the first line that Papermill writes
            given = [target.id for each in ast.parse(cell).body for target in each.targets]  # type: ignore[attr-defined]
            if not declared:
                raise ValueError(
                    f"the given parameters ({', '.join(given)}) would be ignored: Papermill found no cell tagged "
                    "'parameters' and put them above the defaults, which win. Restore the tag on the cell with the "
                    "defaults."
                )
        declared |= declared_parameters(cell)
    if unknown := [name for name in given if name not in declared]:
        raise ValueError(_unknown_message(unknown, declared))
    for name in given:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(declared[name], config=ConfigDict(strict=True))  # type: ignore[arg-type]
            adapter.validate_python(namespace[name])
        except ValidationError:
            raise TypeError(_type_message(name, declared[name], namespace[name])) from None


def _unknown_message(unknown: Sequence[str], declared: Mapping[str, str]) -> str:
    close = {name: difflib.get_close_matches(name, declared, n=1) for name in unknown}
    named = [f"{name!r} (did you mean {match[0]!r}?)" if match else repr(name) for name, match in close.items()]
    takes = ", ".join(f"{name} ({annotation})" for name, annotation in declared.items())
    return f"unknown parameters {', '.join(named)}: this notebook takes {takes}"


def _type_message(name: str, annotation: str, value: object) -> str:
    message = f"parameter {name!r} must be {annotation}, not {value!r} ({type(value).__name__})"
    # `papermill -p dataset 7` reads the 7 as a number.
    return f"{message}; -r instead of -p keeps it a string" if annotation == "str" else message
