"""The division of questions into parts, which keeps together what belongs together."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from embedllm._support.checks import check_seed

SPLITS = ("train", "val", "test")


def normalized(text: str) -> str:
    """Return a text without differences of case, white space and Unicode form (NFC)."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def question_groups(questions: pd.DataFrame, group_by: str | None = None) -> np.ndarray:
    """Number the groups of questions that a random division keeps in one part.

    Questions belong together if their prompts have the same normalized text, or column `item` or `group_by` the same
    value, also by way of others. A missing or empty prompt or value is like no other.

    Parameters
    ----------
    questions : DataFrame
        As of a `CorrectnessMatrix`. Without a column `prompt`, texts tell nothing; `item` is what questions of other
        wordings have in common.
    group_by : str, optional

    Returns
    -------
    ndarray of shape (n_questions,), int
        From 0, in the order in which the groups first occur.

    Raises
    ------
    ValueError
        If there is no column `group_by`.
    """
    if group_by is not None and group_by not in questions:
        raise ValueError(
            f"the questions have no column {group_by!r}; they have {list(questions.columns)}: name one of these "
            f"(group_by=..., --group-by)"
        )
    n = len(questions)
    first, second, n_nodes = [], [], n  # edges between questions and what they have in common
    for column in dict.fromkeys(name for name in ("prompt", "item", group_by) if name in questions):
        values = questions[column].map(normalized, na_action="ignore") if column == "prompt" else questions[column]
        codes, shared = pd.factorize(values.mask(values.isin([""])))
        known = np.flatnonzero(codes >= 0)
        first.append(known)
        second.append(n_nodes + codes[known])
        n_nodes += len(shared)
    if not first:
        return np.arange(n)
    edges = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(edges[0]), dtype=bool), edges), shape=(n_nodes, n_nodes))
    return pd.factorize(connected_components(graph, directed=False)[1][:n])[0]


def divide(groups: np.ndarray, fractions: Sequence[float], random_state: int) -> list[np.ndarray]:
    """Divide questions at random; a group is in the part in which its first question falls.

    Parameters
    ----------
    groups : ndarray of shape (n_questions,), int
        From `question_groups`.
    fractions : three positive numbers that sum to 1
    random_state : int

    Returns
    -------
    list of three ndarrays of int
        The positions of the questions of each part, ascending.

    Raises
    ------
    ValueError
        If the fractions are none such.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be three positive numbers that sum to 1, got {fractions}")
    sizes = np.bincount(groups)
    order = np.random.default_rng(check_seed(random_state)).permutation(len(sizes))
    ends = np.rint(np.cumsum(fractions[:2]) * len(groups)).astype(int)
    part = np.empty(len(sizes), dtype=int)
    part[order] = np.searchsorted(ends, np.cumsum(sizes[order]) - sizes[order], side="right")
    return [np.flatnonzero(part[groups] == number) for number in range(3)]


def own_parts(assigned: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Return the positions of the questions of each part of the source's own split.

    Parameters
    ----------
    assigned : ndarray of shape (n_questions,), object
        Name of the part of each question.
    groups : ndarray of shape (n_questions,), int
        From `question_groups`.

    Raises
    ------
    ValueError
        If it has other parts than `SPLITS`.

    Warns
    -----
    UserWarning
        If a training question belongs together with one of another part.
    """
    if unknown := set(assigned) - set(SPLITS):
        raise ValueError(f"column 'split' holds {sorted(map(str, unknown))}; it may hold {list(SPLITS)}")
    train, *others = parts = [np.flatnonzero(assigned == name) for name in SPLITS]
    n_val, n_test = (int(np.isin(groups[part], groups[train]).sum()) for part in others)
    if n_val or n_test:
        warnings.warn(
            f"the source's own split has {n_val} validation and {n_test} test questions with the text of a training "
            "question, whose answers a predictor can remember; own=False divides the questions anew",
            stacklevel=3,
        )
    return parts
