"""What the servers and the GPUs did, under what the tenants got, on one time axis."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.figures.shading import name_phases, shade
from analysis.figures.style import MEASURES, new_figure, shown, tenant_line
from analysis.metrics import METRICS
from analysis.summary import Summary
from analysis.traces import Trace

NAME = "telemetry"
TITLE = "Tenants, servers and GPUs"
CAPTION = (
    "Output tokens of each tenant, over what its server and the GPU did at the same time; whole servers and devices, "
    "all tenants together. A line is the mean, its band the range of adjacent samples; shaded: not measured."
)

_PANEL_IN = 1.45
_LETTERS = 26
_WRAP_AT = 130
_UUID_LETTERS = 12
_GIB = 2.0**30

_Draw = Callable[[Axes, Summary, "_Traces"], None]
_Traces = Sequence[Trace]


def draw(summary: Summary) -> Figure:
    """The tenants' output on top, and a panel for each thing that was sampled."""
    traces = summary.curves.traces
    present = {trace.metric for trace in traces}
    panels: list[_Draw] = [_tokens, *(panel for wanted, panel in _PANELS if present & wanted)]
    figure, every = new_figure(summary, len(panels), stacked=True, height=1.2 + _PANEL_IN * len(panels))
    end_s = float(summary.curves.timeline.edges_s[-1])
    for axes, panel in zip(every, panels, strict=True):
        shade(axes, summary.curves.phases)
        panel(axes, summary, traces)
        axes.set_ylim(bottom=0)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03), fontsize=7, borderaxespad=0.2, handlelength=1.6)
    every[0].set_title(TITLE, pad=14)
    name_phases(every[0], summary.curves.phases, end_s)
    every[-1].set_xlim(0, end_s)
    every[-1].set_xlabel("time since the load started [s]")
    missing = "\n".join(textwrap.fill(line, _WRAP_AT) for line in _missing(summary))
    if missing:
        figure.supxlabel(missing, x=0.01, ha="left", fontsize=7, color="#555555")
    figure.align_ylabels(every)
    return figure


def _missing(summary: Summary) -> list[str]:
    """What a device does not support, in words, as the panels can't show it."""
    gpu = summary.content["gpu"]
    lines = []
    for device in gpu["devices"] if gpu else []:
        names = [METRICS[name].label for name in device["unsupported"] if name in METRICS]
        if names:
            lines.append(f"unsupported on this device, {_device(device)}: {', '.join(names)}")
    return lines


def _device(device: dict[str, Any]) -> str:
    name = " ".join(filter(None, [shown(device["name"] or device["device"], _LETTERS), _slice(device["device"])]))
    return f"{name} (simulated)" if device["simulated"] else name


def _slice(device: str) -> str:
    """The part of a device's name that is a MIG slice's; "" for a whole board."""
    return device.partition("/")[2]


def _tokens(axes: Axes, summary: Summary, _: _Traces) -> None:
    timeline = summary.curves.timeline
    for index, tenant in enumerate(summary.content["tenants"]):
        axes.stairs(timeline.tokens_per_s[index], timeline.edges_s, label=shown(tenant), **tenant_line(index))
    axes.set_ylabel("output\n[tokens/s]")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _kv_cache(axes: Axes, summary: Summary, traces: _Traces) -> None:
    for trace in traces:
        if trace.metric == "kv_cache_usage":
            _line(axes, trace, _endpoint_colour(summary, trace.subject), label=_endpoint(summary, trace.subject))
    _share(axes, "KV-cache use\n[% of its blocks]")


def _requests(axes: Axes, summary: Summary, traces: _Traces) -> None:
    several = len({trace.subject for trace in traces if trace.source == "server"}) > 1
    for trace in traces:
        if trace.metric not in ("requests_running", "requests_waiting"):
            continue
        running = trace.metric == "requests_running"
        label = METRICS[trace.metric].label + (f", {_endpoint(summary, trace.subject)}" if several else "")
        colour = _endpoint_colour(summary, trace.subject)
        _line(axes, trace, colour, label=label, dashes="solid" if running else (0, (2, 1)))
    events = [trace for trace in traces if trace.metric == "preemptions_total" and len(trace.times_s)]
    if events:
        count = sum(float(trace.mean.sum()) for trace in events)
        times_s = [time for trace in events for time in trace.times_s]
        axes.plot(
            times_s,
            [0.0] * len(times_s),
            marker="^",
            ms=5,
            linestyle="none",
            color="#b00000",
            clip_on=False,
            zorder=3,
            label=f"preemptions (n = {count:,.0f})",
        )
    axes.set_ylabel("requests in\nthe server")


