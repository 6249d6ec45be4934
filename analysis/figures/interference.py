"""Who slows whom: each tenant with one other only, against itself alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.style import new_figure, no_data, shown
from analysis.metrics import METRICS
from analysis.summary import Summary

NAME = "interference"
TITLE = "Who slows whom"
CAPTION = (
    "Slowdown of the tenant of the row with only the tenant of the column beside it, against itself alone; orange: "
    "slower, purple: faster; below it the 95 % interval and the requests; hatched: not measured."
)

_MAP = "PuOr_r"  # ColorBrewer's, diverging, and safe for colour-blind readers
_LEAST_REACH = math.log(2)  # the map reaches at least from half to double, so that noise stays pale
_FEW = 5
_CELL_IN, _SMALL_CELL_IN = (1.2, 0.66), (0.82, 0.62)


def draw(summary: Summary) -> Figure:
    """The matrix as a heat map with its values in the cells."""
    interference = summary.content.get("interference")
    matrix = interference["matrix"] if interference else None
    tenants = matrix["tenants"] if matrix else []
    figure, (axes,) = new_figure(summary)
    if not matrix:
        axes.set_title(TITLE)
        no_data(axes, "no tenant ran with one other only")
        return figure
    cell_in = _CELL_IN if len(tenants) <= _FEW else _SMALL_CELL_IN
    figure.set_size_inches(max(5.5, 2.2 + cell_in[0] * len(tenants)), max(2.6, 1.6 + cell_in[1] * len(tenants)))
    axes.set_title(f"{TITLE}: {METRICS[matrix['metric']].label}, {matrix['percentile']}")
    _cells(axes, matrix)
    places = range(len(tenants))
    slanted: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if len(tenants) > _FEW else {}
    axes.set_xticks(places, [shown(tenant, 14) for tenant in tenants], **slanted)
    axes.set_yticks(places, [shown(tenant, 20) for tenant in tenants])
    axes.tick_params(length=0)
    axes.set_xlabel("beside")
    axes.set_ylabel("slowdown of")
    axes.set_xlim(-0.5, len(tenants) - 0.5)
    axes.set_ylim(len(tenants) - 0.5, -0.5)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


def _cells(axes: Axes, matrix: dict[str, Any]) -> None:
    rows = matrix["slowdown"]
    logs = [math.log(cell["value"]) for row in rows for cell in row if cell and _drawn(cell["value"])]
    reach = max([_LEAST_REACH, *map(abs, logs)])
    colours, norm = colormaps[_MAP], Normalize(-reach, reach)
    large, small = (10.0, 7.0) if len(rows) <= _FEW else (8.5, 5.8)
    for victim, row in enumerate(rows):
        for aggressor, cell in enumerate(row):
            value: Any = cell["value"] if cell else None
            box: dict[str, Any] = {"facecolor": "#f6f6f6", "edgecolor": "#c9c9c9", "hatch": "////", "linewidth": 0}
            ink = "#555555"
            if _drawn(value):
                face = colours(norm(math.log(value)))
                box = {"facecolor": face, "edgecolor": "white", "linewidth": 1.5}
                ink = "white" if np.dot(face[:3], (0.299, 0.587, 0.114)) < 0.5 else "#111111"
            axes.add_patch(Rectangle((aggressor - 0.5, victim - 0.5), 1, 1, **box))
            words = _words(cell) if cell else [(0.0, "alone")] if victim == aggressor else []
            for offset, text in words:
                axes.text(
                    aggressor,
                    victim + offset,
                    text,
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=large if text.endswith("×") else small,
                    bbox=None if _drawn(value) else {"facecolor": "#f6f6f6", "linewidth": 0, "pad": 1.5},
                )


def _drawn(value: Any) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _words(cell: dict[str, Any]) -> list[tuple[float, str]]:
    """Value, interval and count, and how far below the middle of the cell each stands."""
    count = (0.32, f"n = {cell['count']:,}")
    if not _drawn(cell["value"]):
        return [(-0.1, "undefined"), count]
    ends = ["?" if end is None else f"{end:.2f}" for end in cell["ci95"]]
    interval = [] if ends == ["?", "?"] else [(0.1, f"{ends[0]} to {ends[1]}")]
    return [(-0.2, f"{cell['value']:.2f}×"), *interval, count]
