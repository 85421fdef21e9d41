"""Execute the stale notebooks of the book through Papermill.

Beside each executed copy lie a stamp of all that went into it, by content, so that a notebook runs again when, and only
when, one of its inputs changed; the numbers that its page quotes; and its figures. :mod:`embedllm.book.dependencies`
finds the inputs, and :mod:`embedllm.book.extension` calls this module from Sphinx.

Three notebooks differ from the others: the k that `tuning` chooses becomes a parameter of those that declare it, and
`summary` and, in a build on real answers, `real_answers` read the numbers of all the others. Both read those recorded
of other data sets.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from embedllm._support.files import sha256_of
from embedllm.book.dependencies import Dependencies, digest
from embedllm.book.notebooks import WORKERS, Notebook
from embedllm.datasets.load import dataset_folder
from embedllm.datasets.real_pools import pool_folder
from embedllm.protocol.reported_values import read_reported

TUNING = "tuning"

SHARED_FIT = "communities"
"""The notebook that needs nothing but the paper's training, which others read from the cache."""

LONG = {"baselines", "new_models"}
"""Notebooks that take long: they begin early, so that none of them runs alone in the end."""

COLLECTING = {"summary", "real_answers"}
"""Notebooks that show recorded numbers, and what the others reported: see `_collects`."""

OWN_SETTINGS = {"cost", "label_rules", "what_embedllm_is", "limits"}
"""Notebooks that take nothing from `tuning`: they study the paper's own settings, or other data than the build's."""

CHOSEN = {"n_neighbors": int}
"""Parameters that other notebooks take from `tuning`, and their types. Not the size of an embedding: the paper's is 232
wherever it does not tune it, and the exact fit loses nothing with more dimensions than it needs."""


