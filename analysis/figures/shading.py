"""The phases of a run, as they stand behind a time axis."""

from __future__ import annotations

from itertools import groupby

from matplotlib.axes import Axes

from analysis.figures.style import shown
from analysis.summary import Span

__all__ = ["name_phases", "shade"]

_FEWEST_LETTERS = 6


def shade(axes: Axes, parts: tuple[Span, ...]) -> None:
    """Grey behind what is not measured, a line where one measured part follows another."""
    for part in parts:
        if part.end_s <= part.start_s:
            continue
        if part.measured:
            axes.axvline(part.start_s, color="#bbbbbb", linewidth=0.8, zorder=0.5)
        else:
            axes.axvspan(part.start_s, part.end_s, color="#e8e8e8", zorder=0, linewidth=0)


def name_phases(axes: Axes, parts: tuple[Span, ...], end_s: float) -> None:
    """Names above the axes, cut to the room there is: of the phases, or of the parts if there is but one phase."""
    for name, group in groupby(parts, key=lambda part: part.phase or part.name):
        some = list(group)
        start_s, stop_s = some[0].start_s, some[-1].end_s
        letters = int((stop_s - start_s) / end_s / 0.011)
        if letters >= min(len(name), _FEWEST_LETTERS):
            axes.annotate(
                shown(name, letters),
                ((start_s + stop_s) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
                color="#777777",
            )
