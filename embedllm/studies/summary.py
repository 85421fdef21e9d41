"""Every claim of the paper beside what a build found, with a verdict that follows from the values by a stated rule.

- A value *agrees* if the published one lies in our 95 % interval or, for a count or a setting, is equal to ours;
  otherwise it *differs*.
- A difference that the paper says to be positive *holds* if our 95 % interval lies above 0, is *contradicted* if it
  lies below, and is *undecided* if it does not exclude 0.
- A statement about each of several cases *holds* if it does for all, is *contradicted* if for none, and otherwise
  *holds for n of m*.
- What the data set cannot show is *undefined*; what was not executed is *not run*.
- On simulated answers, what holds is *in the ground truth*, what is contradicted *not in the ground truth*, and the
  rest, with every published number, *cannot be tested here*.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from embedllm.protocol.published import load_published, published_values
from embedllm.protocol.reported_values import ReportedValue, format_number, read_reported

if TYPE_CHECKING:
    from IPython.display import HTML

Rule = Literal["figure", "positive", "each", "shown"]

_SIMULATED = {
    "holds": "in the ground truth",
    "contradicted": "not in the ground truth",
    "undecided": "cannot be tested here",
    "undefined": "cannot be tested here",
    "not run": "not run",
}
"""What the verdicts are called on simulated answers, which are no evidence about the paper."""

_FOLDER = Path(__file__).parents[2] / "book" / "notebooks"
_ROUNDING = 1e-9  # equal methods leave an interval that ends this close to 0
_COLUMNS = ["claim", "published", "ours", "95 % interval", "verdict", "page", "figure"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and where this companion tests it.

    Parameters
    ----------
    text : str
        The claim, in words.
    page : str
        Notebook whose reported values answer it.
    figure : str
        The figure of that page that shows it: the end of the name of its files.
    reported : str
        Key of the reported value.
    rule : "figure", "positive", "each" or "shown"
        How the verdict follows, as the module says; "shown" has none.
    published : str
        Key of the published value, where there is one.
    of : str
        Key of the reported value that counts all cases; "each" needs it.
    """

    text: str
    page: str
    figure: str
    reported: str
    rule: Rule
    published: str = ""
    of: str = ""


_SIGNIFICANT = "Held-out benchmarks with a significant Kendall tau"
_CLOSER = ("Models of one size or specialization are closer than others", "communities")
_BY_PAGE: dict[str, list[tuple[Any, ...]]] = {
    "dataset": [
        ("Language models", "composition", "data_models", "figure", "models"),
        ("Questions", "composition", "data_questions", "figure", "questions"),
        ("Benchmarks", "composition", "data_benchmarks", "figure", "benchmarks"),
    ],
    "tuning": [
        ("k of KNN, chosen on validation questions", "sweep", "n_neighbors", "figure", "n_neighbors"),
        ("Size of a model embedding, chosen alike", "sweep-3", "dim", "figure", "dim"),
        ("Noise on the question embeddings, chosen alike", "sweep-2", "alpha", "figure", "alpha"),
    ],
    "forecasting": [
        ("Forecasting accuracy of MF", "forecasts", "mf_accuracy", "figure", "mf_accuracy"),
        ("Forecasting accuracy of KNN", "forecasts", "knn_accuracy", "figure", "knn_accuracy"),
        ("MF forecasts better than KNN", "forecasts", "mf_minus_knn", "positive"),
    ],
    "routing": [
        ("The MF router beats the best single model", "router-gains", "route_gain", "positive"),
        ("The MF router beats the weighted random router", "routers", "route_mf_minus_weighted", "positive"),
    ],
    "cost": [
        ("Time to route 3,000 questions (ours: FLOPs of one)", "routing-times", "mf_route", "shown", "routing_seconds"),
        ("Training, 20,000 questions x 112 models", "training-flops", "paper_needed", "figure", "training_tflops"),
    ],
    "benchmark_prediction": [
        (f"{_SIGNIFICANT}: {vectors}", "heldout", key, "figure", "significant_benchmarks", "heldout_benchmarks")
        for vectors, key in (("SGD, recorded", "significant_sgd"), ("exact", "significant_exact"))
    ],
    "communities": [(*_CLOSER, "sgd_paper_closer", "each", "community_distances", "paper_communities")],
    "contributions": [
        ("MMLU gives most to the other benchmarks", "contribution-sums", "mmlu_lead", "positive", "contributions"),
        ("The other benchmarks together hurt GPQA", "contribution-sums", "gpqa_hurt", "positive", "contributions"),
        *(
            (f"{giver} helps {taker}", "contributions", key, "positive", key)
            for giver, taker in (("GSM8K", "MathQA"), ("MathQA", "ASDiv"), ("ASDiv", "MathQA"))
            for key in (f"contribution_{giver}_{taker}".lower(),)
        ),
    ],
}

