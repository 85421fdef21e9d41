"""Fitting in several processes, each of which holds a part of the questions, its share.

The processes are those of a group of `torch.distributed`, as `torchrun` starts them. Without one, a single process
holds everything, and nothing here communicates.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import distributed

from embedllm._support.checks import check_device
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


def gather(value: Any) -> list[Any]:
    """Return the value of every process of the group, in the order of their numbers."""
    values = [value] * rank()[1]
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


def agree(what: str, value: object) -> None:
    """Check that all processes hold the same value.

    Raises
    ------
    ValueError
        In each of them, if one differs.
    """
    if len(set(gather(repr(value)))) > 1:
        raise ValueError(f"the processes of the group were given different {what}: all must be given the same")


def add_up(tensors: Iterable[torch.Tensor]) -> None:
    """Add the tensors of all processes, in place and in one exchange."""
    if rank()[1] == 1:
        return
    tensors = list(tensors)
    total = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(total)
    for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
