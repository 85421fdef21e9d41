"""Every claim of the paper beside what was found on each data set, with a verdict that follows by a stated rule.

- A difference that the paper says to be positive *holds* if our 95 % interval lies above 0, is *contradicted* if it
  lies below, and is *undecided* if it does not exclude 0.
- A statement about each of several cases *holds* if it does for all, is *contradicted* if for none, and otherwise
  *holds for n of m*.
- A published value *agrees* if it lies in our 95 % interval or is equal to ours, and otherwise *differs*; on other data
  than the paper's there is no verdict.
- What a data set cannot show is *not testable*; what was not executed is *not run*.
- On simulated answers, what holds is *in the ground truth*, what is contradicted *not in the ground truth*, and the
  rest *cannot be tested here*.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from embedllm.protocol.published import load_published, published_values
from embedllm.protocol.recorded import Results
from embedllm.protocol.reported_values import ReportedValue, format_number

if TYPE_CHECKING:
    from IPython.display import HTML

Rule = Literal["value", "positive", "each"]

_SIMULATED = {
    "holds": "in the ground truth",
    "contradicted": "not in the ground truth",
    "not run": "not run",
}
"""What the verdicts are called on simulated answers, which are not evidence about the paper."""

_ROUNDING = 1e-9  # equal methods leave an interval that ends this close to 0


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and where this companion tests it.

    Parameters
    ----------
    text : str
        The claim, in words.
    place : str
        Its figure, table or section in the paper.
    page : str
        Notebook whose reported values answer it.
    figure : str
        The figure of that page that shows it: the end of the name of its files.
    reported : str
        Key of the reported value.
    rule : "value", "positive" or "each"
        How the verdict follows, as the module says.
    published : str
        Key of the published value, where there is one.
    of : str
        Key of the reported value that counts all cases; "each" needs it.
    """

    text: str
    place: str
    page: str
    figure: str
    reported: str
    rule: Rule
    published: str = ""
    of: str = ""


_BY_PAGE: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    ("Table 1", "forecasting"): [
        ("Forecasting accuracy of MF", "training-sizes", "table_1_mf", "value", "mf_accuracy"),
        ("Forecasting accuracy of KNN", "training-sizes", "table_1_knn", "value", "knn_accuracy"),
        ("MF forecasts better than KNN", "training-sizes", "table_1_mf_minus_knn", "positive"),
    ],
    ("Figure 4", "routing"): [
        ("The MF router beats the best single model", "router-gains", "route_gain", "positive"),
        (
            "The MF router beats the random router with MF's frequencies",
            "paper-routers",
            "route_mf_minus_weighted",
            "positive",
        ),
    ],
    ("Figure 5", "benchmark_prediction"): [
        (
            *(f"Held-out benchmarks with a significant Kendall tau: {vectors}", "heldout", key, "value"),
            *("significant_benchmarks", "heldout_benchmarks"),
        )
        for vectors, key in (("SGD, recorded", "significant_sgd"), ("exact", "significant_exact"))
    ],
    ("Figure 6", "communities"): [
        (
            *("Models of one size or specialization are closer than others", "raw-distances"),
            *("sgd_paper_closer", "each", "community_distances", "paper_communities"),
        )
    ],
    ("Figure 7", "contributions"): [
        *(
            (text, "contribution-sums", key, "positive", f"contributions_{published}")
            for text, key, published in (
                ("MMLU gives most to the other benchmarks", "mmlu_lead", "largest"),
                ("The other benchmarks together hurt GPQA", "gpqa_hurt", "hurt"),
            )
        ),
        *(
            (f"{giver} helps {taker}", "contributions", key, "positive", key)
            for giver, taker in (("GSM8K", "MathQA"), ("MathQA", "ASDiv"), ("ASDiv", "MathQA"))
            for key in (f"contribution_{giver}_{taker}".lower(),)
        ),
    ],
    ("Section 5.2", "cost"): [
        ("Training, 20,000 questions x 112 models", "training-flops", "paper_needed", "value", "training_tflops"),
    ],
}

