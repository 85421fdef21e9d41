"""The forecasting experiment under every published rule for repeated labels and for missing cells.

The same rows can be read as several matrices of labels. A *reading* is a rule for a (model, question) with several rows
(:data:`embedllm.datasets.duplicates.Duplicates`), with cells without a row left out or counted as wrong. Predictors are
trained on one reading and scored on another, which tells what a rule does to a fit from what it does to a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm._checks import check_seed, name_positions
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.load import load_dataset
from embedllm.datasets.lookalike import draw_answers, release_categories
from embedllm.datasets.simulate import N_QUESTIONS
from embedllm.matrix import (
    CORRECT,
    INCORRECT,
    NOT_OBSERVED,
    REPORT_COLUMNS,
    SPLITS,
    CorrectnessMatrix,
    Split,
)
from embedllm.predictors.base import THRESHOLD, CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.protocol.bootstrap import bootstrap_ratios, interval
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Settings, repetitions

RULES: tuple[Duplicates, ...] = ("majority", "any", "rows", "last")
"""The published rules; `majority` is this book's."""

MISSING_AS_INCORRECT = ", missing as wrong"
"""What the name of a reading ends in if cells without a row count as wrong."""

_MAJORITY_INCORRECT, _ANY_INCORRECT, _ROWS_INCORRECT = (f"{rule}{MISSING_AS_INCORRECT}" for rule in RULES[:3])
_AUTHORS = "authors' mixture"
_PREDICTORS = ("MF", "KNN", "benchmark mean")

PROTOCOLS: dict[str, dict[str, str]] = {
    **{reading: dict.fromkeys(_PREDICTORS, reading) for reading in (*RULES, _MAJORITY_INCORRECT)},
    _AUTHORS: {"MF": _ROWS_INCORRECT, "KNN": _ANY_INCORRECT, "benchmark mean": _ROWS_INCORRECT},
}
"""The reading on which each predictor is trained. In the authors' scripts MF and KNN have different ones."""


class Reading(NamedTuple):
    """One reading of the rows.

    Attributes
    ----------
    labels : ndarray of shape (n_models, n_columns), int8
        A column is a question or, under the rule `rows`, a copy of one.
    questions : ndarray of shape (n_columns,)
        Position of the question of each column, ascending.
    """

    labels: np.ndarray
    questions: np.ndarray


class Readings(NamedTuple):
    """The same rows, read in every way.

    Attributes
    ----------
    matrix : CorrectnessMatrix
        The reading `majority`; its models, questions and embeddings are those of all.
    readings : dict of str to Reading
        The rules by their names, and each with `MISSING_AS_INCORRECT` behind it.
    """

    matrix: CorrectnessMatrix
    readings: dict[str, Reading]

    def same_as(self) -> dict[str, str]:
        """Return for each reading the first one with the same labels: itself, where no earlier one has them."""
        first: dict[str, str] = {}
        for name, (labels, _) in self.readings.items():
            earlier = (other for other in first.values() if np.array_equal(self.readings[other].labels, labels))
            first[name] = next(earlier, name)
        return first

    def counts(self) -> dict[str, int]:
        """Return the numbers of `duplicated rows`, and of cells with `conflicting labels` and with `tied labels`."""
        report = dict(zip(self.matrix.report_["what"], self.matrix.report_["count"], strict=True))
        return {what: int(report.get(what, 0)) for what in ("duplicated rows", "conflicting labels", "tied labels")}

    def missing(self) -> np.ndarray:
        """Return the mask of the cells without a row, (n_models, n_questions)."""
        return self.readings["any"].labels == NOT_OBSERVED

    def table(self) -> pd.DataFrame:
        """Return what each reading holds: `columns`, `labels`, the share `right (%)`, and what it is the `same as`."""
        rows = [
            {
                "data": self.matrix.source,
                "reading": name,
                "columns": labels.shape[1],
                "labels": int(np.count_nonzero(labels != NOT_OBSERVED)),
                "right (%)": 100 * float((labels[labels != NOT_OBSERVED] == CORRECT).mean()),
                "same as": same if same != name else "",
            }
            for (name, (labels, _)), same in zip(self.readings.items(), self.same_as().values(), strict=True)
        ]
        return pd.DataFrame(rows).set_index("reading")


