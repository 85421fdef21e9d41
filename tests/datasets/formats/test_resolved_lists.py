"""Lists of resolved tasks become the data set they stand for, or one sentence that says why not."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from import_helpers import TEXTS, expect, put, reports

from embedllm.datasets.importers import import_resolved

pytestmark = pytest.mark.usefixtures("encoded")


@pytest.fixture
def board(tmp_path) -> Path:
    """A folder for lists, with five questions beside it."""
    (tmp_path / "board").mkdir()
    questions = [["instance_id", "repo", "problem_statement"]]
    questions += [[f"i-{n}", f"repo/{n % 2}", f"{TEXTS[n]} {n}"] for n in range(5)]
    with (tmp_path / "questions.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(questions)
    return tmp_path / "board"


class TestLists:
    def test_all_forms(self, tmp_path, board, assert_imported):
        put(board / "list.json", ["i-4", "i-0"])
        put(board / "org__model.v1.json", {"resolved": ["i-1"], "no_generation": ["i-2"], "no_logs": []})
        put(board / "a" / "results.json", {"resolved_ids": []})
        put(board / "b" / "results" / "results.json", {"resolved": ["i-3"]})
        put(board / "NA" / "report.json", {
            "resolved": 1, "resolved_ids": ["i-0"], "submitted_ids": ["i-0", "i-1", "i-2"], "schema_version": 2,
        })  # fmt: skip
        put(board / "text.txt", "\ufeffi-2\r\n\r\n  i-3 \n")
        put(board / "README.md", "not a list")
        put(board / ".hidden.json", "{")
        labels = {
            "NA": [1, 0, 0, -1, -1],
            "a": [0, 0, 0, 0, 0],
            "b": [0, 0, 0, 1, 0],
            "list": [1, 0, 0, 0, 1],
            "org__model.v1": [0, 1, 0, 0, 0],
            "text": [0, 0, 1, 1, 0],
        }
        expected = expect(
            list(labels),
            [f"i-{n}" for n in range(5)],
            list(labels.values()),
            [f"repo/{n % 2}" for n in range(5)],
            [f"{TEXTS[n]} {n}" for n in range(5)],
        )
        matrix = import_resolved(board, tmp_path / "out", questions=tmp_path / "questions.csv")
        assert_imported(matrix, expected, tmp_path / "out")
        assert reports(matrix) == [
            ["tasks with an empty patch", 1, "incorrect"],
            ["tasks not submitted", 2, "not observed"],
        ]

    @pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "parquet"])
    @pytest.mark.parametrize("benchmark", ["benchmark", "repo", None])
    def test_questions(self, tmp_path, board, form, benchmark):
        fields = {"prompt_id": [7, 8], "prompt": ["N/A", TEXTS[2]], "patch": ["x", None]}
        fields |= {benchmark: ["one", "two"]} if benchmark else {}
        path, frame = tmp_path / f"q.{form}", pd.DataFrame(fields)
        if form == "jsonl":
            path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")
        elif form == "parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        put(board / "A.json", [8])
        matrix = import_resolved(board, tmp_path / "out", questions=path)
        assert matrix.question_ids.tolist() == ["7", "8"]
        assert matrix.labels.tolist() == [[0, 1]]
        assert matrix.questions["prompt"].tolist() == fields["prompt"]
        assert matrix.benchmarks.tolist() == (["one", "two"] if benchmark else ["board", "board"])


def report_of(ids, **lists):
    """A report of the harness, schema 2; a task is in `unresolved_ids` or `error_ids` whatever failed."""
    named = {f"{name}_ids": [ids[number] for number in numbers] for name, numbers in lists.items()}
    return {"total_instances": len(ids), "schema_version": 2, **named}


class TestReports:
    @pytest.mark.parametrize(("errors", "label"), [("incorrect", 0), ("not observed", -1)])
    @pytest.mark.parametrize("name", ["gpt-4o.my_run.json", "gpt-4o/report.json"])
    def test_what_the_harness_could_not_judge_is_not_observed(self, tmp_path, board, name, errors, label):
        ids = [f"i-{n}" for n in range(5)]
        lists = {"resolved": [0], "unresolved": [1], "empty_patch": [2], "error": [3, 4], "infra_failure": [4]}
        put(board / name, report_of(ids, submitted=range(5), completed=[0, 1], ambiguous_failure=[1], **lists))
        matrix = import_resolved(board, tmp_path / "out", questions=tmp_path / "questions.csv", errors=errors)
        assert matrix.model_names.tolist() == ["gpt-4o"]
        assert dict(zip(matrix.question_ids, matrix.labels[0], strict=True)) == {"i-0": 1, "i-2": 0} | (
            {"i-3": 0} if label == 0 else {}
        )
        assert reports(matrix)[:4] == [
            ["tasks with an empty patch", 1, "incorrect"],
            ["tasks that ended in an error", 1, errors],
            ["tasks with an ambiguous failure", 1, "not observed"],
            ["tasks with a failure of the infrastructure", 1, "not observed"],
        ]

    def test_not_submitted_by_either_list(self, tmp_path, board):
        ids = [f"i-{n}" for n in range(5)]
        put(board / "A.r.json", report_of(ids, resolved=[0], unresolved=[1], incomplete=[2, 3, 4]))
        put(board / "B.r.json", report_of(ids, resolved=[0], submitted=[0, 1, 2, 3, 4]))
        matrix = import_resolved(board, tmp_path / "out", questions=tmp_path / "questions.csv")
        assert matrix.labels.tolist() == [[1, 0, -1, -1, -1], [1, 0, 0, 0, 0]]
        assert reports(matrix) == [
            ["tasks not submitted", 3, "not observed"],
            ["reports named after a run", 2, "the model's name is what stands before it"],
        ]

    @pytest.mark.parametrize(
        ("run_id", "models"),
        [(None, ["claude-3.5", "gpt-3.5.v2"]), ("v2.run", ["claude-3.5.run", "gpt-3.5"]), ("", None)],
    )
    def test_name_of_the_model(self, tmp_path, board, run_id, models):
        names = ["claude-3.5.run", "gpt-3.5.v2.run"]
        for name in names:
            put(board / f"{name}.json", report_of(["i-0"], resolved=[0]))
        matrix = import_resolved(board, tmp_path / "out", questions=tmp_path / "questions.csv", run_id=run_id)
        assert matrix.model_names.tolist() == (models or names)


def resolved_case(files, questions="prompt_id,prompt\ni-0,zero\ni-1,one\n", name="q.csv"):
    def prepare(folder):
        (folder / "board").mkdir()
        for place, content in files.items():
            put(folder / "board" / place, content)
        put(folder / name, questions)
        return import_resolved, folder / "board", {"questions": folder / name}

    return prepare


MALFORMED = {
    "empty text": (resolved_case({"A.txt": "\n"}), r"A\.txt is empty: if nothing was resolved"),
    "text twice": (resolved_case({"A.txt": "i-0\ni-1\ni-0\n"}), r"A\.txt: 'i-0' is listed twice: remove one"),
    "no file": (resolved_case({"README.md": "?"}), r"board holds no MODEL\.json, MODEL\.txt or folder MODEL"),
    "folder without a list": (
        resolved_case({"A/logs.json": "[]"}),
        r"A holds none of results\.json, results/results\.json, report\.json: add one",
    ),
    "two files of a model": (
        resolved_case({"A.json": [], "A/results.json": []}),
        r"model 'A' has two files, .*A.* and .*A.*json: remove one",
    ),
    "two files in a folder": (
        resolved_case({"A/results.json": [], "A/report.json": []}),
        r"model 'A' has two files, .*results\.json and .*report\.json",
    ),
    "not JSON": (resolved_case({"A.json": "i-0\n"}), r"A\.json is not JSON"),
    "a text": (resolved_case({"A.json": '"i-0"'}), r"A\.json holds neither a list of ids nor an object"),
    "no list": (
        resolved_case({"A.json": {"resolved": 3, "total": 5}}),
        r"A\.json has no list resolved or resolved_ids; it has \['resolved', 'total'\]",
    ),
    "unknown id": (
        resolved_case({"A.json": ["i-0", "i-9"]}),
        r"A\.json: 'i-9' is not in .*q\.csv: add it there, or remove it here",
    ),
    "id twice": (resolved_case({"A.json": ["i-0", "i-1", "i-0"]}), r"A\.json: 'i-0' is listed twice: remove one"),
    "no id": (
        resolved_case({"A.json": {"resolved": ["i-0", {"id": 1}]}}),
        r"A\.json: entry 2 of resolved is \{'id': 1\}, not an id",
    ),
    "unknown id submitted": (
        resolved_case({"A.json": {"resolved": [], "submitted_ids": ["i-9"]}}),
        r"A\.json: 'i-9' is not in .*q\.csv",
    ),
    "submitted is a number": (
        resolved_case({"A.json": {"resolved": [], "submitted_ids": 300}}),
        r"A\.json: submitted_ids is 300, not a list of ids",
    ),
    "resolved, not submitted": (
        resolved_case({"A.json": {"resolved": ["i-0", "i-1"], "submitted_ids": ["i-0"]}}),
        r"A\.json: 'i-1' is resolved, and it is among the tasks not submitted: remove it from one",
    ),
    "resolved, and a failure": (
        resolved_case({"A.run.json": {"resolved_ids": ["i-1"], "infra_failure_ids": ["i-1"], "schema_version": 2}}),
        r"A\.run\.json: 'i-1' is resolved, and it is among the tasks with a failure of the infrastructure",
    ),
    "errors that are a number": (
        resolved_case({"A.json": {"resolved_ids": [], "error_ids": 3}}),
        r"A\.json: error_ids is 3, not a list of ids",
    ),
    "two runs of a model": (
        resolved_case({f"A.{run}.json": {"resolved_ids": [], "schema_version": 2} for run in ("x", "y")}),
        r"model 'A' has two files, .*A\.x\.json and .*A\.y\.json: remove one",
    ),
    "question without an id": (
        resolved_case({"A.json": []}, "id,prompt\ni-0,p\n"),
        r"q\.csv has no column prompt_id or instance_id; it has \['id', 'prompt'\]",
    ),
    "question without a prompt": (
        resolved_case({"A.json": []}, '{"instance_id": "i-0", "problem_statement": ""}\n', "q.jsonl"),
        r"q\.jsonl, line 1 has no text in prompt or problem_statement; .* fill it in, or remove the line",
    ),
    "question twice": (
        resolved_case({"A.json": []}, "prompt_id,prompt\ni-0,p\ni-0,q\n"),
        r"q\.csv, row 2: 'i-0' stands in row 1 already",
    ),
    "no questions": (resolved_case({"A.json": []}, "\n", "q.jsonl"), r"q\.jsonl lists no question"),
    "latin-1 list": (
        lambda folder: (
            (
                (folder / "board").mkdir(),
                (folder / "board" / "A.json").write_bytes(b"caf\xe9"),
                put(folder / "q.csv", "prompt_id,prompt\ni-0,p\n"),
            )
            and (import_resolved, folder / "board", {"questions": folder / "q.csv"})
        ),
        r"A\.json is not UTF-8: save it as UTF-8$",
    ),
}


@pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_named(tmp_path, assert_refused, prepare, message):
    assert_refused(prepare(tmp_path), message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.csv", "id,prompt\n1,x\n", r"q\.csv has no column prompt_id or instance_id; it has \['id', 'prompt'\]"),
        ("q.csv", "prompt_id,text\n1,x\n", r"q\.csv has no column prompt or problem_statement; it has"),
        ("q.json", "[]", r"q\.json is of an unknown form: convert it to one of \.jsonl, \.csv, \.csv\.gz, \.parquet$"),
        ("q.jsonl", '{"prompt_id": "1", "prompt": "\\ud83e"}\n', r"q\.jsonl, line 1 holds half a surrogate pair"),
        (
            "q.jsonl",
            '{"id": 1, "prompt": "x"}\n',
            r"line 1 has no text in prompt_id or instance_id; it has \['id', 'prompt'\]: give the id one of",
        ),
        ("q.jsonl", "true\n", r"q\.jsonl, line 1 is true or false, not an object"),
    ],
)
def test_questions_at_fault(tmp_path, name, content, message):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "A.json").write_text('["1"]')
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        import_resolved(tmp_path / "lists", tmp_path / "out", questions=tmp_path / name)
    with pytest.raises(NotADirectoryError, match="is not a folder: name the one that holds a list for each model"):
        import_resolved(tmp_path / name, tmp_path / "out", questions=tmp_path / name)
