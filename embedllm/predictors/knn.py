"""Correctness on the nearest training questions: the paper's baseline, for all models in one search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional

from embedllm._support.checks import check_device, check_positive
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors._neighbors import Neighbors, Shortlist, shortlist
from embedllm.predictors._threads import single_threaded
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix

_HELD = 2**23  # closenesses, (n_questions, n_train), that a thread holds, at most: 32 MiB in float32


class _Group(NamedTuple):
    """Models that answered the same training questions; with nothing missing, that is all of them."""

    models: np.ndarray  # positions, (n_models_of_group,)
    observed: torch.Tensor  # (n_train,), bool
    n_observed: int
    correct: torch.Tensor  # (n_train, n_models_of_group), float32


class KNNCorrectness(CorrectnessPredictor):
    """Share of correct answers among the k nearest training questions that the model answered.

    Neighbours are exact, by Euclidean distance of the embeddings in float64; among equal distances the first questions
    count. Where answers are missing, the k nearest *observed* questions of each model count, as if the model had been
    fitted on those alone; a model with fewer than k answers uses them all, and a model with none gets 1/2.

    One search serves all models, where the authors' script fits a classifier for each.

    Parameters
    ----------
    n_neighbors : int
        k (authors' default: 131).
    device : "auto", "cpu" or "cuda"
        Where distances are computed; "auto" takes a GPU if there is one. The neighbours are the same.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    train_ : CorrectnessMatrix
        The answers that are counted.

    References
    ----------
    EmbedLLM (arXiv:2410.02223), section 5.1 (correctness forecasting).

    Examples
    --------
    >>> from embedllm import KNNCorrectness, load_dataset
    >>> train, _, test = load_dataset("simulated", scale=0.01).split()
    >>> knn = KNNCorrectness(n_neighbors=15).fit(train)
    >>> knn
    KNNCorrectness(n_neighbors=15)
    >>> knn.predict_proba(test.embeddings).shape
    (30, 112)
    """

    def __init__(self, n_neighbors: int = 131, device: str = "auto") -> None:
        self.n_neighbors, self.device = n_neighbors, device

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        matrix = check_matrix(matrix)
        check_positive("n_neighbors", self.n_neighbors)
        self._neighbors = Neighbors(matrix.embeddings, check_device(self.device))
        members: dict[bytes, list[int]] = {}
        for model, mask in enumerate(matrix.observed):
            if mask.any():  # otherwise there is nothing to count
                members.setdefault(np.packbits(mask).tobytes(), []).append(model)
        self._groups = [_group(matrix, np.array(models)) for models in members.values()]
        self.train_ = matrix
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return self.predict_proba_each(embeddings, [self.n_neighbors])[0]

    def predict_proba_each(self, embeddings: np.ndarray, n_neighbors: Sequence[int]) -> np.ndarray:
        """Predict the probability of a correct answer for several numbers of neighbours, from one search.

        Parameters
        ----------
        embeddings : ndarray of shape (n_questions, width)
        n_neighbors : sequence of int
            Used instead of the k of the constructor.

        Returns
        -------
        ndarray of shape (len(n_neighbors), n_questions, n_models), float32
        """
        check_is_fitted(self, "model_names_")
        ks = [check_positive("n_neighbors", k) for k in n_neighbors]
        n_train, width = self.train_.embeddings.shape
        vectors = check_embeddings(embeddings, width)
        # Long enough for a model with a typical share of its answers observed; others search again.
        typical = float(np.median([group.n_observed for group in self._groups]))
        reach = int(1.25 * max(ks) * n_train / typical) + 16
        # A block for each thread, as many for all of them: threads that share a block wait for each other.
        with single_threaded() as n_threads, ThreadPoolExecutor(n_threads) as pool:
            rounds = math.ceil(len(vectors) / (n_threads * max(1, _HELD // n_train)))
            blocks = vectors.tensor_split(max(1, rounds * n_threads))
            return torch.cat(list(pool.map(lambda block: self._predict_block(block, ks, reach), blocks)), dim=1).numpy()

    def _predict_block(self, vectors: torch.Tensor, ks: list[int], reach: int) -> torch.Tensor:
        """Predict for some questions, (n_ks, n_questions, n_models)."""
        proba = torch.full((len(ks), len(vectors), len(self.model_names_)), 0.5, dtype=torch.float32)
        closeness, margin = self._neighbors.closeness(vectors)
        everyone = torch.arange(len(vectors))
        found = shortlist(closeness, margin, reach)
        undone = self._count(proba, everyone, vectors, ks, found, self._groups)
        for group, rows in zip(self._groups, undone, strict=True):
            longer = reach
            while len(rows):
                longer *= 2
                observed = closeness[rows].masked_fill(~group.observed.to(closeness.device), -torch.inf)
                found = shortlist(observed, margin[rows], longer)
                (rows,) = self._count(proba, rows, vectors[rows], ks, found, [group])
        return proba

    def _count(
        self,
        proba: torch.Tensor,
        rows: torch.Tensor,
        vectors: torch.Tensor,
        ks: list[int],
        found: Shortlist,
        groups: list[_Group],
    ) -> list[torch.Tensor]:
        """Write the probabilities of some groups of models where a shortlist is long enough, to `rows` of `proba`.

        Returns
        -------
        list of tensor
            For each group the rows where it is not.
        """
        reach = found.values.shape[1]
        in_doubt = torch.zeros_like(found.values, dtype=torch.bool)
        enough = []
        for group in groups:
            rank = group.observed[found.columns].cumsum(dim=1)  # among the observed, (n_questions, reach)
            for k in sorted({min(k, group.n_observed) for k in ks}):
                place = (rank < k).sum(dim=1, keepdim=True)  # of the k-th observed, (n_questions, 1)
                kth = found.values.gather(1, place.clamp(max=reach - 1))
                in_doubt |= (found.values - kth).abs() <= found.margin
            enough.append(((place < reach) & (kth > found.beyond))[:, 0])  # for the largest k
        columns = self._neighbors.settle(vectors, found, in_doubt)
        for group, served in zip(groups, enough, strict=True):
            nearest = columns[served]
            observed = group.observed[nearest]
            rank = observed.cumsum(dim=1)
            for each, k in zip(proba, ks, strict=True):
                k = min(k, group.n_observed)
                chosen = nearest[observed & (rank <= k)].view(-1, k)  # (n_served, k)
                n_correct = functional.embedding_bag(chosen, group.correct, mode="sum")
                each[rows[served][:, None], group.models] = n_correct / k
        return [rows[~served] for served in enough]


def _group(matrix: CorrectnessMatrix, models: np.ndarray) -> _Group:
    correct = torch.from_numpy(matrix.labels[models].T == CORRECT).float().contiguous()
    observed = torch.from_numpy(matrix.observed[models[0]])
    return _Group(models, observed, int(observed.sum()), correct)
