"""Time and memory of calls for which both are known."""

import sys
import time

import numpy as np
import pytest

from embedllm.protocol import timing
from embedllm.protocol.timing import measure

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the counters of Linux")


class TestMeasure:
    def test_median_of_the_repeats(self):
        waits = iter([0.05, 0.0, 0.02])
        found = measure(lambda: time.sleep(next(waits)), 3)
        assert 0.02 <= found.seconds < 0.05
        assert found.repeats == 3

    @linux
    def test_peak_of_memory_that_is_freed(self):
        found = measure(lambda: np.ones(10_000_000).sum())  # 80 MB, gone when the call returns
        assert 78 < found.peak_mb < 90

    @linux
    def test_memory_that_was_held_before_does_not_count(self):
        before = np.ones(10_000_000)
        assert measure(lambda: before.sum()).peak_mb < 5

    def test_undefined_without_the_counters_of_linux(self, monkeypatch):
        def refuse(*_):
            raise PermissionError

        monkeypatch.setattr(timing.Path, "write_text", refuse)
        found = measure(lambda: None)
        assert np.isnan(found.peak_mb)
        assert found.seconds >= 0

    def test_repeats(self):
        with pytest.raises(ValueError, match="repeats must be a positive whole number, got 0"):
            measure(lambda: None, 0)
