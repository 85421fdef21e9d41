"""Verdicts on the claims of the paper are computed from the results of each data set."""

import math
import re
from pathlib import Path

import pytest

from embedllm.protocol.published import load_published
from embedllm.protocol.recorded import Results
from embedllm.protocol.reported_values import ReportedValue
from embedllm.studies.summary import (
    CLAIMS,
    Claim,
    claims_html,
    claims_table,
    status_html,
    status_table,
    verdict,
    verdicts_in_words,
)

NAN = math.nan


def results(source, when="", **values):
    """Results of a data set; a key like `routing__gain` is a value of a page, given as (value, low, high)."""
    found = {}
    for key, (value, *ends) in values.items():
        name = key.replace("__", ".")
        found[name] = ReportedValue(name.partition(".")[2], "what", [value], "points", tuple(ends) or None)
    return Results(source, when, "1", {}, {}, found, {})


@pytest.mark.parametrize(
    ("rule", "ours", "published", "total", "expected"),
    [
        ("value", ReportedValue("a", "a", [112.0]), 112, None, "agrees"),
        ("value", ReportedValue("a", "a", [111.0]), 112, None, "differs"),
        ("value", ReportedValue("a", "a", [73.0], "%", (72.0, 74.1)), 74.09, None, "agrees"),
        ("value", ReportedValue("a", "a", [73.0], "%", (72.0, 74.0)), 74.09, None, "differs"),
        ("value", ReportedValue("a", "a", [73.0], "%", (72.0, 74.0)), "in words", None, "no verdict"),
        ("positive", ReportedValue("a", "a", [2.0], "points", (0.1, 4.0)), None, None, "holds"),
        ("positive", ReportedValue("a", "a", [2.0], "points", (-0.1, 4.0)), None, None, "undecided"),
        ("positive", ReportedValue("a", "a", [2.0], "points", (2e-14, 4.0)), None, None, "undecided"),
        ("positive", ReportedValue("a", "a", [-2.0], "points", (-4.0, -2e-14)), None, None, "undecided"),
        ("positive", ReportedValue("a", "a", [-2.0], "points", (-3.0, -0.1)), None, None, "contradicted"),
        ("positive", ReportedValue("a", "a", [2.0]), None, None, "no verdict"),
        ("each", ReportedValue("a", "a", [6.0]), None, ReportedValue("n", "n", [6.0]), "holds"),
        ("each", ReportedValue("a", "a", [4.0, 5.0]), None, ReportedValue("n", "n", [6.0]), "holds for 4.5 of 6"),
        ("each", ReportedValue("a", "a", [0.0]), None, ReportedValue("n", "n", [6.0]), "contradicted"),
        ("each", ReportedValue("a", "a", [0.0]), None, ReportedValue("n", "n", [0.0]), "not testable"),
        ("positive", ReportedValue("a", "a", [NAN], "", (NAN, NAN)), None, None, "not testable"),
        ("positive", None, None, None, "not run"),
    ],
)
def test_verdict_on_the_papers_data(rule, ours, published, total, expected):
    assert verdict(rule, "paper", ours, published, total) == expected


def test_a_published_value_is_not_compared_with_other_data():
    assert verdict("value", "real", ReportedValue("a", "a", [74.09]), 74.09) == "no verdict"


@pytest.mark.parametrize(
    ("rule", "ours", "total", "expected"),
    [
        ("positive", ReportedValue("a", "a", [2.0], "", (1.0, 3.0)), None, "in the ground truth"),
        ("positive", ReportedValue("a", "a", [-2.0], "", (-3.0, -1.0)), None, "not in the ground truth"),
        ("positive", ReportedValue("a", "a", [0.0], "", (-1.0, 1.0)), None, "cannot be tested here"),
        ("positive", ReportedValue("a", "a", [NAN]), None, "cannot be tested here"),
        ("value", ReportedValue("a", "a", [74.09]), None, "cannot be tested here"),
        ("each", ReportedValue("a", "a", [4]), ReportedValue("n", "n", [6]), "in the ground truth for 4 of 6"),
        ("each", None, None, "not run"),
    ],
)
def test_simulated_answers_give_no_verdict_on_the_paper(rule, ours, total, expected):
    assert verdict(rule, "simulated", ours, 74.09, total) == expected


