"""Selective routing: a router that keeps the questions in which it is confident, and the calibration of its confidence.

The confidence of a router in a question is the probability that it predicts for the model that it chooses. Questions
are kept in the order of confidence; the others go to a *fallback*, another model or a person. Everything is computed on
test questions, among the models observed on each (:mod:`embedllm.protocol.routers`), with intervals over questions. The
fallback is chosen on training questions and its threshold on validation questions.

References
----------
*On the Foundations of Noise-free Selective Classification*, JMLR 11 (2010): risk and coverage. EmbedLLM (arXiv
2410.02223) answers every question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import clone

from embedllm.matrix import CORRECT, Split
from embedllm.predictors.familiarity import Familiarity
from embedllm.protocol.bootstrap import MIN_QUESTIONS, bootstrap_ratios, interval, resample_units
from embedllm.protocol.leave_out import fits_without
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.routers import BestSingleModel, PredictedBest, routers_of
from embedllm.protocol.runs import Run
from embedllm.protocol.tally import units_of

SINGLE, ORACLE = "best single model", "oracle order"

KEPT = np.arange(1, 101) / 100
"""Shares of the questions that are kept."""

_N_FIFTHS = 5
_PARTS = ["runs", "samples"]
_UNDEFINED = pd.Series(np.nan, pd.MultiIndex.from_product([_PARTS, [0]]))
_SHARES = {"all": 100, "most": 80, "half": 50}  # percent of the questions


def choose(run: Run, router: str) -> pd.DataFrame:
    """Return the choices of each router on the test questions of a run that have an observed answer.

    Parameters
    ----------
    run : Run
        Each predictor is a router.
    router : str
        The predictor whose probabilities are the confidence in the best single model, and whose choices are those of
        the `oracle order`.

    Returns
    -------
    DataFrame
        A row for each router and question. Columns: `data`, `seed`, `question`, `unit` (see `units_of`); `similarity`
        to the nearest training question, and whether it is `unfamiliar`; `method` (the predictors, `best single model`,
        and `oracle order`: the choices of the router, those that are correct first); `probability` predicted for the
        model that is chosen; `correct` (0 or 1); `excess`: `probability` minus `correct`; `pool`: the same, mean over
        the observed models; `instead`: `correct` of the best single model minus that of the choice.
    """
    train, test = run.split.train, run.split.test
    asked = np.flatnonzero(test.observed.any(axis=0))
    correct, familiarity = (test.labels == CORRECT).astype(float), Familiarity.learn(train.embeddings)
    similarity = familiarity.similarity(test.embeddings[asked])
    facts = {"data": test.source, "seed": run.seed, "question": test.question_ids[asked], "unit": units_of(test)[asked]}
    facts |= {"similarity": similarity, "unfamiliar": similarity < familiarity.limit}
    policies = {SINGLE: BestSingleModel()} | {name: PredictedBest(name) for name in run.predictors}
    frames = {}
    for name, policy in routers_of(run, policies).items():
        chosen = policy.shares(test).argmax(axis=0)[asked], asked
        p = run.probabilities[router if name == SINGLE else name].astype(float)
        pool = np.mean(p - correct, axis=0, where=test.observed | ~test.observed.any(axis=0))[asked]
        choices = {"method": name, "probability": p[chosen], "correct": correct[chosen], "pool": pool}
        frames[name] = pd.DataFrame(facts | choices)
    frames[ORACLE] = frames[router].assign(method=ORACLE, probability=frames[router]["correct"])
    single, rows = frames[SINGLE]["correct"].to_numpy(), pd.concat(frames.values(), ignore_index=True)
    instead = np.tile(single, len(frames)) - rows["correct"]
    return rows.assign(excess=rows["probability"] - rows["correct"], instead=instead)


def choose_without(run: Run, mf: str) -> pd.DataFrame:
    """Return the choices of a matrix factorization on test questions whose benchmark it was not fitted on.

    Parameters
    ----------
    run : Run
    mf : str
        Name of a `MatrixFactorization` of the run; its clones keep the alpha that it chose.

    Returns
    -------
    DataFrame
        As in `choose`, for fits without one benchmark at a time; empty if there is only one.
    """
    fitted, test = run.predictors[mf], run.split.test
    alike = clone(fitted).set_params(alpha=fitted.alpha_)  # type: ignore[attr-defined]
    frames = []
    for (benchmark,), other in fits_without(run.split, alike, [(each,) for each in test.benchmark_names], run.seed):
        if other is not None:
            train = run.split.train.subset(questions=run.split.train.benchmarks != benchmark)
            split = Split(train, run.split.val, test.subset(questions=test.benchmarks == benchmark))
            frames.append(choose(Run(run.seed, split, {mf: other}, {mf: other.predict_matrix(split.test)}), mf))
    rows = pd.concat(frames or [choose(run, mf).head(0)], ignore_index=True)
    return rows[rows["method"] == mf]


def best_threshold(probability: np.ndarray, instead: np.ndarray) -> float:
    """Return the threshold below which a fallback gains most, 0 where it gains nothing.

    Parameters
    ----------
    probability, instead : ndarray of shape (n_questions,)
        Confidence, and what the fallback gains on each question.

    Returns
    -------
    float
        The best of 0, the probabilities and 1, the lowest of several; NaN without a question.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.selective_routing import best_threshold
    >>> best_threshold(np.array([0.9, 0.4, 0.6]), np.array([-1.0, 1.0, 0.0]))
    0.6
    """
    if not len(probability):
        return float("nan")
    thresholds = np.unique([0, *probability, 1])
    return float(thresholds[np.argmax([instead[probability < each].sum() for each in thresholds])])


def mean_kept(probability: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the mean of values over the most confident questions, for each share of `KEPT`, in each resample.

    Parameters
    ----------
    probability, values : ndarray of shape (n_questions,)
        Of questions with equal probabilities, each is kept in the same part.
    times : ndarray of shape (n_resamples, n_questions)
        How often each question counts in each resample.

    Returns
    -------
    ndarray of shape (n_resamples, 100)

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.studies.selective_routing import mean_kept
    >>> curve = mean_kept(np.array([0.2, 0.9, 0.9, 0.8]), np.array([0.0, 1.0, 0.0, 1.0]), np.ones((1, 4)))
    >>> curve[0, [24, 49, 74, 99]].round(3).tolist()
    [0.5, 0.5, 0.667, 0.5]
    """
    if not len(probability):
        return np.full((len(times), len(KEPT)), np.nan)
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.diff(probability[order]) != 0, True)  # of equals
    kept, sums = (
        np.pad(each.cumsum(axis=1)[:, last], ((0, 0), (1, 0)))
        for each in (times[:, order], times[:, order] * values[order])
    )
    with np.errstate(invalid="ignore"):  # a resample may have none of the questions
        return np.array([np.interp(KEPT * n[-1], n, sum_) / (KEPT * n[-1]) for n, sum_ in zip(kept, sums, strict=True)])


