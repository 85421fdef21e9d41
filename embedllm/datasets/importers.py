"""Importers: each reads evaluation results of one format, encodes the prompts and writes a data set.

The data set is a folder in the authors' long form, which `load_dataset` reads. It appears when it is complete. Every
fault of the input is reported before the first prompt is encoded, since encoding may take hours.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from embedllm._support.division import normalized
from embedllm._support.files import check_file, check_new_folder, user_path
from embedllm._support.reading import is_there
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.encoder import DEFAULT_ENCODER, encode_questions, find_encoder
from embedllm.datasets.formats._tables import read_rows
from embedllm.datasets.formats.answers import Answers, answer_files, list_answers, read_answers
from embedllm.datasets.formats.every_eval_ever import read_every_eval_ever
from embedllm.datasets.formats.inspect_ai import read_inspect
from embedllm.datasets.formats.lm_eval import read_lm_eval
from embedllm.datasets.formats.long import read_order, write_long_form
from embedllm.datasets.formats.resolved_lists import read_resolved
from embedllm.datasets.formats.wide import read_wide
from embedllm.datasets.report import Line, account_line, refuse_choices, warn_of_threshold
from embedllm.matrix import INCORRECT, NOT_OBSERVED, CorrectnessMatrix, EncoderName

_Path = str | os.PathLike[str]

_MOST_EQUAL = 0.01  # share of different questions with equal embeddings above which there is a warning


def import_long(source: _Path, out: _Path, **options: Any) -> CorrectnessMatrix:
    """Import answers in the authors' long form, which need no order files and no embeddings.

    Parameters
    ----------
    source : path
        A `.csv`, `.csv.gz` or `.parquet` file with columns prompt_id, model_name, category, label and prompt, or a
        folder with such a file named `correctness`, or with three named `train`, `val` and `test`. Models and questions
        keep the order in which they first occur, or that of `model_order` and `question_order` where the folder has
        these; what they say beyond, such as the prompt, the benchmark or `params_b`, is taken as `load_dataset` does.
        Embeddings in the folder are ignored.
    out : path
        A folder that does not exist, or is empty.
    encoder, device
        As in `embedllm.datasets.encoder.encode_questions`.
    strict : bool
        Raise where the reader would have to choose between things in the data: two labels of an answer, two runs, two
        texts of a question (`embedllm.datasets.report.Line`).
    dry_run : bool
        Report only: nothing is encoded or written, and the embeddings of the matrix that is returned are all ones.
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
        benchmarks or two splits, a label is unknown, or a model or question is missing from its order file: names
        file, row and value.

    Examples
    --------
    >>> from embedllm import import_long
    >>> import_long("answers.csv.gz", "my-pool")  # doctest: +SKIP
    """
    return _imported(_read_long, source, out, **options)


def import_wide(source: _Path, out: _Path, **options: Any) -> CorrectnessMatrix:
    """Import a table with a row for each question and a column for each model.

    Parameters
    ----------
    source : path
        A `.csv`, `.csv.gz` or `.parquet` file.
    out : path
        A folder that does not exist, or is empty.
    **options
        `encoder`, `device`, `strict` and `dry_run` as in `import_long`, the others as in
        `embedllm.datasets.formats.wide.read_wide`.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError
        As `import_long` and the reader do.

    Examples
    --------
    >>> from embedllm import import_wide
    >>> import_wide("table.csv", "my-pool", ignore=["notes"])  # doctest: +SKIP
    """
    return _imported(_read_wide, source, out, **options)


def import_lm_eval(source: _Path, out: _Path, **options: Any) -> CorrectnessMatrix:
    """Import sample logs of the lm-evaluation-harness.

    Parameters
    ----------
    source : path
        The `--output_path` of the harness, or any folder above it.
    out : path
        A folder that does not exist, or is empty.
    **options
        `encoder`, `device`, `strict` and `dry_run` as in `import_long`, the others as in
        `embedllm.datasets.formats.lm_eval.read_lm_eval`.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError
        As `import_long` and the reader do.

    References
    ----------
    https://github.com/EleutherAI/lm-evaluation-harness; `lm_eval/loggers/evaluation_tracker.py` writes the logs.

    Examples
    --------
    >>> from embedllm import import_lm_eval
    >>> import_lm_eval("logs", "my-pool", filter="strict-match")  # doctest: +SKIP
    """
    return _imported(read_lm_eval, source, out, **options)


def import_resolved(source: _Path, out: _Path, *, questions: _Path, **options: Any) -> CorrectnessMatrix:
    """Import lists of the tasks that each model resolved.

    Parameters
    ----------
    source : path
        A folder with a list for each model.
    out : path
        A folder that does not exist, or is empty.
    questions : path
        A file with the id (`prompt_id` or `instance_id`) and the prompt (`prompt` or `problem_statement`) of every
        task; `.jsonl`, `.csv`, `.csv.gz` or `.parquet`.
    **options
        `encoder`, `device`, `strict` and `dry_run` as in `import_long`, the others as in
        `embedllm.datasets.formats.resolved_lists.read_resolved`.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError
        As `import_long` and the reader do.

    References
    ----------
    SWE-bench: arXiv:2310.06770; its leaderboard publishes such lists.

    Examples
    --------
    >>> from embedllm import import_resolved
    >>> import_resolved("verified", "my-pool", questions="verified.jsonl")  # doctest: +SKIP
    """
    return _imported(read_resolved, source, out, questions=user_path(questions), **options)


def import_every_eval_ever(source: _Path, out: _Path, **options: Any) -> CorrectnessMatrix:
    """Import records of Every Eval Ever.

    Parameters
    ----------
    source : path
        A folder with `UUID_samples.jsonl` at any depth.
    out : path
        A folder that does not exist, or is empty.
    **options
        `encoder`, `device`, `strict` and `dry_run` as in `import_long`, the others as in
        `embedllm.datasets.formats.every_eval_ever.read_every_eval_ever`.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError
        As `import_long` and the reader do.

    References
    ----------
    https://github.com/evaleval/every_eval_ever

    Examples
    --------
    >>> from embedllm import import_every_eval_ever
    >>> import_every_eval_ever("data", "my-pool", metric="exact_match")  # doctest: +SKIP
    """
    return _imported(read_every_eval_ever, source, out, **options)


def import_inspect(source: _Path, out: _Path, **options: Any) -> CorrectnessMatrix:
    """Import logs of inspect_ai; its package must be installed.

    Parameters
    ----------
    source : path
        A log, `.eval` or `.json`, or a folder with logs at any depth.
    out : path
        A folder that does not exist, or is empty.
    **options
        `encoder`, `device`, `strict` and `dry_run` as in `import_long`, the others as in
        `embedllm.datasets.formats.inspect_ai.read_inspect`.

    Raises
    ------
    FileExistsError, FileNotFoundError, ModuleNotFoundError, ValueError
        As `import_long` and the reader do.

    References
    ----------
    https://inspect.aisi.org.uk

    Examples
    --------
    >>> from embedllm import import_inspect
    >>> import_inspect("logs", "my-pool", threshold=0.5)  # doctest: +SKIP
    """
    return _imported(read_inspect, source, out, **options)


def _read_long(path: Path, duplicates: Duplicates = "majority") -> Answers:
    files, facts, known = {"all": path}, None, None
    if path.is_dir():
        files = answer_files(path)
        facts, known = read_order(path, "model_order", "model_name"), read_order(path, "question_order", "prompt_id")
    models, questions = list_answers(files, known)
    answers, _ = read_answers(files, models if facts is None else facts.index, questions, duplicates=duplicates)
    return answers._replace(models=facts)


def _read_wide(path: Path, *, threshold: float | None = None, **options: Any) -> Answers:
    answers = read_wide(path, threshold=threshold, **options)
    failing = answers.labels.index[answers.labels.max(axis=1) == INCORRECT].tolist()
    if threshold is not None and failing:
        # A second reading, which is rare, is cheaper than to hold all scores in the first.
        tables = (rows.columns.to_pandas() for rows in read_rows(path, failing))
        highest = pd.DataFrame([table.apply(pd.to_numeric, errors="coerce").max() for table in tables]).max()
        warn_of_threshold(threshold, dict.fromkeys(answers.labels.index, np.nan) | highest.to_dict())
    return answers


def existing(path: _Path) -> Path:
    """Return the path of a file or a folder.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    OSError, Malformed
        As `embedllm._support.files.check_file` does.
    """
    found = user_path(path)
    if not is_there(found):
        raise FileNotFoundError(f"{path} does not exist")
    if not found.is_dir():
        check_file(found)
    return found


def _imported(
    read: Callable[..., Answers],
    source: _Path,
    out: _Path,
    *,
    encoder: _Path = DEFAULT_ENCODER,
    device: str | list[str] = "auto",
    strict: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> CorrectnessMatrix:
    """Read answers, encode their prompts, and write the matrix."""
    check_new_folder(out)
    source = existing(source)
    answers = read(source, **options)
    if strict:
        refuse_choices(answers.report)
    observed = answers.labels.to_numpy() != NOT_OBSERVED
    answered = observed.any(axis=0)
    if not answered.any():
        line = account_line(0, answers.account)
        raise ValueError(f"{source} holds no answer that was observed: {line.number:,} {line.what} {line.rule}")
    questions = answers.questions[answered]
    if (empty := questions["prompt"].str.strip() == "").any():
        raise ValueError(f"{source}: the prompt of question {questions.index[empty][0]!r} is empty: fill it in")
    texts = questions["prompt"].map(normalized)
    build = partial(
        CorrectnessMatrix,
        answers.labels.loc[:, answered],
        questions,
        models=answers.models,
        source=source.resolve().name,
        report=answers.report_table(
            Line("questions without an answer", int((~answered).sum()), "left out"),
            Line("models without an answer", int((~observed.any(axis=1)).sum()), "kept, not observed"),
            Line(
                "questions that share their text with another",
                int(texts.duplicated(keep=False).sum()),
                "kept; a random division puts them into one part",
            ),
        ),
        costs=None if answers.costs is None else answers.costs.loc[:, answered],
        cost_unit=answers.cost_unit,
    )
    # The matrix is checked here, before the prompts are encoded.
    matrix = build(embeddings=np.ones((len(questions), 1)))
    if not dry_run:
        vectors, found = encode_questions(questions["prompt"].tolist(), encoder, device=device), find_encoder(encoder)
        matrix = build(embeddings=vectors, encoder=EncoderName(found.name, found.fingerprint))
        _warn_of_equal(matrix)
        write_long_form(matrix, out)
    return matrix


def _warn_of_equal(matrix: CorrectnessMatrix) -> None:
    n_texts = matrix.questions["prompt"].nunique()
    n_equal = n_texts - len({row.tobytes() for row in matrix.embeddings})
    if n_equal > _MOST_EQUAL * n_texts:
        warnings.warn(
            f"{n_equal:,} of {n_texts:,} different questions have the embedding of another one, so that no predictor "
            f"can tell them apart: does each begin with the same long text, such as few-shot examples, behind which "
            f"the encoder reads no further? Import the question alone (prompt_field=..., --prompt-field)",
            stacklevel=3,
        )
