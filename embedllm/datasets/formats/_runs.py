"""Runs of models on tasks: rows in any order become one matrix, whatever files they stand in.

- Of several metrics of a task one counts: the one that is named, or a common one of correctness.
- Of several runs of a model on a task one counts: a run without a limit before others, then the one with the most
  questions, then the latest. The others count on questions that it has no label for.
- Several labels that one run has for a question, as from epochs, are duplicates.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from embedllm._support.reading import files_below
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.formats._by_task import Named, Names
from embedllm.datasets.formats.answers import Answers, benchmark_of, resolve_answers
from embedllm.datasets.report import Line, listed, warn_of_threshold
from embedllm.matrix import CORRECT, INCORRECT

METRICS = (
    "accuracy", "acc", "exact_match", "acc_norm", "pass@1", "pass_at_1", "prompt_level_strict_acc", "em",
    "quasi_exact_match", "prefix_exact_match", "final_number_exact_match", "ifeval_strict_accuracy",
    "chain_of_thought_correctness", "math_equiv",
)  # fmt: skip
"""What counts as correct in a task of which nothing else is known or named: the first of these that it has."""

UNSCORED = "without a score"

# Arguments that say how a model is run, not which model it is; some are secret.
NO_PART = {
    "device", "batch_size", "max_batch_size", "parallelize", "device_map", "device_map_option", "max_memory_per_gpu",
    "max_cpu_memory", "offload_folder", "trust_remote_code", "cache_dir", "download_dir", "tensor_parallel_size",
    "pipeline_parallel_size", "data_parallel_size", "gpu_memory_utilization", "swap_space", "max_num_seqs", "seed",
    "enforce_eager", "disable_log_stats", "num_concurrent", "max_retries", "timeout", "base_url", "api_key", "token",
    "header", "max_connections", "attempt_timeout", "cache", "batch", "verify_certificate", "tokenized_requests",
    "tokenizer_backend", "use_fast_tokenizer",
}  # fmt: skip

_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


class Run(NamedTuple):
    """A run of a model; the later one has the larger `started`."""

    model: str
    started: str
    name: str
    is_limited: bool = False


class Row(NamedTuple):
    """What a line of a log says of an answer.

    Attributes
    ----------
    where : str
        For messages.
    run : Run
    task, sample : str
        Together they name the question.
    prompt, key : str
        Two questions are different if both differ.
    metrics : mapping from str
        The names of the metrics that it has a value of. Empty if the row counts for each.
    verdict : int or str
        CORRECT, INCORRECT, or why the answer counts as not observed.
    tokens : float
        NaN if unknown.
    score : object
        What the verdict was made of; None if nothing.
    """

    where: str
    run: Run
    task: str
    sample: str
    prompt: str
    key: str
    metrics: Mapping[str, Any]
    verdict: int | str
    tokens: float = float("nan")
    score: Any = None


def told_apart(runs: Sequence[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """Return names that tell apart models that must not be merged: `org/name@revision (dtype=float16)`.

    Parameters
    ----------
    runs : sequence of (model, task, parts, settings)
        The parts in which runs of one model differ are shown, and the settings in which they do on one task.
    """
    values: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for model, task, parts, settings in runs:
        for key, value in settings.items():
            values[model, task, str(sorted(parts.items())), key].add(str(value))
    shown: list[dict[str, str]] = []
    of_model: dict[str, list[dict[str, str]]] = defaultdict(list)
    for model, task, parts, settings in runs:
        own = {key: str(value) for key, value in parts.items()}
        variant = model, task, str(sorted(parts.items()))
        own |= {key: str(value) for key, value in settings.items() if len(values[*variant, key]) > 1 and value != ""}
        shown.append(own)
        if own not in of_model[model]:
            of_model[model].append(own)
    names = []
    for (name, *_), own in zip(runs, shown, strict=True):
        differ = [key for key in sorted(own) if any(other.get(key) != own[key] for other in of_model[name])]
        more = ", ".join(f"{key}={own[key]}" for key in differ if key != "revision")
        names.append(name + (f"@{own['revision']}" if "revision" in differ else "") + (f" ({more})" if more else ""))
    return names


def verdict(score: Any, threshold: float | None, top: float = 1.0) -> int | str:
    """Return the label of a score, a number from 0 to `top` or a truth value, also as text, or why there is none."""
    try:
        number = _number(score)
    except (TypeError, ValueError):
        return "with a score that is not a number"
    if np.isnan(number):
        return UNSCORED
    if threshold is not None:
        return CORRECT if number >= threshold else INCORRECT
    if number in (0, top):
        return CORRECT if number == top else INCORRECT
    return "with a score in between, without a threshold"


def _number(score: Any) -> float:
    return float("nan" if score is None else _WORDS.get(str(score).lower(), score))


def arrange(
    rows: Iterable[Row],
    metric: Names,
    duplicates: Duplicates,
    report: Sequence[Line],
    threshold: float | None = None,
) -> Answers:
    """Choose a metric for each task and the runs that count, and arrange rows as a matrix.

    Parameters
    ----------
    rows : iterable of Row
        Each of one metric, whose first name tells it from others; further ones are aliases.
    metric : str or sequence of str, optional
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `embedllm.datasets.formats.long.read_long_form`.
    report : sequence of Line
        What else was skipped, resolved or excluded.
    threshold : float, optional
        By which scores became verdicts.

    Returns
    -------
    Answers
        As `matrix_of` gives.

    Raises
    ------
    ValueError
        If a task has several metrics of which none is named or known, or there is no such metric, or as `matrix_of`
        does.
    """
    held = list(rows)
    chosen = _chosen(held, metric)
    kept = [row for row in held if not row.metrics or next(iter(row.metrics)) == chosen[row.task]]
    reasons = sorted(Counter(row.verdict for row in kept if isinstance(row.verdict, str)).items(), key=str)
    labelled = [row for row in kept if not isinstance(row.verdict, str)]
    _texts(labelled)  # an id of two questions is refused, also where only one of them counts
    counting, passed_over = counting_rows(labelled)
    n_others = len(held) - len(kept)
    report = [
        Line("rows of other metrics", n_others, "one metric a task counts", is_choice=metric is None),
        *(Line(f"rows {reason}", count, "not observed") for reason, count in reasons),
        other_runs(passed_over),
        *report,
    ]
    account = {"rows read": len(held), "of other metrics": n_others, **{str(reason): n for reason, n in reasons}}
    account["of other runs"] = len(passed_over)
    return matrix_of(counting, {row.run.model for row in kept}, duplicates, report, account, threshold)


def counting_rows(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return, for each model and question, the rows of the run that counts, and all others."""
    samples: dict[tuple[str, Run], set[str]] = defaultdict(set)
    for row in rows:
        samples[row.task, row.run].add(row.sample)
    ranks = {key: (not key[1].is_limited, len(found), key[1].started, key[1].name) for key, found in samples.items()}
    best: dict[tuple[str, str, str], Any] = {}
    for row in rows:
        cell, rank = (row.run.model, row.task, row.sample), ranks[row.task, row.run]
        best[cell] = max(best.get(cell, rank), rank)
    counts = [best[row.run.model, row.task, row.sample] == ranks[row.task, row.run] for row in rows]
    kept = [row for row, does in zip(rows, counts, strict=True) if does]
    return kept, [row for row, does in zip(rows, counts, strict=True) if not does]


