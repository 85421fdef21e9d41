"""What it costs to fit the models' embeddings and to route with them: parameters, arithmetic, time and memory.

**FLOPs** are those of the matrix products, two for a multiplication with its addition. They are counted twice: by a
formula, and by PyTorch's `FlopCounterMode` on a step that is really taken, forward and backward, scaled to a whole fit.
Neither counts what is done element by element (noise, biases, loss, optimiser). The backward pass of a product costs as
much again for each factor that needs a gradient. The embedding of a question is frozen, so the projection needs one for
its weights only.

**Time** is wall-clock time, the median of some repeats. **Memory** is how far the resident set of the process rises
above where it was before the call, by the kernel's high-water mark (Linux only, undefined elsewhere). What the process
already held and could use again is not in it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from embedllm._checks import check_device, check_positive
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.sgd import PRESETS
from embedllm.protocol.flops import (
    COUNTED,
    Shape,
    block_flops,
    count_block_step,
    count_flops,
    count_pair_step,
    initial_parameters,
    pair_flops,
    pair_logits,
)
from embedllm.protocol.published import load_published
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Settings
from embedllm.protocol.timing import measure

ROUTED = 3000
"""Questions of the paper's timing of a router."""

_BYTES = 4  # of a float32
_FEW = 100  # questions of the routers that are slow one question at a time
_TERA, _MEGA = 1e12, 1e6


PAPER_SHAPE = Shape(n_models=112, width=768, dim=232)
PAPER_QUESTIONS = 20_000
"""About so many, says the paper of its training cost."""


def shape_of(matrix: CorrectnessMatrix, settings: Settings) -> Shape:
    """Return the sizes of a factorization of a matrix.

    Raises
    ------
    ValueError
        If `dim` is not a positive whole number.
    """
    return Shape(matrix.n_models, matrix.embeddings.shape[1], check_positive("dim", settings.dim))


def parameter_table(matrix: CorrectnessMatrix, settings: Settings) -> pd.DataFrame:
    """Count the parameters of a factorization.

    Parameters
    ----------
    matrix : CorrectnessMatrix
        All parts of the data: the authors' checkpoint carries the embeddings of all questions, which are not trained.
    settings : Settings

    Returns
    -------
    DataFrame
        Indexed by `tensor`, in the authors' names. Columns: `data`, `shape`, `parameters`, `MB` (10^6 bytes, float32),
        `trained`. The row "all trained" is the sum of those above it.
    """
    tensors = initial_parameters(shape_of(matrix, settings))
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
    """Count the training of the paper in every usual way, against the published figure.

    Returns
    -------
    DataFrame
        Indexed by `convention`. Columns: `data`, `TFLOPs` (for `PAPER_QUESTIONS` questions), `of the published (%)`,
        and `questions for the published`, with which the convention would give the published figure.
    """
    each, passes = pair_flops(PAPER_SHAPE), PAPER_SHAPE.n_models * PRESETS["paper"].epochs
    ways = {
        "forward, multiply-adds": each["forward"] // 2,
        "forward": each["forward"],
        "forward and the gradients needed": each["needed"],
        "three times forward": each["all"],
    }
    published = float(load_published().at["training_tflops", "value"])
    table = pd.DataFrame({"TFLOPs": {way: flops * passes * PAPER_QUESTIONS / _TERA for way, flops in ways.items()}})
    table["of the published (%)"] = 100 * table["TFLOPs"] / published
    table["questions for the published"] = (PAPER_QUESTIONS * published / table["TFLOPs"]).round().astype(int)
    table.insert(0, "data", "the paper's")
    return table.rename_axis("convention")