@pytest.fixture
def two():
    built = results(
        "simulated pool", forecasting__table_1_mf=(74, 73.5, 74.6), forecasting__table_1_mf_minus_knn=(2, 1, 3)
    )
    return [built, results("MMLU-Pro", "2026-01-02", forecasting__table_1_mf_minus_knn=(-2, -3, -1))]


def test_table_has_a_row_for_each_claim_and_data_set(two):
    table = claims_table(two)
    assert len(table) == 2 * len(CLAIMS)
    rows = table.set_index(["claim", "data"])
    first = rows.loc[("Forecasting accuracy of MF", "simulated pool, this build")]
    assert first.tolist() == [
        "Table 1", "74.09 %", "+74.0 points", "+73.5 to +74.6", "cannot be tested here", "forecasting",
        "forecasting-training-sizes",
    ]  # fmt: skip
    second = rows.loc[("MF forecasts better than KNN", "MMLU-Pro, recorded 2026-01-02")]
    assert second[["value", "interval", "verdict"]].tolist() == ["-2.0 points", "-3.0 to -1.0", "contradicted"]
    assert rows.loc[("The MF router beats the best single model", "MMLU-Pro, recorded 2026-01-02"), "value"] == ""


def test_value_that_a_data_set_cannot_give_has_a_reason():
    lead = ReportedValue("mmlu_lead", "what", [NAN], reason="it has no MMLU")
    found = Results("MMLU-Pro", "", "1", {}, {}, {"contributions.mmlu_lead": lead}, {})
    row = claims_table([found]).set_index("claim").loc["MMLU gives most to the other benchmarks"]
    assert row[["value", "interval", "verdict"]].tolist() == ["it has no MMLU", "", "not testable"]


def test_verdicts_in_words(two):
    table = claims_table(two)
    n = len(CLAIMS)
    (contradicted,) = table.query("verdict == 'contradicted'")["claim"]
    simulated, real = verdicts_in_words(table)
    head, *parts = simulated.replace(": ", "; ", 1).split("; ")
    assert head == "simulated pool, this build"
    assert set(parts) == {
        f"not run: {n - 2} claims",
        "cannot be tested here: 1 claim",
        "in the ground truth: 1 claim",
    }
    assert real == f"MMLU-Pro, recorded 2026-01-02: contradicted: {contradicted}; not run: {n - 1} claims"


def test_html_has_a_column_for_each_data_set_and_links_to_the_figures(two):
    shown = claims_html(claims_table(two)).data
    assert '<a href="forecasting.html#forecasting-training-sizes">Forecasting accuracy of MF</a>' in shown
    assert shown.count("<th>") == 4
    assert shown.count("<tr>") == 1 + len(CLAIMS)


def test_names_of_data_are_text_in_the_html():
    shown = claims_html(claims_table([results("<b>pool</b>", forecasting__table_1_mf=(74,))])).data
    assert "<b>pool" not in shown
    assert "&lt;b&gt;pool" in shown


def test_status_says_what_is_regenerated_on_which_data(two):
    table = status_table(two)
    row = table.loc["Table 1"]
    assert row["here"] == "on simulated pool, MMLU-Pro"
    assert row["on the paper's data"] == "not attempted"
    assert table.loc["Figure 4", "here"] == "cannot be tested on these data"
    papers = results("RZ412/EmbedLLM, revision 1", forecasting__table_1_mf_minus_knn=(2, 1, 3))
    assert status_table([papers]).loc["Table 1", "on the paper's data"] == "yes"


def test_status_links_to_pages(two):
    shown = status_html(status_table(two)).data
    assert '<a href="forecasting.html">forecasting accuracy by number of training questions</a></td>' in shown
    assert '<a href="../paper.html">schematics of the method</a>' in shown
    assert "<th>page</th>" not in shown
    assert "on simulated pool, MMLU-Pro</td>" in shown


def test_claims_name_what_exists():
    published = set(load_published().index)
    notebooks = {path.stem: path.read_text() for path in (Path(__file__).parents[2] / "notebooks").glob("*.py")}
    for claim in CLAIMS:
        assert isinstance(claim, Claim)
        assert claim.published in published | {""}, claim
        assert claim.page in notebooks, claim
        name, number = re.fullmatch(r"(.*?)(?:-(\d+))?", claim.figure).groups()
        drawn = len(re.findall(rf"\bplot_{name.replace('-', '_')}\(", notebooks[claim.page]))
        assert drawn >= int(number or 1), claim
        assert claim.of or claim.rule != "each", claim
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