def other_runs(passed_over: Sequence[Row]) -> Line:
    """Return the line of a report that says which rows of which runs do not count."""
    names = listed({row.run.name for row in passed_over})
    rule = f"one without a limit counts, with the most questions, the latest; passed over: {names}"
    return Line("rows of other runs", len(passed_over), rule, is_choice=True)


def other_files(folder: Path, used: Iterable[Path], what: str) -> Line:
    """Return the line of a report that lists the files of a folder that are not read."""
    names = {str(path.relative_to(folder)) for path in set(files_below(folder)) - set(used)}
    return Line(f"files that are not {what}", len(names), f"passed over: {listed(names)}")


def matrix_of(
    rows: Sequence[Row],
    models: Iterable[str],
    duplicates: Duplicates,
    report: Sequence[Line],
    account: dict[str, int],
    threshold: float | None = None,
) -> Answers:
    """Arrange rows with a label as a matrix.

    Returns
    -------
    Answers
        Models in sorted order, questions by task and number; ids are `TASK/SAMPLE`, and the category is the task. Costs
        are tokens, if a row has them.

    Raises
    ------
    ValueError
        If one id stands for two questions, or a (model, question) has several labels and the rule is "error".

    Warns
    -----
    UserWarning
        As `embedllm.datasets.report.warn_of_threshold` does.
    """
    highest: dict[str, float] = {}
    for row in rows if threshold is not None else ():
        highest[row.run.model] = max(highest.get(row.run.model, -np.inf), _number(row.score))
    warn_of_threshold(threshold, highest)
    names, (texts, n_several) = pd.Index(sorted(models), dtype=object), _texts(rows)
    positions = {key: position for position, key in enumerate(texts)}
    votes, tokens = LabelVotes(len(names), len(texts)), np.array([row.tokens for row in rows])
    votes.add(
        names.get_indexer([row.run.model for row in rows]),
        np.array([positions[row.task, row.sample] for row in rows], dtype=int),
        np.array([row.verdict for row in rows], dtype=np.int8),
        tokens if np.isfinite(tokens).any() else None,
    )
    tasks = [task for task, _ in texts]
    questions = pd.DataFrame(
        {"benchmark": [benchmark_of(task) for task in tasks], "category": tasks, "prompt": list(texts.values())},
        index=pd.Index([f"{task}/{sample}" for task, sample in texts], dtype=object),
    )
    several = Line("questions asked in several contexts", n_several, "that of the first model by name", is_choice=True)
    answers, _ = resolve_answers(votes, names, questions, duplicates, [*report, several], account)
    return answers._replace(cost_unit="tokens")


