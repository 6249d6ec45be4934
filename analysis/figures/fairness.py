"""Fairness over time: indices, the drift of the tenants' service, and who went without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import MEASURES, new_figure, no_data
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "fairness"
TITLE = "Fairness over time"
CAPTION = (
    "Jain's index (1 = all tenants equal), the largest gap between two tenants' service, and the longest starvation, "
    "in n adjacent sub-windows; a gap in a line where it is undefined. Marks at the right: the whole window, with 95 % "
    "intervals."
)

_JAIN = ("jain_throughput", "jain_service", "jain_demand")
_GAPS = ("service_gap_max_tokens", "service_gap_window_max_tokens")
_STARVED = ("starvation_s_max",)
_LEGEND: dict[str, Any] = {"fontsize": 7.5, "columnspacing": 1.2, "handlelength": 2.0}
_MARKS = ("o", "s", "^")
_TOTALS_AT = 1.02  # of the axes' width; each further one a step to the right
_STEP = 0.018


def draw(summary: Summary) -> Figure:
    """Three panels over the sub-windows of the common window."""
    figure, panels = new_figure(summary, 3, stacked=True, height=6.6, heights=(2.0, 1.2, 1.2))
    panels[0].set_title(TITLE)
    fairness, window = summary.content["fairness"], summary.content["window"]
    if fairness is None:
        for axes in panels:
            no_data(axes, "the tenants never ran together")
        return figure
    series = fairness["series"]
    if all(value is None for name in (*_JAIN, *_GAPS, *_STARVED) for value in series[name]):
        for axes in panels:
            no_data(axes, "no token arrived in the window")
        return figure
    edges_s, places = _stretches(summary.curves.sub_windows_s)
    _lines(panels[0], fairness, _JAIN, edges_s, places, "no token arrived in the window")
    _lines(panels[1], fairness, _GAPS, edges_s, places, "no two tenants had requests waiting at once")
    _lines(panels[2], fairness, _STARVED, edges_s, places, "no request was outstanding")
    panels[0].set_ylim(0, 1.03)
    panels[0].set_ylabel("Jain's index")
    panels[1].set_ylabel("service gap\n[weighted tokens]")
    panels[2].set_ylabel("longest\nstarvation [s]")
    for axes in panels[1:]:
        axes.yaxis.set_major_formatter("{x:,g}")
    panels[-1].set_xlim(window["start_s"], window["end_s"])
    panels[-1].set_xlabel(f"time since the load started [s]; sub-windows of {window['fairness_window_s']:g} s")
    figure.align_ylabels(panels)
    return figure


def _stretches(sub_windows_s: Sequence[tuple[float, float]]) -> tuple[list[float], list[int | None]]:
    """Edges, and which stretch of the series lies between two of them; None between spans of the window."""
    edges_s: list[float] = []
    places: list[int | None] = []
    for place, (start_s, end_s) in enumerate(sub_windows_s):
        if not edges_s:
            edges_s.append(start_s)
        elif edges_s[-1] < start_s:
            places.append(None)
            edges_s.append(start_s)
        places.append(place)
        edges_s.append(end_s)
    return edges_s, places


def _lines(
    axes: Axes,
    fairness: dict[str, Any],
    names: tuple[str, ...],
    edges_s: list[float],
    places: list[int | None],
    missing: str,
) -> None:
    """A line for each measure, and a mark for the whole window at the right, beside the axes."""
    if all(value is None for name in names for value in fairness["series"][name]):
        axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", va="center", color="#777777")
    highest = 0.0
    for place, name in enumerate(names):
        colour, dashes = MEASURES[place]
        known = [math.nan if value is None else value for value in fairness["series"][name]]
        values = [math.nan if place is None else known[place] for place in places]
        label = f"{METRICS[name].label} (n = {sum(not math.isnan(value) for value in known)})"
        axes.stairs(values, edges_s, baseline=None, label=label, color=colour, linestyle=dashes, linewidth=1.6)
        total = fairness[name]
        highest = max(highest, *(value for value in (*known, total) if value is not None and math.isfinite(value)), 0.0)
        if total is not None and math.isfinite(total):
            _total(axes, place, total, (fairness.get("ci95") or {}).get(name), colour)
    axes.set_ylim(0, 1.1 * highest or 1.0)
    axes.legend(loc="lower right", bbox_to_anchor=(1.06, 1), ncols=3, borderaxespad=0.1, **_LEGEND)


def _total(axes: Axes, place: int, value: float, interval: Sequence[float | None] | None, colour: str) -> None:
    at = _TOTALS_AT + place * _STEP
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False, "color": colour}
    low, high = interval or (None, None)
    if low is not None and high is not None and math.isfinite(low + high):
        axes.plot([at, at], [low, high], linewidth=1.2, **beside)
    axes.plot([at], [value], marker=_MARKS[place], ms=4, **beside)
