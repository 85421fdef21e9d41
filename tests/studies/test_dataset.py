"""Agreement, coverage and the other facts of a matrix, against loops over its cells and scikit-learn's kappa."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from embedllm import CorrectnessMatrix
from embedllm.datasets import simulate
from embedllm.studies.dataset import (
    agreement_ceilings,
    anchor_table,
    correct_shares,
    coverage,
    dataset_values,
    model_table,
    pairwise_agreement,
    split_table,
)


def matrix_of(labels, benchmarks=None):
    labels = np.array(labels)
    ids = [f"q{number}" for number in range(labels.shape[1])]
    questions = pd.DataFrame({"benchmark": benchmarks or ["x"] * len(ids)}, ids)
    names = [f"m{number}" for number in range(len(labels))]
    return CorrectnessMatrix(pd.DataFrame(labels, names, ids), questions, np.ones((len(ids), 2)), source="by hand")


class TestAgreementCeilings:
    NAMES = ("Llama-8B-fp8@one", "llama-8b", "Llama-8B@two", "Llama-8Bx", "other@one")

    def pool(self, n=4000):
        """Three runs of one model and two other models, with the probability of each run on each question."""
        rng = np.random.default_rng(0)
        chance = np.vstack([np.tile(rng.beta(0.4, 0.4, n), (3, 1)), rng.random((2, n))])
        labels = (rng.random((5, n)) < chance).astype(int)
        matrix = matrix_of(labels)
        frame = pd.DataFrame(labels, self.NAMES, matrix.question_ids)
        return CorrectnessMatrix(frame, matrix.questions, matrix.embeddings), chance[0]

    def test_runs_of_one_model_bound_the_best_forecast(self):
        matrix, chance = self.pool()
        table = agreement_ceilings(pairwise_agreement(matrix), n_nearest=2)
        assert table["pair"].tolist() == ["runs of one model"] * 3 + ["nearest models"] * 2
        assert set(table["model"][:3]) | set(table["other"][:3]) == set(self.NAMES[:3])
        best = np.maximum(chance, 1 - chance).mean()  # the accuracy of a forecaster that knows the probabilities
        assert (table["agreement"][:3] < best).all()
        assert (table["at most"][:3] > best).all() and (table["at most"][:3] < best + 0.06).all()

    def test_bound_is_reached_where_all_questions_are_alike(self):
        rng = np.random.default_rng(1)
        labels = (rng.random((2, 100_000)) < 0.8).astype(int)
        matrix = matrix_of(labels)
        frame = pd.DataFrame(labels, ["m", "m@x"], matrix.question_ids)
        agreement = pairwise_agreement(CorrectnessMatrix(frame, matrix.questions, matrix.embeddings))
        table = agreement_ceilings(agreement)
        assert table["agreement"].item() == pytest.approx(0.8**2 + 0.2**2, abs=0.01)
        assert table["at most"].item() == pytest.approx(0.8, abs=0.01)

    def test_pairs_with_few_questions_in_common_are_left_out(self):
        matrix, _ = self.pool(n=99)
        assert agreement_ceilings(pairwise_agreement(matrix)).empty

    def test_real_runs(self, zeroeval):
        table = agreement_ceilings(pairwise_agreement(zeroeval))
        runs = table[table["pair"] == "runs of one model"]
        assert len(runs) == 4  # three of Llama-3.1-405B, two of Llama-3.1-70B
        assert len(table) == 9 and (table["n_shared"] >= 100).all()


class TestPairwiseAgreement:
    def test_equals_a_loop(self, toy_with_holes):
        result = pairwise_agreement(toy_with_holes)
        names = toy_with_holes.model_names
        for one, two in itertools.product(range(6), repeat=2):
            shared = [
                (a, b)
                for a, b in zip(toy_with_holes.labels[one], toy_with_holes.labels[two], strict=True)
                if a != -1 and b != -1
            ]
            first, second = (sum(label) / len(shared) for label in zip(*shared, strict=True))
            cell = names[one], names[two]
            assert result.n_shared.loc[cell] == len(shared)
            assert result.agreement.loc[cell] == pytest.approx(sum(a == b for a, b in shared) / len(shared))
            assert result.expected.loc[cell] == pytest.approx(first * second + (1 - first) * (1 - second))
            assert result.kappa.loc[cell] == pytest.approx(cohen_kappa_score(*zip(*shared, strict=True)))

    def test_undefined_is_not_a_number(self):
        # No question in common; only correct answers in common; one model always correct.
        result = pairwise_agreement(matrix_of([[1, 1, -1, -1], [-1, -1, 0, 1], [1, 1, 1, 0]]))
        assert result.n_shared.loc["m0", "m1"] == 0
        assert math.isnan(result.agreement.loc["m0", "m1"])
        assert math.isnan(result.kappa.loc["m0", "m1"])
        assert result.agreement.loc["m0", "m2"] == 1
        assert math.isnan(result.kappa.loc["m0", "m2"])
        assert result.kappa.loc["m1", "m2"] == -1

    def test_independent_models_agree_as_expected(self):
        rng = np.random.default_rng(0)
        labels = rng.random((8, 20_000)) < np.linspace(0.2, 0.9, 8)[:, None]
        pairs = pairwise_agreement(matrix_of(labels.astype(int))).pairs()
        assert len(pairs) == 28
        np.testing.assert_allclose(pairs["agreement"], pairs["expected"], atol=0.02)
        assert pairs["kappa"].abs().max() < 0.04

    def test_pairs_are_sorted_and_name_their_data(self, toy_with_holes):
        result = pairwise_agreement(toy_with_holes)
        pairs = result.pairs()
        assert set(pairs["data"]) == {toy_with_holes.source}
        assert len({frozenset(pair) for pair in zip(pairs["model"], pairs["other"], strict=True)}) == 15 == len(pairs)
        assert pairs["kappa"].is_monotonic_decreasing
        for row in pairs.itertuples():
            assert row.kappa == result.kappa.loc[row.model, row.other]

    def test_models_of_one_specialization_agree_more(self, small_pool):
        # The ground truth: they share a part of their skill.
        matrix, _ = small_pool
        pairs = pairwise_agreement(matrix).pairs()
        tags = matrix.models["tags"]
        alike = tags[pairs["model"]].to_numpy() == tags[pairs["other"]].to_numpy()
        assert pairs["kappa"][alike].mean() > pairs["kappa"][~alike].mean() + 0.005


class TestOrder:
    def test_clones_stand_together(self):
        rng = np.random.default_rng(1)
        base = rng.integers(0, 2, (4, 300))
        labels = np.concatenate([base, base, base]) ^ (rng.random((12, 300)) < 0.05)
        order = pairwise_agreement(matrix_of(labels)).order()
        families = [int(name[1:]) % 4 for name in order]
        assert len(list(itertools.groupby(families))) == 4

    @pytest.mark.parametrize("labels", [[[1]], [[1], [0]], [[1, -1], [-1, 0], [-1, -1]]])
    def test_everyone_is_there(self, labels):
        order = pairwise_agreement(matrix_of(labels)).order()
        assert sorted(order) == [f"m{number}" for number in range(len(labels))]


def test_correct_shares():
    shares = correct_shares(matrix_of([[1, 1, -1, 0], [0, 1, -1, -1]]))
    assert shares.tolist()[:2] == [0.5, 1]
    assert math.isnan(shares["q2"])
    assert shares["q3"] == 0


class TestCoverage:
    def test_by_hand(self):
        matrix = matrix_of([[1, 0, 1], [1, -1, -1], [-1, -1, -1]], ["b", "b", "a"])
        table = coverage(matrix)
        assert table.index.tolist() == ["b", "a", "overall"]
        assert table[["questions", "all", "some", "none"]].to_numpy().tolist() == [
            [2, 1, 1, 1],
            [1, 1, 0, 2],
            [3, 1, 1, 1],
        ]
        assert table["missing (%)"].tolist() == pytest.approx([50, 200 / 3, 500 / 9])
        assert set(table["data"]) == {"by hand"}

    def test_nothing_missing(self, toy):
        table = coverage(toy)
        assert (table["all"] == 6).all()
        assert (table[["some", "none", "missing (%)"]] == 0).all(axis=None)

    def test_real_missing_answers(self, zeroeval):
        table = coverage(zeroeval)
        assert (table[["all", "some", "none"]].sum(axis=1) == 56).all()
        assert table.at["overall", "missing (%)"] == pytest.approx(28.88, abs=0.01)
        # Unfinished runs, as the notes on these data say.
        assert table.at["gsm", "some"] == 1
        assert table.at["math-l5", "some"] == 2


def test_model_table(toy_with_holes):
    table = model_table(toy_with_holes)
    assert table["accuracy (%)"].is_monotonic_decreasing
    kappa = pairwise_agreement(toy_with_holes).kappa
    for name, row in table.iterrows():
        labels = toy_with_holes.labels[list(toy_with_holes.model_names).index(name)]
        seen = labels[labels != -1]
        assert row["accuracy (%)"] == pytest.approx(100 * seen.mean())
        assert row["answers"] == len(seen)
        assert row["missing (%)"] == pytest.approx(100 * (40 - len(seen)) / 40)
        assert row["mean kappa"] == pytest.approx(kappa.loc[name].drop(name).mean())


def test_split_table(toy_with_holes):
    split = toy_with_holes.split()
    table = split_table(split)
    assert table.index.tolist() == ["train", "val", "test"]
    assert table["questions"].tolist() == [32, 4, 4]
    assert table["answers"].sum() == (toy_with_holes.labels != -1).sum()
    assert table["text in training"].isna().all()


def test_split_table_counts_texts_that_are_in_training():
    matrix = matrix_of([[1, 0, 1, 1, 0, 1]])
    matrix.questions["prompt"] = ["a", "A", "b", "c", " a", "c"]
    matrix.questions["split"] = ["train", "train", "train", "val", "test", "test"]
    with pytest.warns(UserWarning, match="0 validation and 1 test questions"):
        split = matrix.split()
    assert split_table(split)["text in training"].tolist() == [2, 0, 1]


class TestValues:
    def test_values(self):
        matrix = matrix_of([[1, 0, 1, 1], [1, 0, 0, -1]], ["a", "a", "b", "b"])
        values = {each.key: each.value for each in dataset_values(matrix, pairwise_agreement(matrix))}
        assert values == {
            "data_models": 2,
            "data_questions": 4,
            "data_benchmarks": 2,
            "data_observed": 87.5,
            "data_worst": pytest.approx(100 / 3),
            "data_best": 75,
            "data_all_right": 50,
            "data_none_right": 25,
            "data_agreement": pytest.approx(200 / 3),
            "data_expected": pytest.approx(100 * (2 / 3 * 1 / 3 + 1 / 3 * 2 / 3)),
            "data_kappa": pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9)),
        }

    def test_a_single_model_has_no_agreement(self):
        matrix = matrix_of([[1, 0, 1]])
        values = {each.key: each.value for each in dataset_values(matrix, pairwise_agreement(matrix))}
        assert math.isnan(values["data_agreement"])
        assert math.isnan(values["data_kappa"])


def test_anchors_are_the_published_values(small_pool):
    matrix, _ = small_pool
    table = anchor_table(matrix, pairwise_agreement(matrix))
    assert table["published (%)"].round(1).tolist() == [40.6, 69.5, 60.5, 69.0, 97.9, 74.1, 71.5, 79.0]
    assert table.index[table["pool (%)"].isna()].tolist() == ["MF", "KNN"]
    # The table in the docstring of the simulator has the same values.
    documented = re.findall(r"(\d\d\.\d) %  (by construction|tuned|free)", simulate.__doc__)
    shown = zip(table["published (%)"], table["in the pool"], strict=True)
    assert documented == [(f"{value:.1f}", how.removesuffix(" (linear)")) for value, how in shown]
    # At this scale the accuracies are those of the published counts up to their sampling noise.
    apart = (table["pool (%)"] - table["published (%)"]).abs()
    assert (apart[["mean accuracy", "per-benchmark majority baseline"]] < 3).all()
