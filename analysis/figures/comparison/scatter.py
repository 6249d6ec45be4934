"""Two figures of each column against one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from analysis.compare.model import Comparison
from analysis.figures.comparison import panel
from analysis.figures.comparison.panel import Pick
from analysis.figures.comparison.series import Series, load_of, several_loads
from analysis.figures.style import interval_bars, no_data

__all__ = ["draw_points"]


def draw_points(
    axes: Axes,
    comparison: Comparison,
    every: Sequence[Series],
    across: Pick,
    up: Pick,
    *,
    joined: bool,
    log: bool = False,
    missing: str = "undefined in every run",
) -> bool:
    """A mark per column that has both. False, and why, if none has.

    Of several loads each stands beside its mark; beside the ends of a line only where marks are `joined`."""
    shown: list[tuple[float, float]] = []
    for series in every:
        colour = series.line["color"]
        points = []
        for column in series.columns:
            first, second = across(column), up(column)
            if first.value is None or second.value is None or not math.isfinite(first.value + second.value):
                continue
            points.append((first.value, second.value))
            interval_bars(axes, [first.value], [second.value], [second.ci95], color=colour)
            interval_bars(axes, [second.value], [first.value], [first.ci95], color=colour, across=True)
            panel.mark_point(axes, first.value, second.value, series, second, column)
            load = load_of(comparison, column)
            ends = column in (series.columns[0], series.columns[-1])
            if several_loads(comparison) and load is not None and (ends or not joined):
                beside = {"textcoords": "offset points", "fontsize": 7, "color": colour}
                axes.annotate(f"{load:g}", points[-1], xytext=(5, 4), **beside)
        if joined and len(points) > 1:
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=series.line["linestyle"], linewidth=1)
        shown += points
    if not shown:
        no_data(axes, missing)
        return False
    for axis, values in ((axes.xaxis, [x for x, _ in shown]), (axes.yaxis, [y for _, y in shown])):
        panel.scale_to(axis, values, log=log)
    panel.name_modes(axes, every)
    return True