class Scores(NamedTuple):
    """Forecasts that were right, and labels that they were compared with, of each test question.

    Attributes
    ----------
    right, counted : DataFrame of shape (n_test_questions, n_columns)
        Index: question ids. Columns: `seed`, `predictor`, the readings `trained_on` and `scored_on`.
    source : str
        What the data are.
    """

    right: pd.DataFrame
    counted: pd.DataFrame
    source: str

    def accuracy(self) -> pd.Series:
        """Share of the labels that were forecast rightly, in percent; NaN where there is none."""
        counted = self.counted.sum()
        return 100 * self.right.sum() / counted.where(counted > 0)


def read_every_way(dataset: str, matrix: CorrectnessMatrix, missing: float = 0.1, random_state: int = 0) -> Readings:
    """Read the rows of a data set in every way.

    The simulated pool has neither repeats nor holes, so both are planted: repeats as `embedllm.datasets.lookalike` has
    them, and holes at random cells.

    Parameters
    ----------
    dataset : str
        "simulated", "embedllm", or a folder, as in `load_dataset`.
    matrix : CorrectnessMatrix
        What `load_dataset(dataset)` returned.
    missing : float in [0, 1)
        Share of the cells of the simulated pool that lose all their rows; without effect on answers that were observed.
    random_state : int
        Seed of what is planted.

    Raises
    ------
    ValueError
        If the share or the seed is out of range.
    """
    if not 0 <= missing < 1:
        raise ValueError(f"missing must be at least 0 and below 1, got {missing!r}")
    if dataset == "simulated":
        return _in_every_way(*_planted(matrix, missing, random_state))
    if "duplicated rows" not in set(matrix.report_["what"]):  # there is nothing for the rules to differ about
        return _in_every_way(matrix, dict.fromkeys(RULES, Reading(matrix.labels, np.arange(matrix.n_questions))))
    by_rule = {"majority": Reading(matrix.labels, np.arange(matrix.n_questions))}
    for rule in RULES[1:]:
        read = load_dataset(dataset, duplicates=rule)
        # Copies of a question stand behind it, under ids of their own.
        original = read.questions.index.isin(matrix.questions.index)
        by_rule[rule] = Reading(read.labels, np.cumsum(original) - 1)
    return _in_every_way(matrix, by_rule)


def _planted(
    pool: CorrectnessMatrix, missing: float, random_state: int
) -> tuple[CorrectnessMatrix, dict[str, Reading]]:
    rng = np.random.default_rng([check_seed(random_state), 2])  # another stream than those of the pool and its files
    questions = pool.questions.assign(category=release_categories(pool.questions))
    kept = rng.random(pool.labels.shape, dtype=np.float32) >= missing
    votes = LabelVotes(*pool.labels.shape)
    for split in SPLITS:
        rows, labels = draw_answers(pool.labels, questions, split, pool.n_questions / N_QUESTIONS, rng)
        question = rows["question"].to_numpy()
        model, row = np.nonzero(kept[:, question])  # model after model, as in the files
        votes.add(model, question[row], labels[model, row])
    resolved = {rule: votes.resolve(rule) for rule in RULES}
    matrix = CorrectnessMatrix(
        pd.DataFrame(resolved["majority"].labels, pool.models.index, pool.questions.index),
        pool.questions,
        pool.embeddings,
        models=pool.models,
        source=f"{pool.source} with planted repeats and holes ({missing:.0%})",
        report=pd.DataFrame(resolved["majority"].report, columns=list(REPORT_COLUMNS)),
    )
    return matrix, {rule: Reading(each.labels, each.positions) for rule, each in resolved.items()}


def _in_every_way(matrix: CorrectnessMatrix, by_rule: Mapping[str, Reading]) -> Readings:
    missing = by_rule["any"].labels == NOT_OBSERVED
    filled = {}
    for rule, (labels, questions) in by_rule.items():
        first = np.diff(questions, prepend=-1) > 0  # a missing cell is one wrong answer, not one for each copy
        labels = labels.copy()
        labels[:, first] = np.where(missing, INCORRECT, labels[:, first])
        filled[f"{rule}{MISSING_AS_INCORRECT}"] = Reading(labels, questions)
    return Readings(matrix, {**by_rule, **filled})


