"""Model embeddings from an exact fit: coordinates in which distances between models are differences of their logits."""

from __future__ import annotations

from typing import NamedTuple

import torch

from embedllm.predictors.distributed import add_up
from embedllm.predictors.exact import Problem

_RANK = 1e-12  # share of the first dimension's sum of squares below which a dimension is rounding


class Coordinates(NamedTuple):
    """A factorization of the logits, z[m, q] = p_m . (A q + b) + (u . q + t), with what all models share last.

    Attributes
    ----------
    model_embeddings : tensor of shape (n_models, dim)
        p_m, with mean 0 over the models.
    projection : tensor of shape (dim, width)
        A.
    projection_bias : tensor of shape (dim,)
        b.
    mean_direction : tensor of shape (width,)
        u.
    mean_intercept : tensor, a scalar
        t.
    ability : tensor of shape (n_models,)
        Mean logit of a model over the training questions; it is part of the logits above and not added to them.
    """

    model_embeddings: torch.Tensor
    projection: torch.Tensor
    projection_bias: torch.Tensor
    mean_direction: torch.Tensor
    mean_intercept: torch.Tensor
    ability: torch.Tensor

    def of_models(self, positions: torch.Tensor) -> Coordinates:
        """Return the parameters with the models in another order."""
        return self._replace(
            model_embeddings=self.model_embeddings[positions].contiguous(), ability=self.ability[positions]
        )

    def multiplied_out(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u_m (n_models, width) and t_m (n_models,), in float64."""
        p, a, b, u, t, _ = (value.double() for value in self)
        return p @ a + u, p @ b + t

    def truncated(self, dim: int) -> Coordinates:
        """Return the first dimensions."""
        return self._replace(
            model_embeddings=self.model_embeddings[:, :dim].contiguous(),
            projection=self.projection[:dim].contiguous(),
            projection_bias=self.projection_bias[:dim].contiguous(),
        )


def model_coordinates(problem: Problem, weights: torch.Tensor, dim: int) -> tuple[Coordinates, torch.Tensor]:
    """Factorize the logits of an exact fit into `dim` dimensions.

    With D the logits of the models on the training questions, (n_questions, n_models), less the mean over the models in
    each row, and D'D / n_questions = V S^2 V', the embeddings are V S: their inner products are those of the logits.
    So ``|p_m - p_n|`` is the root mean square over the questions of the difference of two models' logits, and the first
    d columns are the best approximation of D of rank d, for each d. Columns are unique up to their sign, which is
    such that the largest entry is positive; those beyond the rank are 0.

    Parameters
    ----------
    problem : Problem
    weights : tensor of shape (width + 1, n_models)
    dim : int

    Returns
    -------
    coordinates : Coordinates
        On the CPU, in float32.
    explained : tensor of shape (dim,), float64
        Share of the sum of squares of D in each dimension.
    """
    u, intercept = problem.linear(weights)
    products = torch.zeros(weights.shape[1], weights.shape[1], dtype=torch.float64, device=u.device)
    for x, _ in problem.answers.blocks(problem.dtype):
        logits = torch.addmm(intercept, x, u)  # (n_rows, n_models)
        centred = (logits - logits.mean(dim=1, keepdim=True)).double()
        products.addmm_(centred.T, centred)
    add_up([products])
    squares, basis = torch.linalg.eigh(products.cpu() / problem.n_questions)
    squares, basis = squares.flip(0), basis.flip(1)  # the largest first
    rank = int((squares > _RANK * squares[0]).sum()) if squares[0] > 0 else 0
    kept = min(dim, rank)
    basis = basis[:, :kept]
    basis = basis * basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    scale = squares[:kept].sqrt()

    linear = torch.cat([u, intercept[None]]).cpu().double()  # (width + 1, n_models)
    mean = linear.mean(dim=1)
    embeddings = torch.zeros(len(basis), dim, dtype=torch.float64)
    projection = torch.zeros(dim, len(linear), dtype=torch.float64)
    embeddings[:, :kept] = basis * scale
    projection[:kept] = ((linear - mean[:, None]) @ basis / scale).T
    explained = torch.zeros(dim, dtype=torch.float64)
    explained[:kept] = squares[:kept] / squares.clamp(min=0).sum()
    parts = embeddings, projection[:, :-1], projection[:, -1], mean[:-1], mean[-1], weights[-1].cpu()
    return Coordinates(*(part.float().contiguous() for part in parts)), explained
