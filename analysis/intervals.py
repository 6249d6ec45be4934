"""How far a percentile can be trusted: its confidence interval, and whether enough samples stand behind it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "BATCHES",
    "PERCENTILES",
    "design_effects",
    "minimum_count",
    "order_statistics",
    "rank",
    "share_interval",
    "woodruff",
]

PERCENTILES = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}
"""Name of each reported percentile, and its p in thousandths: whole numbers, so that ranks are exact."""


def rank(per_mille: int, count: int) -> int:
    """Nearest rank `ceil(p · n)`, from 1."""
    return -(-per_mille * count // 1000)


@lru_cache(maxsize=4096)
def order_statistics(per_mille: int, count: int, confidence: float = 0.95) -> tuple[int | None, int | None]:
    """Ranks (from 1) of the samples that enclose the percentile with at least `confidence`.

    Distribution-free: the number of samples below the p-quantile is Binomial(n, p), so the lower rank l is the
    largest with P(B < l) ≤ α/2 and the upper rank u the smallest with P(B ≥ u) ≤ α/2
    (Hahn and Meeker, Statistical Intervals, section 5.2). None where the samples do not reach that far.
    """
    from scipy.special import bdtr  # scipy loads when the first interval is asked for

    p, tail = per_mille / 1000, (1 - confidence) / 2

    def first_above(limit: float) -> int:
        """Smallest k with P(B ≤ k) > limit."""
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if bdtr(middle, count, p) > limit:
                high = middle
            else:
                low = middle + 1
        return low

    if not count:
        return None, None
    lower, upper = first_above(tail), first_above(1 - tail) + 1
    return lower if lower >= 1 else None, upper if upper <= count else None


BATCHES = 10
"""Batches that samples are cut into in the order of time: few and long, so that they hardly depend on each other."""


def design_effects(at_most: npt.NDArray[np.integer], sizes: npt.NDArray[np.integer]) -> list[float]:
    """By how much samples that are alike over time are worth less than independent ones, at each of some percentiles.

    The variance of the share of samples at or below the percentile, from that of batches in the order of time
    (the ratio estimator of cluster sampling: Cochran, Sampling Techniques, section 3.12), over that of independent
    samples, `p (1 - p) / n`, and as few batches call for Student's t, times its square over a normal's. One request
    that waits makes the next ones wait, so this is 10 or more behind a busy queue. 1 for all if at none of the
    percentiles the batches vary by more than independent samples' do in 19 of 20 cases. Few samples tell little of a
    high percentile, so its effect is never taken to be below that of a lower one.

    Args:
        at_most: shape (percentiles, batches), samples at or below each percentile; percentiles ascending.
        sizes: shape (batches,), all samples.
    """
    from scipy.special import chdtri, ndtri, stdtrit  # scipy loads when the first interval is asked for

    batches, count = len(sizes), int(sizes.sum())
    if batches < 2 or not count:
        return [1.0] * len(at_most)
    share = at_most.sum(axis=1) / count
    off = at_most - share[:, np.newaxis] * sizes
    variance = batches / (batches - 1) * np.square(off).sum(axis=1) / count
    alone = share * (1 - share)
    effects = np.divide(variance, alone, out=np.ones(len(share)), where=alone > 0)
    if not (effects > chdtri(batches - 1, 0.05) / (batches - 1)).any():
        return [1.0] * len(at_most)
    student = float(stdtrit(batches - 1, 0.975) / ndtri(0.975)) ** 2
    worst: list[float] = np.maximum.accumulate(np.maximum(effects * student, 1.0)).tolist()
    return worst


def woodruff(per_mille: int, count: int, effect: float, confidence: float = 0.95) -> tuple[int | None, int | None]:
    """Ranks (from 1) that enclose the percentile of samples worth `count / effect` independent ones.

    The exact (Clopper-Pearson) interval of the share p at that number of samples, taken back to the values (Woodruff
    1952; Korn and Graubard 1998). None where the samples do not reach that far. With an effect of 1, these are
    `order_statistics`.
    """
    if effect <= 1 or not count:
        return order_statistics(per_mille, count, confidence)
    low, high = share_interval(per_mille / 1000, count / effect, confidence)
    lower, upper = math.floor(low * count), math.ceil(high * count) + 1
    return lower if lower >= 1 else None, upper if upper <= count else None


def share_interval(share: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a probability of which `share` of `count` independent trials came true, also none or all.

    Clopper and Pearson 1934. `count` is over 0 and need not be whole: n / design effect (Korn and Graubard 1998).
    """
    from scipy.special import betaincinv  # scipy loads when the first interval is asked for

    true, tail = share * count, (1 - confidence) / 2
    low = float(betaincinv(true, count - true + 1, tail)) if true > 0 else 0.0
    high = float(betaincinv(true + 1, count - true, 1 - tail)) if true < count else 1.0
    return low, high


@lru_cache(maxsize=64)
def minimum_count(per_mille: int) -> int:
    """Smallest n at which the percentile is certified: P(Binomial(n, 1 - p) ≤ 1) ≤ 1 % (MLPerf's early stopping)."""
    p = per_mille / 1000

    def certified(n: int) -> bool:
        return p**n + n * (1 - p) * p ** (n - 1) <= 0.01

    high = 2
    while not certified(high):
        high *= 2
    low = high // 2
    while low < high:  # the probability falls with n
        middle = (low + high) // 2
        low, high = (low, middle) if certified(middle) else (middle + 1, high)
    return low
