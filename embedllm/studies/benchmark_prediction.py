"""Predict the accuracies of the models on a held-out benchmark from what was learned on the other benchmarks.

For each benchmark the factorization is fitted without its questions. The model embeddings are the features of a linear
regression of the models' accuracies on the benchmark, which is fitted on some models and tested on the others.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.3 and Figure 5: :func:`predict_heldout` and :func:`count_significant`. Ridge
regression in folds of models and the mean accuracy as a predictor (:func:`summarize_correlations`) are this
companion's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from embedllm._support.checks import check_positive, check_seed
from embedllm.matrix import OVERALL, CorrectnessMatrix
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.bootstrap import MIN_MODELS, interval
from embedllm.protocol.leave_out import (
    MIN_SPLIT_MODELS,
    N_SPLITS,
    benchmark_accuracies,
    benchmarks_named,
    fits_without,
    model_vectors,
    predict_in_splits,
)
from embedllm.protocol.recorded import find_record
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import split_runs
from embedllm.protocol.significance import SIGNIFICANT

SGD, EXACT, RIDGE, MEAN_ACCURACY = "SGD", "exact", "ridge", "mean accuracy"
N_FOLDS = 10
PENALTIES = np.logspace(-4, 6, 21)
MATHEMATICS = ("mathqa", "math", "gsm", "svamp", "asdiv", "arithmetic")
"""Parts of names of benchmarks of mathematics; the earlier, the closer to MathQA."""


class Heldout(NamedTuple):
    """Predicted accuracies of models on benchmarks that were left out of training.

    Attributes
    ----------
    splits : DataFrame
        One row for each predictor, benchmark and random split of the models. Columns: `data` (the source of the
        matrix), `predictor` (the features of the regression), `benchmark`, `n_models`, `n_test`, `tau` (Kendall's,
        between predicted and actual accuracies of the test models) and `p_value` (two-sided). NaN with fewer than 20
        models, or where all are equal.
    models : DataFrame
        One row for each predictor, benchmark and model. Columns: `data`, `predictor`, `benchmark`, `model`, `predicted`
        and `actual` (shares of 1, NaN for a model that does not enter). Predicted by regression on SGD's or the exact
        embeddings: mean over the splits in which the model is tested. `ridge` and `mean accuracy`: without splits.
    """

    splits: pd.DataFrame
    models: pd.DataFrame

    def joined(self, other: Heldout) -> Heldout:
        """Put the predictors of another one after those of this one."""
        return other if self.splits.empty else Heldout(*(pd.concat(pair) for pair in zip(self, other, strict=True)))


def predict_heldout(matrix: CorrectnessMatrix, embedders: Mapping[str, MatrixFactorization], seed: int = 0) -> Heldout:
    """Predict the accuracies of the models on each benchmark from the answers to the training questions of the others.

    The actual accuracy is over all observed answers to a benchmark, none of which was in the fit. A model is left out
    if it has no such answer, or none to a training question of another benchmark. Beside the embedders there are, in
    the same splits, a regression on the mean accuracy on the other benchmarks, and, for the embedder `exact`, ridge
    regression in folds of models.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    embedders : mapping of str to MatrixFactorization
        Clones are fitted, one for each benchmark.
    seed : int
        Of the division of the questions, where the source brings none, of training, and of the splits of the models.
    """
    actual = benchmark_accuracies(matrix)
    splits, models = [], []
    for name, benchmark, vectors in _features(matrix, embedders, seed):
        # In the order of their names, so that the splits do not depend on the order of the matrix.
        known = vectors.dropna().index.intersection(actual[benchmark].dropna().index).sort_values()
        target, features = actual.loc[known, benchmark].to_numpy(), vectors.loc[known].to_numpy()
        key = {"data": matrix.source, "predictor": name, "benchmark": benchmark}
        predicted = predict_in_splits(features, target, seed)
        tested = np.isfinite(predicted)
        n_tested = tested.sum(axis=0)  # of each model
        entered, undefined = tested.any(), np.full(len(known), np.nan)
        taus = [
            kendalltau(row[test], target[test])[:2] if entered else (np.nan, np.nan)
            for row, test in zip(predicted, tested, strict=True)
        ]
        rows = pd.DataFrame(taus, columns=["tau", "p_value"])
        splits.append(rows.assign(**key, n_models=len(known), n_test=int(tested[0].sum())))
        predictions = {name: np.nansum(predicted, axis=0) / n_tested if entered else undefined}
        if name == MEAN_ACCURACY and entered:
            predictions[name] = features[:, 0]
        if name == EXACT:
            predictions[RIDGE] = regress_out_of_fold(features, target, seed) if entered else undefined
        for predictor, values in predictions.items():
            rows = pd.DataFrame({"predicted": values, "actual": target}, known).reindex(sorted(matrix.model_names))
            models.append(rows.rename_axis("model").reset_index().assign(**key | {"predictor": predictor}))
    return Heldout(
        pd.concat(splits, ignore_index=True)[[*_KEYS, "n_models", "n_test", "tau", "p_value"]],
        pd.concat(models, ignore_index=True)[[*_KEYS, "model", "predicted", "actual"]],
    )


_KEYS = ["data", "predictor", "benchmark"]


def _features(
    matrix: CorrectnessMatrix, embedders: Mapping[str, MatrixFactorization], seed: int
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each predictor and benchmark with the vectors of the models that have an answer elsewhere, by name."""
    ((_, split),) = split_runs(matrix, seed, 1)
    seen = benchmark_accuracies(split.train)
    elsewhere = {name: seen.drop(columns=name, errors="ignore").dropna(how="all") for name in matrix.benchmark_names}
    for benchmark, accuracies in elsewhere.items():
        yield MEAN_ACCURACY, benchmark, mean_accuracy(accuracies).to_frame(0)
    for name, mf in embedders.items():
        for (benchmark,), fitted in fits_without(split, mf, [(each,) for each in elsewhere], seed):
            placed = elsewhere[benchmark].index
            yield name, benchmark, model_vectors(fitted).loc[placed] if fitted else pd.DataFrame(index=placed)


