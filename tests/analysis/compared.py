"""Comparisons as `analysis.compare` makes them, for tests of their figures and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.compare.model import Column, Comparison, Row, Value

__all__ = ["ROWS", "column", "comparison", "near"]

MODES = ("logical", "timeslice", "mps", "mig", "mig_emulated")

ROWS = (
    Row("output_tokens_per_s", "output", "tokens/s", "higher"),
    Row("requests_per_s", "finished", "requests/s", "higher"),
    Row("ttft_p50_ms", "TTFT p50", "ms", "lower"),
    Row("ttft_p99_ms", "TTFT p99", "ms", "lower"),
    Row("tpot_p99_ms", "TPOT p99", "ms/token", "lower"),
    Row("e2e_p99_ms", "e2e p99", "ms", "lower"),
    Row("slo_attainment", "SLO attainment", "", "higher"),
    Row("worst_tenant_attainment", "SLO attainment, worst tenant", "", "higher"),
    Row("jain_service", "Jain, service", "", "higher"),
    Row("isolation_leakage", "isolation leakage", "", "lower"),
    Row("cost_per_million_output_tokens", "cost", "USD per million output tokens", "lower"),
    Row("mean_running", "running", "requests", None),
)


def near(value: float | None, share: float = 0.05, *, certified: bool = True) -> Value:
    """A value with an interval of so much on either side."""
    if value is None:
        return Value(None)
    return Value(value, (value * (1 - share), value * (1 + share)), certified)


def column(
    mode: str, load: float | None = None, *, tenants: Sequence[str] = ("chat", "batch"), **changes: Any
) -> Column:
    """A column whose figures grow with the load and differ by mode; `changes` replaces fields."""
    place = MODES.index(mode) if mode in MODES else len(mode)
    size = 1.0 if load is None else load
    ratio = max(0.0, min(1.0, 1.05 - 0.04 * size - 0.02 * place))
    values = {
        "output_tokens_per_s": near(400.0 * size / (1 + 0.1 * size) * (1 - 0.06 * place)),
        "requests_per_s": near(2.0 * size),
        "ttft_p50_ms": near(60.0 * size),
        "ttft_p99_ms": near(120.0 * size**2 * (1 + place), 0.2, certified=place != 2),
        "tpot_p99_ms": near(22.0 * (1 + 0.1 * size)),
        "e2e_p99_ms": near(1900.0 * size * (1 + 0.2 * place), 0.1),
        "slo_attainment": Value(ratio, (max(0.0, ratio - 0.03), min(1.0, ratio + 0.03))),
        "worst_tenant_attainment": Value(max(0.0, ratio - 0.1), (max(0.0, ratio - 0.2), ratio)),
        "jain_service": Value(0.98 - 0.05 * place, (0.9 - 0.05 * place, 1.0 - 0.05 * place)),
        "isolation_leakage": Value(0.7 - 0.15 * place, (0.6 - 0.15 * place, 0.8 - 0.15 * place)),
        "cost_per_million_output_tokens": near(2.4 / size + 0.1 * place),
        "mean_running": near(7.0 * size * (1 + 0.05 * place), 0.02),
    }
    own: Mapping[str, Mapping[str, Value]] = {
        tenant: {"ttft_p99_ms": near((90.0 + 60 * index) * size * (1 + place), 0.25)}
        for index, tenant in enumerate(tenants)
    }
    made = Column(
        mode=mode,
        load_name=None if load is None else "scale",
        load=load,
        label=mode if load is None else f"{mode}, load {load:g}",
        runs=(f"20261128T12000{place}Z-{mode}",),
        suspect=(),
        simulated="simulated, virtual time",
        values=values,
        tenants=own,
        slo_kept=dict.fromkeys(tenants, True),
        emulated=mode == "mig_emulated",
    )
    return replace(made, **changes)


def comparison(*columns: Column, **changes: Any) -> Comparison:
    """A comparison of the columns, the first of them the best in every row that has a direction."""
    rows = tuple(
        replace(row, best=frozenset({0}), within_noise=frozenset({1} if len(columns) > 1 else ()))
        if row.direction
        else row
        for row in ROWS
    )
    given = {
        "slo_wanted": {"chat": 0.95},
        "recommendation": ("logical: the cheapest that keeps every SLO.",),
        **changes,
    }
    return Comparison(columns=columns, rows=rows, **given)
