"""Duplicates: several labels of a (model, question), and several questions with the same text."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.preprocessing import normalize

from embedllm._support.division import question_groups
from embedllm._support.files import check_limit
from embedllm.datasets.report import Line
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix

Duplicates = Literal["majority", "any", "last", "rows", "error"]
"""What counts where a (model, question) has several labels.

"majority": most of them, and a tie is not observed. "any": correct if one of them is. "last": the one that came last.
"rows": all of them, the second and further ones on copies of the question. "error": none, it is an error.
"""

NEAR = 0.95
"""Cosine similarity above which two questions count as near duplicates."""

_BLOCK = 1024  # questions compared at a time
_SPARSE, _CELL = 100, 40  # cells for each label from which on a matrix is no pool; bytes of work that a cell takes

_RULES = {
    "majority": "majority of the labels of a (model, question)",
    "any": "correct if any of the labels of a (model, question) is",
    "last": "the label of a (model, question) that was read last",
    "rows": "each on a copy of the question",
}


class Resolved(NamedTuple):
    """Labels after a rule.

    Attributes
    ----------
    labels : ndarray of shape (n_models, n_columns), int8
        A column is a question, or a copy of one.
    positions : ndarray of shape (n_columns,)
        The question of each column.
    copies : ndarray of shape (n_columns,)
        The number of each column among those of its question, from 0.
    n_seen : ndarray of shape (n_models, n_questions), int32
        Number of labels.
    report : list of Line
    account : mapping from text to int
        Which rows became no cell.
    costs : ndarray of shape (n_models, n_columns), float32, or None
        Where the labels came with costs: the mean of those of a (model, question), NaN where none is known, or the
        label is not observed.
    """

    labels: np.ndarray
    positions: np.ndarray
    copies: np.ndarray
    n_seen: np.ndarray
    report: list[Line]
    account: dict[str, int]
    costs: np.ndarray | None


class LabelVotes:
    """Labels of models on questions, in the order in which they were read.

    Parameters
    ----------
    n_models, n_questions : int
    """

    def __init__(self, n_models: int, n_questions: int) -> None:
        self._shape, self._n_cells = (n_models, n_questions), n_models * n_questions
        self._type = np.int32 if 2 * self._n_cells < 2**31 else np.int64
        self._votes: list[np.ndarray] = []  # 2 * cell + label
        self._costs: list[np.ndarray] = []

    def add(
        self, models: np.ndarray, questions: np.ndarray, labels: np.ndarray, costs: np.ndarray | None = None
    ) -> None:
        """Add rows: positions of models and of questions, labels, int8, and costs, NaN where unknown: (n_rows,)."""
        cells = models.astype(self._type) * self._shape[1] + questions
        self._votes.append(2 * cells + labels)
        if costs is not None:
            self._costs.append(costs)

    def resolve(self, duplicates: Duplicates) -> Resolved:
        """Apply a rule; for "error", `n_seen` tells the caller where it is violated."""
        votes = np.concatenate(self._votes)
        if len(votes) * _SPARSE < self._n_cells:
            what = f"{self._shape[0]:,} models x {self._shape[1]:,} questions with only {len(votes):,} answers"
            check_limit("memory", _CELL * self._n_cells, what)
        counts = np.bincount(votes, minlength=2 * self._n_cells).astype(np.int32)
        n_incorrect, n_correct = counts[0::2], counts[1::2]
        n_seen = n_incorrect + n_correct
        positions, copies = np.arange(self._shape[1]), np.zeros(self._shape[1], dtype=int)
        n_ties = 0
        if duplicates == "rows":
            matrix, positions, copies = self._one_column_a_row(votes >> 1, votes & 1, n_seen.reshape(self._shape))
        elif duplicates == "last":
            matrix = np.full(self._n_cells, NOT_OBSERVED, dtype=np.int8)
            matrix[votes >> 1] = votes & 1  # of several values for a place, NumPy keeps the last
        elif duplicates == "any":
            matrix = np.where(n_seen == 0, NOT_OBSERVED, n_correct > 0).astype(np.int8)
        else:
            even = n_correct == n_incorrect
            matrix = (n_correct > n_incorrect).astype(np.int8) - even  # 0 - 1 is not observed
            n_ties = int(np.count_nonzero(even & (n_seen > 0)))
        rule, n_duplicates = _RULES.get(duplicates, ""), len(votes) - int(np.count_nonzero(n_seen))
        n_conflicts = int(np.count_nonzero((n_correct > 0) & (n_incorrect > 0)))
        report = [
            Line("duplicated rows", n_duplicates, rule, is_choice=True),
            Line("conflicting labels", n_conflicts, rule, is_choice=True),
            Line("tied labels", n_ties, "not observed", is_choice=True),
        ]
        account = {"duplicates": 0 if duplicates == "rows" else n_duplicates, "ties": n_ties}
        matrix = matrix.reshape(self._shape[0], len(positions))
        costs = None
        if self._costs:
            costs = self._mean_costs(votes >> 1)[:, positions]
            costs[matrix == NOT_OBSERVED] = np.nan
        return Resolved(matrix, positions, copies, n_seen.reshape(self._shape), report, account, costs)

    def _mean_costs(self, cells: np.ndarray) -> np.ndarray:
        costs = np.concatenate(self._costs)
        known = ~np.isnan(costs)
        n_known = np.bincount(cells[known], minlength=self._n_cells)
        sums = np.bincount(cells[known], costs[known], minlength=self._n_cells)
        means = np.divide(sums, n_known, out=np.full(self._n_cells, np.nan), where=n_known > 0)
        return means.astype(np.float32).reshape(self._shape)

    def _one_column_a_row(
        self, cells: np.ndarray, labels: np.ndarray, n_seen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, positions and copies, as in `Resolved`."""
        n_copies = n_seen.max(axis=0, initial=1)  # (n_questions,), at least 1
        first = np.cumsum(n_copies) - n_copies
        order = np.argsort(cells, kind="stable")
        cells = cells[order]
        models, questions = np.divmod(cells, self._shape[1])
        row_of_cell = np.arange(len(cells)) - np.searchsorted(cells, cells)
        spread = np.full((self._shape[0], n_copies.sum()), NOT_OBSERVED, dtype=np.int8)
        spread[models, first[questions] + row_of_cell] = labels[order]
        positions = np.repeat(np.arange(len(n_copies)), n_copies)
        return spread, positions, np.arange(len(positions)) - first[positions]


