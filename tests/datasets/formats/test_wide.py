"""Tables with a column for each model become the data set they stand for, or one sentence that says why not."""

import csv
import gzip
import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_helpers import NAMES, PUT_TOGETHER, SHARED, TEXTS, csv_bytes, expect, reports

from embedllm import load_dataset
from embedllm.datasets.importers import import_wide

pytestmark = pytest.mark.usefixtures("encoded")


SPELLINGS = {1: ["1", "1.0", "true", "True", "TRUE", " 1 "], 0: ["0", "0.0", "false", "False"], -1: ["", " "]}
COLUMNS = ("prompt_id", "benchmark", "prompt", "", "category", "item", "split")


names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)).filter(
    lambda name: name.strip() and name not in (*COLUMNS, "overall") and not name.startswith("Unnamed:")
)
texts = st.one_of(st.sampled_from(TEXTS[:-1]), st.text(st.characters(codec="utf-8"), max_size=30)).filter(str.strip)


@st.composite
def pools(draw):
    models = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    n_questions = draw(st.integers(1, 6))
    ids = draw(st.lists(names, min_size=n_questions, max_size=n_questions, unique=True))
    cells = st.lists(st.sampled_from([-1, 0, 1]), min_size=len(models), max_size=len(models)).filter(
        lambda row: max(row) >= 0
    )
    labels = [draw(cells) for _ in ids]
    return models, ids, labels, [draw(texts) for _ in ids], [draw(texts.filter(lambda t: t != "overall")) for _ in ids]


