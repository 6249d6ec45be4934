"""What tenants did to each other, as rows: slowdowns against each tenant alone, victims by aggressors, and totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.metrics import METRICS
from analysis.report.numbers import UNDEFINED, number, ratio, share, spread

__all__ = ["COLUMNS", "Cell", "compared", "lines", "matrix_rows", "rows", "totals"]

COLUMNS = tuple(
    (metric, rank) for metric in ("ttft_scheduled_ms", "tpot_ms", "e2e_scheduled_ms") for rank in ("p50", "p95", "p99")
)
"""Metric and percentile of each column of slowdowns."""


@dataclass(frozen=True)
class Cell:
    """A value as it is shown.

    Attributes:
        value: None where it is undefined.
        below: its interval, in small letters; "" where there is none.
        tip: what stands behind it.
    """

    text: str
    value: float | None
    below: str = ""
    tip: str = ""


def compared(interference: Mapping[str, Any]) -> str:
    """What was compared with what."""
    alone = ", ".join(f"{tenant} in {where}" for tenant, where in interference["solo"].items())
    return f"Together: {interference['shared'] or 'never all of them'}. Alone: {alone or 'none'}."


def rows(interference: Mapping[str, Any]) -> Iterator[tuple[str, list[Cell]]]:
    """Each tenant with its slowdowns by `COLUMNS`, its share of the throughput alone, and its leakage."""
    for tenant, entry in interference["tenants"].items():
        cells = [_slowdown(entry["slowdown"][metric][rank]) for metric, rank in COLUMNS]
        yield tenant, [*cells, _value(entry["throughput_ratio"], share), _value(entry["isolation_leakage"], ratio)]


def matrix_rows(matrix: Mapping[str, Any]) -> Iterator[tuple[str, list[Cell]]]:
    """Each victim with its slowdown by each aggressor."""
    for victim, slowdowns in zip(matrix["tenants"], matrix["slowdown"], strict=True):
        yield victim, [Cell(UNDEFINED, None) if one is None else _slowdown(one) for one in slowdowns]


def totals(interference: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Name of each figure of the whole run, and its value."""
    leakage = interference["isolation_leakage"]
    of = _of(leakage)
    yield "isolation_leakage", _value(leakage, ratio, f"of {of}" if of else "")
    yield "sharing_efficiency", _value(interference["sharing_efficiency"], number)


def lines(interference: Mapping[str, Any]) -> Iterator[str]:
    """The same for a terminal, one line per tenant and one for all."""
    for tenant, entry in interference["tenants"].items():
        slowdowns = [
            f"{label} {number(entry['slowdown'][metric]['p95']['value'])}"
            for metric, label in (("ttft_scheduled_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_scheduled_ms", "e2e"))
        ]
        throughput = share(entry["throughput_ratio"]["value"])
        yield f"{tenant} against alone, p95: {', '.join(slowdowns)} times as long; throughput {throughput}"
    leakage, efficiency = interference["isolation_leakage"], interference["sharing_efficiency"]
    of = _of(leakage)
    yield (
        f"isolation leakage {ratio(leakage['value'])}{f' ({of})' if of else ''}{_within(leakage)}; "
        f"sharing efficiency {number(efficiency['value'])}{_within(efficiency)} (1 = taking turns)"
    )


def _of(leakage: Mapping[str, Any]) -> str:
    """The worst victim, and the metric by which it is."""
    if leakage["value"] is None:
        return ""
    return f"{leakage['victim']}, {METRICS[leakage['metric']].label} {leakage['percentile']}"


def _within(value: Mapping[str, Any]) -> str:
    words = spread(value["ci95"])
    return f", {words}" if words else ""


def _slowdown(one: Mapping[str, Any]) -> Cell:
    if one["value"] is None and not one["count"]:
        return Cell(UNDEFINED, None, "", "no requests to compare")
    how = "paired by request index" if one["paired"] else "not paired: the schedules differ"
    words = [
        f"{number(one['shared'])} ms together, {number(one['solo'])} ms alone",
        f"{one['count']:,} requests, {how}",
        spread(one["ci95"]),
    ]
    return Cell(number(one["value"]), one["value"], _ends(one["ci95"], number), "\n".join(filter(None, words)))


def _value(one: Mapping[str, Any], show: Any, tip: str = "") -> Cell:
    return Cell(show(one["value"]), one["value"], _ends(one["ci95"], show), tip)


def _ends(ci95: Sequence[float | None] | None, show: Any) -> str:
    """Both ends of an interval in few letters."""
    low, high = ci95 or (None, None)
    return "" if low is None and high is None else f"{show(low)} to {show(high)}"
