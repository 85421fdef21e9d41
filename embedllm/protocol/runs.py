"""Runs over seeds: one division of the questions and one fit of every predictor for each seed.

The seed draws the division, where the source brings none of its own, and all that is random in training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter
from tqdm import tqdm

from embedllm._support.checks import check_positive, check_seed
from embedllm.matrix import CorrectnessMatrix, Split
from embedllm.predictors.base import CorrectnessPredictor

Predictor = TypeVar("Predictor", bound=CorrectnessPredictor)


class Run(NamedTuple):
    """Predictors fitted on the training part of one division, and their predictions of its test part.

    Attributes
    ----------
    seed : int
    split : Split
        The same object in all runs where the source brings its own division.
    predictors : dict of str to CorrectnessPredictor
    probabilities : dict of str to ndarray of shape (n_models, n_test)
        What each predictor predicts for the test questions; axes as in ``split.test.labels``.
    seconds : mapping of str to (float, float)
        What the fit of each predictor took, and its prediction of all test questions.
    """

    seed: int
    split: Split
    predictors: dict[str, CorrectnessPredictor]
    probabilities: dict[str, np.ndarray]
    seconds: Mapping[str, tuple[float, float]] = {}

    def with_those_of(self, other: Run) -> Run:
        """Return the run with the predictors of another one, on the same division, too."""
        predictors, probabilities = self.predictors | other.predictors, self.probabilities | other.probabilities
        seconds = {**self.seconds, **other.seconds}
        return self._replace(predictors=predictors, probabilities=probabilities, seconds=seconds)


def fit_runs(
    matrix: CorrectnessMatrix,
    predictors: Mapping[str, CorrectnessPredictor],
    seed: int = 0,
    n_seeds: int = 3,
    group_by: str | None = None,
) -> Iterator[Run]:
    """Fit clones of the predictors and predict the test questions, once for each seed.

    The seed becomes the `random_state` of every predictor that has one. A predictor without one is fitted once for all
    runs if the source brings its own division. A predictor whose `fit` takes `validation` gets the validation part.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    predictors : mapping of str to CorrectnessPredictor
        Name to estimator; the estimators themselves stay unfitted.
    seed : int
        The first of the seeds, which are consecutive.
    n_seeds : int
    group_by : str, optional
        A column of the questions, equal values of which stay in one part, as in `CorrectnessMatrix.split`.

    Yields
    ------
    Run
        In the order of the seeds.

    Raises
    ------
    ValueError
        If `seed` is not a seed, `n_seeds` is not a positive whole number, or there is no column `group_by`.

    Examples
    --------
    >>> from embedllm import BenchmarkMean, KNNCorrectness, fit_runs, load_dataset
    >>> matrix = load_dataset("simulated", scale=0.01)
    >>> predictors = {"KNN": KNNCorrectness(n_neighbors=15), "benchmark mean": BenchmarkMean()}
    >>> for run in fit_runs(matrix, predictors, n_seeds=2):
    ...     print(run.seed, run.split.test.n_questions, run.probabilities["KNN"].shape)
    0 30 (112, 30)
    1 30 (112, 30)
    """
    run: Run | None = None
    for run_seed, split in split_runs(matrix, seed, n_seeds, group_by):
        run = fit_run(split, predictors, run_seed, run)
        yield run


def fit_run(
    split: Split, predictors: Mapping[str, CorrectnessPredictor], seed: int, previous: Run | None = None
) -> Run:
    """Fit clones of the predictors on one division and predict its test questions.

    Parameters
    ----------
    split : Split
    predictors : mapping of str to CorrectnessPredictor
    seed : int
    previous : Run, optional
        Of the same predictors: if it is on the same division, what no seed changes is taken from it.
    """
    known = previous if previous is not None and previous.split is split else None
    run = Run(seed, split, {}, {}, seconds := {})
    for name, predictor in tqdm(predictors.items(), f"seed {seed}", unit="fit", delay=2, disable=None):
        if known is not None and not takes_seed(predictor):
            run.predictors[name], run.probabilities[name] = known.predictors[name], known.probabilities[name]
            seconds[name] = known.seconds[name]
            continue
        start = time.perf_counter()
        run.predictors[name] = fit_clone(predictor, split.train, seed, validation=split.val)
        fitted = time.perf_counter()
        run.probabilities[name] = run.predictors[name].predict_matrix(split.test)
        seconds[name] = fitted - start, time.perf_counter() - fitted
    return run


def split_runs(
    matrix: CorrectnessMatrix, seed: int = 0, n_seeds: int = 3, group_by: str | None = None
) -> Iterator[tuple[int, Split]]:
    """Yield each seed with its division of the questions: the source's own (the same object) or a random one.

    Raises
    ------
    ValueError
        If `seed` is not a seed, `n_seeds` is not a positive whole number, or there is no column `group_by`.
    """
    first = check_seed(seed)
    own = matrix.split(random_state=first, group_by=group_by) if "split" in matrix.questions else None
    for each in range(first, first + check_positive("n_seeds", n_seeds)):
        yield each, own or matrix.split(random_state=each, group_by=group_by)


def fit_clone(
    predictor: Predictor, train: CorrectnessMatrix, seed: int, validation: CorrectnessMatrix | None = None
) -> Predictor:
    """Fit a clone of a predictor, with the seed as its `random_state` and the validation data, if it takes them."""
    fitted = clone(predictor)
    if takes_seed(predictor):
        fitted.set_params(random_state=seed)
    if validation is not None and has_fit_parameter(fitted, "validation"):
        return fitted.fit(train, validation=validation)  # type: ignore[call-arg]
    return fitted.fit(train)


def takes_seed(predictor: CorrectnessPredictor) -> bool:
    """Tell whether a predictor has a `random_state` that its fit uses; the exact solver of MF uses none."""
    parameters = predictor.get_params()
    return "random_state" in parameters and parameters.get("solver") != "exact"
