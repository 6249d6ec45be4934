"""Drawing token lengths from a profile's distributions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.profile.distribution import ConstantLength, Length, LognormalLength, NormalLength, UniformLength
from fairshare_locust.seeding import random_stream

__all__ = ["draw_length", "draw_lengths"]


def draw_lengths(length: Length, stream: np.random.Generator, count: int) -> NDArray[np.int64]:
    """`count` lengths in tokens, each at least 1. More of the same stream begins with the same lengths.

    The log-normal has the given mean: its logarithm has mean `ln(mean) - sigma² / 2`. Values outside min and
    max are moved to the bound.
    """
    match length:
        case ConstantLength(value=value):
            return np.full(count, value, dtype=np.int64)
        case UniformLength(low=low, high=high):
            return stream.integers(low, high, size=count, dtype=np.int64, endpoint=True)
        case NormalLength():
            drawn = stream.normal(length.mean, length.std, count)
        case LognormalLength():
            drawn = stream.lognormal(math.log(length.mean) - length.sigma**2 / 2, length.sigma, count)
    return np.clip(np.rint(drawn), length.min, length.max).astype(np.int64)


def draw_length(length: Length, seed: int, tenant_id: str, purpose: str) -> int:
    """One length in tokens, from a stream of its own: a pure function of the four."""
    return int(draw_lengths(length, random_stream(seed, tenant_id, purpose), 1)[0])