def mean_accuracy(accuracies: pd.DataFrame) -> pd.Series:
    """Return the mean accuracy of each model over benchmarks, with equal weights.

    Not every model answers every benchmark, and skipping a hard one must not help: what is averaged is the difference
    to the mean of the models on each benchmark. With nothing missing, this is the plain mean.

    Parameters
    ----------
    accuracies : DataFrame of shape (n_models, n_benchmarks)
        NaN where a model has no answer.
    """
    of_benchmark = accuracies.mean()
    return (accuracies - of_benchmark).mean(axis=1) + of_benchmark.mean()


def regress_out_of_fold(vectors: np.ndarray, accuracy: np.ndarray, seed: int = 0) -> np.ndarray:
    """Predict the accuracy of each model from the vectors and accuracies of others, by ridge regression in ten folds.

    The penalty is chosen inside the models of the other folds, by leaving one out.

    A regression that learns nothing predicts the mean of the models it was fitted on, and that mean is lower when the
    left-out models are better: over the folds, this would rank the models in reverse. The mean is therefore taken over
    all models, and only the slope is from the other folds; the mean adds the same to every prediction, so that no rank
    depends on it.

    Parameters
    ----------
    vectors : ndarray of shape (n_models, n_coordinates)
    accuracy : ndarray of shape (n_models,)
    seed : int
        Of the folds. With at most ten models each is a fold of its own.

    Returns
    -------
    ndarray of shape (n_models,)
    """
    predicted = np.empty(len(accuracy))
    legacy_seed = check_seed(seed) % 2**32  # scikit-learn takes no larger ones
    folds = KFold(min(N_FOLDS, len(accuracy)), shuffle=True, random_state=legacy_seed)
    for inside, outside in folds.split(vectors):
        regression = RidgeCV(PENALTIES).fit(vectors[inside], accuracy[inside])
        predicted[outside] = regression.predict(vectors[outside]) - accuracy[inside].mean()
    return predicted + accuracy.mean()