def score_readings(readings: Readings, settings: Settings, seed: int = 0, n_seeds: int = 2) -> Scores:
    """Train the predictors of every protocol, and score each on every reading of the test questions.

    Readings with the same labels share their fits.

    Parameters
    ----------
    readings : Readings
    settings : Settings
    seed, n_seeds : int
        As in `embedllm.protocol.runs.repetitions`; copies of a question are in the same part as the question.
    """
    same, matrix = readings.same_as(), readings.matrix
    wanted = dict.fromkeys(pair for protocol in PROTOCOLS.values() for pair in protocol.items())
    right: dict[tuple[int, str, str, str], pd.Series] = {}
    counted: dict[tuple[int, str, str, str], pd.Series] = {}
    previous: Split | None = None
    unseeded: dict[tuple[str, str], np.ndarray] = {}  # forecasts that no seed moves, of the previous division
    for repetition in repetitions(matrix, seed, n_seeds):
        train, _, test = (
            name_positions("question", part.question_ids, matrix.question_ids) for part in repetition.split
        )
        if repetition.split is not previous:
            previous, unseeded = repetition.split, {}
        forecasts = dict(unseeded)
        for predictor, name in wanted:
            key = (predictor, same[name])
            if key not in forecasts:
                fitted = _unfitted(predictor, settings, repetition.seed).fit(_part(readings, same[name], train))
                forecasts[key] = fitted.predict_matrix(repetition.split.test) > THRESHOLD
        unseeded = {key: forecast for key, forecast in forecasts.items() if key[0] != "MF"}
        for scored_on, reading in readings.readings.items():
            labels, column = _columns(reading, test)
            for predictor, trained_on in wanted:
                forecast = forecasts[predictor, same[trained_on]][:, column]
                hits = ((forecast == (labels == CORRECT)) & (labels != NOT_OBSERVED)).sum(axis=0)
                cell = (repetition.seed, predictor, trained_on, scored_on)
                right[cell] = _by_question(column, hits, repetition.split.test)
                counted[cell] = _by_question(column, (labels != NOT_OBSERVED).sum(axis=0), repetition.split.test)
    return Scores(_wide(right), _wide(counted), matrix.source)


def _unfitted(predictor: str, settings: Settings, seed: int) -> CorrectnessPredictor:
    return {"MF": lambda: settings.mf(seed), "KNN": settings.knn, "benchmark mean": BenchmarkMean}[predictor]()


