"""Whether the window was in a steady state, in words and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.metrics import METRICS
from analysis.report.numbers import number, stamp

__all__ = ["drift_rows", "line"]


def line(steady: Mapping[str, Any] | None) -> str | None:
    """The chosen warm-up beside the suggested one; None where nothing is known of it."""
    if steady is None:
        return None
    chosen, suggested = steady["chosen_warmup_s"], steady["suggested_warmup_s"]
    if suggested is None:
        told = "no other can be suggested"
    else:
        told = f"{stamp(suggested)} s suggested by {steady['statistic']}"
        if suggested > chosen and not steady["too_short"]:
            told += ", but the time between differs by no more than noise"
    return f"warm-up: {stamp(chosen)} s chosen, {told}"


def drift_rows(steady: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Label, unit, value at the start and at the end of the window, p-value, and whether it drifts."""
    for name, drift in ((steady or {}).get("drift") or {}).items():
        tenant, _, key = name.rpartition(" ")
        metric = METRICS.get(key)
        label = name if metric is None else f"{tenant} {metric.label}".strip()
        yield (
            label,
            metric.unit if metric else "",
            number(drift["from"]),
            number(drift["to"]),
            "-" if drift["p_value"] is None else f"{drift['p_value']:.2g}",
            bool(drift["drifts"]),
        )
