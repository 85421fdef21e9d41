"""Correctness forecasting: predict which model answers which question correctly, and from how many questions.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.1 and Table 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone

from embedllm._support.checks import check_option, name_positions
from embedllm.matrix import CORRECT, CorrectnessMatrix, Split
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.scores import METRICS, THRESHOLD, score_cells
from embedllm.protocol.calibration import calibration_errors
from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.runs import Run, fit_clone, takes_seed
from embedllm.protocol.tally import Tally

Grouping = Literal["benchmark", "model"]

SIZES = (1_000, 5_000, 10_000, 15_000, 20_000, 25_000)
"""Numbers of training questions in the paper's Table 1, below all of them."""

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
"""Shares of the training questions taken instead where fewer than three of `SIZES` are below all."""


def evaluate_forecasts(
    predictors: Mapping[str, CorrectnessPredictor], matrix: CorrectnessMatrix, by: Grouping = "benchmark"
) -> pd.DataFrame:
    """Compare fitted predictors over the observed entries of a matrix.

    Parameters
    ----------
    predictors : mapping of str to CorrectnessPredictor
        Name to fitted predictor.
    matrix : CorrectnessMatrix
        Its models are matched by name to those fitted.
    by : "benchmark" or "model"

    Returns
    -------
    DataFrame
        One row for each predictor and each group, the group `overall` first. Columns: `data` (the source of the
        matrix), `predictor`, the grouping, `accuracy` with its `stderr`, `log_loss` (nats, probabilities clipped to
        [0.001, 0.999]), `brier`, `n_observed` (entries), `n_questions`. The metrics of a group without an observed
        entry are NaN. The standard error is over questions, because the answers to one question are correlated.

    Raises
    ------
    KeyError
        If a model of the matrix was not there at fit time.
    ValueError
        If `by` is none of the two.

    Examples
    --------
    >>> from embedllm import BenchmarkMean, KNNCorrectness, evaluate_forecasts, load_dataset
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> predictors = {"KNN": KNNCorrectness(n_neighbors=15).fit(train), "benchmark mean": BenchmarkMean().fit(train)}
    >>> evaluate_forecasts(predictors, test, by="model").query("model == 'overall'")["predictor"].tolist()
    ['KNN', 'benchmark mean']
    """
    probabilities = {name: predictor.predict_matrix(matrix) for name, predictor in predictors.items()}
    return forecast_table(tally_forecasts(probabilities, matrix, by))


def tally_forecasts(
    probabilities: Mapping[str, np.ndarray], matrix: CorrectnessMatrix, by: Grouping = "benchmark", seed: int = 0
) -> Tally:
    """Add up, for each question, the accuracy, log loss and Brier score of its observed entries.

    Parameters
    ----------
    probabilities : mapping of str to ndarray of shape (n_models, n_questions)
        Name of a predictor to what it predicts; axes as in `matrix.labels`.
    matrix : CorrectnessMatrix
    by : "benchmark" or "model"
    seed : int
        Of the run.
    """
    check_option("by", by, Grouping)
    correct = matrix.labels == CORRECT

    def add_up(entries: np.ndarray) -> np.ndarray:
        observed = np.where(matrix.observed, entries, 0)  # (n_models, n_questions)
        return observed.sum(axis=0) if by == "benchmark" else observed.ravel()

    sums = {
        (metric, name): add_up(entries)
        for name, probability in probabilities.items()
        for metric, entries in score_cells(probability, correct).items()
    }
    return Tally.of(matrix, seed, sums, add_up(matrix.observed), "predictor", by)


def tally_runs(runs: Iterable[Run]) -> Tally:
    """Do what `tally_forecasts` does by benchmark, with the predictions of each run for its test questions."""
    return Tally.join(tally_forecasts(run.probabilities, run.split.test, seed=run.seed) for run in runs)


def forecast_table(tally: Tally) -> pd.DataFrame:
    """Return the means over the runs: the columns of `evaluate_forecasts`.

    `n_observed` and `n_questions` are means over the runs.
    """
    return tally.table().rename(columns={"count": "n_observed"})


def training_sizes(n_questions: int) -> list[int]:
    """Return the sizes to train on, ascending, the last one all questions.

    Parameters
    ----------
    n_questions : int
        In the training part.
    """
    sizes = [size for size in SIZES if size < n_questions]
    if len(sizes) < 3:
        sizes = sorted({round(share * n_questions) for share in FRACTIONS} - {0, n_questions})
    return [*sizes, n_questions]


def nested_subsets(train: CorrectnessMatrix, sizes: Sequence[int], seed: int) -> Iterator[CorrectnessMatrix]:
    """Draw training questions, the smaller subsets from the larger ones.

    Questions without an observed answer, from which nothing is learned, are drawn last.

    Parameters
    ----------
    train : CorrectnessMatrix
    sizes : sequence of int
    seed : int

    Yields
    ------
    CorrectnessMatrix
        Of each size, with questions in the order of `train`.
    """
    order = np.random.default_rng(seed).permutation(train.n_questions)
    answered = np.asarray(train.observed.any(axis=0))
    order = np.concatenate([order[answered[order]], order[~answered[order]]])
    for size in sizes:
        yield train.subset(questions=np.isin(np.arange(train.n_questions), order[:size]))


