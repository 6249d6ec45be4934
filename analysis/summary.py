"""Summary: all numbers of a run, as they stand in `summary.json`, and the curves that the figures draw."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from typing import Any

import numpy as np
import orjson

from analysis import health, rates
from analysis.capacity import Trial, best_trial, trial, why_best
from analysis.comparable import comparable, observe, solo_warnings
from analysis.conditions import conditions
from analysis.cost import Cost, cost_of, idle_share, joules_per_output_token, shares_of_service
from analysis.entry import Basis, entry, slo_broken
from analysis.fairness import Gaps, Indices, gaps, indices, shares, starvation
from analysis.gpu import describe_gpu
from analysis.interference import Interference, interference
from analysis.latency import ADJUSTED, Curve, Floats, Latency, Sample, curve, describe, icl_ms, itl_ms, per_request_ms
from analysis.load import Phase, Run, Slo, phase_of
from analysis.locust_check import describe_locust
from analysis.locust_csv import LocustCsv
from analysis.phases import by_load, by_part, span_of
from analysis.report.answer import answer
from analysis.requests import OK, TOKEN_SOURCES, Int64s, Mask, Requests
from analysis.server import describe_server, tenants_of
from analysis.service import ServiceCurve, service_curve
from analysis.sessions import sessions
from analysis.steady import describe_steady, edges_of, whole_load
from analysis.timeline import edges_every, spans_between, timeline
from analysis.tokens import tabulate
from analysis.traces import Trace, traces
from analysis.uncertainty import add_intervals, cells_of
from analysis.waterfall import Waterfall, waterfall
from analysis.window import Window, Windows, find_windows, measured_parts, parts_by_load
from analysis.workers import Sent, compare, describe_workers
from fairshare_locust.record.record import OUTCOMES

__all__ = ["SCHEMA", "Curves", "Span", "Summary", "Timeline", "emulated_how", "simulated_how", "summarise"]

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
    """A part of a phase as drawn behind a timeline; `phase` is "" where the run has only one."""

    name: str
    start_s: float
    end_s: float
    measured: bool
    phase: str = ""


@dataclass(frozen=True, eq=False)
class Curves:
    """What the figures draw beside the summary; per tenant, in the profile's order.

    Attributes:
        sub_windows_s: start and end of each stretch of the fairness series.
        waterfall: the requests around the longest wait for a first token in the window; None without one.
    """

    ttft_scheduled: tuple[Curve, ...]
    tpot: tuple[Curve, ...]
    e2e_scheduled: tuple[Curve, ...]
    timeline: Timeline
    phases: tuple[Span, ...]
    sub_windows_s: tuple[tuple[float, float], ...]
    traces: tuple[Trace, ...]
    waterfall: Waterfall | None


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
    known_until_s = run.known_until_s
    end_ns = _end_ns(run, known_until_s)
    latencies = per_request_ms(requests)
    met = rates.met_slos(requests, profile.tenants, latencies)
    progress(0.1)

    parts = measured_parts(run.phases, known_until_s)
    measured = Window.union(map(span_of, parts))
    choice = _choose(run, parts, met)
    windows = choice.windows
    sub_windows = windows.common.sub_windows(profile.fairness_window_s)
    cells = cells_of(windows)
    settled = whole_load(run.phases, parts)
    load_edges = edges_of(cells if settled else ())
    drawn_edges = _drawn_edges(end_ns)
    series_edges = edges_every(profile.fairness_window_s, end_ns)
    compared = comparable(conditions(run.phases, parts), windows.phases, run.solo.sides)
    spans = [
        *map(span_of, parts),
        *sub_windows,
        *spans_between(drawn_edges),
        *spans_between(series_edges),
        *compared.spans(),
        *cells,
        *spans_between(load_edges),
    ]
    table = tabulate(requests, len(profile.tenants), met, [Window((span,)) for span in spans])
    basis = Basis(requests, profile, latencies, met, table)
    progress(0.3)

    service = [service_curve(requests, profile, code, measured) for code in range(len(profile.tenants))]

    @cache  # dear, and where one part is all that is measured, it is asked for twice
    def gaps_in(spans: tuple[tuple[int, int], ...]) -> Gaps:
        return gaps(requests, profile, service, spans)

    progress(0.6)
    tenants, totals, described = _tenants(basis, windows, service)
    progress(0.8)
    output_tokens = float(table.within(windows.measured).sum())
    own_parts = [span for part in parts for span in windows.measured.intersect(Window((span_of(part),))).spans]
    observed = observe(run, basis, compared)
    slowed = interference(observed)
    server = describe_server(run.telemetry, basis, windows, own_parts)
    gpu = describe_gpu(
        run.telemetry,
        windows.measured,
        output_tokens,
        gpus=profile.gpus,
        simulated=_all_simulated(run),
        tenants_of=partial(tenants_of, basis),
    )
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "run": {**_run(run), **_processes(run, basis, windows)},
        "verdict": _verdict(run, windows, known_until_s, described, server).as_json(),
        "window": _window(run, choice, basis),
        "tenants": tenants,
        "totals": totals,
        "fairness": _with_progress(_fairness(basis, windows, gaps_in, sub_windows), slowed),
        "phases": by_part(basis, parts, gaps_in),
        "timeline": timeline(basis, series_edges),
        "interference": slowed.content if slowed else None,
        "gpu": _with_tenants(gpu, basis, windows),
        "server": server,
        "cost": _cost(basis, windows),
        "locust": describe_locust(run, latencies),
        "sources": _sources(run),
    }
    add_intervals(content, basis, windows, cells)
    content["steady"] = describe_steady(basis, settled, load_edges) if settled else None
    for key, value in (("locust", None), ("warnings", _warnings(content))):
        content.setdefault(key, value)
    content["warnings"] += solo_warnings(run, observed, slowed, compared.load)
    content["answer"] = answer(content)
    progress(1.0)
    curves = _curves(run, basis, windows, drawn_edges, sub_windows)
    return Summary(content, curves, tuple(tenant.slo for tenant in profile.tenants))


def _warnings(content: Mapping[str, Any]) -> list[str]:
    """All that a reader should be told before the numbers and that makes no run suspect, in this order."""
    return [line for key in ("steady", "locust") for line in (content.get(key) or {}).get("warnings", ())]


@dataclass(frozen=True)
class _Choice:
    """The windows of the headline figures, and why these; `trials` where all tenants ran at several loads."""

    windows: Windows
    why: str
    trials: tuple[Trial, ...] = ()


def _choose(run: Run, parts: Sequence[Phase], met: Mask) -> _Choice:
    """Where all tenants ran together if they did, at the highest load that they bore; else where each of them ran."""
    tenants = [tenant.id for tenant in run.profile.tenants]
    loads = parts_by_load(parts)
    if len(loads) > 1:
        trials = tuple(
            trial(run.requests, run.profile, met, load, find_windows(some, tenants)) for load, some in loads.items()
        )
        return _Choice(best_trial(trials).windows, why_best(trials), trials)
    chosen = next(iter(loads.values()), tuple(parts))
    if not parts:
        why = "nothing was measured"
    elif not loads:
        why = "no phase has all tenants: each is measured in the phases that it took part in"
    elif len(chosen) < len(parts):
        why = (
            "all tenants take part in it"
            if len({phase_of(part.name) for part in chosen}) == 1
            else ("all tenants take part in them")
        )
    else:
        why = "all that is measured"
    windows = find_windows(chosen, tenants)
    if loads and len({window for window in windows.tenants if window}) > 1:
        why += "; each tenant while it was there"
    return _Choice(windows, why)


def simulated_how(run: Mapping[str, Any]) -> str | None:
    """In words, what stands behind the numbers instead of a GPU; None where one does.

    Args:
        run: the part of `summary.json`.
    """
    if not run["simulated"]:
        return None
    return "simulated, virtual time" if run.get("time") == "virtual" else "simulated server, no GPU"


def emulated_how(run: Mapping[str, Any]) -> str | None:
    """In words, what a way of sharing only stands in for; None where it is what it is called.

    Args:
        run: the part of `summary.json`.
    """
    emulated = any(server.get("sharing") == "mig_emulated" for server in run.get("servers") or [])
    return "mig_emulated: emulated, not isolated" if emulated else None


def _all_simulated(run: Run) -> bool:
    servers = run.info.get("servers") or []
    return bool(servers) and all(server.get("simulated") for server in servers)


def _run(run: Run) -> dict[str, Any]:
    servers = run.info.get("servers") or []
    return {
        "directory": run.path.name,
        "name": run.info.get("name"),
        "plan": run.info.get("plan"),
        "seed": run.info.get("seed"),
        "state": run.state,
        "simulated": any(server.get("simulated") for server in servers),
        "time": run.info.get("time", "real"),
        "started_unix_s": (run.info.get("t0") or {}).get("unix_s"),
        "ended_s": run.info.get("ended_s"),
        "versions": run.info.get("versions") or {},
        "hosts": run.info.get("hosts") or [],
        "load_processes": len(run.info.get("workers") or []),
        "servers": servers,
        "phases": run.info.get("phases") or [],
        "notes": run.info.get("notes") or [],
    }


def _processes(run: Run, basis: Basis, windows: Windows) -> dict[str, Any]:
    """Each load process, and how the TTFT of its requests compares with that of the others'."""
    requests, ttft_ms = basis.requests, basis.latencies["ttft_ms"]
    sent = []
    for code, (tenant, window) in enumerate(zip(basis.profile.tenants, windows.tenants, strict=True)):
        got = np.flatnonzero(basis.scheduled([(code, window)]) & ~np.isnan(ttft_ms))
        sent.append(
            Sent(
                tenant=tenant.id,
                window=window,
                worker=requests.worker[got],
                scheduled_ns=requests.scheduled_ns[got],
                ttft_ms=ttft_ms[got],
            )
        )
    chosen = basis.scheduled(enumerate(windows.tenants))
    workers = run.info.get("workers") or []
    return {
        "processes": list(describe_workers(workers, requests, chosen, basis.latencies["send_lag_ms"])),
        "ttft_by_process": [comparison.as_json() for comparison in compare(sent)],
    }


