"""Files of fitted factorizations: our own, in safetensors, and the checkpoints of the authors' trainer.

No pickled object is ever loaded, and a file that was cut short or changed is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from embedllm.predictors.coordinates import Coordinates
from embedllm.predictors.sgd import Parameters, TrainingPreset


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Name the file, and what it should be, in every error about its content.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If reading it fails in any other way.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not {kind}: {error}") from error


def to_bytes(parameters: Parameters | Coordinates, header: dict[str, Any]) -> bytes:
    """Return the content of a file: tensors as safetensors, and a header as JSON, with a checksum of both."""
    sealed = header | {"sha256": _checksum(header, parameters)}
    return save(parameters._asdict(), metadata={"embedllm": json.dumps(sealed)})


def read(path: str | os.PathLike[str]) -> tuple[Parameters | Coordinates, dict[str, Any]]:
    """Read what `to_bytes` wrote: parameters, and the header with its hyperparameters as the constructor takes them."""
    with safe_open(path, framework="pt", device="cpu") as file:
        header = dict(json.loads(file.metadata()["embedllm"]))
        kind = Coordinates if header["hyperparameters"].get("solver") == "exact" else Parameters
        parameters = kind(*(file.get_tensor(name) for name in kind._fields))
    if "sha256" not in header:
        raise ValueError("it has no checksum, like files of earlier versions: fit and save it again")
    if header.pop("sha256") != _checksum(header, parameters):
        raise ValueError("its content differs from its checksum")
    if isinstance(preset := header["hyperparameters"]["preset"], dict):
        header["hyperparameters"]["preset"] = TrainingPreset(**preset)
    return parameters, header


def read_authors(path: str | os.PathLike[str]) -> Parameters:
    """Read the state dict of the authors' model, written by `torch.save`."""
    try:
        if zipfile.is_zipfile(path):  # all but files of before PyTorch 1.6; torch.load leaves checksums unread
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"{damaged} differs from its checksum")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # neither reader keeps to a few classes of errors
        raise ValueError("it is damaged, or holds objects other than tensors, which are never loaded") from error
    return Parameters(
        _tensor(state, 2, "P.weight"),
        _tensor(state, 2, "text_proj.weight", "text_proj.0.weight"),
        _tensor(state, 1, "text_proj.bias", "text_proj.0.bias"),
        _tensor(state, 2, "classifier.weight", "classifier.0.weight"),
        _tensor(state, 1, "classifier.bias", "classifier.0.bias"),
    )


def check_parameters(parameters: Parameters | Coordinates, dim: int, model_names: list[str]) -> None:
    """Check that tensors fit the dimension, the names and each other.

    Raises
    ------
    ValueError
        If they do not, or a value is not finite.
    """
    n_models, width = len(parameters.model_embeddings), parameters.projection.shape[1]
    shapes: dict[type, list[tuple[int, ...]]] = {
        Parameters: [(n_models, dim), (dim, width), (dim,), (2, dim), (2,)],
        Coordinates: [(n_models, dim), (dim, width), (dim,), (width,), (), (n_models,)],
    }
    if [tuple(value.shape) for value in parameters] != shapes[type(parameters)]:
        found = ", ".join(f"{name} {tuple(value.shape)}" for name, value in parameters._asdict().items())
        raise ValueError(f"the shapes of its tensors do not fit each other: {found}")
    if not len(set(model_names)) == len(model_names) == n_models:
        raise ValueError(
            f"{len(set(model_names))} different names, which does not fit the model embeddings: {n_models} rows"
        )
    if not all(bool(value.isfinite().all()) for value in parameters):
        raise ValueError("a parameter is not finite")


def _checksum(header: dict[str, Any], parameters: Parameters | Coordinates) -> str:
    """Compute the SHA-256 of the whole content."""
    total = hashlib.sha256(json.dumps(header).encode())
    for name, value in parameters._asdict().items():
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.numpy())
    return total.hexdigest()


def _tensor(state: object, ndim: int, *names: str) -> torch.Tensor:
    """Return the tensor of the first of these names in a state dict, in float32."""
    known = state if isinstance(state, Mapping) else {}
    for value in map(known.get, names):
        if (
            isinstance(value, torch.Tensor)
            and (value.layout is torch.strided and not value.is_nested and value.device.type == "cpu")  # not "meta"
            and (value.ndim == ndim and value.is_floating_point())
        ):
            return value.float().contiguous()
    raise ValueError(f"it holds no {names[0]}, a dense tensor of floating-point numbers with {ndim} dimension(s)")
