"""Portfolios of few models that keep the accuracy of a router, and models that are more alike than expected.

A router that may choose among the models of a set S expects the accuracy F(S), the mean over questions q of the largest
predicted probability p(m, q) of a model m in S. F is monotone and submodular (facility location). A greedy choice,
which adds the model with the largest gain at each step, therefore reaches at least 1 - 1/e of the F of the best set of
the same size. The data give a bound that is at least as close: for every set S, no k models have a higher F than F(S)
plus the k largest gains of a single model beyond S. Everything is chosen on training questions; accuracies are those of
test questions. Only the models to choose among change: nothing is fitted again.

References
----------
*An analysis of approximations for maximizing submodular set functions*, Mathematical Programming 14 (1978), for the
greedy choice; *Cost-effective outbreak detection in networks*, KDD (2007), for the bound of given data. *How to detect
and handle outliers* (1993), for the limit of 3.5 spreads. EmbedLLM (arXiv 2410.02223) has no portfolios.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit

from embedllm.datasets.complete import complete_table
from embedllm.datasets.model_names import weights_of
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.predictors.ranking import best_models
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.reported_values import ReportedValue, Wanted, accuracy_values
from embedllm.protocol.runs import Run
from embedllm.protocol.tally import Tally

GREEDY, ACCURATE, RANDOM = "greedy choice", "most accurate models", "random models"
EVERYONE, WITHOUT = ("all models", 0), ("without duplicates", 0)
MARGIN = 0.005
"""Expected accuracy that the portfolio with the fewest models may lose."""

FEW = 5
"""Size of a portfolio that is compared on all data."""

OUTLIER, NEAR = 3.5, 0.25
"""A pair is flagged if its correlation is so many spreads above the median, and its distance in this lowest share."""

_FEWEST_SHARED = 100  # training questions in common, so that a correlation is known to 0.1
_N_DRAWS = 20
_NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
_CLIP = 1e-6  # probabilities are kept so far from 0 and 1


class Chosen(NamedTuple):
    """Models in the order of a greedy choice.

    Attributes
    ----------
    order : ndarray of shape (n_models,), int
    value : ndarray of shape (n_models,)
        Expected accuracy F of the first 1, 2, ... of them.
    bound : ndarray of shape (n_models,)
        Upper bound of F for any set of 1, 2, ... models.
    """

    order: np.ndarray
    value: np.ndarray
    bound: np.ndarray

    @property
    def fewest(self) -> int:
        """The fewest models whose expected accuracy is at most `MARGIN` below that of all."""
        return int(np.argmax(self.value >= self.value[-1] - MARGIN)) + 1


def choose_greedily(probability: np.ndarray) -> Chosen:
    """Add the model with the largest gain in expected accuracy, one at a time.

    Parameters
    ----------
    probability : ndarray of shape (n_models, n_questions)
        Of models with equal gains, the first row comes first.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.portfolio import choose_greedily
    >>> chosen = choose_greedily(np.array([[0.6, 0.6, 0.6], [0.9, 0.6, 0.0], [0.0, 0.0, 0.8]]))
    >>> chosen.order.tolist(), chosen.value.round(3).tolist(), chosen.bound.round(3).tolist()
    ([0, 1, 2], [0.6, 0.7, 0.767], [0.6, 0.767, 0.767])
    """
    n_models, best = len(probability), np.zeros(probability.shape[1])
    order, value, bound, left = [], [], np.full(n_models, np.inf), np.ones(n_models, dtype=bool)
    for _ in range(n_models):
        gains = np.maximum(probability - best, 0).mean(axis=1)
        bound = np.minimum(bound, best.mean() + np.sort(gains)[::-1].cumsum())
        order.append(int(np.where(left, gains, -1).argmax()))
        left[order[-1]] = False
        best = np.maximum(best, probability[order[-1]])
        value.append(best.mean())
    return Chosen(np.array(order), np.array(value), np.minimum(bound, best.mean()))


def route_among_first(probability: np.ndarray, correct: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the answers of a router that may choose among the first 1, 2, ... models of an order.

    Parameters
    ----------
    probability, correct : ndarray of shape (n_models, n_questions)
        Of models with equal probabilities, the first row is chosen, wherever it is in the order.
    order : ndarray of shape (n_models,), int

    Returns
    -------
    ndarray of shape (n_models, n_questions)
        Entries of `correct`; row k - 1 is for the first k models.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.portfolio import route_among_first
    >>> probability, correct = np.array([[0.6, 0.6], [0.9, 0.1]]), np.array([[0, 1], [1, 0]])
    >>> route_among_first(probability, correct, np.array([0, 1])).tolist()
    [[0, 1], [1, 1]]
    """
    columns, asked = np.arange(probability.shape[1]), np.full(probability.shape[1], order[0])
    obtained = np.empty(correct.shape, dtype=correct.dtype)
    for row, model in zip(obtained, order, strict=True):
        held = probability[asked, columns]
        better = (probability[model] > held) | (probability[model] == held) & (model < asked)
        asked = np.where(better, model, asked)
        row[:] = correct[asked, columns]
    return obtained


