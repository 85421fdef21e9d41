"""Files and folders that are written as a whole or not at all, hashes of files, and the folder of caches."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return the folder of caches: `$EMBEDLLM_CACHE`, or `embedllm` in the user's cache folder."""
    if own := os.environ.get("EMBEDLLM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedllm"


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")
