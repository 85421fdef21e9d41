r"""Replies to GSM8K, MATH (level 5), CRUXEval and NumerSense, as ZeroEval publishes them, graded by its own rules.

A file is `BENCHMARK/MODEL.json`: a list with an object for each question, whose fields are `id`, `question` (`problem`
in `math-l5`), `answer` (the key) and `output`, a list that begins with the reply. Models were asked for JSON with the
fields `reasoning` and `answer`.

- **Answer**: the `answer` of the first complete JSON object of the reply; else the first `"answer": "..."`, then the
  first `answer: ...` without quotes; else, for the Llama-3.1 models, the `\boxed{...}` at the end. A reply without any
  of them, an empty one included, has no answer: it is incorrect, or not observed.
- **Label**: in `crux`, the texts of answer and key are equal without the quotes around them. Elsewhere, the first
  numbers in them are equal, after `$` and `,` were dropped and a fraction, alone or in other arithmetic, was computed.
- **Model**: the name of the file; runs that ZeroEval's own tables join have one name (`SAME_MODEL`).
- **Question**: ids number the questions by benchmark, in the order of the files.

A model that was not asked a question, or whose run stopped before it, has no label there.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from embedllm._support.files import read_json
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.formats._graded import UNREAD, entries_of, graded_answers
from embedllm.datasets.formats._json import field
from embedllm.datasets.formats.answers import Answers, CountsAs
from embedllm.matrix import CORRECT, INCORRECT

BENCHMARKS = ("gsm", "math-l5", "crux", "numersense-v2")

SAME_MODEL = {
    "deepseek-chat": "deepseek-v2-chat-0628",
    "deepseek-coder": "deepseek-v2-coder-0614",
    "DeepSeek-Coder-V2-0724": "deepseek-v2-coder-0724",
    "Llama-3.1-405B-Inst-fp8": "Llama-3.1-405B-Inst-fp8@together",
    "Llama-3.1-405B-Instruct-Turbo": "Llama-3.1-405B-Inst-fp8@together",
    "Meta-Llama-3.1-405B-Instruct@hyperbolic": "Llama-3.1-405B-Inst@hyperbolic",
    "gemma-2-27b-it@together": "gemma-2-27b-it",
}
"""Names of files to the names of models, as in ZeroEval's `src/evaluation/eval_utils.py`."""

