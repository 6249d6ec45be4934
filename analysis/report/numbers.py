"""Numbers as a reader sees them: three digits that matter, `-` for undefined, `~` for indicative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["UNDEFINED", "count", "number", "percentile", "ratio", "share", "small", "sort_key", "spread", "stamp"]

UNDEFINED = "-"


def number(value: float | None) -> str:
    """A measured value with three significant digits at least: 0.204, 20.4, 204, 20,412."""
    if value is None:
        return UNDEFINED
    if math.isinf(value):
        return "inf"
    size = abs(value)
    decimals = 0 if size >= 99.95 or size == 0 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{decimals}f}"


def small(value: float | None) -> str:
    """A value that may be far below 1, such as the price of a short window: 0.00667."""
    return f"{value:#.3g}" if value is not None and 0 < abs(value) < 0.1 else number(value)


def percentile(latency: dict[str, Any], name: str) -> str:
    """One percentile of a latency, with `~` before it while too few samples stand behind it."""
    value = latency[name]
    return f"{'' if value is None or latency['certified'][name] else '~'}{number(value)}"


def ratio(value: float | None) -> str:
    """A ratio such as Jain's index."""
    return UNDEFINED if value is None else f"{value:.3f}"


def stamp(value_s: float) -> str:
    """A time on the run clock, to a tenth of a second."""
    return f"{value_s:,.1f}".removesuffix(".0")


def share(value: float | None) -> str:
    """A share of a whole, in per cent with the sign that says so."""
    if value is None:
        return UNDEFINED
    percent = value * 100
    if value < 1 and percent >= 99.95:
        return "99.9%"  # never 100 % while one is missing
    return f"{percent:.1f}%"


def count(value: float | None) -> str:
    """How many."""
    return UNDEFINED if value is None else f"{value:,.0f}"


def sort_key(value: float | None) -> str:
    """What a cell is sorted by: nine digits, which are the same on every machine; "-" for an undefined value."""
    return UNDEFINED if value is None else f"{value:.9g}"


def spread(ci95: Sequence[float | None] | None, show: Callable[[float | None], str] = number) -> str:
    """A 95 % interval in words; "" where neither end is known."""
    low, high = ci95 or (None, None)
    if low is None and high is None:
        return ""
    return f"95 % interval {show(low)} to {show(high)}"


def failures_beside_valid(totals: dict[str, Any]) -> str:
    """Valid means that the figures can be believed, not that all went well: says so where requests failed."""
    failed = sum(totals["failed"].values())
    return f"; {failed:,} of {totals['scheduled']:,} requests failed" if failed else ""