def _window(run: Run, choice: _Choice, basis: Basis) -> dict[str, Any]:
    windows = choice.windows
    return {
        "start_s": windows.common.start_s,
        "end_s": windows.common.end_s,
        "length_s": windows.common.length_s if windows.common else None,
        "fairness_window_s": run.profile.fairness_window_s,
        "phases": list(windows.phases),
        "why": choice.why,
        "spans": [[start / 1e9, end / 1e9] for start, end in windows.common.spans],
        "tenants": {
            tenant.id: [[start / 1e9, end / 1e9] for start, end in window.spans]
            for tenant, window in zip(run.profile.tenants, windows.tenants, strict=True)
        },
        "loads": [{**by_load(basis, one.load, one.windows), "held": one.held} for one in choice.trials] or None,
    }


@dataclass(frozen=True)
class _Described:
    """What the checks need of a tenant."""

    counted: rates.Tally
    send_lag: Latency
    ttft: Latency


def _tenants(
    basis: Basis, windows: Windows, service: Sequence[ServiceCurve]
) -> tuple[dict[str, Any], dict[str, Any], list[_Described]]:
    """The entries of each tenant and of all together. A total counts each tenant's requests in its own window."""
    requests = basis.requests
    contents: dict[str, Any] = {}
    described, icl, itl = [], [], []
    starved: list[float | None] = []
    for code, (tenant, window) in enumerate(zip(basis.profile.tenants, windows.tenants, strict=True)):
        chosen = basis.scheduled([(code, window)])
        counted = basis.tally(code, window)
        icl.append(icl_ms(requests, chosen))
        itl.append(itl_ms(requests, chosen))
        statistics = _latencies(basis, chosen, icl[-1], itl[-1])
        starved.append(_largest(starvation(requests, code, service[code], window.spans)))
        contents[tenant.id] = {
            "weight": tenant.weight,
            **entry(counted, window.length_s, statistics),
            "makespan_tokens_per_s": rates.makespan_tokens_per_s(requests, basis.of_tenant(code)),
            "starvation_s_max": starved[-1],
            "slo_broken": slo_broken(counted.slo_attainment, tenant.slo.attainment if tenant.slo else 0.0),
        }
        contents[tenant.id]["itl_ms"]["share_of_requests"] = _telling_share(requests, chosen)
        described.append(_Described(counted, statistics["send_lag_ms"], statistics["ttft_ms"]))
    pooled = basis.scheduled(enumerate(windows.tenants))
    totals = {
        "weight": None,
        **entry(
            rates.Tally.total(each.counted for each in described),
            windows.whole.length_s,
            _latencies(basis, pooled, Sample.pooled(icl), Sample.pooled(itl)),
        ),
        "makespan_tokens_per_s": rates.makespan_tokens_per_s(requests, np.ones(len(requests), np.bool_)),
        "starvation_s_max": _largest(starved),
        "slo_broken": None,
    }
    totals["itl_ms"]["share_of_requests"] = _telling_share(requests, pooled)
    return contents, totals, described


