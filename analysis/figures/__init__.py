"""The pictures of a run, as PNG and SVG files. No arithmetic here; matplotlib loads when the first one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from analysis.summary import Summary

__all__ = ["Picture", "draw_figures"]


@dataclass(frozen=True)
class Picture:
    """A drawn figure, and what to read from it."""

    path: Path
    title: str
    caption: str


def draw_figures(
    summary: Summary, folder: Path, progress: Callable[[float], None] = lambda _: None
) -> Iterator[Picture]:
    """Draw the figures of a run into `folder`, one at a time; those for which the run has nothing to show are left out.

    `progress` is told the share of them that is drawn.
    """
    from analysis.figures.style import applied, save

    modules = _modules(summary)
    for place, module in enumerate(modules, 1):
        path = folder / f"{module.NAME}.png"
        with applied():
            save(module.draw(summary), path)
        progress(place / len(modules))
        yield Picture(path, module.TITLE, module.CAPTION)


def _modules(summary: Summary) -> list[ModuleType]:
    """A module per figure: those that every run has, then those that this one has something for."""
    from analysis.figures import cdf, fairness, interference, load, slowdown, tails, telemetry, throughput, timeline
    from analysis.figures import waterfall as stages

    compared = summary.content.get("interference")
    return [
        *(cdf, tails, throughput, fairness, timeline),
        *((stages,) if summary.curves.waterfall else ()),
        *((slowdown,) if compared and compared["tenants"] else ()),
        *((interference,) if compared and compared["matrix"] else ()),
        *((telemetry,) if summary.curves.traces else ()),
        *((load,) if summary.content["window"]["loads"] is not None else ()),
    ]
