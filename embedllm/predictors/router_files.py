"""Files of a router: `router.json`, which names the others, a factorization, a stack, new models, training questions.

The last three are safetensors, with names and weights as bytes of JSON, since a tensor's name is not any text. No
pickled object is ever loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from safetensors.numpy import load, save
from sklearn.linear_model import LogisticRegression

from embedllm._support.files import check_file, read_json, replacing
from embedllm.datasets.encoder import Encoder
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.predictors.checkpoints import reading
from embedllm.predictors.familiarity import Familiarity
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.ranking import NewModel
from embedllm.predictors.stacked import StackedCorrectness
from embedllm.predictors.tuned import Tuned

DESCRIPTION = "router.json"
FILES = {"weights": "factorization", "stack": "stack", "new_models": "new-models", "training": "training"}
"""Parts of a description, and how their files begin."""
NEEDED = {1: ("weights",), 2: ("weights", "new_models"), 3: ("weights", "stack")}
"""Parts that each format has; the third may have new models, and each the training questions."""


def stack_to_bytes(stack: StackedCorrectness) -> bytes:
    """Return the content of a file: what the parts need that were taken, apart from the factorization.

    Raises
    ------
    TypeError
        If a part that was taken is none of matrix factorization, KNN and the benchmark mean.
    """
    tensors: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {
        "n_folds": stack.n_folds,
        "told_benchmark": stack.told_benchmark,
        "weights": stack.weights_.to_dict(),
        "path": stack.path_.to_dict(orient="list"),
        "model_names": stack.model_names_.tolist(),
    }
    for name in sorted(stack.parts_):
        part = stack.parts_[name]
        fitted = part.predictor_ if isinstance(part, Tuned) else part
        if isinstance(fitted, MatrixFactorization):
            header["factorization"] = name
        elif stack.weights_[name] == 0:
            continue
        elif isinstance(fitted, KNNCorrectness):
            header["knn"] = {"name": name, "n_neighbors": int(fitted.n_neighbors)}
            tensors |= {"embeddings": fitted.train_.embeddings, "labels": fitted.train_.labels}
        elif isinstance(fitted, BenchmarkMean):
            header["benchmark_mean"] = {"name": name, "benchmarks": fitted.probability_.columns.tolist()}
            tensors["probability"] = fitted.probability_.to_numpy()
            if len(fitted.probability_.columns) > 1:
                header["benchmark_mean"]["classes"] = fitted.classifier_.classes_.tolist()
                tensors |= {"coef": fitted.classifier_.coef_, "intercept": fitted.classifier_.intercept_}
        else:
            raise TypeError(f"a stack with the part {name!r}, a {type(fitted).__name__}, cannot be saved")
    return _save(tensors, header)


def stack_from_bytes(content: bytes, factorization: MatrixFactorization) -> StackedCorrectness:
    """Return the stack that `stack_to_bytes` wrote; of its parts, only those that were taken, and the factorization.

    Raises
    ------
    Exception
        Of any kind, if the content is damaged.
    """
    tensors, header = _load(content)
    names = np.array(header["model_names"], dtype=object)
    parts: dict[str, CorrectnessPredictor] = {header["factorization"]: factorization}
    if "knn" in header:
        ids = [str(number) for number in range(len(tensors["embeddings"]))]
        labels = pd.DataFrame(tensors["labels"], names, ids)
        questions = pd.DataFrame({"benchmark": "of the training"}, index=ids)
        train = CorrectnessMatrix(labels, questions, tensors["embeddings"])
        parts[header["knn"]["name"]] = KNNCorrectness(header["knn"]["n_neighbors"]).fit(train)
    if "benchmark_mean" in header:
        mean, known = BenchmarkMean(), header["benchmark_mean"]
        mean.model_names_, mean.probability_ = names, pd.DataFrame(tensors["probability"], names, known["benchmarks"])
        mean.width_ = factorization.coef_.shape[1]
        if "classes" in known:
            mean.classifier_ = LogisticRegression()
            mean.classifier_.classes_ = np.array(known["classes"])
            mean.classifier_.coef_, mean.classifier_.intercept_ = tensors["coef"], tensors["intercept"]
        parts[known["name"]] = mean
    stack = StackedCorrectness(n_folds=header["n_folds"], told_benchmark=header.get("told_benchmark", True))
    stack.model_names_, stack.parts_ = names, parts
    stack.weights_ = pd.Series(header["weights"], name="weight")
    stack.path_ = pd.DataFrame(header["path"])
    if list(factorization.model_names_) != list(names) or not set(stack.weights_.index[stack.weights_ > 0]) <= {*parts}:
        raise ValueError("its parts do not fit each other")
    return stack


def models_to_bytes(new_models: Mapping[str, NewModel]) -> bytes:
    """Return the content of a file."""
    each = enumerate(new_models.values())
    return _save({f"{i} {key}": value for i, model in each for key, value in model._asdict().items()}, [*new_models])


def models_from_bytes(content: bytes, pool: Collection[str], width: int) -> dict[str, NewModel]:
    """Return the models that `models_to_bytes` wrote, beside those of a pool, for embeddings of a width.

    Raises
    ------
    Exception
        Of any kind, if the content is damaged.
    """
    tensors, names = _load(content)
    if not all(isinstance(name, str) for name in names) or len({*names, *pool}) < len(names) + len(pool):
        raise ValueError("a name of its models is no text, or taken")
    models = {name: NewModel(*(tensors[f"{i} {key}"] for key in NewModel._fields)) for i, name in enumerate(names)}
    for weights, spread in models.values():
        if weights.shape != (width + 1,) or spread.ndim != 2 or spread.shape[1] != width + 1:
            raise ValueError(f"its models are not for embeddings that are {width} wide")
        if not (np.isfinite(weights).all() and np.isfinite(spread).all()):
            raise ValueError("a number of its models is not finite")
    return models


def familiarity_to_bytes(familiarity: Familiarity) -> bytes:
    """Return the content of a file."""
    return _save({"reference": familiarity.reference}, {"limit": familiarity.limit})


def familiarity_from_bytes(content: bytes, width: int) -> Familiarity:
    """Return what `familiarity_to_bytes` wrote, for embeddings of a width.

    Raises
    ------
    Exception
        Of any kind, if the content is damaged.
    """
    tensors, header = _load(content)
    reference, limit = tensors["reference"], float(header["limit"])
    if not (reference.ndim == 2 and len(reference) and np.isfinite(reference).all() and -1 <= limit <= 1):
        raise ValueError("its numbers are none of training questions")
    if reference.shape[1] != width:
        raise ValueError(f"its embeddings are {reference.shape[1]} wide, and those of the router {width}")
    return Familiarity(reference, limit)


def write(folder: Path, contents: Mapping[str, bytes], encoder: Encoder) -> None:
    """Write the parts of a router beside those in a folder, then `router.json`, and delete what this one replaces.

    Parameters
    ----------
    folder : Path
    contents : mapping of str to bytes
        Those of `FILES` that the router has.
    encoder : Encoder
    """
    entries = {}
    for part, content in contents.items():
        sha256 = hashlib.sha256(content).hexdigest()
        entries[part] = {"name": f"{FILES[part]}-{sha256}.safetensors", "sha256": sha256}
    description: dict[str, Any] = {
        "format": max(form for form, parts in NEEDED.items() if contents.keys() >= {*parts}),
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        **entries,
    }
    description["sha256"] = checksum(description)
    try:
        known = describe(folder)
        replaced = {known[part]["name"] for part in FILES if part in known}
    except (FileNotFoundError, ValueError):  # no router yet, or none that can be read
        replaced = set()
    for part, content in contents.items():
        with replacing(folder / entries[part]["name"]) as temporary:
            temporary.write_bytes(content)
    with replacing(folder / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    for name in replaced - {entry["name"] for entry in entries.values()}:
        (folder / name).unlink(missing_ok=True)


class Saved(NamedTuple):
    """What the folder of a router holds; `encoder` has its name and its fingerprint."""

    encoder: dict[str, str]
    predictor: CorrectnessPredictor
    new_models: dict[str, NewModel]
    familiarity: Familiarity | None


def read(folder: Path) -> Saved:
    """Read what `write` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no router in the folder, or a part of it is missing.
    ValueError
        If it is damaged.
    """
    description, contents = describe(folder), {}
    paths = {part: folder / description[part]["name"] for part in FILES if part in description}
    for part, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(f"the router in {folder} lacks its file {path.name}: save or fetch it again")
        contents[part] = path.read_bytes()
        if hashlib.sha256(contents[part]).hexdigest() != description[part]["sha256"]:
            raise ValueError(f"{path} is damaged: save or fetch the router again")
    predictor: CorrectnessPredictor = (factorization := MatrixFactorization.load(paths["weights"]))
    if "stack" in paths:
        with reading(paths["stack"], "a stack written by Router.save"):
            predictor = stack_from_bytes(contents["stack"], factorization)
    new_models: dict[str, NewModel] = {}
    familiarity, width = None, factorization.coef_.shape[1]
    if "new_models" in paths:
        with reading(paths["new_models"], "a file of new models written by Router.save"):
            new_models = models_from_bytes(contents["new_models"], predictor.model_names_.tolist(), width)
    if "training" in paths:
        with reading(paths["training"], "a sample of training questions written by Router.save"):
            familiarity = familiarity_from_bytes(contents["training"], width)
    return Saved(description["encoder"], predictor, new_models, familiarity)


def checksum(description: dict[str, Any]) -> str:
    """Return the SHA-256 of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def describe(folder: Path) -> dict[str, Any]:
    """Return the content of `router.json`, if it is as `Router.save` wrote it.

    Raises
    ------
    FileNotFoundError
        If there is none in the folder.
    ValueError
        If it is not, or of a later version.
    """
    path = folder / DESCRIPTION
    if not os.path.lexists(path):
        raise FileNotFoundError(f"there is no router in {folder}: it holds no file {DESCRIPTION}")
    check_file(path)
    try:
        description = dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: save or fetch the router again") from error
    if description.pop("sha256", None) != checksum(description):
        raise ValueError(f"{path} differs from its checksum: save or fetch the router again")
    # First the format: a later one may have other parts.
    if type(form := description.get("format", 1)) is not int or form not in NEEDED:
        raise ValueError(f"{path} has format {form}, and this version reads {max(NEEDED)}: update embedllm")
    try:
        present = {*NEEDED[form], *(part for part in FILES if part in description)}
        encoder, parts = description["encoder"], {part: description[part] for part in present}
        texts = [encoder["name"], encoder["fingerprint"]]
        texts += [entry[key] for entry in parts.values() for key in ("name", "sha256")]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks a part that Router.save writes: save or fetch the router again") from error
    # A path instead of the name would leave the folder, where `save` deletes what it replaces.
    if not all(isinstance(text, str) for text in texts) or not all(
        re.fullmatch(rf"{FILES[part]}-[0-9a-f]{{64}}\.safetensors", entry["name"]) for part, entry in parts.items()
    ):
        raise ValueError(f"{path} holds an entry that Router.save never writes: save or fetch the router again")
    return description


def _save(tensors: Mapping[str, np.ndarray], header: Any) -> bytes:
    whole = {**tensors, "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    return save({name: np.ascontiguousarray(value) for name, value in whole.items()})


def _load(content: bytes) -> tuple[dict[str, np.ndarray], Any]:
    tensors = load(content)
    return tensors, json.loads(tensors.pop("header").tobytes())
