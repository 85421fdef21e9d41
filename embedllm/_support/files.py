"""Files: those of others are read within limits, and our own are written as a whole or not at all; the caches."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, BinaryIO, NamedTuple, TypeVar

from filelock import FileLock

from embedllm._support.reading import readable

T = TypeVar("T")
_Path = str | os.PathLike[str]

_POINTER = b"version https://git-lfs.github.com/spec/"
_SMALL = 1 << 24  # bytes up to which a file may expand, whatever the ratio
_BUFFER = 1 << 20


class Malformed(ValueError):
    """What is wrong with a file, and where: the message names it."""


class _Limits(NamedTuple):
    row: int = 1 << 25
    columns: int = 10_000
    memory: int = 1 << 29
    expanded: int = 1 << 32
    ratio: int = 200
    depth: int = 100


_limits = _Limits()
_BEYOND = {
    "row": "a row or a line of more than {:,} bytes, or an unpaired quote",
    "columns": "more than {:,} columns",
    "memory": "what is read would take more than {:,} bytes of memory",
    "expanded": "it expands to more than {:,} bytes",
    "ratio": "it expands to more than {:,} times its own bytes",
    "depth": "lists and objects in each other, more than {:,} deep",
}


@contextmanager
def reading_limits(**changes: int) -> Iterator[None]:
    """Change what is read of a file at most, for all readers inside a `with` statement.

    The defaults keep what a hostile or damaged file takes below 1 GB of memory.

    Parameters
    ----------
    row : int, optional
        Bytes of a row of a table or of a line of JSON lines; 32 MiB by default.
    columns : int, optional
        Columns of a table; 10,000 by default.
    memory : int, optional
        Bytes that what is read at once takes in memory, such as a JSON file, as estimated before; 512 MiB by default.
    expanded : int, optional
        Bytes that a `.gz` or `.parquet` file expands to; 4 GiB by default.
    ratio : int, optional
        How many times more these, or those of an archive, are than in the file, if they are more than 16 MiB; 200 by
        default. A `.parquet` file, which holds equal texts once, has no such limit.
    depth : int, optional
        How many lists and objects of JSON may stand in each other; 100 by default.

    Raises
    ------
    ValueError
        If there is no such limit, or one is not above 0.

    Examples
    --------
    >>> from embedllm import load_dataset, reading_limits
    >>> with reading_limits(row=2**28, memory=2**32):
    ...     pool = load_dataset("simulated", scale=0.01)  # or a folder of your own
    """
    global _limits
    for name, value in changes.items():
        if name not in _Limits._fields or value < 1:
            names = ", ".join(_Limits._fields)
            raise ValueError(f"a limit must be one of {names}, and a whole number above 0, got {name}={value!r}")
    before, _limits = _limits, _limits._replace(**changes)
    try:
        yield
    finally:
        _limits = before


def limit(name: str) -> int:
    """Return the limit of that name, as `reading_limits` has it."""
    return int(getattr(_limits, name))


def check_limit(name: str, value: float, where: str) -> None:
    """Check that a value is within the limit of that name; `where` names the file.

    Raises
    ------
    Malformed
        If it is larger.
    """
    if value > limit(name):
        raise Malformed(
            f"{where}: {_BEYOND[name].format(limit(name))}: is the file damaged? If it is as it should be, raise the "
            f"limit (reading_limits({name}=...), --limit {name}=...)"
        )


def check_file(path: _Path) -> None:
    """Check that there is a regular file, and that it holds the data.

    Raises
    ------
    FileNotFoundError, Unreadable
        If there is none, or it cannot be opened.
    Malformed
        If it is a folder, a pipe or a device, or a pointer that Git LFS left in place of the data.
    """
    with readable(path):
        mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise Malformed(f"{path} is {what}, and a file is needed: put the data into one")
    with readable(path), open(path, "rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise Malformed(f"{path} is a Git LFS pointer, not the data: run `git lfs pull` in its repository")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, plain or `.gz`.

    Raises
    ------
    OSError, Malformed
        As `check_file` does, or if it is no complete `.gz` file, or expands beyond the limits.
    """
    check_file(path)
    try:
        with ExitStack() as held:
            if path.suffix == ".gz":
                expanding = _Expanding(path, held.enter_context(gzip.open(path)))
                yield held.enter_context(io.BufferedReader(expanding, _BUFFER))
            else:
                yield held.enter_context(path.open("rb"))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Malformed(f"{path} is not a complete .gz file ({error}): was it cut short?") from error


class _Expanding(io.RawIOBase):
    """A stream that stops where the limits are."""

    def __init__(self, path: Path, stream: gzip.GzipFile) -> None:
        self._path, self._stream, self._size, self._read = path, stream, path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_bytes = self._stream.readinto(buffer)
        self._read += n_bytes
        check_limit("expanded", self._read, str(self._path))
        _check_ratio(self._path, self._read, self._size)
        return n_bytes


def _check_ratio(path: _Path, expanded: int, size: int) -> None:
    if expanded > _SMALL:
        check_limit("ratio", expanded / max(size, 1), str(path))


