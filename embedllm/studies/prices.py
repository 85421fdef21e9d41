"""Prices: the accuracy that a router obtains for a cost, beside single models, random mixtures and the oracle.

A *setting* is one rule that chooses a model for each question; a *method* is a list of settings, from the cheapest to
the most accurate one. A router with the tradeoff t chooses argmax_m p(m, q) - t * price(m), where the price of a model
is its mean cost on the training questions: the cost of a new question is not known beforehand. Between two settings,
one of them is drawn at random, so that a method is a curve of accuracy over cost, its frontier. All curves are computed
on test questions; choices, such as the models that are mixed, are made on training questions.

References
----------
RouterBench (arXiv 2403.12031): random mixtures as interpolation, the non-decreasing convex hull, and the area below a
frontier divided by the range of costs. EmbedLLM (arXiv 2410.02223) has no prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm.datasets.complete import complete_table
from embedllm.datasets.prices import complete_prices, price_penalties
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.ranking import best_models, priced_scores
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Run
from embedllm.protocol.tally import Tally

SIZE = "billion parameters"
"""The unit where nothing else is known: the size of a model stands in for its price."""

TRADEOFFS = (1e9, *np.geomspace(1e3, 1e-3, 31), 0.0)
"""Probability that the whole range of prices is worth: from always the cheapest model (first) to no prices (last)."""

SINGLE, MODELS, MIXTURE, ORACLE = "best single model", "single models", "random mixture", "oracle"
_N_MIXTURES = 65


class PricedPool(NamedTuple):
    """Models of known cost, on questions that all of them answered.

    Attributes
    ----------
    matrix : CorrectnessMatrix
        With the cost of every answer.
    unit : str
        Of the costs.
    n_unknown, n_incomplete : int
        Models left out: without a known cost, and with too few answers in common with the others.
    """

    matrix: CorrectnessMatrix
    unit: str
    n_unknown: int
    n_incomplete: int

    @property
    def is_testable(self) -> bool:
        """Whether the costs of models differ, so that a router can save some."""
        costs = self.matrix.costs
        return costs is not None and costs.size > 0 and np.ptp(costs.mean(axis=1)) > 0

    @property
    def cost(self) -> str:
        """What the cost of a question is, in words."""
        return f"size ({SIZE}), a proxy for the price" if self.unit == SIZE else f"{self.unit} a question"

    def __str__(self) -> str:
        n_models = self.matrix.n_models + self.n_unknown + self.n_incomplete
        return (
            f"cost: {self.cost}\n{self.matrix.n_models} of {n_models} models on {self.matrix.n_questions:,} questions\n"
            f"left out: {self.n_unknown} of unknown cost, {self.n_incomplete} with too few answers in common"
        )


def most_accurate(matrix: CorrectnessMatrix) -> str:
    """Name the model with the highest share of correct answers among those that were observed, with this share.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.studies.prices import most_accurate
    >>> most_accurate(load_dataset("simulated", scale=0.01))
    'Feldspar-34B-chat (60.2 %)'
    """
    accuracies = matrix.accuracy(by="model")["accuracy"].dropna()
    return f"{accuracies.idxmax()} ({100 * accuracies.max():.1f} %)" if len(accuracies) else "none"


def price_pool(
    matrix: CorrectnessMatrix, prices: Mapping[str, float] | None = None, default: float | None = None
) -> PricedPool:
    """Keep the models whose cost is known, and the questions that all of them answered.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    prices : mapping of str to float, optional
        A table of prices, which counts where it is given. Otherwise the costs of the matrix count, and where it has
        none, the sizes of the models (`params_b`).
    default : float, optional
        The price of models that the table lacks; without it, these are an error.

    Returns
    -------
    PricedPool
        Models in the order of their names: those with the most answers of known cost, as many as give the largest
        complete table of models and questions.

    Raises
    ------
    ValueError
        If the table lacks a model, or a price is not a number of at least 0.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.studies.prices import price_pool
    >>> print(price_pool(load_dataset("simulated", scale=0.01)))
    cost: size (billion parameters), a proxy for the price
    96 of 112 models on 357 questions
    left out: 16 of unknown cost, 0 with too few answers in common
    """
    matrix, unit = matrix.subset(models=sorted(matrix.model_names)), "price"
    if prices is not None:
        costs = complete_prices(prices, matrix.model_names, default).to_numpy()[:, None]
    elif matrix.costs is not None:
        costs, unit = matrix.costs, matrix.cost_unit
    else:
        sizes = matrix.models.reindex(columns=["params_b"]).apply(pd.to_numeric)
        costs, unit = sizes.to_numpy(float), SIZE
    costs = np.broadcast_to(costs, matrix.labels.shape)
    known = matrix.observed & ~np.isnan(costs)
    models, questions = complete_table(known)
    kept = matrix.subset(models=models, questions=questions)
    axes = kept.models.index, kept.questions.index
    labels, known_costs = pd.DataFrame(kept.labels, *axes), pd.DataFrame(costs[np.ix_(models, questions)], *axes)
    kept = CorrectnessMatrix(labels, kept.questions, kept.embeddings, kept.models, kept.source, costs=known_costs)
    n_unknown = int((~known.any(axis=1) & ~models).sum())
    return PricedPool(kept, unit, n_unknown, int((~models).sum()) - n_unknown)


def hull(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Return the positions of the models that random mixtures need: the vertices of the non-decreasing convex hull.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_models,)

    Returns
    -------
    ndarray of shape (n_vertices,), int
        From the cheapest model (of equals, the more accurate one) to the most accurate one.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.prices import hull
    >>> hull(np.array([1.0, 2, 3, 4]), np.array([0.2, 0.3, 0.6, 0.5])).tolist()
    [0, 2]
    """
    kept: list[int] = []
    for m in np.lexsort((-accuracies, costs)):
        if kept and accuracies[m] <= accuracies[kept[-1]]:
            continue
        while len(kept) > 1:
            last, before = kept[-1], kept[-2]
            gain, further = accuracies[last] - accuracies[before], accuracies[m] - accuracies[last]
            if gain * (costs[m] - costs[last]) > further * (costs[last] - costs[before]):
                break
            kept.pop()  # below the line from the one before to this one
        kept.append(int(m))
    return np.array(kept)


