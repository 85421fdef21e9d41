"""Correctness of the nearest training questions: the paper's baseline, for all models at once.

A neighbour is near by ``q . t - ||t||^2 / 2``, its *closeness*: ``||q - t||^2 = ||q||^2 - 2 closeness``. All training
questions are compared in bfloat16, where the processor multiplies that, or in float32; a shortlist of the closest in
float32; and in float64 the few whose place before or behind the k-th is still in doubt. At each step a bound on the
error says what may be left out, so that the neighbours are those of float64 at the cost of the coarsest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch.nn import functional

from embedllm._checks import check_positive
from embedllm.matrix import CORRECT, NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors._threads import single_threaded
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix

_BLOCK = 512  # questions scored at a time by a thread, at most
_HELD = 2**24  # closenesses, (block, n_train), that a thread holds, at most: 64 MiB
_GROUP = 8  # training questions whose maximum is looked at first
_EXACT = 4096  # closenesses computed at a time in float64
_UNIT, _TINY, _HUGE = 2.0**-24, 2.0**-149, 1e37  # of float32: relative rounding, least number, about the largest
_COARSE_UNIT, _COARSE_TINY = 2.0**-8, 2.0**-126  # of bfloat16; anything smaller may count as zero
_COARSE_SQUARE_TINY = 2.0**-63  # the square of anything smaller may count as zero in float32
_COARSE_LENGTH = 2.0**40  # of embeddings, at most, lest bfloat16 overflow
_COARSE_HELD = 2**28  # numbers of a copy of the training embeddings in bfloat16, at most: 512 MiB
_COARSE_REACH = 1.5  # how much longer than in float32 a shortlist is in bfloat16
_COARSE_GAIN = 32  # bfloat16 is faster if there are so many training questions for each of the shortlist


class _Group(NamedTuple):
    """Models that answered the same training questions; with nothing missing, that is all of them."""

    models: np.ndarray  # positions, (n_models_of_group,)
    observed: torch.Tensor  # (n_train,), bool
    n_observed: int
    right: torch.Tensor  # (n_train, n_models_of_group), float32


class _Shortlist(NamedTuple):
    """The training questions that are closest to each question, nearest first."""

    values: torch.Tensor  # closeness, (n_questions, reach), float32
    columns: torch.Tensor  # positions of the training questions, alike
    margin: torch.Tensor  # how far apart two values may be and yet stand in the wrong order, (n_questions, 1)
    beyond: (
        torch.Tensor
    )  # whatever has a larger value than this is closer than all that is not listed, (n_questions, 1)


class KNNCorrectness(CorrectnessPredictor):
    """Share of right answers among the k nearest training questions that the model answered.

    Neighbours are exact, by Euclidean distance of the embeddings in float64; among equal distances the first questions
    count. Where answers are missing, the k nearest *observed* questions of each model count, as if the model had been
    fitted on those alone; a model with fewer than k answers uses them all, and a model with none gets 1/2.

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
        self._coarse = _Coarse.of(self._questions, self._half_squares)
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
        longer = min(int(_COARSE_REACH * reach), len(self._questions))
        coarse = self._coarse if _COARSE_GAIN * longer <= len(self._questions) else None
        size = min(_BLOCK, max(1, _HELD // len(self._questions)))
        n_threads = max(1, min(torch.get_num_threads(), -(-len(vectors) // size)))
        # Blocks of one size, as many for each thread.
        n_blocks = n_threads * -(-len(vectors) // (n_threads * size))
        blocks = np.array_split(np.arange(len(vectors)), n_blocks) if len(vectors) else []

        def work(mine: Sequence[np.ndarray]) -> None:
            products = np.empty((size, len(self._questions)), dtype=np.float32)
            for rows in mine:
                if coarse:
                    found = coarse.search(vectors[rows], longer)
                    rows = rows[self._fill(proba, rows, vectors[rows], found, self._groups, wanted).any(axis=0)]
                if len(rows):
                    self._search(proba, rows, vectors[rows], products[: len(rows)], wanted, reach)

        # A block for each thread, rather than all threads at one block after the other: none waits between the steps.
        if n_threads < 2:
            work(blocks)
        else:
            with single_threaded(), ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(work, [blocks[first::n_threads] for first in range(n_threads)]))
        return proba

    def _search(
        self,
        proba: np.ndarray,
        rows: np.ndarray,
        vectors: torch.Tensor,
        products: np.ndarray,
        wanted: np.ndarray,
        reach: int,
    ) -> None:
        """Write the probabilities of some questions, `rows` of `proba`, in float32 and finer."""
        closeness, margin = self._closeness(vectors, products)
        unsure = self._fill(proba, rows, vectors, _shortlist(closeness, margin, reach), self._groups, wanted)
        for group, undone in zip(self._groups, unsure, strict=True):
            left = np.flatnonzero(undone)
            longer = reach
            while len(left):
                longer *= 2
                observed = closeness[left].masked_fill(~group.observed, -torch.inf)
                found = _shortlist(observed, margin[left], longer)
                left = left[self._fill(proba, rows[left], vectors[left], found, [group], wanted)[0]]

    def _closeness(self, vectors: torch.Tensor, products: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Closeness to all training questions, written to `products` (n_questions, n_train), float32, and its margin,
        see `_Shortlist`."""
        # NumPy's matrix product, which on processors of AMD is faster than PyTorch's.
        with np.errstate(over="ignore", invalid="ignore"):  # see below
            np.matmul(vectors.numpy(), self._questions.T, out=products)
        closeness = torch.from_numpy(products).sub_(self._half_squares.float())
        size = _sizes(vectors, self._half_squares.max())
        margin = _margins(vectors, size)
        # What float32 cannot hold is left to float64 altogether.
        overflows = size > _HUGE
        if bool(overflows.any()):
            closeness.masked_fill_(overflows, 0)
            margin.masked_fill_(overflows, torch.inf)
        return closeness, margin

    def _fill(
        self,
        proba: np.ndarray,
        rows: np.ndarray,
        vectors: torch.Tensor,
        found: _Shortlist,
        groups: list[_Group],
        wanted: np.ndarray,
    ) -> np.ndarray:
        """Write the probabilities of some groups of models from a shortlist, where it is long enough.

        Returns where it is not, (n_groups, n_questions), bool.
        """
        values, columns, margin, beyond = found
        last = values.shape[1] - 1
        in_doubt = torch.zeros_like(values, dtype=torch.bool)
        too_short = np.zeros((len(groups), len(rows)), dtype=bool)
        each_ks = [np.unique(np.minimum(wanted, group.n_observed)) for group in groups]
        for group, ks, short in zip(groups, each_ks, too_short, strict=True):
            rank = group.observed[columns].cumsum(dim=1)
            # Where in its row the k-th observed stands, (n_questions, 1) for each k.
            places = [(rank < k).sum(dim=1, keepdim=True) for k in ks.tolist()]
            enough = (places[-1] <= last) & (values.gather(1, places[-1].clamp(max=last)) > beyond)
            short[:] = ~enough[:, 0]
            for place in places:
                near = (values - values.gather(1, place.clamp(max=last))).abs() <= margin
                in_doubt |= near & enough & (near.sum(dim=1, keepdim=True) > 1)
        columns = self._settle(vectors, values, columns, in_doubt)
        for group, ks, short in zip(groups, each_ks, too_short, strict=True):
            served = np.flatnonzero(~short)
            closest = columns[served]
            observed = group.observed[closest]
            nearest = closest[observed & (observed.cumsum(dim=1) <= ks[-1])]  # ks[-1] a question
            starts = np.arange(len(served))[:, None] * ks[-1] + [0, *ks[:-1]]
            between = functional.embedding_bag(nearest, group.right, torch.from_numpy(starts.ravel()), mode="sum")
            # Right answers between one k and the next, (n_questions, n_ks, n_models), then up to each of them.
            right = between.reshape(len(served), len(ks), len(group.models)).cumsum(dim=1).numpy()
            position = np.searchsorted(ks, np.minimum(wanted, group.n_observed))
            shares = (right / ks[:, None].astype(np.float32)).swapaxes(0, 1)[position]
            proba[:, rows[served][:, None], group.models] = shares
        return too_short

    def _settle(
        self, vectors: torch.Tensor, values: torch.Tensor, columns: torch.Tensor, in_doubt: torch.Tensor
    ) -> torch.Tensor:
        """Sort a shortlist by closeness, in float64 where it is in doubt, then by position.

        The k-th largest closeness moves by no more than the error of a single one. What lies farther than two errors
        from the k-th of float32 is therefore on its right side, and stays there whatever the others turn out to be.
        """
        values = values.double()
        for row, place in zip(*(part.split(_EXACT) for part in in_doubt.nonzero(as_tuple=True)), strict=True):
            chosen = columns[row, place]
            products = vectors[row].double() * torch.from_numpy(self._questions[chosen.numpy()]).double()
            values[row, place] = products.sum(dim=1) - self._half_squares[chosen]
        columns, order = columns.sort(dim=1)
        return columns.gather(1, values.gather(1, order).sort(dim=1, descending=True, stable=True).indices)


class _Coarse:
    """A first search in bfloat16, which is faster than in float32 where the processor multiplies it.

    Half the squared length, in three numbers of bfloat16 that together are as precise as one of float32, is a part of
    the product, so that closeness is rounded once.

    Parameters
    ----------
    questions : ndarray of shape (n_train, width), float32
    half_squares : Tensor of shape (n_train,), float64
    """

    def __init__(self, questions: np.ndarray, half_squares: torch.Tensor) -> None:
        n_train, width = questions.shape
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to it
            self._questions = torch.from_numpy(questions)
            # PyTorch says so once, here instead of in a thread.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            torch.empty(0, 0, layout=torch.sparse_csr)
        self._half_squares = half_squares.float()
        self._longest = half_squares.max()
        self._copy = torch.empty(n_train, width + 3, dtype=torch.bfloat16)
        self._error = 0.0  # the largest length of what a training question loses
        for start in range(0, n_train, _EXACT):
            part = self._questions[start : start + _EXACT]
            copy = self._copy[start : start + _EXACT, :width]
            copy.copy_(part)
            self._error = max(self._error, float(_lost(part, copy).max()))
        rest = -half_squares
        for column in range(width, width + 3):
            self._copy[:, column] = rest
            rest = rest - self._copy[:, column].double()

    @classmethod
    def of(cls, questions: np.ndarray, half_squares: torch.Tensor) -> Self | None:
        """Return such a search, or None where bfloat16 is slow, overflows or would take memory that is not to be had.

        Embeddings that are mapped to memory may be larger than it.
        """
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch does not tell
        # The products of chosen pairs come from MKL.
        fast = (known.get("avx512_bf16") or known.get("amx_bf16")) and torch.backends.mkl.is_available()
        fits = questions.size <= _COARSE_HELD and not isinstance(questions.base, np.memmap)
        return cls(questions, half_squares) if fast and fits and _length(half_squares.max()) <= _COARSE_LENGTH else None

    def search(self, vectors: torch.Tensor, reach: int) -> _Shortlist:
        """Find the `reach` training questions that bfloat16 takes for the closest, with their closeness in float32."""
        n_questions, width = vectors.shape
        copy = torch.ones(n_questions, width + 3, dtype=torch.bfloat16)
        copy[:, :width] = vectors
        best, columns = _largest(copy @ self._copy.T, reach)
        columns = columns.sort(dim=1).values
        # Products of the chosen pairs alone; the values of the pattern do not count.
        pattern = torch.sparse_csr_tensor(
            torch.arange(n_questions + 1) * reach,
            columns.flatten(),
            torch.zeros(columns.numel()),
            (n_questions, len(self._questions)),
            check_invariants=False,
        )
        products = torch.sparse.sampled_addmm(pattern, vectors, self._questions.T, beta=0).values()
        values, order = (products.view_as(columns) - self._half_squares[columns]).sort(dim=1, descending=True)

        size = _sizes(vectors, self._longest)
        margin = _margins(vectors, size)
        length, longest = _length(_half_squares(vectors.numpy()))[:, None], _length(self._longest)
        lost = _lost(vectors, copy[:, :width])[:, None]
        # What the copies lose, then what the product loses: |q.t - q'.t'| <= |q - q'| |t'| + |q| |t - t'|.
        error = 1.001 * (lost * (longest + self._error) + length * self._error) + margin
        error += 2 * width * _COARSE_TINY * (1 + length + longest)
        end = best[:, -1:].double()
        beyond = end + _COARSE_UNIT * end.abs() + error + margin
        return _Shortlist(
            values, columns.gather(1, order), margin, beyond.masked_fill(length > _COARSE_LENGTH, torch.inf)
        )


def _lost(vectors: torch.Tensor, copies: torch.Tensor) -> torch.Tensor:
    """At least the length of what each row of copies in bfloat16 lost, (n_rows,), float64."""
    return (vectors - copies).norm(dim=1).double() + vectors.shape[1] ** 0.5 * _COARSE_SQUARE_TINY


def _shortlist(closeness: torch.Tensor, margin: torch.Tensor, reach: int) -> _Shortlist:
    """The largest closenesses of each row; all of them if `reach` goes so far."""
    values, columns = _largest(closeness, min(reach, closeness.shape[1]))
    complete = reach >= closeness.shape[1]
    beyond = torch.full_like(margin, -torch.inf) if complete else values[:, -1:] + margin
    return _Shortlist(values, columns, margin, beyond)


def _sizes(vectors: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
    """The largest that a closeness can be, (n_questions, 1), with half the largest square of a training question."""
    return 2 * (_half_squares(vectors.numpy())[:, None] * longest).sqrt() + longest


def _margins(vectors: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """How far apart two closenesses of float32 may be and yet stand in the wrong order.

    The usual bound of a dot product's error, whatever the order of its additions, with underflow; twice, for the two.
    """
    return 2 * (vectors.shape[1] + 4) * (_UNIT * size + _TINY)


def _length(half_squares: torch.Tensor) -> torch.Tensor:
    return (2 * half_squares).sqrt()


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
    return _Group(models, observed, int(observed.sum()), (labels == CORRECT).float().contiguous())


def _half_squares(vectors: np.ndarray) -> torch.Tensor:
    """Half the squared length of each row, in float64; some rows at a time, as they are copied for it."""
    halves = np.empty(len(vectors))
    for start in range(0, len(vectors), _EXACT):
        part = vectors[start : start + _EXACT].astype(np.float64)
        halves[start : start + _EXACT] = np.einsum("ij,ij->i", part, part) / 2
    return torch.from_numpy(halves)