def _latencies(basis: Basis, chosen: Mask, icl: Sample, itl: Sample) -> dict[str, Latency]:
    """Every latency of the chosen requests; `_adjusted` counts each failed one as +inf."""
    rows = basis.in_time(chosen)
    failed = basis.requests.outcome[rows] != OK
    return {
        **basis.described(chosen),
        "icl_ms": describe(icl),
        "itl_ms": describe(itl),
        **{f"{name}_adjusted": describe(np.where(failed, np.inf, basis.latencies[name][rows])) for name in ADJUSTED},
    }


def _telling_share(requests: Requests, chosen: Mask) -> float | None:
    """Ratio of requests whose server told the tokens of each chunk to those that got a token."""
    got = int((chosen & requests.got_token).sum())
    return int((chosen & requests.tells_tokens).sum()) / got if got else None


def _fairness(
    basis: Basis,
    windows: Windows,
    gaps_in: Callable[[tuple[tuple[int, int], ...]], Gaps],
    sub_windows: tuple[tuple[int, int], ...],
) -> dict[str, Any] | None:
    if not windows.common:
        return None
    requests, profile = basis.requests, basis.profile
    counted = shares(requests, profile, basis.table, basis.met, sub_windows)
    stretches = [indices(counted, profile, stretch) for stretch in range(len(sub_windows))]
    over_all = gaps_in(windows.common.spans)
    return {
        **asdict(indices(counted.together(), profile)),
        **{field.name: _largest(getattr(over_all, field.name)) for field in fields(Gaps)},
        "series": {
            "t_s": [start / 1e9 for start, _ in sub_windows],
            **{field.name: [getattr(one, field.name) for one in stretches] for field in fields(Indices)},
            **asdict(gaps_in(sub_windows)),
        },
    }


