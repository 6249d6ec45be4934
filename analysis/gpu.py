"""What the GPUs did in a window: use, memory, power, energy, throttling; whole devices, never one tenant's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.cost import joules_per_output_token
from analysis.latency import Floats
from analysis.telemetry import COVERED_AT_LEAST, Metrics, Series, Telemetry, gauge, increments
from analysis.window import Window

__all__ = ["Energy", "describe_gpu", "energy_in"]

_COUNTER, _POWER, _THROTTLE, _PROCESS = "energy_j_total", "power_w", "throttle_", "process_"
_OF_PROCESS = re.compile(r"(?P<gpu>.+?)/(?:pid\d+|(?P<endpoint>[a-z]+://.+))")
_STANDS_STILL = 2.0  # intervals of sampling between two changes, from which on a counter is read from change to change
_SOURCES = ("nvml", "agent", "dcgm")  # whom to ask for a board's energy first, where several know it


@dataclass(frozen=True)
class Energy:
    """Energy in a window.

    Attributes:
        joules: None where it is not known for at least `COVERED_AT_LEAST` of the window.
        source: the device's own energy counter, or its power over time.
        covered: share of the window between the first and the last sample, of a counter the first and the last change;
            the rest is taken to be like it.
    """

    joules: float | None = None
    source: Literal["counter", "power"] | None = None
    covered: float = 0.0


def energy_in(metrics: Metrics, window: Window) -> Energy:
    """Energy from the counter, read between its changes at the window's ends; without one from power, by trapezoids."""
    covered_most = 0.0
    for source, name, measure in _MEASURES if window else ():
        if name not in metrics:
            continue
        series = _changes(metrics[name]) if source == "counter" else metrics[name]
        spans = [span for span in (_clipped(span, series) for span in window.spans) if span[0] < span[1]]
        covered = sum(end - start for start, end in spans) / 1e9 / window.length_s
        if covered >= COVERED_AT_LEAST:
            return Energy(sum(measure(series, start, end) for start, end in spans) / covered, source, covered)
        covered_most = max(covered, covered_most)
    return Energy(covered=covered_most)


def _changes(counter: Series) -> Series:
    """The samples at which a counter was seen to have moved; what repeats the last value tells nothing of its time.

    An exporter may read a GPU every 30 s and be asked every second. The first sample then is of an unknown time.
    """
    places = np.flatnonzero(np.diff(counter.values)) + 1
    moves = Series(counter.times_ns[places], counter.values[places])
    began = Series(counter.times_ns[:1], counter.values[:1])
    both = Series(
        np.concatenate((began.times_ns, moves.times_ns)),
        np.concatenate((began.values, moves.values)),
    )
    if both.interval_s is None or counter.interval_s is None:
        return moves
    lively = places[0] == 1 and both.interval_s < _STANDS_STILL * counter.interval_s
    return both if lively else moves


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


def describe_gpu(
    telemetry: Telemetry,
    window: Window,
    output_tokens: float,
    *,
    gpus: int = 1,
    simulated: bool = False,
    tenants_of: Callable[[str], Sequence[str]] = lambda _: (),
) -> dict[str, Any] | None:
    """`gpu` of `summary.json`; None where no GPU was sampled.

    Args:
        output_tokens: of all tenants, that arrived in the window.
        gpus: how many the run has, where the samples don't tell which.
        simulated: whether every server was.
        tenants_of: who sent to an endpoint.
    """
    if not telemetry.gpu:
        return None
    devices, processes, served = [], [], set()
    for (source, device), metrics in telemetry.gpu.items():
        process = _OF_PROCESS.fullmatch(device)
        if process is None:
            devices.append(_device(telemetry, source, device, metrics, window))
            continue
        endpoint = process["endpoint"]
        if endpoint is not None:
            served.add(_board(process["gpu"]))
        of_process = _gauges(metrics, window, {name for name in metrics if name.startswith(_PROCESS)})
        if of_process:
            tenants = list(tenants_of(endpoint)) if endpoint is not None else []
            of = {"device": process["gpu"], "endpoint": endpoint, "tenants": tenants}
            processes.append({"name": device, "source": source, **of, "metrics": of_process})
    boards = list(_boards(devices))
    own, note = _of_the_run(boards, served, gpus, simulated=simulated)
    known = [board["energy_j"] for board in own]
    joules = None if None in known or not known else float(sum(known))
    per_token = joules_per_output_token(joules, output_tokens)
    return {
        "simulated": any(device["simulated"] for device in devices),
        "devices": devices,
        "processes": processes,
        "boards": len(boards),
        "energy_of": [_board(board["device"]) for board in own] or None,
        "energy_j": joules,
        "energy_from": sorted({board["energy_from"] for board in own}) if joules is not None else None,
        "joules_per_output_token": per_token,
        "energy_note": None if per_token is not None else note or _why_undefined(own, window),
    }


def _of_the_run(
    boards: list[dict[str, Any]], served: set[str], gpus: int, *, simulated: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """The boards whose energy is the run's; none, and why, where that is not known.

    Args:
        served: boards with a process of a server of the run.
    """
    if simulated:
        own = [board for board in boards if board["simulated"]]
        return own, None if own else "the servers are simulated, and the GPUs that were sampled are not theirs"
    if own := [board for board in boards if _board(board["device"]) in served]:
        return own, None
    if len(boards) <= gpus:
        return boards, None
    return [], f"{len(boards)} GPUs sampled, which of them served is not known"


def _why_undefined(boards: list[dict[str, Any]], window: Window) -> str:
    """Why there is no energy per token of these boards."""
    if not window:
        return "nothing was measured"
    for board in boards:
        if board["energy_j"] is None:
            covered = board["energy_covered_ratio"]
            what = (
                f"was sampled for only {covered * 100:.1f}% of the window"
                if covered
                else "has too few samples in the window"
            )
            return f"energy or power of {_board(board['device'])} {what}"
    return "no output token arrived in the window" if boards else "no GPU was sampled, only processes"


def _device(telemetry: Telemetry, source: str, device: str, metrics: Metrics, window: Window) -> dict[str, Any]:
    energy, known = energy_in(metrics, window), telemetry.device(device)
    throttles = {name for name in metrics if name.startswith(_THROTTLE)}
    often = max(metrics.values(), key=len)
    inside = often.within(window)
    return {
        "device": device,
        "source": source,
        "name": known.get("name"),
        "simulated": bool(known.get("simulated")),
        "samples": len(inside),
        "interval_s": inside.interval_s,
        "longest_gap_s": often.longest_gap_s(window),
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


def _board(device: str) -> str:
    """The board that a device is, or is a slice of."""
    return device.partition("/")[0]


def _boards(devices: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """The entry that tells each board's energy: its own, or that of a slice, which is its board's."""
    by_board: dict[str, list[dict[str, Any]]] = {}
    for device in devices:
        by_board.setdefault(_board(device["device"]), []).append(device)
    for entries in by_board.values():
        yield min(
            entries,
            key=lambda entry: (
                entry["energy_j"] is None,
                "/" in entry["device"],
                _SOURCES.index(entry["source"]) if entry["source"] in _SOURCES else len(_SOURCES),
            ),
        )
