"""Sample logs of the lm-evaluation-harness, as versions from 0.4.0 on write them with `--log_samples --output_path`.

The harness writes `MODEL/samples_TASK_TIME.jsonl`, or, since 0.4.9 with `--output_path FOLDER/NAME.json`, the same
without a folder for the model; versions up to 0.4.2 write `MODEL_ARGS_TASK.jsonl`. Files may be compressed (`.gz`).

- **Model**: as the results file of the same date has it, otherwise the folder. Where runs of one name differ in
  revision, adapter, quantization, other arguments or the prompt template, or on one task in the number of examples
  (`shots`) or `gen_kwargs`, they are models of their own: `org/name@revision (dtype=float16)`.
- **Run**: of several of a model on a task one counts: a run without `--limit` before others, then the one with the most
  questions, then the newest. The others count on documents that it did not reach.
- **Question**: a task and `doc_hash`, the hash of the document, or a field of it where a run shuffles the choices
  (GPQA). Ids are `TASK/DOC_ID`. A question that a run did not reach is not observed.
- **Label**: by one metric for each task, which is 1 or 0; fractions need a threshold. A task without one is left out.
- **Prompt**: the fields of the document that the task shows, without few-shot examples or a chat template, where the
  task is known; otherwise the first context that the model was given.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embedllm._support.files import read_json
from embedllm.datasets.formats._by_task import Named, Names, known
from embedllm.datasets.formats._json import as_object, read_json_lines
from embedllm.datasets.formats._lm_eval_runs import File, find_runs, is_list
from embedllm.datasets.formats._lm_eval_tasks import KEY_OF, METRIC_OF, PROMPT_OF
from embedllm.datasets.formats._runs import METRICS, UNSCORED, Row, Run, counting_rows, matrix_of, other_runs, verdict
from embedllm.datasets.formats.answers import Answers
from embedllm.datasets.report import Line, listed

_NO_FILTER = "none"  # as the harness calls it
_NO_METRIC = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash", "scores_per_repeat",
}  # fmt: skip


@dataclass
class _Options:
    """What the user names for each task."""

    metric: Named
    filter: Named
    prompt: Named
    key: Named
    threshold: float | None


@dataclass
class _Log:
    """What became of what was read."""

    counts: Counter[str] = field(default_factory=Counter)
    by_metric: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    unfiltered: list[str] = field(default_factory=list)
    passed_over: list[Row] = field(default_factory=list)
    several: int = 0


def read_lm_eval(
    folder: Path,
    *,
    metric: Names = (),
    filter: Names = (),
    prompt_field: Names = (),
    key_field: Names = (),
    threshold: float | None = None,
    one_model_a_folder: bool = False,
) -> Answers:
    """Read the logs in a folder and in all folders below it.

    The first four options are `NAME`, for all tasks that have it, or `TASK=NAME`, where `TASK` may be a pattern such as
    `mmlu_*`, or a list of these.

    Parameters
    ----------
    folder : Path
    metric : str or sequence of str
        By default that of the Open LLM Leaderboards for their tasks, and otherwise the first of
        `embedllm.datasets.formats._runs.METRICS` that all samples of the task have.
    filter : str or sequence of str
        Which filter counts in files that hold several, such as "strict-match" in those of GSM8K.
    prompt_field : str or sequence of str
        The field of `doc` with the question.
    key_field : str or sequence of str
        The field of `doc` that tells questions apart, where the document of a question differs between runs.
    threshold : float, optional
        Fractions from here on are correct; without it, tasks with fractions are left out.
    one_model_a_folder : bool
        Whether all runs in a folder without results files are of one model, of the name of the folder.

    Returns
    -------
    Answers
        Models in sorted order, questions by task and number; the category is the task.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there are no logs, or it is a file, not a folder.
    ValueError
        If a file is damaged or not named as the harness names it, it is not clear of which model a run is, a file holds
        several filters of which none is named, or two answers to a question, an option names what is not there, or no
        task can be used: names file and line.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold!r}")
    by_task = Named("metric=..., --metric", metric), Named("filter=..., --filter", filter)
    of_doc = (
        Named("prompt_field=..., --prompt-field", prompt_field),
        Named("key_field=..., --key-field", key_field),
    )
    options, log = _Options(*by_task, *of_doc, threshold), _Log()
    files, report = find_runs(folder, one_model_a_folder)
    rows: list[Row] = []
    shown = tqdm(files, desc="reading logs", unit="file", delay=2, disable=None)
    for task, of_task in groupby(shown, lambda file: file.task):
        rows += _labelled(task, _identified(_read_task(of_task, folder, options, log), log), options, log)
    for named in (*by_task, *of_doc):
        named.check_used()
    if not rows:
        reasons = "; ".join(f"task {task}: {why}" for task, (_, why) in log.skipped.items()) or "all files are empty"
        raise ValueError(f"{folder} holds no samples that can be used: {reasons}")
    observed = [row for row in rows if row.verdict != UNSCORED]
    log.counts[UNSCORED] = len(rows) - len(observed)
    models = {file.run.model for file in files}
    return matrix_of(observed, models, "majority", [*_lines(log, options), *report], dict(log.counts), threshold)


