"""Lists of resolved tasks, one for each model, as leaderboards of software engineering (SWE-bench) publish them.

Each model has a file in a folder, in one of these places::

    MODEL.json, MODEL.txt, MODEL/results.json, MODEL/results/results.json, MODEL/report.json

A `.txt` file has one id a line. JSON is a list of ids, or an object with such a list as `resolved` or `resolved_ids`
and, optionally, `submitted_ids`. Other files in the folder are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embedllm.datasets.formats._json import read_json, read_json_lines
from embedllm.datasets.formats._tables import FORMS, named, read_header, read_rows
from embedllm.datasets.formats.answers import Answers
from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED

_IN_FOLDER = ("results.json", "results/results.json", "report.json")
_RESOLVED = ("resolved", "resolved_ids")
_SUBMITTED = "submitted_ids"
_ID, _PROMPT, _BENCHMARK = ("prompt_id", "instance_id"), ("prompt", "problem_statement"), ("benchmark", "repo")


def read_resolved(folder: Path, questions: Path) -> Answers:
    """Read a folder of lists.

    A question that a model does not resolve counts as incorrect, unless the model's file has `submitted_ids` and the
    question is not among them: then it was not observed.

    Parameters
    ----------
    folder : Path
    questions : Path
        A `.jsonl`, `.csv`, `.csv.gz` or `.parquet` file that lists every question: its id (`prompt_id` or
        `instance_id`), `prompt` or `problem_statement`, and `benchmark` or `repo`, without which the benchmark has the
        name of the folder.

    Returns
    -------
    Answers
        Models in sorted order, questions in the order of their file.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder holds no list, or is none.
    ValueError
        If a file is damaged, empty or holds no list, a model has none or two, an id is unknown or listed twice, or a
        question has no id or prompt: names file, row and value.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder: name the one that holds a list for each model")
    table = _read_questions(questions, folder.resolve().name)
    files = _result_files(folder)
    position = {name: number for number, name in enumerate(table.index)}
    labels = np.full((len(files), len(table)), INCORRECT, dtype=np.int8)
    n_outside = 0
    for row, path in zip(labels, files.values(), strict=True):
        resolved, submitted = _read_ids(path)
        correct = _positions(resolved, position, path, questions)
        if submitted is not None:
            outside = np.ones(len(table), dtype=bool)
            outside[_positions(submitted, position, path, questions)] = False
            if outside[correct].any():
                name = next(name for name in resolved if outside[position[name]])
                raise ValueError(f"{path}: {name!r} is resolved, but not in {_SUBMITTED}: add it there, or remove it")
            row[outside] = NOT_OBSERVED
            n_outside += int(outside.sum())
        row[correct] = CORRECT
    report = [("questions that a model did not submit", n_outside, "not observed")] if n_outside else []
    return Answers(pd.DataFrame(labels, index=list(files), columns=table.index), table, report)


def _read_questions(path: Path, benchmark: str) -> pd.DataFrame:
    ids: dict[str, str] = {}
    rows = []
    for where, row in _records(path):
        name, prompt = _first_text(row, _ID), _first_text(row, _PROMPT)
        if not name or not prompt:
            missing = " or ".join(_PROMPT if name else _ID)
            raise ValueError(f"{path}, {where} has no {missing}: fill it in, or remove the {where.split()[0]}")
        if (first := ids.setdefault(name, where)) != where:
            raise ValueError(f"{path}, {where}: {name!r} stands in {first} already: remove one")
        rows.append((_first_text(row, _BENCHMARK) or benchmark, prompt))
    if not rows:
        raise ValueError(f"{path} lists no question: it must list every one, with id and prompt")
    return pd.DataFrame(rows, index=list(ids), columns=["benchmark", "prompt"])


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
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
                raise ValueError(f"{path} has no column {' or '.join(names)}; it has {header}")
        columns = [name for name in header if name in (*_ID, *_PROMPT, *_BENCHMARK)]
        for rows in read_rows(path, columns):
            for number, row in enumerate(rows.columns.to_pylist(), start=rows.first):
                yield f"row {number}", row


def _first_text(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of some fields that is there and not blank; a number, as an id may be, becomes text."""
    texts = (str(row[name]) for name in names if row.get(name) is not None)
    return next((text for text in texts if text.strip()), "")


def _result_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix in (".json", ".txt")):
            continue
        model = path.name if path.is_dir() else path.stem
        found = [place for name in _IN_FOLDER if (place := path / name).is_file()] if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path} holds none of {', '.join(_IN_FOLDER)}: add one, or remove the folder")
        found = [files[model], *found] if model in files else found
        if len(found) > 1:
            raise ValueError(f"model {model!r} has two files, {found[0]} and {found[1]}: remove one of them")
        files[model] = found[0]
    if not files:
        raise FileNotFoundError(f"{folder} holds no MODEL.json, MODEL.txt or folder MODEL with {_IN_FOLDER[0]}")
    return dict(sorted(files.items()))


def _read_ids(path: Path) -> tuple[list[str], list[str] | None]:
    """The ids that are resolved, and those that were submitted, if the file says."""
    if path.suffix == ".txt":
        with named(path):
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        ids = [line.strip() for line in lines if line.strip()]
        if not ids:
            raise ValueError(f"{path} is empty: if nothing was resolved, say so in a .json file that holds []")
        return ids, None
    content = read_json(path)
    if isinstance(content, list):
        return _texts(content, "the list", path), None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds neither a list of ids nor an object with such a list as {_RESOLVED[0]!r}")
    # Some reports count under the one name and list under the other.
    lists = [name for name in _RESOLVED if isinstance(content.get(name), list)]
    if not lists:
        raise ValueError(f"{path} has no list {' or '.join(_RESOLVED)}; it has {list(content)}: add one")
    submitted = content.get(_SUBMITTED)
    if submitted is not None and not isinstance(submitted, list):
        raise ValueError(f"{path}: {_SUBMITTED} is {submitted!r}, not a list of ids: correct or remove it")
    return _texts(content[lists[0]], lists[0], path), None if submitted is None else _texts(submitted, _SUBMITTED, path)


def _texts(ids: list[Any], what: str, path: Path) -> list[str]:
    for number, name in enumerate(ids, start=1):
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise ValueError(f"{path}: entry {number} of {what} is {name!r}, not an id")
    return [str(name) for name in ids]


def _positions(ids: list[str], known: Mapping[str, int], path: Path, questions: Path) -> list[int]:
    seen = set()
    for name in ids:
        if name not in known:
            raise ValueError(f"{path}: {name!r} is not in {questions}: add it there, or remove it here")
        if name in seen:
            raise ValueError(f"{path}: {name!r} is listed twice: remove one")
        seen.add(name)
    return [known[name] for name in ids]
