"""New models without retraining: how well a model is known from n answers, beside a pool that stays as it is.

A partition divides the models at random into groups. Each group in turn is *new*: the other groups are the pool, and
the new models are placed by their answers to n training questions and scored on the test questions. Every model is new
once in a partition. The strengths of a placement are chosen on models of the pool, never on new ones. One choice is not
free of them: the alpha of the vectors of all models, of which the pool's are taken, is chosen once for all partitions,
on the validation answers of all models.

References
----------
EmbedLLM (arXiv 2410.02223), section 7, names retraining for new models as a limit. The protocol with a third of the
models unseen is that of UniRoute (arXiv 2502.08773).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch

from embedllm.matrix import CORRECT, NOT_OBSERVED
from embedllm.predictors._threads import single_threaded
from embedllm.predictors.placement import N_CHOICE, PoolPrior, ask, choose_strengths, log_loss, place_model
from embedllm.predictors.scores import CLIP
from embedllm.protocol.bootstrap import MIN_MODELS, MIN_QUESTIONS, bootstrap_ratios, interval
from embedllm.protocol.placing import (
    ALONE,
    DECODER,
    METHODS,
    RIDGE,
    Case,
    Material,
    Pool,
    Predict,
    disagreement_order,
    stratified_order,
    stratum_shares,
)
from embedllm.protocol.reported_values import ReportedValue

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Answers of a new model."""

PRIOR, ALL_ALONE, ALL_WITH = "pool prior", "all answers, no pool", "all answers and pool"

RANDOM, STRATIFIED, DISAGREEMENT = ASKING = "random", "stratified", "disagreement"
"""Which questions are asked: random ones, as many of each benchmark as it has, or those on which the pool disagrees."""

TARGETS = {64: 1.0, 128: 0.5}
"""Answers, and how many points of accuracy they may be below all answers without the pool."""

_N_STRATA = 5
_KEYS = ["method", "asking", "n"]
_FEW = "fewer than 128 training questions"

ESTIMATES = ("predictions", "post-stratified", "subset mean")
"""Of accuracy on a benchmark, see `benchmark_errors`."""


