"""Trace: a series of telemetry as it is drawn, with so few points that a figure can show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.latency import Floats
from analysis.telemetry import Metrics, Series, Telemetry, increments
from analysis.window import Window

__all__ = ["Trace", "grown", "thinned", "traces"]

_POINTS = 600
_GAP_INTERVALS = 3
_EVENTS = frozenset({"preemptions_total"})
_DRAWN = frozenset(
    {
        *("kv_cache_usage", "requests_running", "requests_waiting"),
        *("gpu_utilization_ratio", "sm_active_ratio", "memory_used_bytes", "memory_total_bytes", "power_w"),
    }
)


@dataclass(frozen=True, eq=False)
class Trace:
    """Points of a metric of a device or an endpoint, shape (m,) each; NaN where samples are missing.

    A point stands for adjacent samples: their mean, the lowest and the highest. Of a counter it is an event: what it
    grew by.
    """

    source: str
    subject: str
    metric: str
    times_s: Floats
    mean: Floats
    low: Floats
    high: Floats


def traces(telemetry: Telemetry, window: Window) -> tuple[Trace, ...]:
    """Everything that is drawn of the telemetry in a window; nothing of a metric without a sample in it."""
    gpu = (one for (source, device), metrics in telemetry.gpu.items() for one in _of(source, device, metrics, window))
    server = (one for endpoint, metrics in telemetry.server.items() for one in _of("server", endpoint, metrics, window))
    return (*server, *gpu)


def _of(source: str, subject: str, metrics: Metrics, window: Window) -> Iterator[Trace]:
    for name in sorted(metrics.keys() & (_DRAWN | _EVENTS)):
        series = metrics[name].within(window)
        if len(series):
            yield Trace(source, subject, name, *(grown if name in _EVENTS else thinned)(series))


def thinned(series: Series, points: int = _POINTS) -> tuple[Floats, Floats, Floats, Floats]:
    """Times in s, means, lows and highs of stretches of equal length; a line between two breaks where none was sampled.

    Args:
        points: not many more than so many.
    """
    times_s = series.times_ns / 1e9
    if not len(series):
        return times_s, series.values, series.values, series.values
    gap_s = _GAP_INTERVALS * (series.interval_s or 0.0)
    cell = np.arange(len(series))
    if len(series) > points:
        step_s = (times_s[-1] - times_s[0]) / points
        cell = ((times_s - times_s[0]) / step_s).astype(np.int64)
        gap_s = max(gap_s, 2 * step_s)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    counts = np.diff(starts, append=len(series))
    columns = [
        np.add.reduceat(times_s, starts) / counts,
        np.add.reduceat(series.values, starts) / counts,
        np.minimum.reduceat(series.values, starts),
        np.maximum.reduceat(series.values, starts),
    ]
    breaks = np.flatnonzero(np.diff(columns[0]) > gap_s) + 1
    at, mean, low, high = (np.insert(column, breaks, np.nan) for column in columns)
    return at, mean, low, high


def grown(series: Series) -> tuple[Floats, Floats, Floats, Floats]:
    """When a counter was first seen to have grown, and by how much."""
    steps = increments(series.values)
    some = steps > 0
    times_s = series.times_ns[1:][some] / 1e9
    return times_s, steps[some], steps[some], steps[some]
