"""The Pareto front of throughput and isolation: what no other column beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.compare.model import Column, Value

__all__ = ["front", "isolation"]


def isolation(column: Column) -> Value:
    """1 - isolation leakage, with the interval turned over; undefined where leakage is."""
    leakage = column.get("isolation_leakage")
    if leakage.value is None:
        return leakage
    low, high = (None if bound is None else 1 - bound for bound in reversed(leakage.ci95))
    return Value(1 - leakage.value, (low, high), leakage.certified)


def front(columns: Sequence[Column]) -> list[tuple[float, float]]:
    """(isolation, output tokens/s) of the columns on the front, in ascending isolation; intervals play no part.

    A column is on it unless another is at least as good in both and better in one. Columns without either take none.
    """
    points = []
    for column in columns:
        first, second = isolation(column).value, column.get("output_tokens_per_s").value
        if first is not None and second is not None and math.isfinite(first + second):
            points.append((first, second))
    best: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):  # from the best isolated: each further one has to yield more
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]
