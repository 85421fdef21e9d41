"""The forecasting experiment under every published rule for duplicated labels and for missing entries.

The same rows can be read as several matrices of labels. A *reading* is a rule for a (model, question) with several rows
(:data:`embedllm.datasets.duplicates.Duplicates`), with entries without a row left out or counted as incorrect.
Predictors are trained on one reading and scored on another, which separates the effect of a rule on a fit from its
effect on a score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm._checks import check_seed, name_positions
from embedllm._division import SPLITS
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.load import load_dataset
from embedllm.datasets.lookalike import draw_answers, release_categories
from embedllm.datasets.simulate import N_QUESTIONS
from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED, REPORT_COLUMNS, CorrectnessMatrix, Split
from embedllm.predictors.base import THRESHOLD, CorrectnessPredictor
from embedllm.protocol.bootstrap import bootstrap_ratios, interval
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import fit_clone, split_runs, takes_seed

RULES: tuple[Duplicates, ...] = ("majority", "any", "rows", "last")
"""The published rules; `majority` is this companion's."""

MISSING_AS_INCORRECT = ", missing as incorrect"
"""End of the name of a reading in which entries without a row count as incorrect."""

_MAJORITY_INCORRECT, _ANY_INCORRECT, _ROWS_INCORRECT = (f"{rule}{MISSING_AS_INCORRECT}" for rule in RULES[:3])
_AUTHORS = "authors' mixture"
_COUNTED = ("duplicated rows", "conflicting labels", "tied labels")  # in the report of a matrix
_WAYS = {"own labels": None, "majority labels": "majority", "every row": "rows"}  # of scoring