def _read_task(files: Iterator[File], folder: Path, options: _Options, log: _Log) -> list[Row]:
    """The rows of the runs that count on a task, each by one filter."""
    by_run: dict[Run, list[tuple[str, Row]]] = defaultdict(list)
    for file in files:
        found = list(_read_samples(file, options))
        log.counts["samples read"] += len(found)
        log.empty += [] if found else [str(file.path.relative_to(folder))]
        by_run[file.run] += found
    filtered = [row for run, samples in by_run.items() for row in _filtered(run, samples, options, log)]
    rows, passed_over = counting_rows(filtered)
    log.passed_over += passed_over
    log.counts["of other runs"] += len(passed_over)
    return rows


def _read_samples(file: File, options: _Options) -> Iterator[tuple[str, Row]]:
    """Yield the filter and what else counts of each line."""
    path, task = file.path, file.task
    in_list, fields, key_field = is_list(path), known(PROMPT_OF, task) or (), known(KEY_OF, task)
    for number, line in _entries(path) if in_list else read_json_lines(path):
        where = f"{path}, {'entry' if in_list else 'line'} {number}"
        doc_id, doc = line.get("doc_id"), line.get("doc")
        if not isinstance(doc_id, int) or isinstance(doc_id, bool):
            raise ValueError(f"{where}: doc_id must be a whole number, and it is {doc_id!r}: is this a log of samples?")
        doc = doc if isinstance(doc, dict) else {}
        if (name := options.key.choose(task, doc, where) or key_field) in doc:
            key = _text(doc[name])
        elif "doc_hash" in line:
            key = str(line["doc_hash"])
        else:  # as the harness does since 0.4.3
            key = sha256(json.dumps(line.get("doc"), indent=2, ensure_ascii=False).encode()).hexdigest()
        own = options.prompt.choose(task, doc, where)
        prompt = sys.intern(_prompt(line, doc, (own,) if own else fields))
        metrics = {name: value for name, value in line.items() if name not in _NO_METRIC}
        yield str(line.get("filter", _NO_FILTER)), Row(where, file.run, task, str(doc_id), prompt, key, metrics, "")


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, entry in enumerate(read_json(path), start=1):
        yield number, as_object(entry, f"{path}, entry {number}")


