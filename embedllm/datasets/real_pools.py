"""Pools of real answers: fixed lists of files in public repositories on GitHub, from download to matrix.

`data/sources.yml` pins the commit of each pool and names the list of its files, with their git blob hashes. Whoever
downloads them therefore gets the same labels. Downloaded files are kept in `embedllm._support.files.cache_folder()`.

`EMBEDLLM_POOLS` names a folder with a subfolder for each pool, in the authors' long form, that stands in for the
download. `EMBEDLLM_GITHUB` names a mirror of https://raw.githubusercontent.com.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tqdm import tqdm

from embedllm._support.files import cache_folder
from embedllm.datasets.duplicates import Duplicates
from embedllm.datasets.encoder import encode_questions
from embedllm.datasets.formats.answers import CountsAs
from embedllm.datasets.formats.mmlu_pro import read_mmlu_pro
from embedllm.datasets.formats.zeroeval import read_zeroeval
from embedllm.matrix import CorrectnessMatrix

POOLS = "EMBEDLLM_POOLS"
"""Environment variable that names the folder of pools."""

MIRROR = "EMBEDLLM_GITHUB"
"""Environment variable that names a mirror."""

_READERS = {"mmlu_pro_files.csv": read_mmlu_pro, "zeroeval_files.csv": read_zeroeval}  # by the list of the files

_TRIES, _LONGEST_WAIT, _TIMEOUT = 5, 60, 30  # requests for a file; seconds between two; seconds without an answer
_BUSY = (408, 429, 500, 502, 503, 504)  # states of a server that pass
_LARGEST = 2**28  # bytes of a file whose size the list does not state
_BLOCK = 2**16


class PoolFile(NamedTuple):
    """A file of a pool: its path in the repository, its git blob hash, and its size in bytes where it is known."""

    path: str
    sha1: str
    size: int | None


def pool_folder(name: str) -> Path | None:
    """Return the folder that stands in for the download of a pool, or None where there is none.

    It is the subfolder of `$EMBEDLLM_POOLS` with the name of the pool, where `-` and `_` are equal.

    Raises
    ------
    FileNotFoundError
        If `EMBEDLLM_POOLS` names no folder.
    """
    if not (pools := os.environ.get(POOLS)):
        return None
    if not Path(pools).is_dir():
        raise FileNotFoundError(f"{POOLS} names {pools!r}, which is not a folder: correct it, or unset it")
    wanted = name.replace("-", "_")
    folders = sorted(path for path in Path(pools).absolute().iterdir() if path.is_dir())
    return next((path for path in folders if path.name.replace("-", "_") == wanted), None)


def pool_files(list_name: str, column: str | None = None) -> list[PoolFile]:
    """Return the files of a list beside `data/sources.yml`; with a column, those that have a 1 in it."""
    text = resources.files("embedllm.data").joinpath(list_name).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [
        PoolFile(row["path"], row["git_blob_sha1"], int(row["bytes"]) if row["bytes"] else None)
        for row in rows
        if column is None or row[column] == "1"
    ]


def read_pool(
    name: str, entry: Mapping[str, str], *, no_answer: CountsAs = "incorrect", duplicates: Duplicates = "majority"
) -> CorrectnessMatrix:
    """Download the files of a pool, read them and encode the questions.

    Parameters
    ----------
    name : str
    entry : mapping
        Of `data/sources.yml`: `title`, `repository` (as owner/name), `revision` (a commit), `files` (a list beside it)
        and, optionally, `column`, which marks the files of a list that count.
    no_answer : "incorrect" or "not observed"
        What a reply counts as from which no answer could be read.
    duplicates : "majority", "any", "last", "rows" or "error"
        As in `embedllm.datasets.formats.long.read_long_form`.

    Raises
    ------
    ConnectionError
        If a file, or the encoder, is neither on this machine nor can be downloaded.
    ValueError
        If a file is not the listed one, or damaged.
    """
    files = pool_files(entry["files"], entry.get("column"))
    paths = download(name, entry["repository"], entry["revision"], files)
    answers = _READERS[entry["files"]](paths, no_answer=no_answer, duplicates=duplicates)
    return CorrectnessMatrix(
        answers.labels,
        answers.questions,
        encode_questions(answers.questions["prompt"].tolist()),
        source=entry["title"],
        report=answers.report_table(),
    )


def download(name: str, repository: str, revision: str, files: Sequence[PoolFile]) -> list[Path]:
    """Return files of a repository on this machine, downloading what is missing; all have the listed hash.

    Parameters
    ----------
    name : str
        Of the pool, for messages.
    repository, revision : str
        As owner/name, and all 40 digits of a commit.
    files : sequence of PoolFile

    Raises
    ------
    ConnectionError
        If a file can not be downloaded.
    ValueError
        If a server sends another file than the listed one.
    """
    server = os.environ.get(MIRROR, "https://raw.githubusercontent.com").rstrip("/")
    folder = cache_folder() / "github" / f"{repository.replace('/', '--')}@{revision}"
    missing = [file for file in files if _hash_of(folder / file.path) != file.sha1]
    total = sum(file.size or 0 for file in missing) if all(file.size for file in missing) else None
    shown = {"unit": "B", "unit_scale": True, "disable": None if missing else True}
    with tqdm(total=total, desc=f"downloading {name}", **shown) as progress:
        for file in missing:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.partial")
            url = f"{server}/{repository}/{revision}/{quote(file.path)}"
            try:
                _fetch(url, partial, file.size or _LARGEST, progress)
            except (OSError, HTTPException) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                raise ConnectionError(
                    f"the data set {name!r} is not on this machine, and {url} could not be downloaded "
                    f"({' '.join(str(error).split())}): connect this machine or set {MIRROR} to a mirror, or set "
                    f"{POOLS} to a folder that has {name} as a subfolder in the authors' long form"
                ) from error
            if (found := _hash_of(partial)) != file.sha1:
                partial.unlink()
                raise ValueError(
                    f"{url} has the git blob hash {found}, and the one listed is {file.sha1}: load the data set again, "
                    f"or set {MIRROR} to another mirror"
                )
            partial.replace(target)
    return [folder / file.path for file in files]


def _fetch(url: str, partial: Path, largest: int, progress: tqdm) -> None:
    """Download a file, or the rest of one; where the server is busy or the connection breaks, try again."""
    reason: OSError | HTTPException
    for left in reversed(range(_TRIES)):
        have = partial.stat().st_size if partial.exists() else 0
        headers = {"User-Agent": "embedllm"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as response:
                resumed = response.status == 206
                progress.update(have if resumed else 0)
                expected, received = response.length, 0  # bytes to come, or None if the server does not say
                with partial.open("ab" if resumed else "wb") as stream:
                    while (block := response.read(_BLOCK)) and received <= largest:
                        received += stream.write(block)
                        progress.update(len(block))
            if expected is None or received >= min(expected, largest):
                return
            wait, reason = 0.0, OSError(f"the connection broke after {received:,} of {expected:,} bytes")
        except HTTPError as error:
            error.close()
            if error.code == 416:  # the partial file is longer than the whole one
                partial.unlink()
            elif error.code not in _BUSY:
                raise
            wait, reason = _seconds(error.headers.get("Retry-After"), 2.0 ** (_TRIES - left - 1)), error
            if wait > _LONGEST_WAIT:
                raise ConnectionError(f"{error}, and the server asks to wait for {wait:.0f} s") from error
        except (TimeoutError, ConnectionResetError, HTTPException) as error:
            wait, reason = 1.0, error
        if not left:
            raise reason
        time.sleep(wait)


def _seconds(retry_after: str | None, otherwise: float) -> float:
    """How long a server asks to wait: in seconds, or as a date."""
    if retry_after is None or retry_after.isdigit():
        return otherwise if retry_after is None else float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return otherwise


def _hash_of(path: Path) -> str | None:
    """The hash that git gives the content of a file; None if there is no such file."""
    if not path.is_file():
        return None
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: digest).hexdigest()
