"""The baselines of every predictor: the accuracy of each model, and that on each benchmark."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix


class ModelMean(CorrectnessPredictor):
    """Per-model majority baseline: the training accuracy of the model.

    Thresholded, it is the majority label of each model. The estimate is (correct + 1) / (observed + 2), which is 1/2
    where nothing is observed.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    probability_ : ndarray of shape (n_models,)

    Examples
    --------
    >>> from embedllm import ModelMean, load_dataset
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> 0.5 < ModelMean().fit(train).score(test) < 1
    True
    """

    probability_: np.ndarray

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        self.model_names_ = matrix.model_names
        self.probability_ = ((matrix.labels == CORRECT).sum(axis=1) + 1) / (matrix.observed.sum(axis=1) + 2)
        self._width = matrix.embeddings.shape[1]
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        n_questions = len(check_embeddings(embeddings, self._width))
        return np.tile(self.probability_.astype(np.float32), (n_questions, 1))


class BenchmarkMean(CorrectnessPredictor):
    """Per-benchmark majority baseline: the training accuracy of the model on the question's benchmark.

    Thresholded, it is the majority label of each (model, benchmark): what a predictor that reads the question must
    beat. The estimate is (correct + 1) / (observed + 2), which is 1/2 where nothing is observed.

    `predict_matrix` is told the benchmark of a question. `predict_proba` is not: it averages over the benchmarks, with
    the probabilities that a logistic regression on the embedding gives them.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    probability_ : DataFrame of shape (n_models, n_benchmarks)
    classifier_ : LogisticRegression
        Of the benchmark on the embedding; fitted when it is first needed, since most uses are told the benchmark.

    Examples
    --------
    >>> from embedllm import BenchmarkMean, load_dataset
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> baseline = BenchmarkMean().fit(train)
    >>> baseline.predict_matrix(test).shape
    (112, 30)
    >>> 0.5 < baseline.score(test) < 1
    True
    """

    probability_: pd.DataFrame
    width_: int

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        accuracy = matrix.accuracy(by=["model", "benchmark"])
        correct = (accuracy["accuracy"].fillna(0) * accuracy["n_observed"]).round()
        self.model_names_ = matrix.model_names
        self.probability_ = ((correct + 1) / (accuracy["n_observed"] + 2)).unstack("benchmark").loc[self.model_names_]
        self.width_ = matrix.embeddings.shape[1]
        self.__dict__.pop("classifier_", None)
        self._train = matrix
        return self

    @cached_property
    def classifier_(self) -> LogisticRegression:
        classifier = LogisticRegression(C=10, tol=1e-3, max_iter=1000)
        return classifier.fit(self._train.embeddings, self._train.benchmarks.astype(str))

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        vectors = check_embeddings(embeddings, self.width_).numpy()
        names = self.probability_.columns
        if len(names) == 1 or not len(vectors):
            return np.tile(self.probability_.T.to_numpy(np.float32), (len(vectors), 1))
        of_benchmark = self.classifier_.predict_proba(vectors)  # (n_questions, n_benchmarks)
        return (of_benchmark @ self.probability_[self.classifier_.classes_].T.to_numpy()).astype(np.float32)

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        positions = self._model_positions(matrix.model_names)
        rows = self.probability_.iloc[positions]
        # Nothing was observed on a benchmark that was not in the fit: 1/2, as for a model without an answer.
        return rows.reindex(columns=matrix.benchmarks).fillna(0.5).to_numpy(np.float32)
