"""Contributions of benchmarks: how the predictions for one benchmark change when another is left out of training.

The change is the score without minus the score with the benchmark, in points: a negative change means that the
benchmark contributes. It is measured in two ways::

    accuracy                     share of the answers that are predicted correctly
    pairwise ranking accuracy    share of the pairs of models, of which one answers a question correctly and one
                                 incorrectly, that are predicted in this order

The first also changes when only the level of a benchmark is predicted differently: how hard its questions are for all
models. The second compares models within a question, so that the level has no effect: this is what a router needs.

References
----------
EmbedLLM (arXiv 2410.02223), section 6.2 and Figure 7. The paper measures contributions by the mean squared error of
predicted benchmark accuracies; both measures here are this companion's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from embedllm.matrix import CORRECT, INCORRECT, CorrectnessMatrix
from embedllm.predictors.base import THRESHOLD, CorrectnessPredictor
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.bootstrap import MIN_QUESTIONS, bootstrap_ratios, interval
from embedllm.protocol.leave_out import benchmarks_named, fits_without
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import fit_clone

ACCURACY, ORDER = MEASURES = ("accuracy", "pairwise ranking accuracy")

# A benchmark is one of mathematics if its name, in lower case and without punctuation, contains one of these.
MATHEMATICS = ("math", "gsm", "asdiv", "svamp", "arithmetic")


Cell = tuple[str, str, str]
"""Measure, benchmark left out, benchmark predicted."""


@dataclass(frozen=True)
class Contributions:
    """Changes of the predictions for each benchmark when each is left out of training.

    Parameters
    ----------
    data : str
        Source of the matrix.
    benchmarks : DataFrame indexed by benchmark
        Columns `accuracy` (of all models), `n_questions` and `n_test` (test questions of any run).
    runs : DataFrame of shape (n_seeds, n_cells)
        Change in points in each run; columns measure, benchmark left out, benchmark predicted. NaN where nothing is
        tested, or nothing is left to learn from.
    resampled : DataFrame of shape (n_resamples, n_cells)
        The same over resampled test questions, all runs together.
    """

    data: str
    benchmarks: pd.DataFrame
    runs: pd.DataFrame
    resampled: pd.DataFrame

    def table(self, measure: str) -> pd.DataFrame:
        """Return the changes of a measure.

        Parameters
        ----------
        measure : "accuracy" or "pairwise ranking accuracy"

        Returns
        -------
        DataFrame
            One row for each benchmark left out and each benchmark predicted. Columns: `data`, `measure`, `left_out`,
            `benchmark`, `change` (points, mean over the runs), `low` and `high` (95 % interval, NaN with fewer
            than 30 test questions), `clear` (whether the interval excludes 0), `n_test` (questions).
        """
        rows = []
        for (left_out, benchmark), change in self.runs[measure].mean().items():
            n_test = self.benchmarks.at[benchmark, "n_test"]
            enough = n_test >= MIN_QUESTIONS
            low, high = interval(self.resampled[measure, left_out, benchmark]) if enough else (np.nan, np.nan)
            rows.append((self.data, measure, left_out, benchmark, change, low, high, low > 0 or high < 0, n_test))
        columns = ["data", "measure", "left_out", "benchmark", "change", "low", "high", "clear", "n_test"]
        return pd.DataFrame(rows, columns=columns)

    def ranking(self) -> pd.DataFrame:
        """Return the mean change on the other benchmarks, the largest contribution to their accuracy first.

        Returns
        -------
        DataFrame indexed by the benchmark left out
            Columns: `data`, `n_questions`, its `own accuracy` (of all models, in percent), and for each measure the
            change in points and its 95 % interval, `low` and `high`.
        """
        table = self.benchmarks[["n_questions"]].assign(**{"own accuracy": 100 * self.benchmarks["accuracy"]})
        table.insert(0, "data", self.data)
        for measure in MEASURES:
            for left_out in table.index:
                cells = _pairs([left_out], table.index)
                change = self.runs[measure][cells].mean(axis=1).mean()
                ends = interval(self.resampled[measure][cells].mean(axis=1))
                table.loc[left_out, [measure, f"{measure}, low", f"{measure}, high"]] = change, *ends
        return table.rename_axis("left out").sort_values(ACCURACY)


def measure_contributions(
    matrix: CorrectnessMatrix, mf: MatrixFactorization, seed: int = 0, n_seeds: int = 3, n_resamples: int = 2000
) -> Contributions:
    """Fit the factorization with all benchmarks and without each, and compare the predictions for the test questions.

    The intervals are over test questions, for the fits as they are.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    mf : MatrixFactorization
        Clones of it are fitted.
    seed, n_seeds : int
    n_resamples : int
        Resamples of the test questions.
    """
    names = matrix.benchmark_names
    sums, counts, runs = [], [], {}
    for run, fits in itertools.groupby(fits_without(matrix, mf, seed, n_seeds), key=lambda fit: fit.seed):
        complete: tuple[pd.DataFrame, pd.DataFrame] | None = None
        changes: dict[Cell, pd.Series] = {}
        possible: dict[Cell, pd.Series] = {}
        for fit in fits:
            train, val, test = fit.split
            complete = complete or count_predictions(fit_clone(mf, train, run, validation=val), test)
            hits, cases = complete
            without = hits if fit.mf is None else count_predictions(fit.mf, test)[0]
            for measure, benchmark in itertools.product(MEASURES, names):
                cell, tested = (measure, fit.benchmark, benchmark), test.benchmarks == benchmark
                changes[cell] = (without - hits)[measure].where(tested, 0)
                possible[cell] = cases[measure].where(tested & (fit.mf is not None), 0)
        sums.append(pd.DataFrame(changes))
        counts.append(pd.DataFrame(possible))
        total = counts[-1].sum()
        runs[run] = 100 * sums[-1].sum() / total.where(total > 0)
    order = pd.MultiIndex.from_product([MEASURES, names, names], names=["measure", "left_out", "benchmark"])
    n_test = matrix.questions["benchmark"][pd.concat(counts).index.unique()].value_counts()
    benchmarks = matrix.accuracy(by="benchmark")[["accuracy"]]
    benchmarks["n_questions"] = matrix.questions["benchmark"].value_counts()
    benchmarks["n_test"] = n_test.reindex(benchmarks.index, fill_value=0)
    resampled = 100 * bootstrap_ratios(pd.concat(sums)[order], pd.concat(counts)[order], n_resamples, min_units=1)
    return Contributions(matrix.source, benchmarks, pd.DataFrame(runs).T.rename_axis("seed")[order], resampled)


def count_predictions(predictor: CorrectnessPredictor, test: CorrectnessMatrix) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count, for each question and measure, the correct predictions and all that are scored.

    A pair of models with equal predictions counts as half correct.

    Returns
    -------
    hits, cases : DataFrame of shape (n_questions, 2)
        Columns `accuracy` (answers) and `pairwise ranking accuracy` (pairs of a correct and an incorrect answer).
    """
    probability = predictor.predict_matrix(test)
    correct, incorrect = test.labels == CORRECT, test.labels == INCORRECT
    hits = (correct & (probability > THRESHOLD)) | (incorrect & (probability <= THRESHOLD))
    # Ranks among the observed answers to a question: the unobserved come last. The sum of the ranks of the correct ones
    # is the number of pairs in order (the Mann-Whitney U statistic) plus their own n (n + 1) / 2.
    ranks = rankdata(np.where(test.observed, probability, np.inf), axis=0)
    n_correct, n_incorrect = correct.sum(axis=0), incorrect.sum(axis=0)
    in_order = (ranks * correct).sum(axis=0) - n_correct * (n_correct + 1) / 2
    index = test.questions.index
    return (
        pd.DataFrame({ACCURACY: hits.sum(axis=0), ORDER: in_order}, index=index),
        pd.DataFrame({ACCURACY: test.observed.sum(axis=0), ORDER: n_correct * n_incorrect}, index=index),
    )


