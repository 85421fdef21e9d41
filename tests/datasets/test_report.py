"""Reports count everything that was read, and say what was chosen."""

import numpy as np
import pandas as pd
import pytest
from import_helpers import csv_bytes

from embedllm import CorrectnessMatrix, import_long
from embedllm.datasets.formats.answers import Answers
from embedllm.datasets.report import Line, listed, refuse_choices

LABELS = pd.DataFrame([[1, -1], [0, 1]], index=["A", "B"], columns=["q", "r"])
QUESTIONS = pd.DataFrame({"benchmark": "b", "prompt": ["p", "q"]}, index=LABELS.columns)


class TestAccount:
    def test_ends_in_a_line_that_adds_up(self):
        report = [Line("duplicated rows", 1_200, "majority", is_choice=True), Line("ties", 0, "not observed")]
        answers = Answers(LABELS, QUESTIONS, report, {"rows read": 1_203, "duplicates": 1_200, "ties": 0})
        assert answers.report_table(Line("more", 1, "kept")).to_numpy().tolist() == [
            ["duplicated rows", 1_200, "majority"],
            ["more", 1, "kept"],
            ["rows read", 1_203, "= 3 cells + 1,200 duplicates"],
        ]

    @pytest.mark.parametrize("account", [{"rows read": 4}, {"rows read": 3, "empty": 1}, {"rows read": 2}])
    def test_counts_that_do_not_add_up(self, account):
        with pytest.raises(ValueError, match=r"rows read are not 3 cells.*: this is a fault of the reader"):
            Answers(LABELS, QUESTIONS, [], account).report_table()

    def test_is_kept_in_a_file(self, tmp_path):
        report = Answers(LABELS, QUESTIONS, [], {"rows read": 4, "empty": 1}).report_table()
        matrix = CorrectnessMatrix(LABELS, QUESTIONS, np.eye(2), report=report)
        matrix.save(tmp_path / "m.npz")
        assert CorrectnessMatrix.load(tmp_path / "m.npz").report_.to_numpy().tolist() == report.to_numpy().tolist()

    @pytest.mark.parametrize(
        ("rule", "account"),
        [
            ("majority", "= 2 cells + 3 duplicates + 1 ties"),
            ("any", "= 3 cells + 3 duplicates"),
            ("last", "= 3 cells + 3 duplicates"),
            ("rows", "= 6 cells"),
        ],
    )
    @pytest.mark.usefixtures("encoded")
    def test_every_rule_for_duplicates(self, tmp_path, rule, account):
        answers = [(1, "A", 1), (1, "A", 0), (1, "B", 1), (2, "A", 0), (2, "A", 0), (2, "A", 1)]
        rows = [(name, model, "c", label, f"p{name}") for name, model, label in answers]
        (tmp_path / "a.csv").write_bytes(csv_bytes(rows, ["prompt_id", "model_name", "category", "label", "prompt"]))
        matrix = import_long(tmp_path / "a.csv", tmp_path / "out", duplicates=rule)
        assert matrix.report_.iloc[-1].tolist() == ["rows read", 6, account]


def test_only_choices_are_refused():
    lines = [Line("left out", 3, "no label"), Line("older runs", 0, "the newest counts", is_choice=True)]
    refuse_choices(lines)
    with pytest.raises(ValueError, match=r"^strict: 1,000 older runs \(the newest counts\): correct the data, or"):
        refuse_choices([*lines, Line("older runs", 1_000, "the newest counts", is_choice=True)])


def test_names_are_listed_up_to_twenty():
    assert listed(["b", "a\x1b[31m"]) == "'a\\x1b[31m', b"
    assert listed([str(number) for number in range(100, 130)]).endswith(", 119 and 10 more")
