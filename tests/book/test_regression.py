"""The check of a build's values against recorded tolerances."""

import json
import math

import pytest

from embedllm.book.notebooks import Notebook
from embedllm.book.regression import check, departures, expected_path, record, tolerance_of
from embedllm.protocol.reported_values import TARGET, ReportedValue, report

PARAMETERS = {"dataset": "simulated", "seed": 0}
MODELS = ReportedValue("n", "models", [112], count=True)


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "book" / "notebooks").mkdir(parents=True)
    write(
        tmp_path,
        monkeypatch,
        "one",
        [ReportedValue("a", "accuracy", [70.0, 71.0, 72.0], "%"), MODELS],
    )
    write(tmp_path, monkeypatch, "two", [ReportedValue("a", "undefined tau", [math.nan])])
    return tmp_path


def write(root, monkeypatch, name, reported_values):
    monkeypatch.setenv(TARGET, str(Notebook(root, name).reported_values))
    report(reported_values, "toy")


def checked(root, parameters=PARAMETERS):
    return check(root, ["one", "two"], parameters)


class TestTolerance:
    def test_is_three_standard_errors_over_seeds(self):
        low, high = tolerance_of(ReportedValue("a", "a", [70.0, 71.0, 72.0]))
        assert (low, high) == pytest.approx((71 - 3 / math.sqrt(3), 71 + 3 / math.sqrt(3)))

    def test_of_what_no_seed_moves_is_for_rounding_alone(self):
        assert tolerance_of(ReportedValue("a", "a", [71.0, 71.0])) == pytest.approx((70.9929, 71.0071))
        assert tolerance_of(ReportedValue("a", "a", [0.5])) == pytest.approx((0.4999, 0.5001))

    def test_of_a_count_is_the_count(self):
        assert tolerance_of(ReportedValue("a", "a", [35_673, 35_673], count=True)) == (35_673, 35_673)

    def test_of_a_count_that_differs_between_seeds_is_that_of_a_mean(self):
        low, high = tolerance_of(ReportedValue("a", "a", [2, 3], count=True))
        assert (low, high) == pytest.approx((1, 4))

    def test_of_an_undefined_value_is_undefined(self):
        assert all(math.isnan(end) for end in tolerance_of(ReportedValue("a", "a", [math.nan], count=True)))


def test_nothing_recorded_yet_is_said(root):
    passed, message = checked(root)
    assert passed
    assert "data/expected/simulated.json does not exist" in message
    assert "make expected" in message


def test_same_build_passes(root):
    assert "3 tolerances written" in record(root, ["one", "two"], PARAMETERS)
    assert checked(root) == (True, "all 3 values are within the tolerances of data/expected/simulated.json")


def test_what_left_its_tolerance_is_named(root, monkeypatch):
    record(root, ["one", "two"], PARAMETERS)
    write(
        root,
        monkeypatch,
        "one",
        [ReportedValue("a", "accuracy", [68.0, 69.0, 70.0], "%"), MODELS],
    )
    passed, message = checked(root)
    assert not passed
    assert "1 of 3 values are outside the tolerances" in message
    (line,) = [line for line in message.splitlines() if "one.a" in line]
    assert line.split() == ["one.a", "accuracy", "69", "69.27", "72.73"]
    assert "one.n" not in message


@pytest.mark.parametrize(
    ("reported_values", "words"),
    [
        ([ReportedValue("a", "accuracy", [71.0])], ["one.n", "missing"]),
        (
            [ReportedValue("a", "accuracy", [71.0]), MODELS, ReportedValue("b", "b", [1])],
            ["one.b", "new"],
        ),
        ([ReportedValue("a", "accuracy", [math.nan]), MODELS], ["one.a", "undefined"]),
    ],
    ids=["missing", "without a tolerance", "undefined"],
)
def test_other_departures(root, monkeypatch, reported_values, words):
    record(root, ["one", "two"], PARAMETERS)
    write(root, monkeypatch, "one", reported_values)
    passed, message = checked(root)
    assert not passed
    assert all(word in message for word in words)


def test_number_where_it_was_undefined_is_a_departure(root, monkeypatch):
    record(root, ["one", "two"], PARAMETERS)
    write(root, monkeypatch, "two", [ReportedValue("a", "tau", [0.3])])
    assert "two.a" in checked(root)[1]


def test_recording_tells_what_changed(root, monkeypatch):
    record(root, ["one", "two"], PARAMETERS)
    write(root, monkeypatch, "one", [ReportedValue("a", "accuracy", [50.0], "%"), MODELS])
    message = record(root, ["one", "two"], PARAMETERS)
    assert "one.a" in message
    assert "one.n" not in message
    assert checked(root)[0]
    assert "within the tolerances of before" in record(root, ["one", "two"], PARAMETERS)


@pytest.mark.parametrize("count", [35_672, 35_674])
def test_a_count_must_be_equal(root, monkeypatch, count):
    accuracy = ReportedValue("a", "accuracy", [71.0])
    write(root, monkeypatch, "one", [accuracy, ReportedValue("n", "questions", [35_673], count=True)])
    record(root, ["one", "two"], PARAMETERS)
    assert checked(root)[0]
    write(root, monkeypatch, "one", [accuracy, ReportedValue("n", "questions", [count], count=True)])
    passed, message = checked(root)
    assert not passed
    assert f"questions {count:,} 35,673 35,673" in " ".join(message.split())


def test_file_has_one_line_for_each_value_and_whole_counts(root, monkeypatch):
    write(
        root, monkeypatch, "one", [ReportedValue("a", "a", [71.0]), ReportedValue("n", "n", [123_456_789], count=True)]
    )
    record(root, ["one", "two"], PARAMETERS)
    lines = expected_path(root, PARAMETERS).read_text().splitlines()
    assert '  "one.a": [70.9929, 71.0071],' in lines
    assert '  "one.n": 123456789,' in lines
    assert '  "two.a": [NaN, NaN]' in lines
    assert json.loads("\n".join(lines))["parameters"] == PARAMETERS


def test_other_parameters_are_not_compared(root):
    record(root, ["one", "two"], PARAMETERS)
    passed, message = checked(root, PARAMETERS | {"seed": 1})
    assert passed
    assert "was recorded with" in message


def test_damaged_tolerances_are_an_error(root):
    record(root, ["one", "two"], PARAMETERS)
    expected_path(root, PARAMETERS).write_text("{")
    with pytest.raises(ValueError, match=r"simulated\.json is no file of tolerances"):
        checked(root)


def test_each_data_set_has_its_file(root, tmp_path):
    assert expected_path(root, {"dataset": "embedllm"}) == root / "data" / "expected" / "embedllm.json"
    assert expected_path(root, {"dataset": str(tmp_path / "my pool/")}).name == "my pool.json"


def test_empty_departures_have_their_columns():
    assert departures({}, {}).columns.tolist() == ["value", "what", "found", "from", "to"]
