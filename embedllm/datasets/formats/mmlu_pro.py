"""Answers to MMLU-Pro, as its authors publish them: a zip file for each model.

A zip is named `model_outputs_MODEL_5shots.zip` and holds one JSON file, beside what some systems add (`__MACOSX/`): a
list with an object for each question. Its fields are `question_id` (a number, or its text), `question`, `options` (a
list, or its text), `answer` and `pred` (letters; `pred` is null where no answer could be read from the reply) and
`category`. Entries of the list that are not objects are left out, and counted.

- **Label**: correct if `pred` equals `answer` in the same file. Some answer keys were corrected between two files: each
  file keeps its own. The authors' own score replaces a missing `pred` by a random letter; here it is incorrect, or not
  observed.
- **Model**: the name of the file without `model_outputs_`, the number of examples and what follows it.
- **Question**: ids number the questions by ascending `question_id`. The benchmark is the category in lower case with
  underscores. The prompt is the question, a line `(A) ...` for each option, and `Answer:`. Where files differ, the
  first by name counts, capital letters before small ones.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pandas as pd

from embedllm._support.files import check_archive, check_limit, parse_json
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.formats._graded import UNREAD, entries_of, graded_answers
from embedllm.datasets.formats._json import field, list_in
from embedllm.datasets.formats.answers import Answers, CountsAs
from embedllm.datasets.report import Line
from embedllm.matrix import CORRECT, INCORRECT

_FILE = re.compile(r"model_outputs_(?P<model>.+?)(_\d+-?shots.*?)?(\.json)?\.zip")


def read_mmlu_pro(
    files: Iterable[Path], *, no_answer: CountsAs = "incorrect", duplicates: Duplicates = "majority"
) -> Answers:
    """Read the zip files of some models.

    Parameters
    ----------
    files : iterable of Path
    no_answer : "incorrect" or "not observed"
        What a question counts as where `pred` is null.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a file holds a question several times, as in `embedllm.datasets.formats.long.read_long_form`.

    Returns
    -------
    Answers
        Models in the order of their names, whatever the case. The questions have a column `question_id`.

    Raises
    ------
    ValueError
        If a file is damaged or beyond the limits (`embedllm.reading_limits`), is not named as above, holds no list of
        answers or not exactly one JSON file, or a field of an entry is missing or of another kind: names the file, the
        entry, counted from 1, and the value.
    """
    questions: dict[int, dict[str, str]] = {}
    keys: dict[int, set[str]] = {}
    reworded: set[int] = set()
    verdicts: dict[str, list[tuple[int, int]]] = {}
    n_read = 0
    for model, path in sorted(_by_model(files).items()):
        entries = _read_zip(path)
        given: list[tuple[int, int]] = []
        for where, entry in entries_of(entries, str(path)):
            number = _question_id(entry, where)
            key, chosen = field(entry, "answer", str, where), field(entry, "pred", (str, type(None)), where)
            facts = _facts(entry, where)
            reworded.update([number] if questions.setdefault(number, facts) != facts else [])
            keys.setdefault(number, set()).add(key)
            given.append((number, UNREAD if not chosen else CORRECT if chosen == key else INCORRECT))
        verdicts[model] = given
        n_read += len(entries)
    order = sorted(questions)
    table = pd.DataFrame([{"question_id": str(number)} | questions[number] for number in order], index=order)
    n_keys = sum(len(several) > 1 for several in keys.values())
    report = [
        Line("questions with several answer keys", n_keys, "each file keeps its own"),
        Line("questions in several wordings", len(reworded), "that of the first file by name", is_choice=True),
    ]
    return graded_answers(verdicts, table, no_answer=no_answer, duplicates=duplicates, n_read=n_read, report=report)


def _by_model(files: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        if not (name := _FILE.fullmatch(path.name)):
            raise ValueError(f"{path} is not named model_outputs_MODEL_5shots.zip: name it so, or move it")
        if (other := found.setdefault(name["model"], path)) != path:
            raise ValueError(f"{path} and {other} are both of model {name['model']!r}: move one")
    return found


def _read_zip(path: Path) -> Any:
    """The value in the only JSON file of a zip; never more bytes than its list of contents announces."""
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json") and "__MACOSX" not in name]
            if len(names) != 1:
                raise ValueError(f"{path} holds {len(names)} JSON files, {names[:3]}: it must hold one")
            about = archive.getinfo(names[0])
            check_limit("memory", 3 * about.file_size, str(path))
            return parse_json(archive.read(about), f"{path}, {about.filename}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is not a complete zip file ({error}): download it again") from error


def _question_id(entry: dict[str, Any], where: str) -> int:
    number = field(entry, "question_id", (int, str), where)
    if not re.fullmatch(r"\d{1,18}", str(number)):
        raise ValueError(f"{where}: question_id {number!r} is not a whole number: correct it, or remove the entry")
    return int(number)


def _facts(entry: dict[str, Any], where: str) -> dict[str, str]:
    options = field(entry, "options", (list, str), where)
    if isinstance(options, str):
        options = list_in(options)
    if not isinstance(options, list) or not 1 <= len(options) <= len(ascii_uppercase):
        raise ValueError(f"{where}: options {str(entry['options'])[:40]!r} is not a list of options: correct it")
    lines = [f"({letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    prompt = "\n".join([field(entry, "question", str, where), *lines, "Answer:"])
    return {"category": field(entry, "category", str, where).lower().replace(" ", "_"), "prompt": prompt}
