"""KNN equals one classifier of scikit-learn for each model, as in the authors' script, question by question."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from embedllm import CorrectnessMatrix, KNNCorrectness
from embedllm.predictors import knn


def reference(train, embeddings, k):
    """Probability of a correct answer, (n_questions, n_models), by a classifier fitted on each model's own answers."""
    columns = []
    for labels in train.labels:
        seen = labels != -1
        if not seen.any():
            columns.append(np.full(len(embeddings), 0.5))
            continue
        classifier = KNeighborsClassifier(min(k, seen.sum()), algorithm="brute")
        classifier.fit(train.embeddings[seen].astype(float), labels[seen])
        proba = classifier.predict_proba(embeddings.astype(float))
        # With a single class in training there is a single column.
        correct = list(classifier.classes_).index(1) if 1 in classifier.classes_ else None
        columns.append(np.zeros(len(embeddings)) if correct is None else proba[:, correct])
    return np.stack(columns, axis=1)


def assert_equals_reference(matrix, test, k):
    proba = KNNCorrectness(k).fit(matrix).predict_proba(test.embeddings)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba, reference(matrix, test.embeddings, k), atol=1e-6)


@pytest.fixture(scope="module")
def test_questions(make_matrix):
    return make_matrix(n_questions=70, seed=9)


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("k", [1, 2, 13, 150, 151, 1000])
    @pytest.mark.parametrize("missing", [0, 0.3, 0.9])
    def test_cells_missing_at_random(self, make_matrix, test_questions, k, missing):
        # Up to more neighbours than a model has answers, and than there are questions.
        assert_equals_reference(make_matrix(n_questions=150, missing=missing), test_questions, k)

    @pytest.mark.parametrize("k", [1, 13, 60, 150])
    def test_whole_benchmarks_missing(self, make_matrix, test_questions, k):
        matrix = make_matrix(n_questions=150, n_benchmarks=3)
        labels = matrix.labels.copy()
        labels[0, matrix.benchmarks != "bench-1"] = -1
        labels[1, matrix.benchmarks == "bench-2"] = -1
        labels[4, matrix.benchmarks == "bench-2"] = -1
        assert_equals_reference(matrix.with_labels(labels), test_questions, k)

    @pytest.mark.parametrize("k", [1, 5, 30])
    def test_one_model_with_few_answers_far_away(self, make_matrix, test_questions, k):
        # The shortlist that serves the other models holds too few of this model's answers.
        matrix = make_matrix(n_questions=300)
        labels = matrix.labels.copy()
        nearest_first = np.argsort(-(matrix.embeddings @ test_questions.embeddings.mean(axis=0)))
        labels[2, nearest_first[:-10]] = -1
        assert_equals_reference(matrix.with_labels(labels), test_questions, k)

    def test_all_models_with_few_answers(self, make_matrix, test_questions):
        matrix = make_matrix(n_questions=300)
        labels = np.full_like(matrix.labels, -1)
        for m in range(6):
            labels[m, m * 7 : m * 7 + 3 + m] = matrix.labels[m, m * 7 : m * 7 + 3 + m]
        for k in (1, 4, 9):
            assert_equals_reference(matrix.with_labels(labels), test_questions, k)

    def test_one_class_only(self, make_matrix, test_questions):
        matrix = make_matrix(n_questions=150)
        labels = matrix.labels.copy()
        labels[0], labels[1], labels[2, ::2] = 1, 0, -1
        labels[2, 1::2] = 1
        assert_equals_reference(matrix.with_labels(labels), test_questions, 9)

    def test_embeddings_of_any_length(self, make_matrix, test_questions):
        # Distances, not cosines: a long embedding is far from its direction.
        matrix = make_matrix(n_questions=150)
        scale = np.random.default_rng(0).uniform(0.01, 100, (150, 1))
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        assert_equals_reference(
            CorrectnessMatrix(frame, matrix.questions, matrix.embeddings * scale), test_questions, 7
        )

    def test_near_ties_far_from_the_origin(self, make_matrix):
        # Neighbours that float32 could not tell apart.
        matrix = make_matrix(n_questions=150)
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        shifted = CorrectnessMatrix(frame, matrix.questions, matrix.embeddings + 1000)
        assert_equals_reference(shifted, shifted.subset(questions=shifted.question_ids[:50]), 7)

    @pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e18, 1e30])
    def test_lengths_whose_squares_float32_cannot_hold(self, make_matrix, test_questions, scale):
        matrix = make_matrix(n_questions=150)
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        scaled = CorrectnessMatrix(frame, matrix.questions, matrix.embeddings * np.float32(scale))
        proba = KNNCorrectness(7).fit(scaled).predict_proba(test_questions.embeddings * np.float32(scale))
        np.testing.assert_allclose(proba, reference(matrix, test_questions.embeddings, 7), atol=1e-6)

    @pytest.mark.parametrize("k", [1, 40, 131])
    @pytest.mark.parametrize("distance", [1e-5, 1e-4])
    def test_crowd_that_float32_cannot_sort(self, make_matrix, k, distance):
        # All training questions within a few roundings of one point, more of them than a shortlist holds.
        matrix = make_matrix(n_questions=600, missing=0.1)
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        crowd = matrix.embeddings[:1] + distance * matrix.embeddings
        crowded = CorrectnessMatrix(frame, matrix.questions, crowd)
        assert_equals_reference(crowded, crowded.subset(questions=crowded.question_ids[::20]), k)

    def test_simulated_pool(self, small_pool):
        train, _, test = small_pool[0].split()
        train = train.subset(models=train.model_names[::10])
        assert_equals_reference(train, test, 131)

    def test_real_answers(self, zeroeval):
        # Distinct distances only: NumerSense repeats one question in 64 wordings.
        matrix = zeroeval.subset(
            models=zeroeval.model_names[::9],
            questions=np.isin(zeroeval.benchmarks, ["gsm", "math-l5"]),
        )
        train, val, _ = matrix.split()
        assert_equals_reference(train, val, 31)


