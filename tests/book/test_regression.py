"""The check of a build's values against recorded tolerances."""

import json
import math

import pandas as pd
import pytest
import yaml

from embedllm import CorrectnessMatrix, load_dataset
from embedllm.book import regression
from embedllm.book.notebooks import Notebook
from embedllm.book.regression import check, data_departures, departures, expected_path, record, tolerance_of
from embedllm.protocol.recorded import fingerprint, load_results
from embedllm.protocol.reported_values import TARGET, ReportedValue, report

PARAMETERS = {"dataset": "simulated", "seed": 0}
MODELS = ReportedValue("n", "models", [112], count=True)


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "book" / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(regression, "load_dataset", lambda _: load_dataset("simulated", scale=0.01))
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
    return check(root, parameters)


class TestTolerance:
    def test_is_three_standard_errors_over_seeds(self):
        low, high = tolerance_of(ReportedValue("a", "a", [70.0, 71.0, 72.0]))
        assert (low, high) == pytest.approx((71 - 3 / math.sqrt(3), 71 + 3 / math.sqrt(3)))

    def test_of_what_no_seed_moves_is_for_rounding_alone(self):
        assert tolerance_of(ReportedValue("a", "a", [71.0, 71.0])) == pytest.approx((70.9929, 71.0071))
        assert tolerance_of(ReportedValue("a", "a", [0.5])) == pytest.approx((0.4999, 0.5001))
        assert tolerance_of(ReportedValue("a", "a", [0.5], "points")) == pytest.approx((0.4999, 0.5001))
        order = ReportedValue("a", "pairwise ranking accuracy: loss", [0.5], "points")
        assert tolerance_of(order) == pytest.approx((0.499, 0.501))

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
    assert "3 values recorded" in record(root, PARAMETERS)
    assert checked(root) == (True, "all 3 values are within the tolerances of data/expected/simulated.json")


def test_what_left_its_tolerance_is_named(root, monkeypatch):
    record(root, PARAMETERS)
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
    record(root, PARAMETERS)
    write(root, monkeypatch, "one", reported_values)
    passed, message = checked(root)
    assert not passed
    assert all(word in message for word in words)


def test_number_where_it_was_undefined_is_a_departure(root, monkeypatch):
    record(root, PARAMETERS)
    write(root, monkeypatch, "two", [ReportedValue("a", "tau", [0.3])])
    assert "two.a" in checked(root)[1]


def test_recording_tells_what_changed(root, monkeypatch):
    record(root, PARAMETERS)
    write(root, monkeypatch, "one", [ReportedValue("a", "accuracy", [50.0], "%"), MODELS])
    message = record(root, PARAMETERS)
    assert "one.a" in message
    assert "one.n" not in message
    assert checked(root)[0]
    assert "within the tolerances of before" in record(root, PARAMETERS)


@pytest.mark.parametrize("count", [35_672, 35_674])
def test_a_count_must_be_equal(root, monkeypatch, count):
    accuracy = ReportedValue("a", "accuracy", [71.0])
    write(root, monkeypatch, "one", [accuracy, ReportedValue("n", "questions", [35_673], count=True)])
    record(root, PARAMETERS)
    assert checked(root)[0]
    write(root, monkeypatch, "one", [accuracy, ReportedValue("n", "questions", [count], count=True)])
    passed, message = checked(root)
    assert not passed
    assert f"questions {count:,} 35,673 35,673" in " ".join(message.split())


def test_file_has_one_line_for_each_value(root, monkeypatch):
    values = [ReportedValue("a", "a", [71.0], "%", (70.0, 72.0)), ReportedValue("n", "n", [123_456_789], count=True)]
    write(root, monkeypatch, "one", values)
    record(root, PARAMETERS)
    path = expected_path(root, PARAMETERS)
    assert path.read_text().count('\n  "one.') == 2
    found = load_results(path)
    assert found.values["one.a"] == values[0]
    assert found.values["one.n"] == values[1]
    assert found.parameters == PARAMETERS
    assert found.source == "toy"
    assert found.data["models"] == 112