def similar_pairs(train: CorrectnessMatrix, probability: np.ndarray) -> pd.DataFrame:
    """Compare the answers of each pair of models with what the text and the difficulty of the questions explain.

    A question can be harder for all models than its text shows, which the probability p(m, q) does not contain. The
    expected probability is therefore p(m, q) + b_m d(m, q), where d is the mean of label minus p over the other models,
    and b_m is a slope fitted by least squares. `correlation` is that of the residuals of two models, label minus
    expected probability, over their common questions.

    Parameters
    ----------
    train : CorrectnessMatrix
    probability : ndarray of shape (n_models, n_questions)
        Predicted.

    Returns
    -------
    DataFrame
        Pairs with at least 100 questions in common, the highest `outlier` first. Columns: `data`, `model`, `other`,
        `n_shared`, `agreement`, `expected` (the agreement of independent answers), `correlation`, `outlier` (how many
        spreads this is above the median over the pairs; a spread combines the median absolute deviation, scaled to a
        standard deviation, with the sampling error), `distance` (root mean square difference of the predicted logits on
        the common questions), `gap` (accuracy of `model` minus that of `other`, on these), `same_family` (as the matrix
        names it), `same_weights` (names that differ only in provider or format) and `flagged`.
    """
    names, observed = train.model_names, train.observed.astype(float)
    correct = (train.labels == CORRECT).astype(float)
    p = probability.astype(float).clip(_CLIP, 1 - _CLIP)
    rest = (correct - p) * observed
    harder = (rest.sum(axis=0) - rest) / np.maximum(observed.sum(axis=0) - 1, 1) * observed
    slopes = (rest * harder).sum(axis=1) / np.maximum((harder**2).sum(axis=1), _CLIP)
    expected = (p + slopes[:, None] * harder).clip(0, 1)
    yes, no, rest = expected * observed, (1 - expected) * observed, (correct - expected) * observed
    logits, shared = logit(p) * observed, observed @ observed.T
    one, two = np.nonzero(np.triu(shared >= _FEWEST_SHARED, k=1))
    n = shared[one, two]
    family = train.models.reindex(columns=["family"])["family"].astype(object).fillna("").to_numpy()

    def mean(products: np.ndarray) -> np.ndarray:
        return products[one, two] / n

    # (i, j): sums of i over the questions that it shares with j
    squares, power, own = rest**2 @ observed.T, logits**2 @ observed.T, correct @ observed.T
    scale = np.sqrt(mean(squares) * mean(squares.T))
    table = pd.DataFrame({"data": train.source, "model": names[one], "other": names[two], "n_shared": n.astype(int)})
    table = table.assign(
        agreement=mean(correct @ correct.T + (observed - correct) @ (observed - correct).T),
        expected=mean(yes @ yes.T + no @ no.T),
        correlation=np.divide(mean(rest @ rest.T), scale, out=np.zeros(len(n)), where=scale > 0),
        distance=np.sqrt(mean(power + power.T - 2 * logits @ logits.T).clip(min=0)),
        gap=mean(own - own.T),
        same_family=(family[one] == family[two]) & (family[one] != ""),
        same_weights=weights_of(table["model"].astype(str)) == weights_of(table["other"].astype(str)),
    )
    above = table["correlation"] - table["correlation"].median()
    table["outlier"] = above / np.sqrt((_NORMAL * above.abs().median()) ** 2 + 1 / n)
    table["flagged"] = (table["outlier"] > OUTLIER) & (table["distance"] <= table["distance"].quantile(NEAR))
    return table.sort_values("outlier", ascending=False, kind="stable", ignore_index=True)


def drop_one_of_each(pairs: pd.DataFrame) -> list[str]:
    """Name the less accurate model of each flagged pair, unless one of the two is named already.

    Parameters
    ----------
    pairs : DataFrame
        From `similar_pairs`; those of the highest `outlier` are handled first.
    """
    dropped: list[str] = []
    for pair in pairs[pairs["flagged"]].itertuples():
        if pair.model not in dropped and pair.other not in dropped:
            dropped.append(str(pair.other if pair.gap >= 0 else pair.model))
    return dropped