class TestTies:
    """Equal distances in float64 are ordered by position, near ones by distance, whatever float32 makes of them."""

    @pytest.mark.parametrize("scale", [1e-25, 1, 1e15, 1e25])
    @pytest.mark.parametrize("missing", [0, 0.2])
    def test_every_question_twice_with_other_answers(self, make_matrix, test_questions, missing, scale):
        matrix = make_matrix(n_questions=500, missing=missing)
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        twice = np.tile(matrix.embeddings[:250], (2, 1)) * np.float32(scale)
        train = CorrectnessMatrix(frame, matrix.questions, twice)
        asked = test_questions.embeddings * np.float32(scale)
        ks = [1, 8, 13]
        found = KNNCorrectness().fit(train).predict_proba_each(asked, ks)
        for q, vector in enumerate(asked.astype(float)):
            order = np.argsort(((twice - vector) ** 2).sum(axis=1), kind="stable")
            for m, labels in enumerate(train.labels):
                answers = labels[order][labels[order] != -1]
                np.testing.assert_allclose(found[:, q, m], [answers[:k].mean() for k in ks], atol=1e-6)

    def test_tiny_training_questions(self):
        # The distances of the nearest differ by less than float32 can square.
        scale, step = 2.0**-80, 2.0**-9
        vectors = np.zeros((1000, 2))
        vectors[0] = 1 + 0.9 * 2.0**-8, -1
        vectors[1:101] = np.linspace(step / 2, step, 100)[:, None] * [1, 0]
        vectors[101:] = -np.linspace(1, 2, 899)[:, None]
        ids = [f"q{number}" for number in range(1000)]
        labels = pd.DataFrame([[1] + 999 * [0], [0] + 999 * [1]], ["a", "b"], ids)
        matrix = CorrectnessMatrix(labels, pd.DataFrame({"benchmark": "tiny"}, index=ids), vectors * scale)
        np.testing.assert_array_equal(KNNCorrectness(1).fit(matrix).predict_proba(np.ones((1, 2))), [[1, 0]])

    def test_one_huge_question_among_others(self, make_matrix, test_questions):
        # Its closeness does not fit into float32; the others keep their neighbours.
        matrix = make_matrix(n_questions=150)
        asked = test_questions.embeddings.copy()
        asked[5] *= np.float32(1e37)
        expected = KNNCorrectness(7).fit(matrix).predict_proba(test_questions.embeddings)
        found = KNNCorrectness(7).fit(matrix).predict_proba(asked)
        others = np.arange(len(asked)) != 5
        np.testing.assert_array_equal(found[others], expected[others])
        # Of so distant a question, the nearest are those that lie farthest in its direction.
        nearest = np.argsort(-(matrix.embeddings.astype(float) @ asked[5].astype(float)))[:7]
        np.testing.assert_allclose(found[5], matrix.labels[:, nearest].mean(axis=1), atol=1e-6)

    def test_embeddings_mapped_to_memory(self, make_matrix, test_questions, tmp_path):
        matrix = make_matrix(n_questions=300)
        np.save(tmp_path / "embeddings.npy", matrix.embeddings)
        mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        fitted = KNNCorrectness(5).fit(CorrectnessMatrix(frame, matrix.questions, mapped))
        expected = KNNCorrectness(5).fit(matrix).predict_proba(test_questions.embeddings)
        np.testing.assert_array_equal(fitted.predict_proba(test_questions.embeddings), expected)


