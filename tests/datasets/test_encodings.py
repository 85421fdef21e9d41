"""Encodings of the questions against slow ways of computing the same."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from embedllm import encode_questions
from embedllm.datasets.encodings import (
    BENCHMARK,
    BOTH,
    OWN,
    RANDOM,
    WORDS,
    benchmark_alone,
    embedding_and_benchmark,
    encoded_by,
    fewer_numbers,
    own_embeddings,
    standard_encodings,
    unit_vectors,
    words_of_the_text,
)
from embedllm.datasets.simulate import simulate_pool

TEXTS = ["add 7 and 8", "add 7 and 9 and 9", "name the capital of France", "name the capital", "Quel est ce mot ?"]
TRAIN = np.array([True, True, True, True, False])


def with_texts(matrix_of, texts):
    return matrix_of(np.ones((2, len(texts)), int), prompt=texts)


def weights_by_hand(texts, train):
    """TF-IDF of words and pairs of words, as the scikit-learn user guide has it, of the words of the training texts."""
    counts = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        counts.append(Counter(words) + Counter(map(" ".join, pairwise(words))))
    known = sorted(set().union(*(each for each, learned in zip(counts, train, strict=True) if learned)))
    n = sum(train)
    found = np.zeros((len(texts), len(known)))
    for column, word in enumerate(known):
        n_with = sum(word in each for each, learned in zip(counts, train, strict=True) if learned)
        for row, each in enumerate(counts):
            if each[word]:
                found[row, column] = (1 + np.log(each[word])) * (1 + np.log((1 + n) / (1 + n_with)))
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1)


def test_words_are_those_of_tf_idf(matrix_of):
    vectors = words_of_the_text(with_texts(matrix_of, TEXTS), TRAIN)
    weights = weights_by_hand(TEXTS, TRAIN)
    # Nothing is lost: there are as many numbers as the training texts have directions.
    np.testing.assert_allclose(vectors[TRAIN] @ vectors[TRAIN].T, weights[TRAIN] @ weights[TRAIN].T, atol=1e-10)
    assert not vectors[4].any()  # of unknown words


def test_unknown_words_become_the_mean_of_the_training_questions(matrix_of):
    vectors = unit_vectors(words_of_the_text, with_texts(matrix_of, TEXTS), TRAIN)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    mean = vectors[TRAIN].mean(axis=0)
    np.testing.assert_allclose(vectors[4], mean / np.linalg.norm(mean), rtol=1e-5)


@pytest.mark.parametrize("words", [["a"] * 5, ["", "?", "", "known", "known"]], ids=["one word", "none in training"])
@pytest.mark.filterwarnings("error")
def test_texts_of_hardly_any_word(matrix_of, words):
    matrix = with_texts(matrix_of, words)
    vectors = unit_vectors(words_of_the_text, matrix, np.array([True, True, True, False, False]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_nothing_is_learned_from_other_questions(matrix_of):
    changed = [*TEXTS[:4], "add the capital"]
    ours, others = (words_of_the_text(with_texts(matrix_of, texts), TRAIN) for texts in (TEXTS, changed))
    np.testing.assert_array_equal(ours[:4], others[:4])
    assert others[4].any()


def test_fewer_numbers_are_a_projection_on_the_first_directions(make_matrix):
    matrix, train = make_matrix(), np.arange(40) < 30
    vectors = fewer_numbers(4, matrix, train)
    directions = np.linalg.svd(matrix.embeddings[train].astype(float))[2][:4]
    projected = matrix.embeddings @ directions.T
    np.testing.assert_allclose(vectors @ vectors.T, projected @ projected.T, atol=1e-4)


def test_benchmark_alone_and_beside_the_embedding(matrix_of):
    matrix = matrix_of([[1, 0, 1]], benchmark=["b", "a", "b"])
    one_hot = benchmark_alone(matrix, np.ones(3, bool))
    assert (one_hot @ one_hot.T).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    own, both = (unit_vectors(each, matrix, np.ones(3, bool)) for each in (own_embeddings, embedding_and_benchmark))
    np.testing.assert_allclose(both @ both.T, (own @ own.T + one_hot @ one_hot.T) / 2, atol=1e-6)


def test_any_sentence_encoder(matrix_of, small_encoder):
    matrix = with_texts(matrix_of, TEXTS)
    encodings = standard_encodings(matrix, str(small_encoder))
    assert list(encodings) == [OWN, BOTH, str(small_encoder), WORDS, BENCHMARK, RANDOM]
    vectors = encodings[str(small_encoder)](matrix, TRAIN)
    np.testing.assert_array_equal(vectors, encode_questions(TEXTS, small_encoder))
    np.testing.assert_array_equal(vectors, encoded_by(str(small_encoder), matrix, TRAIN))


@pytest.mark.parametrize("texts", [None, ["?", "", "+"]])
def test_without_texts_there_are_no_words_and_no_other_encoder(matrix_of, texts):
    matrix = simulate_pool(0.01)[0] if texts is None else with_texts(matrix_of, texts)
    assert WORDS not in standard_encodings(matrix)
    with pytest.raises(ValueError, match=r"encoder 'any/encoder': the questions of .* have no texts: leave it empty"):
        standard_encodings(matrix, "any/encoder")
