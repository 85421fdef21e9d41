"""Sensitivity of the results to the vectors of the questions, and to their division into training and test.

With each encoding (:mod:`embedllm.datasets.encodings`), predictors are fitted and scored on the same questions. A rule
of division puts questions into groups, and each group into one of five folds. A fold is predicted from the four others:
by every rule each question is tested once, so that rules are compared on the same questions too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm._support.checks import check_positive, check_seed
from embedllm._support.division import question_groups
from embedllm.datasets.encodings import BENCHMARK, BOTH, FEWER, OWN, RANDOM, WORDS, Encoding, unit_vectors
from embedllm.matrix import CorrectnessMatrix, Split
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Run, fit_clone, fit_run, split_runs
from embedllm.protocol.tally import Tally

ALONE, TEXT, NEAR, CATEGORY, WHOLE = "nothing", "same text or item", "near duplicates", "category", "benchmark"
"""Rules, by what they keep together."""

N_FOLDS = 5

_ENCODINGS = {WORDS: "words", BENCHMARK: "benchmark", BOTH: "both", FEWER: "fewer", RANDOM: "random"}
_RULES = {ALONE: "alone", TEXT: "text", NEAR: "near", CATEGORY: "category", WHOLE: "whole"}
_MISSING = {
    WORDS: "its questions have no texts",
    FEWER: "its embeddings have at most 32 numbers",
    NEAR: "fewer than three groups of questions are no near duplicates",
    CATEGORY: "no categories are parts of its benchmarks",
    WHOLE: "it has fewer than three benchmarks",
}


class Measure(NamedTuple):
    """A mean over test questions of several methods, in each run and in each resample of the questions."""

    runs: pd.DataFrame
    samples: pd.DataFrame

    def minus(self, method: object, other: object) -> tuple[pd.Series, tuple[float, float]]:
        """Return the paired difference of two methods in each run, and its 95 % interval."""
        return self.runs[method] - self.runs[other], interval(self.samples[method] - self.samples[other])

    def interval(self, method: object) -> tuple[float, float]:
        """Return the 95 % interval of a method."""
        return interval(self.samples[method])

    def columns(self, name: str, method: object, other: object) -> dict[str, float]:
        """Return as columns the mean of a method, its difference from another one, and the ends of its interval."""
        runs, (low, high) = self.minus(method, other)
        mean = self.runs[method].mean()
        return {name: mean, f"{name}_minus": runs.mean(), f"{name}_low": low, f"{name}_high": high}


def encoded_runs(
    matrix: CorrectnessMatrix,
    encodings: Mapping[str, Encoding],
    predictors: Mapping[str, CorrectnessPredictor],
    seed: int = 0,
    n_seeds: int = 1,
) -> dict[str, list[Run]]:
    """Do what `fit_runs` does, with each encoding of the questions.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    encodings : mapping of str to callable
    predictors : mapping of str to CorrectnessPredictor
    seed, n_seeds : int
        As in `fit_runs`; the source's own division is one run.

    Returns
    -------
    dict of str to list of Run
        Encoding to runs, whose questions have its vectors.
    """
    labels = pd.DataFrame(matrix.labels, matrix.models.index, matrix.questions.index)
    found: dict[str, list[Run]] = {name: [] for name in encodings}
    for each, split in split_runs(matrix, seed, 1 if "split" in matrix.questions else n_seeds):
        train = matrix.questions.index.isin(split.train.questions.index)
        for encoding, encode in encodings.items():
            vectors = unit_vectors(encode, matrix, train)
            encoded = CorrectnessMatrix(labels, matrix.questions, vectors, matrix.models, matrix.source)
            parts = Split(*(encoded.subset(questions=part.question_ids) for part in split))
            found[encoding].append(fit_run(parts, predictors, each))
    return found


def _measure(tallies: Mapping[str, Tally], metric: str, factor: float) -> Measure:
    """Columns are (encoding, method). All tallies have the same questions, so that their resamples are the same."""
    runs = {name: factor * tally.by_seed()[metric] for name, tally in tallies.items()}
    samples = {name: factor * tally.resampled(metric=metric) for name, tally in tallies.items()}
    return Measure(pd.concat(runs, axis=1), pd.concat(samples, axis=1))


def _told_apart(table: pd.DataFrame, rows: str, kind: str) -> dict[str, str]:
    """Name the rows that are higher or lower than the reference, by their 95 % intervals, and the others."""
    low, high = table[f"{kind}_low"], table[f"{kind}_high"]  # NaN from too few questions, and where nothing differs
    alike = (low <= 0) | (table[f"{kind}_minus"] == 0)
    side = np.select([low > 0, high < 0, alike], ["higher", "lower", "alike"], "")
    return {f"{kind}_{each}": "; ".join(table[rows][side == each]) or "none" for each in ("higher", "lower", "alike")}


@dataclass(frozen=True)
class Encodings:
    """Predictors and routers by several encodings of the same questions.

    Parameters
    ----------
    forecasts, routes : mapping of str to Tally
        Encoding to tally, `embedding` among them; a router of each predictor, under its name.
    single : str
        A further router, whose accuracy is subtracted for the gain.
    """

    forecasts: Mapping[str, Tally]
    routes: Mapping[str, Tally]
    single: str

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """Log loss (nats), accuracy and routing accuracy (%)."""
        measured = {"loss": (self.forecasts, "log_loss", 1), "accuracy": (self.forecasts, "accuracy", 100)}
        measured["routing"] = self.routes, "accuracy", 100
        return {name: _measure(*arguments) for name, arguments in measured.items()}

    def table(self) -> pd.DataFrame:
        """Compare each encoding with the embeddings of the data set.

        Returns
        -------
        DataFrame
            A row for each encoding and predictor. Columns: `data`, `encoding`, `predictor`, `n_questions` (tested);
            `loss` (nats), `accuracy` and `routing` (%), each with the difference from that of the embeddings, `_minus`
            (nats or points), and the ends of its paired 95 % interval over questions, `_low` and `_high`; `gain` over
            the router `single` (points).
        """
        rows = []
        for encoding, tally in self.forecasts.items():
            for name in tally.sums["accuracy"]:
                row = {"data": tally.data, "encoding": encoding, "predictor": name}
                row["n_questions"] = tally.rows["question"].nunique()
                for kind, measure in self.measures.items():
                    row |= measure.columns(kind, (encoding, name), (OWN, name))
                gains, _ = self.measures["routing"].minus((encoding, name), (encoding, self.single))
                rows.append(row | {"gain": gains.mean()})
        return pd.DataFrame(rows)

    def words(self, method: str) -> dict[str, str]:
        """Say with which encodings `loss` and `routing` of a predictor are higher, lower or not told apart."""
        others = self.table().query("encoding != @OWN and predictor == @method")
        return _told_apart(others, "encoding", "loss") | _told_apart(others, "encoding", "routing")

    def values(self, method: str, rival: str) -> list[ReportedValue]:
        """Return the values that the page reports, of two predictors."""
        loss, routing = self.measures["loss"], self.measures["routing"]
        gains, ends = routing.minus((OWN, method), (OWN, self.single))
        values = [
            ReportedValue("sensitivity_loss", f"Log loss of {method}", loss.runs[OWN, method], "nats"),
            ReportedValue("sensitivity_knn_loss", f"Log loss of {rival}", loss.runs[OWN, rival], "nats"),
            ReportedValue("sensitivity_gain", f"{method} as router minus {self.single}", gains, "points", ends),
        ]
        for encoding, short in _ENCODINGS.items():
            wanted = [(f"{short}_loss", "log loss", loss, method, "nats")]
            wanted.append((f"{short}_gain", "routing", routing, method, "points"))
            if encoding not in (BOTH, FEWER):  # which hardly move the neighbours
                wanted.append((f"{short}_knn_loss", "log loss", loss, rival, "nats"))
            for key, what, measure, name, unit in wanted:
                known = encoding in self.forecasts
                runs, ends = measure.minus((encoding, name), (OWN, name)) if known else ([np.nan], (np.nan, np.nan))
                what = f"{name}, {what}: {encoding} minus {OWN}"
                reason = _MISSING.get(encoding, "")
                values.append(ReportedValue(f"sensitivity_{key}", what, runs, unit, ends, reason=reason))
        return values


def draw_questions(
    matrix: CorrectnessMatrix, groups: np.ndarray, n_questions: int, seed: int = 0
) -> tuple[CorrectnessMatrix, np.ndarray]:
    """Draw whole groups of questions at random until a number of questions is reached; all, if there are no more.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    groups : ndarray of shape (n_questions,), int
    n_questions, seed : int

    Returns
    -------
    CorrectnessMatrix, and its groups, numbered from 0
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(check_seed(seed)).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    drawn = np.isin(groups, order[before < check_positive("n_questions", n_questions)])
    return matrix.subset(questions=drawn), np.unique(groups[drawn], return_inverse=True)[1]


