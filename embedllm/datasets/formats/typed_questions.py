"""Questions to route, in a file or on standard input: no answers, only texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from embedllm._support.files import lines_of, opened
from embedllm.datasets.formats._json import read_json_lines
from embedllm.datasets.formats._tables import FORMS, read_table

PROMPT = "prompt"


def read_questions(path: Path) -> list[str]:
    """Read the texts of questions, in the order of the file.

    Parameters
    ----------
    path : Path
        `.csv` or `.parquet` with a column `prompt`, `.jsonl` with a field `prompt` in each object (these may end in
        `.gz` where tables may), or any other file, of which each line that is not blank is a question.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is damaged or is not UTF-8, has no prompt, or holds no question; the message names the place.
    """
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        texts = [_prompt(line, f"{path}, line {number}") for number, line in read_json_lines(path)]
    elif path.name.endswith(FORMS):
        texts = read_table(path, [PROMPT])[PROMPT].tolist()
    else:
        with opened(path) as stream:
            texts = list(lines_as_questions(stream, path))
    if not texts:
        raise ValueError(f"{path} holds no question: write each on a line")
    return texts


def lines_as_questions(stream: BinaryIO, path: Path) -> Iterator[str]:
    """Yield the lines of a stream that are not blank; `path` names it in errors."""
    for number, line in enumerate(lines_of(stream, path), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number} is not UTF-8: save it as UTF-8") from error
        if text:
            yield text


def _prompt(line: dict[str, object], where: str) -> str:
    if not isinstance(text := line.get(PROMPT), str):
        raise ValueError(f"{where} has no text {PROMPT!r}: it has {', '.join(line) or 'no fields'}")
    return text