@pytest.mark.parametrize("content", ["", '{"source": "ZeroEval", "val'], ids=["empty", "truncated"])
@pytest.mark.parametrize("action", ["compare", "record"])
def test_damaged_record_is_refused_before_a_notebook_runs(root, monkeypatch, capsys, action, content):
    (root / "_config.yml").write_text(yaml.safe_dump({"sphinx": {"config": {"embedllm_parameters": PARAMETERS}}}))
    monkeypatch.chdir(root)
    monkeypatch.setattr(regression, "refresh", lambda *_, **__: pytest.fail("a notebook ran"))
    path = expected_path(root, PARAMETERS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert regression._main(action) == 1
    assert f"{path} is not a complete record of a data set" in capsys.readouterr().err


def test_tables_of_main_figures_are_recorded(root):
    folder = root / "book" / "notebooks" / "figures" / "routing"
    folder.mkdir(parents=True)
    (folder / "routing-routers.csv").write_text("router,accuracy\nMF,0.5\n")
    (folder / "routing-other.csv").write_text("router,accuracy\nMF,0.6\n")
    record(root, PARAMETERS)
    frames = load_results(expected_path(root, PARAMETERS)).frames
    assert {name: frame.to_dict("list") for name, frame in frames.items()} == {
        "routing-routers": {"router": ["MF"], "accuracy": [0.5]}
    }


class TestRealAnswers:
    """Their labels must be those of the record."""

    REAL = PARAMETERS | {"dataset": "mmlu-pro"}

    def test_a_flipped_label_is_named(self, root, monkeypatch):
        matrix = load_dataset("simulated", scale=0.01)
        record(root, self.REAL)
        assert checked(root, self.REAL)[0]
        labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        labels.iloc[0, 0] = 1 - labels.iloc[0, 0]
        flipped = CorrectnessMatrix(labels, matrix.questions, matrix.embeddings)
        monkeypatch.setattr(regression, "load_dataset", lambda _: flipped)
        passed, message = checked(root, self.REAL)
        assert not passed
        assert "data.correct answers" in message
        assert "data.sha256" in message

    def test_order_of_the_questions_counts(self):
        matrix = load_dataset("simulated", scale=0.01)
        turned = matrix.subset(questions=matrix.question_ids[::-1])
        table = data_departures(fingerprint(matrix), fingerprint(turned))
        assert table["value"].tolist() == ["data.sha256"]

    @pytest.mark.parametrize("cut", [0, 100, -3])
    def test_truncated_record_is_refused(self, root, cut):
        record(root, self.REAL)
        path = expected_path(root, self.REAL)
        path.write_text(path.read_text()[:cut])
        with pytest.raises(ValueError, match=r"mmlu-pro\.json is not a complete record"):
            checked(root, self.REAL)

    @pytest.mark.parametrize("part", ["values", "frames", "data", "when", "source"])
    def test_incomplete_record_is_refused(self, root, part):
        record(root, self.REAL)
        path = expected_path(root, self.REAL)
        content = json.loads(path.read_text())
        del content[part]
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"mmlu-pro\.json is not a complete record"):
            checked(root, self.REAL)

    def test_record_without_a_value_is_refused(self, root):
        record(root, self.REAL)
        path = expected_path(root, self.REAL)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"values": {}}))
        with pytest.raises(ValueError, match="it holds no value"):
            checked(root, self.REAL)


def test_other_parameters_are_not_compared(root):
    record(root, PARAMETERS)
    passed, message = checked(root, PARAMETERS | {"seed": 1})
    assert passed
    assert "was recorded with" in message


def test_damaged_record_are_an_error(root):
    record(root, PARAMETERS)
    expected_path(root, PARAMETERS).write_text("{")
    with pytest.raises(ValueError, match=r"simulated\.json is not a complete record"):
        checked(root)


def test_each_data_set_has_its_file(root, tmp_path):
    assert expected_path(root, {"dataset": "embedllm"}) == root / "data" / "expected" / "embedllm.json"
    assert expected_path(root, {"dataset": str(tmp_path / "my pool/")}).name == "my pool.json"


def test_empty_departures_have_their_columns():
    assert departures({}, {}).columns.tolist() == ["value", "what", "found", "from", "to"]