CLAIMS = tuple(Claim(text, place, page, *rest) for (place, page), rows in _BY_PAGE.items() for text, *rest in rows)


def claims_table(results: Sequence[Results]) -> pd.DataFrame:
    """Compare every claim with the results of each data set.

    Parameters
    ----------
    results : sequence of Results
        From `embedllm.protocol.recorded.all_results`.

    Returns
    -------
    DataFrame
        A row for each claim and data set. Columns, all text: `claim`, `in the paper`, `published`, `data`, `value`,
        `interval` (95 %), `verdict`, `page`, `figure` (the name of its files).
    """
    published = load_published()
    texts = published_values(published)
    rows = []
    for claim in CLAIMS:
        for each in results:
            ours, total = (each.values.get(f"{claim.page}.{key}") for key in (claim.reported, claim.of))
            found = verdict(claim.rule, each.kind, ours, published["value"].get(claim.published), total)
            rows.append(
                {
                    "claim": claim.text,
                    "in the paper": claim.place,
                    "published": texts.get(claim.published, "stated without a value"),
                    "data": each.title,
                    **_shown(ours, total),
                    "verdict": found,
                    "page": claim.page,
                    "figure": f"{claim.page}-{claim.figure}",
                }
            )
    return pd.DataFrame(rows)


def verdict(
    rule: Rule,
    kind: str,
    ours: ReportedValue | None,
    published: object = None,
    total: ReportedValue | None = None,
) -> str:
    """Return the verdict on a claim, by the rules of this module.

    Parameters
    ----------
    rule : "value", "positive" or "each"
    kind : "paper", "real" or "simulated"
        Whose answers they are.
    ours : ReportedValue, optional
    published : number, optional
        For "value".
    total : ReportedValue, optional
        For "each".
    """
    found = _verdict(rule, kind, ours, published, total)
    if kind != "simulated":
        return found
    return _SIMULATED.get(
        found, found.replace("holds for", "in the ground truth for") if "for" in found else "cannot be tested here"
    )


def _verdict(rule: Rule, kind: str, ours: ReportedValue | None, published: object, total: ReportedValue | None) -> str:
    if ours is None:
        return "not run"
    if math.isnan(ours.value):
        return "not testable"
    if rule == "value" and kind == "paper" and isinstance(published, (int, float)):
        low, high = ours.interval or (ours.value, ours.value)
        return "agrees" if low <= published <= high or math.isclose(published, ours.value) else "differs"
    if rule == "positive" and ours.interval:
        low, high = ours.interval
        return "holds" if low > _ROUNDING else "contradicted" if high < -_ROUNDING else "undecided"
    if rule == "each" and total:
        found, cases = round(ours.value, 2), round(total.value, 2)
        partly = f"holds for {found:g} of {cases:g}"
        return "not testable" if not cases else "holds" if found == cases else partly if found else "contradicted"
    return "no verdict"


def _shown(ours: ReportedValue | None, total: ReportedValue | None) -> dict[str, str]:
    """Our value and its interval as text, or why there is no value."""
    if ours is None or math.isnan(ours.value):
        return {"value": ours.reason if ours else "", "interval": ""}
    return {"value": ours.shown + (f" of {format_number(total.value)}" if total else ""), "interval": ours.ends}


def verdicts_in_words(table: pd.DataFrame) -> list[str]:
    """Say of each data set which claims hold, are contradicted or undecided, and count the other verdicts.

    Examples
    --------
    >>> claims = {"claim": ["MF beats KNN", "six communities", "tau"], "data": "a pool"}
    >>> verdicts_in_words(pd.DataFrame(claims | {"verdict": ["holds", "not testable", "not testable"]}))
    ['a pool: holds: MF beats KNN; not testable: 2 claims']
    """
    lines = []
    for data, rows in table.groupby("data", sort=False):
        claims = rows.groupby("verdict", sort=False)["claim"].agg(list)
        named = {verdict: ", ".join(claims[verdict]) for verdict in claims.index if verdict.startswith(_NAMED)}
        counts = {verdict: _claims(len(claims[verdict])) for verdict in claims.index if verdict not in named}
        lines.append(f"{data}: " + "; ".join(f"{verdict}: {what}" for verdict, what in {**named, **counts}.items()))
    return lines


