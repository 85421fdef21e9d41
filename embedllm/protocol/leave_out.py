"""Leave-one-benchmark-out: fits without the training questions of one benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tqdm import tqdm

from embedllm._checks import check_positive
from embedllm.matrix import CorrectnessMatrix, Split
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.runs import fit_clone, split_runs


class FitWithout(NamedTuple):
    """A factorization fitted on the training part of a run without one benchmark.

    Attributes
    ----------
    seed : int
    split : Split
        With all benchmarks.
    benchmark : str
        The one left out.
    mf : MatrixFactorization or None
        None if nothing was left to learn from.
    """

    seed: int
    split: Split
    benchmark: str
    mf: MatrixFactorization | None


def fits_without(
    matrix: CorrectnessMatrix, mf: MatrixFactorization, seed: int = 0, n_seeds: int = 3
) -> Iterator[FitWithout]:
    """Fit clones of a factorization without each benchmark in turn, once for each seed.

    Yields
    ------
    FitWithout
        Seed by seed, the benchmarks in the order of `matrix.benchmark_names`.
    """
    total = check_positive("n_seeds", n_seeds) * len(matrix.benchmark_names)
    with tqdm(total=total, desc="fits without a benchmark", unit="fit", disable=None) as progress:
        for run_seed, split in split_runs(matrix, seed, n_seeds):
            for benchmark in matrix.benchmark_names:
                rest, val = (part.subset(questions=part.benchmarks != benchmark) for part in (split.train, split.val))
                fitted = fit_clone(mf, rest, run_seed, validation=val) if rest.observed.any() else None
                yield FitWithout(run_seed, split, benchmark, fitted)
                progress.update()


def benchmarks_named(benchmarks: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Return the benchmarks whose name, in lower case and without punctuation, contains one of the parts."""
    parts = list(parts)
    plain = {name: "".join(filter(str.isalnum, name.lower())) for name in benchmarks}
    return [name for name, letters in plain.items() if any(part in letters for part in parts)]
