"""Strong baselines: what simple predictors and routers reach on the same questions, and the stack of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from embedllm._support.checks import check_seed
from embedllm._support.division import question_groups
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.scores import mean_scores, pairs_in_order
from embedllm.predictors.stacked import StackedCorrectness
from embedllm.protocol.bootstrap import MIN_QUESTIONS, interval
from embedllm.protocol.calibration import calibration_errors, reliability
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Run, fit_runs
from embedllm.protocol.tally import Tally

MARGIN = 0.003
"""Log loss (nats) by which the stack may be above the best of its parts."""


class AsTyped(CorrectnessPredictor):
    """Another predictor as a `Router` asks it: it gets the text of a question, and is not told the benchmark.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        Not fitted; it stays as it is.
    """

    def __init__(self, predictor: CorrectnessPredictor) -> None:
        self.predictor = predictor

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        self.predictor_ = clone(self.predictor).fit(matrix)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return self.predictor_.predict_proba(embeddings)


class ShuffledLabels(AsTyped):
    """A control: another predictor, fitted on labels that are shuffled among the answers of each model.

    What is left is how good each model is; a control that predicts better than that has seen the test questions.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        Not fitted; it stays as it is.
    random_state : int
    """

    def __init__(self, predictor: CorrectnessPredictor, random_state: int = 0) -> None:
        self.predictor, self.random_state = predictor, random_state

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        rng, labels = np.random.default_rng(check_seed(self.random_state)), matrix.labels.copy()
        for row in labels:
            answered = row != NOT_OBSERVED
            row[answered] = rng.permutation(row[answered])
        return super().fit(matrix.with_labels(labels))


class OnShare(AsTyped):
    """Another predictor, fitted to a random share of the training questions.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        Not fitted; it stays as it is.
    share : float
        Above 0 and at most 1.
    random_state : int
    """

    def __init__(self, predictor: CorrectnessPredictor, share: float, random_state: int = 0) -> None:
        self.predictor, self.share, self.random_state = predictor, share, random_state

    def fit(self, matrix: CorrectnessMatrix) -> Self:
        order = np.random.default_rng(check_seed(self.random_state)).permutation(matrix.n_questions)
        drawn = order < max(1, round(self.share * matrix.n_questions))
        return super().fit(matrix.subset(questions=drawn))


class Comparison(NamedTuple):
    """Predictors and routers on the test questions of the same runs.

    Attributes
    ----------
    runs : list of Run
    forecasts, routes : Tally
        From `tally_runs`, and from `tally_routes` with a router of each predictor, under its name, and further ones.
    seconds : DataFrame of shape (n_predictors, 2)
        From `timed_runs`.
    """

    runs: list[Run]
    forecasts: Tally
    routes: Tally
    seconds: pd.DataFrame


def timed_runs(
    matrix: CorrectnessMatrix,
    predictors: Mapping[str, CorrectnessPredictor],
    seed: int = 0,
    n_seeds: int = 2,
    group_by: str | None = None,
) -> tuple[list[Run], pd.DataFrame]:
    """Do what `fit_runs` does, and average the time that it takes.

    Returns
    -------
    runs : list of Run
    seconds : DataFrame of shape (n_predictors, 2)
        Columns `fit` and `predict` (all test questions): the mean over the runs.
    """
    runs = list(fit_runs(matrix, predictors, seed, n_seeds, group_by))
    seconds = np.mean([[run.seconds[name] for name in predictors] for run in runs], axis=0)
    return runs, pd.DataFrame(seconds, index=list(predictors), columns=["fit", "predict"])


def baseline_table(comparison: Comparison, baseline: str, single: str) -> pd.DataFrame:
    """Put forecasts and routes of each predictor on one line, with paired 95 % intervals over questions.

    Parameters
    ----------
    comparison : Comparison
    baseline : str
        The predictor whose log loss is subtracted.
    single : str
        The router whose accuracy is subtracted.

    Returns
    -------
    DataFrame
        A row for each predictor and further router. Columns: `data`, `method`; `log_loss` (nats), `loss_minus` (that of
        the baseline) with `loss_low` and `loss_high`; `accuracy` (%), `auc` (mean over the models), `ece` (points);
        `routing` (%) and `gain` (points over `single`) with `gain_low` and `gain_high`; `fit` and `predict` (seconds).
        NaN where there is no such thing.
    """
    forecasts, routes = comparison.forecasts, comparison.routes
    scores, routed = forecasts.by_seed().mean(), 100 * routes.by_seed()["accuracy"].mean()
    losses, accuracies = forecasts.resampled(metric="log_loss"), 100 * routes.resampled()
    errors, areas = 100 * calibration_errors(reliability(comparison.runs)).mean(), _areas(comparison.runs)
    rows = {}
    for name in dict.fromkeys([*losses, *accuracies]):
        row: dict[str, float] = {}
        if name in losses:
            row = {"log_loss": scores["log_loss", name], "accuracy": 100 * scores["accuracy", name]}
            row |= {"auc": areas[name], "ece": errors[name], **comparison.seconds.loc[name]}
            row["loss_minus"] = row["log_loss"] - scores["log_loss", baseline]
            row["loss_low"], row["loss_high"] = interval(losses[name] - losses[baseline])
        if name in accuracies:
            row |= {"routing": routed[name], "gain": routed[name] - routed[single]}
            row["gain_low"], row["gain_high"] = interval(accuracies[name] - accuracies[single])
        rows[name] = row
    columns = ["log_loss", "loss_minus", "loss_low", "loss_high", "accuracy", "auc", "ece"]
    columns += ["routing", "gain", "gain_low", "gain_high", "fit", "predict"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method").reset_index()
    table.insert(0, "data", forecasts.data)
    return table


def findings(comparison: Comparison, method: str) -> list[str]:
    """Say in words whether a method forecasts and routes better than the simplest ones, by 95 % intervals.

    Parameters
    ----------
    comparison : Comparison
        With the predictor `benchmark mean` and the routers `best single model` and `best model per benchmark`.
    method : str
    """
    forecasts, routes = comparison.forecasts, comparison.routes
    losses = forecasts.by_seed()["log_loss"], forecasts.resampled(metric="log_loss")
    routed = 100 * routes.by_seed()["accuracy"], 100 * routes.resampled()
    pairs = [("log loss", losses, "benchmark mean", "nats", 4)]
    pairs += [
        ("routing accuracy", routed, rival, "points", 2) for rival in ("best single model", "best model per benchmark")
    ]
    lines = []
    for what, (runs, resampled), rival, unit, digits in pairs:
        low, high = interval(resampled[method] - resampled[rival])
        word = "higher than" if low > 0 else "lower than" if high < 0 else "not told apart from"
        numbers = f"{(runs[method] - runs[rival]).mean():+.{digits}f} {unit}, " + (
            f"95 % interval {low:+.{digits}f} to {high:+.{digits}f}"
            if low == low
            else f"without an interval: fewer than {MIN_QUESTIONS} questions, or all differences are equal"
        )
        lines.append(f"{what} of the {method} {word} that of the {rival}: {numbers}")
    return lines


def _areas(runs: Sequence[Run]) -> pd.Series:
    """Area under the ROC curve, the mean over the models with both labels and over the runs, for each predictor."""
    areas = []
    for run in runs:
        pairs = {name: pairs_in_order(each, run.split.test, axis=1) for name, each in run.probabilities.items()}
        areas.append(pd.DataFrame({name: pd.Series(in_order) / n_pairs for name, (in_order, n_pairs) in pairs.items()}))
    return pd.concat(areas).mean()


def stack_weights(comparison: Comparison, stack: str) -> pd.DataFrame:
    """Return the weights of the parts of a stack, a row for each run."""
    weights = {run.seed: run.predictors[stack].weights_ for run in comparison.runs}  # type: ignore[attr-defined]
    return pd.DataFrame(weights).T.rename_axis("seed")


def small_pools(
    matrix: CorrectnessMatrix,
    shapes: Sequence[tuple[int, int]] = ((24, 500), (24, 2000)),
    n_draws: int = 5,
    random_state: int = 0,
) -> pd.DataFrame:
    """Fit the stack on small pools, drawn at random, and score it and its parts on all other questions.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    shapes : sequence of (int, int)
        Models and training questions; at most the models, and half of the questions, that there are. Shapes that become
        equal by that are drawn once.
    n_draws : int
    random_state : int

    Returns
    -------
    DataFrame
        A row for each shape and draw. Columns `models`, `questions`, `draw`, log loss (nats) of each part and of the
        `stack`, `stack minus best part`.
    """
    rng, groups, rows = np.random.default_rng(check_seed(random_state)), question_groups(matrix.questions), []
    limits = matrix.n_models, matrix.n_questions // 2
    for n_models, n_questions in dict.fromkeys(tuple(map(min, shape, limits)) for shape in shapes):
        for draw in range(n_draws):
            models = np.isin(np.arange(matrix.n_models), rng.permutation(matrix.n_models)[:n_models])
            chosen = np.isin(np.arange(matrix.n_questions), rng.permutation(matrix.n_questions)[:n_questions])
            others = ~np.isin(groups, groups[chosen])
            train, test = (matrix.subset(models=models, questions=each) for each in (chosen, others))
            stack = StackedCorrectness().fit(train)
            parts = stack.parts_ | {"stack": stack}
            losses = {name: mean_scores(part.predict_matrix(test), test)["log_loss"] for name, part in parts.items()}
            above = losses["stack"] - min(losses[name] for name in stack.parts_)
            row = {"models": n_models, "questions": n_questions, "draw": draw, **losses}
            rows.append(row | {"stack minus best part": above})
    return pd.DataFrame(rows)


def baseline_values(comparison: Comparison, stack: str, small: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    comparison : Comparison
        With the routers `best single model` and `best model per benchmark`, and predictors `MF` and `KNN`.
    stack : str
        Name of the stack; its parts are predictors of the comparison, too.
    small : DataFrame
        From `small_pools`.
    """
    forecasts, routes = comparison.forecasts, comparison.routes
    losses, runs = forecasts.resampled(metric="log_loss"), forecasts.by_seed()["log_loss"]
    accuracies, routed = 100 * routes.resampled(), 100 * routes.by_seed()["accuracy"]
    weights = stack_weights(comparison, stack)
    part = runs[list(weights)].mean().idxmin()
    rivals = ["best single model", "best model per benchmark", "KNN", "MF"]
    rival = routed[rivals].mean().idxmax()
    what, loss = "Log loss of the stack", interval(losses[stack] - losses[part])
    gain = interval(accuracies[stack] - accuracies[rival])
    within = (small["stack minus best part"] <= MARGIN).sum()
    return [
        ReportedValue("stack_log_loss", what, runs[stack], "nats", interval(losses[stack])),
        ReportedValue(
            "stack_minus_part", f"{what} minus its best part ({part})", runs[stack] - runs[part], "nats", loss
        ),
        ReportedValue(
            "stack_routing", "Routing accuracy of the stack", routed[stack], "%", interval(accuracies[stack])
        ),
        ReportedValue(
            "stack_routing_gain",
            f"Routing: stack minus best of four ({rival})",
            routed[stack] - routed[rival],
            "points",
            gain,
        ),
        *(
            ReportedValue(f"weight_{number}", f"Weight of {name} in the stack", weights[name])
            for number, name in enumerate(weights)
        ),
        ReportedValue("small_pools", "Small pools drawn", [len(small)], count=True),
        ReportedValue("small_within", f"Small pools: stack at most {MARGIN} nats above its best part", [within]),
    ]
