"""Timing: how well a source was sampled: how often, how late, how long, and where samples are missing."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

__all__ = ["Timing"]

_GAP_INTERVALS = 3
_GAPS_KEPT = 100


class Timing:
    """The samples of one source, asked for every `interval_s`. All stamps are seconds on the run clock.

    Attributes:
        late_ticks: samples left out because the one before took longer than the interval.
        failures: attempts that gave no sample.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.late_ticks = 0
        self.failures = 0
        self._stamps_s = array("d")
        self._jitters_s = array("d")
        self._durations_s = array("d")

    def add(self, due_s: float | None, start_s: float, end_s: float) -> None:
        """A sample that was due then (None: at no set time), and lasted from `start_s` to `end_s`."""
        self._stamps_s.append((start_s + end_s) / 2)
        self._durations_s.append(end_s - start_s)
        if due_s is not None:
            self._jitters_s.append(start_s - due_s)

    def summary(self, end_s: float | None) -> dict[str, Any]:
        """As `run.json` has it; `end_s` is when sampling ended, None if it never began.

        Jitter is how much later than due a sample began. A gap is a stretch of more than three intervals without a
        sample, from t = 0 to the end.
        """
        stamps = [*self._stamps_s]
        edges = [] if end_s is None else [0.0, *(stamp for stamp in stamps if stamp <= end_s), end_s]
        long = [pair for pair in pairwise(edges) if pair[1] - pair[0] > self._longest_s]
        return {
            "samples": len(stamps),
            "failures": self.failures,
            "late_ticks": self.late_ticks,
            "interval_s": self.interval_s,
            "achieved_interval_s": _median([b - a for a, b in pairwise(stamps)]),
            "jitter_s": {"p50": _percentile(self._jitters_s, 50), "p99": _percentile(self._jitters_s, 99)},
            "duration_s": {
                "mean": round(fmean(self._durations_s), 6) if stamps else None,
                "max": round(max(self._durations_s), 6) if stamps else None,
            },
            "gaps": {
                "count": len(long),
                "longest_s": round(max(b - a for a, b in long), 3) if long else None,
                "first": [{"from_s": round(a, 3), "to_s": round(b, 3)} for a, b in long[:_GAPS_KEPT]],
            },
        }

    @property
    def _longest_s(self) -> float:
        return _GAP_INTERVALS * self.interval_s


def _median(values: Sequence[float]) -> float | None:
    return round(median(values), 6) if values else None


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """Nearest rank."""
    if not values:
        return None
    return round(sorted(values)[-(-percent * len(values) // 100) - 1], 6)
