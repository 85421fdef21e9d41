"""Sample logs of the lm-evaluation-harness, as versions from 0.4.3 on write them with `--log_samples --output_path`.

The harness writes `MODEL/samples_TASK_TIME.jsonl`, where `/` in the name of the model has become `__`. A line holds one
question, with the answer as one filter extracted it: its `doc_id` within the task, `arguments` with the text given to
the model, hashes, and a value for each metric. A run with `--limit` has fewer lines: the other questions were not
observed. Versions before 0.4.7 do not name the filter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from embedllm.datasets.formats._json import read_json_lines
from embedllm.datasets.formats.answers import LABELS, Answers, benchmark_of
from embedllm.matrix import NOT_OBSERVED

METRICS = ("acc", "exact_match", "acc_norm")
"""What counts as correct, unless a metric is named: the first of these that a line has."""

_FILE = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?)\.jsonl")
_NO_FILTER = "none"  # as the harness calls it
_NO_METRIC = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip


@dataclass
class _Question:
    """A question as the first model by name was asked it."""

    position: int
    prompt: str
    doc_hash: str
    path: Path
    several_contexts: bool = False


class _Sample(NamedTuple):
    """What counts of a line."""

    line: int
    doc_id: int
    doc_hash: str
    filter: str
    prompt: str
    metrics: dict[str, Any]


def read_lm_eval(folder: Path, *, metric: str | None = None, filter: str | None = None) -> Answers:
    """Read the logs in a folder and in all folders below it.

    Parameters
    ----------
    folder : Path
    metric : str, optional
        By default, the first of `METRICS` that a line has.
    filter : str, optional
        Which filter counts in files that hold several, such as "strict-match" in those of GSM8K.

    Returns
    -------
    Answers
        Models in sorted order, questions by task and number; ids are `TASK/DOC_ID`, and the category is the task.

    Raises
    ------
    FileNotFoundError
        If there are no logs.
    ValueError
        If a file is damaged, empty or not named as the harness names it, lacks the metric, holds several filters of
        which none is named, or a question twice, if a metric is neither 1 nor 0, a prompt is empty, or models were
        given different questions under one id: names file and line.
    """
    runs, n_older = _newest_runs(folder)
    questions: dict[tuple[str, int], _Question] = {}
    answers: list[tuple[str, np.ndarray, np.ndarray]] = []
    filters_seen: set[str] = set()
    n_without_filter = 0
    for (model, task), path in sorted(runs.items()):
        samples = _read_samples(path)
        filters = list(dict.fromkeys(sample.filter for sample in samples))
        filters_seen.update(filters)
        n_without_filter += filter is not None and filter not in filters and filters != [_NO_FILTER]
        samples = _filtered(samples, filters, filter, path)
        _check_once(samples, path, named=filters != [_NO_FILTER])
        found = np.array([_position(sample, task, questions, path) for sample in samples])
        answers.append((model, found, np.array([_label(sample, metric, path) for sample in samples], dtype=np.int8)))
    if filter is not None and filter not in filters_seen:
        raise ValueError(f"no file in {folder} holds answers by filter {filter!r}; there are {sorted(filters_seen)}")

    models = sorted({model for model, _, _ in answers})
    matrix = np.full((len(models), len(questions)), NOT_OBSERVED, dtype=np.int8)
    for model, positions, labels in answers:
        matrix[models.index(model), positions] = labels
    table = _table(questions)
    order = [questions[key].position for key in sorted(questions)]
    report = [
        ("older runs of a model on a task", n_older, "the newest counts"),
        (
            "questions asked in several contexts",
            sum(question.several_contexts for question in questions.values()),
            "the prompt of the first model by name",
        ),
        (f"files without filter {filter!r}", n_without_filter, "the only filter that they hold"),
    ]
    return Answers(
        pd.DataFrame(matrix[:, order], index=models, columns=table.index), table, [row for row in report if row[1]]
    )


def _table(questions: dict[tuple[str, int], _Question]) -> pd.DataFrame:
    tasks, numbers = zip(*sorted(questions), strict=True)
    return pd.DataFrame(
        {
            "benchmark": [benchmark_of(task) for task in tasks],
            "category": tasks,
            "prompt": [questions[key].prompt for key in sorted(questions)],
        },
        index=[f"{task}/{number}" for task, number in zip(tasks, numbers, strict=True)],
    )


def _newest_runs(folder: Path) -> tuple[dict[tuple[str, str], Path], int]:
    """The newest file of each (model, task), and how many others there are."""
    newest: dict[tuple[str, str], tuple[str, Path]] = {}
    paths = sorted(folder.rglob("samples_*.jsonl"))
    for path in paths:
        name = _FILE.fullmatch(path.name)
        if name is None:
            raise ValueError(
                f"{path} is not named samples_TASK_TIME.jsonl, as the harness does: name it so, or move it"
            )
        # Resolved, so that "." has a name; the folder only, so that a link below it keeps its own.
        model = (folder.resolve() / path.relative_to(folder)).parent.name
        run = (model, name["task"])
        # As texts, times sort as they follow each other.
        newest[run] = max(newest.get(run, ("", path)), (name["time"], path))
    if not newest:
        raise FileNotFoundError(
            f"{folder} holds no samples_TASK_TIME.jsonl: let the harness write them, with --log_samples --output_path"
        )
    return {run: path for run, (_, path) in newest.items()}, len(paths) - len(newest)


def _read_samples(path: Path) -> list[_Sample]:
    samples = []
    for number, line in read_json_lines(path):
        where = f"{path}, line {number}"
        doc_id = line.get("doc_id")
        if not isinstance(doc_id, int) or isinstance(doc_id, bool):
            raise ValueError(f"{where}: doc_id must be a whole number, and it is {doc_id!r}: is this a log of samples?")
        if not isinstance(line.get("doc_hash"), str):
            raise ValueError(
                f"{where} has no doc_hash: repeat the run with version 0.4.3 of the harness, or a later one"
            )
        metrics = {name: value for name, value in line.items() if name not in _NO_METRIC}
        filter = str(line.get("filter", _NO_FILTER))
        samples.append(_Sample(number, doc_id, line["doc_hash"], filter, _prompt(line, where), metrics))
    if not samples:
        raise ValueError(f"{path} is empty: repeat the run, or remove the file")
    return samples


def _prompt(line: dict[str, Any], where: str) -> str:
    """The first context of a line: that of the first choice, or the only one."""
    context = line.get("arguments")
    if isinstance(context, dict):
        context = context.get("gen_args_0")
    elif isinstance(context, list) and context:
        context = context[0]
    if isinstance(context, dict):
        context = context.get("arg_0")
    # Models behind an API are given a chat, which the harness wraps into a list of one text.
    while isinstance(context, list) and context:
        context = context[0]
    if not isinstance(context, str) or not context.strip():
        raise ValueError(f"{where}: the first context in its arguments is no text or empty: move the file elsewhere")
    return context


def _filtered(samples: list[_Sample], filters: list[str], wanted: str | None, path: Path) -> list[_Sample]:
    if len(filters) == 1:
        return samples
    if wanted not in filters:
        raise ValueError(f"{path} holds answers by several filters, {filters}: name one of them (filter=..., --filter)")
    return [sample for sample in samples if sample.filter == wanted]


def _check_once(samples: list[_Sample], path: Path, named: bool) -> None:
    seen: dict[int, int] = {}
    for sample in samples:
        if (first := seen.setdefault(sample.doc_id, sample.line)) != sample.line:
            remedy = "keep one" if named else "keep one, that of one filter, which versions before 0.4.7 do not name"
            raise ValueError(f"{path}, line {sample.line}: doc_id {sample.doc_id} stands in line {first} too: {remedy}")


def _position(sample: _Sample, task: str, questions: dict[tuple[str, int], _Question], path: Path) -> int:
    key = (task, sample.doc_id)
    question = questions.setdefault(key, _Question(len(questions), sample.prompt, sample.doc_hash, path))
    if question.doc_hash != sample.doc_hash:
        raise ValueError(
            f"{path}, line {sample.line}: doc_id {sample.doc_id} is another question than in {question.path} (their "
            f"doc_hash differs): repeat a run with the data of the other, or remove its file"
        )
    question.several_contexts |= question.prompt != sample.prompt
    return question.position


def _label(sample: _Sample, metric: str | None, path: Path) -> int:
    wanted = METRICS if metric is None else (metric,)
    name = next((name for name in wanted if name in sample.metrics), None)
    there = list(sample.metrics)
    if name is None:
        raise ValueError(
            f"{path}, line {sample.line} has no metric {' or '.join(wanted)}; it has {there}: name one of these "
            f"(metric=..., --metric)"
        )
    # The harness writes truth values as such, and those of NumPy as texts.
    label = LABELS.get(str(sample.metrics[name]).lower())
    if label is None:
        raise ValueError(
            f"{path}, line {sample.line}: {name} is {sample.metrics[name]!r}, neither correct (1) nor incorrect (0): "
            f"name another metric of {there} (metric=..., --metric), or move the file elsewhere"
        )
    return label
