"""Refuse parameters that a notebook does not declare.

Papermill accepts any ``-p name value``: it logs a misspelt name and goes on without it, and a value of the wrong type
fails far from its cause. Every notebook therefore calls :func:`check_parameters` right after its parameters cell, which
is its first code cell, is tagged ``parameters`` and holds annotated assignments only::

    dim: int = 232  # size of a model embedding
    dataset: str = "simulated"  # a named data set, or a folder
"""

from __future__ import annotations

import ast
import difflib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

INJECTED = "# Parameters"
"""What Papermill writes on top of the cell that it injects."""


def declared_parameters(source: str) -> dict[str, str]:
    """Return the parameters that a cell declares, with their annotations.

    Parameters
    ----------
    source : str
        Python source of one cell.

    Returns
    -------
    dict of str to str
        Name to annotation, in the order of the cell; empty if the cell holds anything but annotated assignments.
    """
    return {name: ast.unparse(statement.annotation) for name, statement in _declarations(source).items()}


def default_parameters(source: str) -> dict[str, Any]:
    """Return the parameters that a cell declares, with their defaults.

    Parameters
    ----------
    source : str
        Python source of one cell.

    Returns
    -------
    dict
        Name to value, or to None where the default is no literal.
    """
    defaults: dict[str, Any] = {}
    for name, statement in _declarations(source).items():
        try:
            defaults[name] = ast.literal_eval(statement.value)  # type: ignore[arg-type]
        except ValueError:
            defaults[name] = None
    return defaults


def _declarations(source: str) -> dict[str, ast.AnnAssign]:
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return {}
    found: dict[str, ast.AnnAssign] = {}
    for statement in body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            return {}
        found[statement.target.id] = statement
    return found


def check_parameters() -> None:
    """Compare the parameters that Papermill injected with those that the notebook declares.

    The cells run so far are read from IPython's history, so the call takes no arguments. Outside IPython, and in a
    notebook that is run by hand without injected parameters, it does nothing.

    Raises
    ------
    ValueError
        If a name is not declared, or the injected cell ran before the declared one, whose defaults then win silently.
    TypeError
        If a value is not of the declared type; an int is accepted where a float is declared.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        check_history(shell.user_ns["In"], shell.user_ns)


def check_history(cells: Sequence[str], namespace: Mapping[str, Any]) -> None:
    """Do what :func:`check_parameters` does, for a given history.

    Parameters
    ----------
    cells : sequence of str
        Sources of the cells in the order in which they ran.
    namespace : mapping
        The variables that they left.
    """
    injected = [i for i, source in enumerate(cells) if source.partition("\n")[0].strip() == INJECTED]
    declared = [i for i, source in enumerate(cells) if declared_parameters(source)]
    if not injected:
        return
    # A cell that was run again by hand is in the history twice: its latest source counts.
    given = _assigned(cells[injected[-1]])
    if not declared or injected[0] < declared[0]:
        raise ValueError(
            f"the given parameters ({', '.join(given)}) would be ignored: Papermill found no cell tagged 'parameters' "
            "and put them above the defaults, which win. Restore the tag on the first code cell, with the defaults."
        )
    valid = {name: annotation for i in declared for name, annotation in declared_parameters(cells[i]).items()}
    if unknown := [name for name in given if name not in valid]:
        raise ValueError(_unknown_message(unknown, valid))
    for name in given:
        # The annotation is evaluated where its cell ran, so that it may use whatever the notebook can name.
        if not _matches(namespace[name], eval(valid[name], dict(namespace))):
            raise TypeError(_type_message(name, valid[name], namespace[name]))


def _assigned(source: str) -> list[str]:
    targets = [target for node in ast.parse(source).body if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _unknown_message(unknown: Sequence[str], valid: Mapping[str, str]) -> str:
    named = []
    for name in unknown:
        close = difflib.get_close_matches(name, valid, n=1)
        named.append(f"{name!r} (did you mean {close[0]!r}?)" if close else repr(name))
    takes = ", ".join(f"{name} ({annotation})" for name, annotation in valid.items())
    return f"unknown parameters {', '.join(named)}: this notebook takes {takes}"


def _type_message(name: str, annotation: str, value: object) -> str:
    message = f"parameter {name!r} must be {annotation}, not {value!r} ({type(value).__name__})"
    # `papermill -p dataset 7` reads the 7 as a number.
    return f"{message}; -r instead of -p keeps it a string" if annotation == "str" else message


def _matches(value: object, annotation: Any) -> bool:
    """Tell whether a value is of an annotated type: a plain type, a list of one, or a union of these."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(_matches(item, arguments[0]) for item in value)
    if isinstance(value, bool):
        return annotation is bool
    return isinstance(value, (int, float) if annotation is float else annotation)
