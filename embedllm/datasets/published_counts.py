"""What is published of the answers of the paper's models: counts, no single answer."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
import pandas as pd


class PublishedCounts(NamedTuple):
    """What is published of the answers of the paper's models to its test questions.

    Attributes
    ----------
    correct : DataFrame of shape (112, 10), int
        Correct answers of each model on each benchmark.
    questions : Series of shape (10,), int
        Distinct test prompts of each benchmark.
    """

    correct: pd.DataFrame
    questions: pd.Series


def load_published_counts() -> PublishedCounts:
    """Read the published counts, of `data/published_counts.csv`.

    The page of LOCUS (arXiv 2601.21082) has percentages with one decimal, which were turned back into counts; those of
    MMLU may be one off. Of several rows for a prompt its rule counts the last.

    Examples
    --------
    >>> from embedllm.datasets.published_counts import load_published_counts
    >>> correct, questions = load_published_counts()
    >>> correct.shape, int(questions.sum())
    ((112, 10), 3000)
    """
    file = resources.files("embedllm.data").joinpath("published_counts.csv")
    with file.open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, index_col="benchmark")
    return PublishedCounts(table.drop(columns="questions").T.rename_axis("model"), table["questions"])


def baselines_of(share: pd.DataFrame, questions: pd.Series) -> dict[str, float]:
    """Return the accuracies, from 0 to 1, of baselines that follow from counts of correct answers alone.

    Parameters
    ----------
    share : DataFrame of shape (n_models, n_benchmarks)
        Of correct answers.
    questions : Series of shape (n_benchmarks,)
    """
    weight = questions[share.columns] / questions.sum()
    return {
        "mean accuracy": share.mean() @ weight,
        "per-benchmark majority baseline": np.maximum(share, 1 - share).mean() @ weight,
        "best single model": (share @ weight).max(),
        "best model per benchmark": share.max() @ weight,
    }
