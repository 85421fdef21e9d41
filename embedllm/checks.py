"""Checks of values that users pass, with an error that names the value."""

from __future__ import annotations

import numbers


def check_positive(name: str, value: object) -> int:
    """Return a count.

    Raises
    ------
    ValueError
        If it is not a positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return int(value)


def check_seed(value: object) -> int:
    """Return a seed that NumPy and PyTorch both accept.

    Raises
    ------
    ValueError
        If it is not a whole number from 0 to 2**63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= int(value) < 2**63:
        raise ValueError(f"the seed (random_state) must be a whole number from 0 to 2**63 - 1, got {value!r}")
    return int(value)


def check_device(value: object) -> str:
    """Return "cpu" or "cuda"; "auto" is a GPU if there is one.

    Raises
    ------
    ValueError
        If it is none of these three, or "cuda" on a machine without a usable GPU.
    """
    if value not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {value!r}")
    if value == "cpu":
        return "cpu"
    import torch  # takes seconds, which readers of this module's other checks should not wait

    if torch.cuda.is_available():
        return "cuda"
    if value == "cuda":
        raise ValueError("device 'cuda' was asked for, but this machine has no usable GPU: use 'auto' or 'cpu'")
    return "cpu"
