"""FLOPs of fitting and of routing with a factorization.

FLOPs are those of the matrix products, two for a multiplication with its addition. They are counted twice: by a
formula, and by PyTorch's `FlopCounterMode` on a training step that is taken, forward and backward. Neither counts
elementwise operations (noise, biases, loss, optimizer). The backward pass of a product costs as much again for each
factor that needs a gradient. The embedding of a question is frozen, so the projection needs one for its weights only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from embedllm.predictors.sgd import Parameters, block_loss, init_parameters

COUNTED = 64
"""Pairs or questions in a step that is counted; FLOPs are proportional to it."""


class Shape(NamedTuple):
    """Sizes that the cost of a factorization follows from.

    Attributes
    ----------
    n_models, width, dim : int
        Models, width of a question embedding, size of a model embedding.
    """

    n_models: int
    width: int
    dim: int


def initial_parameters(shape: Shape) -> Parameters:
    """Return parameters of these sizes, as a fit begins with them."""
    return init_parameters(*shape, generator=torch.Generator().manual_seed(0))


def pair_flops(shape: Shape) -> dict[str, int]:
    """Return the FLOPs of one (model, question) pair in the authors' procedure, which projects each pair's question.

    Returns
    -------
    dict
        `forward`; `needed`, with the gradients that training needs; `all`, with that of the question too: three times
        `forward`, the rule of thumb.
    """
    projection, classifier = 2 * shape.width * shape.dim, 2 * shape.dim * 2
    forward = projection + classifier
    return {"forward": forward, "needed": forward + projection + 2 * classifier, "all": 3 * forward}


def block_flops(shape: Shape) -> dict[str, int]:
    """Return the FLOPs of one question with all models in :mod:`embedllm.predictors.sgd`, which projects it once.

    Returns
    -------
    dict
        `forward` and `needed`, as in `pair_flops`.
    """
    projection, product = 2 * shape.width * shape.dim, 2 * shape.dim * shape.n_models
    forward = projection + product
    return {"forward": forward, "needed": forward + projection + 2 * product}


def pair_logits(parameters: Parameters, questions: torch.Tensor, models: torch.Tensor) -> torch.Tensor:
    """Compute the logits of incorrect and correct, pair by pair, as the authors do.

    Parameters
    ----------
    parameters : Parameters
    questions : tensor of shape (n_pairs, width)
    models : tensor of shape (n_pairs,), integer
        Row of each pair's model in the model embeddings.

    Returns
    -------
    tensor of shape (n_pairs, 2)
    """
    p, w, b, c, a = parameters
    return functional.linear(p[models] * functional.linear(questions, w, b), c, a)


def count_step(shape: Shape, by_pair: bool, n: int = COUNTED) -> int:
    """Return the FLOPs of a training step on n pairs, or n questions with all models, as PyTorch counts them."""
    generator = torch.Generator().manual_seed(0)
    questions = torch.randn(n, shape.width, generator=generator, dtype=torch.float32)
    models, labels = torch.arange(n) % shape.n_models, torch.zeros(n, dtype=torch.long)
    fit = Parameters(*(value.requires_grad_() for value in initial_parameters(shape)))
    if by_pair:
        return count_flops(lambda: functional.cross_entropy(pair_logits(fit, questions, models), labels).backward())
    unknown = torch.zeros(n, shape.n_models, dtype=torch.float32)
    return count_flops(lambda: block_loss(fit, questions, unknown).backward())


def count_flops(call: Callable[[], object]) -> int:
    """Run a call and return the FLOPs of its matrix products, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
