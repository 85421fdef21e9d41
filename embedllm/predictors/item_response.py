"""Item response theory with question features: one ability a model, and a difficulty that the text shows."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch.nn.functional import softplus

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix

_STEEPEST = 5.0
"""Bound of v . q: without one, a step of the line search overflows where few answers are separable."""


class ItemResponse(CorrectnessPredictor):
    """The models 1PL and 2PL, with parameters of a question that follow from its embedding q.

    Logits are exp(v . q) (ability_m - w . q - c), with v = 0 for 1PL; v . q is kept between -5 and 5. They order the
    models alike on every question, so that a router which follows them always chooses one model.

    Parameters
    ----------
    discrimination : bool
        True: 2PL, v is fitted.
    penalty : float
        Of the squares of w and v, beside the mean log loss; at least 0.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    ability_ : ndarray of shape (n_models,)
    difficulty_, discrimination_ : ndarray of shape (width,)
        w and v.

    References
    ----------
    *Statistical Theories of Mental Test Scores* (1968), chapters 17 to 20: 1PL and 2PL, without features.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.predictors.item_response import ItemResponse
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> ItemResponse().fit(train).predict_matrix(test).shape
    (112, 30)
    """

    def __init__(self, discrimination: bool = False, penalty: float = 1e-4) -> None:
        self.discrimination, self.penalty = discrimination, penalty

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        if not self.penalty >= 0:
            raise ValueError(f"penalty must be at least 0, got {self.penalty!r}")
        x, y = torch.from_numpy(matrix.embeddings.copy()), torch.from_numpy(matrix.labels.T.astype(np.float32))
        self._mean = x.mean(dim=0)
        x, observed = x - self._mean, y >= 0
        sizes = matrix.n_models, x.shape[1], x.shape[1]
        ability, w, v = (torch.zeros(size, dtype=torch.float32, requires_grad=True) for size in sizes)

        def loss() -> torch.Tensor:
            z = (x @ v).clamp(-_STEEPEST, _STEEPEST).exp()[:, None] * (
                ability - (x @ w)[:, None]
            )  # (n_questions, n_models)
            size = w.square().sum() + v.square().sum() + 1e-4 * ability.square().mean()
            return ((softplus(z) - y * z) * observed).sum() / observed.sum() + self.penalty * size

        # 2PL starts at the solution of 1PL, which is convex.
        for parameters in [[ability, w], [ability, w, v]][: 1 + self.discrimination]:
            optimizer = torch.optim.LBFGS(parameters, max_iter=200, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

            def step(optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
                optimizer.zero_grad()
                value = loss()
                value.backward()  # type: ignore[no-untyped-call]
                return value

            optimizer.step(step)  # type: ignore[arg-type]
        self.ability_, self.difficulty_, self.discrimination_ = (each.detach().numpy() for each in (ability, w, v))
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        x = (check_embeddings(embeddings, len(self.difficulty_)) - self._mean).numpy()
        steepness = np.exp((x @ self.discrimination_).clip(-_STEEPEST, _STEEPEST))
        z = steepness[:, None] * (self.ability_ - (x @ self.difficulty_)[:, None])
        return torch.from_numpy(z).sigmoid().numpy()
