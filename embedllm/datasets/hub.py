"""Files of a data set on the Hugging Face Hub, in the cache of `huggingface_hub` and by its settings.

`HF_HOME` says where the cache is, `HF_ENDPOINT` names a mirror, and with `HF_HUB_OFFLINE` only the cache is used.
"""

from __future__ import annotations

import errno
import json
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from embedllm._support.files import cache_folder, replacing, sha256_of

_COPY = "copy the cache of huggingface_hub here"


def fetch(repository: str, revision: str, files: Sequence[str]) -> Path:
    """Return a folder with some files of a data set, downloading what is missing.

    Parameters
    ----------
    repository : str
        As `owner/name`.
    revision : str
        All 40 digits of a commit: the client takes fewer for the name of a branch.
    files : sequence of str
        Nothing else is downloaded.

    Raises
    ------
    ConnectionError
        If a file is neither on this machine nor can be downloaded.
    ValueError
        If a file is not the one that the Hub announced.
    """
    what = f"the data set {repository}, revision {revision},"
    folder = download(what, repository, files, repo_type="dataset", revision=revision)
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise _unavailable(f"{missing[0]} of {what}", "no such file", _COPY)
    _check(folder, files, cache_folder() / "hub" / f"{repository.replace('/', '--')}@{revision}.json")
    return folder


def download(
    what: str,
    repository: str,
    patterns: Sequence[str],
    otherwise: str = _COPY,
    **options: Any,
) -> Path:
    """Return a folder with some files of a repository, downloading what is missing.

    Parameters
    ----------
    what : str
        What an error calls it.
    repository : str
    patterns : sequence of str
        Names of the files, in which `*` stands for any characters.
    otherwise : str
        What else an error advises.
    **options
        Of `huggingface_hub.snapshot_download`.

    Raises
    ------
    ConnectionError
        If a file is neither on this machine nor can be downloaded.
    OSError
        If the disk is full.
    huggingface_hub.errors.HFValidationError
        If the name of the repository is not of the form `owner/name`.
    """
    with warnings.catch_warnings():
        # In a notebook without widgets, the import warns of a progress bar that is then shown as text.
        warnings.simplefilter("ignore")
        from huggingface_hub import snapshot_download  # a reader of local data needs no network library
        from huggingface_hub.errors import HFValidationError
    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns), **options))
    except HFValidationError:
        raise
    except Exception as error:  # each network library below the Hub's has error classes of its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise _unavailable(what, error, otherwise) from error


def _unavailable(what: str, why: Exception | str, otherwise: str) -> ConnectionError:
    return ConnectionError(
        f"{what} is neither on this machine nor could it be downloaded: connect this machine, set HF_ENDPOINT to a "
        f"mirror that has it, or {otherwise} ({' '.join(str(why).split())})"
    )


def _check(folder: Path, files: Sequence[str], record: Path) -> None:
    """Compare files with the sha256 that the Hub announced, which `huggingface_hub` does not; once for each file.

    It keeps a large file under its sha256, to which the name in `folder` links. Without links, as on some machines with
    Windows, there is nothing to compare with.
    """
    states = {name: [(state := (folder / name).stat()).st_size, state.st_mtime_ns] for name in files}
    if record.is_file() and record.read_bytes() == json.dumps(states).encode():
        return
    for name in files:
        path = folder / name
        kept = path.parent / path.readlink() if path.is_symlink() else path
        if re.fullmatch("[0-9a-f]{64}", kept.name) and sha256_of(kept) != kept.name:
            raise ValueError(
                f"{path} has another sha256 than the Hub announced: delete {os.path.normpath(kept)}, and load the data "
                f"again or set HF_ENDPOINT to another mirror"
            )
    with suppress(OSError), replacing(record) as temporary:  # what cannot be kept is compared again
        temporary.write_bytes(json.dumps(states).encode())
