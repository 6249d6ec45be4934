"""How every figure looks: size, fonts, one colour per tenant, and the line that says what run it shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.summary import Summary, simulated_how
from fairshare_locust.record.run_directory import replace_file

__all__ = ["MEASURES", "applied", "legend", "new_figure", "no_data", "save", "shown", "tenant_line"]

# Okabe and Ito's colours, which stay apart for colour-blind readers; their yellow is too faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MEASURES = (("#222222", "solid"), ("#666666", (0, (5, 2))), ("#999999", (0, (1, 1.2))))
"""Colour and dashes for up to three lines that are not tenants: greys, as colours mean tenants."""

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.dpi": 150,
    "text.parse_math": False,  # a $ in a name is a $
}


def new_figure(
    summary: Summary, panels: int = 1, *, stacked: bool = False, height: float = 4.0
) -> tuple[Figure, Sequence[Axes]]:
    """A figure headed by the run's name, its verdict, and whether it was simulated.

    Its panels stand side by side, or `stacked` over one another with one horizontal axis.
    """
    run, verdict = summary.content["run"], summary.content["verdict"]
    figure = Figure(figsize=(8 if panels == 1 or stacked else 11, height), layout="constrained")
    FigureCanvasAgg(figure)
    shape = (panels, 1) if stacked else (1, panels)
    axes = figure.subplots(*shape, squeeze=False, sharex=stacked).ravel()
    words = [shown(str(run["name"]), 40), simulated_how(run)]
    words.append(f"verdict: {verdict['status']}" if verdict["status"] != "valid" else None)
    figure.suptitle(" · ".join(filter(None, words)), x=0.01, ha="left", fontsize=9, color="#555555")
    return figure, list(axes)


def applied() -> AbstractContextManager[None]:
    """The style, for as long as the context lasts: whoever else uses matplotlib keeps theirs."""
    style: Any = _STYLE  # matplotlib types every key as a literal
    return mpl.rc_context(style)


def shown(name: str, length: int = 24) -> str:
    """A name short enough for a legend."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def tenant_line(index: int) -> dict[str, Any]:
    """Colour and dashes of a tenant, by its place in the profile; the same in every figure."""
    turn, colour = divmod(index, len(_COLOURS))
    return {"color": _COLOURS[colour], "linestyle": _DASHES[turn % len(_DASHES)]}


def legend(figure: Figure, axes: Axes) -> None:
    """One legend below the panels, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        column_in = 0.065 * (max(map(len, labels)) + 7)  # about the width of a letter, and the line before it
        columns = max(1, min(len(labels), int(figure.get_figwidth() / column_in)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def no_data(axes: Axes, reason: str) -> None:
    """Say why a panel is empty."""
    axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color="#777777")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])


def save(figure: Figure, path: Path) -> None:
    """Write the PNG, whole or not at all."""
    content = io.BytesIO()
    canvas: Any = figure.canvas  # of matplotlib's canvases only the base has types
    canvas.print_png(content)  # savefig writes the same bytes, but goes over every artist once more
    replace_file(path, content.getvalue())
