"""Lengths drawn from distributions: by hand, by their moments, and the same however many are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fairshare_locust.profile.distribution import ConstantLength, Length, LognormalLength, NormalLength, UniformLength
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.length import draw_length, draw_lengths


def draw(length: Length, count: int = 20_000, seed: int = 7) -> NDArray[np.int64]:
    return draw_lengths(length, random_stream(seed, "chat", "input_tokens"), count)


def test_constant() -> None:
    assert draw(ConstantLength(value=128), 3).tolist() == [128, 128, 128]


def test_uniform_includes_both_ends() -> None:
    drawn = draw(UniformLength(low=3, high=6))
    assert np.unique(drawn).tolist() == [3, 4, 5, 6]
    assert stats.chisquare(np.bincount(drawn)[3:]).pvalue > 0.01
    assert draw(UniformLength(low=5, high=5), 10).tolist() == [5] * 10


def test_normal() -> None:
    """Standard error of the mean 400 / sqrt(20000) = 2.8, of the deviation about 2."""
    drawn = draw(NormalLength(mean=2000, std=400))
    assert drawn.mean() == pytest.approx(2000, abs=3 * 2.8)
    assert drawn.std() == pytest.approx(400, abs=3 * 2)
    assert draw(NormalLength(mean=7.4, std=0), 3).tolist() == [7, 7, 7]


def test_lognormal_has_the_mean_that_is_named() -> None:
    """Of the logarithm: mean ln(200) - 0.18, deviation 0.6. Coefficient of variation sqrt(e^0.36 - 1) = 0.658."""
    drawn = draw(LognormalLength(mean=200, sigma=0.6))
    assert drawn.mean() == pytest.approx(200, abs=3 * 200 * 0.658 / math.sqrt(20_000))
    assert np.log(drawn).mean() == pytest.approx(math.log(200) - 0.18, abs=0.02)
    assert np.log(drawn).std() == pytest.approx(0.6, abs=0.02)
    assert np.median(drawn) == pytest.approx(200 * math.exp(-0.18), rel=0.02)
    assert draw(LognormalLength(mean=200, sigma=0), 3).tolist() == [200, 200, 200]


def test_bounds_take_what_lies_outside() -> None:
    drawn = draw(NormalLength(mean=100, std=50, min=80, max=120))
    assert (drawn.min(), drawn.max()) == (80, 120)
    # P(X < 80.5) = P(X > 119.5) = P(Z > 0.39) = 0.348
    assert np.mean(drawn == 80) == pytest.approx(0.348, abs=0.012)
    assert np.mean(drawn == 120) == pytest.approx(0.348, abs=0.012)
    drawn = draw(LognormalLength(mean=200, sigma=1, min=150, max=250))
    assert (drawn.min(), drawn.max()) == (150, 250)


def test_never_fewer_than_one() -> None:
    assert draw(NormalLength(mean=1, std=100)).min() == 1
    assert draw(LognormalLength(mean=0.5, sigma=2)).min() == 1


_LENGTHS = st.one_of(
    st.builds(ConstantLength, value=st.integers(1, 5000)),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)).map(lambda p: UniformLength(low=min(p), high=max(p))),
    st.builds(NormalLength, mean=st.floats(1, 5000), std=st.floats(0, 1000), max=st.none() | st.integers(1, 9000)),
    st.builds(LognormalLength, mean=st.floats(1, 5000), sigma=st.floats(0, 2), max=st.none() | st.integers(1, 9000)),
)


@settings(deadline=None, max_examples=100)
@given(length=_LENGTHS, few=st.integers(0, 50), more=st.integers(0, 50), seed=st.integers(0, 2**63 - 1))
def test_more_of_them_begin_with_the_same(length: Length, few: int, more: int, seed: int) -> None:
    drawn = draw(length, few + more, seed)
    assert drawn.dtype == np.int64
    assert drawn[:few].tolist() == draw(length, few, seed).tolist()
    assert few + more == 0 or drawn.min() >= 1


def test_one_length_is_a_function_of_seed_tenant_and_purpose() -> None:
    length = UniformLength(low=1, high=10**6)
    keys = [(seed, tenant_id, f"turns/{i}") for seed in (7, 8) for tenant_id in ("chat", "batch") for i in range(25)]
    drawn = [draw_length(length, *key) for key in keys]
    assert [draw_length(length, *key) for key in keys] == drawn
    assert len(set(drawn)) > 90
    assert drawn[0] == draw_lengths(length, random_stream(7, "chat", "turns/0"), 1)[0]
