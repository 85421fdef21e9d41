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
from embedllm.datasets.encoder import encode_questions, find_encoder
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


class TestOrderFiles:
    """A folder that the package itself wrote, or the paper's release, can be imported with another encoder."""

    @pytest.fixture
    def folder(self, tmp_path, write_csv):
        rows = [["2", "B", 1], ["1", "A", 0], ["2", "A", 1]]
        (tmp_path / "in").mkdir()
        write_csv(tmp_path / "in" / "correctness.csv", [["prompt_id", "model_name", "label"], *rows])
        order = [["prompt_id", "benchmark", "category", "split", "prompt", "item"]]
        order += [[str(n), "sums", "easy", "test", f"p{n}", f"i{n}"] for n in (1, 2, 3)]
        write_csv(tmp_path / "in" / "question_order.csv", order)
        models = [["model_id", "model_name", "params_b", "family"], [0, "A", 7, "x"], [1, "B", "", "y"]]
        write_csv(tmp_path / "in" / "model_order.csv", models)
        return tmp_path / "in"

    def test_prompts_and_metadata(self, tmp_path, folder, assert_imported):
        matrix = import_long(folder, tmp_path / "out")
        models = pd.DataFrame({"params_b": [7.0, np.nan], "family": ["x", "y"]}, ["A", "B"])
        expected = expect(
            ["A", "B"], ["1", "2"], [[0, 1], [-1, 1]], ["sums"] * 2, ["p1", "p2"], category="easy", split="test",
            item=["i1", "i2"],
        )  # fmt: skip
        expected.models = models.rename_axis("model").set_axis(expected.models.index)
        assert_imported(matrix, expected, tmp_path / "out")
        assert reports(matrix) == [["questions without an answer", 1, "left out"]]

    def test_as_load_dataset_reads_the_folder(self, tmp_path, folder, assert_same):
        matrix = import_long(folder, tmp_path / "out")
        np.save(folder / "question_embeddings.npy", np.vstack([matrix.embeddings, np.ones((1, 8))]))
        assert_same(load_dataset(folder), matrix)

    @pytest.mark.parametrize("stem", ["model_order", "question_order"])
    def test_either_alone(self, tmp_path, folder, write_csv, stem):
        other = {"model_order", "question_order"} - {stem}
        (folder / f"{other.pop()}.csv").unlink()
        rows = [["2", "B", 1, "p2", "easy"], ["1", "A", 0, "p1", "easy"]]
        write_csv(folder / "correctness.csv", [["prompt_id", "model_name", "label", "prompt", "category"], *rows])
        matrix = import_long(folder, tmp_path / "out")
        assert matrix.model_names.tolist() == (["A", "B"] if stem == "model_order" else ["B", "A"])
        assert matrix.question_ids.tolist() == (["2", "1"] if stem == "model_order" else ["1", "2"])
        assert ("family" in matrix.models) == (stem == "model_order")

    def test_prompt_of_the_rows_that_differs_is_named(self, tmp_path, folder, write_csv, assert_refused):
        rows = [["1", "A", 0, "p1"], ["2", "B", 1, "another"]]
        write_csv(folder / "correctness.csv", [["prompt_id", "model_name", "label", "prompt"], *rows])
        assert_refused((import_long, folder, {}), r"prompt_id '2' stands for two prompts, 'p2' and 'another'")

    def test_what_no_order_file_lists_is_named(self, tmp_path, folder, write_csv, assert_refused):
        (folder / "model_order.csv").write_text("model_name\nA\n")
        assert_refused((import_long, folder, {}), r"row 1: model_name 'B' is not in model_order: add it there")


