"""Verdicts on the claims of the paper are computed from the values of a build."""

import math
import re
from pathlib import Path

import pytest

from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import TARGET, ReportedValue, report
from embedllm.studies.summary import CLAIMS, Claim, claims_html, claims_table, count_verdicts, verdict

NAN = math.nan


@pytest.mark.parametrize(
    ("rule", "ours", "published", "total", "expected"),
    [
        ("figure", ReportedValue("a", "a", [112.0]), 112, None, "agrees"),
        ("figure", ReportedValue("a", "a", [111.0]), 112, None, "differs"),
        ("figure", ReportedValue("a", "a", [73.0], "%", (72.0, 74.1)), 74.09, None, "agrees"),
        ("figure", ReportedValue("a", "a", [73.0], "%", (72.0, 74.0)), 74.09, None, "differs"),
        ("figure", ReportedValue("a", "a", [73.0], "%", (72.0, 74.0)), "in words", None, "see the page"),
        ("positive", ReportedValue("a", "a", [2.0], "points", (0.1, 4.0)), None, None, "holds"),
        ("positive", ReportedValue("a", "a", [2.0], "points", (-0.1, 4.0)), None, None, "undecided"),
        ("positive", ReportedValue("a", "a", [2.0], "points", (2e-14, 4.0)), None, None, "undecided"),
        ("positive", ReportedValue("a", "a", [-2.0], "points", (-4.0, -2e-14)), None, None, "undecided"),
        ("positive", ReportedValue("a", "a", [-2.0], "points", (-3.0, -0.1)), None, None, "contradicted"),
        ("positive", ReportedValue("a", "a", [2.0]), None, None, "see the page"),
        ("each", ReportedValue("a", "a", [6.0]), None, ReportedValue("n", "n", [6.0]), "holds"),
        ("each", ReportedValue("a", "a", [4.0, 5.0]), None, ReportedValue("n", "n", [6.0]), "holds for 4.5 of 6"),
        ("each", ReportedValue("a", "a", [0.0]), None, ReportedValue("n", "n", [6.0]), "contradicted"),
        ("each", ReportedValue("a", "a", [0.0]), None, ReportedValue("n", "n", [0.0]), "undefined"),
        ("positive", ReportedValue("a", "a", [NAN], "", (NAN, NAN)), None, None, "undefined"),
        ("shown", ReportedValue("a", "a", [1.0]), None, None, "see the page"),
        ("positive", None, None, None, "not run"),
    ],
)
def test_verdict(rule, ours, published, total, expected):
    assert verdict(rule, ours, published, total) == expected


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pages = {
        "forecasting": [
            ReportedValue("mf_accuracy", "MF", [74.0, 74.2], "%", (73.5, 74.6)),
            ReportedValue("mf_minus_knn", "difference", [2.5], "points", (2.0, 3.0)),
        ],
        "tuning": [ReportedValue("dim", "dim", [64])],
    }
    for name, reported_values in pages.items():
        monkeypatch.setenv(TARGET, str(tmp_path / f"{name}.reported.json"))
        report(reported_values, "a toy pool")
    return tmp_path


def test_table(folder):
    table = claims_table(folder).set_index("claim")
    assert len(table) == len(CLAIMS)
    assert table.loc["Forecasting accuracy of MF"].tolist() == [
        "74.09 %", "74.1 %", "73.5 to 74.6", "agrees",
        "forecasting", "forecasting-forecasts", "a toy pool",
    ]  # fmt: skip
    assert table.loc["MF forecasts better than KNN", "verdict"] == "holds"
    assert table.loc["Size of a model embedding, chosen alike"].tolist()[:4] == ["232", "64", "", "differs"]
    assert table.loc["The MF router beats the best single model", "verdict"] == "not run"


def test_another_value_gives_another_verdict(folder, monkeypatch):
    monkeypatch.setenv(TARGET, str(folder / "forecasting.reported.json"))
    report([ReportedValue("mf_minus_knn", "difference", [-2.5], "points", (-3.0, -2.0))], "a toy pool")
    table = claims_table(folder).set_index("claim")
    assert table.loc["MF forecasts better than KNN", "verdict"] == "contradicted"
    assert table.loc["Forecasting accuracy of MF", "verdict"] == "not run"


def test_simulated_answers_give_no_verdict_on_the_paper(folder, monkeypatch):
    monkeypatch.setenv(TARGET, str(folder / "communities.reported.json"))
    report([ReportedValue("sgd_paper_closer", "a", [4]), ReportedValue("paper_communities", "b", [6])], "a toy pool")
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace("a toy pool", "simulated pool"))
    found = claims_table(folder).set_index("claim")["verdict"]
    assert found["MF forecasts better than KNN"] == "in the ground truth"
    assert found["Models of one size or specialization are closer than others"] == "in the ground truth for 4 of 6"
    assert found["Forecasting accuracy of MF"] == "cannot be tested here"
    assert found["The MF router beats the best single model"] == "not run"
    assert not set(found) & {"agrees", "differs", "holds", "contradicted"}


def test_page_without_a_claim_may_be_of_other_data(folder, monkeypatch):
    monkeypatch.setenv(TARGET, str(folder / "published_numbers.reported.json"))
    report([ReportedValue("published_baseline", "baseline", [69.5])], "published counts")
    assert set(claims_table(folder)["data"]) == {"a toy pool"}


def test_count_of_cases():
    claims = [Claim("all found", "one", "cases", "found", "each", of="cases")]
    assert claims_table("no such folder", claims)["verdict"].tolist() == ["not run"]


def test_verdicts_are_counted(folder):
    counts = count_verdicts(claims_table(folder))
    assert counts.sum() == len(CLAIMS)
    assert counts["agrees"] == counts["holds"] == 1


def test_html_links_to_the_figures(folder):
    shown = claims_html(claims_table(folder)).data
    assert '<a href="forecasting.html#forecasting-forecasts">Forecasting accuracy of MF</a>' in shown
    assert "ours: a toy pool" in shown


def test_values_of_two_data_sets_are_not_mixed(folder, monkeypatch):
    monkeypatch.setenv(TARGET, str(folder / "routing.reported.json"))
    report([ReportedValue("route_gain", "gain", [1.0])], "another pool")
    with pytest.raises(ValueError, match=r"different data sets, \['a toy pool', 'another pool'\]"):
        claims_table(folder)


def test_claims_name_what_exists():
    published = set(load_published().index)
    notebooks = {path.stem: path.read_text() for path in (Path(__file__).parents[2] / "notebooks").glob("*.py")}
    for claim in CLAIMS:
        assert claim.published in published | {""}, claim
        assert claim.page in notebooks, claim
        name, number = re.fullmatch(r"(.*?)(?:-(\d+))?", claim.figure).groups()
        drawn = notebooks[claim.page].count(f"\nplot_{name.replace('-', '_')}(")
        assert drawn >= int(number or 1), claim
        assert claim.of or claim.rule != "each", claim
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