def _chosen(rows: list[Row], metric: Names) -> dict[str, str]:
    """The first name of the metric that counts, by task."""
    names: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.metrics:
            names[row.task][next(iter(row.metrics))].update(row.metrics)
    named = Named("metric=..., --metric", metric)
    chosen = {task: _one_of(task, firsts, named) for task, firsts in names.items()}
    named.check_used()
    return chosen


def _one_of(task: str, firsts: dict[str, set[str]], named: Named) -> str:
    there = sorted(set().union(*firsts.values()))
    wanted = named.choose(task, there, f"task {task!r}")
    for name in [wanted] if wanted else METRICS:
        # Of several with this name, such as those of perturbed questions, the plain one has the shortest.
        if found := sorted((first for first in firsts if name in firsts[first]), key=lambda first: (len(first), first)):
            return found[0]
    if len(firsts) == 1:
        return next(iter(firsts))
    raise ValueError(f"task {task!r} has several metrics, {sorted(firsts)}: name one of them ({named.option})")


def _texts(rows: Sequence[Row]) -> tuple[dict[tuple[str, str], str], int]:
    """The prompt of each question, in order, and of how many there are several."""
    first: dict[tuple[str, str], Row] = {}
    several = set()
    for row in rows:
        key = (row.task, row.sample)
        other = first.setdefault(key, row)
        if row.prompt != other.prompt:
            if row.key != other.key:
                raise ValueError(
                    f"{row.where}: sample {row.sample!r} of {row.task!r} is another question than in {other.where}: "
                    f"run one again on the data of the other, or remove its file"
                )
            several.add(key)
            if (row.run.model, row.prompt) < (other.run.model, other.prompt):
                first[key] = row
    return {key: first[key].prompt for key in sorted(first, key=_order)}, len(several)


def _order(key: tuple[str, str]) -> tuple[str, float, str]:
    task, sample = key
    number = re.match(r"\d+", sample, re.ASCII)
    return task, float(number[0]) if number else float("inf"), sample