def _activity(axes: Axes, summary: Summary, traces: _Traces) -> None:
    for trace, colour, name in _of_devices(summary, traces):
        if trace.metric in ("gpu_utilization_ratio", "sm_active_ratio"):
            whole = trace.metric == "gpu_utilization_ratio"
            label = f"{METRICS[trace.metric].label}{name}"
            paler = "#999999" if not name and not whole else colour  # lines of one device may lie on each other
            _line(axes, trace, paler, label=label, dashes="solid" if whole else (0, (2, 1)))
    _share(axes, _simulated(summary, "GPU activity\n[% of time]"))


def _memory(axes: Axes, summary: Summary, traces: _Traces) -> None:
    for trace, colour, name in _of_devices(summary, traces):
        if trace.metric in ("memory_used_bytes", "memory_total_bytes"):
            used = trace.metric == "memory_used_bytes"
            label = f"{'used' if used else 'in all'}{name}"
            _line(axes, trace, colour, label=label, dashes="solid" if used else (0, (1, 2)), unit=_GIB)
    axes.set_ylabel(_simulated(summary, "GPU memory\n[GiB]"))


def _power(axes: Axes, summary: Summary, traces: _Traces) -> None:
    for trace, colour, name in _of_devices(summary, traces):
        if trace.metric == "power_w":
            _line(axes, trace, colour, label=f"power{name}")
    axes.set_ylabel(_simulated(summary, "GPU power\n[W]"))


_PANELS: tuple[tuple[frozenset[str], _Draw], ...] = (
    (frozenset({"kv_cache_usage"}), _kv_cache),
    (frozenset({"requests_running", "requests_waiting"}), _requests),
    (frozenset({"gpu_utilization_ratio", "sm_active_ratio"}), _activity),
    (frozenset({"memory_used_bytes"}), _memory),
    (frozenset({"power_w"}), _power),
)


def _line(axes: Axes, trace: Trace, colour: str, *, label: str, dashes: Any = "solid", unit: float = 1.0) -> None:
    axes.fill_between(trace.times_s, trace.low / unit, trace.high / unit, color=colour, alpha=0.2, linewidth=0)
    axes.plot(trace.times_s, trace.mean / unit, color=colour, linestyle=dashes, linewidth=1.3, label=label)


def _share(axes: Axes, label: str) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:.0f}"))
    axes.set_ylim(0, max(1.03, axes.get_ylim()[1]))
    axes.set_ylabel(label)


def _simulated(summary: Summary, label: str) -> str:
    gpu = summary.content["gpu"]
    return f"simulated\n{label}" if gpu and gpu["simulated"] else label


def _endpoint(summary: Summary, endpoint: str) -> str:
    tenants = summary.content["server"]["endpoints"][endpoint]["tenants"]
    return shown(", ".join(tenants) or endpoint.partition("//")[2], _LETTERS)


def _endpoint_colour(summary: Summary, endpoint: str) -> str:
    """A tenant's colour for a server of its own, else a grey."""
    endpoints = summary.content["server"]["endpoints"]
    tenants = endpoints[endpoint]["tenants"]
    if len(tenants) == 1:
        return str(tenant_line(list(summary.content["tenants"]).index(tenants[0]))["color"])
    return MEASURES[list(endpoints).index(endpoint) % len(MEASURES)][0]


def _of_devices(summary: Summary, traces: _Traces) -> list[tuple[Trace, str, str]]:
    """Traces of devices with a grey each and, where there are several, what to add to the label."""
    devices = summary.content["gpu"]["devices"]
    places = {(device["source"], device["device"]): place for place, device in enumerate(devices)}
    one_board = len({device["device"].partition("/")[0] for device in devices}) == 1
    found = []
    for trace in traces:
        place = places.get((trace.source, trace.subject))
        if place is not None:
            name = (_slice(trace.subject) or "board") if one_board else _short(trace.subject)
            grey = MEASURES[place % len(MEASURES)][0]
            found.append((trace, grey, f", {name}" if len(devices) > 1 else ""))
    return found


def _short(device: str) -> str:
    """The first letters of a UUID are enough to tell boards apart."""
    return "/".join(filter(None, [device.partition("/")[0][:_UUID_LETTERS], _slice(device)]))