class TestProbabilities:
    def test_hand_computed(self):
        # Questions on a line at 0, 1, 3, 6; asked at 0.9 and 5.
        labels = pd.DataFrame([[1, 0, 1, 1], [-1, 0, 0, 1], [-1, -1, -1, -1]], ["a", "b", "c"], list("wxyz"))
        questions = pd.DataFrame({"benchmark": "line"}, index=list("wxyz"))
        matrix = CorrectnessMatrix(labels, questions, np.array([[0, 1], [1, 1], [3, 1], [6, 1]]))
        asked = np.array([[0.9, 1], [5, 1]])
        # a: {0, 1} and {3, 6}; b: {1, 3} and {3, 6}; c has no answer.
        np.testing.assert_allclose(
            KNNCorrectness(2).fit(matrix).predict_proba(asked), [[0.5, 0, 0.5], [1, 0.5, 0.5]], atol=1e-7
        )
        # b has three answers, which all count.
        np.testing.assert_allclose(
            KNNCorrectness(4).fit(matrix).predict_proba(asked), [[0.75, 1 / 3, 0.5]] * 2, atol=1e-7
        )

    def test_model_without_an_answer_gets_one_half(self, toy):
        labels = toy.labels.copy()
        labels[3] = -1
        proba = KNNCorrectness(5).fit(toy.with_labels(labels)).predict_proba(toy.embeddings)
        assert (proba[:, 3] == 0.5).all()
        assert np.isfinite(proba).all()

    def test_equal_distances_do_not_matter_when_the_labels_agree(self, toy):
        # Every question twice, with the same answers: whichever of two counts, the outcome is the same.
        ids = [f"{name}-{copy}" for copy in (1, 2) for name in toy.question_ids]
        frame = pd.DataFrame(np.tile(toy.labels, 2), toy.model_names, ids)
        questions = pd.DataFrame({"benchmark": np.tile(toy.benchmarks, 2)}, index=ids)
        twice = CorrectnessMatrix(frame, questions, np.tile(toy.embeddings, (2, 1)))
        np.testing.assert_allclose(
            KNNCorrectness(6).fit(twice).predict_proba(toy.embeddings),
            KNNCorrectness(3).fit(toy).predict_proba(toy.embeddings),
            atol=1e-7,
        )

    def test_first_of_equal_distances_counts(self):
        # Three questions at one place, of which two count beside the nearest.
        labels = pd.DataFrame([[1, 0, 0, 1], [0, 1, 1, 0]], ["a", "b"], list("wxyz"))
        questions = pd.DataFrame({"benchmark": "line"}, index=list("wxyz"))
        matrix = CorrectnessMatrix(labels, questions, np.array([[2, 1], [2, 1], [1, 1], [2, 1]]))
        proba = KNNCorrectness(3).fit(matrix).predict_proba(np.array([[0.0, 1]]))
        np.testing.assert_allclose(proba, [[1 / 3, 2 / 3]], atol=1e-7)

    @pytest.mark.parametrize("block", [1, 7, 69, 70, 71])
    def test_blocks_change_nothing(self, toy_with_holes, test_questions, monkeypatch, block):
        fitted = KNNCorrectness(5).fit(toy_with_holes)
        expected = fitted.predict_proba(test_questions.embeddings)
        monkeypatch.setattr(knn, "_HELD", block * toy_with_holes.n_questions)
        np.testing.assert_array_equal(fitted.predict_proba(test_questions.embeddings), expected)

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_threads_change_nothing(self, toy_with_holes, test_questions, monkeypatch, n_threads):
        fitted = KNNCorrectness(5).fit(toy_with_holes)
        expected = fitted.predict_proba(test_questions.embeddings)
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            np.testing.assert_array_equal(fitted.predict_proba(test_questions.embeddings), expected)
            assert torch.get_num_threads() == n_threads
        finally:
            torch.set_num_threads(before)

    def test_order_of_questions_and_models_changes_nothing(self, toy_with_holes, test_questions):
        expected = KNNCorrectness(5).fit(toy_with_holes).predict_matrix(test_questions)
        rng = np.random.default_rng(0)
        shuffled = toy_with_holes.subset(
            models=rng.permutation(toy_with_holes.model_names), questions=rng.permutation(toy_with_holes.question_ids)
        )
        np.testing.assert_allclose(KNNCorrectness(5).fit(shuffled).predict_matrix(test_questions), expected, atol=1e-7)