def count_significant(splits: pd.DataFrame) -> pd.DataFrame:
    """Count, for each benchmark, the splits whose tau is significant: the paper's measure.

    The splits overlap, so that the count describes them and is not a test. A benchmark is *significant*, by this
    companion's rule, if more than half of its splits are.

    Parameters
    ----------
    splits : DataFrame
        `Heldout.splits`.

    Returns
    -------
    DataFrame
        One row for each predictor and benchmark. Columns: `data`, `predictor`, `benchmark`, `n_models`, `n_test`,
        `splits` (of 100, with p < 0.05), `reversed` (those of them with a tau below 0), `tau` (median), `least`
        (smallest tau that is significant with so many test models) and `significant`. NaN where a benchmark cannot be
        tested.
    """
    rows = splits.assign(
        splits=splits["p_value"] < SIGNIFICANT, reversed=(splits["p_value"] < SIGNIFICANT) & (splits["tau"] < 0)
    )
    keys = [*_KEYS, "n_models", "n_test"]
    table = rows.groupby(keys, sort=False).agg({"splits": "sum", "reversed": "sum", "tau": "median"}).reset_index()
    tested = table["n_test"] > 0
    table["least"] = table["n_test"].map({n: smallest_significant_tau(n) for n in pd.unique(table["n_test"])})
    counts = table[["splits", "reversed"]].astype(float).where(tested)
    return table.assign(**counts, significant=(counts["splits"] > N_SPLITS / 2).astype(float).where(tested))


def smallest_significant_tau(n: int) -> float:
    """Return the smallest Kendall's tau above 0 that is significant (two-sided p < 0.05) for n models without ties.

    Examples
    --------
    >>> from embedllm.studies.benchmark_prediction import smallest_significant_tau
    >>> round(smallest_significant_tau(10), 3), smallest_significant_tau(4)
    (0.511, nan)
    """
    pairs = n * (n - 1) // 2

    def p_value(discordant: int) -> float:
        left, ranking = list(range(n)), []
        for place in range(n):  # one ranking of so many discordant pairs
            step = min(discordant, n - 1 - place)
            ranking.append(left.pop(step))
            discordant -= step
        return float(kendalltau(range(n), ranking)[1])

    first = bisect_left(range(pairs // 2), SIGNIFICANT, key=p_value)  # the first that is not significant
    return 1 - 2 * (first - 1) / pairs if first else float("nan")


def closest_to_mathematics(benchmarks: list[str]) -> str:
    """Return MathQA or, without it, the first benchmark whose name comes first in `MATHEMATICS`, or else the first."""
    return [*benchmarks_named(benchmarks, MATHEMATICS), *benchmarks][0]


def recorded_heldout(matrix: CorrectnessMatrix, path: Path | None = None) -> tuple[Heldout, pd.DataFrame]:
    """Read what ``tools/record_sgd.py`` recorded of these answers, in `data/sgd_heldout.json`.

    Returns
    -------
    heldout : Heldout
        Of SGD's embeddings; `models` has the benchmark closest to MathQA only. Both without rows if nothing is
        recorded of these answers.
    about : DataFrame
        One row: the date, the version of this package, the settings and the hash of the answers; or why there is none.

    Raises
    ------
    ValueError
        If the file is not a complete record.
    """
    record, about = find_record("sgd_heldout.json", matrix, path, "tools/record_sgd.py")
    if record is None:
        columns = {"splits": [*_KEYS, "n_models", "n_test", "tau", "p_value"], "models": [*_KEYS, "model"]}
        return Heldout(pd.DataFrame(columns=columns["splits"]), pd.DataFrame(columns=columns["models"])), about
    splits = record["splits"].explode(["tau", "p_value"], ignore_index=True)
    return Heldout(splits.astype({"tau": float, "p_value": float}), record["models"]), about


def summarize_correlations(models: pd.DataFrame, n_resamples: int = 2000) -> pd.DataFrame:
    """Return Kendall's tau over all models of `ridge` and `mean accuracy`, with a bootstrap interval over the models.

    A resample draws models, with their predictions and accuracies for all benchmarks, so that the interval of a
    difference is the paired one; a model that is drawn twice is not compared with itself. The regressions are not
    fitted again.

    Parameters
    ----------
    models : DataFrame
        `Heldout.models`.
    n_resamples : int
        Drawn with a fixed seed.

    Returns
    -------
    DataFrame
        One row for each benchmark, after the mean over the benchmarks, `overall`, and for each predictor and the
        difference of the two. Columns: `data`, `benchmark`, `predictor`, `n_models` (the most that any benchmark has,
        in the row of the mean), `tau`, `low` and `high` (95 % interval; NaN with fewer than five models).
    """
    models = models[models["predictor"].isin([RIDGE, MEAN_ACCURACY])]
    names, benchmarks = np.sort(pd.unique(models["model"])), list(pd.unique(models["benchmark"]))
    n = len(names)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), check_positive("n_resamples", n_resamples))
    times = np.vstack([np.ones((1, n), int), drawn])  # the models as they are, then the resamples
    taus: dict[tuple[str, str], np.ndarray] = {}
    n_models: dict[str, int] = {}
    for (predictor, benchmark), group in models.groupby(["predictor", "benchmark"], sort=False):
        both = group.dropna()
        drawn = times[:, np.searchsorted(names, both["model"])]
        taus[predictor, benchmark] = weighted_taus(both["predicted"].to_numpy(), both["actual"].to_numpy(), drawn)
        n_models[benchmark] = max(len(both), n_models.get(benchmark, 0))
    for predictor in (RIDGE, MEAN_ACCURACY):
        each = pd.DataFrame({benchmark: taus[predictor, benchmark] for benchmark in benchmarks})
        taus[predictor, OVERALL] = each.mean(axis=1).to_numpy()  # of the benchmarks that are defined
    n_models[OVERALL] = max(n_models.values())
    rows = []
    for benchmark in (OVERALL, *benchmarks):
        of_it = {predictor: taus[predictor, benchmark] for predictor in (RIDGE, MEAN_ACCURACY)}
        of_it[f"{RIDGE} minus {MEAN_ACCURACY}"] = of_it[RIDGE] - of_it[MEAN_ACCURACY]
        for predictor, (tau, *resampled) in of_it.items():
            ends = interval(np.array(resampled)) if n_models[benchmark] >= MIN_MODELS else (np.nan, np.nan)
            rows.append((models["data"].iat[0], benchmark, predictor, n_models[benchmark], tau, *ends))
    return pd.DataFrame(rows, columns=["data", "benchmark", "predictor", "n_models", "tau", "low", "high"])


