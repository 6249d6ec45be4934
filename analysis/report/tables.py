"""The tables of a report as plain cells, for the forms that are only text: LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.metrics import METRICS
from analysis.report.numbers import UNDEFINED, count, number, percentile, ratio, share

__all__ = ["Table", "matrix", "tables"]


@dataclass(frozen=True)
class Table:
    """A table as a reader sees it.

    Attributes:
        key: a short name, such as `tenants`.
        headings: one for each column; a unit stands after a line break.
        rows: cells as text, `-` for undefined.
        texts: so many columns from the left are words, the others numbers.
        notes: sentences to stand under it.
        total: whether the last row is that of all together.
    """

    key: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    notes: tuple[str, ...] = ()
    total: bool = False


_INTERVALS = "In brackets: 95 % interval."
_INDICATIVE = "~ indicative: too few samples."
_RATES = ("output_tokens_per_s", "goodput_tokens_per_s")
_MANY = 4  # tenants; in a matrix of more there is no room for intervals
_LATENCIES = (
    *(("ttft_scheduled_ms", name) for name in ("p50", "p95", "p99")),
    *(("tpot_ms", name) for name in ("p50", "p99")),
    *(("e2e_scheduled_ms", name) for name in ("p95", "p99")),
)
_SLOWDOWNS = tuple(
    (latency, name)
    for latency in ("ttft_scheduled_ms", "tpot_ms", "e2e_scheduled_ms")
    for name in ("p50", "p95", "p99")
)


def tables(content: Mapping[str, Any]) -> Iterator[Table]:
    """Those that a run has: tenants, latencies, fairness, interference, cost.

    Args:
        content: as in `summary.json`.
    """
    yield _got(content)
    yield _latencies(content)
    if content["fairness"] is not None:
        yield _fairness(content["fairness"])
    if content["interference"] is not None:
        yield _slowdowns(content["interference"])
        if content["interference"]["matrix"] is not None:
            yield matrix(content["interference"]["matrix"])
    yield from _cost(content)


def _entries(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each tenant's entry, and that of all together where there are several."""
    rows = list(content["tenants"].items())
    return [*rows, ("total", content["totals"])] if len(rows) > 1 else rows


def _bounded(value: str, bounds: Sequence[float | None] | None, written: Any = number) -> str:
    """A value with its interval, where both ends of it are known."""
    if value == UNDEFINED or bounds is None or None in bounds:
        return value
    low, high = map(written, bounds)
    return f"{value} ({low.removesuffix('%')} to {high})"


def _got(content: Mapping[str, Any]) -> Table:
    rows = []
    for name, entry in _entries(content):
        bounds = entry.get("ci95") or {}
        rows.append(
            (
                name,
                f"{count(entry['completed'])}/{count(entry['scheduled'])}",
                count(sum(entry["failed"].values())),
                *(_bounded(number(entry[key]), bounds.get(key)) for key in _RATES),
                _bounded(share(entry["slo_attainment"]), bounds.get("slo_attainment"), share),
            )
        )
    return Table(
        "tenants",
        "What each tenant got",
        (
            "tenant",
            "requests\nok/due",
            "failed",
            *(f"{METRICS[key].label}\n{METRICS[key].unit}" for key in _RATES),
            "SLO met",
        ),
        tuple(rows),
        notes=(_INTERVALS,) if any(entry.get("ci95") for _, entry in _entries(content)) else (),
        total=len(rows) > 1,
    )


def _latencies(content: Mapping[str, Any]) -> Table:
    rows = [
        (name, *(percentile(entry[latency], rank) for latency, rank in _LATENCIES)) for name, entry in _entries(content)
    ]
    notes = ["TTFT and e2e count from when a request was due."]
    if any(cell.startswith("~") for row in rows for cell in row[1:]):
        notes.append(_INDICATIVE)
    return Table(
        "latency",
        "How long its users waited",
        ("tenant", *(f"{_short(latency)} {rank}\n{METRICS[latency].unit}" for latency, rank in _LATENCIES)),
        tuple(rows),
        notes=tuple(notes),
        total=len(rows) > 1,
    )


def _short(latency: str) -> str:
    return METRICS[latency].label.removesuffix(" from schedule")


