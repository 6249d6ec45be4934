"""Prometheus text, written straight from numbers.

A scrape holds up the step that ends meanwhile. `prometheus_client` takes a millisecond for what the simulator
counts, this a fraction of that.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable
from typing import Literal

__all__ = ["Histogram", "label_set", "metric"]


class Histogram:
    """Counts per bucket; `bounds` are the inclusive upper ends, ascending, without +Inf."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` that many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as (`le`, count), +Inf last."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, itertools.accumulate(self.counts), strict=True))

    def exposition(self, name: str, text: str, labels: str) -> str:
        """All lines of a histogram with that name, description and label set, which is not empty."""
        buckets = self.buckets()
        lines = [f'{name}_bucket{{{labels},le="{bound}"}} {count}\n' for bound, count in buckets]
        lines.append(f"{name}_count{{{labels}}} {buckets[-1][1]}\n")
        lines.append(f"{name}_sum{{{labels}}} {self.sum!r}\n")
        return _head(name, "histogram", text) + "".join(lines)


def label_set(**labels: str) -> str:
    """Labels as they stand between braces, their values escaped."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return ",".join(f'{name}="{value.translate(escapes)}"' for name, value in labels.items())


def metric(kind: Literal["gauge", "counter"], name: str, text: str, samples: Iterable[tuple[str, float]]) -> str:
    """All lines of a metric whose samples are (label set, value); to no name is `_total` added."""
    return _head(name, kind, text) + "".join(f"{name}{{{labels}}} {value!r}\n" for labels, value in samples)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
