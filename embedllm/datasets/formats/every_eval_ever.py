"""Records of Every Eval Ever (schema 0.2 and 0.3): JSON lines with a row for each sample and metric.

A folder holds, at any depth, `UUID_samples.jsonl` (or `.jsonl.gz`) and, beside it, `UUID.json` with what the whole run
came to; the latter is optional. Converters of the project write such records from logs of HELM, of inspect_ai, and of
other tools.

- **Model**: `model_id`. **Task**: `evaluation_name`, without the filter that `metadata.filter` names. Of HELM, the
  arguments of the scenario follow, as `UUID.json` has them, such as the subject of MMLU: each numbers its own samples.
- **Label**: correct if `is_correct` and the score is the best one; incorrect if not `is_correct` and the score is 0.
  The best score is 1, or the `max_score` of the metric. Of a metric that is graded, `is_correct` says nothing: a score
  in between needs a threshold, and where the two disagree the answer counts as not observed.
- **Metric**: the end of `evaluation_result_id` up to a colon, or the names that `UUID.json` has for it, or the filter.
- **Error**: a row with an `error` counts as not observed, or as incorrect.
- **Cost**: `token_usage.total_tokens`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedllm._support.checks import check_option
from embedllm._support.files import parse_json, read_json
from embedllm._support.reading import files_below, is_there
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.formats._by_task import Names
from embedllm.datasets.formats._json import field, read_json_lines
from embedllm.datasets.formats._runs import UNSCORED, Row, Run, arrange, other_files, verdict
from embedllm.datasets.formats.answers import Answers, CountsAs
from embedllm.matrix import CORRECT, INCORRECT

SAMPLES = ("_samples.jsonl", "_samples.jsonl.gz")
"""How the names of files of rows end."""


def read_every_eval_ever(
    folder: Path,
    *,
    metric: Names = None,
    threshold: float | None = None,
    errors: CountsAs = "not observed",
    duplicates: Duplicates = "majority",
) -> Answers:
    """Read all records in a folder and in the folders below it.

    Parameters
    ----------
    folder : Path
    metric : str or sequence of str, optional
        Which metric counts where a task has several: `NAME`, for all tasks that have it, or `TASK=NAME`. By default a
        common one of correctness.
    threshold : float, optional
        Scores from here on count as correct, and those below as incorrect.
    errors : "not observed" or "incorrect"
        What a row with an `error` counts as.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a run has a question several times, as in
        `embedllm.datasets.formats.long.read_long_form`.

    Returns
    -------
    Answers
        As `embedllm.datasets.formats._runs.arrange` gives.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there are no records, or it is a file, not a folder.
    ValueError
        If a file is damaged or a field of a row is missing or of another kind, or as
        `embedllm.datasets.formats._runs.arrange` does: names file and line.
    """
    check_option("errors", errors, CountsAs)
    paths = [path for path in files_below(folder) if path.name.endswith(SAMPLES)]
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no UUID_samples.jsonl, in which Every Eval Ever keeps its rows: name another folder"
        )
    rows = (row for path in paths for row in _rows(path, threshold, errors))
    used = {*paths, *map(_beside, paths)}
    return arrange(rows, metric, duplicates, [other_files(folder, used, "records")], threshold)


def _rows(path: Path, threshold: float | None, errors: CountsAs) -> Iterator[Row]:
    started, scenario, results = _aggregate(path)
    for number, line in read_json_lines(path):
        where = f"{path}, line {number}"
        name, evaluation = field(line, "evaluation_id", str, where), field(line, "evaluation", dict, where)
        given = field(line, "input", dict, where)
        metadata, usage = (_object(line.get(name)) for name in ("metadata", "token_usage"))
        task, extraction = field(line, "evaluation_name", str, where), str(metadata.get("filter") or "")
        if extraction and task.endswith(f"/{extraction}"):
            task = task.removesuffix(f"/{extraction}")
        else:
            extraction = ""
        result = str(line.get("evaluation_result_id") or "")
        config = results.get(result, {})
        others = (extraction, result.partition(":")[0], config.get("metric_id"), config.get("metric_name"))
        first = "/".join(part for part in (result, extraction) if part)
        metrics = dict.fromkeys([first, *(str(name) for name in others if name)])
        tokens = usage.get("total_tokens")
        yield Row(
            where,
            Run(field(line, "model_id", str, where), started or _time(name.rpartition("/")[2]), name),
            task + scenario,
            str(field(line, "sample_id", (str, int), where)),
            field(given, "raw", str, where),
            json.dumps(given.get("reference")),
            metrics,
            _label(line.get("error"), evaluation, config, threshold, errors, where)
            if _is_scored(metadata)
            else UNSCORED,
            float(tokens) if isinstance(tokens, (int, float)) else float("nan"),
            None if line.get("error") else evaluation.get("score"),
        )


def _object(value: Any) -> dict[str, Any]:
    """An object that may be missing."""
    return value if isinstance(value, dict) else {}


def _label(
    error: Any,
    evaluation: dict[str, Any],
    config: dict[str, Any],
    threshold: float | None,
    errors: CountsAs,
    where: str,
) -> int | str:
    if error:
        return INCORRECT if errors == "incorrect" else "with an error"
    score = None if evaluation.get("score") is None else field(evaluation, "score", (int, float), where)
    correct = evaluation.get("is_correct")
    if not isinstance(correct, bool):
        raise ValueError(f"{where}: is_correct is {correct!r}, neither true nor false: correct it, or remove the row")
    top = config.get("max_score")
    found = verdict(score, threshold, float(top) if isinstance(top, (int, float)) and top > 0 else 1.0)
    if threshold is None and not isinstance(found, str) and (found == CORRECT) != correct:
        return "whose score and is_correct disagree"
    return found


def _is_scored(metadata: dict[str, Any]) -> bool:
    """Whether a row has a score of its own: that of the harness without a number is written as 0, and incorrect."""
    metrics = metadata.get("lm_eval_metrics")
    if not isinstance(metrics, str):
        return True
    return any(isinstance(value, (int, float)) for value in _object(parse_json(metrics.encode(), metrics)).values())


def _aggregate(path: Path) -> tuple[str, str, dict[str, dict[str, Any]]]:
    """When the run was, the arguments of a scenario of HELM, and what is known of metrics by `evaluation_result_id`."""
    beside = _beside(path)
    if not is_there(beside):
        return "", "", {}
    content = read_json(beside)
    if not isinstance(content, dict):
        raise ValueError(f"{beside} is not what Every Eval Ever keeps beside {path.name}: correct or remove it")
    listed = content.get("evaluation_results")
    results = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    started = content.get("evaluation_timestamp") or content.get("retrieved_timestamp") or ""
    known = {str(entry.get("evaluation_result_id") or ""): _object(entry.get("metric_config")) for entry in results}
    sources = [_object(_object(entry.get("source_data")).get("additional_details")) for entry in results]
    texts = (details["scenario_args"] for details in sources if isinstance(details.get("scenario_args"), str))
    arguments = _object(parse_json(next(filter(None, texts), "{}").encode(), f"{beside}, scenario_args"))
    scenario = ",".join(f"{key}={arguments[key]}" for key in sorted(arguments))
    return _time(str(started)), f":{scenario}" if scenario else "", known


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('_samples.jsonl')[0]}.json")


def _time(text: str) -> str:
    """A text that sorts as the time does: seconds since 1970 are padded, and dates of ISO 8601 need nothing."""
    try:
        return f"{float(text):020.3f}"
    except ValueError:
        return text