CLAIMS = tuple(Claim(text, page, *rest) for page, rows in _BY_PAGE.items() for text, *rest in rows)


def claims_table(folder: str | os.PathLike[str] = "", claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """Compare every claim with the values of the last build.

    Parameters
    ----------
    folder : path
        Where the reported values of the executed notebooks are; empty for the book of this checkout.
    claims : sequence of Claim

    Returns
    -------
    DataFrame
        Columns `claim`, `published`, `ours`, `95 % interval`, `verdict`, `page`, `figure` (the name of its files)
        and `data`, all text.

    Raises
    ------
    ValueError
        If the values are of different data sets, or a file is damaged.
    """
    folder = Path(folder) if folder else _FOLDER
    published = load_published()
    texts = published_values(published)
    paths = {claim.page: folder / f"{claim.page}.reported.json" for claim in claims}
    pages = {page: read_reported(path) for page, path in paths.items() if path.exists()}
    if len(sources := {source for source, _ in pages.values()}) > 1:
        raise ValueError(f"{folder} holds values of different data sets, {sorted(sources)}: build the book again")
    rows = []
    for claim in claims:
        _, reported = pages.get(claim.page, ("", {}))
        ours, total = reported.get(claim.reported), reported.get(claim.of)
        found = verdict(claim.rule, ours, published["value"].get(claim.published), total)
        if any("simulated" in source for source in sources):
            found = _on_simulated(claim.rule, found)
        stated, figure = texts.get(claim.published, "stated without a value"), f"{claim.page}-{claim.figure}"
        rows.append((claim.text, stated, *_shown(ours, total), found, claim.page, figure))
    return pd.DataFrame(rows, columns=_COLUMNS).assign(data=", ".join(sources))


def verdict(
    rule: Rule, ours: ReportedValue | None, published: object = None, total: ReportedValue | None = None
) -> str:
    """Return the verdict on a claim, by the rules of this module.

    Parameters
    ----------
    rule : "figure", "positive", "each" or "shown"
    ours : ReportedValue, optional
    published : number, optional
        For "figure".
    total : ReportedValue, optional
        For "each".
    """
    if ours is None:
        return "not run"
    if math.isnan(ours.value):
        return "undefined"
    if rule == "figure" and isinstance(published, (int, float)):
        low, high = ours.interval or (ours.value, ours.value)
        return "agrees" if low <= published <= high or math.isclose(published, ours.value) else "differs"
    if rule == "positive" and ours.interval:
        low, high = ours.interval
        return "holds" if low > _ROUNDING else "contradicted" if high < -_ROUNDING else "undecided"
    if rule == "each" and total:
        found, cases = round(ours.value, 2), round(total.value, 2)
        partly = f"holds for {found:g} of {cases:g}"
        return "undefined" if not cases else "holds" if found == cases else partly if found else "contradicted"
    return "see the page"


def _on_simulated(rule: Rule, found: str) -> str:
    """Say what simulated answers show of a claim: a published number cannot be compared with a made-up one."""
    if rule in ("figure", "shown") and found != "not run":
        return "cannot be tested here"
    return _SIMULATED.get(found, found.replace("holds for", "in the ground truth for"))


def count_verdicts(table: pd.DataFrame) -> pd.Series:
    """Count the verdicts of a table of claims, most frequent first."""
    return table["verdict"].value_counts().rename("claims")


def claims_html(table: pd.DataFrame) -> HTML:
    """Show a table of claims, each with a link to the figure that shows it."""
    from IPython.display import HTML

    shown = table.rename(columns={"ours": f"ours: {table['data'].iat[0]}"}).drop(columns=["data", "page", "figure"])
    links = zip(table["claim"], table["page"], table["figure"], strict=True)
    linked = shown.assign(claim=[f'<a href="{page}.html#{figure}">{claim}</a>' for claim, page, figure in links])
    # Otherwise the theme gives the free width to the last column.
    wide = '<th style="min-width: 15em; text-align: left">claim</th>'
    return HTML(linked.to_html(index=False, escape=False, border=0, justify="left").replace("<th>claim</th>", wide))


def _shown(ours: ReportedValue | None, total: ReportedValue | None) -> tuple[str, str]:
    """Our value and its interval as text."""
    if ours is None:
        return "", ""
    text = format_number(ours.value)
    if not math.isnan(ours.value):
        text = f"{text} {ours.unit}".strip() + (f" of {format_number(total.value)}" if total else "")
    ends = ours.interval if ours.interval and not any(map(math.isnan, ours.interval)) else ()
    return text, " to ".join(map(format_number, ends))
