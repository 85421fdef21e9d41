"""Describe a correctness matrix: agreement between models, coverage, accuracies, and the values of that page.

Two models agree on a question if both are correct or both are incorrect. Good models agree often because both are
mostly correct, so agreement is compared with what two independent models of their accuracies would reach.

References
----------
*A Coefficient of Agreement for Nominal Scales*, Educational and Psychological Measurement 20 (1960): Cohen's kappa.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from embedllm._support.division import question_groups
from embedllm.datasets.model_names import weights_of
from embedllm.datasets.published_counts import baselines_of, load_published_counts
from embedllm.datasets.simulate import ANCHORS
from embedllm.matrix import CORRECT, OVERALL, CorrectnessMatrix, Split
from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import ReportedValue

_FEWEST_SHARED = 100  # questions that a pair must share, so that its agreement is known to 5 points


class Agreement(NamedTuple):
    """Agreement of each pair of models, over the questions where both were observed.

    Attributes
    ----------
    n_shared : DataFrame of shape (n_models, n_models)
        Questions where both were observed.
    agreement : DataFrame of shape (n_models, n_models)
        Share of these on which both are correct or both are incorrect; NaN if there is none.
    expected : DataFrame of shape (n_models, n_models)
        The same for independent models of their accuracies on these questions.
    kappa : DataFrame of shape (n_models, n_models)
        Cohen's: (agreement - expected) / (1 - expected); NaN also where both have one and the same label throughout.
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
        values = {name: table.to_numpy()[one, two] for name, table in self._asdict().items() if name != "source"}
        table = pd.DataFrame({"data": self.source, "model": names[one], "other": names[two], **values})
        return table.sort_values("kappa", ascending=False, kind="stable", ignore_index=True)

    def order(self) -> list[str]:
        """Return the names of the models, those that agree beyond chance next to each other.

        The order is that of the leaves of a tree of average linkage with the distance 1 - kappa; a pair without a kappa
        gets the mean distance.
        """
        names = self.kappa.index.tolist()
        if len(names) < 3:
            return names
        distance = pd.Series(squareform(1 - self.kappa.to_numpy(), checks=False))
        distance = distance.fillna(distance.mean()).fillna(1.0)
        tree = linkage(distance, method="average", optimal_ordering=True)
        return [names[leaf] for leaf in leaves_list(tree)]


def pairwise_agreement(matrix: CorrectnessMatrix) -> Agreement:
    """Compare every model with every other."""
    observed = matrix.observed.astype(np.float32)  # sums of ones are exact up to 2**24 questions
    correct = (matrix.labels == CORRECT).astype(np.float32)
    n_shared = (observed @ observed.T).astype(float)
    both_correct, own_correct = (correct @ correct.T).astype(float), (correct @ observed.T).astype(float)
    n = np.where(n_shared > 0, n_shared, np.nan)
    # Both are incorrect on the shared questions where neither is correct.
    agreement = (n_shared - own_correct - own_correct.T + 2 * both_correct) / n
    accuracy = own_correct / n  # (i, j): of i on the questions that it shares with j
    expected = accuracy * accuracy.T + (1 - accuracy) * (1 - accuracy.T)
    kappa = (agreement - expected) / np.where(expected < 1, 1 - expected, np.nan)

    names = matrix.models.index
    tables = (n_shared.astype(int), agreement, expected, kappa)
    shared, share, chance, kappas = (pd.DataFrame(each, names, names) for each in tables)
    return Agreement(shared, share, chance, kappas, matrix.source)


def agreement_ceilings(agreement: Agreement, n_nearest: int = 5) -> pd.DataFrame:
    """Bound the accuracy of any forecast by the agreement of two runs of one model.

    If a run of a model is correct with probability p, two runs agree with probability p^2 + (1 - p)^2, and no forecast
    is correct more often than max(p, 1 - p). With x = abs(2p - 1), these are (1 + x^2) / 2 and (1 + x) / 2. Since the
    mean of x is at most the root mean square of x (Jensen), two runs that agree on a share a of the questions bound
    every forecast by (1 + sqrt(2a - 1)) / 2. This takes the runs to be equal but for chance. Of two similar models,
    whose p differ, the same expression says only where the bound would be if they were runs of one model.

    Parameters
    ----------
    agreement : Agreement
    n_nearest : int
        Number of other pairs, those of the highest kappa.

    Returns
    -------
    DataFrame
        Pairs with at least 100 questions in common. Columns `data`, `pair` ("runs of one model", whose names differ
        only in what follows an `@` or in the format of the weights, or "nearest models"), `model`, `other`, `n_shared`,
        `agreement`, `kappa` and `at most`, the bound.
    """
    pairs = agreement.pairs()
    pairs = pairs[pairs["n_shared"] >= _FEWEST_SHARED].drop(columns="expected")
    runs = weights_of(pairs["model"]) == weights_of(pairs["other"])
    pairs.insert(1, "pair", np.where(runs, "runs of one model", "nearest models"))
    pairs["at most"] = (1 + np.sqrt((2 * pairs["agreement"] - 1).clip(lower=0))) / 2
    return pd.concat([pairs[runs], pairs[~runs].head(n_nearest)], ignore_index=True)


