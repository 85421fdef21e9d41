"""What answers of real models say: the recorded results of each public pool, and those of a build on real answers.

Nothing is computed again here: the values and tables are those that the pages reported in the run that is named beside
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from embedllm.protocol.recorded import Results

ACCURACIES = {
    "forecasting.floor_accuracy": "forecasting: per-benchmark majority",
    "forecasting.knn_accuracy": "forecasting: KNN",
    "forecasting.mf_accuracy": "forecasting: MF",
    "routing.route_single": "routing: best single model",
    "routing.route_best_of_benchmark": "routing: best model per benchmark",
    "routing.route_mf": "routing: MF",
    "routing.route_oracle": "routing: oracle",
}
"""Reported values that `accuracy_table` shows, and their names."""

GAINS = {
    "forecasting.mf_minus_floor": "forecasting: MF minus per-benchmark majority",
    "forecasting.mf_minus_knn": "forecasting: MF minus KNN",
    "routing.route_gain": "routing: MF minus best single model",
    "routing.route_mf_minus_best_of_benchmark": "routing: MF minus best model per benchmark",
}
"""Differences with intervals that `gains_table` shows, and their names."""


def real_results(results: Sequence[Results]) -> list[Results]:
    """Return the results of real answers, with a clear error if there are none.

    Raises
    ------
    ValueError
        If none of the results are of real answers.
    """
    real = [each for each in results if each.kind != "simulated"]
    if not real:
        raise ValueError("no results of real answers are recorded: restore data/expected from the repository")
    return real


def pools_table(results: Sequence[Results]) -> pd.DataFrame:
    """Describe the data sets: size, share of observed answers, when they were computed, and the hash of their labels.

    Returns
    -------
    DataFrame indexed by `data`
        Columns `models`, `questions`, `observed` (share in percent), `computed`, `version`, `labels`.
    """
    rows = {}
    for each in results:
        models, questions, observed = (each.data.get(key) for key in ("models", "questions", "observed answers"))
        share = 100 * observed / (models * questions) if models and questions and observed else float("nan")
        when = each.when or "in this build"
        rows[each.source] = (
            models,
            questions,
            round(share, 1),
            when,
            each.version,
            str(each.data.get("sha256", ""))[:12],
        )
    columns = ["models", "questions", "observed", "computed", "version", "labels"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("data")


def accuracy_table(results: Sequence[Results], shown: Mapping[str, str] = ACCURACIES) -> pd.DataFrame:
    """Return reported accuracies in percent, a row for each method and a column for each data set.

    Parameters
    ----------
    results : sequence of Results
    shown : mapping of str to str
        Keys, ``<page>.<key>``, to names.
    """
    found = {
        each.title: {name: each.values[key].value for key, name in shown.items() if key in each.values}
        for each in results
    }
    return pd.DataFrame(found, index=list(shown.values())).rename_axis("accuracy (%)")


def gains_table(results: Sequence[Results], shown: Mapping[str, str] = GAINS) -> pd.DataFrame:
    """Return reported differences with their 95 % intervals.

    Returns
    -------
    DataFrame
        A row for each difference and data set. Columns `what`, `data`, `points`, `low`, `high`, `runs` (how many).
    """
    rows = [
        (name, each.title, value.value, *(value.interval or (float("nan"), float("nan"))), len(value.runs))
        for key, name in shown.items()
        for each in results
        if (value := each.values.get(key))
    ]
    return pd.DataFrame(rows, columns=["what", "data", "points", "low", "high", "runs"])


def tables_of(results: Sequence[Results], name: str) -> list[pd.DataFrame]:
    """Return the table behind a figure for each data set that has it, with the titles of the results as `data`."""
    return [each.frames[name].assign(data=each.title) for each in results if name in each.frames]


def in_words(gains: pd.DataFrame) -> list[str]:
    """Say in a sentence for each difference on which data sets its interval lies above, around or below 0."""
    sentences = []
    for what, rows in gains.groupby("what", sort=False):
        states = {
            "above 0": rows[rows["low"] > 0],
            "not distinguishable from 0": rows[(rows["low"] <= 0) & (rows["high"] >= 0)],
            "below 0": rows[rows["high"] < 0],
        }
        parts = [
            f"{state} on " + " and ".join(f"{row.data} ({row.points:+.2f})" for row in each.itertuples())
            for state, each in states.items()
            if len(each)
        ]
        sentences.append(f"{what}: {'; '.join(parts)}")
    return sentences
