"""What the readers of graded replies have in common: files that hold a list of entries, and verdicts on questions."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from embedllm._checks import check_option
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.formats.answers import Answers, Report, resolve_answers
from embedllm.matrix import INCORRECT, NOT_OBSERVED

NoAnswer = Literal["incorrect", "not observed"]
"""What a reply counts as from which no answer could be read."""

UNREAD = NOT_OBSERVED
"""The verdict on such a reply."""


def entries_of(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a list, each with the place where it stands; other entries are skipped.

    Raises
    ------
    ValueError
        If it is no list, or holds no object.
    """
    if not isinstance(value, list) or not any(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{where} holds no list of answers: it is another file, so remove it")
    for number, entry in enumerate(value, start=1):
        if isinstance(entry, dict):
            yield f"{where}, entry {number}", entry


def graded_answers(
    verdicts: Mapping[str, Sequence[tuple[Hashable, int]]],
    questions: pd.DataFrame,
    *,
    no_answer: NoAnswer,
    duplicates: Duplicates,
    report: Report,
) -> Answers:
    """Arrange verdicts as a matrix.

    Parameters
    ----------
    verdicts : mapping from model to a sequence of (question, verdict)
        In the order of the models. A verdict is `CORRECT`, `INCORRECT` or `UNREAD`.
    questions : DataFrame indexed by question, as in `verdicts`
        In the order of the matrix, which numbers them from 0: these are their ids.
    no_answer : "incorrect" or "not observed"
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `embedllm.datasets.formats.long.read_long_form`.
    report : list of (what, count, rule)
        What else was resolved.

    Raises
    ------
    ValueError
        If there is no such rule, or a question has two verdicts for a model and the rule is "error".
    """
    check_option("duplicates", duplicates, Duplicates)
    check_option("no_answer", no_answer, NoAnswer)
    votes, n_unread = LabelVotes(len(verdicts), len(questions)), 0
    for model, given in enumerate(verdicts.values()):
        positions = questions.index.get_indexer(pd.Index([question for question, _ in given], tupleize_cols=False))
        labels = np.array([verdict for _, verdict in given], dtype=np.int8)
        unread = labels == UNREAD
        n_unread += int(unread.sum())
        labels[unread] = INCORRECT
        counted = ~unread if no_answer == "not observed" else np.full(len(given), True)
        votes.add(np.full(int(counted.sum()), model), positions[counted], labels[counted])
    report = [("replies from which no answer could be read", n_unread, no_answer), *report]
    table = questions.set_axis(pd.RangeIndex(len(questions)).astype(str))
    return resolve_answers(votes, pd.Index(list(verdicts), dtype=object), table, duplicates, report)[0]
