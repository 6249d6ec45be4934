"""How many requests met their SLO as the load rises: of all tenants, and of the one that is served worst."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.model import Comparison
from analysis.figures.comparison import panel
from analysis.figures.comparison.series import headline, make_series
from analysis.figures.style import headed_figure, legend

NAME = "compare_attainment"
TITLE = "SLO attainment against load"
CAPTION = f"All tenants together, and the worst of them; dotted: what the SLOs ask for. {panel.DOUBTS}"

_PANELS = (("slo_attainment", "all tenants"), ("worst_tenant_attainment", "worst tenant"))


def draw(comparison: Comparison) -> Figure:
    """Two panels side by side on one scale."""
    figure, every_axes = headed_figure(headline(comparison), len(_PANELS), columns=len(_PANELS))
    every = make_series(comparison)
    for axes, (key, title) in zip(every_axes, _PANELS, strict=True):
        axes.set_title(f"SLO attainment, {title}")
        panel.draw_lines(axes, comparison, every, panel.of_all(key))
        if not axes.lines:
            continue
        panel.in_per_cent(axes)
        axes.set_ylabel("requests that met their SLO")
        for wanted in sorted(set(comparison.slo_wanted.values())):
            axes.axhline(wanted, color="#555555", linestyle=(0, (1, 2)), linewidth=1)
    panel.name_modes(every_axes[0], every)
    legend(figure, every_axes[0])
    return figure
