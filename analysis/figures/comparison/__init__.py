"""The pictures of a comparison, as PNG and SVG files. No arithmetic here; matplotlib loads when the first is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis.compare.model import Comparison
from analysis.figures import Picture

__all__ = ["draw_comparison"]


def draw_comparison(comparison: Comparison, folder: Path) -> Iterator[Picture]:
    """Draw every figure into `folder`, one at a time: lines over several loads, else a bar per column."""
    from analysis.figures import style
    from analysis.figures.comparison import attainment, bars, batch, isolation, tenants, throughput, wait
    from analysis.figures.comparison.series import several_loads

    of_loads = (throughput, wait, attainment) if several_loads(comparison) else (bars,)
    for module in (*of_loads, tenants, batch, isolation):
        path = folder / f"{module.NAME}.png"
        with style.applied():
            style.save(module.draw(comparison), path)
        yield Picture(path, module.TITLE, module.CAPTION)