class Portfolio:
    """Portfolios of each size, chosen in three ways, and routing without the duplicates.

    Sizes are compared on a table without missing answers (`complete_table`). Pairs that are more alike than expected
    are looked for among all models, on the training questions that both models of a pair answered.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    runs : iterable of Run
        On that matrix.
    router : str
        Name of the predictor that routes, and whose probabilities are used to flag pairs.

    Raises
    ------
    ValueError
        If the largest table without missing answers has no training question or no test question.

    Attributes
    ----------
    pairs : DataFrame
        From `similar_pairs`, of the first run.
    """

    def __init__(self, matrix: CorrectnessMatrix, runs: Iterable[Run], router: str) -> None:
        matrix = matrix.subset(models=sorted(matrix.model_names))  # ties go to the first
        models, questions = complete_table(matrix.observed)
        self.names, self._ids, self.data = matrix.model_names[models], matrix.questions.index[questions], matrix.source
        self.router, self._chosen = router, list[Chosen]()
        sizes, without, pairs = [], [], []
        for run in runs:
            sizes.append(self._of_sizes(run))
            train = run.split.train
            pairs.append(similar_pairs(train, run.predictors[router].predict_matrix(train)))
            without.append(_without(run, router, drop_one_of_each(pairs[-1])))
        self._sizes, self._without, self.pairs = Tally.join(sizes), Tally.join(without), pairs[0]
        self._n_questions = self._sizes.rows.groupby("seed")["count"].sum()

    def _of_sizes(self, run: Run) -> Tally:
        train, test = (
            part.subset(self.names, part.questions.index.isin(self._ids)) for part in (run.split.train, run.split.test)
        )
        if not (train.n_questions and test.n_questions):
            raise ValueError(
                f"{self.data}: of the questions that all of {len(self.names)} models answered, none is a "
                f"{'test' if train.n_questions else 'training'} question: portfolios need both"
            )
        p = run.predictors[self.router].predict_matrix(test)
        correct = (test.labels == CORRECT).astype(float)
        self._chosen.append(choose_greedily(run.predictors[self.router].predict_matrix(train).astype(float)))
        accurate = np.argsort(-(train.labels == CORRECT).mean(axis=1), kind="stable")
        rng, n = np.random.default_rng(run.seed), len(self.names)
        obtained = {
            GREEDY: route_among_first(p, correct, self._chosen[-1].order),
            ACCURATE: route_among_first(p, correct, accurate),
            RANDOM: np.mean([route_among_first(p, correct, rng.permutation(n)) for _ in range(_N_DRAWS)], axis=0),
        }
        obtained["fewest"] = obtained[GREEDY][[self._chosen[-1].fewest - 1]]
        return _tally(run, test, {(name, k): row for name, rows in obtained.items() for k, row in enumerate(rows, 1)})

    @property
    def n_questions(self) -> float:
        """Test questions of a run."""
        return float(self._n_questions.mean())

    def table(self) -> pd.DataFrame:
        """Return the routing accuracy of each portfolio on test questions.

        Returns
        -------
        DataFrame
            Columns `data`, `models` (how they were chosen), `k` (how many), `accuracy` (%), `minus` (that of all
            models, in points) with its paired 95 % interval, `low` and `high`.
        """
        accuracy, resampled = self._sizes.by_seed().mean()["accuracy"], self._sizes.resampled()
        everyone = (GREEDY, len(self.names))
        rows = []
        for name, k in accuracy.index:
            if name in (GREEDY, ACCURATE, RANDOM):
                minus = 100 * (accuracy[name, k] - accuracy[everyone])
                ends = interval(100 * (resampled[name, k] - resampled[everyone]))
                rows.append((self.data, name, k, 100 * accuracy[name, k], minus, *ends))
        return pd.DataFrame(rows, columns=["data", "models", "k", "accuracy", "minus", "low", "high"])

    def choices(self) -> pd.DataFrame:
        """Return the models of the first run in the order of the greedy choice.

        Returns
        -------
        DataFrame indexed by `k`
            Columns `data`, `model`, `expected` (accuracy F of the first k models, %), `at most` (bound of F for the
            best set of k models, %) and `reached` (the former in percent of the latter: at least so much is reached).
        """
        chosen = self._chosen[0]
        table = {"data": self.data, "model": self.names[chosen.order], "expected": 100 * chosen.value}
        table |= {"at most": 100 * chosen.bound, "reached": 100 * chosen.value / chosen.bound}
        return pd.DataFrame(table, index=pd.RangeIndex(1, len(self.names) + 1, name="k"))

    def values(self) -> list[ReportedValue]:
        """Return the values that the page reports."""
        n, few = len(self.names), min(FEW, len(self.names))
        fewest = [each.fewest for each in self._chosen]
        first = [100 * each.value[0] / each.value[-1] for each in self._chosen]
        reached = [100 * (each.value / each.bound).min() for each in self._chosen]
        what, everyone, fewest_models = "Routing accuracy:", (GREEDY, n), ("fewest", 1)
        margin, without = f"at most {100 * MARGIN:g} points", "without one model of each flagged pair, minus all"
        wanted = [
            Wanted("portfolio_all", f"{what} all models", everyone),
            Wanted("portfolio_fewest_minus_all", f"{what} the fewest models minus all", fewest_models, everyone),
            Wanted("portfolio_fewest_minus_single", f"{what} the fewest minus best one", fewest_models, (ACCURATE, 1)),
            Wanted("portfolio_few_minus_all", f"{what} {few} models minus all", (GREEDY, few), everyone),
            Wanted("portfolio_few_minus_accurate", f"{what} {few} minus most accurate", (GREEDY, few), (ACCURATE, few)),
            Wanted("portfolio_few_minus_random", f"{what} {few} minus random ones", (GREEDY, few), (RANDOM, few)),
        ]
        flagged, equal = (self.pairs[self.pairs[name]] for name in ("flagged", "same_weights"))
        counts = [
            ("models", "Models without missing answers", [n]),
            ("questions", "Test questions that they answered", self._n_questions),
            ("few", "Models of the small portfolio", [few]),
            ("pairs", "Pairs compared, first run", [len(self.pairs)]),
            ("flagged", "Pairs flagged, first run", [len(flagged)]),
            ("runs", "Pairs of equal weights, by their names", [len(equal)]),
            ("runs_flagged", "Of these, flagged", [equal["flagged"].sum() if len(equal) else np.nan]),
            ("dropped", "Models dropped: one of each flagged pair, first run", [len(drop_one_of_each(self.pairs))]),
        ]
        no_names, no_family = "no names differ only in provider or format", "no such pair, or no family known"
        shares = [
            ("family", "Flagged pairs of one family", flagged),
            ("family_base", "Pairs of one family", self.pairs),
        ]
        return [
            *(ReportedValue(f"portfolio_{key}", name, runs, count=True, reason=no_names) for key, name, runs in counts),
            ReportedValue("portfolio_fewest", f"Fewest models that expect {margin} less", fewest),
            ReportedValue("portfolio_reached", "Least share of the best set that is reached", reached, "%"),
            ReportedValue("portfolio_first", "Expected accuracy of one model, share of that of all", first, "%"),
            *accuracy_values(self._sizes, wanted),
            *(
                ReportedValue(f"portfolio_{key}", name, [_one_family(pairs)], "%", reason=no_family)
                for key, name, pairs in shares
            ),
            *accuracy_values(self._without, [Wanted("portfolio_drop", f"{what} {without}", WITHOUT, EVERYONE)]),
        ]


def _one_family(pairs: pd.DataFrame) -> float:
    """Percent; NaN of nothing."""
    return 100 * float(pairs["same_family"].mean()) if len(pairs) else float("nan")


def _without(run: Run, router: str, dropped: list[str]) -> Tally:
    """Route among the models that are observed on a question, with and without some."""
    test, p = run.split.test, run.probabilities[router].astype(float)
    correct, obtained = (test.labels == CORRECT).astype(float), {}
    rest = test.observed & ~np.isin(test.model_names, dropped)[:, None]
    counted = np.asarray(rest.any(axis=0))  # both routers can answer these questions
    for name, kept in ((EVERYONE, test.observed), (WITHOUT, rest)):
        asked = best_models(np.where(kept, p, -np.inf).T, test.model_names, 1)[:, 0]
        obtained[name] = correct[asked, np.arange(test.n_questions)] * counted
    return _tally(run, test, obtained, counted)


def _tally(
    run: Run, test: CorrectnessMatrix, obtained: dict[tuple[str, int], np.ndarray], counted: np.ndarray | int = 1
) -> Tally:
    sums = {("accuracy", *key): row for key, row in obtained.items()}
    return Tally.of(test, run.seed, sums, np.asarray(counted, dtype=int), "models")