@pytest.mark.parametrize("k", [0, -1, 2.5, "ten", True, None])
def test_bad_number_of_neighbours_is_named(toy, k):
    with pytest.raises(ValueError, match=f"n_neighbors must be a positive whole number, got {k!r}"):
        KNNCorrectness(k).fit(toy)


@pytest.mark.parametrize("device", ["tpu", None])
def test_bad_device_is_named(toy, device):
    with pytest.raises(ValueError, match=f"device must be 'auto', 'cpu' or 'cuda', got {device!r}"):
        KNNCorrectness(device=device).fit(toy)


def test_number_of_numpy_is_a_number(toy):
    np.testing.assert_array_equal(
        KNNCorrectness(np.int64(5)).fit(toy).predict_matrix(toy), KNNCorrectness(5).fit(toy).predict_matrix(toy)
    )


class TestSeveralK:
    def test_one_search_equals_a_fit_for_each(self, toy, toy_with_holes):
        for matrix in (toy, toy_with_holes):
            train, _, test = matrix.split()
            ks = [5, 1, 3, 3, 32, 200]  # in no order, with a duplicate, and more than there are questions
            each = KNNCorrectness().fit(train).predict_proba_each(test.embeddings, ks)
            assert each.shape == (6, test.n_questions, train.n_models)
            for k, probability in zip(ks, each, strict=True):
                np.testing.assert_array_equal(probability, KNNCorrectness(k).fit(train).predict_proba(test.embeddings))

    def test_bad_k_is_named(self, toy):
        with pytest.raises(ValueError, match="n_neighbors must be a positive whole number, got 0"):
            KNNCorrectness().fit(toy).predict_proba_each(toy.embeddings, [3, 0])
