"""Model routing: the accuracy of the answers that routers obtain, and how often each model is asked.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.2 and Figure 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.routers import RoutingPolicy, routers_of
from embedllm.protocol.runs import Run
from embedllm.protocol.tally import Tally
from embedllm.protocol.timing import Measured, measure


class Routes(NamedTuple):
    """Shares that routers give to the models on the questions of one matrix.

    Attributes
    ----------
    seed : int
    matrix : CorrectnessMatrix
    shares : dict of str to ndarray of shape (n_models, n_questions)
    """

    seed: int
    matrix: CorrectnessMatrix
    shares: dict[str, np.ndarray]


def evaluate_routers(routers: Mapping[str, RoutingPolicy], matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Return the accuracy of the answers that each router obtains.

    Parameters
    ----------
    routers : mapping of str to RoutingPolicy
        Name to fitted router.
    matrix : CorrectnessMatrix
        The questions to route, with the answers of the models.

    Returns
    -------
    DataFrame
        One row for each router and each benchmark, `overall` first. Columns: `data` (the source of the matrix),
        `router`, `benchmark`, `accuracy` (expected share of correct answers; NaN without a question), `stderr`
        (standard error of that mean over questions; NaN below two), `n_questions` (with at least one observed answer).

    Raises
    ------
    ValueError
        If a router gives a share that is not a number or negative, or shares that sum to more than 1.

    Examples
    --------
    >>> from embedllm import KNNCorrectness, evaluate_routers, load_dataset, standard_routers
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> knn = KNNCorrectness(n_neighbors=15).fit(train)
    >>> evaluate_routers(standard_routers(train, knn, knn), test).columns.tolist()
    ['data', 'router', 'benchmark', 'accuracy', 'stderr', 'n_questions']
    """
    return route_table(tally_routes([_routes(routers, matrix)]))


def route_runs(runs: Iterable[Run], routers: Mapping[str, RoutingPolicy]) -> Iterator[Routes]:
    """Fit clones of the routers on each run and route its test questions.

    Parameters
    ----------
    runs : iterable of Run
    routers : mapping of str to RoutingPolicy
        Name to router; predictors are named as in the runs.

    Yields
    ------
    Routes
    """
    for run in runs:
        yield _routes(routers_of(run, routers), run.split.test, run.seed)


def _routes(routers: Mapping[str, RoutingPolicy], matrix: CorrectnessMatrix, seed: int = 0) -> Routes:
    return Routes(seed, matrix, {name: _shares(name, router, matrix) for name, router in routers.items()})


def _shares(name: str, router: RoutingPolicy, matrix: CorrectnessMatrix) -> np.ndarray:
    shares = router.shares(matrix)
    if shares.shape != matrix.labels.shape:
        raise ValueError(f"router {name!r}: shares have shape {shares.shape}, not (n_models, n_questions)")
    if not ((shares >= 0).all() and (shares.sum(axis=0) <= 1 + 1e-9).all()):  # not a number is neither
        raise ValueError(f"router {name!r}: the shares of a question must be at least 0 and sum to at most 1")
    return shares


def tally_routes(routes: Iterable[Routes]) -> Tally:
    """Note, for each question with an observed answer, the probability that each router obtains a correct one."""
    return Tally.join(_tally(each) for each in routes)


def _tally(routes: Routes) -> Tally:
    matrix, correct = routes.matrix, routes.matrix.labels == CORRECT
    sums = {("accuracy", name): (shares * correct).sum(axis=0) for name, shares in routes.shares.items()}
    count = matrix.observed.any(axis=0).astype(int)
    rows = {"group": matrix.benchmarks, "question": matrix.question_ids, "count": count, "seed": routes.seed}
    return Tally(pd.DataFrame(rows), pd.DataFrame(sums), matrix.source, method="router", by="benchmark")


def route_table(tally: Tally) -> pd.DataFrame:
    """Return the means over the runs: the columns of `evaluate_routers`.

    `n_questions` is the mean over the runs.
    """
    return tally.table().drop(columns="count")


