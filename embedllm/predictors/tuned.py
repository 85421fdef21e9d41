"""A predictor whose hyperparameter is chosen on held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from embedllm._support.division import question_groups
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_matrix, check_validation
from embedllm.predictors.scores import mean_scores


class Tuned(CorrectnessPredictor):
    """A predictor with the value of one hyperparameter that has the least log loss on held-out questions.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        Not fitted; it stays as it is.
    parameter : str
        Name of the hyperparameter.
    values : sequence
        Of equally good ones, the first is chosen.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    predictor_ : CorrectnessPredictor
        With the chosen value, fitted on all training questions.
    path_ : DataFrame
        Columns `value` and `log_loss` (nats).

    Examples
    --------
    >>> from embedllm import KNNCorrectness, load_dataset
    >>> from embedllm.predictors.tuned import Tuned
    >>> train, val, test = load_dataset("simulated", scale=0.02).split()
    >>> knn = Tuned(KNNCorrectness(), "n_neighbors", [1, 31]).fit(train, val)
    >>> knn.predictor_
    KNNCorrectness(n_neighbors=31)
    """

    def __init__(self, predictor: CorrectnessPredictor, parameter: str, values: Sequence[Any]) -> None:
        self.predictor, self.parameter, self.values = predictor, parameter, values

    def fit(self, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None = None) -> Self:
        """Choose the value on the validation questions, or on a fifth of the questions that is held out, and fit.

        Where nothing can be held out, such as of one question, it is chosen on the training questions.

        Parameters
        ----------
        matrix : CorrectnessMatrix
        validation : CorrectnessMatrix, optional
        """
        check_matrix(matrix)
        if validation is not None:
            rest, held_out = matrix, check_validation(matrix, validation)
        else:
            rest, held_out = _divided(matrix)
        if not (rest.observed.any() and held_out.observed.any()):
            rest = held_out = matrix
        fits = [clone(self.predictor).set_params(**{self.parameter: value}).fit(rest) for value in self.values]
        losses = [mean_scores(fitted.predict_matrix(held_out), held_out)["log_loss"] for fitted in fits]
        self.path_ = pd.DataFrame({"value": list(self.values), "log_loss": losses})
        best = fits[int(np.argmin(losses))]
        self.predictor_ = best if rest is matrix else clone(best).fit(matrix)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        return self.predictor_.predict_proba(embeddings)

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        self._model_positions(matrix.model_names)
        return self.predictor_.predict_matrix(matrix)


def _divided(matrix: CorrectnessMatrix) -> list[CorrectnessMatrix]:
    """Return four fifths of the questions and the others, groups of questions kept together."""
    groups = question_groups(matrix.questions)
    held_out = np.random.default_rng(0).permutation(groups.max() + 1)[groups] < (groups.max() + 1) / 5
    return [matrix.subset(questions=part) for part in (~held_out, held_out)]