def _with_progress(fairness: dict[str, Any] | None, slowed: Interference | None) -> dict[str, Any] | None:
    """Fairness of progress beside the other indices; undefined without every tenant alone."""
    if fairness is None:
        return None
    progress = slowed.jain_progress if slowed else None
    intervals = fairness.get("ci95", {}) | ({"jain_progress": list(progress.ci95)} if progress else {})
    return {**fairness, "jain_progress": progress.value if progress else None, "ci95": intervals}


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _cost(basis: Basis, windows: Windows) -> dict[str, Any] | None:
    """Cost in the common window; where tenants never ran together, of each in its own window."""
    profile = basis.profile
    if profile.gpu_hour_usd is None:
        return None
    slices = [profile.slices.get(tenant.id) for tenant in profile.tenants]
    by_slice = [part for part in slices if part is not None]

    def cost_in(window: Window) -> Cost:
        got = shares(basis.requests, profile, basis.table, basis.met, window.spans).together()
        return cost_of(
            profile.gpu_hour_usd or 0.0,
            profile.gpus,
            window.length_s,
            got.tokens[:, 0].tolist(),
            got.service[:, 0].tolist(),
            by_slice if len(by_slice) == len(slices) else None,
        )

    whole = cost_in(windows.measured)
    own = [(whole if windows.common else cost_in(window)) for window in windows.tenants]
    idle = idle_share(basis.requests, windows.measured)
    names = [tenant.id for tenant in profile.tenants]
    return {
        "gpu_hour_usd": profile.gpu_hour_usd,
        "gpus": profile.gpus,
        "cost_per_million_output_tokens": whole.total,
        "tenants": {name: own[code].tenants[code] for code, name in enumerate(names)},
        "shared_by": "slice" if len(by_slice) == len(slices) else "service",
        "window_usd": whole.window_usd,
        "idle_usd": None if idle is None or whole.window_usd is None else idle * whole.window_usd,
        "idle_share": idle,
        "tenants_usd": {name: own[code].tenants_usd[code] for code, name in enumerate(names)},
    }


