"""The forecasting experiment under every published rule for duplicated labels and for missing entries.

The same rows can be read as several matrices of labels. A *reading* is a rule for a (model, question) with several rows
(:data:`embedllm.datasets.duplicates.Duplicates`), with entries without a row left out or counted as incorrect.
Predictors are scored on the reading they were trained on and on the majority labels, which separates the effect of a
rule on a fit from its effect on a score.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from embedllm._support.checks import check_seed
from embedllm._support.division import SPLITS
from embedllm.datasets.duplicates import Duplicates, LabelVotes
from embedllm.datasets.formats.answers import resolve_answers
from embedllm.datasets.load import load_dataset
from embedllm.datasets.lookalike import draw_answers, release_categories
from embedllm.datasets.simulate import N_QUESTIONS
from embedllm.matrix import CORRECT, INCORRECT, NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.scores import THRESHOLD
from embedllm.protocol.bootstrap import bootstrap_ratios, interval
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import fit_clone
from embedllm.protocol.tally import units_of

RULES: tuple[Duplicates, ...] = ("majority", "any", "rows", "last")
"""The published rules; `majority` is this companion's."""

MISSING_AS_INCORRECT = ", missing as incorrect"
"""End of the name of a reading in which entries without a row count as incorrect."""

_MAJORITY_INCORRECT, _ANY_INCORRECT, _ROWS_INCORRECT = (f"{rule}{MISSING_AS_INCORRECT}" for rule in RULES[:3])
_AUTHORS = "authors' mixture"
_OWN, _ALIKE = "own labels", "majority labels"  # ways of scoring

Readings = Mapping[str, CorrectnessMatrix]
"""The readings of the same rows: the rules by their names, and three of them with `MISSING_AS_INCORRECT` behind it."""


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
    readings: dict[str, CorrectnessMatrix] = dict.fromkeys(RULES, matrix)
    if dataset == "simulated":
        readings = _with_duplicates(matrix, missing, random_state)
    elif "duplicated rows" in set(matrix.report_["what"]):  # otherwise all rules give the same labels
        readings |= {rule: load_dataset(dataset, duplicates=rule) for rule in RULES[1:]}
    empty = readings["any"].labels == NOT_OBSERVED
    for rule in RULES[:3]:
        labels = readings[rule].labels.copy()
        first = ~pd.Index(_without_copies(readings[rule], matrix)).duplicated()
        # A missing entry is one incorrect answer, not one for each copy of the question.
        labels[:, first] = np.where(empty, INCORRECT, labels[:, first])
        readings[f"{rule}{MISSING_AS_INCORRECT}"] = readings[rule].with_labels(labels)
    return readings


def _with_duplicates(pool: CorrectnessMatrix, missing: float, random_state: int) -> dict[str, CorrectnessMatrix]:
    rng = np.random.default_rng([check_seed(random_state), 2])  # another stream than those of the pool and its files
    questions = pool.questions.assign(category=release_categories(pool.questions))
    kept = rng.random(pool.labels.shape, dtype=np.float32) >= missing
    votes, n_read = LabelVotes(*pool.labels.shape), 0
    for split in SPLITS:
        rows, labels = draw_answers(pool.labels, questions, split, pool.n_questions / N_QUESTIONS, rng)
        question = rows["question"].to_numpy()
        model, row = np.nonzero(kept[:, question])  # model after model, as in the files
        votes.add(model, question[row], labels[model, row])
        n_read += len(row)
    readings: dict[str, CorrectnessMatrix] = {}
    for rule in RULES:
        answers, positions = resolve_answers(votes, pool.models.index, pool.questions, rule, [], {"rows read": n_read})
        readings[rule] = CorrectnessMatrix(
            answers.labels,
            answers.questions,
            pool.embeddings[positions],
            models=pool.models,
            source=f"{pool.source} with simulated duplicates and missing entries ({missing:.0%})",
            report=answers.report_table(),
        )
    return readings


def _without_copies(reading: CorrectnessMatrix, matrix: CorrectnessMatrix) -> pd.Index:
    """Return the id of the question that each column of a reading is, or is a copy of; copies stand behind it."""
    first = reading.questions.index.isin(matrix.questions.index)
    return matrix.questions.index[np.cumsum(first) - 1]


def reading_table(readings: Readings) -> pd.DataFrame:
    """Return `data`, `columns`, `labels` and `correct (%)` of each reading."""
    table = pd.DataFrame(index=pd.Index(list(readings), name="reading"))
    table["data"] = [each.source for each in readings.values()]
    table["columns"] = [each.n_questions for each in readings.values()]
    table["labels"] = [each.observed.sum() for each in readings.values()]
    table["correct (%)"] = [100 * (each.labels == CORRECT).sum() / each.observed.sum() for each in readings.values()]
    return table


