"""Facts on each model of the map, and the models that routers choose for single questions.

References
----------
*Exploratory Data Analysis* (Tukey, 1977), chapter 10, for additive fits of tables.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import binom

from embedllm._support.checks import check_positive
from embedllm.datasets.communities import find_communities, tags_of
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.protocol.routers import HighestScore, RoutingPolicy, fit_routers
from embedllm.protocol.runs import Run
from embedllm.protocol.significance import SIGNIFICANT, holm

TEXT_LENGTH = 300
"""Characters of a question that are kept, to be shown and searched."""

# Texts are shown under a licence that allows it only. MMLU-Pro, GSM8K, CRUXEval and NumerSense are under MIT, ZeroEval,
# which has copies of the last three, under Apache-2.0. Its fourth benchmark, MATH, is left out: the publisher of the
# problems disputes its licence (the notice of 2025-01-02 by AoPS to Hugging Face).
_FREE_TEXTS = {"MMLU-Pro": (), "ZeroEval": ("gsm", "crux", "numersense-v2")}  # source to benchmarks; () is all

_FEWEST_ANSWERS = 30  # with fewer, a standard error says little


def free_texts(matrix: CorrectnessMatrix) -> pd.Series:
    """Return the texts of the questions that a page may show, shortened to `TEXT_LENGTH` characters.

    These are questions of MMLU-Pro, of ZeroEval without MATH and, in other data, of those with a licence in the column
    `license`.

    Returns
    -------
    Series indexed by question id
        Empty text for the other questions.
    """
    questions = matrix.questions.reindex(columns=["prompt", "license"]).astype("string").fillna("")
    free = questions["license"].str.strip() != ""
    if (listed := _FREE_TEXTS.get(matrix.source)) is not None:
        free |= np.isin(matrix.benchmarks, listed) if listed else True
    short = [textwrap.shorten(text, TEXT_LENGTH, placeholder=" …") for text in questions["prompt"]]
    return pd.Series(short, questions.index).where(free, "")


def map_table(matrix: CorrectnessMatrix, positions: pd.DataFrame) -> pd.DataFrame:
    """Add facts on each model (size, tags, accuracy) to its place on the map.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    positions : DataFrame indexed by model name
        From `embedllm.studies.communities.map_models`.

    Returns
    -------
    DataFrame indexed by model name
        The columns of `positions`, and `size` (its community, such as "7B"; empty if it is not known), `tags` (joined
        by "; "; empty without one), `accuracy` (share of correct answers among the observed; NaN without one) and
        `answers` (how many were observed).
    """
    models = matrix.models.reindex(positions.index)
    sizes = {model: each.name for each in find_communities(models) if each.kind == "size" for model in each.members}
    tags = tags_of(models)
    accuracy = matrix.accuracy(by="model").reindex(positions.index)
    return positions.assign(
        size=[sizes.get(model, "") for model in positions.index],
        tags=["; ".join(tags.get(model, [])) for model in positions.index],
        accuracy=accuracy["accuracy"],
        answers=accuracy["n_observed"],
    )


def profile_models(
    matrix: CorrectnessMatrix, distances: pd.DataFrame, agreement: pd.DataFrame, runs: pd.DataFrame, n: int = 3
) -> pd.DataFrame:
    """List for each model its nearest models, other runs of it, and the benchmarks where it is stronger or weaker.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    distances : DataFrame of shape (n_models, n_models)
        Of one space, from `embedllm.studies.communities.measure_distances`.
    agreement : DataFrame of shape (n_models, n_models)
        Share of the common questions on which two models are both correct or both incorrect.
    runs : DataFrame
        Pairs that are runs of one model, in the columns `model` and `other`.
    n : int
        How many nearest models, and benchmarks of each kind, at most.

    Returns
    -------
    DataFrame indexed by model name
        Columns `nearest` and `duplicates` (models with their agreement), `stronger` and `weaker` (benchmarks, with the
        significant `strengths`, the largest first). Text, with entries joined by "; ".
    """
    check_positive("n", n)
    points = strengths(matrix)
    both = pd.concat([runs, runs.rename(columns={"model": "other", "other": "model"})])
    same = both.groupby("model")["other"].agg(list)

    def agreeing(model: str, others: Iterable[str]) -> str:
        shares = agreement.loc[model, list(others)]
        words = shares.map("{:.0%}".format).where(shares.notna(), "no question in common")
        return "; ".join(f"{other} ({how})" for other, how in words.items())

    def listed(largest: pd.Series, sign: int) -> str:
        found = largest[sign * largest > 0]
        return "; ".join(f"{name} {value:+.0f}" for name, value in (sign * (sign * found).nlargest(n)).items())

    rows = {
        model: {
            "nearest": agreeing(model, distances[model].drop(model).nsmallest(n).index),
            "duplicates": agreeing(model, same.get(model, [])),
            "stronger": listed(points.loc[model], 1),
            "weaker": listed(points.loc[model], -1),
        }
        for model in distances.index
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def strengths(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Compare the accuracies of each model on each benchmark with an additive fit, in points.

    The fit is a number for each model plus a number for each benchmark. The residual says by how much a model is better
    on a benchmark than its accuracy elsewhere, and that of the other models on this benchmark, lead one to expect.

    Returns
    -------
    DataFrame of shape (n_models, n_benchmarks)
        NaN where the number of correct answers is not significantly different from a binomial one of the fitted
        accuracy (Holm's correction for the number of cells), and where a model has fewer than 30 answers.
    """
    table = matrix.accuracy(by=["model", "benchmark"])
    table = table[table["n_observed"] >= _FEWEST_ANSWERS]
    accuracy, n = table["accuracy"].unstack(), table["n_observed"]
    left = accuracy.copy()
    for _ in range(100):  # one step is exact for a table without missing entries
        left = left.sub(left.mean(axis=1), axis=0)
        left -= left.mean(axis=0)
    residual = left.stack().reindex(table.index)
    # Of the fit, not of the cell, whose standard error is 0 where all answers are correct; one answer of each kind is
    # added, because a fit of 1 is no proof that every answer is correct.
    fitted = ((table["accuracy"] - residual).clip(0, 1) * n + 1) / (n + 2)
    correct = (table["accuracy"] * n).round()
    p = 2 * np.minimum(binom.cdf(correct, n, fitted), binom.sf(correct - 1, n, fitted))
    significant = holm(pd.Series(p, table.index)) < SIGNIFICANT
    return 100 * residual.where(significant).unstack().reindex(matrix.model_names)