@single_threaded()  # many small operations in a row
def learning_curves(
    material: Material,
    n_groups: int,
    n_partitions: int = 3,
    seed: int = 0,
    sizes: Sequence[int] = SIZES,
    asking: Sequence[str] = ASKING,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Place every model of a pool, in several partitions, by n of its answers.

    Parameters
    ----------
    material : Material
    n_groups : int
        Groups of a partition: each is new once.
    n_partitions : int
    seed : int
        Of the groups and of the questions asked.
    sizes : sequence of int
        Those above the number of training questions are left out.
    asking : sequence of str
        Which questions are asked to place models by the pool's prior; the other methods get random ones.

    Returns
    -------
    scores : DataFrame
        A row for each placement. Columns: `data`, `model`, `method`, `asking`, `n`, and over its test answers `correct`
        (correctly predicted), `loss` (sum of log losses) and `count`.
    benchmarks : DataFrame
        Of random questions, a row for each partition, model, benchmark and n: see `benchmark_errors`.
    """
    x, y, train = material.x, material.y, material.split.train
    everyone, sizes = np.arange(train.n_models), [n for n in sizes if n <= train.n_questions]
    if len(everyone) < 2:
        raise ValueError(f"new models are placed in a pool of others, and there is {len(everyone)} model: pass more")
    scores, benchmarks = [], []

    def add(method: str, asked: str, n: int, models: np.ndarray, logits: torch.Tensor) -> None:
        sums = _score(logits, y["test"][:, models])
        keys = {"data": train.source, "model": train.model_names[models], "method": method, "asking": asked, "n": n}
        scores.append(pd.DataFrame(keys | sums))

    for partition in range(n_partitions):
        rng = np.random.default_rng([seed, n_groups, partition])
        groups = [np.sort(group) for group in np.array_split(rng.permutation(everyone), min(n_groups, len(everyone)))]
        # An order for each model, so that the draw of questions is averaged over models, (n_questions, n_models).
        orders = {
            RANDOM: np.stack([rng.permutation(train.n_questions) for _ in everyone], axis=1),
            STRATIFIED: np.stack([stratified_order(train.benchmarks, rng) for _ in everyone], axis=1),
        }
        asked = {n: ask(y["train"], orders[RANDOM], n) for n in [*sizes, N_CHOICE]}
        alone = {}  # the pool plays no part: all models at once
        for name, n in product(ALONE, sizes):
            predict = METHODS[name][0](Case(Pool(material, everyone), everyone, asked[n]), METHODS[name][1])
            alone[name, n] = predict("val"), predict("test")
        for new in groups:
            pool = Pool(material, np.setdiff1d(everyone, new))
            folds = [group for group in groups if group is not new]
            inner = [(fold, Pool(material, np.setdiff1d(pool.models, fold))) for fold in folds]
            prior = learn_prior(pool, folds, asked[N_CHOICE])
            shared = disagreement_order(pool.labels, rng)
            orders[DISAGREEMENT] = np.broadcast_to(shared[:, None], orders[RANDOM].shape)
            add(ALL_ALONE, RANDOM, train.n_questions, new, x["test"] @ material.weights[:, new])
            placed = place_model(prior, x["train"], y["train"][:, new])
            add(ALL_WITH, RANDOM, train.n_questions, new, placed.logits(x["test"]))
            for n, way in product(sizes, asking):
                case = Case(pool, new, ask(y["train"][:, new], orders[way][:, new], n))
                placed = place_model(prior, x["train"], case.labels)
                add(PRIOR, way, n, new, placed.logits(x["test"]))
                if way == RANDOM:
                    benchmarks.append(benchmark_errors(case, placed.logits(x["train"]).sigmoid(), n))
            for name, n in product(METHODS, sizes):
                method, strengths = METHODS[name]
                if name in ALONE:
                    val, test = alone[name, n]
                    loss = log_loss(val[..., pool.models], y["val"][:, pool.models]).sum(dim=1)
                    logits = test[int(loss.argmin())][:, new]
                else:
                    strength = _choose(method, strengths, inner, asked[n])
                    logits = method(Case(pool, new, asked[n][:, new]), [strength])("test")[0]
                add(name, RANDOM, n, new, logits)
    return pd.concat(scores, ignore_index=True), pd.concat(benchmarks, ignore_index=True)


def _score(logits: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    """Return what each model adds to accuracy and log loss; both tensors (n_questions, n_models)."""
    limit, observed = float(np.log(1 / CLIP - 1)), y != NOT_OBSERVED
    return {
        "correct": (((logits > 0) == (y == CORRECT)) & observed).sum(dim=0).numpy(),
        "loss": log_loss(logits.clamp(-limit, limit), y).numpy(),
        "count": observed.sum(dim=0).numpy(),
    }


def learn_prior(pool: Pool, folds: Sequence[np.ndarray], asked: torch.Tensor) -> PoolPrior:
    """Learn the prior of a pool, with tau and rho chosen on folds of its models, by their asked answers."""
    material = pool.material
    places = [np.flatnonzero(np.isin(pool.models, fold)) for fold in folds]
    questions, labels = material.x, (asked[:, pool.models], material.y["val"][:, pool.models])
    tau, rho = choose_strengths(
        pool.weights, material.own, places, (questions["train"], labels[0]), (questions["val"], labels[1])
    )
    return PoolPrior.learn(pool.weights, material.own, tau, rho)


def _choose(
    method: Callable[..., Predict],
    strengths: Sequence[float],
    inner: Iterable[tuple[np.ndarray, Pool]],
    asked: torch.Tensor,
) -> float:
    """Return the strength with the lowest validation loss, over models of the pool placed among the rest of it."""
    if len(strengths) == 1:
        return strengths[0]
    losses = torch.zeros(len(strengths), dtype=torch.float64)
    for fold, rest in inner:
        if len(rest.models):
            logits = method(Case(rest, fold, asked[:, fold]), strengths)("val")
            losses += log_loss(logits, rest.material.y["val"][:, fold]).sum(dim=1)
    return strengths[int(losses.argmin())]


def benchmark_errors(case: Case, probability: torch.Tensor, n: int) -> pd.DataFrame:
    """Compare estimates of the accuracy of models on each benchmark, over the training questions that they answered.

    `predictions`: the asked answers, and predicted probabilities for the other questions. `post-stratified`: the
    accuracy in each fifth of the questions by their share of correct answers in the pool, with an answer at the model's
    accuracy added, averaged as the benchmark has them. `subset mean`: of the answers asked there; of all that were
    asked, where none was.

    Parameters
    ----------
    case : Case
    probability : tensor of shape (n_train, n_placed)
        Predicted.
    n : int
        Answers of each model.

    Returns
    -------
    DataFrame
        Columns `data`, `model`, `benchmark`, `n`, and the absolute errors `predictions`, `post-stratified` and `subset
        mean`; NaN where fewer than 30 answers to a benchmark are known.
    """
    train = case.material.split.train
    y, asked = case.material.y["train"][:, case.models], case.labels != NOT_OBSERVED
    known = case.pool.labels
    difficulty = (known == CORRECT).sum(dim=1) / (known != NOT_OBSERVED).sum(dim=1).clamp(min=1)
    strata = (difficulty.argsort(stable=True).argsort() * _N_STRATA // len(y)).numpy()
    observed, answers = (y != NOT_OBSERVED).double(), (case.labels * asked).double()
    member = torch.tensor(pd.get_dummies(train.benchmarks)[train.benchmark_names].to_numpy(float).T)
    count, n_asked = member @ observed, member @ asked.double()  # (n_benchmarks, n_placed)
    estimates = {
        "predictions": member @ (torch.where(asked, answers, probability) * observed) / count,
        "post-stratified": member @ (stratum_shares(strata, case.labels, 1.0)[strata] * observed) / count,
        "subset mean": torch.where(n_asked > 0, member @ answers / n_asked, answers.sum(dim=0) / asked.sum(dim=0)),
    }
    true = member @ (y * observed) / count
    cells = pd.MultiIndex.from_product([train.benchmark_names, train.model_names[case.models]])
    keys = {"data": train.source, "model": cells.get_level_values(1), "benchmark": cells.get_level_values(0), "n": n}
    errors = {
        name: torch.where(count >= MIN_QUESTIONS, (each - true).abs(), torch.nan).ravel().numpy()
        for name, each in estimates.items()
    }
    return pd.DataFrame(keys | errors)


def curve_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Summarize placements, with 95 % intervals over models.

    Parameters
    ----------
    scores : DataFrame
        From `learning_curves`.

    Returns
    -------
    DataFrame
        A row for each method, way of asking and n. Columns: `data`, `method`, `asking`, `n`, `accuracy` (%) and
        `log_loss` (nats), each with `_low` and `_high`, and `points`, the accuracy minus that of `ALL_ALONE`,
        likewise; no interval from fewer than 5 models.
    """
    (accuracy, loss), (accuracies, losses) = _resampled(scores)
    base = _all_answers(accuracy, ALL_ALONE)
    measures = {
        "accuracy": (100 * accuracy, 100 * accuracies),
        "log_loss": (loss, losses),
        "points": (100 * (accuracy - accuracy[base]), 100 * accuracies.sub(accuracies[base], axis=0)),
    }
    rows = []
    for key in accuracy.index:
        row = {"data": scores["data"].iloc[0]} | dict(zip(_KEYS, key, strict=True))
        for name, (values, samples) in measures.items():
            row[name], (row[f"{name}_low"], row[f"{name}_high"]) = values[key], interval(samples[key])
        rows.append(row)
    return pd.DataFrame(rows)


def _resampled(scores: pd.DataFrame) -> tuple[list[pd.Series], list[pd.DataFrame]]:
    """Mean accuracy and log loss of each (method, asking, n), and the same of resampled models, a column each.

    Models are sorted, so that their resamples do not depend on the order of the rows.
    """
    correct, loss, count = (
        scores.pivot_table(name, "model", _KEYS, aggfunc="sum", sort=False).sort_index()
        for name in ("correct", "loss", "count")
    )
    means = [sums.sum() / count.sum() for sums in (correct, loss)]
    return means, [bootstrap_ratios(sums, count, min_units=MIN_MODELS) for sums in (correct, loss)]


def _all_answers(means: pd.Series, method: str) -> tuple[str, str, int]:
    """Return the key of a method that has a single one."""
    return next(key for key in means.index if key[0] == method)


def target_table(table: pd.DataFrame) -> pd.DataFrame:
    """Say whether the pool's prior comes near all answers without the pool, from random and from stratified questions.

    Parameters
    ----------
    table : DataFrame
        From `curve_table`.

    Returns
    -------
    DataFrame
        Columns `answers`, `asking`, `at most below` (points), `points` with its interval `low` to `high`, and
        `verdict`: *met* by the whole interval, *missed* by all of it, otherwise *open*.
    """
    rows = []
    for n, points in TARGETS.items():
        for _, row in table[(table["method"] == PRIOR) & (table["n"] == n)].iterrows():
            low, high = row["points_low"], row["points_high"]
            verdict = "met" if low >= -points else "missed" if high < -points else "open"
            rows.append((n, row["asking"], points, row["points"], low, high, verdict))
    return pd.DataFrame(rows, columns=["answers", "asking", "at most below", "points", "low", "high", "verdict"])


def best_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Name the best method for each n, and how far ahead of the next it is.

    Compared are the methods that get n random answers, and the mean of the pool, which gets none.

    Returns
    -------
    DataFrame
        Columns `n`, `measure` (`log_loss` in nats, `accuracy` in %), `best`, `next`, `ahead` with its paired interval
        over models, `low` to `high`, and `verdict`: *clear* if the interval is above 0, else *open*.
    """
    means, resampled = _resampled(scores[scores["method"].isin([PRIOR, *METHODS]) & (scores["asking"] == RANDOM)])
    rows = []
    for n, place in product(means[0].index.unique("n"), (1, 0)):
        measure, sign = ("accuracy", 100) if place == 0 else ("log_loss", -1)
        values = sign * means[place].xs((RANDOM, n), level=("asking", "n"))
        first, second = values.sort_values(ascending=False, kind="stable").index[:2]
        low, high = interval(sign * (resampled[place][first, RANDOM, n] - resampled[place][second, RANDOM, n]))
        verdict = "clear" if low > 0 else "open"
        rows.append((n, measure, first, second, values[first] - values[second], low, high, verdict))
    return pd.DataFrame(rows, columns=["n", "measure", "best", "next", "ahead", "low", "high", "verdict"])


def error_table(benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Return mean absolute errors of accuracies on benchmarks, in points, with 95 % intervals over models.

    Parameters
    ----------
    benchmarks : DataFrame
        From `learning_curves`.

    Returns
    -------
    DataFrame
        Columns `data`, `estimate`, `n`, `error`, `low`, `high`.
    """
    rows = []
    for name, n in product(ESTIMATES, benchmarks["n"].unique()):
        each = benchmarks.loc[benchmarks["n"] == n].set_index("model")[[name]]
        samples = 100 * bootstrap_ratios(each, each.notna(), min_units=MIN_MODELS)[name]
        rows.append((benchmarks["data"].iloc[0], name, n, 100 * each[name].mean(), *interval(samples)))
    return pd.DataFrame(rows, columns=["data", "estimate", "n", "error", "low", "high"])


def new_model_values(quarter: pd.DataFrame, third: pd.DataFrame, benchmarks: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page reports.

    Parameters
    ----------
    quarter, third : DataFrame
        Scores from `learning_curves` with four and with three groups.
    benchmarks : DataFrame
        Its second result, with four groups.
    """
    (accuracy, _), (accuracies, _) = _resampled(pd.concat([quarter, third.assign(asking="third")]))
    n_all = _all_answers(accuracy, ALL_ALONE)[2]
    best = best_table(quarter).query("measure == 'log_loss'")["best"]
    values = [
        ReportedValue("new_sizes", "Numbers of answers tried", [len(best)], count=True),
        ReportedValue("new_prior_best", "Of these, lowest mean log loss by the pool's prior", [(best == PRIOR).sum()]),
    ]
    for key, what, one, other in (
        ("prior_64_minus_all", "Pool prior, 64 answers, minus all answers, no pool", (PRIOR, RANDOM, 64), ALL_ALONE),
        ("prior_128_minus_all", "Pool prior, 128 answers, minus all answers, no pool", (PRIOR, RANDOM, 128), ALL_ALONE),
        ("third_64_minus_all", "The same, 64 answers, a third unseen", (PRIOR, "third", 64), ALL_ALONE),
        ("prior_minus_ridge", "Pool prior minus ridge without the pool, 64 answers", (PRIOR, RANDOM, 64), RIDGE),
        ("prior_minus_decoder", "Pool prior minus frozen decoder, 64 answers", (PRIOR, RANDOM, 64), DECODER),
        ("stratified", "Stratified minus random questions, 64 answers", (PRIOR, STRATIFIED, 64), PRIOR),
        ("disagreement", "Questions of disagreement minus random ones, 64 answers", (PRIOR, DISAGREEMENT, 64), PRIOR),
    ):
        way = "third" if one[1] == "third" else RANDOM
        minus = (other, way, n_all if other == ALL_ALONE else one[2])
        known = one in accuracy and minus in accuracy
        value = 100 * (accuracy[one] - accuracy[minus]) if known else np.nan
        ends = interval(100 * (accuracies[one] - accuracies[minus])) if known else None
        values.append(ReportedValue(f"new_{key}", what, [value], "points", ends, reason=_FEW))
    errors = error_table(benchmarks).query("n == 64").set_index("estimate").reindex(ESTIMATES)
    for name, row in errors.iterrows():
        key, what = (
            str(name).replace("-", "_").replace(" ", "_"),
            f"Error of accuracy on a benchmark, 64 answers: {name}",
        )
        ends = None if np.isnan(row["error"]) else (row["low"], row["high"])
        values.append(ReportedValue(f"new_error_{key}", what, [row["error"]], "percentage points", ends, reason=_FEW))
    return values
