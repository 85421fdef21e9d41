"""Contributions of benchmarks: what becomes of the forecasts on one benchmark when another is left out of training?

The change is the forecast without minus the forecast with the benchmark, in points: a negative change means that the
benchmark contributes. It is measured in two ways::

    accuracy           answers that are forecast rightly, as in the paper pairwise ranking accuracy    pairs of models,
    of which one answers a question rightly and one wrongly, that are told apart

The first also moves when only the level of a benchmark, how hard its questions are for everyone, is forecast otherwise.
The second compares models within a question, where the level drops out: it is what a router lives on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from embedllm.matrix import CORRECT, INCORRECT, CorrectnessMatrix
from embedllm.predictors.base import THRESHOLD
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.bootstrap import bootstrap_ratios, interval
from embedllm.protocol.leave_out import benchmarks_named, fits_without
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Settings

ACCURACY, ORDER = MEASURES = ("accuracy", "pairwise ranking accuracy")

# A benchmark is one of mathematics if its name, in small letters and without punctuation, holds one of these.
MATHEMATICS = ("math", "gsm", "asdiv", "svamp", "arithmetic")

MIN_QUESTIONS = 10  # the spread of fewer says too little of that of all

Cell = tuple[str, str, str]
"""Measure, benchmark left out, benchmark forecast."""


@dataclass(frozen=True)
class Contributions:
    """Changes of the forecasts on each benchmark when each is left out of training.

    Parameters
    ----------
    data : str
        Source of the matrix.
    benchmarks : DataFrame indexed by benchmark
        Columns `accuracy` (of all models), `n_questions` and `n_test` (questions that any repetition tests on).
    runs : DataFrame of shape (n_seeds, n_cells)
        Change in points in each repetition; columns measure, benchmark left out, benchmark forecast. NaN where nothing
        is tested, or nothing is left to learn from.
    resampled : DataFrame of shape (n_resamples, n_cells)
        The same over resampled test questions, all repetitions together.
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
            One row for each benchmark left out and each benchmark forecast. Columns: `data`, `measure`, `left_out`,
            `benchmark`, `change` (points, mean over the repetitions), `low` and `high` (95 % interval, NaN with fewer
            than ten test questions), `clear` (whether the interval excludes 0), `n_test` (questions).
        """
        rows = []
        for (left_out, benchmark), change in self.runs[measure].mean().items():
            n_test = self.benchmarks.at[benchmark, "n_test"]
            low, high = interval(self.resampled[measure, left_out, benchmark])
            if n_test < MIN_QUESTIONS:
                low = high = np.nan
            rows.append((self.data, measure, left_out, benchmark, change, low, high, low > 0 or high < 0, n_test))
        columns = ["data", "measure", "left_out", "benchmark", "change", "low", "high", "clear", "n_test"]
        return pd.DataFrame(rows, columns=columns)

    def ranking(self) -> pd.DataFrame:
        """Return the mean change on the other benchmarks, the benchmark that contributes most to their accuracy first.

        Returns
        -------
        DataFrame indexed by the benchmark left out
            Columns: `data`, `n_questions`, its `own accuracy` (of all models, in percent), and for each measure the
            change in points and its 95 % interval, `low` and `high`.
        """
        rows = {}
        for left_out in self.benchmarks.index:
            row = {
                "data": self.data,
                "n_questions": self.benchmarks.at[left_out, "n_questions"],
                "own accuracy": 100 * self.benchmarks.at[left_out, "accuracy"],
            }
            for measure in MEASURES:
                cells = _pairs([left_out], self.benchmarks.index)
                low, high = interval(self.resampled[measure][cells].mean(axis=1))
                change = self.runs[measure][cells].mean(axis=1).mean()
                row |= {measure: change, f"{measure}, low": low, f"{measure}, high": high}
            rows[left_out] = row
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("left out").sort_values(ACCURACY)


def measure_contributions(
    matrix: CorrectnessMatrix,
    settings: Settings,
    seed: int = 0,
    n_seeds: int = 3,
    n_resamples: int = 2000,
) -> Contributions:
    """Fit the factorization with all benchmarks and without each, and compare the forecasts on the test questions.

    The intervals are over test questions and hold the fits as they are.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    settings : Settings
    seed, n_seeds : int
        Of the repetitions.
    n_resamples : int
        Resamples of the test questions.
    """
    names = matrix.benchmark_names
    sums, counts, runs = [], [], {}
    for run, fits in groupby(fits_without(matrix, settings, seed, n_seeds), key=lambda fit: fit.seed):
        complete: tuple[pd.DataFrame, pd.DataFrame] | None = None
        changes: dict[Cell, np.ndarray] = {}
        possible: dict[Cell, np.ndarray] = {}
        for fit in fits:
            train, _, test = fit.split
            if complete is None:
                complete = count_forecasts(settings.mf(run).fit(train), test)
            hits, cases = complete
            without = hits if fit.mf is None else count_forecasts(fit.mf, test)[0]
            for measure in MEASURES:
                for benchmark in names:
                    cell, tested = (measure, fit.benchmark, benchmark), test.benchmarks == benchmark
                    changes[cell] = np.where(tested, without[measure] - hits[measure], 0)
                    possible[cell] = np.where(tested & (fit.mf is not None), cases[measure], 0)
        sums.append(pd.DataFrame(changes, index=test.questions.index))
        counts.append(pd.DataFrame(possible, index=test.questions.index))
        total = counts[-1].sum()
        runs[run] = 100 * sums[-1].sum() / total.where(total > 0)
    order = pd.MultiIndex.from_product([MEASURES, names, names], names=["measure", "left_out", "benchmark"])
    n_test = matrix.questions["benchmark"][pd.concat(counts).index.unique()].value_counts()
    benchmarks = matrix.accuracy(by="benchmark")[["accuracy"]].assign(
        n_questions=matrix.questions["benchmark"].value_counts(), n_test=n_test
    )
    return Contributions(
        matrix.source,
        benchmarks.fillna({"n_test": 0}).astype({"n_test": int}),
        pd.DataFrame(runs).T.rename_axis("seed")[order],
        100 * bootstrap_ratios(pd.concat(sums)[order], pd.concat(counts)[order], n_resamples),
    )


def count_forecasts(mf: MatrixFactorization, test: CorrectnessMatrix) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count, for each question and measure, the forecasts that are right and those that could be.

    A pair of models that are forecast alike is half told apart.

    Returns
    -------
    hits, cases : DataFrame of shape (n_questions, 2)
        Columns `accuracy` (answers) and `pairwise ranking accuracy` (pairs of a right and a wrong answer).
    """
    probability, right, wrong = mf.predict_matrix(test), test.labels == CORRECT, test.labels == INCORRECT
    hits = (right & (probability > THRESHOLD)) | (wrong & (probability <= THRESHOLD))
    # Ranks of the observed answers to a question: what was not observed comes last. Then, after Mann and Whitney, the
    # ranks of the right answers add up to the pairs told apart and to the ranks that they would have by themselves.
    ranks = rankdata(np.where(test.observed, probability, np.inf), axis=0)
    n_right, n_wrong = right.sum(axis=0), wrong.sum(axis=0)
    told_apart = (ranks * right).sum(axis=0) - n_right * (n_right + 1) / 2
    index = test.questions.index
    return (
        pd.DataFrame({ACCURACY: hits.sum(axis=0), ORDER: told_apart}, index=index),
        pd.DataFrame({ACCURACY: test.observed.sum(axis=0), ORDER: n_right * n_wrong}, index=index),
    )


