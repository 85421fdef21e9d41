"""How models compare before anything is learned: who agrees with whom, who answered what, and the numbers of that page.

Two models agree on a question if both are right or both are wrong. Good models agree often because both are mostly
right, so agreement is set against what two models of their accuracies would reach by chance (Cohen's kappa).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from embedllm.matrix import CORRECT, OVERALL, CorrectnessMatrix, Split
from embedllm.protocol.reported_values import ReportedValue


class Agreement(NamedTuple):
    """Agreement of each pair of models, over the questions where both were observed.

    Attributes
    ----------
    n_shared : DataFrame of shape (n_models, n_models)
        Questions where both were observed.
    agreement : DataFrame of shape (n_models, n_models)
        Share of these on which both are right or both are wrong; NaN if there is none.
    expected : DataFrame of shape (n_models, n_models)
        The same for independent models of their accuracies on these questions.
    kappa : DataFrame of shape (n_models, n_models)
        Cohen's: (agreement - expected) / (1 - expected); NaN also where one label is all that both have.
    source : str
        What the data are.
    """

    n_shared: pd.DataFrame
    agreement: pd.DataFrame
    expected: pd.DataFrame
    kappa: pd.DataFrame
    source: str

    def pairs(self) -> pd.DataFrame:
        """Return one row for each pair of different models, highest kappa first.

        Returns
        -------
        DataFrame
            Columns `data`, `model`, `other`, `n_shared`, `agreement`, `expected`, `kappa`.
        """
        names = self.kappa.index
        one, two = np.triu_indices(len(names), k=1)
        values = {
            name: getattr(self, name).to_numpy()[one, two] for name in ("n_shared", "agreement", "expected", "kappa")
        }
        table = pd.DataFrame({"data": self.source, "model": names[one], "other": names[two], **values})
        return table.sort_values("kappa", ascending=False, kind="stable", ignore_index=True)

    def order(self) -> list[str]:
        """Return the names of the models, those that agree beyond chance beside each other.

        The order of the leaves of a tree of average linkage with the distance 1 - kappa; a pair without a kappa is as
        far apart as the mean pair.
        """
        names = self.kappa.index.tolist()
        if len(names) < 3:
            return names
        distance = 1 - self.kappa.to_numpy()
        one, two = np.triu_indices(len(names), k=1)
        known = distance[one, two][~np.isnan(distance[one, two])]
        distance = np.where(np.isnan(distance), known.mean() if len(known) else 1.0, distance)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
        return [names[leaf] for leaf in leaves_list(tree)]


def pairwise_agreement(matrix: CorrectnessMatrix) -> Agreement:
    """Compare every model with every other."""
    observed = matrix.observed.astype(np.float32)  # sums of ones are exact up to 2**24 questions
    right = (matrix.labels == CORRECT).astype(np.float32)
    n_shared = (observed @ observed.T).astype(float)
    both_right, own_right = (right @ right.T).astype(float), (right @ observed.T).astype(float)
    n = np.where(n_shared > 0, n_shared, np.nan)
    # Both wrong are those shared where neither is right.
    agreement = (n_shared - own_right - own_right.T + 2 * both_right) / n
    accuracy = own_right / n  # (i, j): of i on the questions that it shares with j
    expected = accuracy * accuracy.T + (1 - accuracy) * (1 - accuracy.T)
    kappa = (agreement - expected) / np.where(expected < 1, 1 - expected, np.nan)

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, matrix.models.index, matrix.models.index)

    return Agreement(frame(n_shared.astype(int)), frame(agreement), frame(expected), frame(kappa), matrix.source)


def right_shares(matrix: CorrectnessMatrix) -> pd.Series:
    """Share of the models observed on each question that are right; NaN for a question that nobody answered."""
    n_observed = matrix.observed.sum(axis=0)
    shares = (matrix.labels == CORRECT).sum(axis=0) / np.where(n_observed > 0, n_observed, np.nan)
    return pd.Series(shares, matrix.questions.index, name="right")


def histograms(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Count models by accuracy, and questions by the share of the models that is correct, in each twentieth.

    Returns
    -------
    DataFrame
        Columns `counted` ("models by accuracy" or "questions by share"), `low` and `high` (of the bin), `count`,
        `data`.
    """
    values = {"models by accuracy": matrix.accuracy(by="model")["accuracy"], "questions by share": right_shares(matrix)}
    parts = []
    for what, shares in values.items():
        counts, edges = np.histogram(shares.dropna(), np.linspace(0, 1, 21))
        parts.append(pd.DataFrame({"counted": what, "low": edges[:-1], "high": edges[1:], "count": counts}))
    return pd.concat(parts, ignore_index=True).assign(data=matrix.source)


