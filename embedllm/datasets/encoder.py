"""Sentence encoders: texts to vectors, each text encoded once and its vector kept on disk.

Encoding is the slowest step of the companion (hours for 36,000 questions on a CPU). The vectors of an encoder are in
one SQLite database, in the folder of `embedllm._support.files.cache_folder()`, as float16. New vectors are rounded to
float16 too, so that the result is the same to the bit whether or not a vector was in the cache.

An encoder is identified by its content, not by its name: a local copy of a model of the Hub shares its vectors. The
*fingerprint* is a SHA-256 over all that determines a vector, in the folder of the model and in those of its modules:

- the weights (`*.safetensors`), byte by byte;
- the configuration of the modules and of the tokenizer, JSON by its value, without notes of origin (versions, paths);
- the vocabulary: `tokenizer.json`, or, only where there is none, `vocab.*`, `merges.txt` and `*.model`.

Nothing else counts: no README, no training data, no weights in other formats. A model that another version of
sentence-transformers saved again may count as another one, since its configuration is then written differently.

The libraries that run an encoder may change what it gives, which no fingerprint shows. Before new vectors join those in
the cache, a probe text is encoded again, and where it differs by more than rounding the cache is emptied.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from embedllm._support.checks import check_device, check_positive
from embedllm._support.files import cache_folder, read_json, sha256_of, user_path
from embedllm.datasets._heads import heads_of
from embedllm.datasets.hub import download

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_ENCODER = "sentence-transformers/all-mpnet-base-v2"

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_CONFIGURATION = (
    "modules.json",
    "config.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_TOKENIZER = "tokenizer.json"
_VOCABULARY = ("vocab.*", "merges.txt", "*.model")
_ORIGIN = ("__version__", "transformers_version", "_name_or_path", "name_or_path")

_PROBE = "What is 7 + 8?"  # in every cache, to be encoded again
_SAME = 0.02  # of the length of a vector; processors and batches differ by 0.002, and libraries by far more

_SLAB = 1024  # texts encoded between two commits: what an interruption loses is at most this much work


@dataclass(frozen=True)
class Encoder:
    """A sentence encoder on this machine; two are equal if they give the same vectors.

    Attributes
    ----------
    name : str
        A Hub id, or the path of a folder.
    folder : Path
    fingerprint : str
        SHA-256 of what determines a vector, 64 hexadecimal digits.
    """

    name: str = field(compare=False)
    folder: Path = field(compare=False)
    fingerprint: str


def find_encoder(encoder: str | os.PathLike[str] = DEFAULT_ENCODER) -> Encoder:
    """Find an encoder on this machine, or download it.

    Parameters
    ----------
    encoder : str or path
        A local folder, or a Hub id.

    Raises
    ------
    FileNotFoundError
        If it is neither a folder nor of the form of a Hub id.
    ConnectionError
        If the Hub has to be asked and cannot.
    ValueError
        If the folder holds no sentence-transformers model, or one with pickled weights or with code of its own.
    """
    if str(encoder) and user_path(encoder).is_dir():
        folder = user_path(encoder).resolve()
        return Encoder(str(folder), folder, _fingerprint(folder))
    folder = _download(str(encoder))
    return Encoder(str(encoder), folder, _fingerprint(folder))


def encode_questions(
    texts: Sequence[str],
    encoder: str | os.PathLike[str] = DEFAULT_ENCODER,
    batch_size: int = 8,
    device: str | list[str] = "auto",
) -> np.ndarray:
    """Encode texts; each distinct text is encoded once and then cached.

    Parameters
    ----------
    texts : sequence of str
    encoder : str or path
        A Hub id, or a local folder. The default is the paper's.
    batch_size : int
        Texts per batch. The default is twice as fast as 32 on a CPU; a GPU needs more. The last bit of a float16 may
        depend on it.
    device : "auto", "cpu", "cuda", or a list such as ["cuda:0", "cuda:1"]
        "auto" takes a GPU if there is one. A list, of "cpu", "cuda" and "cuda:N" only, starts a process for each entry;
        a script that does so needs `if __name__ == "__main__"`.

    Returns
    -------
    ndarray of shape (n_texts, width), float32
        Values that float16 holds exactly.

    Raises
    ------
    TypeError
        If `texts` is a single text, or an entry is not text.
    FileNotFoundError, ConnectionError, ValueError
        If the encoder cannot be found (see `find_encoder`).
    ValueError
        If a device is unknown or not there, a vector is not finite, or the cache is damaged.
    OSError
        If the cache cannot be used.

    Warns
    -----
    UserWarning
        If the cache cannot be written, so that new vectors are not kept. If texts are longer than the encoder reads:
        the rest is ignored. They are counted when they are encoded. If the libraries give other vectors than those in
        the cache, which is then emptied.

    References
    ----------
    Section 4 of the paper (arXiv:2410.02223) has the default encoder.

    Examples
    --------
    >>> from embedllm import encode_questions
    >>> encode_questions(["What is 7 + 8?", "Who wrote Faust?"]).shape  # doctest: +SKIP
    (2, 768)
    """
    texts, batch_size = _check_texts(texts), check_positive("batch_size", batch_size)
    if not texts:
        # Only a vector shows the width: no entry of a configuration states it for every encoder.
        return encode_questions(["any text"], encoder, batch_size, device)[:0]
    found = find_encoder(encoder)
    keys = [_key(text) for text in texts]
    cache = cache_folder() / "embeddings" / f"{found.fingerprint}.sqlite"
    with _faults_of(cache):
        connection = _connect(cache)
    with closing(connection):
        with _faults_of(cache):
            vectors = _read(connection, set(keys))
        named = dict(zip(keys, texts, strict=True))
        if new := {key: text for key, text in named.items() if key not in vectors}:
            if _differs(cache, connection, [named[key] for key in vectors], found, device):
                vectors, new = {}, named
            for slab in _encode(new, found, batch_size, device):
                with _faults_of(cache):
                    _write(connection, slab)
                vectors |= slab
    return np.stack([vectors[key] for key in keys]).astype(np.float32)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _differs(
    cache: Path, connection: sqlite3.Connection, cached: list[str], encoder: Encoder, device: str | list[str]
) -> bool:
    """Encode the probe again, or, in a cache without it, a text that is there; where it differs, empty the cache."""
    probe = _key(_PROBE)
    with _faults_of(cache):
        stored = _read(connection, {probe})
    texts = {probe: _PROBE} | ({} if stored else {_key(text): text for text in cached[:1]})
    fresh: dict[bytes, np.ndarray] = {}
    for slab in _encode(texts, encoder, len(texts), device if isinstance(device, str) else "cpu"):
        fresh |= slab
    with _faults_of(cache):
        pairs = [(fresh[key].astype(float), then.astype(float)) for key, then in _read(connection, set(texts)).items()]
        if differs := any(np.linalg.norm(now - then) > _SAME * np.linalg.norm(now) for now, then in pairs):
            with connection:
                connection.execute("DELETE FROM embeddings")
        _write(connection, {probe: fresh[probe]})
    if differs:
        warnings.warn(
            f"the libraries on this machine give other vectors of the encoder {encoder.name} than those in the cache, "
            f"which is emptied: import again the data sets, and fit again the routers, that were made before",
            stacklevel=3,
        )
    return differs


def _check_texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, got the text {texts[:40]!r}: pass [text]")
    texts = list(texts)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {position} is not text but {type(text).__name__}: {str(text)[:40]!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text {position} holds half a surrogate pair, which is not a character: remove it"
            ) from error
    return texts


def _download(name: str) -> Path:
    # Imported late: an encoder in a local folder needs no network library.
    from huggingface_hub.errors import HFValidationError

    files = [f"*{pattern}" for pattern in (*_WEIGHTS, *_CONFIGURATION, _TOKENIZER, *_VOCABULARY)]
    try:
        return download(f"the encoder {name!r}", name, files, "pass a local folder that holds the encoder")
    except HFValidationError as error:
        raise FileNotFoundError(
            f"no encoder {name!r}: it is neither a folder nor a Hub id such as {DEFAULT_ENCODER!r}"
        ) from error


def _fingerprint(folder: Path) -> str:
    try:
        modules = read_json(folder / "modules.json")
        places = sorted({"", *(str(module["path"]) for module in modules)})
        kinds = [str(module["type"]) for module in modules]
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no sentence-transformers model: there is no modules.json in it") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / 'modules.json'} is damaged: fetch the encoder again") from error
    if foreign := [kind for kind in kinds if not kind.startswith("sentence_transformers.")]:
        raise ValueError(
            f"the encoder in {folder} needs code of its own ({foreign[0]}), which is never run: use another encoder"
        )
    total, n_weights = hashlib.sha256(), 0
    for place in places:
        names = sorted(path.name for path in (folder / place).glob("*") if path.is_file())
        weights = _matching(names, _WEIGHTS)
        if not weights and (pickles := _matching(names, ("*.bin", "*.pt", "*.pth"))):
            raise ValueError(
                f"{folder / place / pickles[0]} holds pickled weights, which are never loaded: use a copy of the "
                f"encoder with safetensors"
            )
        n_weights += len(weights)
        vocabulary = [_TOKENIZER] if _TOKENIZER in names else _matching(names, _VOCABULARY)
        for name in sorted({*weights, *_matching(names, _CONFIGURATION), *vocabulary}):
            path = folder / place / name
            total.update(f"{Path(place, name).as_posix()} {_sha256_of(path)}\n".encode())
    if not n_weights:
        raise ValueError(f"{folder} holds no weights of an encoder: there is no .safetensors file in it")
    return total.hexdigest()


def _matching(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def _sha256_of(path: Path) -> str:
    if path.suffix != ".json":
        state = path.stat()
        return _sha256_of_bytes(path, state.st_size, state.st_mtime_ns)
    try:
        value = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: fetch the encoder again") from error
    if isinstance(value, dict):
        value = {key: entry for key, entry in value.items() if key not in _ORIGIN}
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@lru_cache
def _sha256_of_bytes(path: Path, size: int, modified: int) -> str:
    # Weights take a second to read: within a process, their size and time of change stand for their content.
    return sha256_of(path)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the database of a cache; where it cannot be written, a copy of it in memory."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    if all(os.access(place, os.W_OK) for place in (path.parent, path) if place == path.parent or place.exists()):
        return sqlite3.connect(path, timeout=60)  # another process holds the lock for one slab's insertion only
    warnings.warn(
        f"the cache of embeddings {path} cannot be written, so new vectors are not kept: set EMBEDLLM_CACHE to a "
        f"folder that can be written",
        stacklevel=3,
    )
    connection = sqlite3.connect(":memory:")
    if path.is_file():
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as kept:
            kept.backup(connection)
    return connection


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Name the cache in the errors of SQLite; only its calls belong in here, or other errors would name the cache."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(
            f"the cache of embeddings {path} cannot be used ({error}): set EMBEDLLM_CACHE to a folder that can be "
            f"written, or delete the file"
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter from a message that quotes the damage
        raise ValueError(
            f"the cache of embeddings {path} is damaged ({error}): delete the file, and its texts are encoded again"
        ) from error


def _read(connection: sqlite3.Connection, keys: set[bytes]) -> dict[bytes, np.ndarray]:
    # A table of another name, `vectors`, is of an earlier version and stays unread.
    connection.execute("CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
    query = "SELECT vector FROM embeddings WHERE key = ?"
    found = {key: connection.execute(query, (key,)).fetchone() for key in keys}
    return {key: np.frombuffer(row[0], dtype="<f2") for key, row in found.items() if row}


def _write(connection: sqlite3.Connection, vectors: dict[bytes, np.ndarray]) -> None:
    with connection:
        rows = ((key, vector.tobytes()) for key, vector in vectors.items())
        connection.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)


def _encode(
    texts: dict[bytes, str], encoder: Encoder, batch_size: int, device: str | list[str]
) -> Iterator[dict[bytes, np.ndarray]]:
    """Vectors of distinct texts by key, (width,), float16, a slab at a time."""
    model = _model(encoder, device)
    # Sorted, since a batch is padded to its longest; longest first, so that memory that does not suffice shows at once.
    order = sorted(texts, key=lambda key: len(texts[key]), reverse=True)
    n_cut = 0
    with _pool(model, device) as pool, tqdm(total=len(order), desc="encoding", unit="text", disable=None) as progress:
        for start in range(0, len(order), _SLAB):
            keys = order[start : start + _SLAB]
            slab = [texts[key] for key in keys]
            with _quiet():
                heads, n_longer = heads_of(slab, model)
                n_cut += n_longer
                found = model.encode(heads, batch_size=batch_size, show_progress_bar=False, pool=pool)
                vectors = np.asarray(found, dtype="<f2")
            if not (finite := np.isfinite(vectors).all(axis=1)).all():
                text = slab[int(np.argmin(finite))]
                raise ValueError(f"the encoder {encoder.name} gives no finite vector (in float16) for {text[:40]!r}")
            yield dict(zip(keys, vectors, strict=True))
            progress.update(len(keys))
    if n_cut:
        warnings.warn(
            f"{n_cut} of {len(order)} new texts are longer than the {model.max_seq_length} tokens that the encoder "
            f"reads: the rest is ignored",
            stacklevel=3,
        )


def _model(encoder: Encoder, device: str | list[str]) -> SentenceTransformer:
    if isinstance(device, str):
        place = check_device(device)
    else:
        _check_devices(device)
        place = "cpu"  # each process gets a copy, and brings it to its device
    with _quiet():
        return _load(encoder.folder, encoder.fingerprint, place)


@lru_cache(maxsize=1)
def _load(folder: Path, fingerprint: str, device: str) -> SentenceTransformer:
    """Load the model, once for all calls; the fingerprint makes a folder whose content changed another model."""
    from sentence_transformers import SentenceTransformer  # takes seconds, and vectors from the cache need none of it

    model = SentenceTransformer(
        str(folder), device=device, local_files_only=True, model_kwargs={"use_safetensors": True}
    )
    return model.float()  # the versions of transformers differ in the precision that they choose


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log, the warnings and the progress bars of the libraries below off stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging as transformers_logging

        loggers = [logging.getLogger(name) for name in ("sentence_transformers", "transformers")]
        levels, bars = [logger.level for logger in loggers], transformers_logging.is_progress_bar_enabled()
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            transformers_logging.disable_progress_bar()
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if bars:
                transformers_logging.enable_progress_bar()


def _check_devices(devices: Sequence[str]) -> None:
    import torch

    if not devices:
        raise ValueError("the list of devices is empty: name at least one, or pass 'auto'")
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", "cuda", *gpus] if gpus else ["cpu"]
    for device in devices:
        if device not in known:
            raise ValueError(f"a list of devices may name {known} on this machine, got {device!r}")


@contextmanager
def _pool(model: SentenceTransformer, device: str | list[str]) -> Iterator[Any]:
    """The processes of sentence-transformers, one for each device of a list; None for a single device."""
    if isinstance(device, str):
        yield None
        return
    pool = model.start_multi_process_pool(list(device))
    try:
        yield pool
    finally:
        model.stop_multi_process_pool(pool)
