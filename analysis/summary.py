"""Summary: all numbers of a run, as they stand in `summary.json`, and the curves that the figures draw."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import orjson

from analysis import health, rates
from analysis.cost import cost_of
from analysis.fairness import Gaps, Indices, gaps, indices, shares, starvation
from analysis.latency import ADJUSTED, Curve, Floats, Latency, Sample, curve, describe, icl_ms, itl_ms, per_request_ms
from analysis.load import Run, Slo
from analysis.requests import OK, TOKEN_SOURCES, Int64s, Mask, Requests
from analysis.service import ServiceCurve, service_curve
from analysis.tokens import TokenTable, tabulate
from analysis.window import Window, Windows, find_windows
from fairshare_locust.record.record import OUTCOMES

__all__ = ["SCHEMA", "Curves", "Span", "Summary", "Timeline", "summarise"]

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Timeline:
    """Output tokens per second over the whole run, warm-up and drain included.

    Attributes:
        edges_s: ascending, one more than there are stretches.
        tokens_per_s: shape (tenants, stretches).
    """

    edges_s: Floats
    tokens_per_s: Floats


@dataclass(frozen=True)
class Span:
    """A phase as drawn behind a timeline."""

    name: str
    start_s: float
    end_s: float
    measured: bool


@dataclass(frozen=True, eq=False)
class Curves:
    """What the figures draw beside the summary; per tenant, in the profile's order."""

    ttft_scheduled: tuple[Curve, ...]
    tpot: tuple[Curve, ...]
    e2e_scheduled: tuple[Curve, ...]
    timeline: Timeline
    phases: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Summary:
    """The result of an analysis.

    Attributes:
        content: what `summary.json` holds, with inf where that holds "inf".
        slos: per tenant, in the profile's order.
    """

    content: dict[str, Any]
    curves: Curves
    slos: tuple[Slo | None, ...]

    @property
    def suspect(self) -> bool:
        """True if the run can't be believed as it stands."""
        return bool(self.content["verdict"]["status"] == "suspect")

    def to_json(self) -> bytes:
        """`summary.json`: +inf as the string "inf", undefined as null."""
        return orjson.dumps(_json_form(self.content), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def to_csv(self) -> str:
        """`summary.csv`: a row per tenant and one for the total; an empty field is undefined."""
        rows = [*self.content["tenants"].items(), ("total", self.content["totals"])]
        flat = [{"tenant": name, **_flat(row)} for name, row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return text.getvalue()


def _json_form(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_form(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_form(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by `_`. Intervals and marks stay in `summary.json`: a table of them could not be read."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and key not in ("ci95", "certified"):
            flat |= _flat(value, f"{prefix}{key}_")
        elif not isinstance(value, dict):
            flat[f"{prefix}{key}"] = value
    return flat


def summarise(run: Run, progress: Callable[[float], None] = lambda _: None) -> Summary:
    """All numbers of a run. `progress` is told the share of the work that is done."""
    requests, profile = run.requests, run.profile
    known_until_s = _known_until_s(run)
    windows = find_windows(run.phases, [tenant.id for tenant in profile.tenants], known_until_s)
    sub_windows = windows.common.sub_windows(profile.fairness_window_s)
    timeline_edges = _timeline_edges(run, known_until_s)

    latencies = per_request_ms(requests)
    met = rates.met_slos(requests, profile.tenants, latencies)
    progress(0.1)
    cells = [*windows.tenants, *(Window((span,)) for span in sub_windows), *map(Window, _pairs(timeline_edges))]
    table = tabulate(requests, len(profile.tenants), met, cells)
    progress(0.3)

    service = [service_curve(requests, profile, code, windows.whole) for code in range(len(profile.tenants))]
    progress(0.6)
    tenants, totals, described = _tenants(run, windows, table, latencies, met, service)
    progress(0.8)
    content = {
        "schema": SCHEMA,
        "run": _run(run),
        "verdict": _verdict(run, windows, known_until_s, described).as_json(),
        "window": _window(run, windows),
        "tenants": tenants,
        "totals": totals,
        "fairness": _fairness(run, windows, table, met, service, sub_windows),
        "interference": None,
        "gpu": None,
        "server": None,
        "cost": _cost(run, windows, table, met),
        "sources": _sources(run),
    }
    progress(1.0)
    curves = _curves(run, windows, latencies, table, timeline_edges)
    return Summary(content, curves, tuple(tenant.slo for tenant in profile.tenants))


def _known_until_s(run: Run) -> float:
    """The end of the run, or the last that is known of one that did not end."""
    ended_s = run.info.get("ended_s")
    return run.requests.last_stamp_ns / 1e9 if ended_s is None or run.state == "running" else float(ended_s)


def _run(run: Run) -> dict[str, Any]:
    servers = run.info.get("servers") or []
    return {
        "directory": run.path.name,
        "name": run.info.get("name"),
        "plan": run.info.get("plan"),
        "seed": run.info.get("seed"),
        "state": run.state,
        "simulated": any(server.get("simulated") for server in servers),
        "started_unix_s": (run.info.get("t0") or {}).get("unix_s"),
        "ended_s": run.info.get("ended_s"),
        "versions": run.info.get("versions") or {},
        "hosts": run.info.get("hosts") or [],
        "load_processes": len(run.info.get("workers") or []),
        "servers": servers,
        "phases": run.info.get("phases") or [],
        "notes": run.info.get("notes") or [],
    }


def _window(run: Run, windows: Windows) -> dict[str, Any]:
    return {
        "start_s": windows.common.start_s,
        "end_s": windows.common.end_s,
        "length_s": windows.common.length_s if windows.common else None,
        "fairness_window_s": run.profile.fairness_window_s,
        "tenants": {
            tenant.id: [[start / 1e9, end / 1e9] for start, end in window.spans]
            for tenant, window in zip(run.profile.tenants, windows.tenants, strict=True)
        },
    }


@dataclass(frozen=True)
class _Described:
    """What the checks need of a tenant."""

    counted: rates.Tally
    send_lag: Latency
    ttft: Latency


def _tenants(
    run: Run,
    windows: Windows,
    table: TokenTable,
    latencies: Mapping[str, Floats],
    met: Mask,
    service: Sequence[ServiceCurve],
) -> tuple[dict[str, Any], dict[str, Any], list[_Described]]:
    """The entries of each tenant and of all together. A total counts each tenant's requests in its own window."""
    requests = run.requests
    contents: dict[str, Any] = {}
    described, icl, itl = [], [], []
    starved: list[float | None] = []
    pooled = np.zeros(len(requests), np.bool_)
    for code, (tenant, window) in enumerate(zip(run.profile.tenants, windows.tenants, strict=True)):
        of_tenant = requests.tenant == code
        chosen = of_tenant & window.contains(requests.scheduled_ns)
        pooled |= chosen
        missed_tokens, good_tokens = table.within(window)[code].tolist()
        counted = rates.tally(
            requests, of_tenant, window, met, has_slo=tenant.slo is not None, tokens=(missed_tokens, good_tokens)
        )
        icl.append(icl_ms(requests, chosen))
        itl.append(itl_ms(requests, chosen))
        statistics = _latencies(requests, latencies, chosen, icl[-1], itl[-1])
        starved.append(_largest(starvation(requests, code, service[code], window.spans)))
        contents[tenant.id] = {
            "weight": tenant.weight,
            **_entry(
                counted, window.length_s, rates.makespan_tokens_per_s(requests, of_tenant), starved[-1], statistics
            ),
        }
        contents[tenant.id]["itl_ms"]["share_of_requests"] = _telling_share(requests, chosen)
        described.append(_Described(counted, statistics["send_lag_ms"], statistics["ttft_ms"]))
    total = rates.Tally.total(each.counted for each in described)
    everything = rates.makespan_tokens_per_s(requests, np.ones(len(requests), np.bool_))
    statistics = _latencies(requests, latencies, pooled, Sample.pooled(icl), Sample.pooled(itl))
    totals = {"weight": None, **_entry(total, windows.whole.length_s, everything, _largest(starved), statistics)}
    totals["itl_ms"]["share_of_requests"] = _telling_share(requests, pooled)
    return contents, totals, described


def _entry(
    counted: rates.Tally,
    length_s: float,
    makespan_tokens_per_s: float | None,
    starvation_s_max: float | None,
    latencies: Mapping[str, Latency],
) -> dict[str, Any]:
    per_s = rates.rates(counted, length_s)
    return {
        "scheduled": counted.scheduled,
        "completed": counted.completed,
        "failed": counted.failed,
        **asdict(per_s),
        "makespan_tokens_per_s": makespan_tokens_per_s,
        "slo_attainment": counted.slo_attainment,
        "starvation_s_max": starvation_s_max,
        "output_tokens": counted.tokens,
        **{name: latency.as_json() for name, latency in latencies.items()},
    }


def _latencies(
    requests: Requests, latencies: Mapping[str, Floats], chosen: Mask, icl: Sample, itl: Sample
) -> dict[str, Latency]:
    """Every latency of the chosen requests; `_adjusted` counts each failed one as +inf."""
    ok = chosen & (requests.outcome == OK)
    failed = int(chosen.sum() - ok.sum())
    return {
        **{name: describe(values[chosen]) for name, values in latencies.items()},
        "icl_ms": describe(icl),
        "itl_ms": describe(itl),
        **{f"{name}_adjusted": describe(latencies[name][ok], failed=failed) for name in ADJUSTED},
    }


def _telling_share(requests: Requests, chosen: Mask) -> float | None:
    """Ratio of requests whose server told the tokens of each chunk to those that got a token."""
    got = int((chosen & requests.got_token).sum())
    return int((chosen & requests.tells_tokens).sum()) / got if got else None


def _fairness(
    run: Run,
    windows: Windows,
    table: TokenTable,
    met: Mask,
    curves: Sequence[ServiceCurve],
    sub_windows: Sequence[tuple[int, int]],
) -> dict[str, Any] | None:
    if not windows.common:
        return None
    requests, profile = run.requests, run.profile
    counted = shares(requests, profile, table, met, sub_windows)
    stretches = [indices(counted, profile, stretch) for stretch in range(len(sub_windows))]
    over_all = gaps(requests, profile, curves, windows.common.spans)
    return {
        **asdict(indices(counted.together(), profile)),
        **{field.name: _largest(getattr(over_all, field.name)) for field in fields(Gaps)},
        "series": {
            "t_s": [start / 1e9 for start, _ in sub_windows],
            **{field.name: [getattr(one, field.name) for one in stretches] for field in fields(Indices)},
            **asdict(gaps(requests, profile, curves, sub_windows)),
        },
    }


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _cost(run: Run, windows: Windows, table: TokenTable, met: Mask) -> dict[str, Any] | None:
    """Cost in the common window; where tenants never ran together, of each in its own window."""
    profile = run.profile
    if profile.gpu_hour_usd is None:
        return None

    def cost_in(window: Window) -> tuple[float | None, tuple[float | None, ...]]:
        got = shares(run.requests, profile, table, met, window.spans).together()
        cost = cost_of(
            profile.gpu_hour_usd or 0.0,
            profile.gpus,
            window.length_s,
            got.tokens[:, 0].tolist(),
            got.service[:, 0].tolist(),
        )
        return cost.total, cost.tenants

    if windows.common:
        total, tenants = cost_in(windows.common)
    else:
        total = cost_in(windows.whole)[0]
        tenants = tuple(cost_in(window)[1][code] for code, window in enumerate(windows.tenants))
    return {
        "gpu_hour_usd": profile.gpu_hour_usd,
        "gpus": profile.gpus,
        "cost_per_million_output_tokens": total,
        "tenants": {tenant.id: cost for tenant, cost in zip(profile.tenants, tenants, strict=True)},
    }


def _verdict(run: Run, windows: Windows, known_until_s: float, described: Sequence[_Described]) -> health.Verdict:
    tenants = [tenant.id for tenant in run.profile.tenants]
    checks = [health.state_check(run.state, known_until_s)]
    for tenant, window, each in zip(tenants, windows.tenants, described, strict=True):
        if window or not windows.whole:
            checks += health.tenant_checks(tenant, each.counted, each.send_lag, each.ttft)
    checks += health.process_checks(run.info.get("workers") or [], run.requests)
    checks += health.record_checks(run.requests, tenants, run.info.get("asked") or {}, run.state)
    return health.judge(checks)


def _sources(run: Run) -> dict[str, Any]:
    """Where the numbers come from: counts over the whole run, every phase included."""
    requests = run.requests
    tenants = {}
    for code, tenant in enumerate(run.profile.tenants):
        of_tenant = requests.tenant == code
        by_outcome = np.bincount(requests.outcome[of_tenant], minlength=len(OUTCOMES))
        by_phase = np.bincount(requests.phase[of_tenant], minlength=len(requests.phases))
        by_source = np.bincount(requests.tokens_from[of_tenant] + 1, minlength=len(TOKEN_SOURCES) + 1)[1:]
        counts = run.locust[tenant.id] if run.locust is not None else None
        records = int(of_tenant.sum())
        tenants[tenant.id] = {
            "records": records,
            "by_outcome": dict(zip(OUTCOMES, by_outcome.tolist(), strict=True)),
            "by_phase": dict(zip(requests.phases, by_phase.tolist(), strict=True)),
            "tokens_from": {
                source: count / int(by_source.sum()) if by_source.sum() else None
                for source, count in zip(TOKEN_SOURCES, by_source.tolist(), strict=True)
            },
            "locust_requests": counts.requests if counts else None,
            "locust_failures": counts.failures if counts else None,
            "agree": (counts.requests, counts.failures) == (records, records - int(by_outcome[OK])) if counts else None,
        }
    every = [tenant["agree"] for tenant in tenants.values()]
    failures = sorted(requests.failures.items(), key=lambda item: (-item[1], item[0].tenant, str(item[0])))
    return {
        "requests_lines": len(requests) + requests.incomplete_lines,
        "incomplete_lines": requests.incomplete_lines,
        "duplicate_records": requests.duplicates,
        "locust_agrees": None if None in every else all(every),
        "tenants": tenants,
        "errors": [
            {
                "tenant": run.profile.tenants[failure.tenant].id,
                "outcome": failure.outcome,
                "status": failure.status,
                "error": failure.error,
                "count": count,
            }
            for failure, count in failures[:_ERRORS_KEPT]
        ],
        "errors_left_out": sum(count for _, count in failures[_ERRORS_KEPT:]),
    }


_ERRORS_KEPT = 50
_TIMELINE_STRETCHES = 120
_NICE_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


def _timeline_edges(run: Run, known_until_s: float) -> Int64s:
    """Edges from t = 0 to the end of the run, at a round number of seconds apart; the last stretch may be shorter."""
    ends = [phase.end_s for phase in run.phases if math.isfinite(phase.end_s)] if run.state == "complete" else []
    end_ns = round(max(known_until_s, *ends, 0.0) * 1e9) if ends else round(known_until_s * 1e9)
    step_s = next((step for step in _NICE_SECONDS if end_ns <= step * 1e9 * _TIMELINE_STRETCHES), _NICE_SECONDS[-1])
    edges = np.arange(0, end_ns, round(step_s * 1e9))
    return np.append(edges, end_ns).astype(np.int64)


def _pairs(edges: Int64s) -> list[tuple[tuple[int, int]]]:
    return [((int(start), int(end)),) for start, end in pairwise(edges)]


def _curves(run: Run, windows: Windows, latencies: Mapping[str, Floats], table: TokenTable, edges_ns: Int64s) -> Curves:
    chosen = [
        (run.requests.tenant == code) & window.contains(run.requests.scheduled_ns)
        for code, window in enumerate(windows.tenants)
    ]
    tokens = np.zeros((len(chosen), len(edges_ns) - 1))
    for index, span in enumerate(_pairs(edges_ns)):
        tokens[:, index] = table.within(Window(span)).sum(axis=1)
    edges_s = edges_ns / 1e9
    return Curves(
        ttft_scheduled=tuple(curve(latencies["ttft_scheduled_ms"][mask]) for mask in chosen),
        tpot=tuple(curve(latencies["tpot_ms"][mask]) for mask in chosen),
        e2e_scheduled=tuple(curve(latencies["e2e_scheduled_ms"][mask]) for mask in chosen),
        timeline=Timeline(edges_s, tokens / np.diff(edges_s)),
        phases=tuple(
            Span(phase.name, phase.start_s, min(phase.end_s, float(edges_s[-1])), phase.measured)
            for phase in run.phases
            if phase.start_s < edges_s[-1]
        ),
    )
