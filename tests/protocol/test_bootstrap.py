"""Intervals of ratios from resampled questions."""

import itertools

import numpy as np
import pandas as pd
import pytest

from embedllm.protocol.bootstrap import bootstrap_ratios, interval


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    counts = pd.DataFrame(rng.integers(1, 9, (400, 2)), columns=["a", "b"]).astype(float)
    return counts * rng.random((400, 2)), counts


def test_spread_is_that_of_the_linearised_ratio(table):
    sums, counts = table
    samples = bootstrap_ratios(sums, counts, n_resamples=4000)
    ratio = sums.sum() / counts.sum()
    stderr = np.sqrt(((sums - ratio * counts) ** 2).sum()) / counts.sum()
    np.testing.assert_allclose(samples.mean(), ratio, atol=0.1 * stderr.max())
    np.testing.assert_allclose(samples.std(), stderr, rtol=0.05)
    low, high = interval(samples["a"])
    assert (high - low) / (2 * 1.96) == pytest.approx(stderr["a"], rel=0.08)


def test_each_sample_of_units_is_equally_likely():
    sums, counts = pd.DataFrame({"a": [1.0, 0.0, 2.0]}), pd.DataFrame({"a": [1.0, 1.0, 4.0]})
    samples = bootstrap_ratios(sums, counts, n_resamples=20_000, min_units=1)["a"]
    every = [
        sums["a"][list(drawn)].sum() / counts["a"][list(drawn)].sum() for drawn in itertools.product(range(3), repeat=3)
    ]
    values, times = np.unique(np.round(every, 9), return_counts=True)
    for value, expected in zip(values, times / 27, strict=True):
        found = np.isclose(samples, value).mean()
        assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 20_000))


def test_columns_are_resampled_together(table):
    sums, counts = table
    both = bootstrap_ratios(sums.assign(b=sums["a"] + counts["a"]), counts.assign(b=counts["a"]))
    np.testing.assert_allclose(both["b"] - both["a"], 1)


def test_rows_of_one_question_stay_together(table):
    # Four runs on the same answers are no more evidence than one.
    once = bootstrap_ratios(*table)
    repeated = bootstrap_ratios(*(pd.concat([frame] * 4) for frame in table))
    np.testing.assert_allclose(once, repeated)


def test_same_seed_same_bits(table):
    pd.testing.assert_frame_equal(bootstrap_ratios(*table, 100), bootstrap_ratios(*table, 100))
    assert not bootstrap_ratios(*table, 100).equals(bootstrap_ratios(*table, 100, random_state=1))


def test_no_count_is_undefined():
    samples = bootstrap_ratios(pd.DataFrame({"a": [0.0]}), pd.DataFrame({"a": [0.0]}), 10)
    assert samples["a"].isna().all()
    assert np.isnan(interval(samples["a"])).all()


def test_few_units_give_no_interval(table):
    for n, defined in ((29, False), (30, True)):
        sums, counts = (frame.head(60).copy() for frame in table)
        sums["a"], counts["a"] = (frame["a"].where(np.arange(60) < n, 0.0) for frame in (sums, counts))
        samples = bootstrap_ratios(sums, counts, 50)
        assert samples["a"].notna().all() == defined
        assert samples["b"].notna().all()


def test_equal_values_give_no_interval():
    assert np.isnan(interval(np.full(100, 2.5))).all()


def test_undefined_resamples_are_left_out():
    assert interval([np.nan, 1.0, 3.0], level=1.0) == (1.0, 3.0)


def test_frames_that_do_not_match_are_refused(table):
    with pytest.raises(ValueError, match="same rows and columns"):
        bootstrap_ratios(table[0], table[1][["b", "a"]])
    with pytest.raises(ValueError, match="n_resamples must be a positive whole number, got 0"):
        bootstrap_ratios(*table, n_resamples=0)
