"""The values that pages quote."""

import math

import numpy as np
import pytest

from embedllm.protocol.reported_values import TARGET, ReportedValue, format_number, read_reported, report

LINES = [
    ReportedValue("accuracy", "accuracy of MF", [71.0, 73.0, 72.0], "%", (70.5, 73.25)),
    ReportedValue("models", "models", [112], count=True),
    ReportedValue("tau", "undefined tau", [math.nan, math.nan], interval=(math.nan, math.nan)),
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
    assert table.loc["accuracy of MF"].tolist() == ["72 %", "70.5 to 73.25", "0.5774", "3"]
    assert table.loc["models"].tolist() == ["112", "", "", "1"]
    assert table.loc["undefined tau", "value"] == "undefined"


def test_keys_are_glued(monkeypatch):
    glued = {}
    monkeypatch.setattr("myst_nb.glue", lambda key, value, display: glued.update({key: value}))
    report(LINES, "toy")
    assert glued["accuracy"] == 72
    assert (glued["accuracy_low"], glued["accuracy_high"]) == (70.5, 73.25)
    assert "models_low" not in glued
    assert all(type(value) is float for value in glued.values())


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
