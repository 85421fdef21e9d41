"""Correctness of the nearest training questions: the paper's baseline, for all models at once.

A neighbour is near by ``q . t - ||t||^2 / 2``, its *closeness*: ``||q - t||^2 = ||q||^2 - 2 closeness``. It is computed
in float32 for all training questions, and again in float64 for the few whose place before or behind the k-th float32
cannot decide, so that the neighbours are those of float64 at the cost of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional
from typing_extensions import Self

from embedllm.checks import check_positive
from embedllm.correctness import NOT_OBSERVED, RIGHT, CorrectnessMatrix
from embedllm.predictor import CorrectnessPredictor, check_embeddings, check_matrix
from embedllm.threads import single_threaded

_BLOCK = 512  # questions scored at a time by a thread, at most
_HELD = 2**24  # closenesses, (block, n_train), that a thread holds, at most: 64 MiB
_GROUP = 8  # training questions whose maximum is looked at first
_EXACT = 4096  # closenesses computed at a time in float64
_UNIT, _TINY, _HUGE = 2.0**-24, 2.0**-149, 1e37  # of float32: relative rounding, least number, about the largest


class _Group(NamedTuple):
    """Models that answered the same training questions; with nothing missing, that is all of them."""

    models: np.ndarray  # positions, (n_models_of_group,)
    observed: torch.Tensor  # (n_train,), bool
    n_observed: int
    right: torch.Tensor  # (n_train, n_models_of_group), float32


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
        self._questions = matrix.embeddings  # (n_train, width)
        self._half_squares = _half_squares(self._questions)  # (n_train,), float64
        members: dict[bytes, list[int]] = {}
        for model, mask in enumerate(matrix.observed):
            members.setdefault(np.packbits(mask).tobytes(), []).append(model)
        self._groups = [_group(matrix, np.array(models)) for models in members.values()]
        self._groups = [group for group in self._groups if group.n_observed]
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
        vectors = check_embeddings(embeddings, self._questions.shape[1])
        proba = np.full((len(wanted), len(vectors), len(self.model_names_)), 0.5, dtype=np.float32)
        # Long enough for a model with a typical share of its answers observed; others search again.
        typical = np.median([group.n_observed for group in self._groups])
        reach = int(1.25 * wanted.max() * len(self._questions) / typical) + 16
        size = min(_BLOCK, max(1, _HELD // len(self._questions)))
        starts = range(0, len(vectors), size)

        def work(mine: Sequence[int]) -> None:
            products = np.empty((min(size, len(vectors)), len(self._questions)), dtype=np.float32)
            for start in mine:
                block = vectors[start : start + size]
                closeness, margin = self._closeness(block, products[: len(block)])
                self._fill(proba[:, start : start + size], block, closeness, margin, self._groups, wanted, reach)

        # A block for each thread, rather than all threads at one block after the other: none waits between the steps.
        n_threads = min(torch.get_num_threads(), len(starts))
        if n_threads < 2:
            work(starts)
        else:
            with single_threaded(), ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(work, [starts[first::n_threads] for first in range(n_threads)]))
        return proba

    def _closeness(self, vectors: torch.Tensor, products: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Closeness to the training questions, written to `products` (n_questions, n_train), float32, and how far two
        of a row may be apart and yet stand in the wrong order, (n_questions, 1)."""
        # NumPy's matrix product, which on processors of AMD is faster than PyTorch's.
        with np.errstate(over="ignore", invalid="ignore"):  # see below
            np.matmul(vectors.numpy(), self._questions.T, out=products)
        closeness = torch.from_numpy(products).sub_(self._half_squares.float())
        longest = self._half_squares.max()
        # The usual bound of a dot product's error, whatever the order of its additions, with underflow.
        size = 2 * (_half_squares(vectors.numpy())[:, None] * longest).sqrt() + longest
        margin = 2 * (vectors.shape[1] + 4) * (_UNIT * size + _TINY)
        # What float32 cannot hold is left to float64 altogether.
        overflows = size > _HUGE
        if bool(overflows.any()):
            closeness.masked_fill_(overflows, 0)
            margin.masked_fill_(overflows, torch.inf)
        return closeness, margin

    def _fill(
        self,
        proba: np.ndarray,
        vectors: torch.Tensor,
        closeness: torch.Tensor,
        margin: torch.Tensor,
        groups: list[_Group],
        wanted: np.ndarray,
        reach: int,
    ) -> None:
        """Write the probabilities of some groups of models, from a shortlist of `reach` training questions."""
        reach = min(reach, len(self._questions))
        values, shortlist = _largest(closeness, reach)  # (n_questions, reach), nearest first
        complete = reach == len(self._questions)
        beyond = torch.full_like(margin, -torch.inf) if complete else values[:, -1:] + margin
        in_doubt = torch.zeros_like(values, dtype=torch.bool)
        served = []
        for group in groups:
            ks = np.unique(np.minimum(wanted, group.n_observed))
            rank = group.observed[shortlist].cumsum(dim=1)
            # Where in its row the k-th observed stands, (n_questions, 1) for each k.
            places = [(rank < k).sum(dim=1, keepdim=True) for k in ks.tolist()]
            if bool((places[-1] == reach).any()) or bool((values.gather(1, places[-1]) <= beyond).any()):
                masked = closeness.masked_fill(~group.observed, -torch.inf)
                self._fill(proba, vectors, masked, margin, [group], wanted, 2 * reach)
                continue
            served.append((group, ks))
            for place in places:
                near = (values - values.gather(1, place)).abs() <= margin
                in_doubt |= near & (near.sum(dim=1, keepdim=True) > 1)
        shortlist = self._settle(vectors, values, shortlist, in_doubt)
        for group, ks in served:
            observed = group.observed[shortlist]
            nearest = shortlist[observed & (observed.cumsum(dim=1) <= ks[-1])]  # ks[-1] a question
            starts = np.arange(len(vectors))[:, None] * ks[-1] + [0, *ks[:-1]]
            between = functional.embedding_bag(nearest, group.right, torch.from_numpy(starts.ravel()), mode="sum")
            # Right answers between one k and the next, (n_questions, n_ks, n_models), then up to each of them.
            right = between.reshape(len(vectors), len(ks), -1).cumsum(dim=1).numpy()
            position = np.searchsorted(ks, np.minimum(wanted, group.n_observed))
            proba[:, :, group.models] = (right / ks[:, None].astype(np.float32)).swapaxes(0, 1)[position]

    def _settle(
        self, vectors: torch.Tensor, values: torch.Tensor, shortlist: torch.Tensor, in_doubt: torch.Tensor
    ) -> torch.Tensor:
        """Sort the shortlist by closeness, in float64 where it is in doubt.

        The k-th largest closeness moves by no more than the error of a single one. What lies farther than two errors
        from the k-th of float32 is therefore on its right side, and stays there whatever the others turn out to be.
        """
        values = values.double()
        rows, columns = in_doubt.nonzero(as_tuple=True)
        for row, column in zip(rows.split(_EXACT), columns.split(_EXACT), strict=True):
            chosen = shortlist[row, column]
            products = vectors[row].double() * torch.from_numpy(self._questions[chosen.numpy()]).double()
            values[row, column] = products.sum(dim=1) - self._half_squares[chosen]
        return shortlist.gather(1, values.sort(dim=1, descending=True, stable=True).indices)