def division_rules(matrix: CorrectnessMatrix, near: np.ndarray) -> dict[str, np.ndarray]:
    """Return the groups that each rule keeps together, (n_questions,); of other rules than `TEXT`, three or more.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    near : ndarray of shape (n_questions,), int
        From `embedllm.datasets.duplicates.near_duplicates`.

    Returns
    -------
    dict of str to ndarray
        `category` only where categories are parts of benchmarks.

    Raises
    ------
    ValueError
        If all questions have the same text or item.
    """
    questions = matrix.questions
    rules = {ALONE: np.arange(len(questions)), TEXT: question_groups(questions), NEAR: near}
    if "category" in questions and questions["category"].nunique() > len(matrix.benchmark_names):
        rules[CATEGORY] = question_groups(questions, "category")
    rules[WHOLE] = question_groups(questions, "benchmark")
    if rules[TEXT].max() < 1:
        raise ValueError(f"{matrix.source}: all {len(questions)} questions have one text or item: nothing to divide")
    return {rule: groups for rule, groups in rules.items() if groups.max() > 1 or rule == TEXT}


def folds_of(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Put groups of questions into at most five folds at random.

    The first question of a group decides on its place. Divisions of one seed are therefore as similar as their groups
    allow: they differ in what they keep together, not in the random draw.

    Returns
    -------
    ndarray of shape (n_questions,), int
        The fold of each question, from 0; all folds have about as many groups.
    """
    draw = np.random.default_rng(check_seed(seed)).permutation(len(groups))
    place = draw[np.unique(groups, return_index=True)[1]].argsort().argsort()
    return (place * min(N_FOLDS, len(place)) // len(place))[groups]


def rule_runs(
    matrix: CorrectnessMatrix,
    rules: Mapping[str, np.ndarray],
    predictors: Mapping[str, CorrectnessPredictor],
    seed: int = 0,
    n_seeds: int = 1,
) -> list[Run]:
    """Predict each fold by predictors that were fitted on the other folds, by each rule.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    rules : mapping of str to ndarray of shape (n_questions,), int
        Groups of the questions.
    predictors : mapping of str to CorrectnessPredictor
        They are fitted without validation questions.
    seed, n_seeds : int
        Each seed gives one division into folds.

    Returns
    -------
    list of Run
        All questions are test questions. Predictions have names such as "MF, near duplicates".
    """
    runs = []
    for each in range(check_seed(seed), seed + check_positive("n_seeds", n_seeds)):
        run, known = Run(each, Split(matrix, matrix, matrix), {}, {}), {}
        for rule, groups in rules.items():
            if (key := groups.tobytes()) not in known:  # rules may come to the same groups
                folds, found = folds_of(groups, each), {name: np.empty(matrix.labels.shape) for name in predictors}
                for fold in np.unique(folds):
                    train, test = (matrix.subset(questions=mask) for mask in (folds != fold, folds == fold))
                    for name, predictor in predictors.items():
                        found[name][:, folds == fold] = fit_clone(predictor, train, each).predict_matrix(test)
                known[key] = found
            run.probabilities.update({f"{name}, {rule}": found for name, found in known[key].items()})
        runs.append(run)
    return runs


@dataclass(frozen=True)
class Divisions:
    """Two predictors by several rules of division, on the same test questions.

    Parameters
    ----------
    tally : Tally
        Of `rule_runs`.
    rules : mapping of str to ndarray of shape (n_questions,), int
    near : ndarray of shape (n_questions,), int
        Groups of near duplicates, which are resampled for the intervals.
    method, rival : str
        Names of the predictors.
    """

    tally: Tally
    rules: Mapping[str, np.ndarray]
    near: np.ndarray
    method: str
    rival: str

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """Log loss (nats) and accuracy (%), by names such as "MF, near duplicates"; the `gap` (points), by rule."""
        rows = self.tally.rows  # all questions in their order, once for each seed
        tally = Tally(
            rows.assign(unit=np.resize(self.near, len(rows))),
            self.tally.sums,
            self.tally.data,
            "predictor",
            "benchmark",
        )
        found = {"loss": Measure(tally.by_seed()["log_loss"], tally.resampled(metric="log_loss"))}
        found["accuracy"] = Measure(100 * tally.by_seed()["accuracy"], 100 * tally.resampled())
        method, rival = ([f"{name}, {rule}" for rule in self.rules] for name in (self.method, self.rival))
        gaps = [
            frame[method].set_axis(list(self.rules), axis=1) - frame[rival].to_numpy() for frame in found["accuracy"]
        ]
        return found | {"gap": Measure(*gaps)}

    def leaks(self, rule: str) -> list[float]:
        """Return the share of test questions with a near duplicate among the training questions, for each seed (%)."""
        folds = [pd.Series(folds_of(self.rules[rule], seed)) for seed in self.tally.by_seed().index]
        return [100 * each.groupby(self.near).transform("nunique").gt(1).mean() for each in folds]

    def table(self) -> pd.DataFrame:
        """Compare each rule with the one that keeps the same text or item together.

        Returns
        -------
        DataFrame
            A row for each rule and predictor. Columns: `data`, `rule`, `groups`, `n_questions`, `leaks` (%),
            `difference` (such as "MF minus KNN"), its `gap` (points of accuracy) with the 95 % interval `interval_0` to
            `interval_1`, the same for both predictors; `predictor`. The `gap`, the `loss` (nats) and the `accuracy` (%)
            have further columns for the difference from that rule, `_minus`, and the ends of its interval, `_low` and
            `_high`. Intervals are paired, over groups of near duplicates.
        """
        rows = []
        scores, gaps = {kind: self.measures[kind] for kind in ("loss", "accuracy")}, self.measures["gap"]
        for rule, groups in self.rules.items():
            row = {"data": self.tally.data, "rule": rule, "groups": groups.max() + 1, "n_questions": len(groups)}
            row |= {"leaks": np.mean(self.leaks(rule)), "difference": f"{self.method} minus {self.rival}"}
            row |= gaps.columns("gap", rule, TEXT) | {f"interval_{k}": end for k, end in enumerate(gaps.interval(rule))}
            for name in (self.method, self.rival):
                columns = [each.columns(kind, f"{name}, {rule}", f"{name}, {TEXT}") for kind, each in scores.items()]
                rows.append(row | {"predictor": name} | columns[0] | columns[1])
        return pd.DataFrame(rows)

    def words(self) -> dict[str, str]:
        """Say with which rules the `gap` is higher, lower or not told apart from that with the same text together."""
        return _told_apart(self.table().query("rule != @TEXT").drop_duplicates("rule"), "rule", "gap")

    def values(self) -> list[ReportedValue]:
        """Return the values that the page reports."""
        values = []
        accuracy, gaps = self.measures["accuracy"], self.measures["gap"]
        for rule, short in _RULES.items():
            known, together = rule in self.rules, f"kept together: {rule}"
            gap = f"{self.method} minus {self.rival}"
            wanted = [("leaks", f"test questions with a near duplicate in training, {together}", "%")]
            found = [(self.leaks(rule), None), (gaps.runs[rule], gaps.interval(rule))] if known else []
            wanted.append(("gap", f"{gap}, {together}", "points"))
            if rule != TEXT:
                for key, name in (("mf", self.method), ("knn", self.rival)):
                    wanted.append((key, f"accuracy of {name}, {together}, minus {TEXT}", "points"))
                    found += [accuracy.minus(f"{name}, {rule}", f"{name}, {TEXT}")] if known else []
                wanted.append(("change", f"{gap}, {together}, minus {TEXT}", "points"))
                found += [gaps.minus(rule, TEXT)] if known else []
            for (key, what, unit), (runs, ends) in zip(wanted, found or [([np.nan], None)] * len(wanted), strict=True):
                name, reason = f"sensitivity_{short}_{key}", _MISSING.get(rule, "")
                values.append(ReportedValue(name, what, runs, unit, ends, reason=reason))
        return values
