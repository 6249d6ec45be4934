"""Fairness over time."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from analysis.figures.style import MEASURES, legend, new_figure, no_data
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "fairness"
TITLE = "Fairness over time"
CAPTION = "Jain's index in n adjacent sub-windows: 1 = all tenants equal; a gap where it is undefined."


def draw(summary: Summary) -> Figure:
    """Jain's indices in sub-windows of the common window."""
    figure, (axes,) = new_figure(summary)
    axes.set_title(TITLE)
    fairness, window = summary.content["fairness"], summary.content["window"]
    names = ("jain_throughput", "jain_service", "jain_demand")
    if fairness is None:
        no_data(axes, "the tenants never ran together")
        return figure
    series = fairness["series"]
    if all(value is None for name in names for value in series[name]):
        no_data(axes, "no token arrived in the window")
        return figure
    edges_s: list[float] = []
    places: list[int | None] = []  # the stretch of the series between two edges; None between spans of the window
    for place, (start_s, end_s) in enumerate(summary.curves.sub_windows_s):
        if not edges_s:
            edges_s.append(start_s)
        elif edges_s[-1] < start_s:
            places.append(None)
            edges_s.append(start_s)
        places.append(place)
        edges_s.append(end_s)
    for name, (colour, dashes) in zip(names, MEASURES, strict=True):
        known = [math.nan if value is None else value for value in series[name]]
        values = [math.nan if place is None else known[place] for place in places]
        counted = sum(value is not None for value in series[name])
        label = f"{METRICS[name].label} (n = {counted})"
        axes.stairs(values, edges_s, baseline=None, label=label, color=colour, linestyle=dashes, linewidth=1.6)
    axes.set_ylim(0, 1.03)
    axes.set_xlim(window["start_s"], window["end_s"])
    axes.set_xlabel("time since the load started [s]")
    axes.set_ylabel(f"Jain's index in {window['fairness_window_s']:g} s")
    legend(figure, axes)
    return figure
