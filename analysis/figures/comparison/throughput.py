"""Throughput and the tail of the answers as the load rises, a line per mode."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.model import Comparison
from analysis.figures.comparison import panel
from analysis.figures.comparison.series import headline, make_series
from analysis.figures.style import headed_figure, legend

NAME = "compare_throughput"
TITLE = "Throughput and tail against load"
CAPTION = f"Output of all tenants together, and the slowest hundredth of their answers. {panel.DOUBTS}"

PANELS = (("output_tokens_per_s", "output", False), ("e2e_p99_ms", "e2e p99", True))


def draw(comparison: Comparison) -> Figure:
    """Two panels side by side, `PANELS`."""
    return draw_panels(comparison, PANELS)


def draw_panels(comparison: Comparison, panels: tuple[tuple[str, str, bool], ...]) -> Figure:
    """A panel for each key, headed as in the table, logarithmic where it may be."""
    figure, every_axes = headed_figure(headline(comparison), len(panels), columns=len(panels))
    every = make_series(comparison)
    for axes, (key, otherwise, log) in zip(every_axes, panels, strict=True):
        axes.set_title(panel.heading(comparison, key, otherwise))
        panel.draw_lines(axes, comparison, every, panel.of_all(key), log=log)
        if axes.lines:
            axes.set_ylabel(f"{panel.heading(comparison, key, otherwise)}{panel.unit_of(comparison, key)}")
    panel.name_modes(every_axes[0], every)
    legend(figure, every_axes[0])
    return figure
