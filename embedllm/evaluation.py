"""Is routing worth it on a pool? A router beside the simplest methods, on held-out questions, as words or a page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from importlib.metadata import version
from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from embedllm._support.checks import check_positive
from embedllm.matrix import CorrectnessMatrix
from embedllm.plots.baselines import plot_baselines
from embedllm.plots.forecasting import plot_reliability
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.stacked import StackedCorrectness, standard_parts
from embedllm.protocol.bootstrap import interval
from embedllm.protocol.calibration import pool_runs, reliability
from embedllm.protocol.recorded import answers_sha256
from embedllm.protocol.routers import BestModelPerBenchmark, BestSingleModel, PredictedBest, RoutingPolicy
from embedllm.protocol.runs import split_runs
from embedllm.studies.baselines import Comparison, OnShare, baseline_table, findings, timed_runs
from embedllm.studies.forecasting import tally_runs
from embedllm.studies.routing import route_runs, tally_routes

ROUTER, BASELINE, SINGLE = "router", "benchmark mean", "best single model"
SHARES = {"a quarter of the questions": 0.25, "half of the questions": 0.5}
"""Shares of the training questions that the page fits the router to, too."""

_ROUNDED = {"log_loss": 4, "accuracy": 2, "auc": 3, "routing": 2, "gain": 2, "gain_low": 2, "gain_high": 2}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Is routing worth it on {source}?</title>
<style>
body {{ color: #1a1a1a; background: #fff; font: 16px/1.5 sans-serif }}
body {{ margin: 2rem auto; max-width: 50rem; padding: 0 1rem }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem }}
th, td {{ border-bottom: 1px solid #ccc; padding: 0.2rem 0.6rem; text-align: right }}
th:first-child {{ text-align: left }}
img {{ height: auto; max-width: 100% }}
</style>
</head>
<body>
<h1>Is routing worth it on {source}?</h1>
<p><strong>{verdict}</strong></p>
<ul>{findings}</ul>
<p>{pool}. {division}. The router weighs matrix factorization, KNN and the accuracy on each benchmark, and is not told
the benchmark of a question. Intervals are 95 %, over questions.</p>
<h2>Beside the simplest methods</h2>
<div>{table}</div>
<p>Log loss in nats; accuracy and routing in %; gain over the best single model in points.</p>
{gains}
<h2>Can its probabilities be trusted?</h2>
<p>Expected calibration error of the router: {error:.1f} points.</p>
{calibration}
<h2>Would more questions help?</h2>
<div>{sizes}</div>
<p>{growth}</p>
<p><small>embedllm {version}; seed {seed}; SHA-256 of the answers {sha256}</small></p>
</body>
</html>
"""


def compare(
    matrix: CorrectnessMatrix,
    seed: int = 0,
    n_runs: int = 3,
    sizes: bool = False,
    group_by: str | None = None,
    predictors: Mapping[str, CorrectnessPredictor] | None = None,
    routers: Mapping[str, RoutingPolicy] | None = None,
) -> Comparison:
    """Fit a router, its parts and the simplest routers, and measure them on held-out questions.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    seed : int
        Of the first division of the questions.
    n_runs : int
        How many random divisions; the source's own division, where it brings one, is a single run.
    sizes : bool
        Whether to fit the router to the `SHARES` of the training questions as well.
    group_by : str, optional
        A column of the questions, equal values of which stay in one part, as in `CorrectnessMatrix.split`.
    predictors : mapping of str to CorrectnessPredictor, optional
        Further ones, not fitted, by name; each routes, too: to the model with the highest probability.
    routers : mapping of str to RoutingPolicy, optional
        Further ones, not fitted, by name.

    Returns
    -------
    Comparison
        Of the predictors and routers on the test questions of each division.

    Raises
    ------
    ValueError
        If a name is taken, `n_runs` is not a positive whole number, there is no column `group_by`, or a division leaves
        no answer to fit to or to measure on.
    """
    n_runs = check_positive("n_runs", n_runs)
    router = StackedCorrectness(told_benchmark=False)
    standard = standard_parts(matrix.n_models) | {ROUTER: router}
    simplest = {SINGLE: BestSingleModel(), "best model per benchmark": BestModelPerBenchmark()}
    further = [*(predictors or ()), *(routers or ())]
    names = [*standard, *simplest, *SHARES, *further]
    if taken := [name for name in further if names.count(name) > 1]:
        raise ValueError(f"there is a predictor or router {taken[0]!r} already: give yours another name")
    # More runs on one division would measure the same fits again.
    n_runs = 1 if "split" in matrix.questions else n_runs
    for _, split in split_runs(matrix, seed, n_runs, group_by):
        if not (split.train.observed.any() and split.test.observed.any()):
            raise ValueError(f"nothing can be held out of {matrix!r}: evaluate it with more questions")
    measured = standard | dict(predictors or {})
    choosing = {name: PredictedBest(name) for name in measured} | simplest | dict(routers or {})
    measured |= {name: OnShare(router, share) for name, share in SHARES.items()} if sizes else {}
    runs, seconds = timed_runs(matrix, measured, seed, n_runs, group_by)
    return Comparison(runs, tally_runs(runs), tally_routes(route_runs(runs, choosing)), seconds)


