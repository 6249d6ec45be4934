"""The pictures of a run, as PNG files. No arithmetic here; matplotlib loads when the first one is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.summary import Summary

__all__ = ["Picture", "draw_figures"]


@dataclass(frozen=True)
class Picture:
    """A drawn figure, and what to read from it."""

    path: Path
    title: str
    caption: str


def draw_figures(summary: Summary, folder: Path) -> Iterator[Picture]:
    """Draw every figure into `folder`, one at a time; those of telemetry and of several loads where there are any."""
    from analysis.figures import fairness, load, tails, telemetry, throughput, timeline, ttft
    from analysis.figures.style import applied, save

    sampled = (telemetry,) if summary.curves.traces else ()
    several_loads = (load,) if summary.content["window"]["loads"] is not None else ()
    for module in (ttft, tails, throughput, fairness, timeline, *sampled, *several_loads):
        path = folder / f"{module.NAME}.png"
        with applied():
            save(module.draw(summary), path)
        yield Picture(path, module.TITLE, module.CAPTION)
