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

from embedllm._support.files import cache_folder, replacing, sha256_of


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
    try:
        with warnings.catch_warnings():
            # In a notebook without widgets, the import warns of a progress bar that is then shown as text.
            warnings.simplefilter("ignore")
            from huggingface_hub import snapshot_download  # a reader of local data needs no network library

        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=list(files)))
    except Exception as error:  # each network library below the Hub's has error classes of its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise unavailable(f"the data set {repository}, revision {revision},", error) from error
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise unavailable(f"{missing[0]} of the data set {repository}, revision {revision},", "no such file")
    _check(folder, files, cache_folder() / "hub" / f"{repository.replace('/', '--')}@{revision}.json")
    return folder


def unavailable(what: str, why: Exception | str) -> ConnectionError:
    """Return the error for what is not on this machine and cannot be downloaded."""
    return ConnectionError(
        f"{what} is neither on this machine nor could it be downloaded: connect this machine, set HF_ENDPOINT to a "
        f"mirror that has it, or copy the cache of huggingface_hub here ({' '.join(str(why).split())})"
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
