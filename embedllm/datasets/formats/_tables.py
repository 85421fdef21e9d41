"""Tables of text: CSV, gzipped CSV and Parquet, read in bounded memory, with errors that name the file and the row.

Every value is read as text, so that `NA` is a name, `007` is not 7, and the caller decides what a value means. Rows are
counted from 1, the header not included. Columns that nobody asks for are skipped unread, whatever they hold.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

FORMS = (".csv", ".csv.gz", ".parquet")

# Rows and bytes handed on at a time: enough that the work for each group does not count.
_ROWS, _BYTES = 100_000, 32 << 20

_PARQUET_ROWS = 4_096
_BLOCK = 1 << 20  # bytes of a CSV file that are parsed at a time; the fastest of those tried
_LARGEST_BLOCK = 1 << 30  # a row must fit into a block
_END = "5d0c2be87f: the end of the file"

_READ_ERRORS = (ValueError, OSError, EOFError, csv.Error, zlib.error, pa.ArrowException)


class Malformed(ValueError):
    """What is wrong with a table, and where: the message names the file."""


class Rows(NamedTuple):
    """Some consecutive rows of a table.

    Attributes
    ----------
    first : int
        Number of the first of them, counted from 1.
    columns : pyarrow.Table
        All columns are strings; a missing value is an empty one.
    """

    first: int
    columns: pa.Table


def find_table(folder: Path, stem: str) -> Path | None:
    """Return `stem.csv`, `stem.csv.gz` or `stem.parquet` of a folder, or None.

    Raises
    ------
    ValueError
        If there is more than one of them.
    """
    found = [path for form in FORMS if (path := folder / f"{stem}{form}").is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} holds both {found[0].name} and {found[1].name}: remove one of them")
    return found[0] if found else None


def read_header(path: Path, required: Iterable[str] = ()) -> list[str]:
    """Return the names of the columns.

    Raises
    ------
    Malformed
        If a required column is missing, a name occurs twice, or the file is of another form.
    """
    if not path.name.endswith(FORMS):
        raise Malformed(f"{path} is of an unknown form: convert it to one of {', '.join(FORMS)}, and name it so")
    with named(path):
        if path.suffix == ".parquet":
            columns = _parquet().read_schema(path).names
        else:
            # What stands below the header may be in any encoding as long as nobody asks for it.
            with _open(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
                columns = next(csv.reader(text), [])
            "".join(columns).encode("utf-8", "strict")
    if not any(columns):
        raise Malformed(f"{path} is empty: its first line must name the columns")
    if repeated := [column for column in columns if column and columns.count(column) > 1]:
        raise Malformed(f"{path} has more than one column {repeated[0]!r}: remove or rename one")
    if missing := [column for column in required if column not in columns]:
        raise Malformed(f"{path} has no column {missing[0]!r}; it has {columns}")
    return columns


def read_rows(path: Path, columns: list[str]) -> Iterator[Rows]:
    """Read some columns of a table, a group of rows at a time.

    Parameters
    ----------
    path : Path
        A `.csv`, `.csv.gz` (UTF-8, with or without a byte order mark) or `.parquet` file.
    columns : list of str
        In any order; each must be there.

    Raises
    ------
    Malformed
        If the file is damaged, is not UTF-8 where it is read, has a row with more or fewer fields than the header, or
        ends inside a quoted text.
    """
    groups = _read_groups(path, columns)
    # One group ahead in a thread: Arrow parses the next rows while the caller works on these.
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, groups, None)
        while (rows := following.result()) is not None:
            following = thread.submit(next, groups, None)
            yield rows


def read_table(path: Path, required: Iterable[str] = ()) -> pd.DataFrame:
    """Read a whole table as text, without columns that have no name.

    Raises
    ------
    Malformed
        As `read_header` and `read_rows` do.
    """
    columns = [name for name in read_header(path, required) if name and not name.startswith("Unnamed:")]
    parts = [rows.columns.to_pandas() for rows in read_rows(path, columns)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns, dtype=str)


def _read_groups(path: Path, columns: list[str]) -> Iterator[Rows]:
    n_columns = len(read_header(path, columns))
    first, held, n_held, n_bytes = 1, [], 0, 0
    with named(path):
        tables = _parquet_tables(path, columns) if path.suffix == ".parquet" else _csv_tables(path, n_columns, columns)
        for table in tables:
            held.append(table)
            n_held, n_bytes = n_held + len(table), n_bytes + table.nbytes
            if n_held >= _ROWS or n_bytes >= _BYTES:
                yield Rows(first, pa.concat_tables(held))
                first, held, n_held, n_bytes = first + n_held, [], 0, 0
        if n_held:
            yield Rows(first, pa.concat_tables(held))


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let what a reader raises name the file."""
    try:
        yield
    except Malformed:
        raise
    except _READ_ERRORS as error:
        if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
            raise Malformed(f"{path} is not UTF-8: save it as UTF-8") from error
        raise Malformed(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _parquet() -> ModuleType:
    import pyarrow.parquet  # which readers of CSV need not wait for

    return pyarrow.parquet


def _parquet_tables(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    with _parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
            yield pa.table({name: pc.fill_null(pc.cast(batch[name], pa.string()), "") for name in columns})


def _csv_tables(path: Path, n_columns: int, columns: list[str]) -> Iterator[pa.Table]:
    """Read a CSV file block by block; a row that does not fit into a block makes it start again with larger ones."""
    n_done, block = 0, _BLOCK
    while True:
        n_read = 0
        try:
            for table in _csv_blocks(path, n_columns, columns, block):
                n_read += len(table)
                if n_read > n_done:  # the others were handed on before
                    yield table.slice(len(table) - (n_read - n_done))
                    n_done = n_read
            return
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or block >= _LARGEST_BLOCK:
                raise
            block = min(16 * block, _LARGEST_BLOCK)


def _csv_blocks(path: Path, n_columns: int, columns: list[str], block: int) -> Iterator[pa.Table]:
    malformed: list[pa.csv.InvalidRow] = []

    def refuse(row: pa.csv.InvalidRow) -> str:
        malformed.append(row)
        return "error"

    n_read, ended = 0, False
    try:
        with _open(path) as stream:
            batches = pa.csv.open_csv(
                pa.PythonFile(_Ended(stream, n_columns), mode="r"),
                # In one thread, which is as fast on a stream, Arrow knows the number of a row.
                pa.csv.ReadOptions(block_size=block, use_threads=False),
                pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
                pa.csv.ConvertOptions(
                    include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
                ),
            )
            for batch in batches:
                ended = len(batch) > 0 and batch[0][-1].as_py() == _END
                n_read += len(batch)
                yield pa.Table.from_batches([batch.slice(0, len(batch) - ended)])
    except pa.ArrowInvalid as error:
        if not malformed:
            raise
        raise Malformed(
            f"{path}, row {malformed[0].number - 1} has {malformed[0].actual_columns} fields, the header {n_columns}: "
            f"quote texts that hold commas, quotes or line ends, and check that the file was not cut short"
        ) from error
    if not ended:
        raise Malformed(
            f"{path}, row {n_read}: the text in quotes does not end: the file was cut short, or a quote is unpaired"
        )


class _Ended:
    """A CSV file and one more row, which becomes a piece of a text if the file ends inside a quoted one."""

    def __init__(self, stream: IO[bytes], n_columns: int) -> None:
        self._stream, self._end = stream, f"\n{','.join([_END] * n_columns)}\n".encode()
        self._held, self.closed = b"", False

    def read(self, size: int) -> bytes:
        data = self._held + self._stream.read(size - len(self._held))
        room = size - len(data)
        data, self._end = data + self._end[:room], self._end[room:]
        # No piece ends with a carriage return: Arrow drops a line feed at the start of the next one, even inside a
        # quoted text (https://github.com/apache/arrow/issues/51368).
        self._held = b"\r" if len(data) > 1 and data.endswith(b"\r") else b""
        return data[:-1] if self._held else data

    def close(self) -> None:
        self.closed = True
