"""Questions that belong together stay in one part, or their overlap is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm import CorrectnessMatrix, KNNCorrectness, duplicated_questions
from embedllm._support.division import divide, question_groups


def groups_of(group_by=None, **columns):
    return question_groups(pd.DataFrame(columns), group_by).tolist()


class TestGroups:
    @pytest.mark.parametrize(
        "other",
        [" What is  2 + 2?\n", "WHAT IS 2 + 2?", "What\tis 2\u00a0+ 2?"],
        ids=["spaces", "case", "other spaces"],
    )
    def test_same_text_however_it_is_written(self, other):
        assert groups_of(prompt=["What is 2 + 2?", "What is 3 + 3?", other]) == [0, 1, 0]

    def test_unicode_forms_are_one_text(self):
        assert groups_of(prompt=["caf\u00e9", "cafe\u0301", "cafe"]) == [0, 0, 1]

    def test_missing_and_empty_texts_are_alone(self):
        assert groups_of(prompt=[None, None, "", " ", "a", np.nan]) == [0, 1, 2, 3, 4, 5]

    def test_without_prompts_all_are_alone(self):
        assert groups_of(benchmark=["sums"] * 3) == [0, 1, 2]

    def test_column_joins_groups_of_texts(self):
        columns = {"prompt": ["a", "b", "b", "c", "d"], "source": ["x", "x", "y", "y", None]}
        assert groups_of(**columns) == [0, 1, 1, 2, 3]
        assert groups_of("source", **columns) == [0, 0, 0, 0, 1]

    def test_wordings_of_an_item_belong_together_unasked(self):
        assert groups_of(prompt=["a", "b", "c", "b"], item=[1, 2, 1, 3]) == [0, 1, 0, 1]

    def test_unknown_column_is_named(self):
        with pytest.raises(ValueError, match=r"no column 'item'; they have \['prompt'\]"):
            groups_of("item", prompt=["a"])


class TestDivide:
    @given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.integers(0, 5))
    def test_no_group_is_in_two_parts(self, numbers, seed):
        groups = pd.factorize(np.array(numbers))[0]
        parts = divide(groups, (0.6, 0.2, 0.2), seed)
        assert sorted(np.concatenate(parts)) == list(range(len(groups)))
        assert sum(len(np.unique(groups[part])) for part in parts) == len(np.unique(groups))
        # A part misses its size by less than a group.
        largest = np.bincount(groups).max()
        ends = np.cumsum([len(part) for part in parts])[:2]
        assert (np.abs(ends - np.rint(np.array([0.6, 0.8]) * len(groups))) < largest).all()

    def test_single_questions_are_divided_as_a_permutation(self):
        order = np.random.default_rng(4).permutation(50)
        for part, expected in zip(divide(np.arange(50), (0.8, 0.1, 0.1), 4), np.split(order, [40, 45]), strict=True):
            assert part.tolist() == sorted(expected)


def noise(n_texts=300, copies=2):
    """Labels by chance, equal for the copies of a text."""
    rng = np.random.default_rng(0)
    labels = np.tile(rng.integers(0, 2, (4, n_texts)), copies)
    prompts = [f"text {number}" for number in range(n_texts)]
    questions = pd.DataFrame({"benchmark": "noise", "prompt": prompts + [f" {text.upper()}" for text in prompts]})
    questions.index = questions.index.map("q{}".format)
    embeddings = np.tile(rng.standard_normal((n_texts, 16)), (copies, 1))
    return CorrectnessMatrix(pd.DataFrame(labels, list("abcd"), questions.index), questions, embeddings)


def knn_accuracy(train, test):
    proba = KNNCorrectness(n_neighbors=1).fit(train).predict_matrix(test)
    return ((proba > 0.5) == (test.labels == 1)).mean()


class TestSplit:
    def test_memory_does_not_help_on_noise(self):
        matrix = noise()
        train, _, test = matrix.split()
        assert knn_accuracy(train, test) == pytest.approx(0.5, abs=0.1)
        # As it was with texts in two parts.
        train, _, test = CorrectnessMatrix(
            pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids),
            matrix.questions.drop(columns="prompt"),
            matrix.embeddings,
        ).split()
        assert knn_accuracy(train, test) > 0.8

    def test_column_keeps_items_together(self):
        matrix = noise()
        items = np.arange(matrix.n_questions) // 7
        matrix.questions["item"] = items
        parts = matrix.split(group_by="item")
        assert sum(part.questions["item"].nunique() for part in parts) < len(np.unique(items)) + 3

    def test_overlap_of_an_own_split_is_counted(self):
        matrix = noise(n_texts=5)
        questions = matrix.questions.assign(split=["train"] * 5 + ["test", "test", "val", "train", "test"])
        labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        with pytest.warns(UserWarning, match="1 validation and 3 test questions with the text of a training question"):
            CorrectnessMatrix(labels, questions, matrix.embeddings).split()


def test_duplicated_questions_are_listed():
    found = duplicated_questions(noise(n_texts=3))
    assert found.index.tolist() == ["q0", "q3", "q1", "q4", "q2", "q5"]
    assert found["group"].tolist() == [0, 0, 1, 1, 2, 2]
    assert found["prompt"].tolist()[:2] == ["text 0", " TEXT 0"]