def _largest(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest values of each row and where they are, sorted; like `topk`, in less time.

    The largest lie in those groups of columns whose maxima are the largest: no other group can hold one.
    """
    n_groups = values.shape[1] // _GROUP
    if count * _GROUP > n_groups:  # too few groups to leave any out
        return values.topk(count, dim=1)
    grouped = n_groups * _GROUP
    maxima = values[:, :grouped].unflatten(1, (_GROUP, n_groups)).amax(dim=1)
    groups = maxima.topk(count, dim=1, sorted=False).indices  # (n_rows, count)
    columns = (groups.unsqueeze(1) + n_groups * torch.arange(_GROUP)[:, None]).flatten(1)
    rest = torch.arange(grouped, values.shape[1]).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    best, where = values.gather(1, columns).topk(count, dim=1)
    return best, columns.gather(1, where)


def _group(matrix: CorrectnessMatrix, models: np.ndarray) -> _Group:
    labels = torch.from_numpy(matrix.labels[models].T)
    observed = labels[:, 0] != NOT_OBSERVED
    return _Group(models, observed, int(observed.sum()), (labels == RIGHT).float().contiguous())


def _half_squares(vectors: np.ndarray) -> torch.Tensor:
    """Half the squared length of each row, in float64; some rows at a time, as they are copied for it."""
    halves = np.empty(len(vectors))
    for start in range(0, len(vectors), _EXACT):
        part = vectors[start : start + _EXACT].astype(np.float64)
        halves[start : start + _EXACT] = np.einsum("ij,ij->i", part, part) / 2
    return torch.from_numpy(halves)
