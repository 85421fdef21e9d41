"""The values that pages quote."""

import ast
import math
import string
from pathlib import Path

import numpy as np
import pytest

from embedllm.protocol.recorded import load_results
from embedllm.protocol.reported_values import TARGET, ReportedValue, format_number, read_reported, report

ROOT = Path(__file__).parents[2]

LINES = [
    ReportedValue("accuracy", "accuracy of MF", [71.0, 73.0, 72.0], "%", (70.5, 73.25)),
    ReportedValue("models", "models", [112], count=True),
    ReportedValue("tau", "undefined tau", [math.nan] * 2, interval=(math.nan, math.nan), reason="it has one model"),
]


def test_value_and_its_standard_error():
    assert LINES[0].value == 72
    assert LINES[0].seed_stderr == pytest.approx(1 / math.sqrt(3))
    assert LINES[1].seed_stderr == 0
    assert math.isnan(LINES[2].value)


@pytest.mark.parametrize(
    ("key", "runs", "message"), [("MF accuracy", [1], "identifier|letters"), ("a", [], "no value")]
)
def test_unsuitable_value_is_refused(key, runs, message):
    with pytest.raises(ValueError, match=message):
        ReportedValue(key, "x", runs)


def test_table_says_what_is_known():
    table = report(LINES, "toy")
    assert table.loc["accuracy of MF"].tolist() == ["72.0 %", "70.5 to 73.2", "0.5774", "3"]
    assert table.loc["models"].tolist() == ["112", "", "", ""]
    assert table.loc["undefined tau", "value"] == "not testable on this data set: it has one model"


def test_keys_are_glued(monkeypatch):
    glued = {}
    monkeypatch.setattr("myst_nb.glue", lambda key, value, display: glued.update({key: value}))
    report(LINES, "toy")
    assert glued["accuracy"] == 72
    assert (glued["accuracy_low"], glued["accuracy_high"]) == (70.5, 73.25)
    assert "models_low" not in glued
    words = {key: value for key, value in glued.items() if key.endswith("_words")}
    assert words == {
        "accuracy_words": "72.0 % (70.5 to 73.2)",
        "models_words": "112",
        "tau_words": "not testable on this data set: it has one model",
    }
    assert all(type(glued[key]) is float for key in glued.keys() - words)


def test_long_texts_are_shown_whole():
    reason = "fewer than three of its communities have 3 models here"
    table = report([ReportedValue("a", "ratio", [math.nan], reason=reason)])
    assert reason in table._repr_html_()
    assert reason in table.loc[["ratio"], ["value"]]._repr_html_()


def test_shown_without_a_reason_or_an_interval():
    assert ReportedValue("a", "a", [math.nan]).shown == "not testable on this data set"
    assert ReportedValue("a", "a", [0.5], interval=(math.nan, math.nan)).ends == ""
    assert ReportedValue("a", "a", [0.5], "points", (0.25, 1)).ends == "+0.25 to +1.00"


@pytest.mark.parametrize(
    ("value", "unit", "interval", "shown", "ends"),
    [
        (68.95, "%", (68.32, 69.55), "69.0 %", "68.3 to 69.5"),
        (0.3639, "points", (-0.05496, 0.7583), "+0.36 points", "-0.05 to +0.76"),
        (-1.493, "points", (-2.985, -1e-14), "-1.5 points", "-3.0 to +0.0"),
        (0.5309, "points", (-0.0374, 1.06), "+0.5 points", "-0.04 to +1.1"),
        (12345.6, "", (12000.0, 13000.0), "12,346", "12,000 to 13,000"),
        (0.5, "points", (0.5, 0.5), "0.5 points", "0.5 to 0.5"),
    ],
)
def test_decimals_follow_from_the_interval(value, unit, interval, shown, ends):
    reported = ReportedValue("a", "a", [value], unit, interval)
    assert (reported.shown, reported.ends) == (shown, ends)


def quoted_as_numbers(script):
    """The keys that the box and the recap of a notebook quote with a format for numbers."""
    calls = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    texts = [call.args[0].value for call in calls if ast.unparse(call.func) in ("InShort", "recap")]
    return {key for text in texts for _, key, form, _ in string.Formatter().parse(text) if form}


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "expected").glob("*.json")), ids=lambda path: path.stem)
def test_pages_quote_in_words_what_a_recorded_data_set_cannot_give(path):
    """As `{key_words}`; with a format for numbers the page would show `nan`."""
    quoted = {page.stem: quoted_as_numbers(page) for page in (ROOT / "notebooks").glob("*.py")}
    assert sum(map(len, quoted.values())) > 50
    for key, value in load_results(path).values.items():
        page, _, name = key.partition(".")
        parts = {name: value.value} | dict(zip((f"{name}_low", f"{name}_high"), value.interval or (), strict=False))
        assert not {part for part, number in parts.items() if math.isnan(number)} & quoted[page], key


def test_written_only_where_the_book_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.delenv(TARGET, raising=False)
    monkeypatch.chdir(tmp_path)
    report(LINES, "toy")
    assert not list(tmp_path.iterdir())


def test_read_back(tmp_path, monkeypatch):
    path = tmp_path / "page.json"
    monkeypatch.setenv(TARGET, str(path))
    report(
        [*LINES[:2], ReportedValue("numpy", "from NumPy", np.array([0.1, 0.2], dtype=np.float32)), LINES[2]], "toy: ü"
    )
    source, found = read_reported(path)
    assert source == "toy: ü"
    assert found["accuracy"] == LINES[0]
    assert found["models"] == LINES[1]
    assert math.isnan(found["tau"].value)
    assert math.isnan(found["tau"].interval[0])
    assert found["numpy"].value == pytest.approx(0.15)
    assert [child.name for child in tmp_path.iterdir()] == ["page.json"]


def test_duplicated_key_is_refused():
    with pytest.raises(ValueError, match=r"\['models'\] occur twice"):
        report([LINES[1], LINES[1]], "toy")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"source": "x", "reported_values": [{"key": "a"}]}', '{"reported_values": 3}']
)
def test_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "page.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"page\.json is no file of reported values"):
        read_reported(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_reported(tmp_path / "no.json")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (1234567.0, "1,234,567"),
        (0.123456, "0.1235"),
        (-71.1234, "-71.12"),
        (35673.4, "35,673"),
        (math.nan, "undefined"),
    ],
)
def test_numbers_are_short(value, text):
    assert format_number(value) == text
