"""Predict the accuracies of the models on a held-out benchmark from what was learned on the other benchmarks.

For each benchmark the factorization is fitted without its questions. The accuracies of the models on the benchmark are
then regressed on what was learned of the models, each model being predicted from others, and the ranks of predicted and
actual accuracies are compared. The regression is linear in one of two sets of coordinates::

    embeddings          p_m, as in the paper
    model directions    W' ((c1 - c0) * p_m): the weights of the model on the coordinates of a question embedding

The coordinates of an exact fit are differences of logits, ordered by importance, and keep their scale; those of the
directions are standardized. Both are compared with the *mean accuracy* of the model on the other benchmarks, which
needs no embedding.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.3 and Figure 5. Ridge regression in folds of models is this companion's; the
paper has a plain linear regression over 100 random splits of the models.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embedllm._checks import check_positive, check_seed
from embedllm.matrix import OVERALL, CorrectnessMatrix
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.bootstrap import MIN_MODELS, interval
from embedllm.protocol.leave_out import benchmarks_named, fits_without
from embedllm.protocol.reported_values import ReportedValue

EMBEDDINGS, DIRECTIONS, MEAN_ACCURACY = PREDICTORS = ("embeddings", "model directions", "mean accuracy")
LEAST_MODELS = 4  # with fewer, no rank correlation is computed
N_FOLDS = 10
PENALTIES = np.logspace(-4, 6, 21)
SIGNIFICANT = 0.05

# Where the paper finds no significant correlation: GPQA, ASDiv and SocialQA, under whatever name a source has for them.
_EXCEPTIONS = ("gpqa", "asdiv", "social")


def predict_heldout(
    matrix: CorrectnessMatrix, mf: MatrixFactorization, seed: int = 0, n_seeds: int = 3
) -> pd.DataFrame:
    """Predict the accuracies of the models on each benchmark from the answers to the other benchmarks.

    The actual accuracy is over all observed answers to a benchmark, none of which was in the fit. A model is left out
    if it has no such answer, or none to a training question of another benchmark.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    mf : MatrixFactorization
        Clones of it are fitted.
    seed, n_seeds : int

    Returns
    -------
    DataFrame
        One row for each seed, benchmark, predictor and model. Columns: `data` (the source of the matrix), `seed`,
        `benchmark`, `predictor`, `model`, `predicted` and `actual` (accuracies, shares of 1), NaN where the model is
        left out or there are fewer than four models.
    """
    actual = _accuracies(matrix)
    frames = []
    for fit in fits_without(matrix, mf, seed, n_seeds):
        elsewhere = _accuracies(fit.split.train).drop(columns=fit.benchmark, errors="ignore")
        known = actual[fit.benchmark].notna() & elsewhere.notna().any(axis=1)
        names = known.index[known].sort_values()  # so that the folds do not depend on the order of the matrix
        target = actual.loc[names, fit.benchmark]
        predicted = pd.DataFrame(np.nan, index=names, columns=list(PREDICTORS))
        if fit.mf is not None and len(names) >= LEAST_MODELS:
            places = pd.Index(fit.mf.model_names_).get_indexer(names)
            for predictor, vectors in ((EMBEDDINGS, fit.mf.model_embeddings_), (DIRECTIONS, fit.mf.coef_)):
                scaled = predictor == DIRECTIONS
                predicted[predictor] = regress_out_of_fold(vectors[places], target.to_numpy(), fit.seed, scaled)
            predicted[MEAN_ACCURACY] = mean_accuracy(elsewhere.loc[names])
        predicted = predicted.reindex(matrix.model_names).rename_axis("model").assign(actual=target)
        long = predicted.melt("actual", var_name="predictor", value_name="predicted", ignore_index=False)
        frames.append(long.reset_index().assign(data=matrix.source, seed=fit.seed, benchmark=fit.benchmark))
    columns = ["data", "seed", "benchmark", "predictor", "model", "predicted", "actual"]
    return pd.concat(frames, ignore_index=True)[columns]


def _accuracies(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Accuracy of each model on each benchmark, NaN where nothing was observed."""
    table = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    return table.loc[matrix.model_names, matrix.benchmark_names]