def duplicated_questions(matrix: CorrectnessMatrix, group_by: str | None = None) -> pd.DataFrame:
    """List the questions that belong together, which a random division keeps in one part.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    group_by : str, optional
        As in `CorrectnessMatrix.split`.

    Returns
    -------
    DataFrame indexed by question id
        A row for each question that is not alone, those of a group together. Columns: `group` (a number) and the
        columns of `matrix.questions`.

    Examples
    --------
    >>> import pandas as pd
    >>> from embedllm import CorrectnessMatrix, duplicated_questions
    >>> labels = pd.DataFrame([[1, 0, 1]], ["model"], ["q1", "q2", "q3"])
    >>> questions = pd.DataFrame({"benchmark": "sums", "prompt": ["2 + 2?", "1 + 1?", "2  +  2?"]}, labels.columns)
    >>> duplicated_questions(CorrectnessMatrix(labels, questions, [[1.0], [2.0], [1.0]]))["group"].to_dict()
    {'q1': 0, 'q3': 0}
    """
    groups = question_groups(matrix.questions, group_by)
    table = matrix.questions.copy()
    table.insert(0, "group", groups)
    return table[np.bincount(groups)[groups] > 1].sort_values("group", kind="stable")


def near_duplicates(matrix: CorrectnessMatrix, cosine: float = NEAR) -> np.ndarray:
    """Number the groups of questions of the same text or item, or of similar embeddings, also by way of others.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    cosine : float
        Two questions belong together if the cosine similarity of their embeddings is above it.

    Returns
    -------
    ndarray of shape (n_questions,), int
        From 0, in the order in which the groups first occur.

    Raises
    ------
    ValueError
        If `cosine` is not between -1 and 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from embedllm import CorrectnessMatrix
    >>> from embedllm.datasets.duplicates import near_duplicates
    >>> labels = pd.DataFrame([[1, 0, 1]], ["model"], ["q1", "q2", "q3"])
    >>> questions = pd.DataFrame({"benchmark": "sums"}, labels.columns)
    >>> near_duplicates(CorrectnessMatrix(labels, questions, [[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])).tolist()
    [0, 1, 0]
    """
    if not -1 <= cosine <= 1:
        raise ValueError(f"cosine must be between -1 and 1, got {cosine!r}")
    unit, pairs = normalize(matrix.embeddings), [np.empty((2, 0), dtype=int)]
    for start in range(0, len(unit), _BLOCK):
        pairs.append(start + np.array(np.nonzero(unit[start : start + _BLOCK] @ unit[start:].T > cosine)))
    first, second = np.hstack(pairs)
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(unit), len(unit)))
    near = connected_components(graph, directed=False)[1]
    return question_groups(matrix.questions.assign(near=near), "near")
