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

from embedllm.matrix import CORRECT, OVERALL, CorrectnessMatrix
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.routers import RoutingPolicy, checked_shares, routers_of
from embedllm.protocol.runs import Run
from embedllm.protocol.tally import Tally


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
        `router`, `benchmark`, `accuracy` (expected share of correct answers, an abstention being none; NaN without
        a question), `stderr` (standard error of that mean over questions; NaN below two), `abstained` (share of
        the questions for which no observed model was chosen), `n_questions` (with at least one observed answer).

    Raises
    ------
    KeyError, ValueError
        If a router gives other than shares or names, as :func:`~embedllm.protocol.routers.checked_shares` says.
    TypeError
        If a router is none, such as a predictor.

    Examples
    --------
    >>> from embedllm import KNNCorrectness, evaluate_routers, load_dataset, standard_routers
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> knn = KNNCorrectness(n_neighbors=15).fit(train)
    >>> evaluate_routers(standard_routers(train, knn, knn), test).columns.tolist()
    ['data', 'router', 'benchmark', 'accuracy', 'stderr', 'abstained', 'n_questions']
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
    for name, router in routers.items():
        if not isinstance(router, RoutingPolicy):
            raise TypeError(
                f"{name!r} is a {type(router).__name__} and no RoutingPolicy: a predictor, such as `router.predictor`, "
                f"routes as PredictedBest({name!r}).fit(train, {{{name!r}: predictor}})"
            )
    return Routes(seed, matrix, {name: checked_shares(router, matrix, name) for name, router in routers.items()})


def tally_routes(routes: Iterable[Routes]) -> Tally:
    """Note, for each question with an observed answer, the probability that each router obtains a correct one."""
    return Tally.join(_tally(each) for each in routes)


def _tally(routes: Routes) -> Tally:
    matrix, correct = routes.matrix, routes.matrix.labels == CORRECT
    count = matrix.observed.any(axis=0).astype(int)
    sums = {("accuracy", name): (shares * correct).sum(axis=0) for name, shares in routes.shares.items()}
    # Without a negative zero, which rounding may leave.
    sums |= {("abstained", name): (count - shares.sum(axis=0)).clip(min=0) for name, shares in routes.shares.items()}
    return Tally.of(matrix, routes.seed, sums, count, "router")


def route_table(tally: Tally) -> pd.DataFrame:
    """Return the means over the runs: the columns of `evaluate_routers`.

    `n_questions` is the mean over the runs.
    """
    return tally.table().drop(columns="count")


def paper_routers(evaluation: pd.DataFrame, mf: str) -> pd.DataFrame:
    """Return what the paper's Figure 4 compares: MF, the best single model and random choice as frequent as MF's.

    On a benchmark, the best single model is the best one there. It is chosen on the training questions, which the paper
    does not say.

    Parameters
    ----------
    evaluation : DataFrame
        From `route_table`, with the routers of `standard_policies(mf)`.
    mf : str

    Returns
    -------
    DataFrame
        Columns `data`, `router`, `benchmark`, `accuracy`, `n_questions`.
    """
    single, there, random = "best single model", "best model per benchmark", "weighted random"
    overall = evaluation["benchmark"] == OVERALL
    shown = evaluation["router"].isin([mf, random]) | (evaluation["router"] == single) & overall
    table = evaluation[shown | (evaluation["router"] == there) & ~overall]
    table = table.assign(router=table["router"].replace(there, single))
    return table[["data", "router", "benchmark", "accuracy", "n_questions"]]


def route_values(tally: Tally, first: Tally) -> list[ReportedValue]:
    """Return the values that the routing page reports.

    Parameters
    ----------
    tally : Tally
        From `tally_routes`, with the routers of `standard_policies()`.
    first : Tally
        Of the first run alone, with those of MF and SGD.
    """
    mf, knn, sgd = "MF", "KNN", "SGD"
    accuracies = {
        "route_mf": mf,
        "route_knn": knn,
        "route_single": "best single model",
        "route_best_of_benchmark": "best model per benchmark",
        "route_weighted": "weighted random",
        "route_oracle": "oracle",
    }
    differences = {
        "route_gain": "best single model",
        "route_gain_benchmark": "best model per benchmark",
        "route_mf_minus_knn": knn,
        "route_mf_minus_weighted": "weighted random",
    }
    what = "Routing accuracy of"
    wanted = [Wanted(key, f"{what} {name}", name) for key, name in accuracies.items()]
    wanted += [Wanted(key, f"{what} {mf} minus {name}", mf, name) for key, name in differences.items()]
    beside = [
        Wanted("route_sgd", f"{what} {sgd}, first run", sgd),
        Wanted("route_mf_minus_sgd", f"{what} {mf} minus {sgd}, first run", mf, sgd),
    ]
    questions = tally.rows.groupby("seed")["count"].sum()
    routed = ReportedValue("route_questions", "Routed test questions", questions, count=True)
    return [*accuracy_values(tally, wanted), *accuracy_values(first, beside), routed]


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
    return _received(checked_shares(router, matrix), matrix)


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
    each = {name: pd.DataFrame([_received(run.shares[name], run.matrix) for run in routes]) for name in routers}
    means = {name: shares.mean().sort_index() for name, shares in each.items()}
    return {name: mean.sort_values(ascending=False, kind="stable") for name, mean in means.items()}