def compare_protocols(
    readings: Readings, predictors: Mapping[str, CorrectnessPredictor], method: str, knn: str, seed: int = 0
) -> pd.DataFrame:
    """Train clones of the predictors under every protocol, and compare two of them on the test questions.

    A protocol trains each predictor on a reading: each rule for all alike, `majority` with missing entries as
    incorrect, and the authors' mixture, which trains KNN on `any` and the others on `rows`, with missing entries as
    incorrect. Copies of a question are in the same part as the question.

    Parameters
    ----------
    readings : mapping of str to CorrectnessMatrix
        From `read_every_way`.
    predictors : mapping of str to CorrectnessPredictor
    method, knn : str
        Names of the predictors whose difference is reported.
    seed : int
        Of the division, where the source brings none, and of predictors with a `random_state`.

    Returns
    -------
    DataFrame
        One row for each protocol and each way of scoring, `scored on`: "own labels", those of the reading that the
        predictor was trained on, and "majority labels". Columns: `data`, `protocol`, `scored on`, `difference` (such as
        "MF minus KNN"), the accuracy of each predictor under its name (%; NaN without a label), and `gap` (the
        difference in points) with its paired 95 % interval over the test questions, `low` and `high`.
    """
    majority = readings["majority"]
    train, _, test = majority.split(random_state=check_seed(seed))
    protocols = {reading: dict.fromkeys(predictors, reading) for reading in (*RULES, _MAJORITY_INCORRECT)}
    protocols[_AUTHORS] = {name: _ANY_INCORRECT if name == knn else _ROWS_INCORRECT for name in predictors}

    units = units_of(test)

    @functools.cache
    def forecast(name: str, reading: CorrectnessMatrix) -> np.ndarray:
        part = reading.subset(questions=_without_copies(reading, majority).isin(train.questions.index))
        return fit_clone(predictors[name], part, seed).predict_matrix(test) > THRESHOLD

    rows = []
    for (protocol, trained_on), way in itertools.product(protocols.items(), (_OWN, _ALIKE)):
        hits, counts = {}, {}
        for name, rule in trained_on.items():
            scored = readings[rule] if way == _OWN else majority
            column = test.questions.index.get_indexer(_without_copies(scored, majority))
            labels, column = scored.labels[:, column >= 0], column[column >= 0]
            observed = labels != NOT_OBSERVED
            right = observed & (forecast(name, readings[rule])[:, column] == (labels == CORRECT))
            hits[name] = np.bincount(column, right.sum(axis=0), test.n_questions)
            counts[name] = np.bincount(column, observed.sum(axis=0), test.n_questions)
        correct, counted = pd.DataFrame(hits), pd.DataFrame(counts)
        accuracy = 100 * correct.sum() / counted.sum().where(lambda total: total > 0)
        samples = 100 * bootstrap_ratios(*(each[[method, knn]].set_axis(units) for each in (correct, counted)))
        low, high = interval(samples[method] - samples[knn])
        rows.append(
            {"data": majority.source, "protocol": protocol, "scored on": way, "difference": f"{method} minus {knn}"}
            | {**accuracy, "gap": accuracy[method] - accuracy[knn], "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def label_rule_values(readings: Readings, comparison: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    readings : mapping of str to CorrectnessMatrix
    comparison : DataFrame
        From `compare_protocols`.
    """
    difference, rows = comparison["difference"].iat[0], comparison.set_index(["scored on", "protocol"])
    report = readings["majority"].report_
    seen = dict(zip(report["what"], report["count"], strict=True))
    counts = [
        ("repeated_rows", "duplicated rows of a (model, question)", "duplicated rows"),
        ("conflicting_cells", "(model, question) with both labels", "conflicting labels"),
        ("tied_cells", "(model, question) with as many correct as incorrect labels", "tied labels"),
    ]
    own, alike = rows.loc[_OWN], rows.loc[_ALIKE, "gap"]
    over_rules, effect = f"range of {difference} over the four rules", own["gap"] - own.at["majority", "gap"]
    change = f"change of {difference}"
    points = [
        ("gap_range", over_rules, np.ptp(effect[list(RULES)])),
        ("gap_range_training", f"{over_rules}, all scored on the majority labels", np.ptp(alike[list(RULES)])),
        ("missing_effect", f"{change} when missing entries count as incorrect", effect[_MAJORITY_INCORRECT]),
        ("authors_effect", f"{change} from majority labels to the authors' mixture", effect[_AUTHORS]),
    ]

    def gap(key: str, what: str, protocol: str) -> ReportedValue:
        value, low, high = own.loc[protocol, ["gap", "low", "high"]]
        return ReportedValue(key, f"{difference}, {what}", [value], "points", (low, high))

    missing = 100 * (readings["any"].labels == NOT_OBSERVED).mean()
    return [
        *(ReportedValue(key, what, [int(seen.get(name, 0))], count=True) for key, what, name in counts),
        ReportedValue("missing_cells", "entries without a row", [missing], "%"),
        *(gap(f"gap_{rule}", f"rule {rule}", rule) for rule in RULES),
        gap("gap_authors", "authors' mixture of rules", _AUTHORS),
        *(ReportedValue(key, what, [float(value)], "points") for key, what, value in points),
    ]
