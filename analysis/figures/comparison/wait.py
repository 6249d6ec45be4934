"""What the tenants wait and what their tokens cost as the load rises, a line per mode."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.model import Comparison
from analysis.figures.comparison import panel, throughput

NAME = "compare_wait"
TITLE = "Time to first token and cost against load"
CAPTION = f"All tenants together. {panel.DOUBTS}"

PANELS = (
    ("ttft_p99_ms", "TTFT p99", True),
    ("cost_per_million_output_tokens", "cost", True),
)


def draw(comparison: Comparison) -> Figure:
    """Two panels side by side, `PANELS`."""
    return throughput.draw_panels(comparison, PANELS)
