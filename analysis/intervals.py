"""How far a percentile can be trusted: its confidence interval, and whether enough samples stand behind it."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["PERCENTILES", "minimum_count", "order_statistics", "rank"]

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