def _with_tenants(gpu: dict[str, Any] | None, basis: Basis, windows: Windows) -> dict[str, Any] | None:
    """Energy of each tenant by its share of unweighted service; undefined where the tenants never ran together.

    A tenant alone has the GPU's energy of its own phase, which is not known apart.
    """
    if gpu is None:
        return None
    window = windows.common
    got = shares(basis.requests, basis.profile, basis.table, basis.met, window.spans).together()
    joules: dict[str, float | None] = {}
    per_token: dict[str, float | None] = {}
    parts = shares_of_service(got.service[:, 0].tolist())
    for code, (tenant, part) in enumerate(zip(basis.profile.tenants, parts, strict=True)):
        own = None if part is None or gpu["energy_j"] is None else gpu["energy_j"] * part
        joules[tenant.id] = own
        per_token[tenant.id] = joules_per_output_token(own, float(got.tokens[code, 0]))
    return {**gpu, "tenants_energy_j": joules, "tenants_joules_per_output_token": per_token}


def _verdict(
    run: Run,
    windows: Windows,
    known_until_s: float,
    described: Sequence[_Described],
    server: Mapping[str, Any] | None,
) -> health.Verdict:
    tenants = [tenant.id for tenant in run.profile.tenants]
    checks = [health.state_check(run.state, known_until_s)]
    for tenant, window, each in zip(tenants, windows.tenants, described, strict=True):
        if window or not windows.whole:
            checks += health.tenant_checks(tenant, each.counted, each.send_lag, each.ttft)
    workers, asked = run.info.get("workers") or [], run.info.get("asked") or {}
    merged = health.merged_since(run.requests, tenants, asked, workers)
    checks += health.end_checks(workers, merged)
    checks += health.clock_checks(workers)
    checks += health.process_checks(workers, run.requests)
    checks += health.record_checks(run.requests, tenants, asked, run.state, merged)
    told = health.told_missing(workers)
    talking = {tenants[code] for code in np.unique(run.requests.tenant[run.requests.follows])}
    # What was merged in of conversations may be later turns, which are not told as missing.
    still = {
        tenant: None if count is None or tenant in talking & merged.keys() else count - merged.get(tenant, 0)
        for tenant, count in told.items()
    }
    checks += health.schedule_checks(run.requests, tenants, asked, still)
    checks += health.cache_checks(server["endpoints"] if server else {})
    return health.judge(checks)


