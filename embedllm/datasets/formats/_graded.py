"""What the readers of graded replies have in common: files that hold a list of entries, and verdicts on questions."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from embedllm._support.checks import check_option
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.formats.answers import Answers, CountsAs, resolve_answers
from embedllm.datasets.report import Line
from embedllm.matrix import INCORRECT, NOT_OBSERVED

UNREAD = NOT_OBSERVED
"""The verdict on a reply from which no answer could be read."""


def entries_of(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a list, each with the place where it stands; other entries are skipped.

    Raises
    ------
    ValueError
        If it is not a list, or holds no object.
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
    no_answer: CountsAs,
    duplicates: Duplicates,
    n_read: int,
    report: Sequence[Line],
) -> Answers:
    """Arrange verdicts as a matrix, its models in the order of their names, whatever the case.

    Parameters
    ----------
    verdicts : mapping from model to a sequence of (question, verdict)
        A verdict is `CORRECT`, `INCORRECT` or `UNREAD`.
    questions : DataFrame indexed by question, as in `verdicts`
        In the order of the matrix, which numbers them from 0: these are their ids. The column `category` becomes the
        benchmark, too.
    no_answer : "incorrect" or "not observed"
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `embedllm.datasets.formats.long.read_long_form`.
    n_read : int
        Number of entries in the files; those that are not verdicts are counted as stray.
    report : sequence of Line
        What else was skipped, resolved or excluded.

    Raises
    ------
    ValueError
        If there is no such rule, or a question has two verdicts for a model and the rule is "error".
    """
    check_option("duplicates", duplicates, Duplicates)
    check_option("no_answer", no_answer, CountsAs)
    votes, n_unread = LabelVotes(len(verdicts), len(questions)), 0
    names = sorted(verdicts, key=str.lower)
    for model, name in enumerate(names):
        asked, given = zip(*verdicts[name], strict=True)
        positions = questions.index.get_indexer(pd.Index(asked, tupleize_cols=False))
        labels = np.array(given, dtype=np.int8)
        unread = labels == UNREAD
        n_unread += int(unread.sum())
        labels[unread] = INCORRECT
        counted = ~unread if no_answer == "not observed" else np.full(len(given), True)
        votes.add(np.full(int(counted.sum()), model), positions[counted], labels[counted])
    n_stray = n_read - sum(map(len, verdicts.values()))
    report = [
        Line("replies from which no answer could be read", n_unread, no_answer),
        Line("entries that are not answers", n_stray, "left out"),
        *report,
    ]
    account = {"entries read": n_read, "no answers": n_stray}
    account["without an answer that could be read"] = n_unread if no_answer == "not observed" else 0
    table = questions.assign(benchmark=questions["category"]).set_axis(pd.RangeIndex(len(questions)).astype(str))
    return resolve_answers(votes, pd.Index(names, dtype=object), table, duplicates, report, account)[0]
