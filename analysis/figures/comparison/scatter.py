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

    Of several loads each stands beside its mark; beside the ends of a line only where marks are `joined`.
    """
    shown: list[tuple[float, float]] = []
    names: list[tuple[tuple[float, float], str, str]] = []
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
                names.append((points[-1], f"{load:g}", colour))
        if joined and len(points) > 1:
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=series.line["linestyle"], linewidth=1)
        shown += points
    if not shown:
        no_data(axes, missing)
        return False
    for axis, values in ((axes.xaxis, [x for x, _ in shown]), (axes.yaxis, [y for _, y in shown])):
        panel.scale_to(axis, values, log=log)
    _name_loads(axes, names)
    panel.name_modes(axes, every)
    return True


_LETTER_PT, _LINE_PT = 4.5, 8.0


def _name_loads(axes: Axes, names: Sequence[tuple[tuple[float, float], str, str]]) -> None:
    """Each load beside its mark, on a side where no other stands; left out where there is none."""
    taken: list[tuple[float, float, float]] = []  # left, bottom and width in points
    points_per_pixel = 72 / axes.figure.dpi
    for place, text, colour in names:
        x, y = axes.transData.transform(place) * points_per_pixel
        width = _LETTER_PT * len(text)
        for right, up in ((5, 4), (5, -11), (-5 - width, 4), (-5 - width, -11)):
            left, bottom = x + right, y + up
            if all(
                left > other + wide or other > left + width or abs(bottom - below) > _LINE_PT
                for other, below, wide in taken
            ):
                taken.append((left, bottom, width))
                axes.annotate(text, place, xytext=(right, up), textcoords="offset points", fontsize=7, color=colour)
                break
