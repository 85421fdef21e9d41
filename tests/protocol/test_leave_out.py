"""Leave-one-benchmark-out: no answer to the benchmark is in the fit, and no model in its own regression."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import ShuffleSplit

from embedllm import MatrixFactorization
from embedllm.protocol.leave_out import (
    benchmark_accuracies,
    benchmarks_named,
    fits_without,
    model_vectors,
    predict_in_splits,
)

MF = MatrixFactorization(dim=3, alpha=0.1)


class TestFitsWithout:
    def test_each_set_in_turn(self, make_matrix):
        split = make_matrix(n_benchmarks=3, missing=0.3).split()
        sets = [("bench-0",), ("bench-1", "bench-2")]
        for left_out, (found, fitted) in zip(sets, fits_without(split, MF, sets), strict=True):
            assert found == left_out
            rest = split.train.subset(questions=~np.isin(split.train.benchmarks, left_out))
            alone = MatrixFactorization(dim=3, alpha=0.1).fit(rest)
            np.testing.assert_array_equal(fitted.coef_, alone.coef_)
            vectors = model_vectors(fitted)
            np.testing.assert_array_equal(vectors, alone.model_embeddings_)
            assert vectors.index.tolist() == split.train.model_names.tolist()

    def test_answers_of_the_benchmark_do_not_reach_the_fit(self, toy):
        labels = toy.labels.copy()
        of_it = toy.benchmarks == "bench-1"
        labels[:, of_it] = 1 - labels[:, of_it]
        (before,), (after,) = (
            fits_without(matrix.split(), MF, [("bench-1",)]) for matrix in (toy, toy.with_labels(labels))
        )
        np.testing.assert_array_equal(before[1].coef_, after[1].coef_)

    def test_nothing_left_to_learn_from(self, make_matrix):
        assert list(fits_without(make_matrix(n_benchmarks=1).split(), MF, [("bench-0",)])) == [(("bench-0",), None)]


class TestPredictInSplits:
    @pytest.mark.parametrize(("n_models", "n_test"), [(20, 10), (59, 30), (60, 12), (112, 23)])
    def test_against_scikit_learn(self, n_models, n_test):
        rng = np.random.default_rng(0)
        # More coordinates than models, of very different scales, and some that are 0 for all.
        vectors = rng.standard_normal((n_models, 150)) * np.geomspace(10, 0.01, 150)
        vectors[:, 130:] = 0
        accuracy = rng.random((n_models, 2))
        predicted = predict_in_splits(vectors, accuracy, seed=5)
        splits = ShuffleSplit(100, test_size=n_test, random_state=5).split(vectors)
        for row, (train, test) in zip(predicted, splits, strict=True):
            expected = LinearRegression().fit(vectors[train], accuracy[train]).predict(vectors[test])
            np.testing.assert_allclose(row[test], expected, atol=1e-8)
            assert np.isnan(row[train]).all()

    def test_smallest_norm(self):
        # By the pseudoinverse, and with fewer coordinates than models too.
        rng = np.random.default_rng(1)
        for width in (40, 3):
            vectors, accuracy = rng.standard_normal((24, width)), rng.random(24)
            row = predict_in_splits(vectors, accuracy)[0]
            test = np.isfinite(row)
            x, y = vectors[~test], accuracy[~test]
            slope = np.linalg.pinv(x - x.mean(axis=0)) @ (y - y.mean())
            np.testing.assert_allclose(row[test], y.mean() + (vectors[test] - x.mean(axis=0)) @ slope)

    def test_target_of_a_model_does_not_reach_its_prediction(self):
        rng = np.random.default_rng(2)
        vectors, accuracy = rng.standard_normal((30, 5)), rng.random(30)
        before = predict_in_splits(vectors, accuracy)
        accuracy[7] += 1
        after = predict_in_splits(vectors, accuracy)
        tested = np.isfinite(before[:, 7])
        np.testing.assert_array_equal(before[tested], after[tested])
        assert np.isfinite(before).sum() == 100 * 15
        assert not np.allclose(before[~tested], after[~tested], equal_nan=True)

    def test_too_few_models(self):
        assert np.isnan(predict_in_splits(np.ones((19, 2)), np.ones(19))).all()


def test_accuracies(toy_with_holes):
    table = benchmark_accuracies(toy_with_holes)
    assert np.isnan(table.loc[toy_with_holes.model_names[1], "bench-1"])
    of_it = toy_with_holes.labels[0][toy_with_holes.benchmarks == "bench-1"]
    assert table.loc[toy_with_holes.model_names[0], "bench-1"] == pytest.approx((of_it == 1).sum() / (of_it >= 0).sum())


def test_benchmarks_are_recognized_by_parts_of_their_names():
    names = ["GSM8K", "math-l5", "Social IQA", "gpqa_main_zeroshot", "MMLU"]
    assert benchmarks_named(names, ("math", "gsm")) == ["math-l5", "GSM8K"]
    assert benchmarks_named(names, ("gpqa", "asdiv", "social")) == ["gpqa_main_zeroshot", "Social IQA"]
    assert benchmarks_named(names, ("logiqa",)) == []
