"""search.png: the attainment of the tenant that fares worst against the load, a line per sharing mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from analysis.figures.style import applied, headed_figure, legend, mode_line, no_data, save

__all__ = ["Curve", "draw_search"]


@dataclass(frozen=True)
class Curve:
    """One mode.

    Attributes:
        points: scale and attainment of each run; several of one scale are repeats.
        held: the highest load at which every SLO held; None if none did.
    """

    mode: str
    points: tuple[tuple[float, float], ...]
    held: float | None


def draw_search(curves: Sequence[Curve], wanted: float | None, headline: str, path: Path) -> None:
    """Draw the runs as markers, the median of each load as a line, and where each mode's SLOs still held."""
    with applied():
        figure, (axes,) = headed_figure(headline)
        if not any(curve.points for curve in curves):
            no_data(axes, "no run came to its end")
            save(figure, path)
            return
        for place, curve in enumerate(curves):
            look = mode_line(curve.mode, place)
            scales = sorted({scale for scale, _ in curve.points})
            middle = [median(share for scale, share in curve.points if scale == at) for at in scales]
            name = curve.mode if curve.held is None else f"{curve.mode}, holds up to × {curve.held:g}"
            axes.plot(scales, middle, color=look["color"], linestyle=look["linestyle"], label=name)
            xs, ys = zip(*curve.points, strict=True) if curve.points else ((), ())
            axes.plot(xs, ys, color=look["color"], marker=look["marker"], linestyle="none", markersize=4, alpha=0.7)
            if curve.held is not None:
                axes.axvline(curve.held, color=look["color"], linewidth=0.8, linestyle=(0, (1, 2)))
        if wanted is not None:
            axes.axhline(wanted, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), label=f"wanted: {wanted:.0%}")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(-0.02, 1.04)
        axes.set_title("SLO attainment of the tenant that fares worst")
        axes.set_xlabel("load, × the profile's (log)")
        axes.set_ylabel("attainment")
        legend(figure, axes)
        save(figure, path)
