"""Leave-one-benchmark-out: no answer to the benchmark is in the fit."""

import numpy as np

from embedllm import MatrixFactorization
from embedllm.protocol.leave_out import benchmarks_named, fits_without

MF = MatrixFactorization(dim=3, alpha=0.1)


class TestFitsWithout:
    def test_each_benchmark_and_seed_in_turn(self, toy_with_holes):
        fits = list(fits_without(toy_with_holes, MF, seed=4, n_seeds=2))
        assert [(fit.seed, fit.benchmark) for fit in fits] == [
            (seed, name) for seed in (4, 5) for name in ("bench-0", "bench-1")
        ]
        for fit in fits:
            train = fit.split.train
            rest = train.subset(questions=train.benchmarks != fit.benchmark)
            alone = MatrixFactorization(dim=3, alpha=0.1).fit(rest)
            np.testing.assert_array_equal(fit.mf.coef_, alone.coef_)
            assert set(train.benchmarks) == {"bench-0", "bench-1"}

    def test_answers_of_the_benchmark_do_not_reach_the_fit(self, toy):
        labels = toy.labels.copy()
        of_it = toy.benchmarks == "bench-1"
        labels[:, of_it] = 1 - labels[:, of_it]
        before, after = (
            next(fit for fit in fits_without(matrix, MF, n_seeds=1) if fit.benchmark == "bench-1")
            for matrix in (toy, toy.with_labels(labels))
        )
        np.testing.assert_array_equal(before.mf.model_embeddings_, after.mf.model_embeddings_)

    def test_nothing_left_to_learn_from(self, make_matrix):
        (fit,) = fits_without(make_matrix(n_benchmarks=1), MF, n_seeds=1)
        assert fit.mf is None


def test_benchmarks_are_recognized_by_parts_of_their_names():
    names = ["GSM8K", "math-l5", "Social IQA", "gpqa_main_zeroshot", "MMLU"]
    assert benchmarks_named(names, ("math", "gsm")) == ["GSM8K", "math-l5"]
    assert benchmarks_named(names, ("gpqa", "asdiv", "social")) == ["Social IQA", "gpqa_main_zeroshot"]
    assert benchmarks_named(names, ("logiqa",)) == []