def sweep(probability: np.ndarray, prices: np.ndarray, names: np.ndarray, tradeoffs: Iterable[float]) -> np.ndarray:
    """Return the model that a router chooses at each tradeoff, as `Router.route` does.

    Parameters
    ----------
    probability : ndarray of shape (n_models, n_questions)
    prices : ndarray of shape (n_models,)
    names : ndarray of shape (n_models,)
        Ties go to the first in sorted order.
    tradeoffs : iterable of float
        Probability for a unit of the price.

    Returns
    -------
    ndarray of shape (n_tradeoffs, n_questions), int
        Positions of models.
    """
    p = probability.T.astype(float)
    return np.array([best_models(priced_scores(p, price_penalties(prices, t)), names, 1)[:, 0] for t in tradeoffs])


def tally_settings(run: Run, router: str) -> Tally:
    """Record the accuracy and the cost of each setting of each method on each test question.

    Parameters
    ----------
    run : Run
        On the matrix of a `PricedPool`, whose costs differ. Every predictor is a router.
    router : str
        The predictor whose models are also drawn at random, as often as it chooses them (`weighted random`).

    Returns
    -------
    Tally
        Columns (`accuracy` or `cost`, method, setting). Methods: the predictors, `oracle`, `random mixture`, `weighted
        random`, `single models` (a setting for each) and `best single model` (one setting).
    """
    train, test = run.split.train, run.split.test
    assert train.costs is not None and test.costs is not None  # as price_pool makes them
    prices = train.costs.mean(axis=1, dtype=float)  # (n_models,)
    tradeoffs, everyone = np.array(TRADEOFFS) / np.ptp(prices), np.eye(test.n_models)
    names, columns = test.model_names, np.arange(test.n_questions)
    chosen = {name: sweep(p, prices, names, tradeoffs) for name, p in run.probabilities.items()}
    # Not at 0, where the oracle would take any of the models that are correct.
    chosen[ORACLE] = sweep(test.labels == CORRECT, prices, names, tradeoffs[:-1])
    vertices = hull(prices, (train.labels == CORRECT).mean(axis=1))
    budgets = np.linspace(prices[vertices[0]], prices[vertices[-1]], _N_MIXTURES)
    weights = np.array([np.interp(budgets, prices[vertices], row) for row in everyone[:, vertices]]).T
    frequencies = np.array([np.bincount(row, minlength=test.n_models) / len(row) for row in chosen[router]])
    shares = {MIXTURE: weights, "weighted random": frequencies}  # each (n_settings, n_models)
    shares |= {MODELS: everyone, SINGLE: everyone[vertices[-1:]]}
    sums: dict[tuple[str, str, int], np.ndarray] = {}
    for metric, values in (("accuracy", (test.labels == CORRECT).astype(float)), ("cost", test.costs.astype(float))):
        gained = {name: values[models, columns] for name, models in chosen.items()}
        gained |= {name: share @ values for name, share in shares.items()}  # (n_settings, n_questions)
        sums |= {(metric, name, k): row for name, rows in gained.items() for k, row in enumerate(rows)}
    return Tally.of(test, run.seed, sums, 1, "setting")


