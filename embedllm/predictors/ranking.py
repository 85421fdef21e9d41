"""The models most likely to be correct on each question, in numbers that depend on nothing but the question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from embedllm._support.checks import name_positions
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_probabilities
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.stacked import StackedCorrectness
from embedllm.predictors.tuned import Tuned

_BLOCK = 512  # questions multiplied at a time
_LEAST = 2.0**-24  # half the distance from 1 to the float32 below: probabilities are kept so far from 0 and 1


class NewModel(NamedTuple):
    """A model that was placed beside a fitted factorization (:mod:`embedllm.predictors.placement`).

    Attributes
    ----------
    weights : ndarray of shape (width + 1,), float32
        Most probable u, and last the intercept.
    spread : ndarray of shape (n_directions, width + 1), float32
        S: the logit of a question x with a 1 behind it has the variance ``|S x|^2``.
    """

    weights: np.ndarray
    spread: np.ndarray


def pool_logits(
    predictor: CorrectnessPredictor, vectors: np.ndarray, new_models: Mapping[str, NewModel] | None = None
) -> np.ndarray:
    """Return the logit of a correct answer of each model to each question, whatever other questions come along.

    A matrix product in floating point rounds in ways that depend on its shape and on the place of a row in it: a
    question could change its model with the company it is asked in, and models with equal parameters might not tie.
    Here the product of a factorization is one of whole numbers, which float64 adds exactly in any order; KNN settles
    its neighbours exactly; other predictors, and the other parts of a stack, get one question at a time.

    Parameters
    ----------
    predictor : CorrectnessPredictor
    vectors : ndarray of shape (n_questions, width), float32
    new_models : mapping of str to NewModel, optional

    Returns
    -------
    ndarray of shape (n_questions, n_models), float64
        Models of the predictor, then the new ones. Those of `predict_proba` up to rounding; of a new model with the
        variance v, z / sqrt(1 + pi v / 8).
    """
    if isinstance(predictor, MatrixFactorization):
        check_embeddings(vectors, predictor.coef_.shape[1])
        logits = _products(vectors, predictor.coef_) + predictor.intercept_
    else:
        logits = logit(_alone(predictor, vectors).astype(float).clip(_LEAST, 1 - _LEAST))
    return np.column_stack([logits, *(_moderated(vectors, each) for each in (new_models or {}).values())])


def best_models(logits: np.ndarray, names: npt.ArrayLike, top: int) -> np.ndarray:
    """Return the positions of the models with the highest logits, the best first, (n_questions, at most `top`), int.

    Ties go to the model whose name comes first in sorted order.

    Parameters
    ----------
    logits : ndarray of shape (n_questions, n_models)
    names : array of shape (n_models,), text
    top : int
    """
    by_name = np.argsort(np.asarray(names, dtype=str), kind="stable")
    left, found = logits[:, by_name], []
    for _ in by_name[:top]:
        best = left.argmax(axis=1, keepdims=True)  # the first of equals
        found.append(by_name[best])
        np.put_along_axis(left, best, -np.inf, axis=1)
    return np.hstack(found)


def positions_among(names: np.ndarray, among: Iterable[str] | None) -> np.ndarray:
    """Return the positions of the models to choose among, (n_kept,); of all where none are named.

    Raises
    ------
    KeyError, TypeError, ValueError
        If a model is unknown, the models are one text and no list, or there is nothing to choose among.
    """
    if isinstance(among, str):
        raise TypeError(f"models must be a list of names, got the text {among!r}: pass [{among!r}]")
    kept = name_positions("model", names if among is None else dict.fromkeys(among), names)
    if not len(kept):
        raise ValueError("models is empty: name at least one, or leave it out")
    return kept


def priced_scores(probability: np.ndarray, penalties: np.ndarray, min_probability: float = 0.0) -> np.ndarray:
    """Return probabilities minus what their models cost; those below a minimum come after all others.

    Parameters
    ----------
    probability : ndarray of shape (n_questions, n_models)
    penalties : ndarray of shape (n_models,)
        From `embedllm.datasets.prices.price_penalties`.
    min_probability : float

    Returns
    -------
    ndarray of shape (n_questions, n_models)
    """
    below = probability.astype(np.float32) < min_probability  # rounded as `ranked` returns them
    return probability - penalties - (2 + penalties.max()) * below


def ranked(
    names: np.ndarray, logits: np.ndarray, kept: np.ndarray, scores: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return names and probabilities of the best models by a score.

    Parameters
    ----------
    names : ndarray of shape (n_models,)
    logits : ndarray of shape (n_questions, n_models)
    kept : ndarray of shape (n_kept,)
        Positions of the models to choose among.
    scores : ndarray of shape (n_questions, n_kept)
    top : int

    Returns
    -------
    ndarray of shape (n_questions, top), text, and ndarray of the same shape, float32
        None and NaN where there are fewer models.
    """
    best = kept[best_models(scores, names[kept], top)]  # (n_questions, at most top)
    found, probability = np.full((len(logits), top), None), np.full((len(logits), top), np.nan, dtype=np.float32)
    found[:, : best.shape[1]] = names[best]
    probability[:, : best.shape[1]] = expit(np.take_along_axis(logits, best, axis=1))
    return found, probability


def _alone(predictor: CorrectnessPredictor, vectors: np.ndarray) -> np.ndarray:
    """Return the probabilities that a predictor gives each question alone, (n_questions, n_models)."""
    if isinstance(predictor, StackedCorrectness):
        return predictor.combine(lambda part: _alone(part, vectors))
    exact = isinstance(predictor.predictor_ if isinstance(predictor, Tuned) else predictor, KNNCorrectness)
    parts = [vectors] if exact else [vectors[[row]] for row in range(len(vectors))]
    each = [check_probabilities(predictor, predictor.predict_proba(part), len(part)) for part in parts]
    return np.reshape(each, (len(vectors), len(predictor.model_names_)))


def _moderated(vectors: np.ndarray, new: NewModel) -> np.ndarray:
    """Return the logits of a new model, (n_questions,)."""
    rows = np.vstack([new.weights, new.spread])
    z, *deviations = (_products(vectors, rows[:, :-1]) + rows[:, -1]).T
    variance = np.zeros(len(vectors))
    for deviation in deviations:  # one after the other: `sum` rounds in ways that depend on the shape
        variance += deviation**2
    return z / np.sqrt(1 + np.pi / 8 * variance)


def _products(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the scalar products of vectors with rows, (n_vectors, n_rows), as products of whole numbers."""
    products, (whole, row_unit) = np.empty((len(vectors), len(rows))), _whole_numbers(rows)
    for start in range(0, len(vectors), _BLOCK):
        numbers, unit = _whole_numbers(vectors[start : start + _BLOCK])
        products[start : start + _BLOCK] = numbers @ whole.T * (unit * row_unit.T)
    return products


def _whole_numbers(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round each row to whole numbers, float64, times a power of two, (n_rows, 1).

    The numbers are so small that a scalar product of two rows has at most 53 bits.
    """
    bits = (53 - math.ceil(math.log2(rows.shape[1]))) // 2  # 21 at width 768
    exponents = np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1]
    unit = np.ldexp(np.float32(1), np.maximum(exponents - bits, -149))  # at least the least number of float32
    return np.rint(rows / unit).astype(np.float64), unit.astype(np.float64)
