"""A CSV file read in parts, whose ends are guessed, has the rows that the csv module finds in it."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedllm.datasets.formats import _csv as csvparts
from embedllm.datasets.formats._csv import Malformed, csv_tables

HEADER = ["a", "b", "c"]

# Texts that look like rows, or hide where one ends.
tricky = st.lists(st.sampled_from(["1,2,3\n", "\n", "\n4,5,6\n7,8,9\n", '"', '""', ",", "x", "\r\n", "ü"]), max_size=6)
texts = st.one_of(st.sampled_from(["1", "", "22", "plain text"]), tricky.map("".join))


def write(path: Path, rows: list[list[str]], quoting: int = csv.QUOTE_MINIMAL) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows([HEADER, *rows])
    path.write_bytes(text.getvalue().encode())


def read(path: Path, columns: list[str]) -> list[dict[str, str]]:
    return [row for table in csv_tables(path, HEADER, columns) for row in table.to_pylist()]


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=40),
    part=st.integers(8, 300),
    block=st.sampled_from([16, 64, 1 << 20]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@example(rows=[["0", "0", "\n1,2,3\n4,5,6\n7,8,9\n" * 9], ["1", "1", "end"]], part=40, block=64, quoting=csv.QUOTE_ALL)
def test_any_parts_of_any_rows(rows, part, block, quoting):
    if quoting == csv.QUOTE_MINIMAL:
        rows = [[text.replace("\r", "") for text in row] for row in rows]  # a lone one ends a line unless quoted
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvparts, "_PART", part)
        patch.setattr(csvparts, "_WINDOW", 4 * part)
        patch.setattr(csvparts, "_BLOCK", block)
        path = Path(folder) / "t.csv"
        write(path, rows, quoting)
        assert read(path, ["c", "a"]) == [{"c": c, "a": a} for a, _, c in rows]


@pytest.fixture
def in_parts(monkeypatch):
    """Read in parts of 100 bytes, and count the files that were read on in one go."""
    monkeypatch.setattr(csvparts, "_PART", 100)
    calls = []
    read_rest = csvparts._read_rest

    def counted(path, header, columns, start, n_rows):
        calls.append((start, n_rows))
        return read_rest(path, header, columns, start, n_rows)

    monkeypatch.setattr(csvparts, "_read_rest", counted)
    return calls


def test_plain_rows_are_read_in_parts_to_the_end(tmp_path, in_parts):
    write(tmp_path / "t.csv", [[str(number), "x", "two\nlines"] for number in range(200)])
    assert [row["a"] for row in read(tmp_path / "t.csv", ["a"])] == [str(number) for number in range(200)]
    assert in_parts == []


def test_wrong_guess_costs_only_the_parts_behind_it(tmp_path, in_parts):
    rows = [[str(number), "x", "y"] for number in range(100)]
    rows[60][2] = "\n1,2,3\n4,5,6\n7,8,9\n" * 20
    write(tmp_path / "t.csv", rows)
    assert [row["a"] for row in read(tmp_path / "t.csv", ["a"])] == [str(number) for number in range(100)]
    ((start, n_rows),) = in_parts
    assert 0 < n_rows <= 60
    assert start > 0


@pytest.mark.parametrize("row", [1, 50, 99, 100])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("5,6\n", "row {} has 2 fields, the header 3: quote texts"),
        ("5,6,7,8\n", "row {} has 4 fields, the header 3: quote texts"),
        ('5,6,"7\n', "row {}: the text in quotes does not end: the file was cut short, or a quote is unpaired"),
    ],
)
def test_fault_is_named_by_its_row_in_the_file(tmp_path, in_parts, row, fault, message):
    lines = [f"{number},x,y\n" for number in range(1, 101)]
    lines[row - 1] = fault
    (tmp_path / "t.csv").write_text("a,b,c\n" + "".join(lines))
    with pytest.raises(Malformed, match=f"t\\.csv, {message.format(row)}"):
        read(tmp_path / "t.csv", ["a"])


def test_rows_before_a_fault_were_handed_on(tmp_path, in_parts):
    (tmp_path / "t.csv").write_text("a,b,c\n" + "1,2,3\n" * 100 + "1,2\n")
    tables = csv_tables(tmp_path / "t.csv", HEADER, ["a"])
    assert next(tables).to_pydict()["a"][0] == "1"
    with pytest.raises(Malformed, match="row 101"):
        list(tables)


def test_row_larger_than_every_part_and_block(tmp_path, in_parts, monkeypatch):
    monkeypatch.setattr(csvparts, "_BLOCK", 64)
    write(tmp_path / "t.csv", [["1", "x" * 5_000, "y"], ["2", "z\n" * 5_000, "y"], *[["3", "", ""]] * 50])
    assert [row["a"] for row in read(tmp_path / "t.csv", ["a"])] == ["1", "2", *["3"] * 50]
