"""What the window cost in money and energy, as rows: each tenant, all together, and the time in which nobody asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.report.numbers import number, share

__all__ = ["COLUMNS", "Row", "lines", "rows"]

COLUMNS = (
    ("US dollars", "price of the GPUs over the window, by share of unweighted service", "USD"),
    ("cost_per_million_output_tokens", "", ""),
    ("energy_j", "", ""),
    ("joules_per_output_token", "", ""),
)
"""Of each column: a metric's name, or a heading with formula and unit."""

Row = tuple[str, tuple[float | None, float | None, float | None, float | None]]


def rows(content: Mapping[str, Any]) -> list[Row]:
    """Name and values by `COLUMNS`; nothing where neither a price nor an energy is known."""
    cost, gpu = content["cost"] or {}, content["gpu"] or {}
    usd, energy = cost.get("tenants_usd") or {}, gpu.get("tenants_energy_j") or {}
    per_token = gpu.get("tenants_joules_per_output_token") or {}
    if not cost and gpu.get("joules_per_output_token") is None:
        return []
    made: list[Row] = [
        (tenant, (usd.get(tenant), (cost.get("tenants") or {}).get(tenant), energy.get(tenant), per_token.get(tenant)))
        for tenant in content["tenants"]
    ]
    total = (
        cost.get("window_usd"),
        cost.get("cost_per_million_output_tokens"),
        gpu.get("energy_j"),
        gpu.get("joules_per_output_token"),
    )
    idle: list[Row] = [("of it idle", (cost["idle_usd"], None, None, None))] if cost.get("idle_usd") is not None else []
    return [*made, ("total", total), *idle]


def lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The same for a terminal: a line for the money and one for the energy of each tenant."""
    cost, gpu = content["cost"], content["gpu"]
    if cost is not None:
        each = [f"{tenant} {number(value)}" for tenant, value in cost["tenants"].items() if value is not None]
        idle = cost.get("idle_share")
        yield (
            f"cost: {number(cost['cost_per_million_output_tokens'])} USD per million output tokens"
            f"{_in_brackets(each)}"
            f"{f'; idle for {share(idle)} of the price' if idle else ''}"
        )
    per_token = (gpu or {}).get("tenants_joules_per_output_token") or {}
    each = [f"{tenant} {number(value)}" for tenant, value in per_token.items() if value is not None]
    if len(each) > 1:
        yield f"energy by share of service: {', '.join(each)} J per output token"


def _in_brackets(each: list[str]) -> str:
    return f" ({', '.join(each)})" if len(each) > 1 else ""
