"""Lists of resolved tasks, one for each model, as SWE-bench and its leaderboard publish them.

Each model has a file in a folder, in one of these places::

    MODEL.json, MODEL.txt, MODEL/results.json, MODEL/results/results.json, MODEL/report.json

A `.txt` file has one id a line. JSON is a list of ids, or an object with lists. Other files in the folder are ignored.

========================================================  ==============================================================
list of an object                                         what its tasks count as
========================================================  ==============================================================
`resolved_ids`, or `resolved`                             correct
`unresolved_ids`                                          incorrect
`empty_patch_ids`, or `no_generation`                     incorrect: the model gave no patch
`error_ids`, or `no_logs`                                 as the rule for errors says
`infra_failure_ids`, `ambiguous_failure_ids`              not observed: the harness, or what it ran on, may have failed
`incomplete_ids`, or not in `submitted_ids` if there is   not observed: the model was not asked
any other                                                 incorrect
========================================================  ==============================================================

An id may stand in several lists, as in the harness's own reports (schema 2): what is not observed counts first.

`MODEL.RUN.json` is how the harness names its reports: the model's name is what stands before the last dot. Only files
with a `schema_version` are taken for such reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embedllm._support.checks import check_option
from embedllm._support.files import lines_of, opened, read_json
from embedllm._support.reading import entries_in, is_there
from embedllm.datasets.formats._json import read_json_lines
from embedllm.datasets.formats._tables import FORMS, named, read_header, read_rows
from embedllm.datasets.formats.answers import Answers, CountsAs
from embedllm.datasets.report import Line
from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED

_IN_FOLDER = ("results.json", "results/results.json", "report.json")
_RESOLVED = ("resolved", "resolved_ids")
_SUBMITTED = "submitted_ids"
# Lists of a report, what they hold and what that counts as; None: as the rule for errors says. The last one decides.
_LISTS: dict[tuple[str, ...], tuple[str, str | None]] = {
    ("empty_patch_ids", "no_generation"): ("with an empty patch", "incorrect"),
    ("error_ids", "no_logs"): ("that ended in an error", None),
    ("ambiguous_failure_ids",): ("with an ambiguous failure", "not observed"),
    ("infra_failure_ids",): ("with a failure of the infrastructure", "not observed"),
    ("incomplete_ids",): ("not submitted", "not observed"),
}
_ID, _PROMPT, _BENCHMARK = ("prompt_id", "instance_id"), ("prompt", "problem_statement"), ("benchmark", "repo")


def read_resolved(
    folder: Path, questions: Path, *, errors: CountsAs = "incorrect", run_id: str | None = None
) -> Answers:
    """Read a folder of lists.

    Parameters
    ----------
    folder : Path
    questions : Path
        A `.jsonl`, `.csv`, `.csv.gz` or `.parquet` file that lists every question: its id (`prompt_id` or
        `instance_id`), `prompt` or `problem_statement`, and `benchmark` or `repo`, without which the benchmark has the
        name of the folder.
    errors : "incorrect" or "not observed"
        What a task counts as if its evaluation ended in an error, such as a patch that cannot be applied, but not in a
        failure of the infrastructure. SWE-bench counts it as not resolved.
    run_id : str, optional
        Of reports that are named `MODEL.RUN_ID.json`. By default what follows the last dot; an empty text if the names
        have no run.

    Returns
    -------
    Answers
        Models in sorted order, questions in the order of their file.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder holds no list, or is not a folder.
    ValueError
        If a file is damaged, empty or holds no list, a model has none or two, an id is unknown, listed twice, or
        resolved and not observed, or a question has no id or prompt: names file, row and value.
    """
    check_option("errors", errors, CountsAs)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: name the one that holds a list for each model")
    table = _read_questions(questions, folder.resolve().name)
    files, n_named = _by_model(folder, run_id)
    position = {name: number for number, name in enumerate(table.index)}
    labels = np.full((len(files), len(table)), INCORRECT, dtype=np.int8)
    counts = dict.fromkeys([what for what, _ in _LISTS.values()], 0)
    for row, (path, content) in zip(labels, files.values(), strict=True):
        lists = {name: _positions(ids, name, position, path, questions) for name, ids in _lists(content, path).items()}
        row[lists["resolved"]] = CORRECT
        held = np.full(len(table), "", dtype=object)
        for names, (what, _) in _LISTS.items():
            for name in names:
                held[lists.get(name, [])] = what
        if _SUBMITTED in lists:
            held[np.setdiff1d(np.arange(len(table)), lists[_SUBMITTED])] = "not submitted"
        for what, rule in _LISTS.values():
            found = held == what
            if (rule or errors) == "not observed":
                _check_unresolved(row, found, what, table.index, path)
                row[found] = NOT_OBSERVED
            counts[what] += int((found & (row != CORRECT)).sum())
    named_after = Line(
        "reports named after a run", n_named, "the model's name is what stands before it", run_id is None
    )
    report = [*(Line(f"tasks {what}", counts[what], rule or errors) for what, rule in _LISTS.values()), named_after]
    account = {"results read": labels.size}
    account |= {what: counts[what] for what, rule in _LISTS.values() if (rule or errors) == "not observed"}
    return Answers(pd.DataFrame(labels, index=list(files), columns=table.index), table, report, account)


def _check_unresolved(row: np.ndarray, found: np.ndarray, what: str, ids: pd.Index, path: Path) -> None:
    if (both := found & (row == CORRECT)).any():
        raise ValueError(
            f"{path}: {ids[both][0]!r} is resolved, and it is among the tasks {what}: remove it from one of the two"
        )


def _read_questions(path: Path, benchmark: str) -> pd.DataFrame:
    ids: dict[str, str] = {}
    rows = []
    for where, row in _records(path):
        name, prompt = _first_text(row, _ID), _first_text(row, _PROMPT)
        if not name or not prompt:
            what, names = ("prompt", _PROMPT) if name else ("id", _ID)
            raise ValueError(
                f"{path}, {where} has no text in {' or '.join(names)}; it has {list(row)}: give the {what} one of "
                f"these names, fill it in, or remove the {where.split()[0]}"
            )
        if (first := ids.setdefault(name, where)) != where:
            raise ValueError(f"{path}, {where}: {name!r} stands in {first} already: remove one")
        rows.append((_first_text(row, _BENCHMARK) or benchmark, prompt))
    if not rows:
        raise ValueError(f"{path} lists no question: it must list every one, with id and prompt")
    return pd.DataFrame(rows, index=list(ids), columns=["benchmark", "prompt"])


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not is_there(path):
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix == ".jsonl":
        for number, line in read_json_lines(path):
            yield f"line {number}", line
    elif not path.name.endswith(FORMS):
        # As for every table, but here lines of JSON are taken too.
        raise ValueError(f"{path} is of an unknown form: convert it to one of {', '.join(('.jsonl', *FORMS))}")
    else:
        header = read_header(path)
        for names in (_ID, _PROMPT):
            if not set(names) & set(header):
                raise ValueError(f"{path} has no column {' or '.join(names)}; it has {header}: add one")
        columns = [name for name in header if name in (*_ID, *_PROMPT, *_BENCHMARK)]
        for rows in read_rows(path, columns):
            for number, row in enumerate(rows.columns.to_pylist(), start=rows.first):
                yield f"row {number}", row


def _first_text(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of some fields that is there and not blank; a number, as an id may be, becomes text."""
    texts = (str(row[name]) for name in names if row.get(name) is not None)
    return next((text for text in texts if text.strip()), "")


