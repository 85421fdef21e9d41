"""Tables of text: CSV, gzipped CSV and Parquet, read in bounded memory, with errors that name the file and the row.

Every value is read as text, so that `NA` is a name, `007` is not 7, and the caller decides what a value means. Rows are
counted from 1, the header not included. Columns that nobody asks for are skipped unread, whatever they hold.
"""

from __future__ import annotations

import csv
import io
import os
import re
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from traceback import clear_frames
from types import ModuleType
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from tqdm import tqdm

from embedllm._support.files import Malformed, check_file, check_limit, limit, lines_of, opened
from embedllm._support.reading import Unreadable, is_there

FORMS = (".csv", ".csv.gz", ".parquet")

_JSON = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}

# Rows and bytes handed on at a time: enough that the work for each group does not count.
_ROWS, _BYTES = 100_000, 32 << 20

_PARQUET_ROWS = 4_096
_ROW = 64  # bytes that a value of a Parquet file counts as, besides its own
_BLOCK = 1 << 20  # bytes of a CSV file that are parsed at a time; the fastest of those tried
_END = "5d0c2be87f: the end of the file"
_GRACE = 10  # seconds to wait for Arrow to let go of a stream; it takes milliseconds

# Of Arrow. Its handler of such rows gets their text, and writes a traceback to stderr where this is not UTF-8.
_MALFORMED = re.compile(r"CSV parse error: Row #(\d+): Expected \d+ columns, got (\d+)")

_READ_ERRORS = (ValueError, OSError, csv.Error, pa.ArrowException)


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
    found = [path for form in FORMS if is_there(path := folder / f"{stem}{form}")]
    if len(found) > 1:
        raise ValueError(f"{folder} holds both {found[0].name} and {found[1].name}: remove one of them")
    return found[0] if found else None