def training_flops(train: CorrectnessMatrix, settings: Settings) -> pd.DataFrame:
    """FLOPs of training, by the formula and as PyTorch counts them.

    Parameters
    ----------
    train : CorrectnessMatrix
        What is fitted.
    settings : Settings

    Returns
    -------
    DataFrame
        Indexed by `procedure`: the paper's data pair by pair, then these data pair by pair, by block for as many
        epochs, and by block with the preset of the settings. Columns: `data`, `questions`, `pairs` (observed answers;
        the block form computes the others, too), `epochs`, `TFLOPs` and `counted TFLOPs`.
    """
    n_questions, n_pairs = train.n_questions, int(train.observed.sum())
    shape, epochs = shape_of(train, settings), PRESETS["paper"].epochs
    chosen = settings.mf(seed=0)._preset().schedule(n_questions, n_pairs).epochs
    published = PAPER_QUESTIONS, PAPER_QUESTIONS * PAPER_SHAPE.n_models
    rows = {
        "the paper's, by pair": ("the paper's", *published, epochs, *_pass_flops("pair", PAPER_SHAPE, *published)),
        **{
            procedure: (train.source, n_questions, n_pairs, passes, *_pass_flops(form, shape, n_questions, n_pairs))
            for procedure, form, passes in (
                ("by pair", "pair", epochs),
                ("by block", "block", epochs),
                ("by block, as fitted", "block", chosen),
            )
        },
    }
    columns = ["data", "questions", "pairs", "epochs", "TFLOPs", "counted TFLOPs"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("procedure")
    table[columns[-2:]] = table[columns[-2:]].mul(table["epochs"] / _TERA, axis=0)
    return table


def _pass_flops(form: str, shape: Shape, n_questions: int, n_pairs: int) -> tuple[float, float]:
    """FLOPs of one pass over the training data: by the formula, and counted."""
    if form == "pair":
        n, formula, counted = n_pairs, pair_flops(shape), count_pair_step(shape)
    else:
        n, formula, counted = n_questions, block_flops(shape), count_block_step(shape)
    return float(n * formula["needed"]), n * counted / COUNTED


class Costs(NamedTuple):
    """What was measured, and the predictors that were fitted on the way.

    Attributes
    ----------
    table : DataFrame
        Indexed by `key`. Columns: `data`, `what`, `method`, `questions`, `seconds` (median), `ms a question`,
        `s for 3,000`, `peak MB`, `repeats`.
    mf : MatrixFactorization
    knn : KNNCorrectness
    """

    table: pd.DataFrame
    mf: MatrixFactorization
    knn: KNNCorrectness


def measure_costs(train: CorrectnessMatrix, test: CorrectnessMatrix, settings: Settings, seed: int = 0) -> Costs:
    """Fit MF and KNN, route the test questions with both, and measure it all.

    The embeddings of the questions are at hand; a route is the model with the highest predicted correctness. `MF, by
    pair` is the authors' router: one question at a time, projected once for each model. KNN and it are timed on the
    first 100 questions only where they take them one at a time.

    Parameters
    ----------
    train, test : CorrectnessMatrix
    settings : Settings
    seed : int
        Of the fit.
    """
    mf, knn = settings.mf(seed), settings.knn()
    questions, few = test.embeddings, test.embeddings[:_FEW]
    models = torch.arange(train.n_models)

    def route(predictor: CorrectnessPredictor, vectors: np.ndarray) -> None:
        predictor.predict_proba(vectors).argmax(axis=1)

    def one_by_one(predictor: CorrectnessPredictor, vectors: np.ndarray) -> None:
        for row in range(len(vectors)):
            route(predictor, vectors[row : row + 1])

    def by_pair(vectors: np.ndarray) -> None:
        for question in torch.tensor(vectors):
            wrong, right = pair_logits(mf.parameters_, question.expand(len(models), -1), models).unbind(dim=1)
            (right - wrong).argmax()

    batch, single = "route all at once", "route one at a time"
    calls: list[tuple[str, str, str, int, int, Callable[[], object]]] = [
        ("mf_fit", "fit", "MF", train.n_questions, 1, lambda: mf.fit(train)),
        ("knn_fit", "fit", "KNN", train.n_questions, 1, lambda: knn.fit(train)),
        ("mf_batch", batch, "MF", len(questions), 5, lambda: route(mf, questions)),
        ("knn_batch", batch, "KNN", len(questions), 1, lambda: route(knn, questions)),
        ("mf_single", single, "MF", len(questions), 3, lambda: one_by_one(mf, questions)),
        ("pair_single", single, "MF, by pair", len(few), 3, lambda: by_pair(few)),
        ("knn_single", single, "KNN", len(few), 1, lambda: one_by_one(knn, few)),
    ]
    rows = []
    for key, what, method, n_questions, repeats, call in calls:
        found = measure(call, repeats)
        each = found.seconds / n_questions
        rows.append(
            {
                "key": key,
                "data": train.source,
                "what": what,
                "method": method,
                "questions": n_questions,
                "seconds": found.seconds,
                "ms a question": 1000 * each,
                "s for 3,000": ROUTED * each,
                "peak MB": found.peak_mb,
                "repeats": found.repeats,
            }
        )
    return Costs(pd.DataFrame(rows).set_index("key"), mf, knn)


def routing_flops(train: CorrectnessMatrix, costs: Costs) -> pd.DataFrame:
    """FLOPs of scoring all models on one question whose embedding is at hand.

    Parameters
    ----------
    train : CorrectnessMatrix
        What the predictors were fitted on.
    costs : Costs

    Returns
    -------
    DataFrame
        Indexed by `method`. Columns: `data`, `MFLOPs` a question, by the formula, and `counted MFLOPs` (NaN for KNN,
        whose product is one of NumPy or of PyTorch, as the processor has it).
    """
    mf = costs.mf
    vector = train.embeddings[:1]
    everyone = torch.arange(train.n_models)
    copies = torch.tensor(vector).expand(train.n_models, -1)
    shape = Shape(train.n_models, vector.shape[1], mf.model_embeddings_.shape[1])
    calls: dict[str, tuple[int, Callable[[], object] | None]] = {
        "MF": (2 * shape.width * shape.n_models, lambda: mf.predict_proba(vector)),
        "MF, by pair": (
            shape.n_models * pair_flops(shape)["forward"],
            lambda: pair_logits(mf.parameters_, copies, everyone),
        ),
        "KNN": (2 * shape.width * train.n_questions, None),
    }
    rows = {
        name: (train.source, flops / _MEGA, count_flops(call) / _MEGA if call else float("nan"))
        for name, (flops, call) in calls.items()
    }
    columns = ["data", "MFLOPs", "counted MFLOPs"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")


def describe_machine() -> pd.DataFrame:
    """Return what times depend on, as text: processors, threads, device and versions."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = {
        "processors": str(processors),
        "threads of PyTorch": str(torch.get_num_threads()),
        "device of the fit of MF": check_device("auto"),
        "system": f"{platform.system()}, {platform.machine()}",
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "NumPy": np.__version__,
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["this machine"])


def glue_costs(costs: Costs) -> None:
    """Glue the measured numbers for the prose: `<key>_seconds`, `<key>_ms` (a question), `<key>_for_3000`, `<key>_mb`.

    They are of one machine at one time, so they are not published as reported values, which are compared with
    tolerances.
    """
    from myst_nb import glue  # of the book, which the package alone does not need

    columns = {"seconds": "seconds", "ms": "ms a question", "for_3000": "s for 3,000", "mb": "peak MB"}
    for key, row in costs.table.iterrows():
        for suffix, column in columns.items():
            glue(f"{key}_{suffix}", float(row[column]), display=False)


def cost_values(
    parameters: pd.DataFrame, conventions: pd.DataFrame, training: pd.DataFrame, routing: pd.DataFrame
) -> list[ReportedValue]:
    """Return the numbers that the page of the costs quotes, none of which depends on the machine.

    Parameters
    ----------
    parameters, conventions, training, routing : DataFrame
        From `parameter_table`, `paper_conventions`, `training_flops` and `routing_flops`.
    """
    trained, paper = parameters.loc["all trained"], conventions["TFLOPs"]
    flops, route = training["TFLOPs"], routing["MFLOPs"]
    gaps = pd.concat([training["counted TFLOPs"] / flops, routing["counted MFLOPs"] / route]) - 1

    def reported(key: str, what: str, value: float, unit: str = "") -> ReportedValue:
        return ReportedValue(key, what, [float(value)], unit)

    return [
        reported("mf_parameters", "Trained parameters of MF", trained["parameters"]),
        reported("mf_megabytes", "Trained parameters of MF, float32", trained["MB"], "MB"),
        reported(
            "paper_needed",
            "Training of the paper by pair, forward and the gradients needed",
            paper["forward and the gradients needed"],
            "TFLOPs",
        ),
        reported(
            "paper_thrice", "Training of the paper by pair, three times forward", paper["three times forward"], "TFLOPs"
        ),
        reported("pair_training", "Training on these data by pair", flops["by pair"], "TFLOPs"),
        reported("block_training", "Training on these data by block, as many epochs", flops["by block"], "TFLOPs"),
        reported("fit_training", "Training on these data as fitted", flops["by block, as fitted"], "TFLOPs"),
        reported("block_saving", "Training by pair / by block", flops["by pair"] / flops["by block"]),
        reported("fit_saving", "Training by pair / as fitted", flops["by pair"] / flops["by block, as fitted"]),
        reported("mf_route", "Routing a question with MF", route["MF"], "MFLOPs"),
        reported("pair_route", "Routing a question with MF by pair", route["MF, by pair"], "MFLOPs"),
        reported("knn_route", "Routing a question with KNN", route["KNN"], "MFLOPs"),
        reported("flop_gap", "Largest difference of a formula and its count", 100 * gaps.abs().max(), "%"),
    ]
