"""Groups of near duplicates against a slow search."""

import numpy as np
import pytest

from embedllm.datasets import duplicates
from embedllm.datasets.duplicates import near_duplicates


def slow_groups(vectors, texts, cosine):
    """Merge groups until no pair of different groups is alike."""
    group = list(range(len(vectors)))
    for i in range(len(vectors)):
        for j in range(i):
            similar = vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j]) > cosine
            if similar or texts[i] == texts[j]:
                group = [group[j] if each == group[i] else each for each in group]
    return group


def test_groups_are_those_of_a_slow_search(matrix_of, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((12, 4))[rng.integers(0, 12, 60)] + 0.2 * rng.standard_normal((60, 4))
    texts = [f"text {number}" for number in rng.integers(0, 300, 60)]
    matrix = matrix_of(np.ones((2, 60), int), embeddings=vectors, prompt=texts)
    for cosine in (0.99, 0.95, 0.5):
        found, expected = near_duplicates(matrix, cosine), slow_groups(vectors, texts, cosine)
        np.testing.assert_array_equal(found[:, None] == found, np.equal.outer(expected, expected))
        assert found[0] == 0 and set(found) == set(range(found.max() + 1))


@pytest.mark.parametrize("cosine", [float("nan"), 2, -5])
def test_a_similarity_lies_between_minus_one_and_one(toy, cosine):
    with pytest.raises(ValueError, match=f"cosine must be between -1 and 1, got {cosine}"):
        near_duplicates(toy, cosine)
