"""Question embeddings and labels as a fit reads them: in blocks of questions, on its device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import softplus

from embedllm._support.checks import name_positions
from embedllm._support.division import normalized
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors.distributed import add_up

_BLOCK = 2048  # questions at a time: a block and its logits stay in the cache of a processor


class Answers:
    """Question embeddings and labels for the models named: on a GPU for good, on the CPU a block at a time.

    Embeddings are not copied as a whole on the CPU, where they may be a file mapped to memory that is larger than it.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    model_names : sequence of str
        Order of the models.
    device : torch.device
    """

    def __init__(self, matrix: CorrectnessMatrix, model_names: list[str], device: torch.device) -> None:
        on_cpu = device.type == "cpu"
        self.embeddings = matrix.embeddings if on_cpu else torch.tensor(matrix.embeddings, device=device)
        positions = name_positions("model", model_names, matrix.model_names)
        # 1, 0, or -1 where not observed        (n_questions, n_models), int8
        self.labels = torch.tensor(matrix.labels[positions].T, device=device).contiguous()
        self.model_names, self.width, self.device = model_names, matrix.embeddings.shape[1], device
        self._questions = matrix.questions

    def __len__(self) -> int:
        return len(self.labels)

    def draws(self, of_groups: bool = False) -> torch.Tensor:
        """Return a number in [0, 1) of each question, (n_questions,), that depends on its id, not on place or process.

        With `of_groups`, questions of the same item, or without one of the same text, have it in common.
        """
        # Not by `question_groups`, whose numbers depend on which other questions the process has.
        keys = self._questions.index.to_series().astype(str)
        for column in ("prompt", "item") if of_groups else ():
            if column in self._questions:
                values = self._questions[column].map(lambda value: normalized(str(value)), na_action="ignore")
                keys = values.mask(values.isin([""])).fillna(keys)
        hashes = pd.util.hash_array(keys.to_numpy(object), categorize=False)
        return torch.tensor((hashes >> np.uint64(11)) * 2.0**-53, device=self.device)

    def hide(self, questions: torch.Tensor) -> Self:
        """Return the same answers without those to some questions (n_questions, bool); embeddings are not copied."""
        rest = copy(self)
        rest.labels = self.labels.masked_fill(questions[:, None], NOT_OBSERVED)
        return rest

    def block(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy the embeddings (n_rows, width) and labels (n_rows, n_models) of some questions, float32."""
        if isinstance(self.embeddings, torch.Tensor):
            return self.embeddings[rows], self.labels[rows].float()
        return torch.from_numpy(self.embeddings[rows.numpy()]), self.labels[rows].float()

    def blocks(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the embeddings (n_rows, width) and labels (n_rows, n_models) of all questions, in their order.

        The embeddings of a block last until the next one is asked for.
        """
        # Memory of its own for each block would cost a tenth of a fit.
        buffer = torch.empty(_BLOCK, self.width, dtype=torch.float32)
        for start in range(0, len(self), _BLOCK):
            part = slice(start, start + _BLOCK)
            questions = self.embeddings[part]
            if isinstance(questions, np.ndarray):
                np.copyto(buffer.numpy()[: len(questions)], questions)
                questions = buffer[: len(questions)]
            yield questions.to(dtype), self.labels[part].to(dtype)

    @torch.no_grad()
    def score(
        self, logits: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype = torch.float32
    ) -> tuple[float, float]:
        """Compute mean log loss (nats) and accuracy over the observed answers of all processes; NaN without any.

        Parameters
        ----------
        logits : callable
            From embeddings (n_rows, width) to logits (n_rows, n_models).
        dtype : torch.dtype
            Of the embeddings.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, correctly predicted answers, answers
        for x, y in self.blocks(dtype):
            z, observed = logits(x), y >= 0
            loss = ((softplus(z) - y * z) * observed).sum(dtype=torch.float64)
            sums += torch.stack([loss, (((z > 0) == (y > 0)) & observed).sum(), observed.sum()])
        add_up([sums])
        loss, n_correct, n_observed = sums.tolist()
        return (loss / n_observed, n_correct / n_observed) if n_observed else (float("nan"), float("nan"))