def weighted_taus(predicted: np.ndarray, actual: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b of samples that hold each model a number of times.

    Parameters
    ----------
    predicted, actual : ndarray of shape (n_models,)
    times : ndarray of shape (n_samples, n_models)

    Returns
    -------
    ndarray of shape (n_samples,)
        NaN where a sample has no two models that differ.
    """
    times = times.astype(float)
    first, second = (np.sign(values[:, None] - values) for values in (predicted, actual))  # (n_models, n_models)
    concordance, untied_first, untied_second = (
        ((times @ pairs) * times).sum(axis=1) for pairs in (first * second, np.abs(first), np.abs(second))
    )
    untied = np.sqrt(untied_first * untied_second)
    return np.divide(concordance, untied, out=np.full(len(times), np.nan), where=untied > 0)


def heldout_values(heldout: Heldout) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    heldout : Heldout
        Of `predict_heldout`, after the recorded one.
    """
    counts = count_significant(heldout.splits)
    by_predictor = dict(list(counts.groupby("predictor")))
    summary = summarize_correlations(heldout.models).set_index(["benchmark", "predictor"]).loc[OVERALL]
    entered = by_predictor[EXACT]
    tested = entered[entered["n_test"] > 0]
    few = f"no benchmark has {MIN_SPLIT_MODELS} models"
    found = {
        "test_models": ("models tested in a split, at least", tested["n_test"].min(), few),
        "least_tau": ("smallest tau that is significant with so many", tested["least"].max(), few),
    }
    for key, name in {"sgd": SGD, "exact": EXACT, "mean_accuracy": MEAN_ACCURACY}.items():
        rows = by_predictor.get(name, entered.iloc[:0])
        reason = few if len(rows) else f"the vectors of {name} are not recorded"
        number, tau = rows["significant"].sum(min_count=1), rows["tau"].mean()
        what = "benchmarks with p < 0.05 in more than half of 100 splits"
        found[f"significant_{key}"] = (f"{what}: {name}", number, reason)
        found[f"median_tau_{key}"] = (f"median tau over the splits, mean: {name}", tau, reason)
    gain = f"{RIDGE} minus {MEAN_ACCURACY}"
    tau, low, high = summary.loc[gain, ["tau", "low", "high"]].astype(float)
    return [
        ReportedValue("heldout_benchmarks", "benchmarks held out, with at least 20 models", [len(tested)], count=True),
        *(ReportedValue(key, what, [value], reason=reason) for key, (what, value, reason) in found.items()),
        ReportedValue("tau_gain", f"tau over all models, mean: {gain}", [tau], interval=(low, high)),
    ]