def inputs(notebook: Notebook, dependencies: Dependencies, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what the results of a notebook depend on.

    Parameters
    ----------
    notebook : Notebook
    dependencies : Dependencies
        Of the repository of the notebook.
    parameters : mapping
        Those that the notebook runs with, defaults included. A path among them is data, and so is a folder that stands
        in for a named data set.

    Returns
    -------
    dict
        Name of each input to its hash, version or value; JSON-compatible.
    """
    root = notebook.root
    found: dict[str, Any] = {f"notebooks/{notebook.name}.py": sha256_of(notebook.source)}
    found |= dependencies.describe(notebook.source) | {f"parameter {name}": parameters[name] for name in parameters}
    for name, value in parameters.items():
        folder = (dataset_folder(value) or pool_folder(value)) if name == "dataset" else value
        if folder and isinstance(folder, str | Path) and os.path.exists(path := root / folder):
            found[f"data in {value}"] = dependencies.data(path)
    return found


def refresh(
    root: Path, names: Sequence[str], parameters: Mapping[str, Any], say: Callable[[str], None]
) -> dict[str, str]:
    """Sync all pairs, execute the stale notebooks and remove the executed copies of others.

    Parameters
    ----------
    root : Path
        Root of the repository.
    names : sequence of str
        The notebooks of the book.
    parameters : mapping
        Parameters of the book; each notebook gets those that it declares.
    say : callable
        Takes one line of progress.

    Returns
    -------
    dict of str to str
        Name to error, for each notebook that failed. It leaves no stamp, so it runs again next time.
    """
    if os.path.expanduser("~") == "~":  # no home is known, as in a container with any user, and Jupyter needs one
        os.environ["HOME"] = str(root / "book" / "_build" / "home")
    notebooks = [Notebook(root, name) for name in names]
    for notebook in notebooks:
        if done := notebook.sync():
            say(f"notebooks/{notebook.name}: {done}")
    _remove_orphans(root, names)

    declared = {notebook.name: notebook.parameters() for notebook in notebooks}
    if unknown := set(parameters) - set().union(*declared.values()):
        raise ValueError(f"no notebook declares {', '.join(sorted(unknown))}: remove it from embedllm_parameters")
    dependencies = Dependencies(root)

    def run(notebook: Notebook, earlier: Sequence[str]) -> str | None:
        given = dict(parameters)
        takes_chosen = _takes_chosen(notebook.name, declared[notebook.name])
        collects = _collects(notebook.name, parameters)
        needed = [name for name in earlier if (name not in COLLECTING if collects else takes_chosen and name == TUNING)]
        for name in needed:
            if runs[name].result():
                say(f"notebooks/{notebook.name}: not executed, since notebooks/{name} failed")
                return f"It needs the results of notebooks/{name}, which failed."
        if takes_chosen and TUNING in earlier:
            given = chosen_parameters(Notebook(root, TUNING)) | given
        passed = {name: value for name, value in given.items() if name in declared[notebook.name]}
        stamp = inputs(notebook, dependencies, {**declared[notebook.name], **passed})
        if collects:
            stamp["a reported value"] = digest((Notebook(root, name).reported_values for name in needed), root)
        if notebook.name in COLLECTING:
            stamp["a record"] = digest((root / "data" / "expected").glob("*.json"), root)
        reason = _stale(notebook, stamp)
        if reason is None:
            say(f"notebooks/{notebook.name}: unchanged")
            return None
        say(f"notebooks/{notebook.name}: executing ({reason})")
        notebook.stamp.unlink(missing_ok=True)
        start = time.perf_counter()
        error = notebook.execute(passed, stdin)
        say(f"notebooks/{notebook.name}: {'FAILED' if error else 'done'} after {time.perf_counter() - start:.0f} s")
        if error is None:
            notebook.stamp.write_text(json.dumps(stamp, indent=1))
        return error

    # Workers take them in this order, so that whoever waits for a notebook waits for one that has begun.
    in_order = sorted(notebooks, key=lambda each: _turn(each.name, declared[each.name], parameters))
    runs: dict[str, Future[str | None]] = {}
    stdin, alive = os.pipe()
    with os.fdopen(stdin), ThreadPoolExecutor(WORKERS) as pool:
        try:
            for position, notebook in enumerate(in_order):
                runs[notebook.name] = pool.submit(run, notebook, [other.name for other in in_order[:position]])
            errors = {name: runs[name].result() for name in names}
        finally:  # of an interrupted build, none goes on, and none begins
            pool.shutdown(wait=False, cancel_futures=True)
            os.close(alive)
    return {name: error for name, error in errors.items() if error}


def _collects(name: str, parameters: Mapping[str, Any]) -> bool:
    """Tell whether a notebook needs the results of the others; `real_answers` shows a build on real answers only."""
    return name in COLLECTING and (name, parameters.get("dataset")) != ("real_answers", "simulated")


def _turn(name: str, declared: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
    """Place of a notebook among the others: what others wait for goes first, what waits for others last."""
    if _collects(name, parameters):
        return 4
    if name in (TUNING, SHARED_FIT):
        return 0
    return 1 if name in LONG else 2 if _takes_chosen(name, declared) else 3


def _takes_chosen(name: str, declared: Mapping[str, Any]) -> bool:
    return bool(CHOSEN.keys() & declared.keys()) and name not in OWN_SETTINGS


def chosen_parameters(tuning: Notebook) -> dict[str, Any]:
    """Return the parameters that the tuning notebook chose; none if it publishes none."""
    if not tuning.reported_values.exists():
        return {}
    _, numbers = read_reported(tuning.reported_values)
    return {name: kind(numbers[name].value) for name, kind in CHOSEN.items() if name in numbers}


def _stale(notebook: Notebook, stamp: Mapping[str, Any]) -> str | None:
    """Say why a notebook must run, or None if it need not."""
    if not all(path.exists() for path in (notebook.stamp, notebook.executed, notebook.figures)):
        return "no complete run yet"
    try:
        previous = json.loads(notebook.stamp.read_text())
    except ValueError:  # the build was stopped while it wrote the stamp
        return "no complete run yet"
    changed = [key for key in stamp | previous if stamp.get(key) != previous.get(key)]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{', '.join(changed[:3])}{more} changed" if changed else None


def _remove_orphans(root: Path, names: Sequence[str]) -> None:
    """Remove executed copies that the table of contents no longer lists, which Sphinx would still pick up."""
    books = [Notebook(root, name) for name in names]
    wanted = {path for book in books for path in (book.executed, book.stamp, book.reported_values)}
    for path in set((root / "book" / "notebooks").glob("*.*")) - wanted:
        if path.is_file():
            path.unlink()
    for path in set((root / "book" / "notebooks" / "figures").glob("*")) - {book.figures for book in books}:
        shutil.rmtree(path)
