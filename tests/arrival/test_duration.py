"""Durations: by hand, as distributions, and by index."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fairshare_locust.arrival import Durations, draw_durations
from fairshare_locust.profile.distribution import (
    ConstantDuration,
    Duration,
    ExponentialDuration,
    LognormalDuration,
    UniformDuration,
)
from fairshare_locust.seeding import random_stream

_ALL: list[Duration] = [
    ConstantDuration(value=1.5),
    UniformDuration(low=1, high=3),
    ExponentialDuration(mean=2),
    LognormalDuration(mean=2, sigma=0.5),
]


def draw(duration: Duration, count: int = 20_000) -> np.ndarray:
    return draw_durations(duration, np.random.default_rng(3), count)


def test_constant() -> None:
    assert draw(ConstantDuration(value=1.5), 3).tolist() == [1.5, 1.5, 1.5]
    assert draw(ConstantDuration(value=0), 2).tolist() == [0, 0]


def test_distributions() -> None:
    """The log-normal's logarithm has mean ln 2 - 0.125, so its median is 2 / e^0.125."""
    assert stats.kstest(draw(UniformDuration(low=1, high=3)), "uniform", args=(1, 2)).pvalue > 0.01
    assert stats.kstest(draw(ExponentialDuration(mean=2)), "expon", args=(0, 2)).pvalue > 0.01
    lognormal = draw(LognormalDuration(mean=2, sigma=0.5))
    assert stats.kstest(lognormal, "lognorm", args=(0.5, 0, 2 / math.exp(0.125))).pvalue > 0.01
    # Standard error of the mean: 2 · sqrt(e^0.25 - 1) / sqrt(20000) = 0.0075
    assert lognormal.mean() == pytest.approx(2, abs=3 * 0.0075)


@pytest.mark.parametrize("kind", ["exponential", "lognormal"])
def test_values_above_max_are_moved_to_it(kind: str) -> None:
    exponential = kind == "exponential"
    free: Duration = ExponentialDuration(mean=2) if exponential else LognormalDuration(mean=2, sigma=1)
    held: Duration = ExponentialDuration(mean=2, max=3) if exponential else LognormalDuration(mean=2, sigma=1, max=3)
    assert draw(held).tolist() == [min(value, 3.0) for value in draw(free).tolist()]
    assert 3.0 in draw(held)


@pytest.mark.parametrize("duration", _ALL, ids=lambda duration: duration.distribution)
def test_by_index_as_drawn_whatever_the_order(duration: Duration) -> None:
    drawn = draw_durations(duration, random_stream(7, "chat", "think"), 3000)
    durations = Durations(duration, random_stream(7, "chat", "think"))
    assert [durations.at(i) for i in (2999, 0, 1024, 1023)] == [drawn[i] for i in (2999, 0, 1024, 1023)]
