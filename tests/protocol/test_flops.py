"""FLOPs by formula against PyTorch's own count."""

import numpy as np
import pytest
import torch

from embedllm import MatrixFactorization
from embedllm.predictors.sgd import Parameters, block_logits, init_parameters
from embedllm.protocol.flops import (
    Shape,
    block_flops,
    count_flops,
    count_step,
    pair_flops,
    pair_logits,
)

SHAPES = [Shape(7, 12, 5), Shape(1, 3, 1), Shape(30, 8, 40), Shape(112, 768, 232)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pair(shape):
    assert count_step(shape, by_pair=True, n=16) == 16 * pair_flops(shape)["needed"]
    assert pair_flops(shape)["all"] == 3 * pair_flops(shape)["forward"]
    fit, questions = init_parameters(*shape, torch.Generator()), torch.ones(16, shape.width)
    forward = count_flops(lambda: pair_logits(fit, questions, torch.zeros(16, dtype=torch.long)))
    assert forward == 16 * pair_flops(shape)["forward"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_block(shape):
    assert count_step(shape, by_pair=False, n=16) == 16 * block_flops(shape)["needed"]
    fit, questions = init_parameters(*shape, torch.Generator()), torch.ones(16, shape.width)
    assert count_flops(lambda: block_logits(fit, questions)) == 16 * block_flops(shape)["forward"]


def test_gradient_of_the_questions():
    """What the rule of thumb counts: it would be so if the questions were trained, too."""
    shape, models = SHAPES[0], torch.arange(16) % 7
    fit = Parameters(*(value.requires_grad_() for value in init_parameters(*shape, torch.Generator())))
    questions = torch.ones(16, shape.width, requires_grad=True)
    counted = count_flops(lambda: pair_logits(fit, questions, models).sum().backward())
    assert counted == 16 * pair_flops(shape)["all"]


def test_by_pair_is_what_the_factorization_computes(toy):
    mf = MatrixFactorization(dim=4, solver="sgd").fit(toy)
    questions = torch.tensor(toy.embeddings)
    incorrect, correct = pair_logits(
        mf.parameters_, questions.repeat_interleave(6, dim=0), torch.arange(6).repeat(40)
    ).unbind(dim=1)
    probability = torch.sigmoid(correct - incorrect).reshape(40, 6)
    np.testing.assert_allclose(probability, mf.predict_proba(toy.embeddings), atol=1e-6)
