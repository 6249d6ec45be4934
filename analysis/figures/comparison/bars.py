"""The headline figures of each column at one load, as bars."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.compare.model import Comparison
from analysis.figures.comparison import panel
from analysis.figures.comparison.series import Series, headline, make_series
from analysis.figures.scale import log_ms
from analysis.figures.style import headed_figure, interval_bars, no_data

NAME = "compare_bars"
TITLE = "The modes side by side"
CAPTION = (
    "All tenants together. Lines with caps: 95 % intervals, dotted where an end is unknown; hollow: too few requests "
    "behind it; hatched: emulated, not isolated; red: a run is suspect. Marks instead of bars on a logarithmic axis, "
    "where values lie far apart."
)

_PANELS = (
    ("output_tokens_per_s", "output"),
    ("ttft_p99_ms", "TTFT p99"),
    ("tpot_p99_ms", "TPOT p99"),
    ("slo_attainment", "SLO attainment"),
    ("jain_service", "Jain, service"),
    ("cost_per_million_output_tokens", "cost"),
)
_COLUMNS = 3
_SHARES = ("slo_attainment",)
_RATIOS = (*_SHARES, "jain_service")
_LOG = ("ttft_p99_ms", "tpot_p99_ms", "cost_per_million_output_tokens")
_MARKS_FROM = 10.0  # the largest over the smallest value from which the smallest bar would be hard to see


def draw(comparison: Comparison) -> Figure:
    """Small panels, a bar for each column in each; the columns' names stand once per row of panels."""
    every = make_series(comparison)
    height = len(_PANELS) // _COLUMNS * (1.0 + 0.3 * len(every)) + 0.4
    figure, every_axes = headed_figure(headline(comparison), len(_PANELS), columns=_COLUMNS, height=height)
    for place, (axes, (key, otherwise)) in enumerate(zip(every_axes, _PANELS, strict=True)):
        axes.set_title(panel.heading(comparison, key, otherwise))
        _bars(axes, every, key)
        if axes.patches or axes.lines:
            unit = panel.unit_of(comparison, key)
            axes.set_xlabel("requests that met it" if key in _SHARES else unit.strip(" []") or "ratio")
        if place % _COLUMNS == 0:
            axes.set_yticks(range(len(every)), [series.label for series in every], fontsize=8)
        else:
            axes.set_yticks(range(len(every)), [""] * len(every))
        axes.tick_params(axis="y", length=0)
    return figure


def _bars(axes: Axes, every: list[Series], key: str) -> None:
    axes.set_ylim(len(every) - 0.5, -0.5)  # the first on top
    axes.grid(axis="y", visible=False)
    known: dict[int, float] = {}
    for place, series in enumerate(every):
        number = series.columns[0].get(key).value
        if number is not None and math.isfinite(number):
            known[place] = number
    if not known:
        no_data(axes, "undefined in every run")
        return
    smallest = min(known.values())
    marks = key in _LOG and smallest > 0 and max(known.values()) / smallest >= _MARKS_FROM
    for place, series in enumerate(every):
        if place not in known:
            _say(axes, place, "undefined" if series.columns[0].get(key).value is None else "inf")
        elif marks:
            value = series.columns[0].get(key)
            interval_bars(axes, [place], [known[place]], [value.ci95], color=series.line["color"], across=True)
            panel.mark_point(axes, known[place], place, series, value, series.columns[0])
        else:
            _bar(axes, place, series, key)
    if marks:
        axes.set_xscale("log")
        log_ms(axes.xaxis, 5)
        return
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,g}")
    if key in _RATIOS:
        axes.set_xlim(0, 1.03)
        axes.set_xticks([0, 0.5, 1])
    if key in _SHARES:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))


def _bar(axes: Axes, place: int, series: Series, key: str) -> None:
    column = series.columns[0]
    value = column.get(key)
    colour = series.line["color"]
    length = value.value or 0.0
    axes.barh(
        place,
        length,
        height=0.62,
        color=colour if value.certified else "white",
        alpha=0.75 if value.certified else 1.0,
        edgecolor=panel.SUSPECT if column.suspect else colour,
        linewidth=1.4 if column.suspect else 0.8,
        hatch="///" if column.emulated else None,
    )
    interval_bars(axes, [place], [length], [value.ci95], color="#222222", across=True)


def _say(axes: Axes, place: int, words: str) -> None:
    """Words where there is nothing to draw, at the left of the panel."""
    axes.annotate(
        words,
        (0, place),
        xycoords=axes.get_yaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color="#777777",
    )
