"""Encodings of the questions: the embeddings of a data set, and what stands in for those of another encoder.

An encoding turns all questions of a matrix into vectors. What it learns, it learns from the training questions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from embedllm.datasets.encoder import encode_questions
from embedllm.matrix import CorrectnessMatrix

Encoding = Callable[[CorrectnessMatrix, np.ndarray], np.ndarray]
"""Takes a matrix and the mask of its training questions, returns a vector for each question, (n_questions, width)."""

OWN, WORDS, BENCHMARK, RANDOM = "embedding", "words of the text", "benchmark alone", "random numbers"
BOTH, FEWER = "embedding and benchmark", "embedding, 32 numbers"


def own_embeddings(matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return the embeddings of the data set."""
    return matrix.embeddings


def fewer_numbers(size: int, matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return the embeddings in the `size` directions that keep most of those of the training questions."""
    return _directions(size, matrix.embeddings[train]).transform(matrix.embeddings)


def benchmark_alone(matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return 1 for the benchmark of a question and 0 for each other one."""
    return pd.get_dummies(matrix.benchmarks).to_numpy(float)


def embedding_and_benchmark(matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return both, of equal length."""
    return np.hstack([normalize(matrix.embeddings), benchmark_alone(matrix, train)])


def random_numbers(matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return vectors that tell nothing, as wide as the embeddings: a negative control."""
    return np.random.default_rng(0).standard_normal(matrix.embeddings.shape)


def words_of_the_text(matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return 256 numbers for the words and pairs of words of a text: latent semantic analysis.

    References
    ----------
    Deerwester et al., *Indexing by Latent Semantic Analysis*, JASIS 41 (1990).
    """
    texts = matrix.questions["prompt"].fillna("")
    # Single letters and digits count as words. The most frequent words and pairs are kept.
    weights = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True, max_features=10_000)
    if not texts[train].str.contains(r"\w").any():
        return np.ones((len(texts), 1))
    known, every = weights.fit_transform(texts[train]), weights.transform(texts)
    return every.toarray() if known.shape[1] < 3 else _directions(256, known, n_iter=2).transform(every)


def _directions(size: int, known: Any, **settings: Any) -> TruncatedSVD:
    with np.errstate(invalid="ignore", divide="ignore"):  # the variance explained is of no use here, and may be 0 of 0
        return TruncatedSVD(min(size, known.shape[1]), random_state=0, **settings).fit(known)


def encoded_by(encoder: str, matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Return the vectors of the texts by a sentence encoder, a Hub id or a folder."""
    return encode_questions(matrix.questions["prompt"].fillna("").tolist(), encoder)


def has_texts(matrix: CorrectnessMatrix) -> bool:
    """Tell whether a text of a question has a word."""
    return "prompt" in matrix.questions and bool(matrix.questions["prompt"].str.contains(r"\w").any())


def standard_encodings(matrix: CorrectnessMatrix, encoder: str = "") -> dict[str, Encoding]:
    """Return the encodings that a data set allows, that of the data set first.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    encoder : str
        A further sentence encoder, a Hub id or a folder; none if empty.

    Raises
    ------
    ValueError
        If there is one, but no text that it could encode, or it has the name of another encoding.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.datasets.encodings import standard_encodings
    >>> list(standard_encodings(load_dataset("simulated", scale=0.01)))[:2]
    ['embedding', 'embedding, 128 numbers']
    """
    if encoder in (OWN, WORDS, BENCHMARK, RANDOM, BOTH):
        raise ValueError(f"encoder {encoder!r} has the name of another encoding: pass the path of its folder")
    if encoder and not has_texts(matrix):
        raise ValueError(f"encoder {encoder!r}: the questions of {matrix!r} have no texts: leave it empty")
    sizes = [size for size in (128, 32) if size < matrix.embeddings.shape[1]]
    encodings: dict[str, Encoding] = {OWN: own_embeddings}
    encodings |= {f"embedding, {size} numbers": partial(fewer_numbers, size) for size in sizes}
    encodings |= {BOTH: embedding_and_benchmark} | ({encoder: partial(encoded_by, encoder)} if encoder else {})
    encodings |= {WORDS: words_of_the_text} if has_texts(matrix) else {}
    return encodings | {BENCHMARK: benchmark_alone, RANDOM: random_numbers}


def unit_vectors(encoding: Encoding, matrix: CorrectnessMatrix, train: np.ndarray) -> np.ndarray:
    """Encode the questions and scale the vectors to length 1.

    Parameters
    ----------
    encoding : callable
    matrix : CorrectnessMatrix
    train : ndarray of shape (n_questions,), bool
        The training questions.

    Returns
    -------
    ndarray of shape (n_questions, width), float32
        A vector of zeros, such as that of a text of unknown words, becomes the direction of the mean of the training
        questions.
    """
    vectors = normalize(np.asarray(encoding(matrix, train), dtype=np.float32))
    vectors[~vectors.any(axis=1)] = normalize(vectors[train].mean(axis=0, keepdims=True))
    return vectors
