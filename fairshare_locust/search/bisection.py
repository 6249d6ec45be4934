"""Bisection: which load to try next, by what is known of those tried. A function of that alone: it can go on any time.

From the lowest load it doubles until an SLO breaks, or up to the highest; then it halves the ratio between the highest
that held and the lowest that broke, until they are as near as wanted. At such a border both are repeated with other
seeds, and the majority counts; where it turns a load's verdict the border moves, and the search goes on from there.
Loads above the lowest that broke are taken to break, whatever chance said of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Border", "Limits", "Try", "border", "next_try"]

_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where to look, and how closely.

    Attributes:
        low, high: the lowest and the highest scale that are tried.
        precision: by how much of it the load that broke may lie above the one that held.
        repeats: runs, with a seed each, of the two loads at the border.
    """

    low: float = 0.1
    high: float = 8.0
    precision: float = 0.05
    repeats: int = 3

    def check(self) -> Iterator[tuple[str, str]]:
        """The highest is above the lowest, and a majority is one."""
        if not 0 < self.low < math.inf:
            yield "low", f"found {self.low:g}; must be above 0"
        elif not self.low < self.high < math.inf:
            yield "high", f"found {self.high:g}; must be above the lowest load ({self.low:g})"
        if not 0.001 <= self.precision <= 1:
            yield "precision", f"found {self.precision:g}; must be at least 0.001 and at most 1"
        if self.repeats < 1 or self.repeats % 2 == 0:
            yield "repeats-at-border", f"found {self.repeats}; must be odd, so that there is a majority"


@dataclass(frozen=True, order=True)
class Try:
    """A run of the search: a load, and which repeat of it, from 1."""

    scale: float
    repeat: int


@dataclass(frozen=True)
class Border:
    """What is known of where SLOs break.

    Attributes:
        held: the highest load that held, below which none is known to have broken; None: none held.
        broke: the lowest load that broke; None: none broke.
    """

    held: float | None
    broke: float | None


def border(known: Mapping[Try, bool]) -> Border:
    """The border by the verdicts so far: True where every SLO held."""
    verdicts = {scale: _holds(known, scale) for scale in {one.scale for one in known}}
    broke = min((scale for scale, held in verdicts.items() if not held), default=None)
    below = (scale for scale, held in verdicts.items() if held and (broke is None or scale < broke))
    return Border(max(below, default=None), broke)


def next_try(known: Mapping[Try, bool], limits: Limits) -> Try | None:
    """What to run next; None when the border is known."""
    if not known:
        return Try(limits.low, 1)
    found = border(known)
    if found.held is None:
        return _repeat(known, limits, limits.low)
    if found.broke is None:
        if found.held >= limits.high:
            return _repeat(known, limits, found.held)
        return Try(min(_rounded(2 * found.held), limits.high), 1)
    if found.broke > found.held * (1 + limits.precision) and (between := _between(found.held, found.broke)) is not None:
        return Try(between, 1)
    return _repeat(known, limits, found.held) or _repeat(known, limits, found.broke)


def _results(known: Mapping[Try, bool], scale: float) -> list[bool]:
    return [held for one, held in known.items() if one.scale == scale]


def _holds(known: Mapping[Try, bool], scale: float) -> bool:
    """By majority; as often held as broken is not held."""
    results = _results(known, scale)
    return 2 * sum(results) > len(results)


def _repeat(known: Mapping[Try, bool], limits: Limits, scale: float) -> Try | None:
    """The next repeat at this load, until no further one could turn the verdict."""
    results = _results(known, scale)
    left = limits.repeats - len(results)
    held, broke = sum(results), len(results) - sum(results)
    if left <= 0 or held > broke + left or broke > held + left:
        return None
    return Try(scale, len(results) + 1)


def _between(low: float, high: float) -> float | None:
    """The geometric mean with few digits; None if there is no such number between the two."""
    middle = _rounded(math.sqrt(low * high))
    return middle if low < middle < high else None


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
