"""Results that were computed once, where a build would take too long or lack the data, with their date."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pandas as pd


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
