"""What is known of each model on the map, and the models that routers choose for single questions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd

from embedllm._checks import check_positive
from embedllm.datasets.communities import find_communities, tags_of
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.protocol.routers import HighestScore, RoutingPolicy, fit_routers
from embedllm.protocol.runs import Run

TEXT_LENGTH = 200
"""Characters of a question that are kept, to be shown and searched."""


def map_table(matrix: CorrectnessMatrix, positions: pd.DataFrame) -> pd.DataFrame:
    """Add what is known of each model to its place on the map.

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
        `benchmark`, `router`, `model` (its choice), `predicted` (the score that the router gives this model, such as
        the predicted probability; NaN for a router without scores), `correct` (bool), `models_correct` (share of the
        observed models that are) and, where the data have prompts, `text` (the first `TEXT_LENGTH` characters).
    """
    test = run.split.test
    answered = np.flatnonzero(test.observed.any(axis=0))
    n_shown = min(check_positive("n_questions", n_questions), len(answered))
    drawn = np.random.default_rng(run.seed).choice(answered, n_shown, replace=False)
    shown = test.subset(questions=np.isin(np.arange(test.n_questions), drawn))
    correct, columns = shown.labels == CORRECT, np.arange(n_shown)
    rows = pd.DataFrame({"data": shown.source, "question": shown.question_ids, "benchmark": shown.benchmarks})
    texts = shown.questions["prompt"].fillna("").astype(str) if "prompt" in shown.questions else None
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
        if texts is not None:
            part["text"] = [textwrap.shorten(text, TEXT_LENGTH, placeholder=" …") for text in texts]
        parts.append(part)
    # All routers of a question together.
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
