"""Which values of a row are best, and which differ from the best by no more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from analysis.compare.model import Column, Row, Value

__all__ = ["differ", "marked"]


def differ(first: Value, second: Value) -> bool | None:
    """Whether two values differ by more than noise; None where that can't be told.

    Two columns are of different runs, and their summaries keep intervals, not draws: a paired bootstrap is not to be
    had. So the interval of the difference is put together from the two as Welch does: with `h` the arm of each interval
    that points to the other value, they differ if `|a - b| > sqrt(h_a² + h_b²)`. Less strict than asking that the
    intervals do not overlap, and cautious where both runs had the same schedule. Where an arm has no end, as that of a
    tail of few samples, none can say.
    """
    if first.value is None or second.value is None:
        return None
    if first.value == second.value:
        return False
    upper, lower = (first, second) if first.value > second.value else (second, first)
    if (None, None) in (upper.ci95, lower.ci95):
        return None
    if math.isinf(max(first.value, second.value)):
        return None  # what failed counts as endless: no arm tells how sure that is
    reach = math.hypot(_arm(upper, 0), _arm(lower, 1))
    return None if math.isinf(reach) else abs(first.value - second.value) > reach


def _arm(value: Value, side: int) -> float:
    """Distance from a value to the lower (0) or upper (1) end of its interval."""
    end = value.ci95[side]
    if end is None or value.value is None:
        return math.inf
    return max(0.0, (end - value.value) if side else (value.value - end))


def marked(
    key: str, label: str, unit: str, direction: Literal["higher", "lower"] | None, columns: Sequence[Column]
) -> Row:
    """The row with its marks, at each load by itself: the best, and the others that are within noise of it.

    Nothing is marked without a direction, of a load with fewer than two values, or where all of them are the same.
    """
    best: set[int] = set()
    near: set[int] = set()
    for load in dict.fromkeys(column.load for column in columns):
        values = {
            place: column.get(key)
            for place, column in enumerate(columns)
            if column.load == load and column.get(key).value is not None
        }
        if direction is None or len({value.value for value in values.values()}) < 2:
            continue
        pick = max if direction == "higher" else min
        top = pick(value.value for value in values.values() if value.value is not None)
        own = {place for place, value in values.items() if value.value == top}
        best |= own
        leader = values[min(own)]
        near |= {place for place, value in values.items() if place not in own and differ(value, leader) is False}
    return Row(key, label, unit, direction, frozenset(best), frozenset(near))
