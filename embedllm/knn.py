"""Correctness of the nearest training questions: the paper's baseline, for all models at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from typing_extensions import Self

from embedllm.checks import check_positive
from embedllm.correctness import CorrectnessMatrix
from embedllm.predictor import CorrectnessPredictor, check_embeddings, check_matrix

_BLOCK = 256  # questions scored at a time, which bounds the distances held at once to (256, n_train)


class KNNCorrectness(CorrectnessPredictor):
    """Share of right answers among the k nearest training questions that the model answered.

    Neighbours are exact, by Euclidean distance of the embeddings in float64; among equal distances any may count. Where
    answers are missing, the k nearest *observed* questions of each model count, as if the model had been fitted on
    those alone; a model with fewer than k answers uses them all, and a model with none gets 1/2.

    One search serves all models, where the authors' script fits a classifier for each.

    Parameters
    ----------
    n_neighbors : int
        k (authors' default: 131).

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    """

    def __init__(self, n_neighbors: int = 131) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        check_positive("n_neighbors", self.n_neighbors)
        self.model_names_ = matrix.model_names
        self._questions = torch.tensor(matrix.embeddings).double()  # (n_train, width)
        self._half_squares = (self._questions**2).sum(dim=1) / 2  # (n_train,)
        self._labels = np.ascontiguousarray(matrix.labels.T)  # (n_train, n_models)
        # Models that answered the same questions share their neighbours; with nothing missing, that is all of them.
        self._masks, self._mask_of_model = np.unique(matrix.observed, axis=0, return_inverse=True)
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return self.predict_proba_each(embeddings, [self.n_neighbors])[0]

    def predict_proba_each(self, embeddings: np.ndarray, n_neighbors: Sequence[int]) -> np.ndarray:
        """Probability of a right answer for several numbers of neighbours, from one search.

        Parameters
        ----------
        embeddings : ndarray of shape (n_questions, width)
        n_neighbors : sequence of int
            Instead of the k of the constructor.

        Returns
        -------
        ndarray of shape (len(n_neighbors), n_questions, n_models), float32
        """
        self._check_fitted()
        wanted = np.array([check_positive("n_neighbors", k) for k in n_neighbors])
        vectors = check_embeddings(embeddings, self._questions.shape[1]).double()
        return np.concatenate([self._block_proba(block, wanted) for block in vectors.split(_BLOCK)], axis=1)

    def _block_proba(self, vectors: torch.Tensor, wanted: np.ndarray) -> np.ndarray:
        # ||q - t||^2 = ||q||^2 - 2 (q . t - ||t||^2 / 2): the nearest have the largest of the last bracket.
        closeness = torch.addmm(-self._half_squares, vectors, self._questions.T)  # (n_questions, n_train)
        # Long enough for a model with a typical share of its answers observed; others search on their own.
        typical = max(1, np.median(self._masks.sum(axis=1)))
        reach = min(len(self._labels), int(1.5 * wanted.max() * len(self._labels) / typical))
        shortlist = closeness.topk(reach, dim=1).indices.numpy()  # (n_questions, reach), nearest first
        proba = np.full((len(wanted), len(vectors), len(self.model_names_)), 0.5, dtype=np.float32)
        for number, mask in enumerate(self._masks):
            if n_observed := int(mask.sum()):
                models = np.flatnonzero(self._mask_of_model == number)
                ks, position = np.unique(np.minimum(wanted, n_observed), return_inverse=True)
                labels = self._labels[:, models][_nearest_observed(closeness, shortlist, mask, int(ks[-1]))]
                # Right answers between one k and the next, (n_questions, n_ks, n_models), then up to each of them.
                right = np.add.reduceat(labels, [0, *ks[:-1]], axis=1, dtype=np.float32).cumsum(axis=1)
                proba[:, :, models] = (right / ks[:, None].astype(np.float32)).swapaxes(0, 1)[position]
        return proba


def _nearest_observed(closeness: torch.Tensor, shortlist: np.ndarray, mask: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k nearest questions inside a mask, (n_questions, k), nearest first.

    The shortlist (n_questions, reach) answers this cheaply where it holds k of them in every row.
    """
    observed = mask[shortlist]
    if (observed.sum(axis=1) >= k).all():
        first = observed & (observed.cumsum(axis=1) <= k)
        return shortlist[first].reshape(-1, k)
    inside = torch.from_numpy(mask)
    return closeness.masked_fill(~inside, -torch.inf).topk(k, dim=1).indices.numpy()
