"""Correctness forecasting: how well is it known beforehand who answers what rightly?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.protocol.calibration import calibration_errors
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.runs import Fitted
from embedllm.protocol.scores import score_cells
from embedllm.protocol.tally import Tally


def evaluate_forecasts(
    predictors: Mapping[str, CorrectnessPredictor],
    matrix: CorrectnessMatrix,
    by: Literal["benchmark", "model"] = "benchmark",
) -> pd.DataFrame:
    """Compare predictors over the observed cells of a matrix.

    Parameters
    ----------
    predictors : mapping from a name to a fitted predictor
    matrix : CorrectnessMatrix
        Its models are matched by name to those fitted.
    by : "benchmark" or "model"

    Returns
    -------
    DataFrame
        One row for each predictor and each group, the group `overall` first. Columns: `data` (the source of the
        matrix), `predictor`, the grouping, `accuracy` with its `stderr`, `log_loss` (nats, probabilities clipped to
        [0.001, 0.999]), `brier`, `n_observed` (cells), `n_questions`. The metrics of a group without an observed cell
        are NaN. The standard error is over questions: answers to one question are right or wrong together.

    Raises
    ------
    KeyError
        If a model of the matrix was not there at fit time.
    """
    return forecast_table(tally_forecasts(predictors, matrix, by))


def tally_forecasts(
    predictors: Mapping[str, CorrectnessPredictor],
    matrix: CorrectnessMatrix,
    by: Literal["benchmark", "model"] = "benchmark",
    seed: int = 0,
) -> Tally:
    """Add up, for each question, the accuracy, log loss and Brier score of its observed cells.

    Parameters
    ----------
    predictors, matrix, by
        As in `evaluate_forecasts`.
    seed : int
        Of the repetition.

    Raises
    ------
    KeyError
        If a model of the matrix was not there at fit time.
    """
    right = matrix.labels == CORRECT
    group = {"benchmark": matrix.benchmarks, "model": np.repeat(matrix.model_names, matrix.n_questions)}[by]

    def add_up(cells: np.ndarray) -> np.ndarray:
        observed = np.where(matrix.observed, cells, 0)  # (n_models, n_questions)
        return observed.sum(axis=0) if by == "benchmark" else observed.ravel()

    sums = {}
    for name, predictor in predictors.items():
        for metric, cells in score_cells(predictor.predict_matrix(matrix), right).items():
            sums[metric, name] = add_up(cells)
    question = np.resize(matrix.question_ids, len(group))
    rows = {"seed": seed, "group": group, "question": question, "count": add_up(matrix.observed)}
    return Tally(pd.DataFrame(rows), pd.DataFrame(sums), matrix.source, "predictor", by)


def tally_repetitions(fits: Iterable[Fitted]) -> Tally:
    """Do what `tally_forecasts` does by benchmark, on the test questions of each repetition."""
    return Tally.join(tally_forecasts(each.predictors, each.split.test, seed=each.seed) for each in fits)


def forecast_table(tally: Tally) -> pd.DataFrame:
    """Return the means over the repetitions: the columns of `evaluate_forecasts`.

    `n_observed` and `n_questions` are those of one repetition, where they differ the mean.
    """
    return tally.table().rename(columns={"count": "n_observed"})


def forecast_values(tally: Tally, bins: pd.DataFrame, curve: pd.DataFrame) -> list[ReportedValue]:
    """Return the numbers that the forecasting page quotes.

    Parameters
    ----------
    tally : Tally
        From `tally_repetitions`.
    bins : DataFrame
        From `reliability_repetitions`.
    curve : DataFrame
        From `learning_curve`.
    """
    runs, errors = tally.by_seed(), 100 * calibration_errors(bins)
    accuracy = {group: tally.by_seed(group)["accuracy"] for group in tally.groups[1:]}
    tested = pd.DataFrame({group: each["MF"].notna() for group, each in accuracy.items()})
    above = pd.DataFrame({group: each["MF"] > each["benchmark mean"] for group, each in accuracy.items()})
    answers = tally.rows.groupby("seed")["count"].sum()
    size = curve["size"].min()
    smallest = 100 * curve[curve["size"] == size].pivot(index="seed", columns="predictor", values="accuracy")
    few = f"Forecasting accuracy of MF minus KNN, fitted on {size:,} questions"

    def reported(key: str, what: str, values: pd.Series, unit: str = "") -> ReportedValue:
        return ReportedValue(key, what, values.astype(float).tolist(), unit)

    return [
        *accuracy_values(
            tally,
            [
                Wanted("mf_accuracy", "Forecasting accuracy of MF", "MF"),
                Wanted("knn_accuracy", "Forecasting accuracy of KNN", "KNN"),
                Wanted("floor_accuracy", "Forecasting accuracy of the floor (benchmark mean)", "benchmark mean"),
                Wanted("mf_minus_knn", "Forecasting accuracy of MF minus KNN", "MF", minus="KNN"),
            ],
        ),
        reported("mf_minus_knn_smallest", few, smallest["MF"] - smallest["KNN"], "points"),
        ReportedValue("smallest_size", "Smallest number of training questions", [float(size)]),
        reported("above_floor", "Benchmarks where MF is above the floor", above.sum(axis=1)),
        reported("forecast_benchmarks", "Benchmarks with test answers", tested.sum(axis=1)),
        reported("forecast_answers", "Test answers", answers),
        *(
            reported(f"{key}_{metric}", f"{words} of {method}", runs[metric, method], unit)
            for metric, words, unit in (("log_loss", "Log loss", "nats"), ("brier", "Brier score", ""))
            for key, method in (("mf", "MF"), ("knn", "KNN"))
        ),
        reported("mf_ece", "Expected calibration error of MF", errors["MF"], "points"),
        reported("knn_ece", "Expected calibration error of KNN", errors["KNN"], "points"),
    ]


def percent_table(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Accuracies of a tidy frame in percent, one row for each benchmark and one column for each method.

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
    wide = table.pivot(index=["data", "benchmark"], columns=method, values="accuracy") * 100
    rows = table[["data", "benchmark"]].drop_duplicates().itertuples(index=False, name=None)
    return wide.loc[list(rows), list(pd.unique(table[method]))].round(1)