def coverage(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Count, for each benchmark, the models that answered all, some or none of its questions.

    Returns
    -------
    DataFrame
        Indexed by `benchmark`, `overall` last. Columns: `data`, `questions`, `all`, `some` and `none` (models), and the
        share of its cells that is `missing (%)`.
    """
    table = matrix.accuracy(by=["model", "benchmark"])["n_observed"].unstack("benchmark")[matrix.benchmark_names]
    table[OVERALL] = table.sum(axis=1)
    sizes = matrix.questions["benchmark"].value_counts().reindex(matrix.benchmark_names)
    sizes[OVERALL] = matrix.n_questions
    return pd.DataFrame(
        {
            "data": matrix.source,
            "questions": sizes,
            "all": (table == sizes).sum(),
            "some": ((table > 0) & (table < sizes)).sum(),
            "none": (table == 0).sum(),
            "missing (%)": 100 * (1 - table.sum() / (sizes * matrix.n_models)),
        }
    ).rename_axis("benchmark")


def model_table(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Return accuracy and missing cells of each model, best first.

    Returns
    -------
    DataFrame
        Indexed by `model`. Columns: `data`, `accuracy (%)` over its observed answers, `answers` observed, `missing (%)`
        of the questions, and `mean kappa` over the other models.
    """
    accuracy = matrix.accuracy(by="model")
    kappa = pairwise_agreement(matrix).kappa
    table = pd.DataFrame(
        {
            "data": matrix.source,
            "accuracy (%)": 100 * accuracy["accuracy"],
            "answers": accuracy["n_observed"],
            "missing (%)": 100 * (1 - accuracy["n_observed"] / matrix.n_questions),
            "mean kappa": kappa.mask(np.eye(len(kappa), dtype=bool)).mean(axis=1),
        }
    )
    return table.sort_values("accuracy (%)", ascending=False, kind="stable")


def split_table(split: Split) -> pd.DataFrame:
    """Return the `questions` and the observed `answers` of each part."""
    parts = split._asdict()
    return pd.DataFrame(
        {
            "data": [part.source for part in parts.values()],
            "questions": [part.n_questions for part in parts.values()],
            "answers": [int(part.observed.sum()) for part in parts.values()],
        },
        pd.Index(parts, name="part"),
    )


def dataset_values(matrix: CorrectnessMatrix, split: Split, agreement: Agreement) -> list[ReportedValue]:
    """Return the numbers of the page."""
    accuracy = 100 * matrix.accuracy(by="model")["accuracy"]
    shares, pairs = right_shares(matrix).dropna(), agreement.pairs()
    return [
        ReportedValue("data_models", "models", [matrix.n_models]),
        ReportedValue("data_questions", "questions", [matrix.n_questions]),
        ReportedValue("data_benchmarks", "benchmarks", [len(matrix.benchmark_names)]),
        ReportedValue("data_train", "training questions", [split.train.n_questions]),
        ReportedValue("data_test", "test questions", [split.test.n_questions]),
        ReportedValue("data_observed", "cells that were observed", [100 * float(matrix.observed.mean())], "%"),
        ReportedValue("data_worst", "accuracy of the worst model", [float(accuracy.min())], "%"),
        ReportedValue("data_best", "accuracy of the best model", [float(accuracy.max())], "%"),
        ReportedValue(
            "data_all_right", "questions that all models answer rightly", [100 * float((shares == 1).mean())], "%"
        ),
        ReportedValue(
            "data_none_right", "questions that no model answers rightly", [100 * float((shares == 0).mean())], "%"
        ),
        ReportedValue(
            "data_agreement", "agreement of a pair of models, mean", [100 * float(pairs["agreement"].mean())], "%"
        ),
        ReportedValue(
            "data_expected",
            "agreement that the accuracies of a pair alone would give, mean",
            [100 * float(pairs["expected"].mean())],
            "%",
        ),
        ReportedValue("data_kappa", "Cohen's kappa of a pair of models, mean", [float(pairs["kappa"].mean())]),
    ]