def regress_out_of_fold(
    vectors: np.ndarray, accuracy: np.ndarray, seed: int = 0, standardize: bool = True
) -> np.ndarray:
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
    standardize : bool
        Whether each coordinate is divided by its standard deviation over the models of the other folds.

    Returns
    -------
    ndarray of shape (n_models,)
    """
    vectors, predicted = np.asarray(vectors, dtype=float), np.empty(len(accuracy))
    legacy_seed = check_seed(seed) % 2**32  # scikit-learn takes no larger ones
    folds = KFold(min(N_FOLDS, len(accuracy)), shuffle=True, random_state=legacy_seed)
    for inside, outside in folds.split(vectors):
        regression = make_pipeline(StandardScaler(with_std=standardize), RidgeCV(PENALTIES)).fit(
            vectors[inside], accuracy[inside]
        )
        predicted[outside] = regression.predict(vectors[outside]) - accuracy[inside].mean()
    return predicted + accuracy.mean()


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


def rank_correlations(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau between predicted and actual accuracies.

    Parameters
    ----------
    predictions : DataFrame
        From `predict_heldout`.

    Returns
    -------
    DataFrame
        One row for each seed, benchmark and predictor. Columns: `data`, `seed`, `benchmark`, `predictor`, `n_models`,
        `tau`, `p_value` (two-sided; both NaN with fewer than four models or where all are equal) and `significant`:
        whether tau is above 0 with a p-value below 0.05.
    """
    rows = []
    keys = ["data", "seed", "benchmark", "predictor"]
    for key, group in predictions.groupby(keys, sort=False):
        both = group[["predicted", "actual"]].dropna()
        tau, p_value = kendalltau(both["predicted"], both["actual"]) if len(both) >= LEAST_MODELS else (np.nan, np.nan)
        rows.append((*key, len(both), tau, p_value, bool(tau > 0 and p_value < SIGNIFICANT)))
    return pd.DataFrame(rows, columns=[*keys, "n_models", "tau", "p_value", "significant"])


def summarize_correlations(predictions: pd.DataFrame, n_resamples: int = 2000) -> pd.DataFrame:
    """Return Kendall's tau as a mean over the seeds, with a bootstrap interval over the models.

    A resample draws models, with their predictions and accuracies for all benchmarks, so that the interval of a
    difference is the paired one; a model that is drawn twice is not compared with itself. The regressions are not
    fitted again.

    Parameters
    ----------
    predictions : DataFrame
        From `predict_heldout`.
    n_resamples : int
        Drawn with a fixed seed.

    Returns
    -------
    DataFrame
        One row for each benchmark, after the mean over the benchmarks, `overall`, and for each predictor and difference
        to the mean accuracy. Columns: `data`, `benchmark`, `predictor`, `n_models` (the most that any benchmark has, in
        the row of the mean), `tau`, `low` and `high` (95 % interval; NaN with fewer than five models).
    """
    correlations = rank_correlations(predictions)
    benchmarks = list(pd.unique(predictions["benchmark"]))
    keys = ["benchmark", "predictor"]
    taus = _with_differences(correlations.groupby(keys)["tau"].mean().to_frame().T, benchmarks).iloc[0]
    resampled = _with_differences(_resample(predictions, n_resamples), benchmarks)
    n_models = correlations.groupby("benchmark")["n_models"].max()
    n_models[OVERALL] = n_models.max()
    rows = []
    for (benchmark, predictor), tau in taus.to_dict().items():
        enough = n_models[benchmark] >= MIN_MODELS
        low, high = interval(resampled[benchmark, predictor]) if enough else (np.nan, np.nan)
        rows.append((predictions["data"].iat[0], benchmark, predictor, n_models[benchmark], tau, low, high))
    return pd.DataFrame(rows, columns=["data", *keys, "n_models", "tau", "low", "high"])


