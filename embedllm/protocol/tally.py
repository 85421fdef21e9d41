"""Accuracies as sums and counts of each question, so that runs can be averaged and questions resampled.

A mean over answers is a sum over questions divided by a count over questions. From these follow, for forecasts and for
routes alike, the mean over the runs, its standard error and the paired intervals of :mod:`embedllm.protocol.bootstrap`.
Each run has the same weight, and a question stays one unit with all its answers in all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from embedllm._support.division import question_groups
from embedllm.matrix import OVERALL, CorrectnessMatrix
from embedllm.protocol.bootstrap import bootstrap_ratios, interval


@dataclass(frozen=True)
class Tally:
    """Sums and counts of each question, in one run or several.

    Parameters
    ----------
    rows : DataFrame
        A row for each run and question, and for each model too if these are the groups. Columns: `seed`, `group` (its
        benchmark or model), `question` (id), `unit` (the first question of the same text or item) and `count` (how many
        entries are scored there).
    sums : DataFrame of shape (n_rows, n_metrics * n_methods)
        What the row adds to the sum of each metric; rows as in `rows`, columns (metric, method), the metric `accuracy`
        first.
    data : str
        Source of the questions.
    method : str
        What the methods are, such as "predictor" or "router".
    by : "benchmark" or "model"
        What the groups are.
    """

    rows: pd.DataFrame
    sums: pd.DataFrame
    data: str
    method: str
    by: str

    @classmethod
    def of(
        cls,
        matrix: CorrectnessMatrix,
        seed: int,
        sums: Mapping[Any, np.ndarray],
        count: np.ndarray | int,
        method: str,
        by: str = "benchmark",
    ) -> Tally:
        """Tally the questions of a matrix in one run.

        Parameters
        ----------
        matrix : CorrectnessMatrix
        seed : int
            Of the run.
        sums : mapping of tuple to ndarray of shape (n_rows,)
            By (metric, method). A row is a question or, by model, a model and question, all questions of a model
            together.
        count : ndarray of shape (n_rows,), or int
        method, by : str
            See `Tally`.
        """
        group = {"benchmark": matrix.benchmarks, "model": np.repeat(matrix.model_names, matrix.n_questions)}[by]
        question, unit = (np.resize(each, len(group)) for each in (matrix.question_ids, units_of(matrix)))
        rows = {"seed": seed, "group": group, "question": question, "unit": unit, "count": count}
        return cls(pd.DataFrame(rows), pd.DataFrame(sums), matrix.source, method, by)

    @classmethod
    def join(cls, tallies: Iterable[Tally]) -> Tally:
        """Put runs of one experiment together."""
        parts = list(tallies)
        frames = {name: [getattr(each, name) for each in parts] for name in ("rows", "sums")}
        return replace(parts[0], **{name: pd.concat(each, ignore_index=True) for name, each in frames.items()})

    @property
    def groups(self) -> list[str]:
        """`overall`, then the others in the order in which they first occur."""
        return [OVERALL, *pd.unique(self.rows["group"])]

    def table(self) -> pd.DataFrame:
        """Return the mean of each metric over the runs.

        Returns
        -------
        DataFrame
            One row for each method and each group, `overall` first. Columns: `data`, the method, the grouping,
            `accuracy` with its `stderr`, the other metrics, `count`, `n_questions`. The standard error is over
            units, those of all runs; NaN below two. A run with nothing to score in a group is left out of its row:
            metrics are means, and `count` and `n_questions` rounded means, over the others. Without any, metrics are
            NaN and counts 0.
        """
        methods, (_, *others) = self.sums["accuracy"].columns, self.sums.columns.unique(level=0)
        parts = {}
        for group in self.groups:
            sums, counts = self._questions(group)
            n, n_runs = len(counts), counts.sum()
            means = sums.sum() / n_runs
            deviations = sums["accuracy"] - np.outer(counts, means["accuracy"])
            errors = np.sqrt(n / max(n - 1, 1) * (deviations**2).sum()) / n_runs
            each = self._scored(group).groupby("seed").agg(count=("count", "sum"), n_questions=("question", "nunique"))
            parts[group] = means, errors if n > 1 else errors * np.nan, each.mean().fillna(0).round().astype(int)
        rows = []
        for method, (group, (means, errors, sizes)) in itertools.product(methods, parts.items()):
            metrics = [means[metric, method] for metric in others]
            rows.append((self.data, method, group, means["accuracy", method], errors[method], *metrics, *sizes))
        columns = ["data", self.method, self.by, "accuracy", "stderr", *others, "count", "n_questions"]
        return pd.DataFrame(rows, columns=columns)

    def by_seed(self, group: str = OVERALL) -> pd.DataFrame:
        """Return the metrics of each run, (n_seeds, n_metrics * n_methods), as in `sums`; NaN where none is scored."""
        rows = self.rows if group == OVERALL else self.rows[self.rows["group"] == group]
        counts = rows["count"].groupby(rows["seed"]).sum()
        means = self.sums.loc[rows.index].groupby(rows["seed"]).sum().div(counts.where(counts > 0), axis=0)
        return means.reindex(self.rows["seed"].unique())

    def resampled(self, group: str = OVERALL, metric: str = "accuracy") -> pd.DataFrame:
        """Return the mean of a metric of each method over resampled questions, (n_resamples, n_methods)."""
        sums, counts = self._questions(group)
        return bootstrap_ratios(sums[metric], pd.DataFrame({method: counts for method in sums[metric]}))

    def differences(self, reference: str) -> pd.DataFrame:
        """Return each other method's accuracy minus that of the reference, with paired 95 % intervals over questions.

        Returns
        -------
        DataFrame
            One row for each method and each group, `overall` first. Columns: `data`, the method, the grouping,
            `minus` (the reference), `points` (percentage points), `low`, `high`, `n_questions` as in `table`. NaN
            without a question; no interval where :mod:`embedllm.protocol.bootstrap` gives none.
        """
        table = self.table()
        accuracy = 100 * table.pivot(index=self.by, columns=self.method, values="accuracy")
        samples = {group: 100 * self.resampled(group) for group in self.groups}
        rows = []
        for _, row in table[table[self.method] != reference].iterrows():
            method, group = row[self.method], row[self.by]
            low, high = interval(samples[group][method] - samples[group][reference])
            points = accuracy.loc[group, method] - accuracy.loc[group, reference]
            rows.append((self.data, method, group, reference, points, low, high, row["n_questions"]))
        columns = ["data", self.method, self.by, "minus", "points", "low", "high", "n_questions"]
        return pd.DataFrame(rows, columns=columns)

    def _scored(self, group: str) -> pd.DataFrame:
        rows = self.rows[self.rows["count"] > 0]
        return rows if group == OVERALL else rows[rows["group"] == group]

    def _questions(self, group: str) -> tuple[pd.DataFrame, pd.Series]:
        """Sums, (n_units, n_metrics * n_methods), and counts, weighted so that those of a run sum to 1.

        The ratio of their totals is then the mean over the runs.
        """
        rows = self._scored(group)
        weight = 1 / rows.groupby("seed")["count"].transform("sum")
        sums = self.sums.loc[rows.index].mul(weight, axis=0)
        return sums.groupby(rows["unit"]).sum(), (weight * rows["count"]).groupby(rows["unit"]).sum()


def units_of(matrix: CorrectnessMatrix) -> np.ndarray:
    """Return, for each question, the first one of the same text or item, (n_questions,): what a resample draws."""
    groups = question_groups(matrix.questions)
    return matrix.question_ids[np.unique(groups, return_index=True)[1]][groups]


def difference_table(differences: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return differences as text, such as "+1.50 (+1.00 to +2.00)" or "+1.50 (n = 12)", rows benchmarks.

    Parameters
    ----------
    differences : DataFrame
        From `Tally.differences`, by benchmark.
    method : "predictor" or "router"

    Returns
    -------
    DataFrame
        Indexed by `data` and `benchmark`, in the order of the frame; columns such as "MF minus KNN".
    """
    cells = differences[["points", "low", "high", "n_questions"]].apply(_signed, axis=1)
    named = differences[method] + " minus " + differences["minus"]
    return _wide(differences.assign(cell=cells, named=named), "named", "cell").rename_axis(columns=None)


def percent_table(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return accuracies in percent, rows benchmarks, columns methods.

    Parameters
    ----------
    table : DataFrame
        From `evaluate_forecasts` or `evaluate_routers`.
    method : "predictor" or "router"

    Returns
    -------
    DataFrame
        Indexed by `data` and `benchmark`; rows and columns in the order of the frame, rounded to a tenth of a point.
    """
    return (100 * _wide(table, method, "accuracy")).round(1)


def _wide(table: pd.DataFrame, columns: str, values: str) -> pd.DataFrame:
    """Rows are the benchmarks; both axes in the order of the table."""
    wide = table.pivot(index=["data", "benchmark"], columns=columns, values=values)
    rows = table[["data", "benchmark"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(rows), list(pd.unique(table[columns]))]


def _signed(row: pd.Series) -> str:
    if np.isnan(row["points"]):
        return "undefined"
    if np.isnan(row["low"]):
        return f"{row['points']:+.2f} (n = {row['n_questions']:.0f})"
    return f"{row['points']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