def person_share(accuracy: np.ndarray) -> np.ndarray:
    """Return the share of questions that a person who is always correct must answer, to halve the incorrect answers.

    Parameters
    ----------
    accuracy : ndarray of shape (..., 100)
        Of the questions that are kept, for each share of `KEPT`.

    Returns
    -------
    ndarray of shape (...)
        The smallest such share, in steps of 0.01; NaN where an accuracy is NaN. In random order it is 0.5.
    """
    incorrect = KEPT * (1 - accuracy)  # of all questions
    return 1 - np.where(incorrect > incorrect[..., -1:] / 2 + 1e-9, 0, KEPT + 0 * incorrect).max(axis=-1)


class Selection:
    """Routers that keep the questions in which they are confident, with 95 % intervals over questions.

    Parameters
    ----------
    runs : sequence of Run
        Each predictor is a router.
    router, mf : str
        Names of the predictors for which values are reported; `mf` is a `MatrixFactorization`.

    Attributes
    ----------
    rows : DataFrame
        From `choose`, over the runs, with `sent` (whether a fallback, the best single model, gets the question; the
        threshold is chosen on the validation questions, NaN if there are none) and `gain` (what this adds to
        `correct`).
    """

    def __init__(self, runs: Sequence[Run], router: str, mf: str) -> None:
        self.router, self.mf, self.data = router, mf, runs[0].split.test.source
        self.rows = pd.concat([_with_fallback(run, router) for run in runs], ignore_index=True)
        self._without = choose_without(runs[0], mf)
        self._n_questions = len(self.rows) / self.rows["method"].nunique() / len(runs) if len(self.rows) else 0
        codes, units = pd.factorize(self.rows["unit"])
        enough = len(units) >= MIN_QUESTIONS
        blocks = [
            np.ones((1, len(units))),
            *(resample_units(len(units)) if enough else [np.full((1, len(units)), np.nan)]),
        ]

        def curves(name: str, column: str) -> np.ndarray:
            of = [self.rows[(self.rows["method"] == name) & (self.rows["seed"] == run.seed)] for run in runs]
            each = [(*rows[["probability", column]].to_numpy(float).T, codes[rows.index]) for rows in of]
            means = [[mean_kept(p, values, times[:, drawn]) for times in blocks] for p, values, drawn in each]
            return np.stack([np.vstack(blocks) for blocks in means], axis=1)

        self._predictors = list(runs[0].predictors)
        # (1 + n_resamples, n_runs, 100): all questions first, then resamples of them.
        self._accuracy = {name: curves(name, "correct") for name in (*self._predictors, SINGLE, ORACLE)}
        instead = {name: curves(name, "instead") for name in self._predictors}
        # What the fallback gains on all questions, less what it would gain on those that are kept.
        self._gain = {name: each[..., -1:] - KEPT * each for name, each in instead.items()}

    def curves(self) -> pd.DataFrame:
        """Return what each method obtains for each share of the questions that is kept.

        Returns
        -------
        DataFrame
            Columns `data`, `n_questions` (of a run), `method`, `kept` (%), `accuracy` (%, of the questions kept) and
            `gain` (points, on all questions, if the best single model gets the others; NaN for other methods than the
            predictors), each with `_low` and `_high`; no interval from fewer than 30 questions kept.
        """
        frames = []
        for name, accuracy in self._accuracy.items():
            columns = {"data": self.data, "n_questions": round(self._n_questions), "method": name, "kept": 100 * KEPT}
            for key, values in (("accuracy", accuracy), ("gain", self._gain.get(name, np.nan * accuracy))):
                means = (100 * values.mean(axis=1)).round(9)  # (1 + n_resamples, 100)
                ends = np.array([interval(samples) for samples in means[1:].T])
                ends[self._n_questions * KEPT < MIN_QUESTIONS] = np.nan
                columns |= {key: means[0], f"{key}_low": ends[:, 0], f"{key}_high": ends[:, 1]}
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def fifths(self, column: str) -> pd.DataFrame:
        """Return accuracy and calibration of the choices of the predictors, in fifths of the questions.

        Parameters
        ----------
        column : "probability" or "similarity"
            By what the questions of a run are divided; those with equal values stay together.

        Returns
        -------
        DataFrame
            Columns `data`, `method`, `fifth` (1 to 5, the lowest first), `at` (mean of the column), `n_questions` (of
            different text, over the runs), and `excess` (predicted minus observed, points) and `accuracy` (%), each
            with `_low` and `_high`.
        """
        rows, by = self._divided(column), ["method", "fifth"]
        table = rows.groupby(by).agg(at=(column, "mean"), n_questions=("unit", "nunique"))
        for key, value in (("excess", "excess"), ("accuracy", "correct")):
            means = 100 * _means(rows, value, by)
            table[key] = means.loc["runs"].mean()
            ends = [interval(means.loc["samples", group]) for group in table.index]
            table[[f"{key}_low", f"{key}_high"]] = np.reshape(ends, (-1, 2))
        table = table.reindex(self._predictors, level="method").reset_index()
        table.insert(0, "data", self.data)
        return table

    def summary(self) -> pd.DataFrame:
        """Compare the methods in a few numbers, each with the ends of its interval, `_low` and `_high`.

        Returns
        -------
        DataFrame
            Columns `data`, `method`; `all`, `most`, `half`: accuracy on all questions, and on the most confident 80 %
            and 50 % (%); `order`: mean accuracy over all shares kept, minus that in random order (points); `person`:
            share of the questions that a person who is always correct must answer to halve the incorrect answers (%; 50
            in random order); `sent`: share that goes to the best single model as fallback (%), and `gain`: what this
            adds to the accuracy (points); `excess`: predicted minus observed accuracy, and `pool`: the same over all
            models on the same questions (points).
        """
        rows = []
        for name in self._accuracy:
            row: dict[str, object] = {"data": self.data, "method": name}
            for key, value in self._numbers(name).items():
                row[key], (row[f"{key}_low"], row[f"{key}_high"]) = value["runs"].mean(), interval(value["samples"])
            rows.append(row)
        return pd.DataFrame(rows)

    def values(self) -> list[ReportedValue]:
        """Return the values that the page reports."""
        router, mf, best = self.router, self.mf, f"{SINGLE} (its own confidence)"
        stack, plain, single = (self._numbers(name) for name in (router, mf, SINGLE))
        unlike, held = self._divided("similarity"), self._held_out()
        fifths, out = (
            {key: 100 * _means(rows, value, by) for key, value in (("accuracy", "correct"), ("excess", "excess"))}
            for rows, by in ((unlike, ["method", "fifth"]), (held, ["method"]))
        )
        marked = 100 * _means(held, "unfamiliar", ["method"])
        said, far = "Predicted minus observed", "least minus most familiar fifth of the questions"
        wanted = [
            ("all", f"Accuracy of {router}", stack["all"], "%"),
            ("most", f"Accuracy of {router}, 80 % of most confidence", stack["most"], "%"),
            ("half", f"Accuracy of {router}, 50 % of most confidence", stack["half"], "%"),
            ("half_minus_single", f"The latter minus that of {best}", stack["half"] - single["half"], "points"),
            ("order", f"Order of confidence minus random order: {router}", stack["order"], "points"),
            ("order_mf", f"Order of confidence minus random order: {mf}", plain["order"], "points"),
            ("order_oracle", "The same, if correct ones came first", self._numbers(ORACLE)["order"], "points"),
            ("person", f"Questions for a person who halves the incorrect answers: {router}", stack["person"], "%"),
            ("sent", f"Questions for the fallback: {router}", stack["sent"], "%"),
            ("gain", f"What the fallback gains: {router}", stack["gain"], "points"),
            ("gain_mf", f"What the fallback gains: {mf}", plain["gain"], "points"),
            ("excess", f"{said}: choices of {router}", stack["excess"], "points"),
            ("excess_mf", f"{said}: choices of {mf}", plain["excess"], "points"),
            ("excess_pool", f"{said}: all models, {router}", stack["pool"], "points"),
            ("curse", f"{said}: choices minus all models, {router}", stack["excess"] - stack["pool"], "points"),
            ("curse_mf", f"{said}: choices minus all models, {mf}", plain["excess"] - plain["pool"], "points"),
            ("far_accuracy", f"Accuracy of {router}, {far}", _less(fifths["accuracy"], router), "points"),
            ("far_excess", f"{said}: {router}, {far}", _less(fifths["excess"], router), "points"),
        ]
        wanted += [
            ("heldout_marked", "Questions of held-out benchmarks marked unfamiliar", _get(marked, "held out"), "%"),
            ("heldout_known_marked", "The same, benchmark in training", _get(marked, "known"), "%"),
            (
                "heldout_accuracy",
                f"Accuracy of {mf} on held-out benchmarks, minus that with all benchmarks",
                _get(out["accuracy"], "held out") - _get(out["accuracy"], "known"),
                "points",
            ),
            ("heldout_excess", f"{said}: {mf} on held-out benchmarks", _get(out["excess"], "held out"), "points"),
            ("heldout_known_excess", "The same, benchmark in training", _get(out["excess"], "known"), "points"),
            (
                "heldout_more_excess",
                f"{said}: {mf}, benchmark held out minus in training",
                _get(out["excess"], "held out") - _get(out["excess"], "known"),
                "points",
            ),
        ]
        found = [
            ReportedValue("selective_questions", "Test questions of a run", [round(self._n_questions)], count=True)
        ]
        for key, what, numbers, unit in wanted:
            ends, reason = interval(numbers["samples"]), "too few test or validation questions, or one benchmark"
            found.append(ReportedValue(f"selective_{key}", what, list(numbers["runs"]), unit, ends, reason=reason))
        return found

    def _numbers(self, name: str) -> dict[str, pd.Series]:
        """The numbers of `summary`, each for the `runs` and resampled, over all runs (`samples`)."""
        accuracy = self._accuracy[name]
        curves = {key: accuracy[..., share - 1] for key, share in _SHARES.items()}
        curves |= {"order": accuracy.mean(axis=-1) - accuracy[..., -1], "person": person_share(accuracy)}
        runs_and_samples = {key: (each[0], each[1:].mean(axis=1)) for key, each in curves.items()}
        numbers = {key: 100 * pd.concat([*map(pd.Series, both)], keys=_PARTS) for key, both in runs_and_samples.items()}
        for key, share in _SHARES.items():
            if share / 100 * self._n_questions < MIN_QUESTIONS:
                numbers[key]["samples"] = np.nan
        rows = self.rows[self.rows["method"] == name]
        return numbers | {
            key: 100 * _get(_means(rows, key, ["method"]), name) for key in ("sent", "gain", "excess", "pool")
        }

    def _divided(self, column: str) -> pd.DataFrame:
        rows = self.rows[self.rows["method"].isin(self._predictors)]
        of = rows.groupby(["seed", "method"])[column]
        return rows.assign(fifth=np.ceil(of.rank() * _N_FIFTHS / of.transform("size")).astype(int))

    def _held_out(self) -> pd.DataFrame:
        """The choices of `mf` in the first run, fitted without the benchmark of a question and with it."""
        first = self.rows[(self.rows["method"] == self.mf) & (self.rows["seed"] == self.rows["seed"].min())]
        known = first[first["question"].isin(self._without["question"])]
        return pd.concat([self._without.assign(method="held out"), known.assign(method="known")])


