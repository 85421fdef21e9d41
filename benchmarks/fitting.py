"""What was tried to fit faster: `python -m benchmarks.fitting NAME FOLDER`, each in a process of its own.

The presets differ in blocks, epochs and schedule; two fits start from the factors of the model directions of ridge
regression instead of at random. The others leave the factorization: with dim of at least the number of models it can
express any matrix of model directions (n_models x width), so that these can be learned directly, by the same
training, by whole-data L-BFGS on the convex loss, or by ridge regression in closed form.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from embedllm import CorrectnessMatrix, MatrixFactorization
from embedllm.predictors.sgd import PRESETS, Parameters, TrainingPreset, init_parameters

ALPHA = 0.05


def preset(pairs: int, epochs: int, rate: float) -> TrainingPreset:
    return TrainingPreset(pairs_per_step=pairs, epochs=epochs, learning_rate=rate, weight_decay=1e-5, one_cycle=True)


FACTORIZATIONS = {
    "paper preset, 50 epochs": PRESETS["paper"],
    "fast preset: 128 questions a step, 10 epochs": PRESETS["fast"],
    "256 questions a step, 10 epochs": preset(28_672, 10, 3e-3),
    "256 questions a step, 4 epochs": preset(28_672, 4, 3e-3),
    "512 questions a step, 10 epochs": preset(57_344, 10, 6e-3),
    "1,024 questions a step, 10 epochs": preset(114_688, 10, 1.2e-2),
}

Weights = tuple[torch.Tensor, torch.Tensor]  # (n_models, width) and (n_models,)


def tensors(matrix: CorrectnessMatrix) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(matrix.embeddings), torch.tensor(matrix.labels.T).float()


def loss(weights: Weights, questions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits, seen = questions @ weights[0].T + weights[1], (labels >= 0).float()
    return functional.binary_cross_entropy_with_logits(logits, labels, weight=seen, reduction="sum") / seen.sum()


def one_product(matrix: CorrectnessMatrix) -> Weights:
    """The fast preset's training, of the model directions themselves."""
    questions, labels = tensors(matrix)
    generator = torch.Generator().manual_seed(0)
    weights = (torch.zeros(matrix.n_models, questions.shape[1]), torch.zeros(matrix.n_models))
    for value in weights:
        value.requires_grad_()
    block, per_epoch, epochs = PRESETS["fast"].schedule(matrix.n_questions, int(matrix.observed.sum()))
    optimizer = torch.optim.Adam(weights, weight_decay=1e-5, fused=True)
    # The best of 0.01, 0.03 and 0.1.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, total_steps=epochs * per_epoch)
    for _ in range(epochs):
        for rows in torch.randperm(matrix.n_questions, generator=generator).split(block):
            batch = questions[rows]
            batch += ALPHA * torch.randn(batch.shape, generator=generator)
            optimizer.zero_grad()
            loss(weights, batch, labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return weights


def l_bfgs(matrix: CorrectnessMatrix) -> Weights:
    """Whole-data L-BFGS; the noise becomes the penalty that it is to second order, with p (1 - p) taken as 1/5."""
    questions, labels = tensors(matrix)
    weights = (torch.zeros(matrix.n_models, questions.shape[1]), torch.zeros(matrix.n_models))
    for value in weights:
        value.requires_grad_()
    optimizer = torch.optim.LBFGS(weights, max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = ALPHA**2 / 5 / 2 * weights[0].square().sum() / matrix.n_models
        total = loss(weights, questions, labels) + penalty
        total.backward()
        return total

    optimizer.step(closure)
    return weights


def ridge(matrix: CorrectnessMatrix) -> Weights:
    """Ridge regression on answers, missing ones at the mean of their model; logits are four times its deviations."""
    questions, labels = tensors(matrix)
    seen = (labels >= 0).float()
    share = (labels * seen).sum(dim=0) / seen.sum(dim=0).clamp(min=1)
    centre = questions.mean(dim=0)
    centred, deviations = questions - centre, (labels - share) * seen
    penalty = ALPHA**2 * len(questions) * torch.eye(questions.shape[1])
    slopes = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ deviations).T * 4
    return slopes, share.clamp(0.01, 0.99).logit() - slopes @ centre


def factorize(matrix: CorrectnessMatrix, preset: TrainingPreset) -> Weights:
    fitted = MatrixFactorization(alpha=ALPHA, preset=preset).fit(matrix)
    return torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)


def without_fusing(matrix: CorrectnessMatrix) -> Weights:
    """The fast preset with Adam as several operations on each parameter."""

    def adam(*arguments: Any, fused: bool, **options: Any) -> torch.optim.Adam:
        return plain(*arguments, **options, fused=False, foreach=True)

    plain = torch.optim.Adam
    with mock.patch("torch.optim.Adam", adam):
        return factorize(matrix, PRESETS["fast"])


def from_ridge(matrix: CorrectnessMatrix, preset: TrainingPreset) -> Weights:
    """A fit that begins at the singular vectors of ridge regression's model directions.

    The first entries of a model embedding and their projections are the factors, scaled to the size that a random start
    has; their classifier makes up for it. What is left of dim starts at random, with a classifier of zero.
    """
    slopes, intercepts = ridge(matrix)
    left, strengths, right = torch.linalg.svd(slopes[np.argsort(matrix.model_names.astype(str), kind="stable")], False)

    def begin(n_models: int, width: int, dim: int, generator: torch.Generator) -> Parameters:
        start = init_parameters(n_models, width, dim, generator)
        rank = min(len(strengths), dim)
        size = n_models**0.5  # of a column of model embeddings
        start.model_embeddings[:, :rank] = size * left[:, :rank]
        length = start.projection.norm(dim=1).mean()
        start.projection[:rank] = length * right[:rank]
        start.classifier[:] = 0
        start.classifier[1, :rank] = strengths[:rank] / (size * length) / 2
        start.classifier[0, :rank] = -start.classifier[1, :rank]
        start.projection_bias[:] = 0
        start.classifier_bias[1] = intercepts.mean()
        start.classifier_bias[0] = 0
        return start

    with mock.patch("embedllm.predictors.sgd.init_parameters", begin):
        return factorize(matrix, preset)


OTHERS: dict[str, Callable[[CorrectnessMatrix], Weights]] = {
    "fast preset, Adam not fused": without_fusing,
    "fast preset, from ridge regression's factors": lambda matrix: from_ridge(matrix, PRESETS["fast"]),
    "from ridge regression's factors, 2 epochs, a third of the rate": lambda matrix: from_ridge(
        matrix, preset(14_336, 2, 1e-3)
    ),
    "model directions by the fast preset's training": one_product,
    "model directions by whole-data L-BFGS": l_bfgs,
    "model directions by ridge regression": ridge,
}
NAMES = [*FACTORIZATIONS, *OTHERS]


def measure(name: str, folder: Path) -> dict[str, Any]:
    train, validation = (CorrectnessMatrix.load(folder / f"{part}.npz") for part in ("train", "val"))
    questions, labels = tensors(validation)
    start = time.perf_counter()
    weights = factorize(train, FACTORIZATIONS[name]) if name in FACTORIZATIONS else OTHERS[name](train)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        agrees = ((questions @ weights[0].T + weights[1] > 0) == (labels == 1))[labels >= 0]
        return {
            "seconds": seconds,
            "val_loss": float(loss(weights, questions, labels)),
            "val_accuracy": float(agrees.float().mean()),
        }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
