"""What it costs to fit the models' embeddings and to route with them: parameters, arithmetic, time and memory.

FLOPs are counted as in :mod:`embedllm.protocol.flops` and scaled to a whole fit; time and memory are measured as in
:mod:`embedllm.protocol.timing`.

References
----------
EmbedLLM (arXiv 2410.02223), section 5.2 for the time of routing, and the authors' figure of the training cost.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from embedllm._support.checks import check_device, check_positive
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.sgd import PRESETS
from embedllm.protocol import flops
from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.timing import measure

ROUTED = 3000
"""Questions of the paper's timing of a router."""

_BYTES = 4  # of a float32
_FEW = 100  # questions of the routers that are slow one question at a time
_TERA, _MEGA = 1e12, 1e6

PAPER_SHAPE = flops.Shape(n_models=112, width=768, dim=232)
PAPER_QUESTIONS = 20_000
"""The number of questions that the paper names for its training cost, "about 20,000"."""


def shape_of(matrix: CorrectnessMatrix, mf: MatrixFactorization) -> flops.Shape:
    """Return the sizes of a factorization of a matrix.

    Raises
    ------
    ValueError
        If `dim` is not a positive whole number.
    """
    return flops.Shape(matrix.n_models, matrix.embeddings.shape[1], check_positive("dim", mf.dim))


def parameter_table(matrix: CorrectnessMatrix, mf: MatrixFactorization) -> pd.DataFrame:
    """Count the parameters of a factorization.

    Parameters
    ----------
    matrix : CorrectnessMatrix
        All parts of the data: the authors' checkpoint carries the embeddings of all questions, which are not trained.
    mf : MatrixFactorization
        Need not be fitted.

    Returns
    -------
    DataFrame
        Indexed by `tensor`, in the authors' names. Columns: `data`, `shape`, `parameters`, `MB` (10^6 bytes, float32),
        `trained`. The row "all trained" is the sum of those above it.
    """
    tensors = flops.initial_parameters(shape_of(matrix, mf))
    names = ("P.weight", "text_proj.weight", "text_proj.bias", "classifier.weight", "classifier.bias")
    rows = {name: (tuple(value.shape), value.numel(), True) for name, value in zip(names, tensors, strict=True)}
    rows["all trained"] = (), sum(value.numel() for value in tensors), True
    rows["Q.weight (authors' checkpoint)"] = matrix.embeddings.shape, matrix.embeddings.size, False
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["shape", "parameters", "trained"])
    table["shape"] = [" x ".join(f"{size:,}" for size in shape) for shape in table["shape"]]
    table.insert(0, "data", matrix.source)
    table.insert(3, "MB", table["parameters"] * _BYTES / _MEGA)
    return table.rename_axis("tensor")