def route_values(tally: Tally, mf: str, knn: str) -> list[ReportedValue]:
    """Return the values that the routing page reports.

    Parameters
    ----------
    tally : Tally
        From `tally_routes`, with the routers of `standard_policies(mf, knn)`.
    mf, knn : str
        Names of the routers that are reported under the keys `route_mf` and `route_knn`.
    """
    accuracies = {
        "route_mf": mf,
        "route_knn": knn,
        "route_single": "best single model",
        "route_best_of_benchmark": "best model per benchmark",
        "route_weighted": "weighted random",
        "route_uniform": "uniform random",
        "route_oracle": "oracle",
    }
    differences = {
        "route_gain": "best single model",
        "route_mf_minus_knn": knn,
        "route_mf_minus_weighted": "weighted random",
    }
    wanted = [Wanted(key, f"Routing accuracy of {name}", name) for key, name in accuracies.items()]
    wanted += [Wanted(key, f"Routing accuracy of {mf} minus {name}", mf, name) for key, name in differences.items()]
    questions = tally.rows.groupby("seed")["count"].sum()
    routed = ReportedValue("route_questions", "Routed test questions", questions, count=True)
    return [*accuracy_values(tally, wanted), routed]


def route_shares(router: RoutingPolicy, matrix: CorrectnessMatrix) -> pd.Series:
    """Return the share of the questions that each model receives.

    Parameters
    ----------
    router : RoutingPolicy
        Fitted.
    matrix : CorrectnessMatrix

    Returns
    -------
    Series of shape (n_models,)
        Largest first; NaN if nothing was observed.

    Examples
    --------
    >>> from embedllm import KNNCorrectness, load_dataset, route_shares, standard_routers
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> knn = KNNCorrectness(n_neighbors=15).fit(train)
    >>> routers = standard_routers(train, knn, knn)
    >>> route_shares(routers["best single model"], test).head(2).tolist()
    [1.0, 0.0]
    """
    return _received(router.shares(matrix), matrix)


def _received(shares: np.ndarray, matrix: CorrectnessMatrix) -> pd.Series:
    received = shares.sum(axis=1)
    table = pd.Series(received / (received.sum() or np.nan), index=matrix.models.index, name="share")
    return table.sort_index().sort_values(ascending=False, kind="stable")


def mean_route_shares(routes: Iterable[Routes], routers: Sequence[str]) -> dict[str, pd.Series]:
    """Return the mean over the runs of `route_shares` on their test questions.

    Parameters
    ----------
    routes : iterable of Routes
    routers : sequence of str
        Names of some of the routers.

    Returns
    -------
    dict of str to Series of shape (n_models,)
        Largest first. A run without an observed answer is left out.
    """
    routes = list(routes)
    means = {name: pd.concat([_received(each.shares[name], each.matrix) for each in routes]) for name in routers}
    return {
        name: shares.groupby(level=0).mean().sort_values(ascending=False, kind="stable")
        for name, shares in means.items()
    }


def route_speed(run: Run, predictors: Sequence[str], repeats: int = 5) -> pd.DataFrame:
    """Measure choosing among all models for questions whose embeddings are available.

    Parameters
    ----------
    run : Run
    predictors : sequence of str
        Names of its predictors, which take embeddings.
    repeats : int
        Of each measurement, within a second; times are medians.

    Returns
    -------
    DataFrame indexed by `router`
        Columns: `data`, `questions` (of the batch, which holds all test questions), `a second, in a batch`,
        `a second, one by one` and `peak MB` (how far memory rises with the batch; NaN where that is not known).
    """
    embeddings, source = run.split.test.embeddings, run.split.test.source

    def choose(name: str, questions: np.ndarray) -> Measured:
        return measure(lambda: run.predictors[name].predict_proba(questions).argmax(axis=1), repeats, limit=1)

    rows = {}
    for name in predictors:
        batch, one = choose(name, embeddings), choose(name, embeddings[:1])
        rows[name] = source, len(embeddings), len(embeddings) / batch.seconds, 1 / one.seconds, batch.peak_mb
    columns = ["data", "questions", "a second, in a batch", "a second, one by one", "peak MB"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("router")
