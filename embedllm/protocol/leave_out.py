"""Leave-one-benchmark-out: fits without the questions of some benchmarks, and the accuracies predicted from them.

References
----------
EmbedLLM (arXiv 2410.02223), sections 5.3 and 6.2. The paper does not state the share of test models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import ShuffleSplit
from tqdm import tqdm

from embedllm._support.checks import check_seed
from embedllm.matrix import CorrectnessMatrix, Split
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.runs import fit_clone

N_SPLITS = 100  # the paper's
MIN_SPLIT_MODELS = 20  # with fewer on a benchmark, the test part is too small for a rank correlation
SMALL_POOL = 60  # below it, half of the models are tested


def benchmark_accuracies(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Return the accuracy of each model on each benchmark, (n_models, n_benchmarks), NaN where nothing was observed."""
    table = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    return table.loc[matrix.model_names, matrix.benchmark_names]


def fits_without(
    split: Split, mf: MatrixFactorization, left_out: Sequence[tuple[str, ...]], seed: int = 0
) -> Iterator[tuple[tuple[str, ...], MatrixFactorization | None]]:
    """Fit clones of a factorization to the training questions, without those of some benchmarks at a time.

    Yields
    ------
    left_out : tuple of str
        The benchmarks left out, one of those given.
    fitted : MatrixFactorization or None
        None if nothing was left to learn from.
    """
    for benchmarks in tqdm(left_out, desc="fits without benchmarks", unit="fit", disable=None):
        rest, val = (part.subset(questions=~np.isin(part.benchmarks, benchmarks)) for part in (split.train, split.val))
        yield benchmarks, fit_clone(mf, rest, seed, validation=val) if rest.observed.any() else None


def model_vectors(fitted: MatrixFactorization) -> pd.DataFrame:
    """Return the model embeddings of a factorization, (n_models, dim), by the names of the models."""
    return pd.DataFrame(fitted.model_embeddings_, fitted.model_names_, dtype=float)


def predict_in_splits(vectors: np.ndarray, accuracy: np.ndarray, seed: int = 0) -> np.ndarray:
    """Predict accuracies by linear regression on the models' vectors, in 100 random divisions of the models.

    With more coordinates than models, it is the regression whose coefficients have the smallest norm. A fifth of the
    models are tested, or half of fewer than 60.

    Parameters
    ----------
    vectors : ndarray of shape (n_models, n_coordinates)
    accuracy : ndarray of shape (n_models,) or (n_models, n_benchmarks)
    seed : int
        Of the divisions, which are the same for all vectors of as many models.

    Returns
    -------
    ndarray of shape (100, n_models) or (100, n_models, n_benchmarks)
        NaN for the models that the regression was fitted on; with fewer than 20 models, for all.

    Examples
    --------
    >>> import numpy as np
    >>> from embedllm.protocol.leave_out import predict_in_splits
    >>> skill = np.arange(20.0)
    >>> predicted = predict_in_splits(skill[:, None], skill / 20)
    >>> int(np.isfinite(predicted[0]).sum()), bool(np.allclose(np.nanmean(predicted, axis=0), skill / 20))
    (10, True)
    """
    predicted = np.full((N_SPLITS, *accuracy.shape), np.nan)
    if len(accuracy) >= MIN_SPLIT_MODELS:
        # In at most as many coordinates as models, turned: the norm, and with it the regression, is the same.
        vectors = np.linalg.qr(vectors.T).R.T
        # scikit-learn takes no larger seeds.
        splits = ShuffleSplit(
            N_SPLITS, test_size=0.5 if len(accuracy) < SMALL_POOL else 0.2, random_state=check_seed(seed) % 2**32
        )
        for row, (train, test) in zip(predicted, splits.split(vectors), strict=True):
            # As scikit-learn's LinearRegression, which takes twice as long.
            means = vectors[train].mean(axis=0), accuracy[train].mean(axis=0)
            slope = np.linalg.lstsq(vectors[train] - means[0], accuracy[train] - means[1], rcond=None)[0]
            row[test] = means[1] + (vectors[test] - means[0]) @ slope
    return predicted


def benchmarks_named(benchmarks: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Return the benchmarks whose name, in lower case and without punctuation, contains a part, in the parts' order."""
    names = list(benchmarks)
    return list(dict.fromkeys(name for part in parts for name in names if part in plain_name(name)))


def plain_name(benchmark: str) -> str:
    """Return the name of a benchmark in lower case and without punctuation."""
    return "".join(filter(str.isalnum, benchmark.lower()))
