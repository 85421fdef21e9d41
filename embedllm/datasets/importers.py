"""Importers: each reads evaluation results of one format, encodes the prompts and writes a data set.

The data set is a folder in the authors' long form, which `load_dataset` reads. It appears when it is complete. Every
fault of the input is reported before the first prompt is encoded, since encoding may take hours.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from embedllm._files import check_new_folder
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.encoder import DEFAULT_ENCODER, encode_questions
from embedllm.datasets.formats.answers import Answers, answer_files, list_answers, read_answers
from embedllm.datasets.formats.lm_eval import read_lm_eval
from embedllm.datasets.formats.long import write_long_form
from embedllm.datasets.formats.resolved_lists import read_resolved
from embedllm.datasets.formats.wide import read_wide
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix, report_table

_Path = str | os.PathLike[str]


def import_long(
    source: _Path,
    out: _Path,
    *,
    encoder: _Path = DEFAULT_ENCODER,
    device: str | list[str] = "auto",
    duplicates: Duplicates = "majority",
) -> CorrectnessMatrix:
    """Import answers in the authors' long form, which need no order files and no embeddings.

    Parameters
    ----------
    source : path
        A `.csv`, `.csv.gz` or `.parquet` file with columns prompt_id, model_name, category, label and prompt, or a
        folder with such a file named `correctness`, or with three named `train`, `val` and `test`. Models and questions
        keep the order in which they first occur.
    out : path
        A folder that does not exist, or is empty.
    encoder, device
        As in `embedllm.datasets.encoder.encode_questions`.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a (model, question) has several rows, as in `embedllm.datasets.formats.long.read_long_form`.

    Raises
    ------
    FileExistsError
        If there is something at `out`.
    FileNotFoundError
        If there is no source.
    ValueError
        If a file is damaged or lacks a column, a name, id or prompt is empty, one id stands for two prompts, two
        benchmarks or two splits, or a label is unknown: names file, row and value.

    Examples
    --------
    >>> from embedllm import import_long
    >>> import_long("answers.csv.gz", "my-pool")  # doctest: +SKIP
    """
    path = _checked(source, out)
    files = answer_files(path) if path.is_dir() else {"all": path}
    models, questions = list_answers(files)
    answers, _ = read_answers(files, models, questions, duplicates=duplicates)
    return _written(answers, path, out, encoder, device)


def import_wide(
    source: _Path,
    out: _Path,
    *,
    encoder: _Path = DEFAULT_ENCODER,
    device: str | list[str] = "auto",
    prompt_column: str = "prompt",
    benchmark_column: str = "benchmark",
    id_column: str | None = None,
    ignore: Sequence[str] = (),
) -> CorrectnessMatrix:
    """Import a table with a row for each question and a column for each model (see `embedllm.datasets.formats.wide`).

    Parameters
    ----------
    source : path
        A `.csv`, `.csv.gz` or `.parquet` file.
    out : path
        A folder that does not exist, or is empty.
    encoder, device
        As in `embedllm.datasets.encoder.encode_questions`.
    prompt_column, benchmark_column, id_column, ignore
        As in `embedllm.datasets.formats.wide.read_wide`.

    Raises
    ------
    FileExistsError
        If there is something at `out`.
    FileNotFoundError
        If there is no source.
    ValueError
        As `embedllm.datasets.formats.wide.read_wide` does.

    Examples
    --------
    >>> from embedllm import import_wide
    >>> import_wide("table.csv", "my-pool", ignore=["notes"])  # doctest: +SKIP
    """
    path = _checked(source, out)
    answers = read_wide(
        path, prompt_column=prompt_column, benchmark_column=benchmark_column, id_column=id_column, ignore=ignore
    )
    return _written(answers, path, out, encoder, device)


def import_lm_eval(
    source: _Path,
    out: _Path,
    *,
    encoder: _Path = DEFAULT_ENCODER,
    device: str | list[str] = "auto",
    metric: str | None = None,
    filter: str | None = None,
) -> CorrectnessMatrix:
    """Import sample logs of the lm-evaluation-harness (see `embedllm.datasets.formats.lm_eval`).

    Parameters
    ----------
    source : path
        The `--output_path` of the harness, or any folder above it.
    out : path
        A folder that does not exist, or is empty.
    encoder, device
        As in `embedllm.datasets.encoder.encode_questions`.
    metric, filter
        As in `embedllm.datasets.formats.lm_eval.read_lm_eval`.

    Returns
    -------
    CorrectnessMatrix
        Question ids are `TASK/DOC_ID`. The category of a question is its task, from which its benchmark follows
        (`embedllm.datasets.formats.answers.benchmark_of`). The prompt is the text given to the model.

    Raises
    ------
    FileExistsError
        If there is something at `out`.
    FileNotFoundError
        If there is no source, or no log in it.
    ValueError
        As `embedllm.datasets.formats.lm_eval.read_lm_eval` does.

    References
    ----------
    https://github.com/EleutherAI/lm-evaluation-harness; `lm_eval/loggers/evaluation_tracker.py` writes the logs.

    Examples
    --------
    >>> from embedllm import import_lm_eval
    >>> import_lm_eval("logs", "my-pool", filter="strict-match")  # doctest: +SKIP
    """
    path = _checked(source, out)
    return _written(read_lm_eval(path, metric=metric, filter=filter), path, out, encoder, device)


def import_resolved(
    source: _Path,
    out: _Path,
    *,
    questions: _Path,
    encoder: _Path = DEFAULT_ENCODER,
    device: str | list[str] = "auto",
) -> CorrectnessMatrix:
    """Import lists of the tasks that each model resolved (see `embedllm.datasets.formats.resolved_lists`).

    Parameters
    ----------
    source : path
        A folder with a list for each model.
    out : path
        A folder that does not exist, or is empty.
    questions : path
        As in `embedllm.datasets.formats.resolved_lists.read_resolved`.
    encoder, device
        As in `embedllm.datasets.encoder.encode_questions`.

    Raises
    ------
    FileExistsError
        If there is something at `out`.
    FileNotFoundError
        If there is no source, or no list in it.
    ValueError
        As `embedllm.datasets.formats.resolved_lists.read_resolved` does.

    References
    ----------
    SWE-bench: arXiv:2310.06770; its leaderboard publishes such lists.

    Examples
    --------
    >>> from embedllm import import_resolved
    >>> import_resolved("verified", "my-pool", questions="verified.jsonl")  # doctest: +SKIP
    """
    path = _checked(source, out)
    return _written(read_resolved(path, _existing(questions)), path, out, encoder, device)


def _checked(source: _Path, out: _Path) -> Path:
    check_new_folder(out)
    return _existing(source)


def _existing(path: _Path) -> Path:
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    return Path(path)


def _written(answers: Answers, source: Path, out: _Path, encoder: _Path, device: str | list[str]) -> CorrectnessMatrix:
    """Encode the prompts, and write the matrix."""
    observed = answers.labels.to_numpy() != NOT_OBSERVED
    answered = observed.any(axis=0)
    if not answered.any():
        raise ValueError(f"{source} holds no answer that was observed")
    questions = answers.questions[answered]
    if (empty := questions["prompt"].str.strip() == "").any():
        raise ValueError(f"{source}: the prompt of question {questions.index[empty][0]!r} is empty: fill it in")
    report = [
        *answers.report,
        ("questions without an answer", int((~answered).sum()), "left out"),
        ("models without an answer", int((~observed.any(axis=1)).sum()), "kept, not observed"),
    ]
    build = partial(
        CorrectnessMatrix,
        answers.labels.loc[:, answered],
        questions,
        source=source.resolve().name,
        report=report_table(report),
    )
    # The matrix is checked here, before the prompts are encoded.
    build(embeddings=np.ones((len(questions), 1)))
    matrix = build(embeddings=encode_questions(questions["prompt"].tolist(), encoder, device=device))
    write_long_form(matrix, out)
    return matrix