def _with_differences(taus: pd.DataFrame, benchmarks: list[str]) -> pd.DataFrame:
    """Add the mean over the benchmarks and the differences to the mean accuracy to columns (benchmark, predictor)."""
    columns: dict[tuple[str, str], pd.Series] = {}
    for benchmark, parts in {OVERALL: benchmarks, **{name: [name] for name in benchmarks}}.items():
        means = {predictor: taus[[(each, predictor) for each in parts]].mean(axis=1) for predictor in PREDICTORS}
        columns |= {(benchmark, predictor): mean for predictor, mean in means.items()}
        for predictor in (EMBEDDINGS, DIRECTIONS):
            columns[benchmark, f"{predictor} minus {MEAN_ACCURACY}"] = means[predictor] - means[MEAN_ACCURACY]
    return pd.DataFrame(columns)


def _resample(predictions: pd.DataFrame, n_resamples: int) -> pd.DataFrame:
    """Taus of resampled models, mean over the seeds: (n_resamples, n_benchmarks x n_predictors)."""
    models = np.sort(pd.unique(predictions["model"]))
    rng, n = np.random.default_rng(0), len(models)
    times = rng.multinomial(n, np.full(n, 1 / n), size=check_positive("n_resamples", n_resamples))
    taus: dict[tuple[str, str], list[np.ndarray]] = {}
    for (_, benchmark, predictor), group in predictions.groupby(["seed", "benchmark", "predictor"], sort=False):
        both = group.dropna(subset=["predicted", "actual"])
        drawn = times[:, np.searchsorted(models, both["model"])]
        tau = weighted_taus(both["predicted"].to_numpy(), both["actual"].to_numpy(), drawn)
        taus.setdefault((benchmark, predictor), []).append(tau)
    return pd.DataFrame({key: np.mean(runs, axis=0) for key, runs in taus.items()})


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


def heldout_values(predictions: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    predictions : DataFrame
        From `predict_heldout`.
    """
    correlations = rank_correlations(predictions)
    defined = correlations[correlations["tau"].notna()]
    seeds, by_seed = pd.unique(correlations["seed"]), ["seed", "predictor"]

    def per_seed(rows: pd.DataFrame, column: str, how: str) -> pd.DataFrame:
        return rows.groupby(by_seed)[column].agg(how).unstack("predictor").reindex(seeds, columns=list(PREDICTORS))

    significant, taus = per_seed(defined, "significant", "sum"), per_seed(defined, "tau", "mean")
    exceptions = defined[defined["benchmark"].isin(benchmarks_named(pd.unique(defined["benchmark"]), _EXCEPTIONS))]
    summary = summarize_correlations(predictions).set_index(["benchmark", "predictor"]).loc[OVERALL]

    def mean_tau(key: str, what: str, name: str, values: pd.Series) -> ReportedValue:
        low, high = summary.loc[name, ["low", "high"]].astype(float)
        return ReportedValue(key, f"mean tau{what}: {name}", values, interval=(low, high))

    positive = "benchmarks with a tau significantly above 0 (p < 0.05)"
    of_exceptions = per_seed(exceptions, "significant", "sum")[EMBEDDINGS]
    keys = {"embeddings": EMBEDDINGS, "weights": DIRECTIONS, "mean_accuracy": MEAN_ACCURACY}
    n_defined = per_seed(defined, "tau", "size")[EMBEDDINGS].fillna(0)
    minus, mean = f"minus {MEAN_ACCURACY}", taus[MEAN_ACCURACY]
    return [
        ReportedValue("heldout_benchmarks", "benchmarks held out, with a defined tau", n_defined, count=True),
        *(ReportedValue(f"significant_{key}", f"{positive}: {name}", significant[name]) for key, name in keys.items()),
        ReportedValue(
            "significant_exceptions", f"{positive}: embeddings, among GPQA, ASDiv and SocialQA", of_exceptions
        ),
        *(mean_tau(f"tau_{key}", " over the benchmarks", name, taus[name]) for key, name in keys.items()),
        mean_tau("embeddings_minus_mean", "", f"{EMBEDDINGS} {minus}", taus[EMBEDDINGS] - mean),
        mean_tau("weights_minus_mean", "", f"{DIRECTIONS} {minus}", taus[DIRECTIONS] - mean),
    ]
