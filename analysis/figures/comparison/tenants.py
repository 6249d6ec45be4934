"""What each tenant waits for its first token in the worst hundredth, by mode."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.model import Comparison
from analysis.figures.comparison import panel
from analysis.figures.comparison.panel import of_tenant
from analysis.figures.comparison.series import Series, headline, make_series, several_loads
from analysis.figures.style import headed_figure, interval_bars, legend, no_data, shown

NAME = "compare_tenants"
TITLE = "TTFT p99 of each tenant"
CAPTION = f"Counted from when a request was due. {panel.DOUBTS}"

_KEY = "ttft_p99_ms"
_COLUMNS = 3
_ROW_IN = 0.15
_LETTERS = 34
_LABEL = "TTFT p99, from schedule [ms]"


def draw(comparison: Comparison) -> Figure:
    """A row per tenant with a mark per mode; over several loads a panel per tenant with a line per mode."""
    every = make_series(comparison)
    if several_loads(comparison):
        return _panels(comparison, every)
    tenants = comparison.tenants
    height = 1.4 + len(tenants) * (_ROW_IN * len(every) + 0.15)
    figure, (axes,) = headed_figure(headline(comparison), height=height)
    axes.set_title(TITLE)
    if _rows(axes, tenants, every):
        axes.set_xlabel(_LABEL)
        panel.name_modes(axes, every)
        legend(figure, axes)
    return figure


def _rows(axes: Axes, tenants: tuple[str, ...], every: list[Series]) -> bool:
    drawn: list[float] = []
    for row, tenant in enumerate(tenants):
        pick = of_tenant(tenant, _KEY)
        for place, series in enumerate(every):
            value = pick(series.columns[0])
            if value.value is None or not math.isfinite(value.value):
                continue
            up = row + 0.8 * ((place + 0.5) / len(every) - 0.5)
            drawn.append(value.value)
            interval_bars(axes, [up], [value.value], [value.ci95], color=series.line["color"], across=True)
            panel.mark_point(axes, value.value, up, series, value, series.columns[0])
    if not drawn:
        no_data(axes, "no request got a token")
        return False
    for row in range(1, len(tenants)):
        axes.axhline(row - 0.5, color="#cccccc", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(tenants) - 0.5, -0.5)
    axes.set_yticks(range(len(tenants)), [shown(tenant, _LETTERS) for tenant in tenants])
    axes.tick_params(axis="y", length=0)
    panel.scale_to(axes.xaxis, drawn, log=True)
    return True


def _panels(comparison: Comparison, every: list[Series]) -> Figure:
    tenants = comparison.tenants
    columns = min(_COLUMNS, len(tenants))
    rows = -(-len(tenants) // columns)
    figure, every_axes = headed_figure(
        headline(comparison), len(tenants), columns=columns, height=2.6 * rows + 1.2, one_axis=False
    )
    for place, (axes, tenant) in enumerate(zip(every_axes, tenants, strict=True)):
        axes.set_title(shown(tenant, _LETTERS))
        panel.draw_lines(axes, comparison, every, of_tenant(tenant, _KEY), log=True)
        if axes.lines:
            axes.set_ylabel("TTFT p99 [ms]" if place % columns == 0 else "")
        if place + columns < len(tenants):
            axes.set_xlabel("")  # said by the last panel of its column
    panel.name_modes(every_axes[0], every)
    legend(figure, every_axes[0])
    return figure