def label_protocols(predictors: Iterable[str], knn: str) -> dict[str, dict[str, str]]:
    """Return the reading on which each protocol trains each predictor.

    Parameters
    ----------
    predictors : iterable of str
        Names.
    knn : str
        The one of them that the authors' scripts train on the rule `any`; they train the others on `rows`.

    Returns
    -------
    dict of str to dict
        Protocol to a reading for each predictor: each rule for all alike, `majority` with missing entries as incorrect,
        and the authors' mixture.
    """
    names = list(predictors)
    alike = {reading: dict.fromkeys(names, reading) for reading in (*RULES, _MAJORITY_INCORRECT)}
    return alike | {_AUTHORS: {name: _ANY_INCORRECT if name == knn else _ROWS_INCORRECT for name in names}}


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
    """The readings of the same rows.

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
        """Return for each reading the first one with the same labels, which may be itself."""
        first: dict[str, str] = {}
        for name, (labels, _) in self.readings.items():
            earlier = (other for other in first.values() if np.array_equal(self.readings[other].labels, labels))
            first[name] = next(earlier, name)
        return first

    def counts(self) -> dict[str, int]:
        """Return the numbers of duplicated rows, and of entries with conflicting and with tied labels."""
        report = dict(zip(self.matrix.report_["what"], self.matrix.report_["count"], strict=True))
        return {what: int(report.get(what, 0)) for what in _COUNTED}

    def missing(self) -> np.ndarray:
        """Return the mask of the entries without a row, (n_models, n_questions)."""
        return self.readings["any"].labels == NOT_OBSERVED

    def table(self) -> pd.DataFrame:
        """Return `columns`, `labels` and `correct (%)` of each reading, and the one that it is the `same as`."""
        rows = {}
        for (name, (labels, _)), same in zip(self.readings.items(), self.same_as().values(), strict=True):
            seen = labels[labels != NOT_OBSERVED]
            share, earlier = 100 * float((seen == CORRECT).mean()), same if same != name else ""
            rows[name] = (self.matrix.source, labels.shape[1], len(seen), share, earlier)
        columns = ["data", "columns", "labels", "correct (%)", "same as"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("reading")


class Scores(NamedTuple):
    """Correct predictions, and labels that they were compared with, of each test question.

    Attributes
    ----------
    correct, counted : DataFrame of shape (n_test_questions, n_columns)
        Index: question ids. Columns: `seed`, `predictor`, the readings `trained_on` and `scored_on`.
    protocols : mapping
        From `label_protocols`.
    source : str
        What the data are.
    """

    correct: pd.DataFrame
    counted: pd.DataFrame
    protocols: Mapping[str, Mapping[str, str]]
    source: str

    def accuracy(self) -> pd.Series:
        """Return the share of the labels that were predicted correctly, in percent; NaN where there is none."""
        counted = self.counted.sum()
        return 100 * self.correct.sum() / counted.where(counted > 0)


def read_every_way(dataset: str, matrix: CorrectnessMatrix, missing: float = 0.1, random_state: int = 0) -> Readings:
    """Read the rows of a data set by every rule.

    The simulated pool has neither duplicates nor missing entries, so both are simulated: duplicates as in
    `embedllm.datasets.lookalike`, and missing entries at random.

    Parameters
    ----------
    dataset : str
        "simulated", "embedllm", or a folder, as in `load_dataset`.
    matrix : CorrectnessMatrix
        What `load_dataset(dataset)` returned.
    missing : float in [0, 1)
        Share of the entries of the simulated pool that lose all their rows; without effect on other data.
    random_state : int
        Seed of the simulated duplicates and missing entries.

    Raises
    ------
    ValueError
        If the share or the seed is out of range.
    """
    if not 0 <= missing < 1:
        raise ValueError(f"missing must be at least 0 and below 1, got {missing!r}")
    if dataset == "simulated":
        return _in_every_way(*_with_duplicates(matrix, missing, random_state))
    if _COUNTED[0] not in set(matrix.report_["what"]):  # all rules give the same labels
        return _in_every_way(matrix, dict.fromkeys(RULES, Reading(matrix.labels, np.arange(matrix.n_questions))))
    by_rule = {"majority": Reading(matrix.labels, np.arange(matrix.n_questions))}
    for rule in RULES[1:]:
        read = load_dataset(dataset, duplicates=rule)
        # Copies of a question stand behind it, under ids of their own.
        original = read.questions.index.isin(matrix.questions.index)
        by_rule[rule] = Reading(read.labels, np.cumsum(original) - 1)
    return _in_every_way(matrix, by_rule)


def _with_duplicates(
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
        source=f"{pool.source} with simulated duplicates and missing entries ({missing:.0%})",
        report=pd.DataFrame(resolved["majority"].report, columns=list(REPORT_COLUMNS)),
    )
    return matrix, {rule: Reading(each.labels, each.positions) for rule, each in resolved.items()}


def _in_every_way(matrix: CorrectnessMatrix, by_rule: Mapping[str, Reading]) -> Readings:
    missing = by_rule["any"].labels == NOT_OBSERVED
    filled = {}
    for rule, (labels, questions) in by_rule.items():
        first = np.diff(questions, prepend=-1) > 0  # a missing entry is one incorrect answer, not one for each copy
        labels = labels.copy()
        labels[:, first] = np.where(missing, INCORRECT, labels[:, first])
        filled[f"{rule}{MISSING_AS_INCORRECT}"] = Reading(labels, questions)
    return Readings(matrix, {**by_rule, **filled})


def score_readings(
    readings: Readings,
    predictors: Mapping[str, CorrectnessPredictor],
    protocols: Mapping[str, Mapping[str, str]],
    seed: int = 0,
    n_seeds: int = 2,
) -> Scores:
    """Train clones of the predictors under every protocol, and score each on every reading of the test questions.

    Readings with the same labels share their fits.

    Parameters
    ----------
    readings : Readings
    predictors : mapping of str to CorrectnessPredictor
    protocols : mapping
        From `label_protocols`.
    seed, n_seeds : int
        As in `embedllm.protocol.runs.split_runs`; copies of a question are in the same part as the question.
    """
    same, matrix = readings.same_as(), readings.matrix
    wanted = dict.fromkeys(pair for protocol in protocols.values() for pair in protocol.items())
    correct: dict[tuple[int, str, str, str], pd.Series] = {}
    counted: dict[tuple[int, str, str, str], pd.Series] = {}
    known: dict[tuple[str, str], np.ndarray] = {}
    previous: Split | None = None
    for run_seed, split in split_runs(matrix, seed, n_seeds):
        train, test = (
            name_positions("question", part.question_ids, matrix.question_ids) for part in (split.train, split.test)
        )
        # What no seed moves is computed once for all runs on one division.
        known = {key: each for key, each in known.items() if split is previous and not takes_seed(predictors[key[0]])}
        previous = split
        for name, reading in wanted:
            if (name, same[reading]) not in known:
                fitted = fit_clone(predictors[name], _part(readings, same[reading], train), run_seed)
                known[name, same[reading]] = fitted.predict_matrix(split.test) > THRESHOLD
        for scored_on, each in readings.readings.items():
            labels, column = _columns(each, test)
            observed = labels != NOT_OBSERVED
            for name, trained_on in wanted:
                hits = (known[name, same[trained_on]][:, column] == (labels == CORRECT)) & observed
                entry = (run_seed, name, trained_on, scored_on)
                for found, each_column in ((correct, hits), (counted, observed)):
                    of_question = np.bincount(column, each_column.sum(axis=0), len(test))
                    found[entry] = pd.Series(of_question, split.test.question_ids)
    return Scores(_by_question(correct), _by_question(counted), protocols, matrix.source)


def _columns(reading: Reading, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the columns of some questions, and for each column the place of its question among these."""
    where = np.full(reading.questions[-1] + 1, -1)
    where[positions] = np.arange(len(positions))
    column = where[reading.questions]
    return reading.labels[:, column >= 0], column[column >= 0]


def _part(readings: Readings, name: str, positions: np.ndarray) -> CorrectnessMatrix:
    """The columns of some questions in a reading, as a matrix."""
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