def frontier_accuracy(costs: np.ndarray, accuracies: np.ndarray, low: float, high: float) -> float:
    """Return the area below a frontier between two costs, divided by their difference.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_settings,)
        The frontier is linear between settings, and constant beyond the most expensive one.
    low, high : float
        `low` is not below the lowest cost; NaN if the two are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.prices import frontier_accuracy
    >>> round(frontier_accuracy(np.array([1.0, 3.0]), np.array([0.5, 0.7]), low=1.0, high=5.0), 6)
    0.65
    """
    if not high > low:
        return float("nan")
    at = np.sort(np.clip(np.append(costs, [low, high]), low, high))
    y = _curve(costs, accuracies, at)
    return float((np.diff(at) * (y[1:] + y[:-1]) / 2).sum() / (high - low))


def _curve(costs: np.ndarray, accuracies: np.ndarray, at: float | np.ndarray) -> np.ndarray:
    order = np.argsort(costs, kind="stable")
    return np.interp(at, costs[order], accuracies[order])


def cost_to_reach(costs: np.ndarray, accuracies: np.ndarray, accuracy: float, at_most: float) -> float:
    """Return the lowest cost at which a frontier reaches an accuracy, or `at_most` if it is not reached for less.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_settings,)
    accuracy : float
        Of a model that costs `at_most`.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.prices import cost_to_reach
    >>> cost_to_reach(np.array([1.0, 3.0]), np.array([0.5, 0.7]), accuracy=0.6, at_most=5.0)
    2.0
    """
    order = np.argsort(costs, kind="stable")
    costs, accuracies = costs[order], accuracies[order]
    reached = np.flatnonzero(accuracies >= accuracy - 1e-9)  # equal sums may be added in other orders
    if not len(reached):
        return at_most
    ends = slice(max(reached[0] - 1, 0), reached[0] + 1)
    return min(float(np.interp(accuracy, accuracies[ends], costs[ends])), at_most)


