"""Files and folders of others: what is there, and an error that says so where the system refuses to read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_Path = str | os.PathLike[str]


class Unreadable(OSError):
    """A file or a folder is there, and the system does not let us read it: the message names it and a remedy."""


@contextmanager
def readable(path: _Path) -> Iterator[None]:
    """Let an error of the system name the file or folder, and say what to do.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If nothing is there.
    Unreadable
        In place of any other error of the system.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, Unreadable):
        raise
    except OSError as error:
        remedy = "copy it elsewhere, or remove it"
        if isinstance(error, PermissionError):
            remedy = "change its permissions and those of the folders above it (chmod u+rX), or move it elsewhere"
        raise Unreadable(f"{error.filename or path} cannot be read ({error.strerror or error}): {remedy}") from error


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and below it, in sorted order; hidden ones, such as checkpoints, are skipped.

    Pipes, devices and links that lead nowhere are among them: whoever opens one is told so.

    Raises
    ------
    NotADirectoryError
        If it is a file.
    Unreadable
        If the folder, or one below it, cannot be read: what it holds must not be lost silently.
    """
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: name the folder that holds it")
    found: list[Path] = []
    with readable(folder):
        for place, folders, names in os.walk(folder, onerror=_raised):
            folders[:] = (name for name in folders if not name.startswith("."))
            found += (Path(place, name) for name in names if not name.startswith("."))
    return sorted(found)


def entries_in(folder: Path) -> list[Path]:
    """Return what stands in a folder, in sorted order.

    Raises
    ------
    Unreadable
        If the folder cannot be read.
    """
    with readable(folder):
        return sorted(folder.iterdir())


def is_there(path: _Path) -> bool:
    """Tell whether there is a file, a folder or a link, also one that leads nowhere.

    Raises
    ------
    Unreadable
        If the system does not tell, as in a folder that cannot be read.
    """
    try:
        with readable(path):
            os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a name that no file can have
        return False
    return True


def _raised(error: OSError) -> None:
    raise error
