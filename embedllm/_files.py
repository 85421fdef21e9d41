"""Files and folders that are written as a whole or not at all, hashes of files, and the folder of caches."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, which becomes `path` at the end, or is removed if an error is raised.

    A reader therefore sees the old file or the new one, never a part of it.
    """
    target = Path(path)
    temporary = _beside(target)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder beside `path`, which becomes `path` at the end, or is removed if an error is raised.

    Raises
    ------
    FileExistsError, NotADirectoryError
        As `check_new_folder` does.
    """
    check_new_folder(path)
    target = Path(path).resolve()
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


def check_new_folder(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be made here.

    Raises
    ------
    FileExistsError
        If something is there already, other than an empty folder: nothing is ever overwritten.
    NotADirectoryError
        If no folder can be made there.
    """
    target = Path(path).resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{path} exists already: name a new folder, or remove it first")
    ancestor = next(folder for folder in target.parents if folder.exists())
    if not (ancestor.is_dir() and os.access(ancestor, os.W_OK)):
        raise NotADirectoryError(
            f"{path} cannot be made, since {ancestor} is no folder that can be written: name another folder"
        )


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of the content of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the folder of caches: `$EMBEDLLM_CACHE`, or `embedllm` in the user's cache folder."""
    if own := os.environ.get("EMBEDLLM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedllm"


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
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")
