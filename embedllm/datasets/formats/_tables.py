"""Tables of text: CSV, gzipped CSV and Parquet, read in bounded memory, with errors that name the file and the row.

Every value is read as text, so that `NA` is a name, `007` is not 7, and what a value means is decided by who asks. Rows
are counted from 1, the header not included. Columns that nobody asks for are skipped unread, whatever they hold.
"""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from embedllm.datasets.formats._csv import Malformed, csv_tables, open_csv

FORMS = (".csv", ".csv.gz", ".parquet")

# Rows and bytes handed on at a time: enough that what is done for each group does not count.
_ROWS, _BYTES = 100_000, 32 << 20

_PARQUET_ROWS = 4_096

_READ_ERRORS = (ValueError, OSError, EOFError, csv.Error, zlib.error, pa.ArrowException)


class Rows(NamedTuple):
    """Some consecutive rows of a table.

    Attributes
    ----------
    first : int
        Number of the first of them, counted from 1.
    columns : pyarrow.Table
        All columns are strings; a value that is missing is empty.
    """

    first: int
    columns: pa.Table

    def codes(self, column: str) -> tuple[pa.Array, np.ndarray]:
        """Distinct texts of a column, and which of them stands in each row: positions, (n_rows,)."""
        values = self.columns[column].combine_chunks()
        if pc.min_max(pc.binary_length(values)).as_py() == {"min": 1, "max": 1}:
            # Single characters, as labels mostly are, need no hashing.
            first = np.frombuffer(values.buffers()[1], np.int32)[values.offset]
            characters = np.frombuffer(values.buffers()[2], np.uint8)[first : first + len(values)]
            distinct = np.flatnonzero(np.bincount(characters))
            number_of = np.zeros(256, dtype=np.int64)
            number_of[distinct] = np.arange(len(distinct))
            return pa.array([chr(character) for character in distinct]), number_of[characters]
        coded = values.dictionary_encode()
        return coded.dictionary, coded.indices.to_numpy()


class TextIndex:
    """Tells where texts stand in a list.

    Parameters
    ----------
    known : iterable of str
        The list; each text once.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = pa.array(known, pa.string())
        self._positions = np.zeros(0, dtype=np.int32)  # by number, if all texts are numbers such as 0 or 42
        self._lengths = np.zeros(0, dtype=np.int32)
        digits = pc.match_substring_regex(self._known, r"^(0|[1-9][0-9]{0,6})$")
        if len(self._known) and pc.all(digits).as_py():
            numbers = pc.cast(self._known, pa.int64()).to_numpy()
            self._positions = np.full(numbers.max() + 1, -1, dtype=np.int32)
            self._positions[numbers] = np.arange(len(numbers))
            self._lengths = np.zeros_like(self._positions)
            self._lengths[numbers] = pc.binary_length(self._known).to_numpy()

    def positions(self, texts: pa.ChunkedArray) -> np.ndarray:
        """Position of each text, -1 if it is not in the list, (n_texts,), int32."""
        values = texts.combine_chunks()  # in one piece, or the known texts are hashed anew for each
        found = self._by_number(values)
        return pc.fill_null(pc.index_in(values, self._known), -1).to_numpy() if found is None else found

    def _by_number(self, values: pa.Array) -> np.ndarray | None:
        """Positions by looking numbers up, three times as fast as by hashing texts; None if that cannot be done."""
        if not len(self._positions):
            return None
        try:
            numbers = pc.cast(values, pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            return None
        if numbers.min() < 0 or numbers.max() >= len(self._positions):
            return None
        # A text of the same value is the same text if it is as long: 007 is not 7.
        same = self._lengths[numbers] == pc.binary_length(values).to_numpy()
        return self._positions[numbers] if same.all() else None


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
        raise Malformed(f"{path} is of an unknown form: bring it as one of {', '.join(FORMS)}, and name it so")
    with named(path):
        if path.suffix == ".parquet":
            columns = _parquet().read_schema(path).names
        else:
            # What stands below the header may be in any encoding as long as nobody asks for it.
            with open_csv(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
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
    header = read_header(path, columns)
    first, held, n_held, n_bytes = 1, [], 0, 0
    with named(path):
        tables = _parquet_tables(path, columns) if path.suffix == ".parquet" else csv_tables(path, header, columns)
        for table in tables:
            held.append(table)
            n_held, n_bytes = n_held + len(table), n_bytes + table.nbytes
            if n_held >= _ROWS or n_bytes >= _BYTES:
                if n_held:
                    yield Rows(first, pa.concat_tables(held))
                first, held, n_held, n_bytes = first + n_held, [], 0, 0
        if n_held:
            yield Rows(first, pa.concat_tables(held))


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


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let what a reader raises name the file."""
    try:
        yield
    except Malformed:
        raise
    except UnicodeError as error:
        raise Malformed(f"{path} is not UTF-8: save it as UTF-8") from error
    except _READ_ERRORS as error:
        if "invalid UTF8" in str(error):
            raise Malformed(f"{path} is not UTF-8: save it as UTF-8") from error
        raise Malformed(f"{path} cannot be read: {error}") from error


def _parquet() -> ModuleType:
    import pyarrow.parquet  # which readers of CSV need not wait for

    return pyarrow.parquet


def _parquet_tables(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    with _parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
            yield pa.table({name: pc.fill_null(pc.cast(batch[name], pa.string()), "") for name in columns})
