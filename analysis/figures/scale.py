"""Ticks of a logarithmic axis, written as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullFormatter, NullLocator

__all__ = ["log_ms", "log_ratio"]

_STEPS = ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,))
_FEWEST = 3
_CLOSEST = 0.85  # of the distance at which the most would lie evenly


class _RoundNumbers(Locator):
    """The densest of a few rows of round numbers for which there is room; linear steps where all are too sparse."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self) -> Sequence[float]:
        if self.axis is None:
            return []
        low, high = sorted(self.axis.get_view_interval())
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        if not 0 < vmin < vmax:
            return []
        apart = (vmax / vmin) ** (_CLOSEST / self.most)
        for steps in _STEPS:
            decades = range(math.floor(math.log10(vmin)), math.ceil(math.log10(vmax)) + 1)
            ticks = [step * 10.0**decade for decade in decades for step in steps]
            inside = [tick for tick in ticks if vmin <= tick <= vmax]
            if len(inside) >= _FEWEST and all(after >= apart * tick for tick, after in pairwise(inside)):
                return inside
        linear = MaxNLocator(self.most, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        return _spaced(inside if len(inside) >= _FEWEST else [tick for tick in linear if vmin <= tick <= vmax], apart)


def _spaced(ticks: Sequence[float], apart: float) -> list[float]:
    """Those that lie at least so many times further than the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick >= apart * kept[-1]:
            kept.append(float(tick))
    return kept


def log_ms(axis: Axis, most: int = 10) -> None:
    """Label at most so many round numbers of milliseconds; call after the scale is set to log."""
    _label(axis, most, "")


def log_ratio(axis: Axis) -> None:
    """The same for a ratio, which is written as a multiple."""
    _label(axis, 8, "×")


def _label(axis: Axis, most: int, unit: str) -> None:
    axis.set_major_locator(_RoundNumbers(most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9g}{unit}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
