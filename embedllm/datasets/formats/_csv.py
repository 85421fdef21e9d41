"""Rows of a CSV file, of which parts are read at the same time.

Where a part should end is a guess, since a line end may stand inside a quoted text. But each part is read with one more
row behind it: if the part ends inside a quoted text, that row becomes a piece of the text, and is missed. So if a part
begins with a row, and is read without fault up to that last row, then it ends with a row, and the next part begins with
one. From the first part with a fault, or where no end is found, the rest of the file is read in one go, which tells
whether the fault is in the file or was in a guess.
"""

from __future__ import annotations

import csv
import gzip
import io
import mmap
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.csv

_PART = 32 << 20  # bytes that a thread reads at a time; the fastest of those tried, as is the size of a block
_BLOCK = 2 << 20  # bytes that are parsed at a time
_LARGEST_BLOCK = 1 << 30  # a row must fit into a block
_MOST_THREADS = 8  # each has a part at hand, and parts that wait for their turn
_WINDOW = 64 << 10  # bytes in which the end of a row is looked for
_END = "5d0c2be87f: the end of the file"


class Malformed(ValueError):
    """What is wrong with a table, and where: the message names the file."""


class _Part(NamedTuple):
    """Bytes of a file, from `start` up to `stop`."""

    start: int
    stop: int


