"""Tables are read as text, in bounded memory, and what is wrong with one is named."""

import csv
import gzip
import io
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedllm._support.files import reading_limits
from embedllm.datasets.formats import _tables as tables
from embedllm.datasets.formats._tables import Malformed, find_table, read_header, read_rows, read_table


def rows_of(path, columns=("a", "b")):
    return [row for rows in read_rows(path, list(columns)) for row in rows.columns.to_pylist()]


@pytest.fixture
def table(tmp_path):
    """Return the function that writes bytes to a file of a given name."""

    def write(data: bytes, name: str = "t.csv"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


# Texts that look like rows, or that a reader of blocks could cut or join.
pieces = st.sampled_from(["1,2,3\n", "\n", "\r", "\r\n", "\n4,5,6\n7,8,9\n", '"', '""', ",", "x", "ü", "NA", " " * 40])
texts = st.lists(pieces, max_size=6).map("".join)


@settings(max_examples=400, deadline=None)
@given(
    rows=st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=40),
    block=st.sampled_from([16, 17, 64, 101, 1 << 20]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    newline=st.sampled_from(["\n", "\r\n"]),
    compressed=st.booleans(),
)
@example([["0", "0", "\r\n" * 300], ["1", "1", "end"]], 64, csv.QUOTE_ALL, "\n", False)
def test_the_rows_are_those_of_the_csv_module(rows, block, quoting, newline, compressed):
    if quoting == csv.QUOTE_MINIMAL:
        # By itself the csv module leaves a lone carriage return bare, where it ends a line.
        rows = [[text.replace("\r", "") for text in row] for row in rows]
    stream = io.StringIO()
    csv.writer(stream, lineterminator=newline, quoting=quoting).writerows([["a", "b", "c"], *rows])
    data = stream.getvalue().encode()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_BLOCK", block)
        path = Path(folder, "t.csv.gz" if compressed else "t.csv")
        path.write_bytes(gzip.compress(data) if compressed else data)
        assert rows_of(path, ["c", "a"]) == [{"c": c, "a": a} for a, _, c in rows]


PLAIN = 'a,b\n1,"two\nlines"\nNA,"commas, and ""quotes"""\n007,提示🦙\n'


class TestSameText:
    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    @pytest.mark.parametrize("end", ["", "newline", "blank lines"])
    def test_encodings_and_line_ends(self, table, name, encoding, newline, end):
        text = PLAIN.rstrip("\n").replace("two\nlines", "TWO").replace("\n", newline).replace("TWO", "two\nlines")
        data = (text + {"": "", "newline": newline, "blank lines": newline * 3}[end]).encode(encoding)
        path = table(gzip.compress(data) if name.endswith("gz") else data, name)
        expected = [("1", "two\nlines"), ("NA", 'commas, and "quotes"'), ("007", "提示🦙")]
        assert [tuple(row.values()) for row in rows_of(path)] == expected
        assert read_table(path).to_numpy().tolist() == [list(row) for row in expected]

    def test_order_of_the_columns_and_others_do_not_count(self, table):
        path = table(b",c,b,,a\n0,x,2,,1\n1,\xff,4,,3\n")
        assert rows_of(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]

    def test_parquet_of_any_type(self, table, tmp_path):
        frame = pd.DataFrame(
            {"a": [7, 1000000007, -1], "b": [True, None, False], "c": pd.Categorical(["x", "y", "NA"])}
        )
        frame.to_parquet(tmp_path / "t.parquet")
        read = read_table(tmp_path / "t.parquet").to_numpy().tolist()
        assert read == [["7", "true", "x"], ["1000000007", "", "y"], ["-1", "false", "NA"]]

    @pytest.mark.parametrize("rows", [1, 2, 100])
    @pytest.mark.parametrize("block", [16, 100, 1 << 20])
    def test_groups_and_blocks_change_nothing(self, table, monkeypatch, rows, block):
        monkeypatch.setattr(tables, "_ROWS", rows)
        monkeypatch.setattr(tables, "_BLOCK", block)
        # Some rows are longer than a block, so that reading starts again with larger ones.
        texts = ["x" * (5 * number**3) + "\n," * (number % 2) for number in range(12)]
        path = table(("a,b\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(texts))).encode())
        groups = list(read_rows(path, ["a", "b"]))
        assert [row["b"] for group in groups for row in group.columns.to_pylist()] == texts
        assert [row["a"] for group in groups for row in group.columns.to_pylist()] == [str(i) for i in range(12)]
        first = 1
        for group in groups:
            assert group.first == first
            first += len(group.columns)

    def test_large_texts_make_smaller_groups(self, table, monkeypatch):
        monkeypatch.setattr(tables, "_BYTES", 10_000)
        path = table(("a,b\n" + f"1,{'x' * 3_000}\n" * 1_000).encode())
        pd.DataFrame({"a": ["1"] * 10_000, "b": ["x" * 3_000] * 10_000}).to_parquet(path.with_name("p.parquet"))
        for file, n_rows in ((path, 1_000), (path.with_name("p.parquet"), 10_000)):
            groups = [len(rows.columns) for rows in read_rows(file, ["a", "b"])]
            assert sum(groups) == n_rows
            assert max(groups) < 5_000


MALFORMED = {
    "empty": (b"", r"t\.csv is empty: its first line must name the columns"),
    "blank line only": (b"\n", r"t\.csv is empty"),
    "no such column": (b"a,c\n1,2\n", r"t\.csv has no column 'b'; it has \['a', 'c'\]"),
    "semicolons": (
        b"a;b\n1;2\n",
        r"t\.csv has semicolons between its columns, .*: convert it, such as with pandas\.read_csv",
    ),
    "tabs": (b"a\tb\n1\t2\n", r"t\.csv has tabs between its columns"),
    "JSON": (b'{"a": 1, "b": 2}\n', r"t\.csv holds JSON, and a table is needed: rename it to \.jsonl, and import it"),
    "column in another case": (b"a,B \n1,2\n", r"t\.csv has no column 'b'; it has \['a', 'B '\]: rename 'B ' to 'b'"),
    "column twice": (b"a,b,a\n1,2,3\n", r"t\.csv has more than one column 'a': remove or rename one"),
    "field too many": (b"a,b\n1,2\n3,4,5\n", r"t\.csv, row 2 has 3 fields, the header 2: quote texts that hold commas"),
    "field too many, not UTF-8": (b"a,b\n1,2\n3,\xa5,5\n", r"t\.csv, row 2 has 3 fields, the header 2: quote texts"),
    "field too few": (b'a,b\n"1\n",2\n3\n', r"t\.csv, row 2 has 1 fields, the header 2: .*that the file was not cut"),
    "latin-1": (b"a,b\n1,\xe9t\xe9\n", r"t\.csv is not UTF-8: save it as UTF-8"),
    "latin-1 in the header": (b"a,b,\xe9\n1,2,3\n", r"t\.csv is not UTF-8: save it as UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), r"t\.csv is not UTF-8: save it as UTF-8"),
    "unpaired quote": (b'a,b\n1,2\n3,"4\n5,6\n', r"t\.csv, row 2: the text in quotes does not end: the file was cut"),
    "unpaired quote, last column unread": (b'a,b,c\n1,2,"\n3,4,5\n', r"t\.csv, row 1: the text in quotes does not end"),
    "cut inside a row": (b"a,b\n1,2\n3", r"t\.csv, row 2 has 1 fields, the header 2"),
}


class TestMalformed:
    @pytest.mark.parametrize(("data", "message"), MALFORMED.values(), ids=MALFORMED)
    @pytest.mark.parametrize("compressed", [False, True])
    def test_csv(self, table, data, message, compressed):
        path = table(gzip.compress(data), "t.csv.gz") if compressed else table(data)
        with pytest.raises(Malformed, match=message.replace(r"t\.csv", r"t\.csv\.gz") if compressed else message):
            rows_of(path)

    def test_a_row_is_counted_over_groups(self, table, monkeypatch):
        monkeypatch.setattr(tables, "_ROWS", 2)
        with pytest.raises(Malformed, match=r"row 6 has 3 fields"):
            rows_of(table(b"a,b\n" + b'1,"2\n"\n' * 5 + b"1,2,3\n"))

    @pytest.mark.parametrize("row", [1, 50, 99, 100])
    @pytest.mark.parametrize("block", [64, 1 << 20])
    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("5,6\n", "row {} has 2 fields, the header 3: quote texts"),
            ("5,6,7,8\n", "row {} has 4 fields, the header 3: quote texts"),
            ('5,6,"7\n', "row {}: the text in quotes does not end: the file was cut short, or a quote is unpaired"),
        ],
    )
    def test_fault_is_named_by_its_row(self, table, monkeypatch, row, block, fault, message):
        monkeypatch.setattr(tables, "_BLOCK", block)
        lines = [f"{number},x,y\n" for number in range(1, 101)]
        lines[row - 1] = fault
        with pytest.raises(Malformed, match=f"t\\.csv, {message.format(row)}"):
            rows_of(table(("a,b,c\n" + "".join(lines)).encode()), ["a"])

    def test_row_that_fits_into_no_block(self, table, monkeypatch):
        monkeypatch.setattr(tables, "_BLOCK", 16)
        path = table(b"a,b\n1,2\n3," + b"x" * 200 + b"\n")
        with (
            reading_limits(row=64),
            pytest.raises(Malformed, match=r"t\.csv, row 2 or a later one: a row or a line of more than 64 bytes"),
        ):
            rows_of(path)
        assert len(rows_of(path)) == 2

    def test_rows_before_a_fault_are_handed_on(self, table, monkeypatch):
        monkeypatch.setattr(tables, "_BLOCK", 64)
        monkeypatch.setattr(tables, "_ROWS", 10)
        groups = read_rows(table(b"a,b,c\n" + b"1,2,3\n" * 100 + b"1,2\n"), ["a"])
        assert next(groups).columns["a"][0].as_py() == "1"
        with pytest.raises(Malformed, match="row 101"):
            list(groups)

    @pytest.mark.parametrize("keep", [0, 1, 10, 15, 30, -1, -5, -8, -9])
    def test_gzip_cut_short(self, table, keep):
        data = gzip.compress(PLAIN.encode() * 20)[:keep]
        with pytest.raises(Malformed, match=r"t\.csv\.gz is (not a complete \.gz file|empty)"):
            rows_of(table(data, "t.csv.gz"))

    def test_no_gzip(self, table):
        with pytest.raises(Malformed, match=r"t\.csv\.gz is not a complete \.gz file \(Not a gzipped file"):
            rows_of(table(b"a,b\n1,2\n", "t.csv.gz"))

    @pytest.mark.parametrize("keep", [0, 3, 50, -1, -30])
    def test_parquet_cut_short(self, table, tmp_path, keep):
        pd.DataFrame({"a": range(50), "b": "x"}).to_parquet(tmp_path / "whole.parquet")
        with pytest.raises(Malformed, match=r"t\.parquet cannot be read"):
            rows_of(table((tmp_path / "whole.parquet").read_bytes()[:keep], "t.parquet"))

    def test_parquet_of_lists(self, tmp_path):
        pd.DataFrame({"a": [[1], [2]], "b": "x"}).to_parquet(tmp_path / "t.parquet")
        with pytest.raises(Malformed, match=r"t\.parquet cannot be read: Unsupported cast from list"):
            rows_of(tmp_path / "t.parquet")

    def test_missing_column_of_a_parquet(self, tmp_path):
        pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")
        with pytest.raises(Malformed, match=r"t\.parquet has no column 'b'; it has \['a'\]"):
            rows_of(tmp_path / "t.parquet")

    @pytest.mark.parametrize("name", ["t.CSV", "t.xlsx", "t", "csv"])
    def test_unknown_form(self, table, name):
        message = rf"{name} is of an unknown form: convert it to one of \.csv, \.csv\.gz, \.parquet, and name it so"
        with pytest.raises(Malformed, match=message):
            rows_of(table(b"a,b\n1,2\n", name))

    def test_missing_file(self, tmp_path):
        with pytest.raises(Malformed, match=r"none\.csv cannot be read: .*No such file"):
            rows_of(tmp_path / "none.csv")


def test_header_only_is_no_row(table):
    for data in (b"a,b", b"a,b\n", b"\xef\xbb\xbfa,b\r\n"):
        assert rows_of(table(data)) == []
        assert read_table(table(data)).empty
        assert read_header(table(data), ["b"]) == ["a", "b"]


def test_unnamed_columns_stay_out(table):
    assert list(read_table(table(b",a,Unnamed: 1,b\n0,1,2,3\n"))) == ["a", "b"]


def test_find_table(tmp_path, table):
    assert find_table(tmp_path, "t") is None
    path = table(b"", "t.csv.gz")
    assert find_table(tmp_path, "t") == path
    table(b"", "t.parquet")
    with pytest.raises(ValueError, match=r"holds both t\.csv\.gz and t\.parquet: remove one of them"):
        find_table(tmp_path, "t")