def correct_shares(matrix: CorrectnessMatrix) -> pd.Series:
    """Return the share of the observed models that answer each question correctly; NaN without an observed model."""
    n_observed = matrix.observed.sum(axis=0)
    shares = (matrix.labels == CORRECT).sum(axis=0) / np.where(n_observed > 0, n_observed, np.nan)
    return pd.Series(shares, matrix.questions.index, name="correct")


def histograms(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Count models by accuracy, and questions by the share of models that are correct, in bins of 5 points.

    Returns
    -------
    DataFrame
        Columns `counted` ("models by accuracy" or "questions by share"), `low` and `high` (of the bin), `count`,
        `data`.
    """
    accuracy, shares = matrix.accuracy(by="model")["accuracy"], correct_shares(matrix)
    parts = []
    for what, values in (("models by accuracy", accuracy), ("questions by share", shares)):
        counts, edges = np.histogram(values.dropna(), np.linspace(0, 1, 21))
        parts.append(pd.DataFrame({"counted": what, "low": edges[:-1], "high": edges[1:], "count": counts}))
    return pd.concat(parts, ignore_index=True).assign(data=matrix.source)


def coverage(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Count, for each benchmark, the models that answered all, some or none of its questions.

    Returns
    -------
    DataFrame
        Indexed by `benchmark`, `overall` last. Columns: `data`, `questions`, `all`, `some` and `none` (models), and the
        share of its entries that is `missing (%)`.
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
    """Return the accuracy and the missing entries of each model, best first.

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
    """Describe the parts of a division.

    Returns
    -------
    DataFrame indexed by `part`
        Columns: `data`; `questions`; `answers`, the observed ones; `text in training`, the questions with the text of
        another question in the training part, NaN where the data have no prompts.
    """
    rows = [(part.source, part.n_questions, int(part.observed.sum())) for part in split]
    table = pd.DataFrame(rows, pd.Index(split._fields, name="part"), ["data", "questions", "answers"])
    questions = pd.concat([part.questions for part in split], keys=split._fields)
    group, part = question_groups(questions), questions.index.get_level_values(0)
    n_training = np.bincount(group[part == "train"], minlength=len(questions))[group] - (part == "train")
    known = "prompt" in questions
    table["text in training"] = [(n_training[part == name] > 0).sum() if known else np.nan for name in split._fields]
    return table


def anchor_table(matrix: CorrectnessMatrix, agreement: Agreement) -> pd.DataFrame:
    """Compare the simulated pool with what is published of the paper's.

    Baselines and best models are those of all questions, as the published ones are those of the test questions.

    Returns
    -------
    DataFrame indexed by `quantity`
        Columns: `data`, `published (%)`, `pool (%)` (NaN for MF and KNN, which are not fitted here) and `in the pool`:
        whether the quantity is there by construction, tuned or free.
    """
    counts, published = load_published_counts(), load_published()["value"]
    own = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    nearest = agreement.agreement.mask(np.eye(matrix.n_models, dtype=bool)).max(axis=1).mean()
    pool = baselines_of(own, matrix.questions["benchmark"].value_counts())
    pool |= {"oracle": (matrix.labels == CORRECT).any(axis=0).mean(), "agreement with the nearest model": nearest}
    keys = {"oracle": "oracle_accuracy", "MF": "mf_accuracy", "KNN": "knn_accuracy"}
    keys["agreement with the nearest model"] = "nearest_agreement"
    paper = {name: float(published[key]) / 100 for name, key in keys.items()}
    paper |= baselines_of(counts.correct / counts.questions, counts.questions)
    shares = 100 * pd.DataFrame({"published (%)": paper, "pool (%)": pool})
    table = shares.assign(**{"in the pool": pd.Series(ANCHORS)}).loc[list(ANCHORS)].rename_axis("quantity")
    table.insert(0, "data", matrix.source)
    return table


def dataset_values(matrix: CorrectnessMatrix, agreement: Agreement) -> list[ReportedValue]:
    """Return the values that the page reports."""
    accuracy = 100 * matrix.accuracy(by="model")["accuracy"]
    shares, pairs = correct_shares(matrix).dropna(), agreement.pairs()
    counts = [
        ("data_models", "models", matrix.n_models),
        ("data_questions", "questions", matrix.n_questions),
        ("data_benchmarks", "benchmarks", len(matrix.benchmark_names)),
    ]
    percentages = [
        ("data_observed", "entries that were observed", 100 * matrix.observed.mean()),
        ("data_worst", "accuracy of the worst model", accuracy.min()),
        ("data_best", "accuracy of the best model", accuracy.max()),
        ("data_all_right", "questions that all models answer correctly", 100 * (shares == 1).mean()),
        ("data_none_right", "questions that no model answers correctly", 100 * (shares == 0).mean()),
        ("data_agreement", "agreement of a pair of models, mean", 100 * pairs["agreement"].mean()),
        ("data_expected", "agreement expected from the accuracies of a pair, mean", 100 * pairs["expected"].mean()),
    ]
    return [
        *(ReportedValue(key, what, [n], count=True) for key, what, n in counts),
        *(ReportedValue(key, what, [value], "%") for key, what, value in percentages),
        ReportedValue("data_kappa", "Cohen's kappa of a pair of models, mean", [pairs["kappa"].mean()]),
    ]
