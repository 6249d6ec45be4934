"""Definition: what a metric means, in the words of the registry."""

from __future__ import annotations

from analysis.metrics import Metric

__all__ = ["better", "definition"]


def better(metric: Metric) -> str:
    """Which way is better; "" where neither is."""
    return f"{metric.direction} is better" if metric.direction else ""


def definition(metric: Metric, note: str = "") -> str:
    """Formula, unit, direction, when there is none, and source: a line each, without those that have nothing to say.

    Args:
        note: what holds of the formula in this place.
    """
    lines = [
        f"{metric.formula}; {note}" if note else metric.formula,
        f"unit: {metric.unit}" if metric.unit else "",
        better(metric),
        f"undefined: {metric.undefined}" if metric.undefined else "",
        f"source: {metric.source}" if metric.source else "",
    ]
    return "\n".join(line for line in lines if line)
