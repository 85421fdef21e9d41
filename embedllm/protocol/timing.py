"""Time and memory of a call.

Time is wall-clock time, the median over repeats. Memory is the rise of the resident set of the process during the call,
by the kernel's high-water mark (Linux only, undefined elsewhere). Memory that the process already held and could use
again is not counted.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from embedllm._support.checks import check_positive

_MEGA = 1e6


class Measured(NamedTuple):
    """Time and memory of a call.

    Attributes
    ----------
    seconds : float
        Median over the repeats.
    peak_mb : float
        Highest rise of the resident set in any of them (10^6 bytes); NaN where it is not known.
    repeats : int
    """

    seconds: float
    peak_mb: float
    repeats: int


def measure(call: Callable[[], object], repeats: int = 1) -> Measured:
    """Measure a call, as the module says.

    Parameters
    ----------
    call : callable
    repeats : int

    Raises
    ------
    ValueError
        If `repeats` is not a positive whole number.
    """
    seconds = []
    gc.collect()
    before = reset_peak()
    for _ in range(check_positive("repeats", repeats)):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Measured(float(np.median(seconds)), max(resident_mb("VmHWM") - before, 0.0), repeats)


def reset_peak() -> float:
    """Reset the kernel's high-water mark to the present resident set, and return that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return resident_mb("VmRSS")


def resident_mb(field: Literal["VmRSS", "VmHWM"]) -> float:
    """Return the resident set of this process, now ("VmRSS") or at its highest ("VmHWM"), in 10^6 bytes; else NaN."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    kilobytes = (int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
    return next(kilobytes, float("nan")) * 1024 / _MEGA
