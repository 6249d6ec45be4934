"""LogHistogram: percentiles to 1 % of a stream of durations, in little memory, that can be added up over processes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from math import log
from typing import Any

__all__ = ["LogHistogram"]

_RATIO = 1.02
_SMALLEST_MS = 0.001  # records have microseconds
_BELOW = -1
_PER_LOG = 1 / log(_RATIO)
_OFFSET = log(_SMALLEST_MS) * _PER_LOG
# At most (ratio - 1) / (ratio + 1) = 0.99 % from either end of its bucket (Masson, Rim, Lee: DDSketch, VLDB 2019).
_MIDDLE = 2 * _RATIO / (_RATIO + 1)


class LogHistogram:
    """Counts durations in ms by buckets whose ends are 2 % apart.

    Bucket k holds `[0.001 · 1.02^k, 0.001 · 1.02^(k+1))` ms and stands for a value within 1 % of all in it. What is
    below a microsecond, a negative duration too, is in bucket -1 and stands for 0.

    Attributes:
        count: how many durations there are.
        sum_ms: their exact sum.
    """

    __slots__ = ("_buckets", "count", "sum_ms")

    def __init__(self) -> None:
        self.count = 0
        self.sum_ms = 0.0
        self._buckets: dict[int, int] = {}

    def add(self, value_ms: float) -> None:
        """Count one finite duration."""
        key = int(log(value_ms) * _PER_LOG - _OFFSET) if value_ms >= _SMALLEST_MS else _BELOW
        buckets = self._buckets
        buckets[key] = buckets.get(key, 0) + 1
        self.count += 1
        self.sum_ms += value_ms

    def merge(self, other: LogHistogram) -> None:
        """Count all that the other one has counted."""
        buckets = self._buckets
        for key, count in other._buckets.items():
            buckets[key] = buckets.get(key, 0) + count
        self.count += other.count
        self.sum_ms += other.sum_ms

    def percentile(self, percent: int) -> float | None:
        """The nearest-rank percentile, `rank = ceil(p · n)`, to 1 %; None without values.

        Args:
            percent: 1 to 100.
        """
        return self.percentiles(percent)[0]

    def percentiles(self, *percents: int) -> list[float | None]:
        """The same for several, in rising order, at the price of one."""
        found: list[float | None] = []
        entries = iter(sorted(self._buckets.items()))
        key, passed = _BELOW, 0
        for percent in percents:
            rank = -(-percent * self.count // 100)
            while passed < rank:
                key, count = next(entries)
                passed += count
            found.append(_value_ms(key) if self.count else None)
        return found

    def counts_at_most(self, limits_ms: Sequence[float]) -> list[int]:
        """How many values are at most each limit; a value within 1 % of a limit may be on either side of it.

        Args:
            limits_ms: ascending.
        """
        counts = []
        entries = sorted(self._buckets.items())
        passed = list(itertools.accumulate((count for _, count in entries), initial=0))
        place = 0
        for limit_ms in limits_ms:
            while place < len(entries) and _value_ms(entries[place][0]) <= limit_ms:
                place += 1
            counts.append(passed[place])
        return counts

    def to_dict(self) -> dict[str, Any]:
        """For JSON or msgpack; short, as it is sent every few seconds. Keys and counts stand in turn in one list."""
        return {"sum_ms": self.sum_ms, "buckets": list(itertools.chain.from_iterable(self._buckets.items()))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LogHistogram:
        """What `to_dict` made."""
        histogram = cls()
        flat = values["buckets"]
        histogram._buckets = dict(zip(flat[::2], flat[1::2], strict=True))
        histogram.count = sum(flat[1::2])
        histogram.sum_ms = values["sum_ms"]
        return histogram


def _value_ms(key: int) -> float:
    """What bucket `key` stands for."""
    return 0.0 if key == _BELOW else _SMALLEST_MS * _RATIO**key * _MIDDLE
