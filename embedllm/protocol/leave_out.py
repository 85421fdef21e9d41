"""Leave-one-benchmark-out: fits without the training questions of one benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tqdm import tqdm

from embedllm.matrix import CorrectnessMatrix, Split
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.runs import Settings, repetitions, seeds_of


class FitWithout(NamedTuple):
    """A factorization fitted on the training part of a repetition without one benchmark.

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
    matrix: CorrectnessMatrix, settings: Settings, seed: int = 0, n_seeds: int = 3
) -> Iterator[FitWithout]:
    """Fit the factorization without each benchmark in turn, once for each seed.

    Yields
    ------
    FitWithout
        Seed by seed, the benchmarks in the order of `matrix.benchmark_names`.
    """
    total = len(seeds_of(seed, n_seeds)) * len(matrix.benchmark_names)
    with tqdm(total=total, desc="fits without a benchmark", unit="fit", disable=None) as progress:
        for repetition in repetitions(matrix, seed, n_seeds):
            train = repetition.split.train
            for benchmark in matrix.benchmark_names:
                rest = train.subset(questions=train.benchmarks != benchmark)
                mf = settings.mf(repetition.seed).fit(rest) if rest.observed.any() else None
                yield FitWithout(repetition.seed, repetition.split, benchmark, mf)
                progress.update()


def benchmarks_named(benchmarks: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Return the benchmarks whose name, in small letters and without punctuation, holds one of the parts."""
    parts = list(parts)
    plain = {name: "".join(filter(str.isalnum, name.lower())) for name in benchmarks}
    return [name for name, letters in plain.items() if any(part in letters for part in parts)]