def check_archive(path: _Path) -> int:
    """Check a file, and, if it is a zip archive, that what its members expand to is within the limits.

    Returns
    -------
    int
        Bytes that the file, or its members, hold.

    Raises
    ------
    OSError, Malformed
        As `check_file` does, or if it is not.
    """
    check_file(path)
    expanded = size = os.path.getsize(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
        check_limit("memory", expanded - size, str(path))
        _check_ratio(path, expanded, size)
    return expanded


def lines_of(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, which end at a line feed.

    Raises
    ------
    Malformed
        If one is longer than the limit.
    """
    number, longest = 0, limit("row") + 1
    while line := stream.readline(longest):
        number += 1
        check_limit("row", len(line), f"{path}, line {number}")
        yield line


def read_json(path: Path) -> Any:
    """Read a file that holds one JSON value, plain or `.gz`.

    Raises
    ------
    OSError, Malformed
        As `opened` and `parse_json` do.
    """
    with opened(path) as stream:
        check_limit("memory", 3 * path.stat().st_size, str(path))
        return parse_json(stream.read(limit("memory") // 3 + 1), str(path))


def parse_json(data: bytes, where: str) -> Any:
    """Return the value that bytes hold; `where` names the place.

    Raises
    ------
    Malformed
        If they are empty, not UTF-8 or not JSON, hold half a surrogate pair, or exceed the limits.
    """
    # Bytes, text and strings of one to four bytes a character; and what a list, an object or a member of one takes.
    n_containers = data.count(b"[") + data.count(b"{")
    memory = len(data) * (3 if data.isascii() else 9) + 100 * (n_containers + data.count(b","))
    check_limit("memory", memory, where)
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if n_containers > limit("depth"):
            check_limit("depth", _depth(value), where)
        if re.search(rb"\\u[dD][89a-fA-F]", data):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except Malformed:
        raise
    except UnicodeEncodeError as error:
        raise Malformed(f"{where} holds half a surrogate pair, which is not a character: remove it") from error
    except UnicodeDecodeError as error:
        raise Malformed(f"{where} is not UTF-8: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and lists in lists in lists
        raise Malformed(f"{where} is not JSON ({error}): was it cut short, or edited?") from error


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
    return depth


@contextmanager
def replacing(path: _Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, which becomes `path` at the end, or is removed if an error is raised.

    A reader therefore sees the old file or the new one, never a part of it. A folder that is not there is made.
    """
    target = user_path(path)
    temporary = _beside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating_folder(path: _Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, which becomes `path` at the end, or is removed if an error is raised.

    Raises
    ------
    FileExistsError, NotADirectoryError
        As `check_new_folder` does.
    """
    check_new_folder(path)
    target = user_path(path).resolve()
    temporary = _beside(target)
    made = [folder for folder in temporary.parents if not folder.exists()]  # the innermost first
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # another process has put something into it
                folder.rmdir()
        raise


def check_new_folder(path: _Path) -> None:
    """Check that a folder can be made here.

    Raises
    ------
    FileExistsError
        If something is there already, other than an empty folder: nothing is ever overwritten.
    NotADirectoryError
        If no folder can be made there.
    """
    target = user_path(path).resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{path} exists already: name a new folder, or remove it first")
    check_writable(target.parent)


def check_writable(path: _Path) -> None:
    """Check, by creating a file, that files can be written in a folder, which need not be there yet.

    Raises
    ------
    NotADirectoryError
        If they cannot.
    """
    target = user_path(path).resolve()
    ancestor = next(folder for folder in (target, *target.parents) if folder.exists())
    try:
        with TemporaryFile(dir=ancestor):
            pass
    except OSError as error:
        raise NotADirectoryError(
            f"nothing can be written in {path}, since {ancestor} is not a folder that can be written: "
            f"name another folder"
        ) from error


def sha256_of(path: _Path) -> str:
    """Return the sha256 of the content of a file, in hexadecimal digits."""
    check_file(path)
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def user_path(path: _Path) -> Path:
    """Return a path of the user's, in which `~` is the home folder."""
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """Return the folder of caches: `$EMBEDLLM_CACHE`, or `embedllm` in the user's cache folder.

    Where it is not there and cannot be made, it is a temporary folder, as long as the process runs.

    Warns
    -----
    UserWarning
        The first time in that case.
    """
    own = os.environ.get("EMBEDLLM_CACHE")
    folder = user_path(own or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/embedllm")
    try:
        if not folder.is_absolute() and not own:  # no home folder is known
            raise FileNotFoundError(f"no home folder for {folder}")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Path(_instead_of(folder, str(error)).name)
    return folder


@cache
def _instead_of(folder: Path, why: str) -> TemporaryDirectory[str]:
    warnings.warn(
        f"the cache {folder} cannot be made ({why}), so what is computed is not kept: set EMBEDLLM_CACHE to a folder "
        f"that can be written",
        stacklevel=3,
    )
    return TemporaryDirectory(prefix="embedllm-")


def cached(
    path: Path, what: str, load: Callable[[Path], T], make: Callable[[], T], save: Callable[[T, Path], None]
) -> T:
    """Return what a file of the cache holds; where there is none, or a damaged one, make it and write it.

    Of several processes that want the same file, one makes it, and the others wait.

    Parameters
    ----------
    path : Path
        Its name tells all that the content depends on.
    what : str
        What it holds, for messages.
    load, make, save : callable
        `load` raises OSError or ValueError for a damaged file.

    Warns
    -----
    UserWarning
        If the file is damaged, or cannot be written.
    """
    with ExitStack() as held:
        # Without a lock where the folder cannot be written, which `save` finds, or the file system has none.
        with suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(f"{path}.lock"))
        if path.is_file():
            try:
                return load(path)
            except (OSError, ValueError) as error:
                warnings.warn(f"a cached {what} is made and written again: {error}", stacklevel=3)
        made = make()
        try:
            save(made, path)
        except OSError as error:
            warnings.warn(
                f"the {what} cannot be cached ({error}): set EMBEDLLM_CACHE to a folder that can be written",
                stacklevel=3,
            )
        return made


def _beside(target: Path) -> Path:
    # Not the number of the process: in containers it comes again, and that of a killed one may have left its folder.
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
