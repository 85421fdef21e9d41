"""What the published counts of correct answers say by themselves, without the answers.

Where only the counts of a model on a benchmark enter, a baseline follows exactly. Those that choose a model or a label
choose it on the test questions, which makes them better than they would be on others by a tenth or two of a point.

References
----------
EmbedLLM (arXiv 2410.02223), Table 1 and Figure 4; LOCUS (arXiv 2601.21082), whose page has the counts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from embedllm.datasets.model_names import describe_models
from embedllm.datasets.published_counts import PublishedCounts, baselines_of
from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import ReportedValue

SOURCE = "published values"

_BASELINES = {
    "all incorrect": "no answer is correct",
    "majority per model": "more frequent label of the model",
    "majority per model and benchmark": "more frequent label of the model there",
}


def forecasting_numbers(counts: PublishedCounts, repeated: int = 469) -> pd.DataFrame:
    """Compare baselines of correctness forecasting with the accuracies that the paper reports.

    The test set has 3,469 rows a model for 3,000 prompts, and the paper does not say which it scores. Published counts
    are of prompts; for rows, the rows that repeat a prompt are taken as those of GPQA, which is asked in several ways.

    Parameters
    ----------
    counts : PublishedCounts
    repeated : int
        Rows of a model that repeat a prompt.

    Returns
    -------
    DataFrame indexed by `predictor`
        Columns `data`, `prompts` and `rows` (accuracies in %; of the paper's predictors in both, as it is not known
        which it is), and `how`.
    """
    rows = counts.questions + repeated * (counts.questions.index == "GPQA")
    table = {
        name: {"prompts": prompts, "rows": by_row, "how": _BASELINES[name]}
        for (name, prompts), by_row in zip(
            _baselines(counts, counts.questions).items(), _baselines(counts, rows).values(), strict=True
        )
    }
    published = load_published()["value"]
    for name, key in (("KNN", "knn_accuracy"), ("MF", "mf_accuracy")):
        value = float(published[key])
        table[name] = {"prompts": value, "rows": value, "how": "Table 1, all training questions"}
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("predictor")
    frame.insert(0, "data", SOURCE)
    return frame


def _baselines(counts: PublishedCounts, weights: pd.Series) -> dict[str, float]:
    """Accuracy of each baseline in percent, with a weight for each benchmark."""
    share = counts.correct / counts.questions  # (n_models, n_benchmarks)
    of_model = share @ weights / weights.sum()
    majority = baselines_of(share, weights)["per-benchmark majority baseline"]
    values = ((1 - of_model).mean(), np.maximum(of_model, 1 - of_model).mean(), majority)
    return {name: float(100 * value) for name, value in zip(_BASELINES, values, strict=True)}


def routing_numbers(counts: PublishedCounts) -> pd.DataFrame:
    """Compare what the counts say of routing with the accuracies that others report.

    Returns
    -------
    DataFrame indexed by `router`
        Columns `data`, `accuracy` (%) and `how`: what it was chosen or trained on.
    """
    baselines = baselines_of(counts.correct / counts.questions, counts.questions)
    best = str(counts.correct.sum(axis=1).idxmax()).replace("__", "/")
    rows = {
        "a random model": (100 * baselines["mean accuracy"], "expected"),
        "best single model": (100 * baselines["best single model"], f"{best}, on test"),
        "best model per benchmark": (100 * baselines["best model per benchmark"], "by test accuracy"),
    }
    published = load_published()
    for method in ("EmbedLLM", "LOCUS"):
        for size in (256, 512, 1024):
            key = f"{method.lower()}_routing_accuracy" + ("" if size == 1024 else f"_{size}")
            rows[f"{method}, {size:,}"] = (float(published.at[key, "value"]), f"{size:,} answers a model, by LOCUS")
    rows["LOCUS, full pool"] = (float(published.at["locus_routing_accuracy_full", "value"]), "by LOCUS")
    rows["oracle"] = (float(published.at["oracle_accuracy", "value"]), "by a third party, unverified")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["accuracy", "how"]).rename_axis("router")
    table.insert(0, "data", SOURCE)
    return table


def spread_of_models(counts: PublishedCounts) -> pd.DataFrame:
    """Describe the accuracies of the models on each benchmark, and compare their variance with that of chance.

    Were a model's answers to a benchmark independent of each other, the accuracy of n questions would have the variance
    p (1 - p) / n by chance, were all questions equally difficult, and models that differ would vary more. Questions
    that are easy or hard for all models, or answers in common, make the ratio smaller.

    Returns
    -------
    DataFrame indexed by `benchmark`
        Columns `data`, `questions`, accuracies in % (`mean`, `lowest`, `highest`), `variance ratio`, `most frequent
        count` and the number of `models with it`.
    """
    share = counts.correct / counts.questions
    chance = (share * (1 - share) / counts.questions).mean()
    frequency = counts.correct.apply(lambda column: column.value_counts())  # (n_values, n_benchmarks)
    return pd.DataFrame(
        {
            "data": SOURCE,
            "questions": counts.questions,
            "mean": 100 * share.mean(),
            "lowest": 100 * share.min(),
            "highest": 100 * share.max(),
            "variance ratio": share.var() / chance,
            "most frequent count": frequency.idxmax(),
            "models with it": frequency.max().astype(int),
        }
    ).rename_axis("benchmark")


def published_models(counts: PublishedCounts) -> pd.DataFrame:
    """List the models of the paper's Table 2, by their published names, the most accurate first.

    Returns
    -------
    DataFrame indexed by `model`
        Columns `params_b` and `tags`, as far as the name states them, and `accuracy` (%) on all test prompts.
    """
    accuracy = 100 * counts.correct.sum(axis=1) / counts.questions.sum()
    return describe_models(counts.correct.index).assign(accuracy=accuracy).sort_values("accuracy", ascending=False)


def number_values(forecasting: pd.DataFrame, routing: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    forecasting, routing : DataFrame
        From `forecasting_numbers` and `routing_numbers`.
    """
    baseline, rows = forecasting.loc["majority per model and benchmark", ["prompts", "rows"]]
    mf, knn = forecasting["prompts"][["MF", "KNN"]]
    single, there = routing["accuracy"][["best single model", "best model per benchmark"]]
    values = [
        ("published_baseline", "Majority baseline per model and benchmark, prompts", baseline, "%"),
        ("published_baseline_rows", "Majority baseline per model and benchmark, rows", rows, "%"),
        ("published_mf_gain", "MF of Table 1 minus the baseline of prompts", mf - baseline, "points"),
        ("published_mf_gain_rows", "MF of Table 1 minus the baseline of rows", mf - rows, "points"),
        ("published_knn_gain", "KNN of Table 1 minus the baseline of prompts", knn - baseline, "points"),
        ("published_knn_gain_rows", "KNN of Table 1 minus the baseline of rows", knn - rows, "points"),
        ("published_single", "Best single model", single, "%"),
        ("published_best_of_benchmark", "Best model per benchmark", there, "%"),
        ("published_random", "A random model", routing.at["a random model", "accuracy"], "%"),
    ]
    return [ReportedValue(key, what, [float(value)], unit) for key, what, value, unit in values]
