"""Which questions are unlike those of the data: by hand, by a loop, and by what holds of any pool."""

import numpy as np
import pytest

from embedllm.predictors.familiarity import Familiarity
from embedllm.predictors.router_files import familiarity_from_bytes, familiarity_to_bytes

WIDTH = 24


def on_circle(degrees):
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def pool(n_questions, seed=0):
    """Questions about a few topics, in directions that leave most of the space empty."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(0).standard_normal((5, WIDTH))
    return topics[rng.integers(5, size=n_questions)] + 0.3 * rng.standard_normal((n_questions, WIDTH))


def test_by_hand():
    # Gaps of 5 degrees, and one of 10: the least usual similarity is the cosine of 10, of the last with its neighbour.
    familiarity = Familiarity.learn(3 * on_circle([*range(0, 200, 5), 205]))
    assert familiarity.reference.shape == (41, 2)
    assert familiarity.limit == pytest.approx(np.cos(np.radians(10)), abs=1e-3)
    asked = on_circle([2, 100, 212, 217, 280, 352, 347])
    nearest = np.cos(np.radians([2, 0, 7, 12, 75, 8, 13]))
    np.testing.assert_allclose(familiarity.similarity(asked), nearest, atol=1e-3)
    assert familiarity.is_unfamiliar(7 * asked).tolist() == [False, False, False, True, True, False, True]


@pytest.mark.parametrize("n_questions", [150, 3000])
def test_agrees_with_a_loop(n_questions):
    familiarity, asked = Familiarity.learn(pool(n_questions)), pool(50, seed=1)
    reference = familiarity.reference.astype(float)
    assert len(reference) == min(n_questions, 2048)

    def nearest(vector, others):
        return max(vector @ other / np.linalg.norm(vector) for other in others)

    np.testing.assert_allclose(familiarity.similarity(asked), [nearest(each, reference) for each in asked], atol=1e-6)
    if n_questions == 150:
        rest = [np.delete(reference, row, axis=0) for row in range(n_questions)]
        usual = sorted(nearest(*both) for both in zip(reference, rest, strict=True))
        assert familiarity.limit == pytest.approx(usual[0] + 0.51 * (usual[1] - usual[0]), abs=1e-6)  # the 1.51st


@pytest.mark.parametrize("n_questions", [30, 100, 400, 5000])
def test_one_in_a_hundred_of_the_pool_is_unfamiliar(n_questions):
    shares = [
        Familiarity.learn(pool(n_questions, seed), seed).is_unfamiliar(pool(500, 1000 + seed)).mean()
        for seed in range(60 if n_questions < 1000 else 4)
    ]
    assert 0.004 < np.mean(shares) < (0.02 if n_questions >= 100 else 0.05)


def test_other_directions_are_unfamiliar():
    other = np.random.default_rng(9).standard_normal((400, WIDTH))
    assert Familiarity.learn(pool(400)).is_unfamiliar(other).mean() > 0.95


def test_question_is_told_the_same_alone_and_among_others():
    familiarity, asked = Familiarity.learn(pool(700)), pool(2500, seed=1)
    together = familiarity.similarity(asked)
    assert together[:200].tolist() == [familiarity.similarity(asked[[row]])[0] for row in range(200)]
    assert together.tolist() == familiarity.similarity(asked[::-1])[::-1].tolist()


def test_length_and_order_tell_nothing():
    vectors = pool(300)
    order = np.random.default_rng(0).permutation(300)
    lengths = 2.0 ** np.random.default_rng(1).integers(-3, 4, (300, 1))
    plain, other = Familiarity.learn(vectors), Familiarity.learn((lengths * vectors)[order])
    assert plain.limit == other.limit
    assert plain.reference.tobytes() == other.reference.tobytes()


def test_copies_of_questions_tell_nothing():
    vectors = pool(100)
    assert Familiarity.learn(np.vstack([vectors] * 5)).limit == Familiarity.learn(vectors).limit < 1


@pytest.mark.parametrize(
    "vectors",
    [pool(29), pool(1), np.tile(pool(1), (500, 1)), np.vstack([pool(20)] * 9)],
    ids=["29", "1", "equal", "9x"],
)
def test_too_few_different_questions_make_nothing_unfamiliar(vectors):
    familiarity = Familiarity.learn(vectors)
    assert not familiarity.is_unfamiliar(np.vstack([-vectors, pool(200, seed=1), np.eye(WIDTH)])).any()


def test_one_of_the_reference_is_familiar_whatever_the_rounding():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1, WIDTH)) + 1e-3 * rng.standard_normal((500, WIDTH))  # all cosines are nearly 1
    familiarity = Familiarity.learn(vectors)
    assert familiarity.is_unfamiliar(familiarity.reference).mean() == 0
    assert familiarity.is_unfamiliar(-vectors).all()


def test_round_trip():
    familiarity, asked = Familiarity.learn(pool(200)), pool(50, seed=1)
    again = familiarity_from_bytes(familiarity_to_bytes(familiarity), WIDTH)
    assert again.limit == familiarity.limit
    assert again.similarity(asked).tolist() == familiarity.similarity(asked).tolist()


def test_what_cannot_be_learned_from_or_compared():
    with pytest.raises(ValueError, match="there is no embedding to learn from"):
        Familiarity.learn(np.empty((0, 3)))
    with pytest.raises(ValueError, match="row 1 is not finite"):
        Familiarity.learn([[1.0, 0.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"embeddings has shape \(1, 3\); the fit was on shape \(n_questions, 24\)"):
        Familiarity.learn(pool(40)).similarity(np.ones((1, 3)))
    assert Familiarity.learn(pool(40)).similarity(np.empty((0, WIDTH))).shape == (0,)
