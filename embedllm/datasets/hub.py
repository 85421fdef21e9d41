"""Files of a data set on the Hugging Face Hub: fetched once, and checked ever after.

`huggingface_hub` does the talking, with its settings `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE`; where its cache has
the files, they are used. What it no longer does, since 1.18, is to go on with a download that an earlier run began, and
a file has 2.7 GB. So downloads are kept here, in `cache_folder()`, with the size and the sha256 of each file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from filelock import FileLock
from tqdm import TqdmWarning, tqdm

from embedllm._files import cache_folder, replacing, sha256_of

_RECORD = "record.json"
_Entry = dict[str, int | str]


def fetch(repository: str, revision: str, files: Sequence[str]) -> Path:
    """Return a folder with some files of a data set, downloading what is missing.

    The first time, sizes and hashes are recorded; later, every file must agree with the record, so that one revision
    always means the same bytes.

    Parameters
    ----------
    repository : str
        As `owner/name`.
    revision : str
        A commit, or the digits that it begins with.
    files : sequence of str
        Nothing else is downloaded.

    Raises
    ------
    ConnectionError
        If a file is neither on this machine nor can be downloaded. What was downloaded so far is kept.
    ValueError
        If a file is not the one that was announced or recorded.
    """
    own = cache_folder() / "hub" / f"{repository.replace('/', '--')}@{revision}"
    own.mkdir(parents=True, exist_ok=True)
    # Notebooks of the book run side by side: one downloads, the others wait.
    with FileLock(own / ".lock"):
        folder = _cached_by_client(repository, revision, files)
        if folder is None:
            folder = own
            for name in files:
                if not (own / name).is_file():
                    _download(repository, revision, name, own / name)
        _check(folder, files, own / _RECORD)
    return folder


def _cached_by_client(repository: str, revision: str, files: Sequence[str]) -> Path | None:
    """The folder in the cache of `huggingface_hub`, if that holds all the files."""
    cache = Path(_client().constants.HF_HUB_CACHE, f"datasets--{repository.replace('/', '--')}", "snapshots")
    snapshots = sorted(cache.glob(f"{revision}*"))  # named after commits
    return next((folder for folder in snapshots if all((folder / name).is_file() for name in files)), None)


def _client() -> ModuleType:
    # Imported late: a reader of local data needs no network library.
    with warnings.catch_warnings():
        # In a notebook without widgets its import warns of a progress bar that is not used here.
        warnings.simplefilter("ignore", TqdmWarning)
        import huggingface_hub.file_download
    return huggingface_hub


def _download(repository: str, revision: str, name: str, path: Path) -> None:
    client = _client()
    try:
        url = client.hf_hub_url(repository, name, repo_type="dataset", revision=revision)
        file = client.get_hf_file_metadata(url)
    except Exception as error:  # each network library below the hub's has error classes of its own
        raise _unreachable(repository, name, error) from error
    if not (file.commit_hash or "").startswith(revision):
        raise ValueError(
            f"{name} of the data set {repository} is of commit {file.commit_hash}, not of {revision}: "
            f"set HF_ENDPOINT to another mirror"
        )
    # Named after what is downloaded, so that parts of two files are never joined.
    partial = path.with_name(f".{name}.{file.etag}.part")
    with partial.open("ab") as stream:
        if file.size is not None and stream.tell() > file.size:
            stream.seek(0)
            stream.truncate()
        try:
            client.file_download.http_get(
                file.location,
                stream,
                resume_size=stream.tell(),
                expected_size=file.size,
                displayed_filename=name,
                tqdm_class=tqdm,
            )
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise OSError(errno.ENOSPC, "no space left for the download", str(partial)) from error
            raise _unreachable(repository, name, error) from error
    if not _is_announced(partial, file.etag or ""):
        partial.unlink()
        raise ValueError(
            f"{name} of the data set {repository} has another hash than the {file.etag} that was announced: "
            f"load the data again, or set HF_ENDPOINT to another mirror"
        )
    partial.replace(path)


def _unreachable(repository: str, name: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"{name} of the data set {repository} is neither on this machine nor could it be downloaded: connect this "
        f"machine, set HF_ENDPOINT to a mirror, or copy the cache of huggingface_hub here "
        f"({' '.join(str(error).split())})"
    )


def _is_announced(path: Path, etag: str) -> bool:
    """Compare with what the Hub announces: the sha256 of a large file, the git hash of a small one."""
    if re.fullmatch("[0-9a-f]{64}", etag):
        return sha256_of(path) == etag
    if re.fullmatch("[0-9a-f]{40}", etag):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest() == etag
    return True


def _check(folder: Path, files: Sequence[str], record_file: Path) -> None:
    record = _read_record(record_file)
    for name in files:
        path = folder / name
        found: _Entry = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        expected = record.setdefault(name, found)
        if found != expected:
            raise ValueError(
                f"{path} has {found['bytes']:,} bytes and sha256 {found['sha256']}, but had {expected['bytes']:,} and "
                f"{expected['sha256']} when it was downloaded: delete {path.resolve()} and load the data again"
            )
    record_file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(record_file) as temporary:
        temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")


def _read_record(path: Path) -> dict[str, _Entry]:
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {name: {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])} for name, entry in record.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no record of downloaded files: delete it and load the data again") from error
