"""How like the training questions a question is: far from all of them, predicted probabilities mean little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedllm._support.checks import copied
from embedllm.predictors.base import check_embeddings
from embedllm.predictors.distributed import gather, rank

_KEPT = 2048  # questions of the reference, at most: 3 MiB at width 768
_FEWEST = 30  # the least of fewer similarities says little about a usual one
_RARE = 0.01
_BLOCK = 1024  # questions compared at a time
_WHOLE = 2.0**24  # whole numbers of this unit: what float16 holds below 1


@dataclass(frozen=True, eq=False)
class Familiarity:
    """A sample of the training questions, and how like the nearest of it a question usually is.

    Attributes
    ----------
    reference : ndarray of shape (n_reference, width), float16
        Embeddings of different training questions, at most 2,048, of unit length.
    limit : float
        Least usual cosine similarity with the nearest of the reference, between -1 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.predictors.familiarity import Familiarity
    >>> angles = np.radians(np.arange(0, 200, 5))
    >>> familiarity = Familiarity.learn(np.column_stack([np.cos(angles), np.sin(angles)]))
    >>> familiarity.is_unfamiliar([[1, 0.5], [0, -1]])
    array([False,  True])
    """

    reference: np.ndarray
    limit: float

    @classmethod
    def learn(cls, embeddings: np.ndarray, random_state: int = 0) -> Familiarity:
        """Draw a sample of the training questions, and compare each with the others.

        In a group of processes (:mod:`embedllm.predictors.distributed`), each draws from its share, and all learn the
        same.

        Parameters
        ----------
        embeddings : ndarray of shape (n_questions, width)
        random_state : int
            Of the sample.

        Returns
        -------
        Familiarity
            Its `limit` is the 1st percentile of the similarities of a question of the reference with the nearest of
            the others. With fewer than 30 different embeddings it is -1, and no question is unfamiliar.

        Raises
        ------
        ValueError
            If there is no embedding, or they are not finite numbers.
        """
        if not len(embeddings):
            raise ValueError("there is no embedding to learn from: pass those of the training questions")
        number, n_processes = rank()
        size = min(len(embeddings), -(-_KEPT // n_processes))
        rows = np.random.default_rng([random_state, number]).choice(len(embeddings), size, replace=False)
        sample = copied(np.asarray(embeddings)[np.sort(rows)])  # an index in order: they may be on disk
        sample = np.vstack(gather(check_embeddings(sample, sample.shape[-1]).numpy()))
        # A copy of a question would be its nearest, and tells nothing about other questions.
        reference = np.unique(_unit(sample).astype(np.float16), axis=0)
        if len(reference) < _FEWEST:
            return cls(reference, -1.0)
        cosines = _cosines(reference, reference)
        np.fill_diagonal(cosines, -1)
        # "weibull": a further question of the pool is below it with a probability of 1 % in small pools too, or, where
        # there are fewer than 99 questions and it is their least, with 1 / (n + 1).
        return cls(reference, float(np.quantile(cosines.max(axis=1).clip(-1, 1), _RARE, method="weibull")))

    def similarity(self, embeddings: np.ndarray) -> np.ndarray:
        """Compute the highest cosine similarity of each question with the reference, whatever others come along.

        Parameters
        ----------
        embeddings : ndarray of shape (n_questions, width)

        Returns
        -------
        ndarray of shape (n_questions,), float64
            Between -1 and 1.

        Raises
        ------
        ValueError
            If the width is another one, or a value is not finite.
        """
        vectors = check_embeddings(embeddings, self.reference.shape[1]).numpy()
        nearest = np.empty(len(vectors))
        for start in range(0, len(vectors), _BLOCK):
            nearest[start : start + _BLOCK] = _cosines(vectors[start : start + _BLOCK], self.reference).max(axis=1)
        return nearest.clip(-1, 1)

    def is_unfamiliar(self, embeddings: np.ndarray) -> np.ndarray:
        """Tell which questions are less like the reference than usual, (n_questions,), bool."""
        return self.similarity(embeddings) < self.limit


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to unit length, float64; zeros stay."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _cosines(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Compute cosine similarities, (n_vectors, n_reference), float64.

    Both factors are whole numbers of a unit, and their products so small that float64 adds them exactly, in any order:
    the result does not depend on the shape of the product.
    """
    return np.rint(_unit(vectors) * _WHOLE) @ reference.T.astype(np.float64) / _WHOLE
