"""Columns: run directories grouped by mode and load, repeats together, with the figures of each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.compare.figure import figure, pooled
from analysis.compare.model import Column, Value
from analysis.compare.runs import ComparedRun
from analysis.metrics import METRICS
from analysis.summary import simulated_how

__all__ = ["FIGURES", "Group", "column", "grouped", "label_of", "modes_of", "title_of", "unit_of"]

FIGURES: Mapping[str, tuple[str, str | None]] = {
    "output_tokens_per_s": ("output_tokens_per_s", None),
    "requests_per_s": ("requests_per_s", None),
    "ttft_p50_ms": ("ttft_scheduled_ms", "p50"),
    "ttft_p95_ms": ("ttft_scheduled_ms", "p95"),
    "ttft_p99_ms": ("ttft_scheduled_ms", "p99"),
    "tpot_p50_ms": ("tpot_ms", "p50"),
    "tpot_p95_ms": ("tpot_ms", "p95"),
    "tpot_p99_ms": ("tpot_ms", "p99"),
    "e2e_p95_ms": ("e2e_scheduled_ms", "p95"),
    "e2e_p99_ms": ("e2e_scheduled_ms", "p99"),
    "slo_attainment": ("slo_attainment", None),
    "worst_tenant_attainment": ("slo_attainment", None),
    "worst_tenant_ttft_p99_ms": ("ttft_scheduled_ms", "p99"),
    "jain_throughput": ("jain_throughput", None),
    "jain_service": ("jain_service", None),
    "jain_demand": ("jain_demand", None),
    "isolation_leakage": ("isolation_leakage", None),
    "sharing_efficiency": ("sharing_efficiency", None),
    "cost_per_million_output_tokens": ("cost_per_million_output_tokens", None),
    "joules_per_output_token": ("joules_per_output_token", None),
    "mean_running": ("mean_running", None),
    "kv_cache_peak": ("kv_cache_peak", None),
}
"""By key of a column, in the order to be shown: the metric and its percentile. Waits count from the schedule."""

_WORST = {"worst_tenant_attainment": min, "worst_tenant_ttft_p99_ms": max}
_NO_TENANTS = ("jain", "worst_tenant", "sharing_efficiency", "mean_running", "kv_cache_peak")


def title_of(key: str) -> str:
    """The label of a row: `TTFT p99` (from schedule), `SLO attainment, worst tenant`."""
    metric, percentile = FIGURES[key]
    if metric == "mean_running":
        return "mean running"
    words = METRICS[metric].label
    if percentile is not None:
        words = f"{words.removesuffix(' from schedule')} {percentile}"
    return f"{words}, worst tenant" if key in _WORST else words


def unit_of(key: str) -> str:
    """The unit of a row; "" for a ratio."""
    metric, _ = FIGURES[key]
    return "requests" if metric == "mean_running" else METRICS[metric].unit.removesuffix("ratio")


_ORDER = ("logical", "timeslice", "mps", "mig", "mig_emulated")


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one column; contents of their summaries once these are computed.

    Attributes:
        apart: what tells the column from others of its mode and load; "" where there are none.
    """

    mode: str
    runs: tuple[ComparedRun, ...]
    contents: tuple[Mapping[str, Any], ...] = ()
    apart: str = ""

    @property
    def load_name(self) -> str | None:
        """What the load is of; None for runs of no matrix."""
        return self.runs[0].cell.load_name if self.runs[0].cell else None

    @property
    def load(self) -> float | None:
        """None for runs of no matrix."""
        return self.runs[0].cell.load if self.runs[0].cell else None

    def figure(self, metric: str, percentile: str | None = None, tenant: str | None = None) -> Value:
        """A figure over all of its runs."""
        return pooled([figure(content, metric, percentile, tenant) for content in self.contents])


def modes_of(runs: Sequence[ComparedRun]) -> list[str]:
    """Each run's mode: how it shared, with the engine before it where the engines of the runs differ."""
    several = len({run.engine for run in runs}) > 1
    return [f"{run.engine} {run.sharing}".strip() if several else run.sharing for run in runs]