def lists_of(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder that stand where those of a model do, whatever they hold."""
    for path in entries_in(folder):
        places = [path] if path.suffix == ".json" else [path / name for name in _IN_FOLDER]
        yield from (place for place in places if is_there(place))


def _by_model(folder: Path, run_id: str | None) -> tuple[dict[str, tuple[Path, Any]], int]:
    """The file and its content, by the name of the model, and how many of these names were cut at a run."""
    files: dict[str, tuple[Path, Any]] = {}
    n_named = 0
    for path in entries_in(folder):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix in (".json", ".txt")):
            continue
        model = path.name if path.is_dir() else path.stem
        found = [place for name in _IN_FOLDER if is_there(place := path / name)] if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path} holds none of {', '.join(_IN_FOLDER)}: add one, or remove the folder")
        content = _ids(path) if path.suffix == ".txt" else read_json(found[0])
        if path.suffix == ".json" and isinstance(content, dict) and "schema_version" in content:
            ending = f".{model.rpartition('.')[2]}" if run_id is None else f".{run_id}"
            n_named += model.endswith(ending)
            model = model.removesuffix(ending) if run_id != "" else model
        found = [files[model][0], *found] if model in files else found
        if len(found) > 1:
            raise ValueError(f"model {model!r} has two files, {found[0]} and {found[1]}: remove one of them")
        files[model] = found[0], content
    if not files:
        raise FileNotFoundError(f"{folder} holds no MODEL.json, MODEL.txt or folder MODEL with {_IN_FOLDER[0]}")
    return dict(sorted(files.items())), n_named


def _ids(path: Path) -> list[str]:
    with named(path), opened(path) as stream:
        texts = [text.strip() for line in lines_of(stream, path) for text in line.decode("utf-8-sig").splitlines()]
    ids = [text for text in texts if text]
    if not ids:
        raise ValueError(f"{path} is empty: if nothing was resolved, say so in a .json file that holds []")
    return ids


def _lists(content: Any, path: Path) -> dict[str, list[Any]]:
    """The lists of a file that count, that of resolved ids as "resolved"."""
    if isinstance(content, list):
        return {"resolved": content}
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds neither a list of ids nor an object with such a list as {_RESOLVED[0]!r}: add one, or "
            f"remove the file"
        )
    # Some reports count under the one name and list under the other.
    resolved = next((content[name] for name in _RESOLVED if isinstance(content.get(name), list)), None)
    if resolved is None:
        raise ValueError(f"{path} has no list {' or '.join(_RESOLVED)}; it has {list(content)}: add one")
    names = [name for name in (_SUBMITTED, *chain(*_LISTS)) if content.get(name) is not None]
    for name in names:
        if not isinstance(content[name], list):
            raise ValueError(f"{path}: {name} is {content[name]!r}, not a list of ids: correct or remove it")
    return {"resolved": resolved, **{name: content[name] for name in names}}


def _positions(ids: list[Any], what: str, known: Mapping[str, int], path: Path, questions: Path) -> list[int]:
    seen: dict[str, None] = {}
    for number, name in enumerate(ids, start=1):
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise ValueError(f"{path}: entry {number} of {what} is {name!r}, not an id: correct or remove it")
        if str(name) not in known:
            raise ValueError(f"{path}: {name!r} is not in {questions}: add it there, or remove it here")
        if str(name) in seen:
            raise ValueError(f"{path}: {name!r} is listed twice: remove one")
        seen[str(name)] = None
    return [known[name] for name in seen]