def fit_tuned(
    predictor: CorrectnessPredictor, train: CorrectnessMatrix, val: CorrectnessMatrix, seed: int, values: Sequence[int]
) -> CorrectnessPredictor:
    """Fit a clone, with the k of KNN or the dim of an exact MF that is most accurate on the validation questions.

    It takes one fit: KNN keeps the questions, and the first dimensions of an exact fit are the fit with so many.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        Any other, and any without an observed validation answer, is fitted as it is.
    train, val : CorrectnessMatrix
    seed : int
    values : sequence of int
        Of several equally good ones, the first is chosen.
    """
    if isinstance(predictor, KNNCorrectness) and val.observed.any():
        knn = fit_clone(predictor, train, seed)
        each = knn.predict_proba_each(val.embeddings, values)  # (n_values, n_questions, n_models)
        columns = name_positions("model", val.model_names, knn.model_names_)
        hits = (each[:, :, columns] > THRESHOLD) == (val.labels == CORRECT).T
        return knn.set_params(n_neighbors=values[hits[:, val.observed.T].mean(axis=1).argmax()])
    if isinstance(predictor, MatrixFactorization) and predictor.solver == "exact" and val.observed.any():
        mf = fit_clone(clone(predictor).set_params(dim=max(values)), train, seed, val)
        return max((mf.truncated(dim) for dim in values), key=lambda part: part.score(val))
    return fit_clone(predictor, train, seed, val)


def learning_curve(
    runs: Iterable[Run], values: Mapping[str, Sequence[int]] | None = None
) -> tuple[pd.DataFrame, Tally]:
    """Fit the predictors on nested subsets of the training questions and evaluate them on all test questions.

    This is the protocol of Table 1: hyperparameters are chosen for each size, on the validation questions of the run,
    the same for all sizes.

    Parameters
    ----------
    runs : iterable of Run
    values : mapping of str to sequence of int, optional
        Values to try for a predictor, as in `fit_tuned`; the others are left as they are.

    Returns
    -------
    curve : DataFrame
        One row for each run, training size and predictor. Columns: `data`, `seed`, `size` (training questions),
        `predictor`, `chosen` (k or dim; NaN where none was chosen), `accuracy`, `log_loss`, `brier`.
    tally : Tally
        Of the fits on all training questions, by benchmark.
    """
    points: list[pd.DataFrame] = []
    tallies: list[Tally] = []
    everything: dict[str, _Fitted] = {}
    split: Split | None = None
    for run in runs:
        # Fits on all questions are alike in all runs where the source brings its own division and nothing is random.
        if run.split is not split:
            everything, split = {}, run.split
        everything = {name: each for name, each in everything.items() if not takes_seed(run.predictors[name])}
        of_sizes, tallied = zip(*_points(run, values or {}, everything), strict=True)
        points += of_sizes
        tallies.append(tallied[-1])
    curve = pd.concat(points, ignore_index=True)[["data", "seed", "size", "predictor", "chosen", *METRICS]]
    return curve, Tally.join(tallies)


class _Fitted(NamedTuple):
    probabilities: np.ndarray  # (n_models, n_test)
    chosen: int | None  # k or dim


def _points(
    run: Run, values: Mapping[str, Sequence[int]], everything: dict[str, _Fitted]
) -> Iterator[tuple[pd.DataFrame, Tally]]:
    """Yield the points and the tally of each size, in one run.

    `everything` holds the fits on all questions that are known, and gets the others.
    """
    train, val, test = run.split
    *smaller, n_all = training_sizes(train.n_questions)
    for size, part in zip([*smaller, n_all], chain(nested_subsets(train, smaller, run.seed), [train]), strict=True):
        fits = everything if part is train else {}
        for name, predictor in run.predictors.items():
            if name in fits:
                continue
            if name in values:
                fitted = fit_tuned(predictor, part, val, run.seed, values[name])
                parameters = fitted.get_params()
                chosen = parameters.get("n_neighbors", parameters.get("dim"))
                fits[name] = _Fitted(fitted.predict_matrix(test), chosen)
            elif part is train:
                fits[name] = _Fitted(run.probabilities[name], None)
            else:
                fits[name] = _Fitted(fit_clone(predictor, part, run.seed, val).predict_matrix(test), None)
        fits = {name: fits[name] for name in run.predictors}
        tally = tally_forecasts({name: each.probabilities for name, each in fits.items()}, test, seed=run.seed)
        overall = tally.by_seed().iloc[0]
        metrics = pd.DataFrame({metric: overall[metric] for metric in METRICS}).rename_axis("predictor").reset_index()
        metrics["chosen"] = metrics["predictor"].map({name: each.chosen for name, each in fits.items()})
        yield metrics.assign(data=test.source, seed=run.seed, size=size), tally


