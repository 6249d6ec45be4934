"""Rates that change: at which time a tenant's mean number of requests so far reaches a given number.

With a rate r(t), the mean number of requests due before t is Λ(t) = ∫₀ᵗ r. Unit-rate times, put through the inverse of
Λ, come at rate r (time-rescaling theorem; Çinlar's method for a Poisson process). Where Λ stands still, its inverse
is the end of that silence: what would be due in it is due when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LoopedRate", "PiecewiseRate", "RateCurve", "SwitchedRate", "constant_rates", "ramp"]

# A number of requests that misses a change of rate by a rounding error is meant to fall on it.
_ROUNDING = 1e-9
_FIRST_SWITCHES = 64


class RateCurve(Protocol):
    """A rate over time, seen through the inverse of its integral."""

    def times_s(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """When Λ exceeds each of `counts` (finite, ≥ 0), same shape, in seconds; inf where it never does."""
        ...


class PiecewiseRate:
    """Linear between changes, then constant for ever.

    Args:
        at_s: where the line changes, ascending from 0, shape (n + 1,).
        from_per_s: the rate at the start of each stretch, shape (n,).
        to_per_s: the rate at the end of each stretch, shape (n,).
        then_per_s: the rate from the last change on.

    Attributes:
        span_s: the last change.
        count: Λ there.
    """

    def __init__(self, at_s: ArrayLike, from_per_s: ArrayLike, to_per_s: ArrayLike, *, then_per_s: float = 0.0) -> None:
        self._start_s = np.asarray(at_s, dtype=np.float64)
        first = np.asarray(from_per_s, dtype=np.float64)
        last = np.asarray(to_per_s, dtype=np.float64)
        lengths_s = np.diff(self._start_s)
        slopes = np.divide(last - first, lengths_s, out=np.zeros_like(lengths_s), where=lengths_s > 0)
        self._end_s = np.append(self._start_s[1:], np.inf)
        self._before = np.append(0.0, np.cumsum(lengths_s * (first + last) / 2))
        self._rate_per_s = np.append(first, then_per_s)
        self._slope_per_s2 = np.append(slopes, 0.0)
        self.span_s = float(self._start_s[-1])
        self.count = float(self._before[-1])

    def times_s(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """See RateCurve."""
        # The last stretch that begins at or before the count: one that adds nothing is never the last.
        stretch = np.searchsorted(self._before, counts + _ROUNDING, side="right") - 1
        more = np.maximum(counts - self._before[stretch], 0.0)
        first = self._rate_per_s[stretch]
        last = np.sqrt(np.maximum(first**2 + 2 * self._slope_per_s2[stretch] * more, 0.0))
        # more = elapsed · (first + last) / 2, without the cancellation of the quadratic's usual solution
        silent = (first == 0) & (self._slope_per_s2[stretch] == 0)
        elapsed_s = np.where(silent, np.inf, 0.0)
        np.divide(2 * more, first + last, out=elapsed_s, where=first + last > 0)
        times_s: NDArray[np.float64] = np.minimum(self._start_s[stretch] + elapsed_s, self._end_s[stretch])
        return times_s


class LoopedRate:
    """A curve from its start to its last change, again and again."""

    def __init__(self, lap: PiecewiseRate) -> None:
        self._lap = lap

    def times_s(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """See RateCurve."""
        laps = np.floor((counts + _ROUNDING) / self._lap.count)
        rest = np.maximum(counts - laps * self._lap.count, 0.0)
        return laps * self._lap.span_s + np.minimum(self._lap.times_s(rest), self._lap.span_s)


class SwitchedRate:
    """On and off by turns, on first, for durations that are independent and exponential (an on-off Markov process).

    Durations are drawn at mean 1 and multiplied, so other rates or means keep their pattern.
    """

    def __init__(
        self, rates_per_s: tuple[float, float], means_s: tuple[float, float], stream: np.random.Generator
    ) -> None:
        self._rates_per_s = rates_per_s
        self._means_s = means_s
        self._stream = stream
        self._durations_s: NDArray[np.float64] = np.empty(0)
        self._curve = self._longer()

    def _longer(self) -> PiecewiseRate:
        """Twice as many switches as before."""
        pairs = max(_FIRST_SWITCHES, len(self._durations_s)) // 2
        drawn = self._stream.standard_exponential((pairs, 2)) * self._means_s
        self._durations_s = np.concatenate((self._durations_s, drawn.ravel()))
        rates = np.tile(self._rates_per_s, len(self._durations_s) // 2)
        return PiecewiseRate(np.append(0.0, np.cumsum(self._durations_s)), rates, rates)

    def times_s(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """See RateCurve."""
        most = float(counts.max()) + _ROUNDING
        while self._curve.count <= most:
            self._curve = self._longer()
        return self._curve.times_s(counts)


def constant_rates(
    rates_per_s: Sequence[float], lengths_s: Sequence[float], *, then_per_s: float = 0.0
) -> PiecewiseRate:
    """One constant rate after another, each for its length."""
    return PiecewiseRate(np.append(0.0, np.cumsum(lengths_s)), rates_per_s, rates_per_s, then_per_s=then_per_s)


def ramp(from_per_s: float, to_per_s: float, *, over_s: float, after_s: float = 0.0) -> PiecewiseRate:
    """One rate for `after_s` seconds, in `over_s` seconds to another, and so it stays."""
    return PiecewiseRate(
        [0.0, after_s, after_s + over_s], [from_per_s, from_per_s], [from_per_s, to_per_s], then_per_s=to_per_s
    )