def _with_fallback(run: Run, router: str) -> pd.DataFrame:
    val = run.split._replace(test=run.split.val)
    predicted = {name: each.predict_matrix(val.test) for name, each in run.predictors.items()}
    held, rows = choose(run._replace(split=val, probabilities=predicted), router), choose(run, router)
    thresholds = {
        name: best_threshold(*each[["probability", "instead"]].to_numpy().T) for name, each in held.groupby("method")
    }
    limit = rows["method"].map(thresholds).astype(float)
    sent = (rows["probability"] < limit).astype(float).where(limit.notna())
    return rows.assign(sent=sent, gain=sent * rows["instead"])


def _means(rows: pd.DataFrame, value: str, by: list[str]) -> pd.DataFrame:
    """Mean of a column in each group of rows: of the `runs`, and over resampled questions (`samples`)."""
    rows = rows.dropna(subset=value)
    if rows.empty:
        return pd.DataFrame(index=_UNDEFINED.index)
    weight = 1 / rows.groupby(["seed", "method"])["question"].transform("nunique")  # each run counts the same
    weighted = pd.DataFrame(
        {"sum": weight * rows[value], "count": weight, "unit": rows["unit"]} | rows[by].to_dict("series")
    )
    tables = weighted.pivot_table(["sum", "count"], "unit", by, aggfunc="sum", fill_value=0)
    runs = rows.groupby(["seed", *by])[value].mean().unstack(by)
    return pd.concat([runs, bootstrap_ratios(tables["sum"], tables["count"])], keys=_PARTS)


def _get(means: pd.DataFrame, group: object) -> pd.Series:
    """A column; undefined, if there is none."""
    return means.get(group, _UNDEFINED)


def _less(means: pd.DataFrame, method: str) -> pd.Series:
    """The lowest fifth minus the highest."""
    return _get(means, (method, 1)) - _get(means, (method, _N_FIFTHS))
