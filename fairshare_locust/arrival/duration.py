"""Drawing durations, such as think times, from a profile's distributions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.arrival.series import BLOCK, Series
from fairshare_locust.profile.distribution import (
    ConstantDuration,
    Duration,
    ExponentialDuration,
    LognormalDuration,
    UniformDuration,
)

__all__ = ["Durations", "draw_durations"]


def draw_durations(duration: Duration, stream: np.random.Generator, count: int) -> NDArray[np.float64]:
    """`count` durations in seconds, none negative. More of the same stream begins with the same durations.

    The log-normal has the given mean: its logarithm has mean `ln(mean) - sigma² / 2`. Values above max are moved
    to it, which lowers the mean.
    """
    match duration:
        case ConstantDuration(value=value):
            return np.full(count, value, dtype=np.float64)
        case UniformDuration(low=low, high=high):
            return stream.uniform(low, high, count)
        case ExponentialDuration(mean=mean):
            drawn = mean * stream.standard_exponential(count)
        case LognormalDuration(mean=mean, sigma=sigma):
            drawn = stream.lognormal(math.log(mean) - sigma**2 / 2, sigma, count)
    return drawn if duration.max is None else np.minimum(drawn, duration.max)


class Durations:
    """The durations that a stream gives, by index: a pure function of the stream's seed and the index."""

    def __init__(self, duration: Duration, stream: np.random.Generator) -> None:
        self._series = Series(lambda _: draw_durations(duration, stream, BLOCK))

    def at(self, index: int) -> float:
        """Duration `index`, from 0, in seconds."""
        return self._series.at(index)