def division(comparison: Comparison) -> str:
    """Say in words how the questions were divided, and how many of them the predictors were fitted to and measured on.

    Parameters
    ----------
    comparison : Comparison
        From `compare`.
    """
    splits = [run.split for run in comparison.runs]
    sizes = np.mean([[part.n_questions for part in split] for split in splits], axis=0)
    (train, _, test), (_, _, n_test) = 100 * sizes / sizes.sum(), sizes
    number = "1 random division" if len(splits) == 1 else f"{len(splits)} random divisions"
    which = "the division of the source" if "split" in splits[0].test.questions else number
    return f"Questions: {which}; fitted to {train:.0f} %, measured on {test:.0f} % (n = {n_test:,.0f})"


def method_table(comparison: Comparison) -> pd.DataFrame:
    """Return the scores of each method, rounded.

    Parameters
    ----------
    comparison : Comparison
        From `compare`.

    Returns
    -------
    DataFrame indexed by `method`
        Columns `log_loss` (nats), `accuracy` (%), `auc`, `routing` (%), and `gain` over the best single model (points)
        with the ends of its 95 % interval, `gain_low` and `gain_high`; NaN where a method has no such score.
    """
    table = baseline_table(comparison, BASELINE, SINGLE).set_index("method")
    return table.drop(index=list(SHARES), errors="ignore")[list(_ROUNDED)].round(_ROUNDED)


def verdict(comparison: Comparison) -> str:
    """Say whether routing is worth it, by the 95 % intervals of its gains over the simplest routers.

    Parameters
    ----------
    comparison : Comparison
        From `compare`.
    """
    resampled = 100 * comparison.routes.resampled()
    lows, highs = zip(
        *(interval(resampled[ROUTER] - resampled[rival]) for rival in (SINGLE, "best model per benchmark")), strict=True
    )
    if lows[0] > 0 and highs[1] < 0:
        return (
            "A router is better than one model for all questions, but choosing a model per benchmark is better still."
        )
    if lows[0] > 0:
        return "Yes: the router answers more questions correctly than the best single model."
    if highs[0] < 0:
        return "No: the best single model answers more questions correctly than the router."
    return (
        "Not shown: these questions do not tell whether the router or the best single model is better. With more "
        "questions, the intervals are narrower."
    )


def report_html(matrix: CorrectnessMatrix, comparison: Comparison, seed: int = 0) -> str:
    """Write what `compare` found with `sizes` as one HTML page that needs no other file.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    comparison : Comparison
        Of this matrix.
    seed : int
        That the comparison was made with.
    """
    bins = pool_runs(reliability(comparison.runs))
    forecasts = comparison.forecasts
    losses = forecasts.by_seed()["log_loss"].mean()
    fewer, resampled = list(SHARES)[-1], forecasts.resampled(metric="log_loss")
    low, high = interval(resampled[fewer] - resampled[ROUTER])
    n_train = comparison.runs[0].split.train.n_questions
    sizes = pd.DataFrame(
        [(round(share * n_train), losses[name]) for name, share in {**SHARES, ROUTER: 1}.items()],
        columns=["training questions", "log loss of the router"],
    )
    shown = baseline_table(comparison, BASELINE, SINGLE)
    shown = shown[~shown["method"].isin(SHARES)]
    parts = {
        "verdict": verdict(comparison),
        "pool": str(matrix),
        "division": division(comparison),
        "source": matrix.source,
        "version": version("embedllm"),
        "sha256": answers_sha256(matrix),
    }
    return _PAGE.format(
        **{name: html.escape(text) for name, text in parts.items()},
        findings="".join(f"<li>{html.escape(line)}</li>" for line in findings(comparison, ROUTER)),
        seed=seed,
        table=method_table(comparison)
        .rename(columns=lambda name: name.replace("_", " "))
        .rename_axis(None)
        .to_html(na_rep="", border=0),
        gains=_image(plot_baselines(shown, BASELINE, SINGLE)),
        error=shown.set_index("method").loc[ROUTER, "ece"],
        calibration=_image(plot_reliability(bins[bins["predictor"] == ROUTER])),
        sizes=sizes.round(4).to_html(index=False, border=0),
        growth=_growth(losses[fewer] - losses[ROUTER], low, high),
    )


def _growth(difference: float, low: float, high: float) -> str:
    found = f"Fitted to half of the training questions, its log loss changes by {difference:+.4f} nats"
    if low > 0:
        return f"{found} (95 % interval {low:+.4f} to {high:+.4f}): it still learns, and more questions would help."
    ends = f" (95 % interval {low:+.4f} to {high:+.4f})" if low == low else ""
    return f"{found}{ends}: it is not shown that more questions would help."


def _image(figure: Figure) -> str:
    """Return a figure as an element with its content and its description."""
    content = BytesIO()
    figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    _, about = figure._repr_mimebundle_()  # type: ignore[attr-defined]
    alt = html.escape(about["image/png"]["alt"])
    return f'<img alt="{alt}" src="data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode()}">'