class Frontiers:
    """Frontiers of several methods, with 95 % intervals over questions, paired between methods.

    If all costs are equal, there are no frontiers: tables are empty and values undefined.

    Parameters
    ----------
    pool : PricedPool
    runs : iterable of Run
        On the matrix of the pool, as `fit_runs` gives them; each predictor is a router. If all costs are equal, nothing
        is fitted.
    router : str
        The predictor for which values are reported, and whose models are also drawn at random.

    Attributes
    ----------
    limits : (float, float)
        The costs of the cheapest and of the best single model, between which areas are computed.
    """

    def __init__(self, pool: PricedPool, runs: Iterable[Run], router: str) -> None:
        self.pool, self.router, self.limits = pool, router, (float("nan"), float("nan"))
        self._settings: dict[str, np.ndarray] = {}  # (1 + n_resamples, 2, n_settings): cost and accuracy (%)
        if not pool.is_testable:
            return
        tally = Tally.join(tally_settings(run, router) for run in runs)
        means, frames = tally.by_seed().mean(), []
        for metric, scale in (("cost", 1), ("accuracy", 100)):
            # All questions first, then resamples of them.
            frames.append(scale * pd.concat([means[metric].to_frame().T, tally.resampled(metric=metric)]))
        for name in frames[0].columns.unique(level=0):
            self._settings[name] = np.stack([frame[name].to_numpy() for frame in frames], axis=1)
        self.limits = float(self._settings[MIXTURE][0, 0, 0]), float(self._settings[SINGLE][0, 0, 0])

    def table(self) -> pd.DataFrame:
        """Return each setting.

        Returns
        -------
        DataFrame
            Columns `data`, `unit`, `method`, `setting` (name of a single model, or a number), `cost`, `accuracy` (%).
        """
        rows = []
        for method, settings in self._settings.items():
            numbers = range(settings.shape[2])
            names = self.pool.matrix.model_names if method == MODELS else numbers
            rows += [(method, str(names[k]), *settings[0, :, k]) for k in numbers]
        return self._framed(rows, ["method", "setting", "cost", "accuracy"])

    def gains(self, n_costs: int = 101) -> pd.DataFrame:
        """Return the accuracy of each method minus that of the random mixture of models at equal cost.

        Returns
        -------
        DataFrame
            Columns `data`, `unit`, `method`, `cost`, `points`, and `low`, `high`.
        """
        at, rows = np.linspace(*self.limits, n_costs), []
        curves = self._each(lambda costs, accuracies: _curve(costs, accuracies, at))
        for name in [name for name in curves if name != MIXTURE]:
            for cost, points in zip(at, (curves[name] - curves[MIXTURE]).T, strict=True):
                rows.append((name, cost, points[0], *interval(points[1:])))
        return self._framed(rows, ["method", "cost", "points", "low", "high"])

    def summary(self) -> pd.DataFrame:
        """Compare the methods in four numbers, each with the ends of its interval, `_low` and `_high`.

        Returns
        -------
        DataFrame
            Columns `data`, `unit`, `method`; `area`: mean accuracy between the limits (%); `gain`: the same minus that
            of the random mixture (points); `saved`: share of the cost of the best single model that is not needed for
            its accuracy (%, 0 if the method does not reach it for less); `equal`: accuracy at the cost of the best
            single model, minus that of this model (points).
        """
        areas, rows = self._each(lambda costs, accuracies: frontier_accuracy(costs, accuracies, *self.limits)), []
        for name, area in areas.items():
            both = zip(self._settings[name], self._settings[SINGLE], strict=True)
            saved, equal = np.array([_beside_single(*settings, *single) for settings, single in both]).T
            # Rounded, for the same reason as in cost_to_reach.
            numbers = np.round([area, area - areas[MIXTURE], saved, equal], 9)
            rows.append((name, *(each for values in numbers for each in (values[0], *interval(values[1:])))))
        columns = [f"{number}{end}" for number in ("area", "gain", "saved", "equal") for end in ("", "_low", "_high")]
        return self._framed(rows, ["method", *columns])

    def values(self) -> list[ReportedValue]:
        """Return the values that the page reports."""
        counts = [("models", "Models of known cost", self.pool.matrix.n_models)]
        counts += [("unknown", "Models of unknown cost, left out", self.pool.n_unknown)]
        counts += [("incomplete", "Models with too few common answers, left out", self.pool.n_incomplete)]
        values = [ReportedValue(f"price_{key}", what, [n], count=True) for key, what, n in counts]
        reason = "the best model is the cheapest" if self._settings else "no two models of known, different cost"
        for key, what, cost in zip(("low", "high"), ("cheapest", "best single"), self.limits, strict=True):
            unit = SIZE if self.pool.unit == SIZE else f"{self.pool.unit} a question"
            values.append(ReportedValue(f"price_{key}", f"Cost of the {what} model", [cost], unit, reason=reason))
        table = self.summary().set_index("method")
        router, mean = self.router, "Mean accuracy between these costs"
        for key, what, method, column, unit in (
            ("area", f"{mean}: {router}", router, "area", "%"),
            ("area_mixture", f"{mean}: random mixture", MIXTURE, "area", "%"),
            ("area_oracle", f"{mean}: oracle", ORACLE, "area", "%"),
            ("gain", f"{mean}: {router} minus random mixture", router, "gain", "points"),
            ("saved", f"Cost that {router} saves at the accuracy of the best single model", router, "saved", "%"),
            ("equal", f"{router} minus best single model at its cost", router, "equal", "points"),
        ):
            row = table.loc[method] if method in table.index else dict.fromkeys(table.columns, np.nan)
            value, *ends = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
            values.append(ReportedValue(f"price_{key}", what, [value], unit, (ends[0], ends[1]), reason=reason))
        return values

    def _each(self, statistic: Callable[[np.ndarray, np.ndarray], object]) -> dict[str, np.ndarray]:
        """A statistic of the costs and accuracies of each method, (1 + n_resamples, ...)."""
        methods = [name for name in self._settings if name not in (MODELS, SINGLE)]
        return {name: np.array([statistic(*both) for both in self._settings[name]]) for name in methods}

    def _framed(self, rows: Sequence[tuple[object, ...]], columns: list[str]) -> pd.DataFrame:
        facts = [self.pool.matrix.source, self.pool.unit]
        return pd.DataFrame([(*facts, *row) for row in rows], columns=["data", "unit", *columns])


def _beside_single(
    costs: np.ndarray, accuracies: np.ndarray, cost: np.ndarray, accuracy: np.ndarray
) -> tuple[float, float]:
    """Return what a method saves (%) at the accuracy of the best single model, and gains (points) at its cost.

    Of the method (n_settings,), of the model (1,).
    """
    reached = cost_to_reach(costs, accuracies, accuracy[0], cost[0])
    saved = 100 * (1 - reached / cost[0]) if cost[0] else 0.0
    return saved, float(_curve(costs, accuracies, cost[0]) - accuracy[0])