def _prompt(line: Mapping[str, Any], doc: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    """The question without what was put before it, if its fields are known; otherwise the first context, or ""."""
    if fields and doc.keys() >= set(fields):
        return "\n".join(text for name in fields if (text := _text(doc[name])).strip())
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
    return context if isinstance(context, str) else ""


def _text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _filtered(run: Run, samples: list[tuple[str, Row]], options: _Options, log: _Log) -> list[Row]:
    filters = list(dict.fromkeys(filter for filter, _ in samples))
    wanted = options.filter.choose(samples[0][1].task, filters, run.name) if samples else None
    if len(filters) > 1 and wanted is None:
        raise ValueError(
            f"{run.name} holds answers by several filters, {filters}: name one of them (filter=..., --filter)"
        )
    if options.filter.default and not wanted and filters not in ([], [_NO_FILTER]):
        log.unfiltered.append(run.name)
    kept = [row for filter, row in samples if len(filters) == 1 or filter == wanted]
    log.counts["by other filters"] += len(samples) - len(kept)
    return kept


def _identified(rows: list[Row], log: _Log) -> list[Row]:
    """Name the questions of a task: each document is one, and so is each of several that are equal.

    A question is named by the number that the first model by name has for it; where several documents have one number,
    by this and a further one.
    """
    first: dict[tuple[str, str, str], Row] = {}
    numbers: dict[tuple[str, str], list[str]] = defaultdict(list)  # of a document, by model
    questions: dict[tuple[str, int], int] = {}  # the number of a document and its copy
    found: list[tuple[str, int]] = []
    rows = sorted(rows, key=lambda row: (row.run.model, int(row.sample), row.key))
    for row in rows:
        own = numbers[row.run.model, row.key]
        if (other := first.setdefault((row.run.model, row.sample, row.key), row)) is row:
            own.append(row.sample)
        elif str(row.metrics) != str(other.metrics):  # as text, NaN is equal to NaN
            raise ValueError(
                f"{row.where}: doc_id {row.sample} stands in {other.where} too: keep one, that of one filter if the "
                f"file has several, which versions before 0.4.7 do not name"
            )
        found.append((row.key, own.index(row.sample)))
        questions.setdefault(found[-1], int(row.sample))
    names, seen = {}, Counter[int]()
    for question in sorted(questions, key=lambda question: (questions[question], *question)):
        number = questions[question]
        seen[number] += 1
        names[question] = f"{number} ({seen[number]})" if seen[number] > 1 else str(number)
    log.several += sum(count > 1 for count in seen.values())
    return [row._replace(sample=names[question]) for row, question in zip(rows, found, strict=True)]


def _labelled(task: str, rows: list[Row], options: _Options, log: _Log) -> list[Row]:
    """Label the rows of a task by its metric; none if the task is left out."""
    if not rows:  # the files of a task that crashed are empty
        return []
    shared = [name for name in rows[0].metrics if all(name in row.metrics for row in rows)]
    candidates = (options.metric.choose(task, shared, f"task {task}"), known(METRIC_OF, task), *METRICS)
    metric = next((name for name in candidates if name in shared), None)
    scored = [row._replace(score=row.metrics[metric]) for row in rows if metric]
    labelled = [row._replace(verdict=_verdict(row.score, options.threshold)) for row in scored]
    bad = next((row for row in labelled if isinstance(row.verdict, str) and row.verdict != UNSCORED), None)
    what = "without a usable metric"
    if metric is None:
        there = sorted({name for row in rows for name in row.metrics})
        why = f"no metric of correctness; they have {there} (metric=..., --metric)"
    elif bad:
        more = "; fractions need a threshold (threshold=..., --threshold)" if options.threshold is None else ""
        value = json.dumps(bad.metrics[metric])[:60]
        why = f"{metric} is {value} in {bad.where}, neither correct (1) nor incorrect (0){more}"
    elif any(not row.prompt.strip() for row in rows):
        why = "no text of the question; name the field of doc that has it (prompt_field=..., --prompt-field)"
        what = "without a prompt"
    else:
        log.by_metric[metric][task] += len(rows)
        return labelled
    log.skipped[task] = (len(rows), why)
    log.counts[what] += len(rows)
    return []


def _verdict(value: Any, threshold: float | None) -> int | str:
    if isinstance(value, (int, float)) and not 0 <= value <= 1 and value == value:
        return "out of range"
    return verdict(value, threshold)


def _lines(log: _Log, options: _Options) -> Iterator[Line]:
    for metric, tasks in sorted(log.by_metric.items()):
        yield Line(f"samples by {metric}", tasks.total(), listed(tasks))
    for task, (count, why) in sorted(log.skipped.items()):
        yield Line(f"samples of {task}", count, f"left out: {why}")
    yield Line("empty files of samples", len(log.empty), f"passed over: {listed(log.empty)}")
    what = f"files without filter {options.filter.default!r}"
    yield Line(what, len(log.unfiltered), f"their only filter counts: {listed(log.unfiltered)}")
    yield other_runs(log.passed_over)
    yield Line("samples by other filters", log.counts["by other filters"], "left out")
    yield Line(f"samples {UNSCORED}", log.counts[UNSCORED], "not observed")
    keep_apart = (
        "each is a question; if runs shuffle its choices, name a field that stays the same (key_field=..., --key-field)"
    )
    yield Line("numbers of several documents", log.several, keep_apart, is_choice=True)