def route_choices(run: Run, routers: Mapping[str, RoutingPolicy], n_questions: int = 500) -> pd.DataFrame:
    """List the models that routers choose for single test questions.

    Parameters
    ----------
    run : Run
    routers : mapping of str to RoutingPolicy
        Name to router, which chooses one model for each question; clones of them are fitted.
    n_questions : int
        How many questions, drawn at random by the seed from those with an observed answer; all if there are fewer.

    Returns
    -------
    DataFrame
        One row for each question, in the order of the matrix, and each router. Columns: `data`, `question` (its id),
        `text` (from `free_texts`), `benchmark`, `router`, `model` (its choice), `predicted` (the score that the router
        gives this model, such as the predicted probability; NaN for a router without scores), `correct` (bool) and
        `models_correct` (share of the observed models that are).
    """
    test = run.split.test
    answered = np.flatnonzero(test.observed.any(axis=0))
    n_shown = min(check_positive("n_questions", n_questions), len(answered))
    drawn = np.random.default_rng(run.seed).choice(answered, n_shown, replace=False)
    shown = test.subset(questions=np.isin(np.arange(test.n_questions), drawn))
    correct, columns = shown.labels == CORRECT, np.arange(n_shown)
    rows = pd.DataFrame({"data": shown.source, "question": shown.question_ids, "text": free_texts(shown).to_numpy()})
    rows["benchmark"] = shown.benchmarks
    parts = []
    for name, router in fit_routers(routers, run.split.train, run.predictors).items():
        chosen = router.shares(shown).argmax(axis=0)
        scores = router.scores(shown) if isinstance(router, HighestScore) else np.full(shown.labels.shape, np.nan)
        part = rows.assign(
            router=name,
            model=shown.model_names[chosen],
            predicted=scores[chosen, columns].astype(float),
            correct=correct[chosen, columns],
            models_correct=correct.sum(axis=0) / shown.observed.sum(axis=0),
        )
        parts.append(part)
    # All routers of a question together.
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