_NAMED = ("holds", "contradicted", "undecided")


def _claims(n: int) -> str:
    return "1 claim" if n == 1 else f"{n} claims"


def claims_html(table: pd.DataFrame) -> HTML:
    """Show a table of claims: a row for each, a column for each data set, each claim with a link to its figure."""
    rows = []
    for _, rows_of in table.groupby("claim", sort=False):
        first = rows_of.iloc[0]
        claim = f'<a href="{first["page"]}.html#{first["figure"]}">{html.escape(first["claim"])}</a>'
        cells = [f"{claim} <small>({first['in the paper']})</small>", html.escape(first["published"])]
        for row in rows_of.to_dict("records"):
            interval = f"<br><small>{row['interval']}</small>" if row["interval"] else ""
            cells.append(f"{html.escape(row['value'])}{interval}<br><em>{row['verdict']}</em>")
        rows.append(cells)
    return _stacked(["claim", "published", *pd.unique(table["data"])], rows)


def _stacked(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> HTML:
    """Show cells of HTML as a table whose cells stand one below the other on a narrow screen."""
    from IPython.display import HTML

    escaped = [html.escape(head) for head in heads]
    cell = '<td data-head="{}">{}</td>'.format
    body = "".join(f"<tr>{''.join(map(cell, escaped, cells))}</tr>" for cells in rows)
    titles = "".join(f"<th>{head}</th>" for head in escaped)
    return HTML(f'<table class="stacked"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>')


_STATUS = (
    ("Figures 1 to 3", "schematics of the method", "paper", "", "redrawn as one figure"),
    ("Table 1", "forecasting accuracy by number of training questions", "forecasting", "table_1_mf_minus_knn", ""),
    ("Table 2", "the 112 models", "published_numbers", "", "listed, from published names"),
    ("Figure 4", "routing accuracy", "routing", "route_gain", ""),
    ("Section 5.2", "seconds to route 3,000 questions", "cost", "mf_route", ""),
    ("Section 5.2", "memory of training, comparison with a language model as router", "paper", "", "published only"),
    ("Figure 5", "accuracy on a held-out benchmark", "benchmark_prediction", "significant_exact", ""),
    ("Section 5.3", "tokens saved by not running MMLU", "paper", "", "published only"),
    ("Figure 6", "distances within and between communities", "communities", "sgd_paper_closer", ""),
    ("Figure 7", "contributions of benchmarks", "contributions", "mmlu_lead", ""),
)


def status_table(results: Sequence[Results]) -> pd.DataFrame:
    """Say for every figure and table of the paper whether it is regenerated, and on which data.

    Parameters
    ----------
    results : sequence of Results

    Returns
    -------
    DataFrame indexed by `in the paper`
        Columns `what`, `here`, `on the paper's data` and `page`.
    """
    rows = []
    for place, what, page, key, otherwise in _STATUS:
        value = {each.title: each.values.get(f"{page}.{key}") for each in results}
        shown = [title for title, found in value.items() if found is not None and not math.isnan(found.value)]
        papers = any(each.kind == "paper" and each.title in shown for each in results)
        here = (
            f"on {', '.join(each.partition(',')[0] for each in shown)}"
            if shown
            else otherwise or "cannot be tested on these data"
        )
        rows.append((place, what, here, "yes" if papers else "not attempted" if not otherwise else "", page))
    columns = ["in the paper", "what", "here", "on the paper's data", "page"]
    return pd.DataFrame(rows, columns=columns).set_index("in the paper")


def status_html(table: pd.DataFrame, folder: str = "") -> HTML:
    """Show a status table, each row with a link to its page, which lies in a folder."""
    rows = []
    for place, what, *cells, page in table.itertuples():
        path = f"../{page}" if page == "paper" else page  # what is on no notebook's page
        link = f'<a href="{folder}{path}.html">{html.escape(what)}</a>'
        rows.append([html.escape(place), link, *map(html.escape, cells)])
    return _stacked([str(table.index.name), *table.columns.drop("page")], rows)
