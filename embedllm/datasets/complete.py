"""A table of models times questions without a gap, out of a matrix with missing entries."""

from __future__ import annotations

import numpy as np


def complete_table(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the models with the most known cells, as many as make the largest table without a gap.

    Parameters
    ----------
    known : ndarray of shape (n_models, n_questions), bool
        Of models with equally many known cells, the first come first.

    Returns
    -------
    models : ndarray of shape (n_models,), bool
        None of them where no cell is known.
    questions : ndarray of shape (n_questions,), bool
        Those where all of these models are known.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.datasets.complete import complete_table
    >>> models, questions = complete_table(np.array([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 0]], dtype=bool))
    >>> models.tolist(), questions.tolist()
    ([True, True, False], [False, True, True, True])
    """
    order = np.argsort(-known.sum(axis=1), kind="stable")
    complete = np.logical_and.accumulate(known[order], axis=0)  # known of the first models
    cells = complete.sum(axis=1) * np.arange(1, len(order) + 1)
    n_kept = int(cells.argmax()) + 1 if cells.any() else 0
    return np.isin(np.arange(len(order)), order[:n_kept]), complete[n_kept - 1]
