"""Logs of inspect_ai, `.eval` and `.json`, read by the package `inspect-ai` itself.

- **Model**: `eval.model`. Where logs of one model differ in its arguments, or on one task in how it generates or in the
  solver, they are models of their own: `name@revision (temperature=1.0)`. **Task**: `eval.task`, with the arguments in
  which logs of it differ.
- **Label**: C is correct, I and N (no answer) are incorrect, P (partial credit) is 0.5. Numbers and truth values count
  as such. A score between 0 and 1 needs a threshold. A value of several parts has a metric for each: `SCORER/PART`.
- **Not observed**: a sample without a score (NaN), with a value that is neither, that was invalidated, or that ended in
  an error (the last, on demand, incorrect).
- **Run**: a log that was cancelled or ended in an error counts with the samples that it has. Epochs are duplicates.
- **Cost**: all tokens that the sample used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedllm._support.checks import check_option
from embedllm._support.files import Malformed, check_archive, check_limit, opened
from embedllm._support.reading import files_below
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.formats._by_task import Names
from embedllm.datasets.formats._runs import NO_PART, UNSCORED, Row, Run, arrange, other_files, told_apart, verdict
from embedllm.datasets.formats.answers import Answers, CountsAs
from embedllm.datasets.report import Line
from embedllm.matrix import INCORRECT

_MEMORY = 4  # bytes that the package takes for a byte of a log
_VALUES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}


def read_inspect(
    folder: Path,
    *,
    metric: Names = None,
    threshold: float | None = None,
    errors: CountsAs = "not observed",
    duplicates: Duplicates = "majority",
) -> Answers:
    """Read a log, or all logs in a folder and in the folders below it.

    Parameters
    ----------
    folder : Path
    metric : str or sequence of str, optional
        Which scorer counts where a task has several: `NAME`, for all tasks that have it, or `TASK=NAME`.
    threshold : float, optional
        Scores from here on count as correct, and those below as incorrect.
    errors : "not observed" or "incorrect"
        What a sample counts as that ended in an error.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a run has several epochs, as in `embedllm.datasets.formats.long.read_long_form`.

    Returns
    -------
    Answers
        As `embedllm.datasets.formats._runs.arrange` gives.

    Raises
    ------
    ModuleNotFoundError
        If `inspect-ai` is not installed.
    FileNotFoundError
        If there is no log.
    ValueError
        If a log cannot be read, or as `embedllm.datasets.formats._runs.arrange` does: names the file.
    """
    check_option("errors", errors, CountsAs)
    try:
        from inspect_ai.log import read_eval_log  # takes seconds, and only this format needs it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "logs of inspect_ai are read by its own package: run `pip install inspect-ai`"
        ) from error
    paths = [folder] if folder.is_file() else inspect_logs(folder)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no log of inspect_ai, .eval or .json: name another folder")

    def read(path: Path, **options: bool) -> Any:
        try:
            check_limit("memory", _MEMORY * check_archive(path), str(path))
            return read_eval_log(str(path.resolve()), **options)
        except (Malformed, OSError):
            raise
        except Exception as error:  # whatever the package, its validation or the zip file raises
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} cannot be read as a log of inspect_ai ({reason}): remove it") from error

    headers = [read(path, header_only=True) for path in paths]
    specs = [header.eval for header in headers]
    models = told_apart([_variant(spec) for spec in specs])
    tasks = told_apart([(spec.task, "", spec.task_args, {}) for spec in specs])
    names: dict[str, str] = {}  # a run that is split over several logs is named after the first of them
    held: list[Row] = []
    for path, spec, model, task in zip(paths, specs, models, tasks, strict=True):
        name = names.setdefault(spec.eval_id or str(path), path.name)
        run = Run(model, str(spec.created), name, spec.config.limit is not None)
        held += _rows(read(path, resolve_attachments=True), path, run, task, threshold, errors)
    statuses = Counter(header.status for header in headers)
    unfinished = sorted((name, count) for name, count in statuses.items() if name != "success")
    report = [Line(f"logs with status {name!r}", count, "what they hold counts") for name, count in unfinished]
    report += [] if folder.is_file() else [other_files(folder, paths, "logs")]
    return arrange(held, metric, duplicates, report, threshold)


def inspect_logs(folder: Path) -> list[Path]:
    """Return the logs in a folder and below it."""
    return [path for path in files_below(folder) if is_log(path)]


def is_log(path: Path) -> bool:
    """Tell whether a file is named `.eval`, or named `.json` and begins as a log does."""
    if path.suffix != ".json":
        return path.suffix == ".eval"
    with opened(path) as stream:
        head = b"".join(stream.read(300).split())
    return head.startswith(b'{"version":') and b'"status":' in head and b'"eval":' in head


def _variant(spec: Any) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """What tells a model apart: its arguments, and on one task how it generates and is solved."""
    given = {
        **spec.model_generate_config.model_dump(exclude_none=True),
        **(spec.solver_args or {}),
        "solver": spec.solver,
    }
    parts, settings = ({k: v for k, v in own.items() if k not in NO_PART} for own in (spec.model_args, given))
    return spec.model, spec.task, parts, settings


def _rows(log: Any, path: Path, run: Run, task: str, threshold: float | None, errors: CountsAs) -> Iterator[Row]:
    for sample in log.samples or []:
        where = f"{path}, sample {sample.id} of epoch {sample.epoch}"
        prompt, key = _prompt(sample.input), str(sample.target)
        used = [usage.total_tokens for usage in sample.model_usage.values()]
        tokens = float(sum(used)) if used else float("nan")
        why: int | str = ""
        if log.invalidated or getattr(sample, "invalidation", None) is not None:
            why = "that were invalidated"
        elif sample.error is not None:
            why = INCORRECT if errors == "incorrect" else "with an error"
        elif not sample.scores:
            why = UNSCORED
        shared = (where, run, task, str(sample.id), prompt, key)
        if why != "":
            yield Row(*shared, {}, why, tokens)
            continue
        for name, value in _values(sample.scores).items():
            score = _VALUES.get(value, value) if isinstance(value, str) else value
            yield Row(*shared, {name: value}, verdict(score, threshold), tokens, score)


def _values(scores: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, score in scores.items():
        if isinstance(score.value, dict):
            values |= {f"{name}/{part}": value for part, value in score.value.items()}
        else:
            values[name] = score.value
    return values


def _prompt(given: Any) -> str:
    """The text that the model was given: that of the user and the system, where it is a chat."""
    if isinstance(given, str):
        return given
    return "\n".join(message.text for message in given if message.role in ("user", "system"))
