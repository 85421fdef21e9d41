"""Fitting in several processes, each of which holds a part of the questions, its share.

The processes are those of a group of `torch.distributed`, as `torchrun` starts them. Without one, a single process
holds everything, and nothing here communicates.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import distributed

from embedllm._checks import check_device
from embedllm.matrix import CorrectnessMatrix


@contextmanager
def process_group(device: str = "auto") -> Iterator[None]:
    """Join the other processes that `torchrun` started; without `torchrun`, do nothing.

    Parameters
    ----------
    device : "auto", "cpu" or "cuda"
        Of the fit: processes with GPUs communicate through NCCL, others through Gloo. Each takes the GPU of its local
        rank.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield
        return
    cuda = check_device(device) == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> tuple[int, int]:
    """Return the number of this process in its group, and how many there are: (0, 1) without a group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def own_share(matrix: CorrectnessMatrix) -> CorrectnessMatrix:
    """Return this process's questions: consecutive ones, as many as in every process; embeddings are not copied.

    Raises
    ------
    ValueError
        If there are fewer questions than processes.
    """
    number, n_processes = rank()
    if matrix.n_questions < n_processes:
        raise ValueError(f"{matrix!r} has fewer questions than there are processes: {n_processes}")
    ends = np.linspace(0, matrix.n_questions, n_processes + 1).astype(int)
    return matrix.subset(questions=matrix.question_ids[ends[number] : ends[number + 1]])


class Shares:
    """Communication between the processes of a group about the questions that each of them holds.

    Parameters
    ----------
    n_own : int
        Questions that this process holds.
    device : torch.device
        Where tensors to add up are.

    Attributes
    ----------
    n_own, n_questions : int
        Questions of this process and of all processes.
    first : int
        Number of this process's first question among them, in the order of the processes.
    """

    def __init__(self, n_own: int, device: torch.device) -> None:
        number, n_processes = rank()
        self.n_own, self._device, self._alone = n_own, device, n_processes == 1
        sizes = self._join(n_processes, number, torch.tensor([n_own]))
        self.n_questions, self.first = int(sizes.sum()), int(sizes[:number].sum())

    def agree(self, what: str, value: object) -> None:
        """Check that all processes hold the same value.

        Raises
        ------
        ValueError
            In each of them, if one differs.
        """
        number, n_processes = rank()
        digest = int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:7], "big")
        if len(set(self._join(n_processes, number, torch.tensor([digest])).tolist())) > 1:
            raise ValueError(f"the processes of the group were given different {what}: all must be given the same")

    def of_all(self, values: np.ndarray) -> torch.Tensor:
        """Join an integer for each own question to one for each question of all processes, (n_questions,), int64."""
        return self._join(self.n_questions, self.first, torch.from_numpy(values.astype(np.int64)))

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Add the tensors of all processes, in place and in one exchange."""
        if self._alone:
            return
        tensors = list(tensors)
        total = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(total)
        for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def _join(self, length: int, start: int, own: torch.Tensor) -> torch.Tensor:
        joined = torch.zeros(length, dtype=torch.int64, device=self._device)
        joined[start : start + len(own)] = own.to(self._device)
        self.add_up([joined])
        return joined.cpu()
