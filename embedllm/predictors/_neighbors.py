"""Exact nearest neighbours: a product in float32, then float64 for the few whose rounding could change the outcome.

The *closeness* of a question q to a training question t is ``q . t - |t|^2 / 2``. It orders the training questions as
their distance does, because ``|q - t|^2 = |q|^2 - 2 closeness``. A bound on its rounding error tells which of them
could stand on the other side of the k-th.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

_ROWS = 4096  # rows converted to float64 at a time
_LARGE = 1e37  # closeness that float32 cannot safely hold


class Shortlist(NamedTuple):
    """The training questions that are closest to each question, the closest first.

    Attributes
    ----------
    values : tensor of shape (n_questions, reach)
        Closeness, rounded.
    columns : tensor of shape (n_questions, reach), int64
        Positions of the training questions.
    margin : tensor of shape (n_questions, 1)
        Two values that differ by more are in the correct order.
    beyond : tensor of shape (n_questions, 1)
        A training question with a larger value is closer than all that are not listed.
    """

    values: torch.Tensor
    columns: torch.Tensor
    margin: torch.Tensor
    beyond: torch.Tensor


class Neighbors:
    """Search for the nearest of some training questions.

    Parameters
    ----------
    questions : ndarray of shape (n_train, width), float32
        Kept, not copied, for a search on the CPU; on a GPU a copy in float64.
    device : "cpu" or "cuda"
        Where closeness is computed. What float64 decides is computed on the CPU, alike for both.
    """

    def __init__(self, questions: np.ndarray, device: str) -> None:
        self._questions = questions
        self._half_squares = half_squares(questions)
        self._longest = self._half_squares.max()
        self._on_gpu = None
        if device == "cuda":
            self._on_gpu = torch.tensor(questions, dtype=torch.float64, device=device), self._half_squares.to(device)

    def closeness(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the closeness of questions to all training questions.

        Parameters
        ----------
        vectors : tensor of shape (n_questions, width), float32

        Returns
        -------
        closeness : tensor of shape (n_questions, n_train), on the device
        margin : tensor of shape (n_questions, 1)
            See `Shortlist`.
        """
        # The largest value that a sum in a closeness can reach.
        size = 2 * (half_squares(vectors.numpy())[:, None] * self._longest).sqrt() + self._longest
        # A GPU multiplies in float64, which is fast enough there and which no setting replaces by TF32.
        double = self._on_gpu is not None or bool((size > _LARGE).any())
        precision = torch.finfo(torch.float64 if double else torch.float32)
        # The error bound of a dot product, for any order of its additions, with underflow; twice, for two values.
        margin = (vectors.shape[1] + 4) * (precision.eps * size + precision.tiny)
        if self._on_gpu is not None:
            questions, half_squares_ = self._on_gpu
            return torch.addmm(-half_squares_, vectors.to(questions), questions.T), margin
        # NumPy's matrix product: on processors of AMD it takes two thirds of the time of PyTorch's.
        products = vectors.numpy().astype(precision.dtype) @ self._questions.astype(precision.dtype, copy=False).T
        closeness = torch.from_numpy(products)
        return closeness.sub_(self._half_squares.to(closeness)), margin

    def settle(self, vectors: torch.Tensor, found: Shortlist, in_doubt: torch.Tensor) -> torch.Tensor:
        """Sort the columns of a shortlist by closeness, exact where it is in doubt, then by position.

        The k-th largest closeness moves by no more than the error of a single one. What differs by more than two errors
        from the k-th is therefore on the correct side of it, and stays there however the others are settled.

        Parameters
        ----------
        vectors : tensor of shape (n_questions, width), float32
        found : Shortlist
        in_doubt : tensor of shape (n_questions, reach), bool

        Returns
        -------
        tensor of shape (n_questions, reach), int64
        """
        values = found.values.double()
        for row, place in zip(*(part.split(_ROWS) for part in in_doubt.nonzero(as_tuple=True)), strict=True):
            chosen = found.columns[row, place]
            products = vectors[row].double() * torch.from_numpy(self._questions[chosen.numpy()]).double()
            values[row, place] = products.sum(dim=1) - self._half_squares[chosen]
        columns, order = found.columns.sort(dim=1)
        return columns.gather(1, values.gather(1, order).sort(dim=1, descending=True, stable=True).indices)


def shortlist(closeness: torch.Tensor, margin: torch.Tensor, reach: int) -> Shortlist:
    """List the `reach` largest values of each row, or all of them if there are fewer; brought to the CPU."""
    complete = reach >= closeness.shape[1]
    values, columns = (part.cpu() for part in closeness.topk(min(reach, closeness.shape[1]), dim=1))
    beyond = torch.full_like(margin, -torch.inf) if complete else values[:, -1:] + margin
    return Shortlist(values, columns, margin, beyond)


def half_squares(vectors: np.ndarray) -> torch.Tensor:
    """Compute half the squared length of each row, (n_rows,), float64; some rows at a time, which are copied for it."""
    halves = np.empty(len(vectors))
    for start in range(0, len(vectors), _ROWS):
        part = vectors[start : start + _ROWS].astype(np.float64)
        halves[start : start + _ROWS] = np.einsum("ij,ij->i", part, part) / 2
    return torch.from_numpy(halves)
