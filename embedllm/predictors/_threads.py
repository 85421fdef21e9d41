"""How many threads an operation may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded() -> Iterator[int]:
    """Have each operation of PyTorch and of NumPy's matrix products run in the thread that calls it.

    For many small operations in a row, whose threads would wait for each other longer than they compute, and for
    threads of our own, each with enough to do. The setting is the process's, and is restored afterwards.

    Yields
    ------
    int
        The number of threads that PyTorch had.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield n_threads
    finally:
        torch.set_num_threads(n_threads)
