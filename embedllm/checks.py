"""Checks of numbers that users pass, with an error that names the number."""

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
