"""Files of fitted factorizations: our own, in safetensors, and the checkpoints of the authors' trainer.

No pickled object is ever loaded, and a file that was cut short or changed is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from embedllm._support.files import check_file, parse_json, user_path
from embedllm.datasets.formats._tensors import dense, load_tensors
from embedllm.predictors.coordinates import Coordinates
from embedllm.predictors.sgd import Parameters, TrainingPreset


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[Path]:
    """Give the path of a file, and name it, and what it should be, in every error about its content.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If reading it fails in any other way.
    """
    file = user_path(path)
    if not os.path.lexists(file):
        raise FileNotFoundError(f"no such file: {path}")
    check_file(file)
    try:
        yield file
    except OSError:
        raise
    except Exception as error:  # a file of others may hold anything
        raise ValueError(f"{path} is not {kind}: {error}") from error


def to_bytes(parameters: Parameters | Coordinates, header: dict[str, Any]) -> bytes:
    """Return the content of a file: tensors as safetensors, and a header as JSON, with a checksum of both."""
    sealed = header | {"sha256": _checksum(header, parameters)}
    return save(parameters._asdict(), metadata={"embedllm": json.dumps(sealed)})


def read(path: str | os.PathLike[str]) -> tuple[Parameters | Coordinates, dict[str, Any]]:
    """Read what `to_bytes` wrote: parameters, and the header with its hyperparameters as the constructor takes them."""
    with safe_open(path, framework="pt", device="cpu") as file:
        header = dict(parse_json(file.metadata()["embedllm"].encode(), "its header"))
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
    state = load_tensors(Path(path))
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
        if (tensor := dense(value, ndim)) is not None:
            return tensor
    raise ValueError(f"it holds no {names[0]}, a dense tensor of floating-point numbers with {ndim} dimension(s)")