def read_header(path: Path, required: Iterable[str] = (), options: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the columns.

    Parameters
    ----------
    path : Path
    required : iterable of str
        Columns that must be there.
    options : mapping of str to str, optional
        To a required column, the option of the command line that names another in its place.

    Raises
    ------
    Malformed
        If a required column is missing, a name occurs twice, or the file is of another form.
    """
    if not path.name.endswith(FORMS):
        if path.name.endswith(_JSON):
            raise Malformed(
                f"{path} holds JSON, and a table is needed: convert it to one of {', '.join(FORMS)}, or, if it is a "
                f"log of an evaluation, name its format instead (`import auto` recognizes it)"
            )
        raise Malformed(f"{path} is of an unknown form: convert it to one of {', '.join(FORMS)}, and name it so")
    with named(path):
        check_file(path)
        if path.suffix == ".parquet":
            columns = _parquet().read_schema(path).names
        else:
            # What stands below the header may be in any encoding as long as nobody asks for it.
            with opened(path) as stream:
                lines = (line.decode("utf-8-sig", "surrogateescape") for line in lines_of(stream, path))
                columns = next(csv.reader(part for line in lines for part in io.StringIO(line, newline="")), [])
            "".join(columns).encode("utf-8", "strict")
    check_limit("columns", len(columns), str(path))
    if columns and columns[0].lstrip().startswith(('{"', "[{")):
        raise Malformed(f"{path} holds JSON, and a table is needed: rename it to .jsonl, and import it as a log")
    for sign, spelled in _SEPARATORS.items():
        if len(columns) == 1 and sign in columns[0]:
            raise Malformed(
                f"{path} has {spelled} between its columns, and a table is needed with commas: convert it, such as "
                f"with pandas.read_csv({path.name!r}, sep={sign!r}, dtype=str, keep_default_na=False).to_csv(..., "
                f"index=False)"
            )
    if not any(columns):
        raise Malformed(f"{path} is empty: its first line must name the columns")
    if repeated := [column for column, count in Counter(columns).items() if column and count > 1]:
        raise Malformed(f"{path} has more than one column {repeated[0]!r}: remove or rename one")
    if missing := [column for column in required if column not in columns]:
        raise Malformed(f"{path} has no column {missing[0]!r}; it has {columns}{_remedy(missing[0], columns, options)}")
    return columns


def _remedy(missing: str, columns: list[str], options: Mapping[str, str] | None) -> str:
    alike = next((name for name in columns if name.strip().casefold() == missing.strip().casefold()), None)
    option = (options or {}).get(missing)
    if alike is not None:
        return f": rename {alike!r} to {missing!r}" + (f", or name it ({option} {alike!r})" if option else "")
    return f": add it, or name the column to take instead ({option} COLUMN)" if option else ""


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
    shown = tqdm(desc=f"reading {path.name}", unit="row", unit_scale=True, delay=2, disable=None)
    with ThreadPoolExecutor(1) as thread, shown:
        following = thread.submit(next, groups, None)
        while (rows := following.result()) is not None:
            following = thread.submit(next, groups, None)
            yield rows
            shown.update(len(rows.columns))


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
    except (Malformed, Unreadable):
        raise
    except _READ_ERRORS as error:
        if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
            raise Malformed(f"{path} is not UTF-8: save it as UTF-8") from error
        raise Malformed(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _parquet() -> ModuleType:
    import pyarrow.parquet  # which readers of CSV need not wait for

    return pyarrow.parquet


def _parquet_tables(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    # As dictionaries, in which a text that many rows share stands once: only what is handed on is written out.
    schema = _parquet().read_schema(path)
    texts = [name for name in columns if pa.types.is_string(schema.field(name).type)]
    with _parquet().ParquetFile(path, read_dictionary=texts) as file:
        n_bytes = 0
        for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
            sizes = np.sum([_sizes(batch[name]) for name in columns], axis=0)
            n_bytes += int(sizes.sum())
            check_limit("expanded", n_bytes, str(path))
            check_limit("row", sizes.max(initial=0), str(path))
            parts = np.cumsum(sizes) // _BYTES
            for part in np.unique(parts):
                rows = batch.slice(int((parts < part).sum()), int((parts == part).sum()))
                yield pa.table({name: pc.fill_null(pc.cast(rows[name], pa.string()), "") for name in columns})


def _sizes(column: pa.Array) -> np.ndarray:
    """Bytes that each row takes, as text and with some work: (n_rows,)."""
    if not isinstance(column, pa.DictionaryArray):
        return np.full(len(column), _ROW + column.nbytes // max(len(column), 1))
    lengths = pc.binary_length(column.dictionary.cast(pa.large_string())).to_numpy(zero_copy_only=False)
    return _ROW + np.append(lengths, 0)[pc.fill_null(column.indices, len(lengths)).to_numpy(zero_copy_only=False)]


def _csv_tables(path: Path, n_columns: int, columns: list[str]) -> Iterator[pa.Table]:
    """Read a CSV file block by block; a row that does not fit into a block makes it start again with larger ones."""
    n_done, block = 0, min(_BLOCK, limit("row"))
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
            if "straddl" not in str(error):
                raise
            check_limit("row", block + 1, f"{path}, row {n_read + 1} or a later one")
            block = min(16 * block, limit("row"))


def _csv_blocks(path: Path, n_columns: int, columns: list[str], block: int) -> Iterator[pa.Table]:
    n_read, ended = 0, False
    try:
        with opened(path) as stream:
            file, released = _lent(_Ended(stream, n_columns))
            try:
                batches = pa.csv.open_csv(
                    file,
                    # In one thread, which is as fast on a stream, Arrow knows the number of a row.
                    pa.csv.ReadOptions(block_size=block, use_threads=False),
                    pa.csv.ParseOptions(newlines_in_values=True),
                    pa.csv.ConvertOptions(
                        include_columns=columns,
                        column_types=dict.fromkeys(columns, pa.string()),
                        strings_can_be_null=False,
                    ),
                )
                for batch in batches:
                    ended = len(batch) > 0 and batch[0][-1].as_py() == _END
                    n_read += len(batch)
                    yield pa.Table.from_batches([batch.slice(0, len(batch) - ended)])
            except Exception as error:
                clear_frames(error.__traceback__)  # one of the stream's own holds it
                raise
            finally:
                # A thread of Arrow, which reads ahead, may be the last to hold the stream. The end of the process does
                # not wait for it: it hung, or was aborted. An error would keep these two until then.
                batches = file = None
                released.wait(_GRACE)
    except pa.ArrowInvalid as error:
        if not (found := _MALFORMED.match(str(error))):
            raise
        raise Malformed(
            f"{path}, row {int(found[1]) - 1} has {found[2]} fields, the header {n_columns}: quote texts that hold "
            f"commas, quotes or line ends, and check that the file was not cut short"
        ) from error
    if not ended:
        raise Malformed(
            f"{path}, row {n_read}: the text in quotes does not end: the file was cut short, or a quote is unpaired"
        )


def _lent(stream: _Ended) -> tuple[pa.PythonFile, Event]:
    """Return a stream as Arrow takes it, and an event that comes when nobody holds the stream any more."""
    released = Event()
    weakref.finalize(stream, released.set)
    return pa.PythonFile(stream, mode="r"), released


class _Ended:
    """A CSV file and one more row, which becomes a piece of a text if the file ends inside a quoted one."""

    def __init__(self, stream: BinaryIO, n_columns: int) -> None:
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