def published_table() -> pd.DataFrame:
    """Return the accuracies of the paper's Table 1.

    Returns
    -------
    DataFrame
        Columns `predictor` ("MF" or "KNN"), `size` (training questions; NaN for all) and `accuracy`.
    """
    values = load_published()["value"]
    rows = [
        (name, size, float(values[f"{name.lower()}_accuracy" + (f"_{size}" if size else "")]) / 100)
        for name in ("MF", "KNN")
        for size in (*SIZES, None)
    ]
    return pd.DataFrame(rows, columns=["predictor", "size", "accuracy"])


def size_table(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracy over the seeds in percent, rows training sizes, columns predictors.

    Parameters
    ----------
    curve : DataFrame
        From `learning_curve`.

    Returns
    -------
    DataFrame
        Indexed by `data` and `size`; rounded to a hundredth of a point.
    """
    wide = curve.pivot_table(index=["data", "size"], columns="predictor", values="accuracy", dropna=False) * 100
    return wide[list(pd.unique(curve["predictor"]))].round(2)


def forecast_values(
    tally: Tally, first: Tally, bins: pd.DataFrame, curve: pd.DataFrame, table_1: Tally
) -> list[ReportedValue]:
    """Return the values that the forecasting page reports.

    Parameters
    ----------
    tally : Tally
        From `tally_runs`, of `MF`, `KNN`, `benchmark mean` and `model mean`.
    first : Tally
        Of the first run alone, with the predictions of `MF` and `SGD`.
    bins : DataFrame
        From `embedllm.protocol.calibration.reliability`.
    curve, table_1 : DataFrame and Tally
        From `learning_curve`.
    """
    mf, knn, sgd, baseline, model_baseline = "MF", "KNN", "SGD", "benchmark mean", "model mean"
    errors = 100 * calibration_errors(bins)
    accuracy = {group: tally.by_seed(group)["accuracy"] for group in tally.groups[1:]}
    tested = pd.DataFrame({group: each[mf].notna() for group, each in accuracy.items()})
    above = pd.DataFrame({group: each[mf] > each[baseline] for group, each in accuracy.items()})
    below = pd.DataFrame({group: each[mf] < each[knn] for group, each in accuracy.items()})
    size = curve["size"].min()
    smallest = 100 * curve[curve["size"] == size].pivot(index="seed", columns="predictor", values="accuracy")
    what, few = "Forecasting accuracy of", f"fitted on {size:,} questions"
    wanted = [
        *(Wanted(f"{key}_accuracy", f"{what} {name}", name) for key, name in (("mf", mf), ("knn", knn))),
        Wanted("floor_accuracy", f"{what} the baseline ({baseline})", baseline),
        Wanted("model_floor_accuracy", f"{what} the baseline ({model_baseline})", model_baseline),
        Wanted("mf_minus_knn", f"{what} {mf} minus {knn}", mf, minus=knn),
        Wanted("mf_minus_floor", f"{what} {mf} minus the baseline ({baseline})", mf, minus=baseline),
    ]
    beside = [
        Wanted("sgd_accuracy", f"{what} {sgd}, first run", sgd),
        Wanted("mf_minus_sgd", f"{what} {mf} minus {sgd}, first run", mf, minus=sgd),
    ]
    chosen = "dim and k chosen"
    in_table_1 = [
        *(Wanted(f"table_1_{key}", f"{what} {name}, {chosen}", name) for key, name in (("mf", mf), ("knn", knn))),
        Wanted("table_1_mf_minus_knn", f"{what} {mf} minus {knn}, {chosen}", mf, minus=knn),
    ]
    answers = tally.rows.groupby("seed")["count"].sum()
    gap = smallest[mf] - smallest[knn]
    return [
        *accuracy_values(tally, wanted),
        *accuracy_values(first, beside),
        *accuracy_values(table_1, in_table_1),
        ReportedValue("mf_minus_knn_smallest", f"{what} {mf} minus {knn}, {few}", gap, "points"),
        ReportedValue("smallest_size", "Smallest number of training questions", [size], count=True),
        ReportedValue("above_floor", f"Benchmarks where {mf} is above the baseline", above.sum(axis=1)),
        ReportedValue("below_knn", f"Benchmarks where {mf} is below {knn}", below.sum(axis=1)),
        ReportedValue("forecast_benchmarks", "Benchmarks with test answers", tested.sum(axis=1), count=True),
        ReportedValue("forecast_answers", "Test answers", answers, count=True),
        *(
            ReportedValue(f"{key}_ece", f"Expected calibration error of {name}", errors[name], "points")
            for key, name in (("mf", mf), ("knn", knn))
        ),
    ]