def paper_conventions() -> pd.DataFrame:
    """Count the training of the paper in every usual way, and compare with the published value.

    Returns
    -------
    DataFrame
        Indexed by `convention`. Columns: `data`, `TFLOPs` (for `PAPER_QUESTIONS` questions) and
        `questions for the published`: with so many, the convention would give the published value.
    """
    each, passes = flops.pair_flops(PAPER_SHAPE), PAPER_SHAPE.n_models * PRESETS["paper"].epochs
    names = ["forward, multiply-adds", "forward", "forward and the gradients needed", "three times forward"]
    ways = dict(zip(names, (each["forward"] // 2, each["forward"], each["needed"], each["all"]), strict=True))
    published = float(load_published().at["training_tflops", "value"])
    table = pd.DataFrame({"TFLOPs": {way: count * passes * PAPER_QUESTIONS / _TERA for way, count in ways.items()}})
    table["questions for the published"] = (PAPER_QUESTIONS * published / table["TFLOPs"]).round().astype(int)
    table.insert(0, "data", "the paper's")
    return table.rename_axis("convention")


def training_flops(train: CorrectnessMatrix, mf: MatrixFactorization) -> pd.DataFrame:
    """Return the FLOPs of training, by the formula and as PyTorch counts them.

    Parameters
    ----------
    train : CorrectnessMatrix
        What is fitted.
    mf : MatrixFactorization
        Fitted by the exact solver.

    Returns
    -------
    DataFrame
        Indexed by `procedure`: the paper's data pair by pair, then these data pair by pair, by block for as many
        epochs, and the exact fit. Columns: `data`, `questions`, `pairs` (observed answers; the block form and the exact
        fit compute the others too), `epochs` (passes over the questions), `TFLOPs` and `counted TFLOPs`.
    """
    shape, epochs = shape_of(train, mf), PRESETS["paper"].epochs
    n_questions, n_pairs = train.n_questions, int(train.observed.sum())
    paper, n_paper = PAPER_SHAPE, PAPER_QUESTIONS * PAPER_SHAPE.n_models
    passes = mf.n_iter_ + 1

    def by_pair(shape: flops.Shape, n: int) -> tuple[float, float]:
        return n * flops.pair_flops(shape)["needed"], n * flops.count_step(shape, by_pair=True) / flops.COUNTED

    each, counted = flops.block_flops(shape)["needed"], flops.count_step(shape, by_pair=False) / flops.COUNTED
    block = n_questions * each, n_questions * counted
    rows = {
        "the paper's, by pair": ("the paper's", PAPER_QUESTIONS, n_paper, epochs, *by_pair(paper, n_paper)),
        "by pair": (train.source, n_questions, n_pairs, epochs, *by_pair(shape, n_pairs)),
        "by block": (train.source, n_questions, n_pairs, epochs, *block),
        "exact": (train.source, n_questions, n_pairs, passes, *_exact_flops(shape, n_questions)),
    }
    columns = ["data", "questions", "pairs", "epochs", "TFLOPs", "counted TFLOPs"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("procedure")
    table[columns[-2:]] = table[columns[-2:]].mul(table["epochs"] / _TERA, axis=0)
    return table


def _exact_flops(shape: flops.Shape, n_questions: int) -> tuple[float, float]:
    """FLOPs of a pass of the exact fit over the questions: logits and gradient, two products with all models."""
    x, u = torch.zeros(1, shape.width), torch.zeros(shape.width, shape.n_models)
    counted = flops.count_flops(lambda: x.T @ (x @ u))
    return 4.0 * n_questions * shape.width * shape.n_models, float(n_questions * counted)


def measure_costs(
    train: CorrectnessMatrix, test: CorrectnessMatrix, mf: MatrixFactorization, knn: KNNCorrectness
) -> pd.DataFrame:
    """Fit clones of MF and KNN, route the test questions with both, and measure time and memory.

    The embeddings of the questions are precomputed; a route is the model with the highest predicted correctness. `MF,
    by pair` is the authors' router, on parameters that were not trained: one question at a time, projected once for
    each model. It and KNN are timed on the first 100 questions only where they take them one at a time.

    Parameters
    ----------
    train, test : CorrectnessMatrix
    mf, knn : MatrixFactorization, KNNCorrectness

    Returns
    -------
    DataFrame
        Indexed by `key`. Columns: `data`, `what`, `method`, `questions`, `seconds` (median), `ms a question`,
        `s for 3,000`, `peak MB`, `repeats`.
    """
    mf, knn = clone(mf), clone(knn)
    questions, few = test.embeddings, test.embeddings[:_FEW]
    models, parameters = torch.arange(train.n_models), flops.initial_parameters(shape_of(train, mf))

    def route(predictor: CorrectnessPredictor, vectors: np.ndarray) -> None:
        predictor.predict_proba(vectors).argmax(axis=1)

    def one_by_one(predictor: CorrectnessPredictor, vectors: np.ndarray) -> None:
        for row in range(len(vectors)):
            route(predictor, vectors[row : row + 1])

    def by_pair(vectors: np.ndarray) -> None:
        for question in torch.tensor(vectors):
            scores = flops.pair_logits(parameters, question.expand(len(models), -1), models)
            (scores[:, 1] - scores[:, 0]).argmax()

    batch, single = "route all at once", "route one at a time"
    calls: dict[str, tuple[str, str, int, int, Callable[[], object]]] = {
        "mf_fit": ("fit", "MF", train.n_questions, 1, lambda: mf.fit(train)),
        "knn_fit": ("fit", "KNN", train.n_questions, 1, lambda: knn.fit(train)),
        "mf_batch": (batch, "MF", len(questions), 5, lambda: route(mf, questions)),
        "knn_batch": (batch, "KNN", len(questions), 1, lambda: route(knn, questions)),
        "mf_single": (single, "MF", len(questions), 3, lambda: one_by_one(mf, questions)),
        "pair_single": (single, "MF, by pair", len(few), 3, lambda: by_pair(few)),
        "knn_single": (single, "KNN", len(few), 1, lambda: one_by_one(knn, few)),
    }
    rows = {}
    for key, (what, method, n_questions, repeats, call) in calls.items():
        found = measure(call, repeats)
        each = found.seconds / n_questions
        rows[key] = (train.source, what, method, n_questions, found.seconds, 1000 * each, ROUTED * each, *found[1:])
    columns = ["data", "what", "method", "questions", "seconds", "ms a question", "s for 3,000", "peak MB", "repeats"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("key")


def routing_flops(train: CorrectnessMatrix, mf: MatrixFactorization) -> pd.DataFrame:
    """Return the FLOPs of scoring all models on one question whose embedding is precomputed.

    Parameters
    ----------
    train : CorrectnessMatrix
        What KNN searches.
    mf : MatrixFactorization
        Fitted on it.

    Returns
    -------
    DataFrame
        Indexed by `method`. Columns: `data` and `MFLOPs` a question.
    """
    shape = flops.Shape(train.n_models, train.embeddings.shape[1], mf.model_embeddings_.shape[1])
    by_formula = {
        "MF": 2 * shape.width * shape.n_models,
        "MF, by pair": shape.n_models * flops.pair_flops(shape)["forward"],
        "KNN": 2 * shape.width * train.n_questions,
    }
    return pd.DataFrame({"data": train.source, "MFLOPs": pd.Series(by_formula) / _MEGA}).rename_axis("method")


def describe_machine() -> pd.DataFrame:
    """Return what times depend on, as text: processors, threads, device and versions."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = {
        "processors": str(processors),
        "threads of PyTorch": str(torch.get_num_threads()),
        "device of the fit of MF": check_device("auto"),
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["this machine"])


def measured_values(costs: pd.DataFrame) -> dict[str, float]:
    """Return the measurements for the prose: `<key>_seconds`, `<key>_ms` (a question), `<key>_for_3000`, `<key>_mb`.

    They are of one machine at one time, so they are not among the reported values, which are compared with tolerances.
    """
    columns = {"seconds": "seconds", "ms": "ms a question", "for_3000": "s for 3,000", "mb": "peak MB"}
    return {
        f"{key}_{suffix}": float(row[column]) for key, row in costs.iterrows() for suffix, column in columns.items()
    }


def cost_values(
    parameters: pd.DataFrame, conventions: pd.DataFrame, training: pd.DataFrame, routing: pd.DataFrame
) -> list[ReportedValue]:
    """Return the values that the page on cost reports, none of which depends on the machine.

    Parameters
    ----------
    parameters, conventions, training, routing : DataFrame
        From `parameter_table`, `paper_conventions`, `training_flops` and `routing_flops`.
    """
    trained, paper = parameters.loc["all trained"], conventions["TFLOPs"]
    fits = training["TFLOPs"]
    needed = paper["forward and the gradients needed"]
    gap = 100 * (training["counted TFLOPs"] / fits - 1).abs().max()
    values = {
        "mf_parameters": ("Trained parameters of MF", trained["parameters"], ""),
        "mf_megabytes": ("Trained parameters of MF, float32", trained["MB"], "MB"),
        "paper_needed": ("Training of the paper by pair, forward and the gradients needed", needed, "TFLOPs"),
        "paper_thrice": ("Training of the paper by pair, three times forward", paper["three times forward"], "TFLOPs"),
        "pair_training": ("Training on these data by pair", fits["by pair"], "TFLOPs"),
        "block_training": ("Training on these data by block, as many epochs", fits["by block"], "TFLOPs"),
        "fit_training": ("Exact fit on these data", fits["exact"], "TFLOPs"),
        "block_saving": ("Training by pair / by block", fits["by pair"] / fits["by block"], ""),
        "fit_saving": ("Training by pair / exact fit", fits["by pair"] / fits["exact"], ""),
        "mf_route": ("Routing a question with MF", routing.at["MF", "MFLOPs"], "MFLOPs"),
        "flop_gap": ("Largest difference of a formula and its count", gap, "%"),
    }
    return [
        ReportedValue(key, what, [value], unit, count=key == "mf_parameters")
        for key, (what, value, unit) in values.items()
    ]
