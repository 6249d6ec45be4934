"""How every figure looks: size, fonts, one colour per tenant, and the line that says what run it shows."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.summary import Summary, emulated_how, simulated_how
from fairshare_locust.record.run_directory import replace_file

__all__ = [
    "FIXED_MODES",
    "MEASURES",
    "NO_DATA_IN",
    "applied",
    "headed_figure",
    "interval_bars",
    "legend",
    "mode_line",
    "new_figure",
    "no_data",
    "save",
    "shown",
    "tenant_area",
    "tenant_line",
]

# Okabe and Ito's colours, which stay apart for colour-blind readers; their yellow is too faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
_HATCHES = (None, "///", "...", "xxx")
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MEASURES = (("#222222", "solid"), ("#666666", (0, (5, 2))), ("#999999", (0, (1, 1.2))))
"""Colour and dashes for up to three lines that are not tenants: greys, as colours mean tenants."""
# Paul Tol's "muted" colours (personal.sron.nl/~pault), made for colour-blind readers: colour, marker, dashes.
_MODES: dict[str, tuple[str, str, Any]] = {
    "logical": ("#332288", "o", "solid"),
    "timeslice": ("#CC6677", "s", "solid"),
    "mps": ("#117733", "^", "solid"),
    "mig": ("#AA4499", "D", "solid"),
    "mig_emulated": ("#AA4499", "X", (0, (5, 2))),
}
FIXED_MODES = frozenset(_MODES)
NO_DATA_IN = 1.6
"""Height of a figure that has nothing but a reason to show."""
_OTHER_MODES = (("#44AA99", "v"), ("#882255", "P"), ("#999933", "<"), ("#88CCEE", "p"), ("#661100", "h"))

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
    summary: Summary,
    panels: int = 1,
    *,
    stacked: bool = False,
    height: float = 4.0,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, Sequence[Axes]]:
    """A figure headed by the run's name, its verdict, and whether it was simulated.

    Its panels stand side by side, or `stacked` over one another with one horizontal axis; `heights` are then theirs
    in proportion.
    """
    run, verdict = summary.content["run"], summary.content["verdict"]
    words = [shown(str(run["name"]), 40), simulated_how(run), emulated_how(run)]
    words.append(f"verdict: {verdict['status']}" if verdict["status"] != "valid" else None)
    columns = 1 if stacked else panels
    headline = " · ".join(filter(None, words))
    return headed_figure(headline, panels, columns=columns, height=height, one_axis=stacked, heights=heights)


def headed_figure(
    headline: str,
    panels: int = 1,
    *,
    columns: int = 1,
    height: float = 4.0,
    one_axis: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, Sequence[Axes]]:
    """The same with any words above its panels, for what is not one run; they fill a row of `columns` after another.

    With `one_axis` all share the horizontal one.
    """
    figure = Figure(figsize=(8 if columns == 1 else 11, height), layout="constrained")
    FigureCanvasAgg(figure)
    rows = -(-panels // columns)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=one_axis, height_ratios=heights).ravel()
    for unused in axes[panels:]:
        unused.set_axis_off()
    figure.suptitle(headline, x=0.01, ha="left", fontsize=9, color="#555555")
    return figure, list(axes[:panels])


def applied() -> AbstractContextManager[None]:
    """The style, for as long as the context lasts: whoever else uses matplotlib keeps theirs."""
    style: Any = _STYLE  # matplotlib types every key as a literal
    return mpl.rc_context(style)


def shown(name: str, length: int = 24) -> str:
    """A name short enough for a legend, cut in its middle: names of tenants and phases often differ at the end only."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


def tenant_line(index: int) -> dict[str, Any]:
    """Colour and dashes of a tenant, by its place in the profile; the same in every figure."""
    turn, colour = divmod(index, len(_COLOURS))
    return {"color": _COLOURS[colour], "linestyle": _DASHES[turn % len(_DASHES)]}


def tenant_area(index: int) -> dict[str, Any]:
    """How an area of a tenant is filled: in its colour, hatched where its lines are dashed."""
    hatch = _HATCHES[index // len(_COLOURS) % len(_HATCHES)]
    return {"facecolor": tenant_line(index)["color"], "edgecolor": "white", "linewidth": 0, "hatch": hatch}


def mode_line(mode: str, place: int = 0) -> dict[str, Any]:
    """Colour, dashes and marker of a sharing mode, the same in every figure; of another one by its `place` among such.

    The palette is not the tenants', and a mode always has a marker: nobody takes one for the other. What is only
    emulated is dashed, in the colour of what it emulates.
    """
    if mode in _MODES:
        colour, marker, dashes = _MODES[mode]
    else:
        turn, other = divmod(place, len(_OTHER_MODES))
        colour, marker = _OTHER_MODES[other]
        dashes = _DASHES[turn % len(_DASHES)]
    return {"color": colour, "marker": marker, "linestyle": dashes}


def interval_bars(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[float],
    intervals: Sequence[tuple[float | None, float | None]],
    *,
    color: str,
    across: bool = False,
) -> None:
    """95 % intervals as thin bars with caps, `across` where values lie on the horizontal axis; unknown: none.

    An interval that does not hold its value, as rounding makes them, ends at the value. Where one end is not known,
    a dotted arm without a cap, as long as the other, says that there is one.
    """
    known = [
        (place, value, None if low is None else max(0.0, value - low), None if high is None else max(0.0, high - value))
        for place, value, (low, high) in zip(places, values, intervals, strict=True)
        if all(end is None or math.isfinite(end) for end in (value, low, high)) and (low, high) != (None, None)
    ]
    if not known:
        return
    at, around = [place for place, *_ in known], [value for _, value, *_ in known]
    arms = [[below or 0.0 for *_, below, _ in known], [above or 0.0 for *_, above in known]]
    drawn: dict[str, Any] = {"fmt": "none", "ecolor": color, "elinewidth": 1, "capsize": 2.5, "capthick": 1}
    if across:
        axes.errorbar(around, at, xerr=arms, **drawn)
    else:
        axes.errorbar(at, around, yerr=arms, **drawn)
    for place, value, below, above in known:
        if below is None:
            end = value - min(above or 0.0, abs(value) / 2)  # stays positive, for a logarithmic axis
        elif above is None:
            end = value + below
        else:
            continue
        line, side = [value, end], [place, place]
        dotted: dict[str, Any] = {"color": color, "linestyle": (0, (1, 1.5)), "linewidth": 1}
        axes.plot(*((line, side) if across else (side, line)), **dotted)


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
    """Write the PNG at `path` and the SVG of the same name beside it, each whole or not at all.

    An SVG carries its letters as outlines, so that it looks the same wherever it is opened, and neither a date nor
    random names: the same figure gives the same bytes. The figure is finished then: its layout stays as it is.
    """
    content = io.BytesIO()
    canvas: Any = figure.canvas  # of matplotlib's canvases only the base has types
    canvas.print_png(content)  # savefig writes the same bytes, but goes over every artist once more
    replace_file(path, content.getvalue())
    replace_file(path.with_suffix(".svg"), _svg(figure))


def _svg(figure: Figure) -> bytes:
    """Painted in the layout that the PNG found, which saves most of the time of a second one."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content, canvas, dpi = io.BytesIO(), figure.canvas, figure.dpi
    figure.set_layout_engine("none")
    svg: Any = FigureCanvasSVG(figure)
    try:
        with mpl.rc_context({"svg.hashsalt": "figure", "svg.fonttype": "path"}):
            svg.print_svg(content, metadata={"Date": None, "Creator": None})
    finally:
        figure.dpi = dpi
        figure.set_canvas(canvas)
    return content.getvalue()
