"""What all importers share: the data set that they write, what they refuse, and the command line."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from import_helpers import NAMES, TEXTS, csv_bytes, expect, put, reports, sample, write_samples

from embedllm import load_dataset
from embedllm.__main__ import main
from embedllm.datasets import importers
from embedllm.datasets.encoder import encode_questions
from embedllm.datasets.importers import import_lm_eval, import_long, import_resolved, import_wide

pytestmark = pytest.mark.usefixtures("encoded")


LONG = ["prompt_id", "model_name", "category", "label", "prompt"]


def long_rows(seed=0):
    """Answers of all models to all texts but for some, with ids in no sorted order."""
    rng = np.random.default_rng(seed)
    categories = ["mmlu_law", "piqa", "own"]
    return [
        [7 * (len(TEXTS) - number), model, categories[number % 3], int(rng.integers(0, 2)), text]
        for number, text in enumerate(TEXTS)
        for model in NAMES
        if (number + len(model)) % 4
    ]


def long_expected(rows, **more):
    ids, models = (list(dict.fromkeys(str(row[column]) for row in rows)) for column in (0, 1))
    labels = pd.DataFrame(-1, models, ids)
    for row in rows:
        labels.loc[row[1], str(row[0])] = row[3]
    facts = {str(row[0]): row for row in rows}
    categories = [facts[name][2] for name in ids]
    benchmarks = [{"mmlu_law": "MMLU", "piqa": "PIQA"}.get(name, name) for name in categories]
    prompts = [facts[name][4] for name in ids]
    return expect(models, ids, labels.to_numpy(), benchmarks, prompts, category=categories, **more)


class TestLong:
    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
    def test_one_file(self, tmp_path, write_csv, assert_imported, name):
        rows = long_rows()
        if name.endswith("parquet"):
            pd.DataFrame(rows, columns=LONG).to_parquet(tmp_path / name)
        else:
            write_csv(tmp_path / name, [["", *LONG], *([number, *row] for number, row in enumerate(rows))])
        matrix = import_long(tmp_path / name, tmp_path / "out")
        assert_imported(matrix, long_expected(rows), tmp_path / "out")
        assert (matrix.source, reports(matrix)) == (name, [])

    def test_folder_of_a_split(self, tmp_path, write_csv, assert_imported):
        rows = [[number, model, "own", 1, f"p{number}"] for number in range(6) for model in ("A", "B")]
        (tmp_path / "in").mkdir()
        for number, part in enumerate(("train", "val", "test")):
            write_csv(tmp_path / "in" / f"{part}.csv", [LONG, *rows[4 * number : 4 * number + 4]])
        matrix = import_long(tmp_path / "in", tmp_path / "out")
        split = ["train"] * 2 + ["val"] * 2 + ["test"] * 2
        assert_imported(matrix, long_expected(rows, split=split), tmp_path / "out")

    @pytest.mark.parametrize(("duplicates", "label"), [("majority", 0), ("any", 1), ("last", 0)])
    def test_duplicates(self, tmp_path, write_csv, duplicates, label):
        rows = [["1", "A", "own", value, "text"] for value in (1, 0, 0)]
        write_csv(tmp_path / "a.csv", [LONG, *rows])
        matrix = import_long(tmp_path / "a.csv", tmp_path / "out", duplicates=duplicates)
        assert matrix.labels.tolist() == [[label]]
        assert [row[:2] for row in reports(matrix)] == [["duplicated rows", 2], ["conflicting labels", 1]]

    def test_tied_question_is_left_out(self, tmp_path, write_csv, assert_same):
        rows = [["1", "A", "own", 1, "tie"], ["1", "A", "own", 0, "tie"], ["2", "A", "own", 1, "fine"]]
        write_csv(tmp_path / "a.csv", [LONG, *rows])
        matrix = import_long(tmp_path / "a.csv", tmp_path / "out")
        assert_same(matrix, long_expected(rows[2:]))
        assert_same(load_dataset(tmp_path / "out"), matrix)
        assert ["questions without an answer", 1, "left out"] in reports(matrix)


def long_case(header, *rows, name="a.csv", **options):
    def prepare(folder):
        data = csv_bytes(rows, header)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        return import_long, folder / name, options

    return prepare


MALFORMED = {
    "no prompt column": (long_case(LONG[:4], [1, "A", "own", 1]), r"a\.csv has no column 'prompt'; it has"),
    "no category": (
        long_case(["prompt_id", "model_name", "label", "prompt"], [1, "A", 1, "p"]),
        r"a\.csv has no column 'category'",
    ),
    "label": (
        long_case(LONG, [1, "A", "own", 1, "p"], [2, "A", "own", "?", "q"]),
        r"row 2: label '\?' is neither",
    ),
    "empty model": (long_case(LONG, [1, "", "own", 1, "p"]), r"row 1: the model_name is empty"),
    "empty id": (
        long_case(LONG, [1, "A", "own", 1, "p"], ["", "A", "own", 1, "p"]),
        r"row 2: the prompt_id is empty",
    ),
    "two prompts": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "B", "own", 1, "q"], name="a.csv.gz"),
        r"a\.csv\.gz: prompt_id '1' stands for two prompts, 'p' and 'q'",
    ),
    "empty prompt": (long_case(LONG, [1, "A", "own", 1, " "]), r"a\.csv: the prompt of question '1' is empty"),
    "two benchmarks": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "B", "piqa", 1, "p"]),
        r"question '1' belongs to benchmark 'PIQA' here, and to 'own' elsewhere",
    ),
    "duplicates": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "A", "own", 1, "p"], duplicates="error"),
        r"model 'A' has 2 rows on question '1'",
    ),
    "only ties": (
        long_case(LONG, [1, "A", "own", 1, "p"], [1, "A", "own", 0, "p"]),
        r"a\.csv holds no answer that was observed",
    ),
    "header only": (long_case(LONG), r"a\.csv: no answer in it"),
}


@pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_named(tmp_path, assert_refused, prepare, message):
    assert_refused(prepare(tmp_path), message)


OK = "prompt,benchmark,A\np,b,1\n"


class TestFolder:
    @pytest.mark.parametrize("importer", [import_long, import_wide, import_lm_eval, import_resolved])
    def test_what_is_there_is_not_overwritten(self, tmp_path, encoded, importer):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        options = {"questions": "q.csv"} if importer is import_resolved else {}
        # The source does not exist: it is not looked at.
        with pytest.raises(FileExistsError, match=r"out exists already: name a new folder, or remove it first"):
            importer(tmp_path / "nothing", tmp_path / "out", **options)
        assert (tmp_path / "out" / "mine").read_text() == "mine"
        assert encoded == []

    def test_empty_folder_is_filled(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "t.csv").write_text(OK)
        import_wide(tmp_path / "t.csv", tmp_path / "out")
        assert load_dataset(tmp_path / "out").labels.tolist() == [[1]]

    def test_encoder_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(*arguments, **options):
            raise ConnectionError("no encoder")

        monkeypatch.setattr(importers, "encode_questions", fail)
        (tmp_path / "t.csv").write_text(OK)
        with pytest.raises(ConnectionError, match="no encoder"):
            import_wide(tmp_path / "t.csv", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]

    def test_parent_that_is_a_file_is_found_first(self, tmp_path, encoded):
        (tmp_path / "file").touch()
        (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\n")
        with pytest.raises(NotADirectoryError, match=r"out cannot be made, since .*file is no folder"):
            import_wide(tmp_path / "a.csv", tmp_path / "file" / "out")
        assert encoded == []

    def test_parents_that_were_made_are_removed_again(self, tmp_path, monkeypatch):
        (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\n")
        monkeypatch.setattr("numpy.save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_wide(tmp_path / "a.csv", tmp_path / "x" / "y" / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]

    def test_encoder_and_device_are_handed_on(self, tmp_path, encoded):
        (tmp_path / "t.csv").write_bytes(csv_bytes([["p", "b", 1]], ["prompt", "benchmark", "A"]))
        import_wide(tmp_path / "t.csv", tmp_path / "one", encoder="enc", device=["cuda:0"])
        import_wide(tmp_path / "t.csv", tmp_path / "two")
        assert [call[1:] for call in encoded] == [
            ("enc", ["cuda:0"]),
            ("sentence-transformers/all-mpnet-base-v2", "auto"),
        ]

    def test_with_a_real_encoder(self, tmp_path, monkeypatch, small_encoder):
        monkeypatch.setattr(importers, "encode_questions", encode_questions)
        rows = [["What is two plus two?", "sums", 1], ["Who wrote Faust?", "books", 0]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ["prompt", "benchmark", "A"]))
        import_wide(tmp_path / "t.csv", tmp_path / "out", encoder=small_encoder, device="cpu")
        vectors = encode_questions([row[0] for row in rows], small_encoder, device="cpu")
        np.testing.assert_array_equal(load_dataset(tmp_path / "out").embeddings, vectors)


@pytest.mark.parametrize("importer", [import_long, import_wide, import_lm_eval, import_resolved])
def test_source_that_is_missing(tmp_path, assert_refused, importer):
    options = {"questions": "q.csv"} if importer is import_resolved else {}
    assert_refused((importer, tmp_path / "nothing", options), "nothing does not exist")


def command_long(folder):
    (folder / "in.csv").write_bytes(csv_bytes([[1, "A", "own", 1, "p"], [1, "A", "own", 0, "p"]], LONG))
    return ["long", folder / "in.csv", "--duplicates", "last"], [["duplicated", "1"], ["conflicting", "1"]]


def command_wide(folder):
    (folder / "in.csv").write_text("key,Q,set,A,x,y\na,p,b,0,?,?\nb,q,b,,?,?\n")
    options = ["--prompt", "Q", "--benchmark", "set", "--id", "key", "--ignore", "x", "--ignore", "y"]
    return ["wide", folder / "in.csv", *options], [["questions", "1"]]


def command_lm_eval(folder):
    lines = [sample(0, filter=name, acc_norm=0.0, f=name == "g") for name in ("g", "h")]
    write_samples(folder / "logs", "A", "t", lines)
    return ["lm-eval", folder / "logs", "--metric", "acc_norm", "--filter", "g"], []


def command_resolved(folder):
    put(folder / "board" / "A.json", {"resolved": [], "submitted_ids": ["i-0"]})
    put(folder / "q.csv", "prompt_id,prompt\ni-0,p\ni-1,q\n")
    return ["resolved", folder / "board", "--questions", folder / "q.csv"], [["questions", "1"], ["questions", "1"]]


COMMANDS = [command_long, command_wide, command_lm_eval, command_resolved]


class TestCommand:
    @pytest.mark.parametrize("prepare", COMMANDS)
    def test_writes_and_says_how_to_go_on(self, tmp_path, capsys, encoded, prepare):
        arguments, report = prepare(tmp_path)
        out = tmp_path / "out"
        assert main(["import", *map(str, arguments), "--out", str(out), "--encoder", "enc", "--device", "cpu"]) == 0
        assert load_dataset(out).labels.tolist() == [[0]]
        assert encoded == [(["p"] if prepare is not command_lm_eval else ["Question?"], "enc", "cpu")]
        first, *middle, last = capsys.readouterr().out.splitlines()
        name = "in.csv" if prepare in (command_long, command_wide) else str(arguments[1].name)
        assert first == f"CorrectnessMatrix ({name}): 1 models x 1 questions, 1 benchmarks, 100.0% observed"
        assert last == f"data set written to {out}; load it with load_dataset({str(out)!r})"
        assert len(middle) == (len(report) + 1 if report else 0)
        for (what, count), line in zip(report, middle[1:], strict=True):
            assert what in line
            assert f" {count} " in line

    def test_defaults_are_those_of_the_importer(self, tmp_path, encoded):
        (tmp_path / "t.csv").write_text(OK)
        assert main(["import", "wide", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")]) == 0
        assert encoded == [(["p"], "sentence-transformers/all-mpnet-base-v2", "auto")]

    @pytest.mark.parametrize("form", ["long", "wide", "lm-eval", "resolved"])
    def test_one_line_about_a_bad_input(self, tmp_path, capsys, form):
        more = ["--questions", "q.csv"] if form == "resolved" else []
        source, out = str(tmp_path / "nothing"), str(tmp_path / "out")
        assert main(["import", form, source, "--out", out, *more]) == 1
        assert capsys.readouterr() == ("", f"error: {source} does not exist\n")
        assert not Path(out).exists()

    @pytest.mark.parametrize("arguments", [["wide", "t.csv"], ["resolved", "b", "--out", "o"], ["tall", "t"], []])
    def test_usage(self, arguments, capsys):
        with pytest.raises(SystemExit) as caught:
            main(["import", *arguments])
        assert caught.value.code == 2
        assert "usage: python -m embedllm import" in capsys.readouterr().err

    def test_help_needs_no_library(self):
        code = "import sys; from embedllm.__main__ import main\ntry:\n    main(['import', '--help'])\n"
        code += "except SystemExit:\n    assert not {'numpy', 'pandas', 'torch', 'pyarrow'} & set(sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
