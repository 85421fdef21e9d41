"""The floor under every predictor: how often each model is right on each benchmark."""

from __future__ import annotations

from typing import Self

import numpy as np

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_matrix


class BenchmarkMean(CorrectnessPredictor):
    """Predicts the training accuracy of the model on the question's benchmark, whatever the question says.

    Thresholded, it is the majority label of each (model, benchmark): what a predictor that reads the question must
    beat. The estimate is (right + 1) / (observed + 2), so that nothing observed gives 1/2.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    probability_ : DataFrame of shape (n_models, n_benchmarks)
    """

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        accuracy = matrix.accuracy(by=["model", "benchmark"])
        right = (accuracy["accuracy"].fillna(0) * accuracy["n_observed"]).round()
        self.model_names_ = matrix.model_names
        self.probability_ = ((right + 1) / (accuracy["n_observed"] + 2)).unstack("benchmark").loc[self.model_names_]
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        raise NotImplementedError("BenchmarkMean knows a question by its benchmark, not its embedding: predict_matrix")

    def predict_matrix(self, matrix: CorrectnessMatrix) -> np.ndarray:
        self._check_fitted()
        rows = self.probability_.iloc[self._model_positions(matrix.model_names)]
        # A benchmark that was not there at fit time says nothing: 1/2, as for a model without an answer.
        return rows.reindex(columns=matrix.benchmarks).fillna(0.5).to_numpy(np.float32)