class TestCosts:
    @pytest.mark.parametrize(("column", "unit"), [("cost_usd", "US dollars"), ("cost_tokens", "tokens")])
    @pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
    def test_of_rows(self, tmp_path, write_csv, assert_same, column, unit, form):
        header = [*LONG, column]
        rows = [["1", "A", "own", 1, "p", "0.5"], ["2", "A", "own", 0, "q", ""], ["1", "A", "own", 1, "p", "1.5"]]
        if form == "parquet":
            pd.DataFrame(rows, columns=header).to_parquet(tmp_path / "a.parquet")
        else:
            write_csv(tmp_path / f"a.{form}", [header, *rows])
        matrix = import_long(tmp_path / f"a.{form}", tmp_path / "out")
        np.testing.assert_array_equal(matrix.costs, [[1.0, np.nan]])  # the mean of the two rows
        assert matrix.cost_unit == unit
        assert_same(load_dataset(tmp_path / "out"), matrix)

    def test_each_row_on_a_copy_of_its_question(self, tmp_path, write_csv):
        rows = [["1", "A", "own", 1, "p", 3], ["1", "A", "own", 0, "p", 5], ["1", "B", "own", 1, "p", 7]]
        write_csv(tmp_path / "a.csv", [[*LONG, "cost_usd"], *rows])
        matrix = import_long(tmp_path / "a.csv", tmp_path / "out", duplicates="rows")
        np.testing.assert_array_equal(matrix.costs, [[4, 4], [7, np.nan]])

    @pytest.mark.parametrize(
        ("columns", "cells", "message"),
        [
            (["cost_usd"], ["-1"], r"row 1: '-1' in column 'cost_usd' is not a cost"),
            (["cost_tokens"], ["many"], r"row 1: 'many' in column 'cost_tokens' is not a cost"),
            (
                ["cost_usd", "cost_tokens"],
                ["1", "1"],
                r"the columns of costs \['cost_usd', 'cost_tokens'\]: keep",
            ),
        ],
    )
    def test_malformed(self, tmp_path, write_csv, assert_refused, columns, cells, message):
        write_csv(tmp_path / "a.csv", [[*LONG, *columns], ["1", "A", "own", 1, "p", *cells]])
        assert_refused((import_long, tmp_path / "a.csv", {}), message)


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
        r"row 2: label '\?' is not a label",
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
        with pytest.raises(NotADirectoryError, match=r"nothing can be written in .*, since .*file is not a folder"):
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
        names = [load_dataset(tmp_path / folder).encoder.name for folder in ("one", "two")]
        assert names == ["enc", "sentence-transformers/all-mpnet-base-v2"]

    def test_with_a_real_encoder(self, tmp_path, monkeypatch, small_encoder):
        monkeypatch.setattr(importers, "encode_questions", encode_questions)
        monkeypatch.setattr(importers, "find_encoder", find_encoder)
        rows = [["What is two plus two?", "sums", 1], ["Who wrote Faust?", "books", 0]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ["prompt", "benchmark", "A"]))
        import_wide(tmp_path / "t.csv", tmp_path / "out", encoder=small_encoder, device="cpu")
        vectors = encode_questions([row[0] for row in rows], small_encoder, device="cpu")
        loaded = load_dataset(tmp_path / "out")
        np.testing.assert_array_equal(loaded.embeddings, vectors)
        assert loaded.encoder == (str(small_encoder), find_encoder(small_encoder).fingerprint)


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
    report = [["samples by", "1"], ["samples by other", "1"]]
    return ["lm-eval", folder / "logs", "--metric", "acc_norm", "--filter", "g"], report


def command_resolved(folder):
    put(folder / "board" / "A.json", {"resolved": [], "submitted_ids": ["i-0"]})
    put(folder / "q.csv", "prompt_id,prompt\ni-0,p\ni-1,q\n")
    return ["resolved", folder / "board", "--questions", folder / "q.csv"], [["tasks", "1"], ["questions", "1"]]


COMMANDS = [command_long, command_wide, command_lm_eval, command_resolved]


class TestCommand:
    @pytest.mark.parametrize("prepare", COMMANDS)
    def test_writes_and_says_how_to_go_on(self, tmp_path, capsys, encoded, prepare):
        arguments, report = prepare(tmp_path)
        out = tmp_path / "out"
        assert main(["import", *map(str, arguments), "--out", str(out), "--encoder", "enc", "--device", "cpu"]) == 0
        assert load_dataset(out).labels.tolist() == [[0]]
        assert encoded == [(["p"] if prepare is not command_lm_eval else ["Question?"], "enc", "cpu")]
        first, *middle, account, last = capsys.readouterr().out.splitlines()
        name = "in.csv" if prepare in (command_long, command_wide) else str(arguments[1].name)
        assert first == f"CorrectnessMatrix ({name}): 1 models x 1 questions, 1 benchmarks, 100.0% observed"
        assert last == f"data set written to {out}; load it with load_dataset({str(out)!r})"
        assert "read = 1 cells" in account
        for (what, count), line in zip(report, middle, strict=True):
            assert line.startswith(f"{count:>12}  {what}")

    @pytest.mark.parametrize("prepare", COMMANDS)
    def test_dry_run_writes_nothing(self, tmp_path, capsys, encoded, prepare):
        arguments, _ = prepare(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        assert main(["import", *map(str, arguments), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "dry run: nothing was encoded or written"
        assert (encoded, sorted(tmp_path.rglob("*"))) == ([], before)

    def test_strict(self, tmp_path, capsys, encoded):
        arguments, _ = command_long(tmp_path)
        assert main(["import", *map(str, arguments), "--out", str(tmp_path / "out"), "--strict"]) == 1
        assert capsys.readouterr().err == (
            "error: strict: 1 duplicated rows (the label of a (model, question) that was read last); 1 conflicting "
            "labels (the label of a (model, question) that was read last): correct the data, or import them without "
            "strict (--strict)\n"
        )
        assert (encoded, (tmp_path / "out").exists()) == ([], False)

    def test_strict_takes_what_is_not_observed(self, tmp_path):
        arguments, _ = command_wide(tmp_path)
        assert main(["import", *map(str, arguments), "--out", str(tmp_path / "out"), "--strict"]) == 0

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