def _by_question(values: Mapping[tuple[int, str, str, str], pd.Series]) -> pd.DataFrame:
    """Columns of questions that may differ between runs: 0 for those of other runs."""
    frame = pd.concat(values, axis=1, sort=False).fillna(0)
    return frame.rename_axis(columns=["seed", "predictor", "trained_on", "scored_on"])


def compare_protocols(scores: Scores, method: str, minus: str) -> pd.DataFrame:
    """Compare the protocols, by each way of scoring.

    Parameters
    ----------
    scores : Scores
    method, minus : str
        Names of the predictors whose difference is reported.

    Returns
    -------
    DataFrame
        One row for each protocol and each way of scoring, `scored on`: "own labels", those of the reading that the
        predictor was trained on; "majority labels", each observed (model, question) once; "every row". Columns: `data`,
        `protocol`, `scored on`, `difference` (such as "MF minus KNN"), the accuracy of each predictor under its name
        (%), `gap` (the difference in points) with its paired 95 % interval over the test questions, `low` and `high`,
        and `runs`, the gap in each run.
    """
    accuracy = scores.accuracy()
    seeds = pd.unique(accuracy.index.get_level_values("seed"))
    correct, counted = (
        frame.T.groupby(level=["predictor", "trained_on", "scored_on"]).sum().T
        for frame in (scores.correct, scores.counted)
    )
    cells = {
        (protocol, way): {name: (name, reading, scored_on or reading) for name, reading in trained_on.items()}
        for protocol, trained_on in scores.protocols.items()
        for way, scored_on in _WAYS.items()
    }
    compared = list(dict.fromkeys(cell[name] for cell in cells.values() for name in (method, minus)))
    samples = 100 * bootstrap_ratios(correct[compared], counted[compared])
    rows = []
    for (protocol, way), cell in cells.items():
        by_seed = {name: accuracy.loc[[(seed, *column) for seed in seeds]] for name, column in cell.items()}
        runs = (by_seed[method].to_numpy() - by_seed[minus].to_numpy()).tolist()
        low, high = interval(samples[cell[method]] - samples[cell[minus]])
        rows.append(
            {"data": scores.source, "protocol": protocol, "scored on": way, "difference": f"{method} minus {minus}"}
            | {name: float(values.mean(skipna=False)) for name, values in by_seed.items()}
            | {"gap": float(np.mean(runs)), "low": low, "high": high, "runs": runs}
        )
    return pd.DataFrame(rows)


def cross_rules(scores: Scores, method: str, minus: str) -> pd.DataFrame:
    """Return the difference of two predictors in points, rows rules in training, columns rules in scoring."""
    accuracy = scores.accuracy().unstack("predictor")
    gap = (accuracy[method] - accuracy[minus]).unstack("seed").mean(axis=1, skipna=False).unstack("scored_on")
    table = gap.loc[list(RULES), list(RULES)].rename_axis(columns="scored on")
    return pd.concat({scores.source: table}, names=["data", "trained on"])


def label_rule_values(readings: Readings, comparison: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    readings : Readings
    comparison : DataFrame
        From `compare_protocols`.
    """
    rows, difference = comparison.set_index(["protocol", "scored on"]), comparison["difference"].iat[0]
    duplicates, conflicts, ties = readings.counts().values()

    def runs(protocol: str, way: str = "own labels") -> np.ndarray:
        return np.array(rows.at[(protocol, way), "runs"])

    def count(key: str, what: str, n: int) -> ReportedValue:
        return ReportedValue(key, what, [n], count=True)

    def gap(key: str, what: str, protocol: str) -> ReportedValue:
        row = rows.loc[(protocol, "own labels")]
        return ReportedValue(key, f"{difference}, {what}", row["runs"], "points", (row["low"], row["high"]))

    majority = runs("majority")
    spread, spread_training = (
        np.ptp([runs(rule, way) for rule in RULES], axis=0) for way in ("own labels", "majority labels")
    )
    over_rules, change = f"range of {difference} over the four rules", f"change of {difference}"
    points = {
        "gap_range": (over_rules, spread),
        "gap_range_training": (f"{over_rules}, all scored on the majority labels", spread_training),
        "missing_effect": (f"{change} when missing entries count as incorrect", runs(_MAJORITY_INCORRECT) - majority),
        "rows_effect": (f"{change} when rows are scored, not entries", runs("majority", "every row") - majority),
        "authors_effect": (f"{change} from majority labels to the authors' mixture", runs(_AUTHORS) - majority),
    }
    return [
        count("repeated_rows", "duplicated rows of a (model, question)", duplicates),
        count("conflicting_cells", "(model, question) with both labels", conflicts),
        count("tied_cells", "(model, question) with as many correct as incorrect labels", ties),
        ReportedValue("missing_cells", "entries without a row", [100 * readings.missing().mean()], "%"),
        *(gap(f"gap_{rule}", f"rule {rule}", rule) for rule in RULES),
        gap("gap_authors", "authors' mixture of rules", _AUTHORS),
        *(ReportedValue(key, what, values.tolist(), "points") for key, (what, values) in points.items()),
    ]
