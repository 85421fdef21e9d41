"""Recognize the format of evaluation results by the names and the beginnings of files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from embedllm._support.files import read_json
from embedllm._support.reading import entries_in, files_below
from embedllm.datasets.formats._lm_eval_runs import is_list
from embedllm.datasets.formats._tables import FORMS, read_header
from embedllm.datasets.formats.answers import ROW_COLUMNS, answer_files
from embedllm.datasets.formats.every_eval_ever import SAMPLES
from embedllm.datasets.formats.inspect_ai import inspect_logs, is_log
from embedllm.datasets.formats.resolved_lists import lists_of
from embedllm.datasets.formats.wide import COST
from embedllm.datasets.importers import (
    existing,
    import_every_eval_ever,
    import_inspect,
    import_lm_eval,
    import_long,
    import_resolved,
    import_wide,
)
from embedllm.matrix import CorrectnessMatrix

_ROUTERBENCH = ("oracle_model_to_route_to",)  # its column that is neither of a question nor of a model
_FLAGS = {"benchmark_column": "--benchmark", "id_column": "--id", "ignore": "--ignore"}


class Recognized(NamedTuple):
    """A format, as the command line calls it.

    Attributes
    ----------
    form : str
        "long", "wide", "lm-eval", "resolved", "every-eval-ever" or "inspect".
    source : Path
        What the importer of the format reads.
    because : str
        What shows that it has the format.
    options : dict
        Options that the importer needs.
    """

    form: str
    source: Path
    because: str
    options: dict[str, Any]

    @property
    def command(self) -> str:
        """The command of the format, with the options that it needs."""
        words = ["import", self.form]
        for name, value in self.options.items():
            for each in [value] if isinstance(value, str) else value:
                words += [_FLAGS[name], each]
        return shlex.join(words)


def recognize(source: Path) -> Recognized:
    """Return the one format that a file or a folder has.

    Raises
    ------
    ValueError
        If it has none or several: names them, and what shows it.
    """
    found = list(_in_folder(source) if source.is_dir() else _of_file(source))
    if len(found) == 1:
        return found[0]
    if not found:
        folder = "if it is a log, name the folder that holds it; otherwise " if source.is_file() else ""
        raise ValueError(
            f"{source} has no format that is recognized: {folder}name the format (`import wide`, `long`, `lm-eval`, "
            f"`resolved`, `every-eval-ever` or `inspect`), and its error says what is missing"
        )
    several = "; ".join(f"{each.form} ({each.because})" for each in found)
    raise ValueError(f"{source} has several formats, {several}: name one of them, or a folder that holds only one")


def import_auto(source: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> CorrectnessMatrix:
    """Recognize the format of evaluation results, and import them.

    Parameters
    ----------
    source : path
    out : path
        A folder that does not exist, or is empty.
    **options
        As the importer of the format takes them.

    Raises
    ------
    ValueError
        If `recognize` finds no format, or several, or as the importer does.

    Examples
    --------
    >>> from embedllm import import_auto
    >>> import_auto("logs", "my-pool")  # doctest: +SKIP
    """
    found = recognize(existing(source))
    importer = IMPORTERS[found.form]
    return importer(found.source, out, **{**found.options, **options})


IMPORTERS: dict[str, Callable[..., CorrectnessMatrix]] = {
    "long": import_long,
    "wide": import_wide,
    "lm-eval": import_lm_eval,
    "resolved": import_resolved,
    "every-eval-ever": import_every_eval_ever,
    "inspect": import_inspect,
}
"""By the name of the format on the command line."""


def _in_folder(folder: Path) -> Iterator[Recognized]:
    files = files_below(folder)
    old = [path for path in files if path.suffix == ".jsonl" and (path.parent / "results.json").is_file()]
    if samples := [path for path in files if fnmatch(path.name, "samples_*.json*")] or [*filter(is_list, old)]:
        yield Recognized("lm-eval", folder, _some(samples), {})
    if rows := [path for path in files if path.name.endswith(SAMPLES)]:
        yield Recognized("every-eval-ever", folder, _some(rows), {})
    if logs := inspect_logs(folder):
        yield Recognized("inspect", folder, _some(logs), {})
    if lists := [path for path in lists_of(folder) if _has_lists(path)]:
        yield Recognized("resolved", folder, _some(lists), {})
    try:
        yield Recognized("long", folder, _some(list(answer_files(folder).values())), {})
    except FileNotFoundError:
        for path in entries_in(folder):
            yield from _of_file(path) if path.name.endswith(FORMS) else ()


def _of_file(path: Path) -> Iterator[Recognized]:
    if is_log(path):
        yield Recognized("inspect", path, path.name, {})
    elif path.name.endswith(FORMS):
        header = read_header(path)
        if set(ROW_COLUMNS) <= set(header):
            yield Recognized("long", path, f"{path.name} with the columns {', '.join(ROW_COLUMNS)}", {})
        elif {"prompt", "eval_name"} <= set(header) and (costs := [name for name in header if name.endswith(COST)]):
            options = {"benchmark_column": "eval_name", "ignore": [name for name in header if name in _ROUTERBENCH]}
            options |= {"id_column": "sample_id"} if "sample_id" in header else {}
            yield Recognized("wide", path, f"{path.name} with the column {costs[0]}, as RouterBench has", options)
        elif {"prompt", "benchmark"} <= set(header):
            yield Recognized("wide", path, f"{path.name} with the columns prompt and benchmark", {})


def _has_lists(path: Path) -> bool:
    content = read_json(path)
    return isinstance(content, dict) and any(
        isinstance(content.get(name), list) for name in ("resolved", "resolved_ids")
    )


def _some(paths: list[Path]) -> str:
    return paths[0].name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