def _fairness(fairness: Mapping[str, Any]) -> Table:
    bounds = fairness.get("ci95") or {}
    rows = []
    for name, value in fairness.items():
        if name in ("series", "ci95"):
            continue
        metric = METRICS[name]
        written = number if metric.unit else ratio
        rows.append((metric.label, metric.unit, written(value), _interval(bounds.get(name), written)))
    return Table(
        "fairness", "How evenly they were treated", ("index", "unit", "value", "95 % interval"), tuple(rows), texts=2
    )


def _interval(bounds: Sequence[float | None] | None, written: Any = number) -> str:
    known = bounds is not None and None not in bounds
    return " to ".join(written(bound) for bound in bounds or ()) if known else UNDEFINED


def _slowdown(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return UNDEFINED
    return _bounded(number(one["value"]), one.get("ci95"))


def _slowdowns(found: Mapping[str, Any]) -> Table:
    """A row for each tenant and latency, so that there is room for the intervals."""
    rows = []
    for tenant, entry in found["tenants"].items():
        for latency, by_rank in entry["slowdown"].items():
            rows.append(
                (tenant, METRICS[latency].label, *(_slowdown(by_rank.get(rank)) for rank in ("p50", "p95", "p99")))
            )
    leakage, efficiency = found["isolation_leakage"], found["sharing_efficiency"]
    notes = [
        _INTERVALS,
        f"{METRICS['isolation_leakage'].label.capitalize()}: {_slowdown(leakage)}"
        + (
            f", of {leakage['victim']} ({METRICS[leakage['metric']].label} {leakage['percentile']})."
            if leakage and leakage.get("victim")
            else "."
        ),
        f"{METRICS['sharing_efficiency'].label.capitalize()}: {_slowdown(efficiency)}.",
    ]
    return Table(
        "interference",
        "Slowdown: shared / alone",
        ("tenant", "latency", "p50", "p95", "p99"),
        tuple(rows),
        texts=2,
        notes=tuple(notes),
    )


def matrix(found: Mapping[str, Any]) -> Table:
    """The slowdown of each victim when only one aggressor is there."""
    names = found["tenants"]
    bounded = len(names) <= _MANY

    def written(one: Mapping[str, Any] | None) -> str:
        return _slowdown(one) if bounded or one is None else number(one["value"])

    return Table(
        "matrix",
        f"Slowdown of a victim (row) by an aggressor (column): {METRICS[found['metric']].label} {found['percentile']}",
        ("victim / aggressor", *names),
        tuple((name, *map(written, row)) for name, row in zip(names, found["slowdown"], strict=True)),
        notes=(_INTERVALS,) if bounded else (),
    )


def _cost(content: Mapping[str, Any]) -> Iterator[Table]:
    """What is known of money and energy; a run without a price or without energy lacks those columns."""
    cost, gpu = content["cost"], content["gpu"]
    columns: list[tuple[str, Mapping[str, float | None], float | None]] = []
    notes = []
    if cost is not None:
        columns += [
            ("cost\nUSD", cost.get("tenants_usd", {}), cost.get("window_usd")),
            ("cost\nUSD per million tokens", cost["tenants"], cost["cost_per_million_output_tokens"]),
        ]
        notes.append(
            f"Of the total, {number(cost['idle_usd'])} USD ({share(cost['idle_share'])}) was for idle time."
            if cost.get("idle_usd") is not None
            else "What was for idle time is not known."
        )
    if gpu is not None and gpu["energy_j"] is not None:
        columns += [
            ("energy\nJ", gpu.get("tenants_energy_j", {}), gpu["energy_j"]),
            ("energy\nJ per token", gpu.get("tenants_joules_per_output_token", {}), gpu["joules_per_output_token"]),
        ]
        notes.append("A tenant's energy is its part by share of service: an estimate.")
    if columns:
        yield Table(
            "cost",
            "What it cost",
            ("tenant", *(title for title, _, _ in columns)),
            (
                *((name, *(number(of_tenant.get(name)) for _, of_tenant, _ in columns)) for name in content["tenants"]),
                ("total", *(number(total) for _, _, total in columns)),
            ),
            notes=tuple(notes),
            total=True,
        )