def _sources(run: Run) -> dict[str, Any]:
    """Where the numbers come from: counts over the whole run, every phase included."""
    requests = run.requests
    tenants = {}
    conversations = sessions(requests, len(run.profile.tenants))
    for code, tenant in enumerate(run.profile.tenants):
        of_tenant = requests.tenant == code
        talks = conversations[code]
        by_outcome = np.bincount(requests.outcome[of_tenant], minlength=len(OUTCOMES))
        by_phase = np.bincount(requests.phase[of_tenant], minlength=len(requests.phases))
        by_source = np.bincount(requests.tokens_from[of_tenant] + 1, minlength=len(TOKEN_SOURCES) + 1)[1:]
        counts = run.locust.counts(tenant.id) if isinstance(run.locust, LocustCsv) else None
        records = int(of_tenant.sum())
        tenants[tenant.id] = {
            "records": records,
            "by_outcome": dict(zip(OUTCOMES, by_outcome.tolist(), strict=True)),
            "by_phase": dict(zip(requests.phases, by_phase.tolist(), strict=True)),
            "tokens_from": {
                source: count / int(by_source.sum()) if by_source.sum() else None
                for source, count in zip(TOKEN_SOURCES, by_source.tolist(), strict=True)
            },
            "sessions": talks.count if talks else None,
            "mean_turns": talks.mean_turns if talks else None,
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
        "telemetry": {
            **run.telemetry.info,
            "lines_left_out": run.telemetry.lines_left_out,
            "asked_for": {"gpu": run.profile.samples_gpu, "server": run.profile.samples_server},
        },
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


def _end_ns(run: Run, known_until_s: float) -> int:
    """The end of the run: of its last phase, if it ended by itself."""
    ends = [phase.end_s for phase in run.phases if math.isfinite(phase.end_s)] if run.state == "complete" else []
    return round(max(known_until_s, *ends, 0.0) * 1e9) if ends else round(known_until_s * 1e9)


def _drawn_edges(end_ns: int) -> Int64s:
    """Edges a round number of seconds apart, so few that a figure can show them."""
    return edges_every(
        next((step for step in _NICE_SECONDS if end_ns <= step * 1e9 * _TIMELINE_STRETCHES), _NICE_SECONDS[-1]), end_ns
    )


def _curves(
    run: Run, basis: Basis, windows: Windows, edges_ns: Int64s, sub_windows: Sequence[tuple[int, int]]
) -> Curves:
    chosen = [basis.scheduled([(code, window)]) for code, window in enumerate(windows.tenants)]
    edges_s = edges_ns / 1e9
    several = len({phase_of(phase.name) for phase in run.phases}) > 1
    return Curves(
        ttft_scheduled=tuple(curve(basis.latencies["ttft_scheduled_ms"][mask]) for mask in chosen),
        tpot=tuple(curve(basis.latencies["tpot_ms"][mask]) for mask in chosen),
        e2e_scheduled=tuple(curve(basis.latencies["e2e_scheduled_ms"][mask]) for mask in chosen),
        timeline=Timeline(edges_s, basis.table.in_spans(spans_between(edges_ns)) / np.diff(edges_s)),
        phases=tuple(
            Span(
                phase.name,
                phase.start_s,
                min(phase.end_s, float(edges_s[-1])),
                phase.measured,
                phase_of(phase.name) if several else "",
            )
            for phase in run.phases
            if phase.start_s < edges_s[-1]
        ),
        sub_windows_s=tuple((start / 1e9, end / 1e9) for start, end in sub_windows),
        traces=traces(run.telemetry, Window(((0, int(edges_ns[-1])),))),
        waterfall=waterfall(
            basis.requests, basis.latencies["ttft_scheduled_ms"], basis.scheduled(enumerate(windows.tenants))
        ),
    )