_QUOTED = re.compile(r'"answer"\s*:\s*"([^"]*)"')
_UNQUOTED = (re.compile(r'"answer"\s*:\s*([^,\s]*)'), re.compile(r"answer\s*:\s*([^,\s]*)"))
_BOXED = re.compile(r"\\boxed{(\w+)}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_ARITHMETIC = re.compile(r"[\d.+\-*/() ]{1,200}")
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def read_zeroeval(
    files: Iterable[Path], *, no_answer: CountsAs = "incorrect", duplicates: Duplicates = "majority"
) -> Answers:
    """Read and grade the replies of some models.

    Parameters
    ----------
    files : iterable of Path
        Each in a folder that is named after a benchmark, one of `BENCHMARKS`.
    no_answer : "incorrect" or "not observed"
        What a reply counts as from which no answer can be read.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a model has several replies to a question, as in
        `embedllm.datasets.formats.long.read_long_form`.

    Returns
    -------
    Answers
        Models in the order of their names, whatever the case.

    Raises
    ------
    ValueError
        If a file is damaged, in a folder of another name, or holds no list of replies, a field of an entry is missing
        or of another kind, or an id stands for two questions: names the file, the entry, counted from 1, and the value.
    """
    questions: dict[tuple[str, str], str] = {}
    verdicts: dict[str, list[tuple[tuple[str, str], int]]] = {}
    n_read = 0
    for path in sorted(files, key=lambda path: (_benchmark(path), path.stem.lower())):
        benchmark = path.parent.name
        entries = read_json(path)
        given = verdicts.setdefault(SAME_MODEL.get(path.stem, path.stem), [])
        for where, entry in entries_of(entries, str(path)):
            key = (benchmark, str(field(entry, "id", (str, int), where)))
            prompt = field(entry, "problem" if benchmark == "math-l5" else "question", str, where)
            if questions.setdefault(key, prompt) != prompt:
                raise ValueError(f"{where}: id {key[1]!r} stands for another question in another file: remove one")
            expected = field(entry, "answer", str, where)
            reply = next(iter(field(entry, "output", list, where)), None)
            if not isinstance(reply, str):
                raise ValueError(f"{where}: output does not begin with a text: put the reply there")
            answer = read_answer(reply, path.stem)
            verdict = UNREAD if answer is None else CORRECT if is_correct(answer, expected, benchmark) else INCORRECT
            given.append((key, verdict))
        n_read += len(entries)
    table = pd.DataFrame(
        {"category": [benchmark for benchmark, _ in questions], "prompt": list(questions.values())},
        index=pd.Index(list(questions), tupleize_cols=False),
    )
    return graded_answers(verdicts, table, no_answer=no_answer, duplicates=duplicates, n_read=n_read, report=[])


def read_answer(reply: str, model: str) -> str | None:
    r"""Return the answer that a reply states, or None.

    Examples
    --------
    >>> from embedllm.datasets.formats.zeroeval import read_answer
    >>> read_answer('Here it is: {"reasoning": "7 + 8 = 15", "answer": 15}', "any model")
    '15'
    >>> read_answer(r"The answer is \boxed{15}.", "Llama-3.1-8B")
    '15'
    """
    stated = _first_object(reply)
    if stated is not None and "answer" in stated:
        return str(stated["answer"])
    for pattern in (_QUOTED, *_UNQUOTED):
        if found := pattern.search(reply):
            return found[1]
    if "Llama-3.1" in model and "boxed" in reply[-30:] and (found := _BOXED.search(reply)):
        return found[1]
    return None


def is_correct(answer: str, expected: str, benchmark: str) -> bool:
    """Tell whether an answer agrees with the key.

    Examples
    --------
    >>> from embedllm.datasets.formats.zeroeval import is_correct
    >>> is_correct("$1,200.00 a day", "# 1200", "gsm"), is_correct("[1,2]", "[1, 2]", "crux")
    (True, False)
    """
    if benchmark == "crux":
        return answer.strip("'\"").replace("\n", "\\n") == expected.strip("'\"")
    found = [_NUMBER.search(_plain(text)) for text in (answer, expected.replace("#", "").strip())]
    return all(found) and len({float(number[0]) for number in found if number}) == 1


def _plain(text: str) -> str:
    text = text.replace("$", "").strip().replace(",", "")
    if "/" in text and _ARITHMETIC.fullmatch(text):
        # ZeroEval calls eval here; what it could do beyond arithmetic is not wanted.
        with suppress(ValueError, SyntaxError, ArithmeticError):
            return str(float(_value(ast.parse(text, mode="eval").body)))
    return text


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand)
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("no arithmetic")


def _first_object(reply: str) -> dict[str, Any] | None:
    """The first complete JSON object of a text, by its braces, line feeds left out; None if there is none."""
    depth, start = 0, 0
    for brace in re.finditer(r"[{}]", reply):
        if brace[0] == "{":
            start = brace.start() if depth == 0 else start
            depth += 1
        elif depth == 1:
            try:
                value: dict[str, Any] = json.loads(reply[start : brace.end()].replace("\n", ""))
                return value
            except (ValueError, RecursionError):
                return None
        else:
            depth = max(0, depth - 1)
    return None


def _benchmark(path: Path) -> int:
    if path.parent.name not in BENCHMARKS:
        raise ValueError(f"{path} is in no folder named after a benchmark, one of {list(BENCHMARKS)}: move it there")
    return BENCHMARKS.index(path.parent.name)