def contribution_values(contributions: Contributions) -> list[ReportedValue]:
    """Return the values that the page reports, each for the accuracy and, with the suffix `_order`, for the order.

    What a benchmark contributes is the *loss* without it: the negative change. Each claim holds where its value is
    positive:

    - MMLU contributes most: the loss on the others without it, minus the largest of those without another benchmark.
      Also reported: its rank, and the loss without the benchmark that has the most questions.
    - The benchmarks of mathematics contribute to each other: the loss on one without another, minus the loss on those
      that are not of mathematics. They are recognized by their names, `MATHEMATICS`.
    - Easy benchmarks hurt GPQA: the gain on the benchmark of the lowest accuracy without one whose accuracy is above
      the median.
    """
    values = []
    for measure, suffix in ((ACCURACY, ""), (ORDER, "_order")):
        runs, resampled = (
            _claims(frame[measure], contributions.benchmarks) for frame in (contributions.runs, contributions.resampled)
        )
        for key, what in _WORDS.items():
            unit, low_high = ("", None) if key == "mmlu_rank" else ("points", interval(resampled[key]))
            values.append(ReportedValue(key + suffix, f"{measure}: {what}", runs[key], unit, low_high))
    return values


def _claims(changes: pd.DataFrame, benchmarks: pd.DataFrame) -> dict[str, pd.Series]:
    """Values of the claims for each row of changes, (n_rows, n_pairs of benchmarks)."""
    names, accuracy = list(benchmarks.index), benchmarks["accuracy"]
    mmlu = [name for name in names if "".join(filter(str.isalnum, name.lower())) == "mmlu"]
    easy = [name for name in names if accuracy[name] > accuracy.median()]
    mathematics = benchmarks_named(names, MATHEMATICS)
    rest = [name for name in names if name not in mathematics]
    on_others = pd.DataFrame({name: changes[_pairs([name], names)].mean(axis=1) for name in names})
    on_maths = changes[_pairs(mathematics, mathematics)].mean(axis=1)
    return {
        "own_loss": -changes[[(name, name) for name in names]].mean(axis=1),
        "largest_loss": -on_others[benchmarks["n_questions"].idxmax()],
        "mmlu_lead": on_others.drop(columns=mmlu).min(axis=1) - on_others[mmlu].mean(axis=1),
        "maths_loss": -on_maths,
        "maths_lead": changes[_pairs(mathematics, rest)].mean(axis=1) - on_maths,
        "easy_gain": changes[_pairs(easy, [accuracy.idxmin()])].mean(axis=1),
        "mmlu_rank": on_others.rank(axis=1)[mmlu].mean(axis=1),
    }


_WORDS = {
    "own_loss": "loss on a benchmark without itself",
    "largest_loss": "loss on the others without the largest benchmark",
    "mmlu_rank": "rank of MMLU by the loss on the others without it",
    "mmlu_lead": "loss on the others without MMLU, minus the largest without another benchmark",
    "maths_loss": "loss on a maths benchmark without another",
    "maths_lead": "loss on other maths benchmarks without one of them, minus the loss on the rest",
    "easy_gain": "gain on the hardest benchmark without an easy one",
}


def _pairs(left_out: Iterable[str], predicted: Sequence[str]) -> list[tuple[str, str]]:
    """Each benchmark left out with each other one that is predicted."""
    return [(a, b) for a in left_out for b in predicted if a != b]
