"""Repeats: a figure over several runs of the same thing, where the run is the unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["t_interval"]

Interval = tuple[float | None, float | None]


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float | None, Interval]:
    """Mean of one value per run, and its interval `mean ± t(n - 1) · s / √n` (Student 1908).

    Requests of one run share its luck, so they are no independent draws; runs are. The mean is None without
    a value, the bounds with fewer than two, and both where a value is not finite.
    """
    count = len(values)
    if not count or not all(map(math.isfinite, values)):
        return None, (None, None)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, (None, None)
    from scipy.special import stdtrit  # scipy loads when the first interval is asked for

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * deviation / math.sqrt(count)
    return mean, (mean - half, mean + half)
