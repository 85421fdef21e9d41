"""The paper's training of the factorization, fitted once for all pages that show it.

A fit takes minutes, and three pages compare it with the exact one. The first of them keeps it in the cache, and the
others read it there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import joblib
import torch

from embedllm import predictors
from embedllm._support.checks import check_device
from embedllm._support.files import cache_folder, cached, sha256_of
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
    code = {path.name: sha256_of(path) for path in sorted(Path(*predictors.__path__).glob("*.py"))}
    content: list[object] = [mf.get_params(), check_device(mf.device), torch.get_num_threads(), torch.__version__, code]
    for part in (matrix, validation):
        if part is not None:
            content += [part.model_names.tolist(), part.question_ids.tolist(), part.labels, part.embeddings]
    return str(joblib.hash(content, hash_name="sha1"))