def _columns(reading: Reading, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the columns that belong to some questions, and for each where its question stands among these."""
    where = np.full(reading.questions[-1] + 1, -1)
    where[positions] = np.arange(len(positions))
    column = where[reading.questions]
    return reading.labels[:, column >= 0], column[column >= 0]


def _part(readings: Readings, name: str, positions: np.ndarray) -> CorrectnessMatrix:
    """The columns of a reading that belong to some questions, as a matrix."""
    labels, column = _columns(readings.readings[name], positions)
    questions = readings.matrix.questions.iloc[positions[column]]
    copy = pd.Series(column).groupby(column).cumcount()
    ids = pd.Index([f"{id_} (row {n + 1})" if n else id_ for id_, n in zip(questions.index, copy, strict=True)])
    return CorrectnessMatrix(
        pd.DataFrame(labels, readings.matrix.models.index, ids),
        questions.set_axis(ids),
        readings.matrix.embeddings[positions[column]],
        source=readings.matrix.source,
    )


def _by_question(column: np.ndarray, values: np.ndarray, test: CorrectnessMatrix) -> pd.Series:
    return pd.Series(np.bincount(column, values, test.n_questions), test.question_ids)


def _wide(columns: Mapping[tuple[int, str, str, str], pd.Series]) -> pd.DataFrame:
    """Repetitions with a division of their own have test questions of their own: 0 for those of others."""
    frame = pd.concat(columns, axis=1, sort=False).fillna(0)
    return frame.rename_axis(columns=["seed", "predictor", "trained_on", "scored_on"])


def compare_protocols(scores: Scores) -> pd.DataFrame:
    """Set every protocol beside the others, by each way of scoring.

    Returns
    -------
    DataFrame
        One row for each protocol and each way of scoring, `scored on`: "own labels", those of the reading that the
        predictor was trained on; "majority labels", each observed (model, question) once; "every row". Columns: `data`,
        `protocol`, `scored on`, the accuracies `MF`, `KNN` and `benchmark mean` (%), `gap` (MF minus KNN, points) with
        its paired 95 % interval over the test questions, `low` and `high`, and `runs`, the gap in each repetition.
    """
    accuracy = scores.accuracy()
    seeds = pd.unique(accuracy.index.get_level_values("seed"))
    right, counted = (
        frame.T.groupby(level=["predictor", "trained_on", "scored_on"]).sum().T
        for frame in (scores.right, scores.counted)
    )
    ways = {"own labels": None, "majority labels": "majority", "every row": "rows"}
    cells = {
        (protocol, way): {predictor: (predictor, name, reading or name) for predictor, name in trained_on.items()}
        for protocol, trained_on in PROTOCOLS.items()
        for way, reading in ways.items()
    }
    compared = list(dict.fromkeys(cell[name] for cell in cells.values() for name in ("MF", "KNN")))
    samples = 100 * bootstrap_ratios(right[compared], counted[compared])
    rows = []
    for (protocol, way), cell in cells.items():
        by_seed = {name: accuracy.loc[[(seed, *column) for seed in seeds]] for name, column in cell.items()}
        runs = (by_seed["MF"].to_numpy() - by_seed["KNN"].to_numpy()).tolist()
        low, high = interval(samples[cell["MF"]] - samples[cell["KNN"]])
        rows.append(
            {"data": scores.source, "protocol": protocol, "scored on": way}
            | {name: float(values.mean(skipna=False)) for name, values in by_seed.items()}
            | {"gap": float(np.mean(runs)), "low": low, "high": high, "runs": runs}
        )
    return pd.DataFrame(rows)


def cross_rules(scores: Scores) -> pd.DataFrame:
    """MF minus KNN in points, for every rule in training (rows) and in scoring (columns); missing cells left out."""
    accuracy = scores.accuracy().unstack("predictor")
    gap = (accuracy["MF"] - accuracy["KNN"]).unstack("seed").mean(axis=1, skipna=False).unstack("scored_on")
    table = gap.loc[list(RULES), list(RULES)].rename_axis(columns="scored on")
    return pd.concat({scores.source: table}, names=["data", "trained on"])


def label_rule_values(readings: Readings, comparison: pd.DataFrame) -> list[ReportedValue]:
    """Return the numbers of the page.

    Parameters
    ----------
    readings : Readings
    comparison : DataFrame
        From `compare_protocols`.
    """
    counts = readings.counts()
    rows = comparison.set_index(["protocol", "scored on"])

    def runs(protocol: str, way: str = "own labels") -> np.ndarray:
        return np.array(rows.at[(protocol, way), "runs"])

    def gap(key: str, what: str, protocol: str) -> ReportedValue:
        row = rows.loc[(protocol, "own labels")]
        return ReportedValue(key, f"MF minus KNN, {what}", row["runs"], "points", (row["low"], row["high"]))

    ranges = {
        way: np.ptp([runs(rule, way) for rule in RULES], axis=0).tolist() for way in ("own labels", "majority labels")
    }
    return [
        ReportedValue("repeated_rows", "duplicated rows of a (model, question)", [counts["duplicated rows"]]),
        ReportedValue("conflicting_cells", "(model, question) with both labels", [counts["conflicting labels"]]),
        ReportedValue("tied_cells", "(model, question) with as many right as wrong labels", [counts["tied labels"]]),
        ReportedValue("missing_cells", "cells without a row", [100 * float(readings.missing().mean())], "%"),
        *(gap(f"gap_{rule}", f"rule {rule}", rule) for rule in RULES),
        gap("gap_authors", "authors' mixture of rules", _AUTHORS),
        ReportedValue("gap_range", "range of MF minus KNN over the four rules", ranges["own labels"], "points"),
        ReportedValue(
            "gap_range_training",
            "range of MF minus KNN over the four rules, all scored on the majority labels",
            ranges["majority labels"],
            "points",
        ),
        ReportedValue(
            "missing_effect",
            "change of MF minus KNN when missing cells count as wrong",
            (runs(_MAJORITY_INCORRECT) - runs("majority")).tolist(),
            "points",
        ),
        ReportedValue(
            "rows_effect",
            "change of MF minus KNN when every row is scored, not every cell once (trained on majority labels)",
            (runs("majority", "every row") - runs("majority")).tolist(),
            "points",
        ),
        ReportedValue(
            "authors_effect",
            "change of MF minus KNN from majority labels to the authors' mixture",
            (runs(_AUTHORS) - runs("majority")).tolist(),
            "points",
        ),
    ]
