"""Scores of single predictions."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from embedllm.matrix import CORRECT, INCORRECT, CorrectnessMatrix

THRESHOLD = 0.5
"""An answer is predicted correct when its probability is above this; at exactly one half it is predicted incorrect."""

CLIP = 1e-3
"""A certain prediction that is incorrect has an infinite log loss: probabilities are kept this far from 0 and 1."""

METRICS = ("accuracy", "log_loss", "brier")


def score_cells(probability: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    """Score the prediction of each entry.

    Parameters
    ----------
    probability : ndarray
        Predicted probability of a correct answer.
    correct : ndarray of the same shape, bool
        Whether the answer is correct.

    Returns
    -------
    dict
        `accuracy` (whether the thresholded prediction agrees), `log_loss` (nats) and `brier`, arrays of the same shape.

    Examples
    --------
    >>> score_cells(np.array([0.9, 0.5]), np.array([True, False]))["accuracy"]
    array([ True,  True])
    """
    probability = probability.astype(float)
    of_the_label = np.where(correct, probability, 1 - probability)
    return {
        "accuracy": (probability > THRESHOLD) == correct,
        "log_loss": -np.log(of_the_label.clip(CLIP, 1 - CLIP)),
        "brier": (1 - of_the_label) ** 2,
    }


def mean_scores(probability: np.ndarray, matrix: CorrectnessMatrix) -> dict[str, float]:
    """Return the mean `log_loss` (nats) and `accuracy` over the observed entries of a matrix; NaN if there are none.

    Parameters
    ----------
    probability : ndarray of shape (n_models, n_questions)
    matrix : CorrectnessMatrix
    """
    entries = score_cells(probability[matrix.observed], (matrix.labels == CORRECT)[matrix.observed])
    known = matrix.observed.any()
    return {metric: float(entries[metric].mean()) if known else np.nan for metric in ("log_loss", "accuracy")}


def pairs_in_order(probability: np.ndarray, matrix: CorrectnessMatrix, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the pairs of a correct and an incorrect answer that are predicted in this order, the Mann-Whitney U.

    A pair with equal predictions counts as half. The share of the pairs is the area under the ROC curve.

    Parameters
    ----------
    probability : ndarray of shape (n_models, n_questions)
    matrix : CorrectnessMatrix
    axis : int
        0 for the pairs of models, within each question; 1 for the pairs of questions, within each model.

    Returns
    -------
    in_order, pairs : ndarray of shape (n_questions,) or (n_models,)
    """
    correct, incorrect = matrix.labels == CORRECT, matrix.labels == INCORRECT
    ranks = rankdata(np.where(matrix.observed, probability, np.inf), axis=axis)  # the unobserved come last
    n = correct.sum(axis=axis)  # whose own ranks add up to n (n + 1) / 2
    return (ranks * correct).sum(axis=axis) - n * (n + 1) / 2, n * incorrect.sum(axis=axis)
