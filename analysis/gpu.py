"""What the GPUs did in a window: use, memory, power, energy, throttling; whole devices, never one tenant's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.cost import joules_per_output_token
from analysis.latency import Floats
from analysis.telemetry import Metrics, Series, Telemetry, gauge, increments
from analysis.window import Window

__all__ = ["Energy", "describe_gpu", "energy_in"]

COVERED_AT_LEAST = 0.9
_COUNTER, _POWER, _THROTTLE, _PROCESS = "energy_j_total", "power_w", "throttle_", "process_"
_SOURCES = ("nvml", "agent", "dcgm")  # whom to ask for a board's energy first, where several know it


@dataclass(frozen=True)
class Energy:
    """Energy in a window.

    Attributes:
        joules: None where it is not known for at least `COVERED_AT_LEAST` of the window.
        source: the device's own energy counter, or its power over time.
        covered: share of the window between the first and the last sample; the rest is taken to be like it.
    """

    joules: float | None = None
    source: Literal["counter", "power"] | None = None
    covered: float = 0.0


def energy_in(metrics: Metrics, window: Window) -> Energy:
    """Energy from the counter, read between its samples at the window's ends; without one from power, by trapezoids."""
    covered_most = 0.0
    for source, name, measure in _MEASURES if window else ():
        if name not in metrics:
            continue
        series = metrics[name]
        spans = [span for span in (_clipped(span, series) for span in window.spans) if span[0] < span[1]]
        covered = sum(end - start for start, end in spans) / 1e9 / window.length_s
        if covered >= COVERED_AT_LEAST:
            return Energy(sum(measure(series, start, end) for start, end in spans) / covered, source, covered)
        covered_most = max(covered, covered_most)
    return Energy(covered=covered_most)


def _clipped(span: tuple[int, int], series: Series) -> tuple[int, int]:
    if not len(series):
        return span[0], span[0]
    return max(span[0], int(series.times_ns[0])), min(span[1], int(series.times_ns[-1]))


def _counted(series: Series, start_ns: int, end_ns: int) -> float:
    grown = np.concatenate(([0.0], np.cumsum(increments(series.values))))
    start, end = np.interp((start_ns, end_ns), series.times_ns, grown)
    return float(end - start)


def _integrated(series: Series, start_ns: int, end_ns: int) -> float:
    inside = (series.times_ns > start_ns) & (series.times_ns < end_ns)
    times_ns = np.concatenate(([start_ns], series.times_ns[inside], [end_ns]))
    values: Floats = np.interp(times_ns, series.times_ns, series.values)
    return float(((values[1:] + values[:-1]) / 2 * np.diff(times_ns)).sum() / 1e9)


_MEASURES: tuple[tuple[Literal["counter", "power"], str, Callable[[Series, int, int], float]], ...] = (
    ("counter", _COUNTER, _counted),
    ("power", _POWER, _integrated),
)


def describe_gpu(telemetry: Telemetry, window: Window, output_tokens: float) -> dict[str, Any] | None:
    """`gpu` of `summary.json`; None where no GPU was sampled.

    Args:
        output_tokens: of all tenants, that arrived in the window.
    """
    if not telemetry.gpu:
        return None
    devices, processes = [], []
    for (source, device), metrics in telemetry.gpu.items():
        own = {name: series for name, series in metrics.items() if not name.startswith(_PROCESS)}
        if own:
            devices.append(_device(telemetry, source, device, own, window))
        of_processes = _gauges(metrics, window, {name for name in metrics if name.startswith(_PROCESS)})
        if of_processes:
            processes.append({"name": device, "source": source, "metrics": of_processes})
    boards = list(_boards(devices))
    known = [board["energy_j"] for board in boards]
    joules = None if None in known or not known else float(sum(known))
    return {
        "simulated": any(device["simulated"] for device in devices),
        "devices": devices,
        "processes": processes,
        "boards": len(boards),
        "energy_j": joules,
        "energy_from": sorted({board["energy_from"] for board in boards}) if joules is not None else None,
        "joules_per_output_token": joules_per_output_token(joules, output_tokens),
    }


def _device(telemetry: Telemetry, source: str, device: str, metrics: Metrics, window: Window) -> dict[str, Any]:
    energy, known = energy_in(metrics, window), telemetry.device(device)
    throttles = {name for name in metrics if name.startswith(_THROTTLE)}
    often = max(metrics.values(), key=len).within(window)
    return {
        "device": device,
        "source": source,
        "name": known.get("name"),
        "simulated": bool(known.get("simulated")),
        "samples": len(often),
        "interval_s": often.interval_s,
        "longest_gap_s": often.longest_gap_s,
        "metrics": _gauges(metrics, window, metrics.keys() - throttles - {_COUNTER}),
        "throttle": {
            name.removeprefix(_THROTTLE): metrics[name].within(window).mean
            for name in sorted(throttles)
            if len(metrics[name].within(window))
        },
        "energy_j": energy.joules,
        "energy_from": energy.source,
        "energy_covered_ratio": energy.covered,
        "unsupported": telemetry.unsupported(source, device),
    }


def _gauges(metrics: Metrics, window: Window, names: Iterable[str]) -> dict[str, Any]:
    found = {name: gauge(metrics[name], window) for name in sorted(names)}
    return {name: one for name, one in found.items() if one is not None}


def _boards(devices: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """The entry that tells each board's energy: its own, or that of a slice, which is its board's."""
    by_board: dict[str, list[dict[str, Any]]] = {}
    for device in devices:
        by_board.setdefault(device["device"].partition("/")[0], []).append(device)
    for entries in by_board.values():
        yield min(
            entries,
            key=lambda entry: (
                entry["energy_j"] is None,
                "/" in entry["device"],
                _SOURCES.index(entry["source"]) if entry["source"] in _SOURCES else len(_SOURCES),
            ),
        )
