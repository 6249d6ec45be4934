"""Latency percentiles per tenant, with the tail drawn out."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.scale import log_ms
from analysis.figures.style import interval_bars, legend, new_figure, no_data, shown, tenant_line
from analysis.intervals import PERCENTILES
from analysis.latency import Curve
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "latency_tails"
TITLE = "Latency percentiles"
CAPTION = (
    "Latency at each percentile, the tail drawn out, with 95 % intervals of the marked ones, dotted where the requests "
    "do not reach that far; a filled mark rests on enough requests, a hollow one is indicative. Requests without the "
    "value (failures) are not in it."
)

_TICKS = {"0": 0.0, "50": 0.5, "90": 0.9, "99": 0.99, "99.9": 0.999}
_HIGHEST = 0.999
_APART = 1.03  # from one tenant's interval to the next one's


def draw(summary: Summary) -> Figure:
    """TTFT, TPOT and e2e side by side, one line per tenant."""
    figure, panels = new_figure(summary, 3)
    curves = summary.curves
    _panel(panels[0], summary, "ttft_scheduled_ms", curves.ttft_scheduled)
    _panel(panels[1], summary, "tpot_ms", curves.tpot)
    _panel(panels[2], summary, "e2e_scheduled_ms", curves.e2e_scheduled)
    for axes in panels:
        if axes.lines:
            legend(figure, axes)
            break
    return figure


def _panel(axes: Axes, summary: Summary, name: str, curves: tuple[Curve, ...]) -> None:
    metric = METRICS[name]
    axes.set_title(metric.label)
    if not any(curve.count for curve in curves):
        no_data(axes, "no request in the window has one")
        return
    for index, ((tenant, entry), curve) in enumerate(zip(summary.content["tenants"].items(), curves, strict=True)):
        if not curve.count:
            continue
        line = tenant_line(index)
        reached = int((curve.share < _HIGHEST).sum()) + 1  # the last point drawn is the one that holds p99.9
        axes.step(
            [1.0, *_position(curve.share[:reached].clip(max=_HIGHEST))],
            [curve.values_ms[0], *curve.values_ms[:reached]],
            where="pre",
            label=f"{shown(tenant)} (n = {curve.count:,})",
            **line,
        )
        _marks(axes, entry[name], line["color"], beside=_APART ** (index - (len(curves) - 1) / 2))
    axes.set_xscale("log")
    axes.set_xlim(1, 1300)
    axes.xaxis.set_major_locator(FixedLocator([_position(share) for share in _TICKS.values()]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _, place: list(_TICKS)[place or 0]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("percentile")
    axes.set_ylabel(f"{metric.label} [{metric.unit}]")
    axes.set_yscale("log")
    log_ms(axes.yaxis)


def _marks(axes: Axes, latency: dict[str, Any], colour: str, *, beside: float) -> None:
    """A mark at each percentile, and its interval `beside` it: those of several tenants would lie on each other."""
    known = [name for name in PERCENTILES if latency[name] is not None and math.isfinite(latency[name])]
    places = {name: float(_position(PERCENTILES[name] / 1000)) for name in known}
    intervals = [
        (low if _finite(low) else None, high if _finite(high) else None)
        for low, high in (latency["ci95"][name] for name in known)
    ]
    interval_bars(
        axes, [beside * place for place in places.values()], [latency[name] for name in known], intervals, color=colour
    )
    for certified, face in ((True, colour), (False, "white")):
        some = [name for name in known if latency["certified"][name] == certified]
        axes.plot(
            [places[name] for name in some], [latency[name] for name in some], "o", ms=4, mfc=face, mec=colour, mew=1
        )


def _finite(end: float | None) -> bool:
    return end is not None and math.isfinite(end)


def _position(share: Any) -> Any:
    """Place on the axis of a share (number or array) below 1: each further nine takes the same room."""
    return 1 / (1 - share)
