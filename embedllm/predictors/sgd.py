"""The paper's training of the factorization: stochastic gradient descent on observed (model, question) pairs.

The authors' trainer projects the question of every pair. The projection depends on the question alone, so a step here
takes a block of questions with all models: one projection a question and one small product with the model embeddings.
The noise e (see :mod:`embedllm.predictors.mf`) is then shared by the models of a question. This changes no pair's
distribution, and so neither the expected loss nor its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch.nn import functional
from tqdm import tqdm

from embedllm._support.checks import check_positive
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors._answers import Answers
from embedllm.predictors._threads import single_threaded
from embedllm.predictors.distributed import add_up, agree, gather, rank

_SMALL = 60_000_000  # multiply-adds of a step, forward: below, threads wait for each other longer than they compute


class Parameters(NamedTuple):
    """Trainable tensors, named after the authors' modules."""

    model_embeddings: torch.Tensor  # P           (n_models, dim)
    projection: torch.Tensor  # text_proj.weight  (dim, width)
    projection_bias: torch.Tensor  # text_proj.bias    (dim,)
    classifier: torch.Tensor  # classifier.weight (2, dim), row 1 scores a correct answer
    classifier_bias: torch.Tensor  # classifier.bias   (2,)

    def of_models(self, positions: torch.Tensor) -> Parameters:
        """Return the parameters with the models in another order."""
        return self._replace(model_embeddings=self.model_embeddings[positions].contiguous())

    def multiplied_out(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u_m (n_models, width) and t_m (n_models,), in float64."""
        p, w, b, c, a = (value.double() for value in self)
        directions = (c[1] - c[0]) * p  # (c1 - c0) * p_m      (n_models, dim)
        return directions @ w, directions @ b + (a[1] - a[0])


class Schedule(NamedTuple):
    """Steps of a training preset on a data set.

    Attributes
    ----------
    block : int
        Questions in an optimizer step.
    steps_per_epoch : int
    epochs : int
    """

    block: int
    steps_per_epoch: int
    epochs: int


@dataclass(frozen=True)
class TrainingPreset:
    """Hyperparameters of the training.

    Parameters
    ----------
    pairs_per_step : int
        Observed (model, question) pairs in an optimizer step, rounded to whole questions.
    epochs : int
        Passes over the training questions.
    learning_rate, weight_decay : float
        Of Adam.

    Examples
    --------
    >>> from embedllm import PRESETS, MatrixFactorization, TrainingPreset
    >>> PRESETS["paper"].schedule(n_questions=30_000, n_pairs=30_000 * 112)
    Schedule(block=18, steps_per_epoch=1667, epochs=50)
    >>> longer = TrainingPreset(pairs_per_step=2048, epochs=100, learning_rate=1e-4, weight_decay=1e-5)
    >>> MatrixFactorization(solver="sgd", preset=longer).preset.epochs
    100
    """

    pairs_per_step: int
    epochs: int
    learning_rate: float
    weight_decay: float

    def __post_init__(self) -> None:
        check_positive("pairs_per_step", self.pairs_per_step)

    def schedule(self, n_questions: int, n_pairs: int) -> Schedule:
        """Compute the steps for a number of questions and of observed pairs."""
        block = max(1, round(self.pairs_per_step / (n_pairs / n_questions)))
        return Schedule(block, -(-n_questions // block), self.epochs)


PRESETS = {"paper": TrainingPreset(pairs_per_step=2048, epochs=50, learning_rate=1e-4, weight_decay=1e-5)}


def init_parameters(n_models: int, width: int, dim: int, generator: torch.Generator) -> Parameters:
    """Draw initial parameters as PyTorch does for `Embedding` and `Linear`, from a generator of their own, float32."""

    def uniform(*shape: int, fan_in: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator, dtype=torch.float32) * 2 - 1) / fan_in**0.5

    return Parameters(
        model_embeddings=torch.randn(n_models, dim, generator=generator, dtype=torch.float32),
        projection=uniform(dim, width, fan_in=width),
        projection_bias=uniform(dim, fan_in=width),
        classifier=uniform(2, dim, fan_in=dim),
        classifier_bias=uniform(2, fan_in=dim),
    )


def block_logits(parameters: Parameters, questions: torch.Tensor) -> torch.Tensor:
    """Compute the logit z[m, q] = ((c1 - c0) * p_m) . (W q + b) + (a1 - a0) of every model on a block of questions.

    Parameters
    ----------
    parameters : Parameters
    questions : tensor of shape (n_questions, width)
        Question embeddings, with the noise added where there is one.

    Returns
    -------
    tensor of shape (n_questions, n_models)
    """
    p, w, b, c, a = parameters
    projected = torch.addmm(b, questions, w.T)  # W q + b              (n_questions, dim)
    directions = (c[1] - c[0]) * p  # (c1 - c0) * p_m       (n_models, dim)
    return torch.addmm((a[1] - a[0]).expand(len(p)), projected, directions.T)


def block_loss(
    parameters: Parameters, questions: torch.Tensor, labels: torch.Tensor, n_observed: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the mean cross-entropy over the observed pairs of a block.

    Softmax over two outputs is the logistic function of their difference, so this equals the authors' cross-entropy
    on the pairs of the block.

    Parameters
    ----------
    parameters : Parameters
    questions : tensor of shape (n_questions, width)
    labels : tensor of shape (n_questions, n_models), floating
        1, 0, or -1 where not observed.
    n_observed : tensor, a scalar, optional
        Observed pairs of the whole block, where these questions are a part of it: the losses of its parts add up.

    Returns
    -------
    tensor, a scalar
        0 if no pair of the block is observed.
    """
    logits = block_logits(parameters, questions)
    observed = (labels != NOT_OBSERVED).to(logits.dtype)
    total = functional.binary_cross_entropy_with_logits(logits, labels, weight=observed, reduction="sum")
    return total / (observed.sum() if n_observed is None else n_observed).clamp(min=1)


def train(
    matrix: CorrectnessMatrix,
    validation: CorrectnessMatrix | None,
    model_names: list[str],
    dim: int,
    alpha: float,
    preset: TrainingPreset,
    device: torch.device,
    seed: int,
) -> tuple[Parameters, pd.DataFrame]:
    """Train a factorization, in all processes of the group together if there is one.

    Parameters
    ----------
    matrix, validation : CorrectnessMatrix
        What this process holds of the questions.
    model_names : list of str
        Order in which the models are trained.
    dim, alpha, preset, device, seed
        As in `MatrixFactorization`.

    Returns
    -------
    parameters : Parameters, on the device
    history : DataFrame
        `train_loss` and, with validation data, `val_loss` and `val_accuracy` of each epoch.
    """
    settings = (model_names, dim, alpha, preset, seed, validation is None)
    agree("models, hyperparameters or kinds of data", settings)
    generator, noise_generator = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    width = matrix.embeddings.shape[1]
    initial = init_parameters(matrix.n_models, width, dim, generator)
    parameters = Parameters(*(value.to(device).requires_grad_() for value in initial))

    data = Answers(matrix, model_names, device)
    held_out = None if validation is None else Answers(validation, model_names, device)
    counts = gather(torch.from_numpy(matrix.observed.sum(axis=0)))  # observed pairs of each question, by process
    n_observed, first = torch.cat(counts), sum(map(len, counts[: rank()[0]]))
    own = range(first, first + matrix.n_questions)  # of the questions of all processes
    block, steps_per_epoch, epochs = preset.schedule(len(n_observed), int(n_observed.sum()))
    optimizer = torch.optim.Adam(parameters, lr=preset.learning_rate, weight_decay=preset.weight_decay, fused=True)
    history = []
    progress = tqdm(range(epochs), desc=f"MF dim {dim}", unit="epoch", disable=None if rank()[0] == 0 else True)
    small = block * dim * (width + matrix.n_models) < _SMALL and device.type == "cpu"
    with single_threaded() if small else nullcontext():
        for _ in progress:
            order = torch.randperm(len(n_observed), generator=generator)
            losses = torch.zeros(steps_per_epoch, dtype=torch.float32, device=device)
            for step, (rows, places, size, n_pairs) in enumerate(_steps(order, block, n_observed, own, device)):
                questions, labels = data.block(rows)  # (n_rows, width) and (n_rows, n_models)
                # e ~ N(0, I) of the whole block, in every process the same, so that their number changes nothing.
                noise = questions.new_empty(size, width).normal_(generator=noise_generator)
                questions.add_(noise[places], alpha=alpha)  # q + alpha e
                loss = block_loss(parameters, questions, labels, n_pairs)  # of z[m, q], a scalar
                optimizer.zero_grad()
                loss.backward()
                add_up(value.grad for value in parameters if value.grad is not None)
                optimizer.step()
                losses[step] = loss.detach()
            add_up([losses])
            record = {"train_loss": float(losses.mean())}
            if held_out is not None:
                record["val_loss"], record["val_accuracy"] = held_out.score(partial(block_logits, parameters))
            history.append(record)
            progress.set_postfix(record)
    return parameters, pd.DataFrame(history).rename_axis("epoch")


def _steps(
    order: torch.Tensor, block: int, n_observed: torch.Tensor, own: range, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]]:
    """For each step of an epoch: the own questions of its block, their places in it, its size and observed pairs.

    All of an epoch goes to the device at once: a GPU is never waited for between steps.
    """
    mine = (order >= own.start) & (order < own.stop)
    n_rows = [int(part.sum()) for part in mine.split(block)]
    rows = (order[mine] - own.start).to(device).split(n_rows)
    places = (torch.arange(len(order)) % block)[mine].to(device).split(n_rows)
    n_pairs = torch.stack([part.sum() for part in n_observed[order].split(block)]).to(device)
    return zip(rows, places, [len(part) for part in order.split(block)], n_pairs, strict=True)
