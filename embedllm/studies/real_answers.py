"""What answers of real models say: the recorded results of each public pool, and those of a build on real answers.

Nothing is computed again here: the values and tables are those that the pages reported in the run that is named beside
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    "forecasting_baseline": ("forecasting.mf_minus_floor", "forecasting: MF minus per-benchmark majority"),
    "forecasting_knn": ("forecasting.table_1_mf_minus_knn", "forecasting: MF minus KNN"),
    "routing_single": ("routing.route_gain", "routing: MF minus best single model"),
    "routing_benchmark": ("routing.route_gain_benchmark", "routing: MF minus best model per benchmark"),
}
"""Differences that `gains_table` shows: a short key, the reported value ``<page>.<key>``, and the name."""


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
    rows = {
        each.source: (
            *(int(each.values[f"dataset.data_{key}"].value) for key in ("models", "questions")),
            each.values["dataset.data_observed"].value,
            *(each.when or "in this build", each.version, str(each.data.get("sha256", ""))[:12]),
        )
        for each in results
    }
    columns = ["models", "questions", "observed", "computed", "version", "labels"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("data")


def accuracy_table(results: Sequence[Results]) -> pd.DataFrame:
    """Return the `ACCURACIES` in percent, a row for each method and a column for each data set."""
    found = {
        each.title: {name: each.values[key].value for key, name in ACCURACIES.items() if key in each.values}
        for each in results
    }
    return pd.DataFrame(found, index=list(ACCURACIES.values())).rename_axis("accuracy (%)")


def gains_table(results: Sequence[Results]) -> pd.DataFrame:
    """Return the differences of `GAINS` with their 95 % intervals.

    Returns
    -------
    DataFrame
        A row for each difference and data set. Columns `key`, `what`, `data`, `points`, `low`, `high`, `runs` (how
        many).
    """
    rows = [
        (key, name, each.title, value.value, *(value.interval or (math.nan, math.nan)), len(value.runs))
        for key, (reported, name) in GAINS.items()
        for each in results
        if (value := each.values.get(reported))
    ]
    return pd.DataFrame(rows, columns=["key", "what", "data", "points", "low", "high", "runs"])


def tables_of(results: Sequence[Results], name: str) -> list[pd.DataFrame]:
    """Return the table behind a figure for each data set that has it, with the titles of the results as `data`."""
    return [each.frames[name].assign(data=each.title) for each in results if name in each.frames]


def gains_in_words(gains: pd.DataFrame) -> dict[str, str]:
    """Say for each key of `GAINS` what was found on each data set: MF is better or worse if the interval excludes 0.

    Returns
    -------
    dict of str to str
        Under the key, a part for each data set; under ``<key>_verdict``, on how many data sets MF is better or worse.
    """
    words = {}
    for key in GAINS:
        rows = list(gains[gains["key"] == key].itertuples())
        parts = []
        for row in rows:
            state = "better" if row.low > 0 else "worse" if row.high < 0 else "no clear difference"
            ends = "no interval" if math.isnan(row.low) else f"{row.low:+.1f} to {row.high:+.1f}"
            parts.append(f"{row.data.partition(',')[0]} {row.points:+.1f} ({ends}), {state}")
        words[key] = "; ".join(parts) or "not recorded"
        better, worse = sum(row.low > 0 for row in rows), sum(row.high < 0 for row in rows)
        words[f"{key}_verdict"] = _verdict(better, worse, len(rows))
    return words


def _verdict(better: int, worse: int, total: int) -> str:
    """Count the data sets on which the interval excludes 0."""
    counts = [f"{word} on {count} of {total}" for word, count in (("better", better), ("worse", worse)) if count]
    return ", ".join(counts) or f"no clear difference on {total} of {total}"


def pools_in_words(results: Sequence[Results]) -> str:
    """Name the data sets with their sizes."""
    return " and ".join(
        "{} ({:,.0f} models, {:,.0f} questions)".format(
            each.source, *(each.values[f"dataset.data_{key}"].value for key in ("models", "questions"))
        )
        for each in results
    )