class TestWide:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pool=pools(),
        form=st.sampled_from(["csv", "csv.gz", "parquet"]),
        windows=st.booleans(),
        index=st.booleans(),
        with_ids=st.booleans(),
        seed=st.integers(0, 99),
    )
    def test_any_table_comes_back(self, assert_same, pool, form, windows, index, with_ids, seed):
        models, ids, labels, prompts, benchmarks = pool
        rng = np.random.default_rng(seed)
        columns = {"prompt": prompts, "benchmark": benchmarks}
        if with_ids:
            columns["prompt_id"] = ids
        for number, model in enumerate(models):
            columns[model] = [str(rng.choice(SPELLINGS[row[number]])) for row in labels]
        order = rng.permutation(len(columns))
        header = [list(columns)[number] for number in order]
        rows = [[columns[name][row] for name in header] for row in range(len(ids))]
        if index:
            header, rows = ["", *header], [[str(number), *row] for number, row in enumerate(rows)]
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder, f"t.{form}"), Path(folder, "out")
            if form == "parquet":
                pd.DataFrame(rows, columns=header, dtype=str).to_parquet(path)
            else:
                stream = io.StringIO()
                # All quoted: of itself the csv module leaves a lone carriage return bare.
                newline = "\r\n" if windows else "\n"
                csv.writer(stream, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([header, *rows])
                data = stream.getvalue().encode("utf-8-sig" if windows else "utf-8")
                path.write_bytes(gzip.compress(data) if form == "csv.gz" else data)
            matrix = import_wide(path, out)
            ordered = [name for name in header if name in models]
            cells = np.array(labels)[:, [models.index(name) for name in ordered]].T
            named = ids if with_ids else [str(number + 1) for number in range(len(ids))]
            expected = expect(ordered, named, cells, benchmarks, prompts)
            assert_same(matrix, expected)
            assert_same(load_dataset(out), expected)

    def test_other_names_of_columns(self, tmp_path, assert_imported):
        header = ["key", "Q", "set", "A", "note", "B", "prompt_id"]
        rows = [["a", TEXTS[2], "one", 1, "?", 0, "x"], ["b", TEXTS[7], "two", "", "", 1, "x"]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, header))
        matrix = import_wide(
            tmp_path / "t.csv",
            tmp_path / "out",
            encoder="enc",
            device="cpu",
            prompt_column="Q",
            benchmark_column="set",
            id_column="key",
            ignore=["note", "prompt_id"],
        )
        expected = expect(["A", "B"], ["a", "b"], [[1, -1], [0, 1]], ["one", "two"], [TEXTS[2], TEXTS[7]])
        assert_imported(matrix, expected, tmp_path / "out")

    def test_ignored_prompt_id_is_no_id(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(csv_bytes([["x", "p", "b", 1]], ["prompt_id", "prompt", "benchmark", "A"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out", ignore=["prompt_id"])
        assert matrix.question_ids.tolist() == ["1"]

    def test_numbers_and_truth_values_in_parquet(self, tmp_path):
        frame = {"prompt": ["a", "b", "c"], "benchmark": "x", "i": [1, 0, 1], "f": [1.0, np.nan, 0.0]}
        frame |= {"b": pd.array([None, True, False], dtype="boolean"), "nothing": pd.array([None] * 3, dtype="Int8")}
        pd.DataFrame(frame).to_parquet(tmp_path / "t.parquet")
        matrix = import_wide(tmp_path / "t.parquet", tmp_path / "out")
        assert matrix.labels.tolist() == [[1, 0, 1], [1, -1, 0], [-1, 1, 0], [-1, -1, -1]]
        assert reports(matrix) == [["models without an answer", 1, "kept, not observed"]]

    def test_unanswered_question_is_neither_encoded_nor_kept(self, tmp_path, assert_imported):
        rows = [["p1", "b", 1, ""], ["p2", "b", "", ""], ["p3", "b", "", 0]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ["prompt", "benchmark", "A", "B"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out")
        expected = expect(["A", "B"], ["1", "3"], [[1, -1], [-1, 0]], ["b", "b"], ["p1", "p3"])
        assert_imported(matrix, expected, tmp_path / "out")
        assert reports(matrix) == [["questions without an answer", 1, "left out"]]


class TestFactsOfQuestions:
    """`category`, `item` and `split` are no models, even if they hold 1 and 0."""

    @pytest.fixture
    def imported(self, tmp_path):
        def read(columns, **options):
            frame = pd.DataFrame({"prompt": [f"question {n}" for n in range(40)], "benchmark": "b", "A": [1, 0] * 20})
            frame.assign(**columns).to_csv(tmp_path / "t.csv", index=False)
            matrix = import_wide(tmp_path / "t.csv", tmp_path / "out", **options)
            assert matrix.model_names.tolist() == ["A"]
            return load_dataset(tmp_path / "out")

        return read

    def test_wordings_of_an_item_stay_in_one_part(self, imported):
        matrix = imported({"item": np.arange(40) % 20, "category": ["x", "y"] * 20})
        assert matrix.questions["category"].tolist() == ["x", "y"] * 20
        for seed in range(3):
            train, val, test = (set(part.questions["item"]) for part in matrix.split(random_state=seed))
            assert not train & val and not train & test and not val & test

    def test_an_item_may_hold_labels_or_nothing(self, imported):
        assert imported({"item": ["1", "0", "", ""] * 10}).questions["item"].tolist() == ["1", "0", "", ""] * 10

    def test_division_is_that_of_the_source(self, imported):
        parts = ["test", "train", "val", "train"] * 10
        train, val, test = imported({"split": parts}).split(random_state=5)
        assert [part.n_questions for part in (train, val, test)] == [20, 10, 10]
        assert test.question_ids.tolist() == [str(row + 1) for row in range(0, 40, 4)]

    def test_they_can_be_ignored_or_have_another_role(self, imported):
        columns = {"split": "dev", "category": [f"c{n % 2}" for n in range(40)]}
        matrix = imported(columns, ignore=["split", "benchmark"], benchmark_column="category")
        assert matrix.benchmark_names == ["c0", "c1"]
        assert not {"split", "category"} & set(matrix.questions)


def test_column_in_two_roles(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\ny,b,0\n")
    matrix = import_wide(tmp_path / "a.csv", tmp_path / "out", id_column="prompt")
    assert matrix.question_ids.tolist() == matrix.questions["prompt"].tolist() == ["x", "y"]


def test_prompt_that_is_its_own_benchmark(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,A\nx,1\ny,0\n")
    matrix = import_wide(tmp_path / "a.csv", tmp_path / "out", benchmark_column="prompt")
    assert matrix.benchmarks.tolist() == matrix.questions["prompt"].tolist() == ["x", "y"]


def test_needed_column_cannot_be_ignored(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,benchmark,A\nx,b,1\n")
    with pytest.raises(ValueError, match="column 'prompt' is needed: do not ignore it"):
        import_wide(tmp_path / "a.csv", tmp_path / "out", ignore=["prompt"])


def wide_case(content, name="t.csv", **options):
    def prepare(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return import_wide, folder / name, options

    return prepare


OK = "prompt,benchmark,A\np,b,1\n"
NO_LABEL = r"not a label: use 1/0 or true/false, leave it empty .*, or, .* ignore it \(ignore=\['A'\], --ignore\)"
NUMBER = r"not a label: use 1/0 or true/false, name the score .* \(threshold=\.\.\., --threshold\), leave it empty"


MALFORMED = {
    "label 2": (
        wide_case("prompt,benchmark,A\np,b,1\nq,b,2\n"),
        rf"t\.csv, row 2: '2' in column 'A' is {NUMBER}",
    ),
    "label -1": (wide_case("prompt,benchmark,A\np,b,-1\n"), rf"row 1: '-1' in column 'A' is {NUMBER}"),
    **{
        f"label {text}": (
            wide_case(f"prompt,benchmark,A\np,b,{text}\n"),
            rf"row 1: '{text}' in column 'A' is not a label: leave the cell empty if .* not observed \(pandas: to_csv",
        )
        for text in ("nan", "NaN", "None", "NA")
    },
    "no threshold that is a number": (wide_case(OK, threshold=float("nan")), r"threshold must be a number, got nan"),
    "no score": (
        wide_case("prompt,benchmark,A\np,b,good\n", threshold=0.5),
        r"row 1: 'good' in column 'A' is not a number",
    ),
    "score without a threshold": (
        wide_case("prompt,benchmark,A\np,b,1\nq,b,0.25\n"),
        r"row 2: '0\.25' .* name the score from which on an answer is correct \(threshold=\.\.\., --threshold\)",
    ),
    "a cost that is none": (
        wide_case("prompt,benchmark,A,A|total_cost\np,b,1,0.1\nq,b,1,free\n"),
        r"t\.csv, row 2: 'free' in column 'A\|total_cost' is not a cost: use a number of at least 0",
    ),
    "a cost below 0": (
        wide_case("prompt,benchmark,A,A|total_cost\np,b,1,-1\n"),
        r"row 1: '-1' in column .* is not a cost",
    ),
    "pattern that nothing matches": (wide_case(OK, ignore=["*|notes"]), r"has no column '\*\|notes'; it has"),
    "semicolons": (
        wide_case("prompt;benchmark;A\np;b;1\n"),
        r"t\.csv has semicolons between its columns, .* convert it, .* pandas\.read_csv\('t\.csv', sep=';'",
    ),
    "tabs": (wide_case("prompt\tbenchmark\tA\np\tb\t1\n"), r"t\.csv has tabs between its columns"),
    "header in another case": (
        wide_case("Prompt,benchmark,A\np,b,1\n"),
        r"no column 'prompt'; it has \['Prompt', .*: rename 'Prompt' to 'prompt', or name it \(--prompt 'Prompt'\)",
    ),
    "header with a space": (
        wide_case("prompt,Benchmark ,A\np,b,1\n"),
        r"no column 'benchmark'; .*: rename 'Benchmark ' to 'benchmark', or name it \(--benchmark 'Benchmark '\)",
    ),
    "JSON lines": (
        wide_case('{"prompt": "p", "A": 1}\n', name="t.jsonl"),
        r"t\.jsonl holds JSON, and a table is needed: convert it .*`import auto` recog",
    ),
    "JSON lines by another name": (wide_case('{"prompt": "p", "A": 1}\n'), r"t\.csv holds JSON, and a table is needed"),
    "label word": (
        wide_case('prompt,benchmark,A\n"two\nlines",b,1\np,b,correct\n'),
        rf"row 2: 'correct' in column 'A' is {NO_LABEL}",
    ),
    "no prompt column": (
        wide_case("text,benchmark,A\np,b,1\n"),
        r"t\.csv has no column 'prompt'; it has \['text', .*: add it, or name the column to take instead \(--prompt ",
    ),
    "no benchmark column": (wide_case(OK, benchmark_column="set"), r"t\.csv has no column 'set'; it has"),
    "no id column": (wide_case(OK, id_column="id"), r"t\.csv has no column 'id'; it has"),
    "no column to ignore": (wide_case(OK, ignore=["B"]), r"t\.csv has no column 'B'; it has"),
    "no model": (
        wide_case(",prompt,benchmark\n0,p,b\n"),
        r"t\.csv has no column of a model; it has \['', 'prompt', 'benchmark'\]: add",
    ),
    "all models ignored": (wide_case(OK, ignore=["A"]), r"t\.csv has no column of a model"),
    "model twice": (wide_case("prompt,benchmark,A,A\np,b,1,1\n"), r"t\.csv has more than one column 'A'"),
    "model named overall": (
        wide_case("prompt,benchmark,overall\np,b,1\n"),
        r"a model is named 'overall', as the summary row of every table: rename it",
    ),
    "id twice": (
        wide_case("prompt_id,prompt,benchmark,A\n7,p,b,1\n8,q,b,1\n7,r,b,0\n"),
        r"t\.csv, row 3: prompt_id '7' stands in row 1 already: give each question an id of its own",
    ),
    "empty id": (wide_case("prompt_id,prompt,benchmark,A\n,p,b,1\n"), r"row 1: the prompt_id is empty"),
    "empty prompt": (wide_case("prompt,benchmark,A\np,b,1\n ,b,1\n"), r"row 2: the prompt is empty: fill it in"),
    "empty category": (wide_case("prompt,benchmark,category,A\np,b,,1\n"), r"row 1: the category is empty: fill it in"),
    "unknown split": (
        wide_case("prompt,benchmark,split,A\np,b,train,1\nq,b,dev,1\n"),
        r"t\.csv, row 2: split 'dev' is none of train, val, test: correct it, or ignore the column, .*--ignore split",
    ),
    "no training question": (
        wide_case("prompt,benchmark,split,A\np,b,test,1\n"),
        r"t\.csv: no row has the split 'train': correct it, or ignore the column",
    ),
    "empty benchmark": (wide_case("prompt,benchmark,A\np,,1\n"), r"row 1: the benchmark is empty: fill it in"),
    "header only": (wide_case("prompt,benchmark,A\n"), r"t\.csv has no row below its header"),
    "nothing observed": (wide_case("prompt,benchmark,A\np,b,\n"), r"t\.csv holds no answer that was observed"),
    "latin-1": (
        wide_case("prompt,benchmark,A\ncafé,b,1\n".encode("latin-1")),
        r"t\.csv is not UTF-8: save it as UTF-8$",
    ),
    "folder": (lambda folder: (import_wide, folder, {}), r"is of an unknown form: convert it to one of"),
}


@pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_named(tmp_path, assert_refused, prepare, message):
    assert_refused(prepare(tmp_path), message)


def test_ignore_is_a_list(tmp_path):
    (tmp_path / "t.csv").write_text(OK)
    with pytest.raises(TypeError, match=r"ignore must be a list of names, got the text 'A': pass \['A'\]"):
        import_wide(tmp_path / "t.csv", tmp_path / "out", ignore="A")


ROUTERBENCH = ["sample_id", "prompt", "eval_name", "org/A-v1.2", "B", "org/A-v1.2|model_response", "B|model_response",
               "org/A-v1.2|total_cost", "B|total_cost", "oracle_model_to_route_to"]  # fmt: skip


class TestRouterBench:
    @pytest.mark.parametrize(("threshold", "labels"), [(0.25, [[1, 0], [1, 1]]), (0.3, [[1, 0], [0, 1]])])
    def test_scores_replies_and_costs(self, tmp_path, assert_same, threshold, labels):
        rows = [
            ["mmlu.1", "['What is 1?']", "mmlu", 1.0, 0.25, "['A']", "['B']", 2e-05, 0.001, "B"],
            ["mmlu.2", "[\"It's\", 'two turns']", "mmlu", 0.0, 1.0, "['A']", "['B']", "", 0.002, "B"],
        ]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ROUTERBENCH))
        options = {"id_column": "sample_id", "benchmark_column": "eval_name", "ignore": ["oracle*"]}
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out", threshold=threshold, **options)
        assert matrix.model_names.tolist() == ["org/A-v1.2", "B"]
        assert matrix.labels.tolist() == labels
        assert matrix.questions["prompt"].tolist() == ["What is 1?", "It's\ntwo turns"]
        np.testing.assert_array_equal(matrix.costs, np.array([[2e-05, np.nan], [0.001, 0.002]], np.float32))
        assert matrix.cost_unit == "US dollars"
        assert [line[:2] for line in reports(matrix)] == [
            ["columns of replies", 2],
            ["prompts that are lists as text", 2],
        ]
        assert_same(load_dataset(tmp_path / "out"), matrix)

    def test_other_tables_keep_their_lists_and_bars(self, tmp_path):
        rows = [["[1, 2]", "b", 1, 0], ["['x']", "b", 0, 1]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ["prompt", "benchmark", "A", "C|total_cost"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out")
        assert matrix.questions["prompt"].tolist() == ["[1, 2]", "['x']"]
        assert matrix.model_names.tolist() == ["A", "C|total_cost"]  # there is no model C
        assert matrix.costs is None

    def test_questions_that_share_their_text(self, tmp_path):
        rows = [["One two?", "b", 1], ["one  TWO?", "c", 0], ["three?", "b", 1]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ["prompt", "benchmark", "A"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out", strict=True)
        assert (matrix.n_questions, reports(matrix)) == (3, [[SHARED, 2, PUT_TOGETHER]])

    def test_patterns_and_names_with_brackets(self, tmp_path):
        rows = [["p", "b", 1, "x", "y", "z"]]
        (tmp_path / "t.csv").write_bytes(csv_bytes(rows, ["prompt", "benchmark", "A", "A [raw]", "A note", "B note"]))
        matrix = import_wide(tmp_path / "t.csv", tmp_path / "out", ignore=["A [raw]", "* note"])
        assert matrix.model_names.tolist() == ["A"]
