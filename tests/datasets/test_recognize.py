"""The format of results is recognized from what lies in a folder, or named in one sentence as unclear."""

import json

import pandas as pd
import pytest
from import_helpers import csv_bytes, put, reports, sample, write_samples

from embedllm import import_auto, load_dataset
from embedllm.__main__ import main
from embedllm.datasets.recognize import recognize

pytestmark = pytest.mark.usefixtures("encoded")

LONG = "prompt_id,model_name,category,label,prompt\n1,A,own,1,p\n"
ROUTERBENCH = ["sample_id", "prompt", "eval_name", "A", "A|model_response", "A|total_cost", "oracle_model_to_route_to"]
RECORD = {
    "schema_version": "0.3.0", "evaluation_id": "t/A/1", "model_id": "A", "evaluation_name": "t", "sample_id": "1",
    "input": {"raw": "p", "reference": ["x"]}, "evaluation": {"score": 1, "is_correct": True},
}  # fmt: skip


def lm_eval(folder):
    write_samples(folder, "A", "t", [sample(0, acc=1.0, context="p")])


def old_lm_eval(folder):
    put(folder / "pretrained__A_t.jsonl", [sample(0, acc=1.0, context="p")])
    put(folder / "results.json", {"results": {"t": {}}})


def every_eval_ever(folder):
    put(folder / "data" / "t" / "org" / "A" / "u_samples.jsonl", RECORD)
    put(folder / "data" / "t" / "org" / "A" / "u.json", {"evaluation_results": []})


def resolved(folder):
    put(folder / "A.run.json", {"resolved_ids": ["i-0"], "schema_version": 2})


def leaderboard(folder):
    put(folder / "A" / "results" / "results.json", {"resolved": ["i-0"]})
    put(folder / "A" / "metadata.yaml", "x")


def long(folder):
    put(folder / "correctness.csv", LONG)


def long_file(folder):
    put(folder / "my answers.csv", LONG)


def wide(folder):
    pd.DataFrame({"prompt": ["p"], "benchmark": ["b"], "A": [1]}).to_parquet(folder / "t.parquet")


def routerbench(folder):
    rows = [["i.0", "['p']", "mmlu", 0.25, "['x']", 0.001, "A"]]
    (folder / "routerbench_0shot.csv").write_bytes(csv_bytes(rows, ROUTERBENCH))


def inspect(folder):
    put(folder / "2026-01-01T00-00-00_t_x.json", '{"version": 2, "status": "success", "eval": {"model": "A"}}')


CASES = {
    "lm-eval": lm_eval,
    "every-eval-ever": every_eval_ever,
    "resolved": resolved,
    "long": long,
    "wide": wide,
    "inspect": inspect,
}


@pytest.mark.parametrize(
    ("form", "prepare"),
    [*CASES.items(), ("lm-eval", old_lm_eval), ("resolved", leaderboard), ("long", long_file), ("wide", routerbench)],
)
def test_form(tmp_path, form, prepare):
    prepare(tmp_path)
    put(tmp_path / "README.md", "notes")
    put(tmp_path / "notes.json", {"notes": []})
    found = recognize(tmp_path)
    assert found.form == form
    assert any(path.name in found.because for path in tmp_path.rglob("*"))


def test_imports_as_the_importer_of_the_format(tmp_path, assert_same):
    (tmp_path / "in").mkdir()
    routerbench(tmp_path / "in")
    matrix = import_auto(tmp_path / "in", tmp_path / "out", threshold=0.2)
    assert (matrix.model_names.tolist(), matrix.question_ids.tolist()) == (["A"], ["i.0"])
    assert (matrix.labels.tolist(), matrix.questions["prompt"].tolist()) == ([[1]], ["p"])
    assert matrix.costs[0, 0] == pytest.approx(0.001)
    assert_same(load_dataset(tmp_path / "out"), matrix)


@pytest.mark.filterwarnings("ignore:threshold 0.3 is above all scores")
def test_command_says_which_and_takes_its_options(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    routerbench(tmp_path / "in")
    arguments = ["import", "auto", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--threshold", "0.3"]
    assert main(arguments) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == (
        "recognized as `import wide --benchmark eval_name --ignore oracle_model_to_route_to --id sample_id`: "
        "routerbench_0shot.csv with the column A|total_cost, as RouterBench has"
    )
    assert last.startswith("data set written to")
    assert load_dataset(tmp_path / "out").labels.tolist() == [[0]]


def test_command_asks_for_what_the_format_needs(tmp_path, capsys):
    resolved(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["import", "auto", str(tmp_path), "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "recognized as `import resolved`: A.run.json" in out
    assert "the following arguments are required: --questions" in err


@pytest.mark.parametrize("first", CASES)
def test_several_are_refused(tmp_path, first):
    others = [name for name in CASES if name != first and {name, first} != {"long", "wide"}]
    for name in (first, others[0]):
        CASES[name](tmp_path)
    with pytest.raises(ValueError, match=r"has several formats, .*: name one of them, or a folder that") as caught:
        recognize(tmp_path)
    assert f"{first} (" in str(caught.value) and f"{others[0]} (" in str(caught.value)


@pytest.mark.parametrize("content", [{}, {"a.csv": "x,y\n1,2\n"}, {"b.json": json.dumps({"resolved": 3})}])
def test_none_is_said(tmp_path, content):
    for name, text in content.items():
        put(tmp_path / name, text)
    with pytest.raises(
        ValueError, match=r"has no format that is recognized: name the format \(`import wide`, `long`, "
    ):
        recognize(tmp_path)


def test_unknown_options_are_refused_as_ever(tmp_path, capsys):
    long(tmp_path)
    for form in ("long", "auto"):
        with pytest.raises(SystemExit) as caught:
            main(["import", form, str(tmp_path), "--out", str(tmp_path / "out"), "--treshold", "1"])
        assert caught.value.code == 2
        assert "unrecognized arguments: --treshold 1" in capsys.readouterr().err


def test_reports_are_those_of_the_format(tmp_path):
    (tmp_path / "in").mkdir()
    lm_eval(tmp_path / "in")
    assert reports(import_auto(tmp_path / "in", tmp_path / "out"))[0] == ["samples by acc", 1, "t"]