def contribution_values(contributions: Contributions) -> list[ReportedValue]:
    """Return the numbers that the page quotes, each for the accuracy and, with the suffix `_order`, for the order.

    What a benchmark contributes is the *loss* without it, minus the change. Each claim holds where its number is
    positive:

    - MMLU contributes most: the loss on the others without it, minus the largest of those without another benchmark.
      Beside it its rank, and the loss without the benchmark of the most questions, whichever it is.
    - The benchmarks of mathematics contribute to each other: the loss on one without another, minus the loss on those
      that are not of mathematics. They are known by their names, `MATHEMATICS`.
    - Easy benchmarks hurt GPQA: the gain on the benchmark of the lowest accuracy without one whose accuracy is above
      the median.
    """
    names, accuracy = list(contributions.benchmarks.index), contributions.benchmarks["accuracy"]
    mmlu = [name for name in names if "".join(filter(str.isalnum, name.lower())) == "mmlu"]
    others = [name for name in names if name not in mmlu]
    largest, hardest = contributions.benchmarks["n_questions"].idxmax(), accuracy.idxmin()
    easy = [name for name in names if accuracy[name] > accuracy.median()]
    mathematics = benchmarks_named(names, MATHEMATICS)
    rest = [name for name in names if name not in mathematics]
    reported_values = []
    for measure, suffix in ((ACCURACY, ""), (ORDER, "_order")):
        found = []
        for frame in (contributions.runs, contributions.resampled):  # each number by seed, and by resample
            changes = frame[measure]
            on_others = pd.DataFrame({name: changes[_pairs([name], names)].mean(axis=1) for name in names})
            on_maths = changes[_pairs(mathematics, mathematics)].mean(axis=1)
            found.append(
                {
                    "own_loss": -changes[[(name, name) for name in names]].mean(axis=1),
                    "largest_loss": -on_others[largest],
                    "mmlu_lead": on_others[others].min(axis=1) - on_others[mmlu].mean(axis=1),
                    "maths_loss": -on_maths,
                    "maths_lead": changes[_pairs(mathematics, rest)].mean(axis=1) - on_maths,
                    "easy_gain": changes[_pairs(easy, [hardest])].mean(axis=1),
                    "mmlu_rank": on_others.rank(axis=1)[mmlu].mean(axis=1),
                }
            )
        runs, resampled = found
        for key, what in _WORDS.items():
            unit, low_high = ("", None) if key == "mmlu_rank" else ("points", interval(resampled[key]))
            reported_values.append(
                ReportedValue(key + suffix, f"{measure}: {what}", runs[key].tolist(), unit, low_high)
            )
    return reported_values


_WORDS = {
    "own_loss": "loss on a benchmark without itself",
    "largest_loss": "loss on the others without the largest benchmark",
    "mmlu_rank": "rank of MMLU by the loss on the others without it",
    "mmlu_lead": "loss on the others without MMLU, minus the largest without another benchmark",
    "maths_loss": "loss on a maths benchmark without another",
    "maths_lead": "loss on other maths benchmarks without one of them, minus the loss on the rest",
    "easy_gain": "gain on the hardest benchmark without an easy one",
}


def _pairs(left_out: Iterable[str], forecast: Sequence[str]) -> list[tuple[str, str]]:
    """Each benchmark left out with each other one that is forecast."""
    return [(a, b) for a in left_out for b in forecast if a != b]