def open_csv(path: Path) -> IO[bytes]:
    """Open a `.csv` or `.csv.gz` file for its bytes."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def csv_tables(path: Path, header: list[str], columns: list[str]) -> Iterator[pa.Table]:
    """Read some columns of a CSV file as text, some thousand rows at a time, in order.

    Parameters
    ----------
    path : Path
        A `.csv` file, in parts if it is large, or a `.csv.gz` file.
    header : list of str
        Names of all columns, in their order.
    columns : list of str
        Those wanted.

    Raises
    ------
    Malformed
        If a row has more or fewer fields than the header, or the file ends inside a quoted text.
    """
    start, n_rows = 0, 0
    if path.suffix != ".gz":
        for part, table in _read_parts(path, header, columns):
            if table is None:
                break
            yield table
            start, n_rows = part.stop, n_rows + len(table)
        if 0 < start == path.stat().st_size:
            return
    yield from _read_rest(path, header, columns, start, n_rows)


def _read_parts(path: Path, header: list[str], columns: list[str]) -> Iterator[tuple[_Part, pa.Table | None]]:
    """Parts of a large file in order, each with its rows, or with None if it cannot be read by itself."""
    end = _end_row(len(header))

    def read(part: _Part) -> pa.Table | None:
        # Mapped to memory, which spares a copy of all that is read, and part by part, lest all of it counts as ours.
        before = part.start % mmap.ALLOCATIONGRANULARITY
        try:
            with path.open("rb", buffering=0) as stream:
                length, offset = before + part.stop - part.start, part.start - before
                mapped = mmap.mmap(stream.fileno(), length, access=mmap.ACCESS_READ, offset=offset)
            source = pa.PythonFile(_Pieces(memoryview(mapped)[before:], end), mode="r")
            table = pa.csv.read_csv(source, **_options(header, columns, part.start, _BLOCK))
        except ValueError:  # of Arrow, or since the file has shrunk
            return None
        return table.slice(0, len(table) - 1) if _is_ended(table) else None

    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_threads = min(n_cores, _MOST_THREADS)
    with ThreadPoolExecutor(n_threads) as pool:
        ahead: deque[tuple[_Part, Future[pa.Table | None]]] = deque()
        for part in _guess_parts(path, len(header)):
            ahead.append((part, pool.submit(read, part)))
            if len(ahead) > 2 * n_threads:
                first, table = ahead.popleft()
                yield first, table.result()
        for first, table in ahead:
            yield first, table.result()


def _guess_parts(path: Path, n_columns: int) -> Iterator[_Part]:
    """Parts from the beginning of a file on: all of it, or as far as ends are found; none if it is small."""
    size = path.stat().st_size
    if size <= _PART:
        return
    start = 0
    with path.open("rb") as stream:
        for near in range(_PART, size, _PART):
            stream.seek(near)
            window = stream.read(_WINDOW)
            cut = next((end for end in _line_ends(window) if _begins_with_rows(window[end:], n_columns)), None)
            if cut is None:
                return
            yield _Part(start, near + cut)
            start = near + cut
    yield _Part(start, size)


def _line_ends(data: bytes) -> Iterator[int]:
    end = 0
    while end := data.find(b"\n", end) + 1:
        yield end


def _begins_with_rows(data: bytes, n_columns: int) -> bool:
    """Tell whether data looks like two whole rows and a third."""
    rows = csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""))
    try:
        first = [len(row) for row in islice(rows, 3)]
    except csv.Error:
        return False
    return len(first) == 3 and first[:2] == [n_columns, n_columns]


def _read_rest(path: Path, header: list[str], columns: list[str], start: int, n_rows: int) -> Iterator[pa.Table]:
    """The rows from a byte on; before it are `n_rows` rows, or not even the header."""
    done, block = 0, _BLOCK
    while True:
        read = 0
        try:
            for table in _read_on(path, header, columns, start, n_rows, block):
                read += len(table)
                if read > done:
                    yield table.slice(len(table) - (read - done))
                    done = read
            return
        except pa.ArrowInvalid as error:
            # A row did not fit: start again with larger blocks, and skip the rows handed on already.
            if "straddl" not in str(error) or block >= _LARGEST_BLOCK:
                raise
            block = min(16 * block, _LARGEST_BLOCK)


def _read_on(
    path: Path, header: list[str], columns: list[str], start: int, n_rows: int, block: int
) -> Iterator[pa.Table]:
    wrong: list[pa.csv.InvalidRow] = []
    read, ended = 0, False
    try:
        with open_csv(path) as stream:
            if start:
                stream.seek(start)
            source = pa.PythonFile(_Ended(stream, _end_row(len(header))), mode="r")
            for batch in pa.csv.open_csv(source, **_options(header, columns, start, block, wrong)):
                table = pa.Table.from_batches([batch])
                ended = _is_ended(table)
                read += len(table)
                yield table.slice(0, len(table) - ended)
    except pa.ArrowInvalid as error:
        if not wrong:
            raise
        row = wrong[0]
        raise Malformed(
            f"{path}, row {n_rows + row.number - (start == 0)} has {row.actual_columns} fields, the header "
            f"{row.expected_columns}: quote texts that hold commas, quotes or line ends, and check that the file was "
            f"not cut short"
        ) from error
    if not ended:
        raise Malformed(
            f"{path}, row {n_rows + read}: the text in quotes does not end: the file was cut short, or a quote is "
            f"unpaired"
        )


def _options(
    header: list[str],
    columns: list[str],
    start: int,
    block: int,
    wrong: list[pa.csv.InvalidRow] | None = None,
) -> dict[str, Any]:
    def refuse(row: pa.csv.InvalidRow) -> str:
        if wrong is not None:
            wrong.append(row)
        return "error"

    return {
        # In one thread the reader knows the number of a row.
        "read_options": pa.csv.ReadOptions(block_size=block, use_threads=False, column_names=header if start else None),
        "parse_options": pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
        "convert_options": pa.csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
        ),
    }


def _end_row(n_columns: int) -> bytes:
    return f"\n{','.join([_END] * n_columns)}\n".encode()


def _is_ended(table: pa.Table) -> bool:
    return len(table) > 0 and table.column(0)[-1].as_py() == _END


# Neither of these ends a piece with a carriage return. Arrow takes a line feed that begins the next piece for the other
# half of a line end and drops it, even inside a quoted text.


class _Ended:
    """A stream of bytes, followed by some more."""

    def __init__(self, stream: IO[bytes], end: bytes) -> None:
        self._stream, self._end, self._held = stream, end, b""
        self.closed = False

    def read(self, size: int) -> bytes:
        data = self._held + self._stream.read(size - len(self._held))
        room = size - len(data)
        data, self._end = data + self._end[:room], self._end[room:]
        self._held = b"\r" if len(data) > 1 and data.endswith(b"\r") else b""
        return data[:-1] if self._held else data

    def close(self) -> None:
        self.closed = True


class _Pieces:
    """A stream over bytes that are in memory, without copying them, followed by some more."""

    def __init__(self, data: memoryview, end: bytes) -> None:
        self._data, self._end, self._position = data, end, 0
        self.closed = False

    def read(self, size: int) -> memoryview | bytes:
        piece: memoryview | bytes = self._data[self._position : self._position + size]
        if len(piece) < size:
            start = max(0, self._position - len(self._data))
            piece = bytes(piece) + self._end[start : start + size - len(piece)]
        if len(piece) > 1 and piece[-1] == ord("\r"):
            piece = piece[:-1]
        self._position += len(piece)
        return piece

    def close(self) -> None:
        self.closed = True