def grouped(runs: Sequence[ComparedRun], modes: Sequence[str], *, apart: str = "") -> list[Group]:
    """Groups in order of load, then of their mode where it has one, then as their first run was named.

    Runs of a matrix belong together where mode and load are the same. Others do where all but their seeds is: mode,
    deployment and version; two with the same seed stand side by side, as before and after a change.
    """
    found: list[tuple[Any, list[ComparedRun], str]] = []
    for run, mode in zip(runs, modes, strict=True):
        same: Any = (
            (mode, run.cell.load_name, run.cell.load)
            if run.cell is not None
            else (mode, None, None, run.resolved.get("deployment"), (run.info.get("versions") or {}), run.engine)
        )
        for key, members, _ in found:
            if key == same and (run.cell is not None or run.seed not in [member.seed for member in members]):
                members.append(run)
                break
        else:
            found.append((same, [run], mode))
    groups = [Group(mode, tuple(members), apart=apart) for _, members, mode in found]
    counts = Counter((group.mode, group.load_name, group.load) for group in groups)
    named = [
        replace(group, apart=group.apart or group.runs[0].name)
        if counts[group.mode, group.load_name, group.load] > 1
        else group
        for group in groups
    ]
    return sorted(named, key=lambda group: (group.load is not None, group.load or 0.0, _place(group.mode)))


def _place(mode: str) -> int:
    """From one server for all to the most isolated; modes with a name of their own come last."""
    sharing = mode.rpartition(" ")[2]  # there may be an engine before it
    return _ORDER.index(sharing) if sharing in _ORDER else len(_ORDER)


def label_of(group: Group) -> str:
    """What heads the column."""
    words = group.mode if group.load is None else f"{group.mode}, {group.load_name or 'load'} {group.load:g}"
    return f"{words} ({group.apart})" if group.apart else words


def column(group: Group) -> Column:
    """The figures of a group whose summaries are computed."""
    tenants = list(group.contents[0]["tenants"])
    own = {
        tenant: {key: group.figure(*FIGURES[key], tenant=tenant) for key in FIGURES if not key.startswith(_NO_TENANTS)}
        for tenant in tenants
    }
    values = {key: group.figure(*FIGURES[key]) for key in FIGURES if key not in _WORST}
    worst = {
        key: _worst([own[tenant][of] for tenant in tenants], pick)
        for (key, pick), of in zip(_WORST.items(), ("slo_attainment", "ttft_p99_ms"), strict=True)
    }
    contents = group.contents
    return Column(
        mode=group.mode,
        load_name=group.load_name,
        load=group.load,
        label=label_of(group),
        runs=tuple(run.name for run in group.runs),
        suspect=tuple(
            run.name
            for run, content in zip(group.runs, contents, strict=True)
            if content["verdict"]["status"] == "suspect"
        ),
        simulated=next(filter(None, (simulated_how(content["run"]) for content in contents)), None),
        values={key: worst[key] if key in worst else values[key] for key in FIGURES},
        tenants=own,
        slo_kept={
            tenant.id: _kept(own[tenant.id]["slo_attainment"], tenant.slo) for tenant in group.runs[0].profile.tenants
        },
        fixed_concurrency=_concurrency(group.runs[0].resolved),
        emulated="mig_emulated" in group.runs[0].sharing,
    )


def _worst(values: Sequence[Value], pick: Any) -> Value:
    """The worst tenant's value, with its interval: that another might be the worst is no part of it."""
    known = [value for value in values if value.value is not None]
    return pick(known, key=lambda value: value.value) if known else Value(None)


def _kept(attainment: Value, slo: Any) -> bool | None:
    return None if slo is None or attainment.value is None else attainment.value >= slo.attainment


def _concurrency(resolved: Mapping[str, Any]) -> float | None:
    """Requests that closed loops without thinking keep in flight; None where any tenant is none."""
    total = 0.0
    for tenant in resolved.get("tenants") or []:
        arrival = tenant.get("arrival") or {}
        thinks = arrival.get("think_s") or {}
        pause = thinks.get("value") if isinstance(thinks, Mapping) and thinks.get("value") is not None else thinks
        if arrival.get("process") != "closed" or pause:
            return None
        total += float(arrival["concurrency"])
    return total or None
