"""One figure in one panel: a line per mode over the loads, with intervals and doubtful points marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from analysis.compare.model import UNDEFINED, Column, Comparison, Value
from analysis.figures.comparison.series import Series, load_of, load_title
from analysis.figures.scale import log_ms
from analysis.figures.style import interval_bars, no_data

__all__ = [
    "DOUBTS",
    "SUSPECT",
    "Pick",
    "draw_lines",
    "heading",
    "in_per_cent",
    "mark_point",
    "name_modes",
    "of_all",
    "of_tenant",
    "scale_to",
    "unit_of",
]

DOUBTS = (
    "Bars: 95 % intervals, dotted where an end is unknown; a hollow mark rests on too few requests; a red ring: a run "
    "is suspect."
)

SUSPECT = "#b00000"
_LOG_FROM = 5.0  # the largest over the smallest value from which a logarithmic axis shows more

Pick = Callable[[Column], Value]


def draw_lines(axes: Axes, comparison: Comparison, every: Sequence[Series], pick: Pick, *, log: bool = False) -> None:
    """A line per mode; `log` where the values span enough for it. Says so if no column has a value."""
    drawn: list[float] = []
    for series in every:
        points = [(load_of(comparison, column), pick(column), column) for column in series.columns]
        known = [
            (load, value.value, value, column)
            for load, value, column in points
            if load is not None and value.value is not None and math.isfinite(value.value)
        ]
        if not known:
            continue
        loads = [load for load, *_ in known]
        values = [number for _, number, *_ in known]
        drawn += values
        line = {name: series.line[name] for name in ("color", "linestyle")}
        gaps = {load: number for load, number, *_ in known}
        every_load = [load for load, *_ in points if load is not None]
        axes.plot(every_load, [gaps.get(load, math.nan) for load in every_load], **line)
        interval_bars(axes, loads, values, [value.ci95 for *_, value, _ in known], color=series.line["color"])
        for load, number, value, column in known:
            mark_point(axes, load, number, series, value, column)
    if not drawn:
        no_data(axes, "undefined in every run")
        return
    scale_to(axes.yaxis, drawn, log=log)
    _load_axis(axes, comparison)


def mark_point(axes: Axes, across: float, up: float, series: Series, value: Value, column: Column) -> None:
    """The mode's marker, hollow where too few requests stand behind the value, ringed where a run is suspect."""
    colour = series.line["color"]
    face = colour if value.certified else "white"
    axes.plot(across, up, marker=series.line["marker"], ms=5, mfc=face, mec=colour, mew=1, linestyle="none", zorder=3)
    if column.suspect:
        axes.plot(across, up, marker="o", ms=10, mfc="none", mec=SUSPECT, mew=0.9, linestyle="none", zorder=3)


def name_modes(axes: Axes, every: Sequence[Series]) -> None:
    """Empty lines, so that a legend made of `axes` names each mode as it is drawn."""
    for series in every:
        axes.add_line(Line2D([], [], ms=5, label=series.label, **series.line))


def scale_to(axis: XAxis | YAxis, values: Sequence[float], *, log: bool) -> None:
    """From 0 upwards, or logarithmic where that is allowed and the values need it."""
    axes = axis.axes
    upright = isinstance(axis, YAxis)
    positive = min(values) > 0
    if log and positive and max(values) / min(values) >= _LOG_FROM:
        (axes.set_yscale if upright else axes.set_xscale)("log")
        log_ms(axis)
        return
    axis.set_major_formatter("{x:,g}")
    if min(values) >= 0:
        axes.set_ylim(bottom=0) if upright else axes.set_xlim(left=0)


def in_per_cent(axes: Axes) -> None:
    """An axis of shares of a whole."""
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))


def _load_axis(axes: Axes, comparison: Comparison) -> None:
    """Ticks at the loads that ran; powers stand apart evenly."""
    loads = sorted({load for column in comparison.columns if (load := load_of(comparison, column)) is not None})
    if loads[0] > 0 and loads[-1] / loads[0] >= _LOG_FROM:
        axes.set_xscale("log")
    axes.set_xlabel(load_title(comparison))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(loads, [f"{load:g}" for load in loads])


def heading(comparison: Comparison, key: str, otherwise: str) -> str:
    """What the table calls a figure."""
    return next((row.label for row in comparison.rows if row.key == key), otherwise)


def unit_of(comparison: Comparison, key: str) -> str:
    """Its unit in brackets, after a space; "" for a ratio."""
    unit = next((row.unit for row in comparison.rows if row.key == key), "")
    return f" [{unit}]" if unit else ""


def of_all(key: str) -> Pick:
    """Picks a figure of all tenants together."""

    def pick(column: Column) -> Value:
        return column.get(key)

    return pick


def of_tenant(tenant: str, key: str) -> Pick:
    """Picks a tenant's figure."""

    def pick(column: Column) -> Value:
        values: Mapping[str, Value] = column.tenants.get(tenant, {})
        return values.get(key, UNDEFINED)

    return pick
