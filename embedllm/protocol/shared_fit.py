"""The paper's training of the factorization, fitted once for all pages that show it.

A fit takes minutes, and three pages compare it with the exact one. The first of them keeps it in the cache, and the
others read it there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Self

import torch

from embedllm import predictors
from embedllm._checks import check_device
from embedllm._files import cache_folder, cached, sha256_of
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.mf import AUTHORS_ALPHA, MatrixFactorization


class CachedFactorization(MatrixFactorization):
    """A factorization whose fit is taken from the cache, where the same one was computed before.

    The same means: all labels, embeddings and names, in their order, all hyperparameters, the device, the number of
    threads, the version of PyTorch and the code of :mod:`embedllm.predictors`. Of several processes that want one fit,
    the first computes it and the others wait.

    Warns
    -----
    UserWarning
        If the file in the cache is damaged, and the fit therefore repeated, or cannot be written.
    """

    def fit(self, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None = None) -> Self:
        plain = MatrixFactorization(**self.get_params())
        path = cache_folder() / "fits" / f"{_key(plain, matrix, validation)}.safetensors"
        fitted = cached(
            path,
            "fit",
            MatrixFactorization.load,
            lambda: plain.fit(matrix, validation),
            MatrixFactorization.save,
        )
        for name, value in vars(fitted).items():
            if name.endswith("_"):  # what a fit sets
                setattr(self, name, value)
        return self


def paper_training() -> CachedFactorization:
    """Return the paper's training with its settings, to be fitted: 232 dimensions, alpha 0.05, the preset "paper".

    Examples
    --------
    >>> paper_training()
    CachedFactorization(alpha=0.05, solver='sgd')
    """
    return CachedFactorization(dim=232, alpha=AUTHORS_ALPHA, solver="sgd", preset="paper")


def _key(mf: MatrixFactorization, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None) -> str:
    """Hash all that decides a fit."""
    parameters = mf.get_params() | {"device": check_device(mf.device)}
    code = {path.name: sha256_of(path) for path in sorted(Path(*predictors.__path__).glob("*.py"))}
    settings = [parameters, torch.get_num_threads(), torch.__version__, code]
    total = hashlib.sha256(json.dumps(settings, default=_plain, sort_keys=True).encode())
    for part in (matrix, validation):
        for content in _contents(part) if part is not None else ():
            total.update(f"{len(content)} bytes".encode())
            total.update(content)
    return total.hexdigest()


def _contents(matrix: CorrectnessMatrix) -> Iterator[bytes]:
    for names in (matrix.model_names, matrix.question_ids):
        yield json.dumps(names.astype(str).tolist()).encode()
    for values in (matrix.labels, matrix.embeddings):
        yield values.tobytes()


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
