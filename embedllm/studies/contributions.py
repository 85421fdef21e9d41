"""Contributions of benchmarks: how much worse the predictions for one benchmark become without another one in training.

A contribution is what is lost without the contributor: above 0, it helps. It is measured in three ways::

    test MSE                     the paper's: total mean squared error, on the test models of 100 splits, of the
                                 accuracies predicted on the testee, which is itself never in training
    accuracy                     points of the answers to the testee's test questions that are predicted correctly
    pairwise ranking accuracy    points of the pairs of models, of which one answers a question correctly and one
                                 incorrectly, that are predicted in this order

The last two, which are this companion's, are of predictors that the testee's own training questions stay in. Accuracy
also changes when only the level of a benchmark is predicted differently: how hard its questions are for all models. The
ranking compares models within a question, so that the level has no effect: this is what a router needs.

References
----------
EmbedLLM (arXiv 2410.02223), section 6.2 and Figure 7: for contributor i and testee j, C[i, j] = e_removed - e_added,
with e_added the error if all benchmarks but j are in training, and e_removed if i is not either.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.scores import THRESHOLD, pairs_in_order
from embedllm.protocol.bootstrap import MIN_MODELS, bootstrap_ratios, interval
from embedllm.protocol.leave_out import benchmark_accuracies, fits_without, model_vectors, plain_name, predict_in_splits
from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import fit_clone, split_runs
from embedllm.protocol.tally import units_of

MSE, ACCURACY, ORDER = MEASURES = ("test MSE", "accuracy", "pairwise ranking accuracy")
FEW_QUESTIONS = 100
"""The cells of a testee with fewer are marked."""


@dataclass(frozen=True)
class Contributions:
    """Contributions of benchmarks to each other, by one measure.

    Parameters
    ----------
    data : str
        Source of the matrix.
    measure : "test MSE", "accuracy" or "pairwise ranking accuracy"
    cells : Series
        The contributions, by (contributor, testee). NaN where it cannot be tested, as of the MSE to itself.
    resampled : DataFrame of shape (n_resamples, n_cells)
        The same over resampled models (of the MSE) or test questions, with the fits and regressions as they are.
    n_questions : Series
        Of each testee: all that its accuracies are of, or its test questions.
    """

    data: str
    measure: str
    cells: pd.Series
    resampled: pd.DataFrame
    n_questions: pd.Series

    @property
    def benchmarks(self) -> list[str]:
        """All benchmarks, in the order of the matrix."""
        return list(self.n_questions.index)

    def table(self) -> pd.DataFrame:
        """Return a row for each contributor and testee.

        Columns: `data`, `measure`, `contributor`, `testee`, `contribution`, `low` and `high` (95 % interval), `clear`
        (whether it excludes 0), `n_questions` of the testee and `few` (whether these are fewer than 100).
        """
        rows = []
        for (contributor, testee), value in self.cells.items():
            low, high = interval(self.resampled[contributor, testee])
            n = self.n_questions[testee]
            rows.append((contributor, testee, value, low, high, low > 0 or high < 0, n, n < FEW_QUESTIONS))
        columns = ["contributor", "testee", "contribution", "low", "high", "clear", "n_questions", "few"]
        return pd.DataFrame(rows, columns=columns).assign(data=self.data, measure=self.measure)

    def sums(self) -> pd.DataFrame:
        """Return the sums of the rows and columns of the matrix, without its diagonal.

        Returns
        -------
        DataFrame
            One row for each benchmark. Columns: `data`, `benchmark`, `gives` (the sum over the testees, of the row)
            and `gains` (over the contributors, of the column), each with `, low` and `, high` of its 95 % interval.
        """
        rows = []
        for benchmark in self.benchmarks:
            row: dict[str, object] = {"data": self.data, "benchmark": benchmark}
            for name, level in (("gives", 0), ("gains", 1)):
                total, resampled = self._total(benchmark, level)
                low, high = interval(resampled)
                row |= {name: total, f"{name}, low": low, f"{name}, high": high}
            rows.append(row)
        return pd.DataFrame(rows)

    def _total(self, benchmark: str, level: int) -> tuple[float, pd.Series]:
        cells = [cell for cell in self.cells.dropna().index if cell[level] == benchmark and cell[0] != cell[1]]
        return self.cells[cells].sum(min_count=1), self.resampled[cells].sum(axis=1, min_count=1)

    @property
    def largest_giver(self) -> str:
        """The benchmark that gives most to the others; empty if none can be tested."""
        totals = pd.Series({name: self._total(name, 0)[0] for name in self.benchmarks}).dropna()
        return str(totals.idxmax()) if len(totals) else ""

    def lead(self, benchmark: str) -> tuple[float, pd.Series]:
        """Return what a benchmark gives minus the most that any other one gives, and the same of the resamples."""
        totals, resampled = zip(*(self._total(name, 0) for name in self.benchmarks), strict=True)
        values, samples = pd.Series(totals, self.benchmarks), pd.concat(resampled, axis=1, keys=self.benchmarks)
        return (
            values[benchmark] - values.drop(benchmark).max(),
            samples[benchmark] - samples.drop(columns=benchmark).max(axis=1),
        )


def measure_contributions(
    matrix: CorrectnessMatrix, mf: MatrixFactorization, seed: int = 0, n_resamples: int = 2000
) -> dict[str, Contributions]:
    """Fit the factorization with all benchmarks, without each and without each pair, and compare the predictions.

    Without i and j is the same as without j and i: with ten benchmarks, 1 + 10 + 45 fits.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    mf : MatrixFactorization
        Clones of it are fitted.
    seed : int
        Of the division of the questions, where the source brings none, and of the splits of the models.
    n_resamples : int
        Of the models, and of the test questions.

    Returns
    -------
    dict of str to Contributions
        By measure.
    """
    ((_, split),) = split_runs(matrix, seed, 1)
    names = matrix.benchmark_names
    targets = _targets(matrix, benchmark_accuracies(split.train))
    errors: dict[tuple[str, frozenset[str]], pd.Series] = {}  # of each model, by testee and what is left out
    hits: dict[str, pd.DataFrame] = {}
    complete, cases = count_predictions(fit_clone(mf, split.train, seed, validation=split.val), split.test)
    left_out = [*((name,) for name in names), *itertools.combinations(names, 2)]
    for benchmarks, fitted in fits_without(split, mf, left_out, seed):
        if fitted is None:
            continue
        vectors = model_vectors(fitted)
        wanted = targets[list(benchmarks)]
        alike = (wanted.notna().all(axis=1) == wanted.notna().any(axis=1)).all()  # one regression for both
        for testees in [list(benchmarks)] if alike else [[name] for name in benchmarks]:
            target = wanted[testees].dropna()
            predicted = predict_in_splits(vectors.loc[target.index].to_numpy(), target.to_numpy(), seed)
            squares = (predicted - target.to_numpy()) ** 2  # (n_splits, n_models, n_testees), NaN if not tested
            if (n_tested := np.isfinite(squares).sum(axis=1, keepdims=True)).all():
                total = pd.DataFrame(np.nansum(squares / n_tested, axis=0), target.index, testees)
                errors |= {(name, frozenset(benchmarks)): total[name].reindex(targets.index) for name in testees}
        if len(benchmarks) == 1:
            hits[benchmarks[0]] = count_predictions(fitted, split.test)[0]
    nothing = pd.Series(np.nan, targets.index)
    losses = pd.DataFrame(
        {
            (i, j): errors.get((j, frozenset({i, j})), nothing) - errors.get((j, frozenset({j})), nothing)
            if i != j
            else nothing
            for i, j in itertools.product(names, names)
        }
    )
    ours = {}
    for measure in (ACCURACY, ORDER):
        tested = {name: split.test.benchmarks == name for name in names}
        lost = {name: complete[measure] - hit[measure] for name, hit in hits.items()}
        cells = itertools.product(names, names)
        sums = {(i, j): lost[i].where(tested[j], 0) if i in lost else 0 * cases[measure] for i, j in cells}
        counts = {(i, j): cases[measure].where(tested[j] & (i in lost), 0) for i, j in sums}
        ours[measure] = pd.DataFrame(sums), pd.DataFrame(counts)
    n_questions = matrix.questions["benchmark"].value_counts().reindex(names)
    n_test = split.test.questions["benchmark"].value_counts().reindex(names, fill_value=0)
    found = {MSE: _of_models(losses, matrix.source, n_questions, n_resamples)}
    for measure, (sums, counts) in ours.items():
        total, units = counts.sum(), units_of(split.test)
        resampled = 100 * bootstrap_ratios(sums.set_axis(units), counts.set_axis(units), n_resamples)
        found[measure] = Contributions(
            matrix.source, measure, 100 * sums.sum() / total.where(total > 0), resampled, n_test
        )
    return found


def _targets(matrix: CorrectnessMatrix, seen: pd.DataFrame) -> pd.DataFrame:
    """Accuracies by testee, of the models that have training answers elsewhere, whichever contributor is left out."""
    actual = benchmark_accuracies(matrix).sort_index()  # so that the splits do not depend on the order of the matrix
    for testee in actual:
        elsewhere = seen.drop(columns=testee, errors="ignore").notna().sum(axis=1).reindex(actual.index)
        actual[testee] = actual[testee].where(elsewhere >= 2)
    return actual


def _of_models(losses: pd.DataFrame, data: str, n_questions: pd.Series, n_resamples: int) -> Contributions:
    """Contributions by what each model adds to the loss, (n_models, n_cells): their sums, and those of resamples."""
    n_models = losses.notna().sum()
    sums, counts = losses.fillna(0) * n_models, losses.notna().astype(int)
    resampled = bootstrap_ratios(sums, counts, n_resamples, min_units=MIN_MODELS)
    return Contributions(data, MSE, losses.sum(min_count=1), resampled, n_questions)


def count_predictions(predictor: CorrectnessPredictor, test: CorrectnessMatrix) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count, for each question and measure, the correct predictions and all that are scored.

    A pair of models with equal predictions counts as half correct.

    Returns
    -------
    hits, cases : DataFrame of shape (n_questions, 2)
        Columns `accuracy` (answers) and `pairwise ranking accuracy` (pairs of a correct and an incorrect answer).
    """
    probability = predictor.predict_matrix(test)
    hits = ((probability > THRESHOLD) == (test.labels == CORRECT)) & test.observed
    in_order, pairs = pairs_in_order(probability, test, axis=0)
    index = test.questions.index
    return (
        pd.DataFrame({ACCURACY: hits.sum(axis=0), ORDER: in_order}, index=index),
        pd.DataFrame({ACCURACY: test.observed.sum(axis=0), ORDER: pairs}, index=index),
    )


