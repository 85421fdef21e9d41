"""Results that were computed once, where a build would take too long or lack the data, with their date."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from embedllm.matrix import CorrectnessMatrix


class RecordedComparison(NamedTuple):
    """What ``tools/record_solvers.py`` recorded.

    Attributes
    ----------
    pools : DataFrame
        A row for each pool. Columns `data`, `n_models`, `n_questions`, `date`, `labels_sha256`.
    scores, curves, stability : DataFrame
        As `embedllm.studies.what_embedllm_is` returns them, of all pools.
    """

    pools: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    stability: pd.DataFrame


def load_recorded_comparison(path: Path | None = None) -> RecordedComparison:
    """Read the recorded comparison of the solvers, by default the project's own, `data/solvers.json`.

    Raises
    ------
    ValueError
        If the file is not a complete record.
    """
    file = path or resources.files("embedllm.data").joinpath("solvers.json")
    try:
        pools = json.loads(file.read_text(encoding="utf-8"))
        columns = ["data", "n_models", "n_questions", "date", "labels_sha256"]
        about = pd.DataFrame([[pool[column] for column in columns] for pool in pools.values()], columns=columns)
        frames = [
            pd.concat([pd.DataFrame(**pool[name]) for pool in pools.values()], ignore_index=True)
            for name in ("scores", "curves", "stability")
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is not a complete record ({error!r}): run tools/record_solvers.py again") from error
    return RecordedComparison(about, *frames)


def answers_sha256(matrix: CorrectnessMatrix) -> str:
    """Return a hash of the labels, the names of the models, and the ids, benchmarks and split of the questions.

    Embeddings are no part of it: they differ in the last bits between versions of an encoder.
    """
    columns = [matrix.questions[name].tolist() for name in ("benchmark", "split") if name in matrix.questions]
    names = json.dumps([matrix.model_names.tolist(), matrix.question_ids.tolist(), *columns], default=str)
    return hashlib.sha256(names.encode() + matrix.labels.astype("int8").tobytes()).hexdigest()


def find_record(
    name: str, matrix: CorrectnessMatrix, path: Path | None, tool: str
) -> tuple[dict[str, pd.DataFrame] | None, pd.DataFrame]:
    """Find the record of the answers of a matrix in a file of records, by their hash.

    Parameters
    ----------
    name : str
        Of the project's own file in `data`.
    matrix : CorrectnessMatrix
    path : Path, optional
        Another file.
    tool : str
        That writes it, for the messages.

    Returns
    -------
    record : dict of str to DataFrame, or None
        None if there is no file, or no record in it is of these answers.
    about : DataFrame
        One row that says what it is, or why there is none.

    Raises
    ------
    ValueError
        If the file is not a complete record.
    """
    file = path or resources.files("embedllm.data").joinpath(name)
    try:
        pools = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        wanted = answers_sha256(matrix)
        found = next((pool for pool in pools.values() if pool["sha256"] == wanted), None)
        if found is None:
            same = [pool["date"] for pool in pools.values() if pool["data"] == matrix.source]
            why = f"no: that of {same[0]} is of other answers" if same else f"no: {tool} records it"
            return None, pd.DataFrame([{"data": matrix.source, "recorded": why, "answers": wanted[:12]}])
        settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
        about = {"data": found["data"], "recorded": found["date"], "embedllm": found["version"], "settings": settings}
        frames = {key: pd.DataFrame(**value) for key, value in found["frames"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is not a complete record ({error!r}): run {tool} again") from error
    return frames, pd.DataFrame([about | {"answers": wanted[:12]}])