_PUBLISHED = {
    "contribution_gsm8k_mathqa": ("GSM8K", "MathQA"),
    "contribution_mathqa_asdiv": ("MathQA", "ASDiv"),
    "contribution_asdiv_mathqa": ("ASDiv", "MathQA"),
}
"""Contributor and testee of the values that the paper reports, by key of the published value."""


def published_cells(contributions: Contributions) -> pd.DataFrame:
    """Return the contributions that the paper reports beside ours, of the benchmarks that the data have.

    Indexed by `contributor` and `testee`. Columns: `data`, `published`, and ours: `contribution`, `low`, `high`.
    """
    published, names = load_published()["value"], {plain_name(name): name for name in contributions.benchmarks}
    table = contributions.table().set_index(["contributor", "testee"])
    cells = {tuple(names.get(name.lower()) for name in pair): published[key] for key, pair in _PUBLISHED.items()}
    known = [cell for cell in cells if cell in table.index]
    rows = table.loc[known].assign(published=[cells[cell] for cell in known])
    return rows[["data", "published", "contribution", "low", "high"]]


def contribution_values(contributions: dict[str, Contributions]) -> list[ReportedValue]:
    """Return the values that the page reports; undefined where the data have no benchmark of the name.

    Those of the test MSE answer the paper's claims, each of which holds where its value is positive: MMLU gives most,
    the others together hurt GPQA, and three benchmarks of mathematics contribute to each other. Beside them stands the
    lead of the benchmark that gives most here. Of the other measures, there is what a benchmark loses without its own
    training questions, and without those of another one, in the mean.
    """
    paper = contributions[MSE]
    names = {plain_name(name): name for name in paper.benchmarks}

    def lost(testee: str) -> tuple[float, pd.Series]:
        gained, resampled = paper._total(testee, 1)
        return -gained, -resampled

    def cell(*pair: str) -> tuple[float, pd.Series]:
        return paper.cells[pair], paper.resampled[pair]

    wanted: list[tuple[str, str, Callable[..., tuple[float, pd.Series]], tuple[str, ...]]] = [
        ("mmlu_lead", "MMLU gives, minus the most that another one gives", paper.lead, ("MMLU",)),
        ("gpqa_hurt", "the others hurt GPQA (minus the sum of its column)", lost, ("GPQA",)),
        *((key, f"contribution of {pair[0]} to {pair[1]}", cell, pair) for key, pair in _PUBLISHED.items()),
    ]
    reported = []
    for key, what, find, needed in wanted:
        absent = [name for name in needed if name.lower() not in names]
        value, samples = (np.nan, pd.Series([np.nan])) if absent else find(*(names[name.lower()] for name in needed))
        reason = f"it has no benchmark named {' or '.join(absent)}" if absent else "too few models have answers"
        reported.append(ReportedValue(key, f"{MSE}: {what}", [value], "", interval(samples), reason=reason))
    giver, what = paper.largest_giver, "gives most here, minus the most that another one gives"
    lead, samples = paper.lead(giver) if giver else (np.nan, pd.Series([np.nan]))
    reported.append(
        ReportedValue("giver_lead", f"{MSE}: {giver} {what}", [lead], "", interval(samples), reason="too few models")
    )
    for measure, suffix in ((ACCURACY, ""), (ORDER, "_order")):
        cells, resampled = contributions[measure].cells, contributions[measure].resampled
        own = cells.index.get_level_values(0) == cells.index.get_level_values(1)
        for key, what, part in (
            ("own_loss", "loss on a benchmark without its own questions", own),
            ("others_loss", "loss on a benchmark without another", ~own),
        ):
            defined = cells[part].dropna()
            samples = resampled[defined.index].mean(axis=1, skipna=False)  # no interval without one of each
            reported.append(
                ReportedValue(key + suffix, f"{measure}: {what}", [defined.mean()], "points", interval(samples))
            )
    return reported
