"""Can this run be believed? Checks of the load processes and of the records, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from analysis.latency import Latency
from analysis.rates import PUNCTUAL_NS, Tally
from analysis.requests import NEVER, Requests

__all__ = [
    "Check",
    "Verdict",
    "cache_checks",
    "clock_checks",
    "end_checks",
    "judge",
    "merged_since",
    "process_checks",
    "process_name",
    "record_checks",
    "schedule_checks",
    "state_check",
    "tenant_checks",
    "told_missing",
]

SEND_LAG_LIMIT_MS = PUNCTUAL_NS / 1e6
SEND_LAG_LIMIT_OF_TTFT = 0.05
STALL_LIMIT_MS = 200.0  # one stall is no percentile of a long run, but every request in it is off by as much
EVENT_LOOP_LAG_LIMIT_MS = 10.0
CPU_LIMIT = 0.90
CLOCK_LIMIT_MS = 10.0
SHORTFALL_LIMIT = 0.02
HIT_RATE_DRIFT_LIMIT = 0.05

_SLOW_SECONDS_NAMED = 5
_GONE = {"lost": "was lost", "left": "left"}
_MORE_PROCESSES = "use more load processes (--processes 2, or more workers)"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what is checked; unit: of value and limit, "" for a ratio or a count.
        subject: the tenant or load process it is about, or "run".
        finding: what happened, with the figures.
        advice: what to do when it is not ok.
    """

    name: str
    subject: str
    value: float | None
    limit: float
    unit: str
    ok: bool
    finding: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Verdict:
    """`valid` if every check is ok; else `suspect`, with what happened and what to do about it."""

    status: Literal["valid", "suspect"]
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {
            "status": self.status,
            "reasons": list(self.reasons),
            "checks": [check.as_json() for check in self.checks],
        }


def judge(checks: Iterable[Check]) -> Verdict:
    """The verdict that a list of checks leads to."""
    every = tuple(checks)
    reasons = tuple(f"{check.finding}; {check.advice}." for check in every if not check.ok)
    return Verdict("suspect" if reasons else "valid", reasons, every)


def state_check(state: str, known_until_s: float) -> Check:
    """A run that did not end by itself."""
    finding, advice = {
        "complete": ("the run ended by itself", ""),
        "interrupted": (
            f"the run was interrupted at {known_until_s:.1f} s; the figures cover what was measured until then",
            "let it run to its end",
        ),
    }.get(
        state,
        (
            f"the run has not ended, or crashed: its last record is from {known_until_s:.1f} s",
            "build the report again after the end; if it crashed, see the log and run it again",
        ),
    )
    return Check(
        name="run ended by itself",
        subject="run",
        value=float(state == "complete"),
        limit=1,
        unit="",
        ok=state == "complete",
        finding=finding,
        advice=advice,
    )


def tenant_checks(tenant: str, counted: Tally, send_lag: Latency, ttft: Latency) -> Iterator[Check]:
    """Whether the client sent a tenant's requests when they were due, and followed them to their end.

    Args:
        send_lag, ttft: of the requests scheduled in the tenant's window.
    """
    yield Check(
        name="requests in the window",
        subject=tenant,
        value=counted.scheduled,
        limit=1,
        unit="",
        ok=counted.scheduled > 0,
        finding=f"{tenant}: {counted.scheduled:,} requests scheduled in the window",
        advice="run longer, or raise its rate",
    )
    lag_ms = send_lag.percentiles["p99"]
    if lag_ms is not None:
        limit_ms = max(SEND_LAG_LIMIT_MS, SEND_LAG_LIMIT_OF_TTFT * (ttft.percentiles["p50"] or 0.0))
        yield Check(
            name="send lag p99",
            subject=tenant,
            value=lag_ms,
            limit=limit_ms,
            unit="ms",
            ok=lag_ms <= limit_ms,
            finding=f"{tenant}: send lag p99 {lag_ms:,.1f} ms over {send_lag.count:,} requests "
            f"(limit {limit_ms:,.1f} ms)",
            advice="requests went out late: raise max_in_flight if all its slots were busy, else lower the rate, "
            f"{_MORE_PROCESSES}, or free the machine of other work",
        )
    if counted.scheduled:
        shortfall = abs(counted.scheduled - counted.punctual) / counted.scheduled
        yield Check(
            name="offered against asked",
            subject=tenant,
            value=shortfall,
            limit=SHORTFALL_LIMIT,
            unit="",
            ok=shortfall <= SHORTFALL_LIMIT,
            finding=f"{tenant}: {counted.punctual:,} of {counted.scheduled:,} requests due in the window "
            f"were sent in it ({shortfall:.1%} short; limit {SHORTFALL_LIMIT:.0%})",
            advice="raise max_in_flight, or lower the rate",
        )
        unfinished = counted.failed["cancelled"]
        yield Check(
            name="unfinished requests",
            subject=tenant,
            value=unfinished,
            limit=0,
            unit="",
            ok=unfinished == 0,
            finding=f"{tenant}: {unfinished:,} of {counted.scheduled:,} requests were still open when the run ended",
            advice="its slowest latencies are missing: raise drain_s, or lower the rate",
        )


def merged_since(
    requests: Requests, tenants: Sequence[str], asked: Mapping[str, Any], workers: Iterable[Mapping[str, Any]]
) -> dict[str, int]:
    """Records of lost load processes that came after the run's end, by the tenants that have any.

    Of a lost process `run.json` counts as fallen due what was on record then. What was merged in later is beyond
    that, and no more than what was missing.
    """
    told = told_missing(workers)
    talks = (
        np.bincount(requests.tenant[requests.follows], minlength=len(tenants)) > 0
    )  # missing counts their first turns
    found = {}
    for (tenant, count), talking in zip(_counts(requests, tenants).items(), talks, strict=True):
        due = (asked.get(tenant) or {}).get("scheduled")
        if due is not None and tenant in told:
            beyond, missing = count - due, told[tenant]
            found[tenant] = beyond if missing is None or talking else min(beyond, missing)
    return {tenant: count for tenant, count in found.items() if count > 0}


def told_missing(workers: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    """Requests that lost load processes are told to miss, by tenant; None where nobody knows how many."""
    missing: dict[str, int | None] = {}
    for worker in workers:
        if worker.get("state") in _GONE:
            for tenant, loss in ((worker.get("lost") or {}).get("tenants") or {}).items():
                before, more = missing.get(tenant, 0), loss["requests"]
                missing[tenant] = None if before is None or more is None else before + more
    return missing


def _counts(requests: Requests, tenants: Sequence[str]) -> dict[str, int]:
    """Records of each tenant."""
    return dict(zip(tenants, np.bincount(requests.tenant, minlength=len(tenants)).tolist(), strict=True))


def record_checks(
    requests: Requests,
    tenants: Sequence[str],
    asked: Mapping[str, Any],
    state: str,
    merged: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Check]:
    """Whether there is exactly one record of every request that fell due.

    Args:
        asked: `run.json`'s schedule entries that fell due, per tenant; a running run does not know them yet.
        merged: see `merged_since`; they fell due too.
    """
    for tenant, count in _counts(requests, tenants).items():
        known = (asked.get(tenant) or {}).get("scheduled")
        if known is None or state == "running":
            continue
        due = known + merged.get(tenant, 0)
        lost = due - count
        yield Check(
            name="lost records",
            subject=tenant,
            value=lost,
            limit=0,
            unit="",
            ok=lost == 0,
            finding=f"{tenant}: {due:,} requests fell due, {count:,} are on record",
            advice=(
                f"{lost:,} are lost: look in the log for a lost load process or a full disk, and run again"
                if lost > 0
                else "there are more than there should be: see whether two runs wrote into the same directory"
            ),
        )
    yield Check(
        name="duplicate records",
        subject="run",
        value=requests.duplicates,
        limit=0,
        unit="",
        ok=requests.duplicates == 0,
        finding=f"{requests.duplicates:,} records repeat a request_id of the same phase",
        advice="see whether two runs wrote into the same directory",
    )
    end = "inside a record, which was left out" if requests.incomplete_lines else "with a whole record"
    yield Check(
        name="incomplete last line",
        subject="run",
        value=requests.incomplete_lines,
        limit=0,
        unit="",
        ok=requests.incomplete_lines == 0 or state == "running",
        finding=f"requests.jsonl ends {end}",
        advice="see in the log why writing stopped",
    )


def schedule_checks(
    requests: Requests, tenants: Sequence[str], asked: Mapping[str, Any], told: Mapping[str, int | None]
) -> Iterator[Check]:
    """Whether there is a record of everything that the schedules had due, but for what is told to be missing.

    The load processes count what they have dealt themselves; the schedule is known without them.

    Args:
        asked: as for `record_checks`; `due` counts first turns.
        told: see `told_missing`.
    """
    first = np.bincount(requests.tenant[~requests.follows], minlength=len(tenants)).tolist()
    for tenant, recorded in zip(tenants, first, strict=True):
        due, missing = (asked.get(tenant) or {}).get("due"), told.get(tenant, 0)
        if due is None or missing is None:
            continue
        lost = due - recorded - missing
        less = f", {missing:,} are missing with load processes" if missing else ""
        yield Check(
            name="lost of the schedule",
            subject=tenant,
            value=lost,
            limit=0,
            unit="",
            ok=lost <= 0,
            finding=f"{tenant}: its schedule had {due:,} requests due, {recorded:,} are on record{less}",
            advice=f"{lost:,} were never asked for: look in the log for what held up the load, and run again",
        )


def process_name(worker: Mapping[str, Any]) -> str:
    """A load process in words: its number, and its host if that is known."""
    host = worker.get("hostname")
    return f"load process {worker.get('index', 0)}" + (f" ({host})" if host else "")


def end_checks(workers: Sequence[Mapping[str, Any]], merged: Mapping[str, int]) -> Iterator[Check]:
    """Whether each of several load processes came to its end, and what is missing of one that did not.

    Args:
        merged: see `merged_since`.
    """
    for worker in workers:
        state = worker.get("state")
        gone = state in _GONE
        if not gone and (state != "complete" or len(workers) < 2):
            continue
        yield Check(
            name="came to its end",
            subject=f"load process {worker.get('index', 0)}",
            value=float(not gone),
            limit=1,
            unit="",
            ok=not gone,
            finding=_loss(worker, merged) if gone else f"{process_name(worker)} came to its end",
            advice="run again; see that worker's log and machine",
        )


def _loss(worker: Mapping[str, Any], merged: Mapping[str, int]) -> str:
    """When and why a load process went, and what is missing since."""
    lost = worker.get("lost") or {}
    at = "" if lost.get("since_s") is None else f" at {lost['since_s']:.1f} s"
    why = f" ({lost['why']})" if lost.get("why") else ""
    tenants = lost.get("tenants") or {}
    missing = [
        f"of {tenant} {_number(loss['requests'])} requests in {loss['seconds']:.1f} s"
        for tenant, loss in tenants.items()
    ]
    said = f"{', '.join(missing)} are missing" if missing else "nothing of it is missing"
    since = [f"{merged[tenant]:,} of {tenant}" for tenant in tenants if tenant in merged]
    found = f", less what was merged since: {', '.join(since)}" if since else ""
    return f"{process_name(worker)} {_GONE[worker['state']]}{at}{why}: {said}{found}"


def _number(requests: int | None) -> str:
    return "an unknown number of" if requests is None else f"{requests:,}"


def clock_checks(workers: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Whether several load processes have the same clock. One whose clock is not known is not checked."""
    for worker in workers if len(workers) > 1 else ():
        uncertainty_s = (worker.get("clock") or {}).get("uncertainty_s")
        if uncertainty_s is None:
            continue
        uncertainty_ms = uncertainty_s * 1e3
        yield Check(
            name="clock uncertainty",
            subject=f"load process {worker.get('index', 0)}",
            value=uncertainty_ms,
            limit=CLOCK_LIMIT_MS,
            unit="ms",
            ok=uncertainty_ms <= CLOCK_LIMIT_MS,
            finding=f"{process_name(worker)}: its clock is known to {uncertainty_ms:,.1f} ms "
            f"(limit {CLOCK_LIMIT_MS:g} ms)",
            advice="requests of different load processes were due at times that differ by as much: see whether the "
            "network between master and worker is slow or busy, or run them nearer to each other",
        )


def process_checks(workers: Iterable[Mapping[str, Any]], requests: Requests) -> Iterator[Check]:
    """Whether each load process kept up. One without samples is not checked."""
    for worker in workers:
        health = worker.get("health") or {}
        index = int(worker.get("index", 0))
        subject = f"load process {index}"
        lag_ms = (health.get("event_loop_lag_ms") or {}).get("p99")
        if lag_ms is not None:
            slow = _slow_seconds(health.get("slow_seconds") or [], index, requests)
            yield Check(
                name="event-loop lag p99",
                subject=subject,
                value=lag_ms,
                limit=EVENT_LOOP_LAG_LIMIT_MS,
                unit="ms",
                ok=lag_ms <= EVENT_LOOP_LAG_LIMIT_MS,
                finding=f"{subject}: event-loop lag p99 {lag_ms:,.1f} ms (limit {EVENT_LOOP_LAG_LIMIT_MS:g} ms){slow}",
                advice=f"lower the rate, {_MORE_PROCESSES}, or free the machine of other work",
            )
            stall_ms = health["event_loop_lag_ms"]["max"]
            yield Check(
                name="longest event-loop stall",
                subject=subject,
                value=stall_ms,
                limit=STALL_LIMIT_MS,
                unit="ms",
                ok=stall_ms <= STALL_LIMIT_MS,
                finding=f"{subject}: stood still for {stall_ms:,.0f} ms (limit {STALL_LIMIT_MS:g} ms){slow}",
                advice="what arrived meanwhile was stamped late: free the machine of other work, and run again",
            )
        share = (health.get("cpu_share") or {}).get("p95")
        if share is not None:
            yield Check(
                name="CPU p95",
                subject=subject,
                value=share,
                limit=CPU_LIMIT,
                unit="",
                ok=share <= CPU_LIMIT,
                finding=f"{subject}: CPU p95 {share:.0%} of its core (limit {CPU_LIMIT:.0%})",
                advice=f"lower the rate, {_MORE_PROCESSES}, or use a faster machine",
            )


def cache_checks(endpoints: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    """Whether each server's prefix cache was as warm at the end as at the start; not checked where nobody looked it up.

    Args:
        endpoints: their entries in `summary.json`.
    """
    for endpoint, entry in endpoints.items():
        cache = entry["prefix_cache"] or {}
        drift = cache.get("hit_rate_drift")
        if drift is None:
            continue
        told = [pair for pair in cache["hit_rate_by_half"] if None not in pair]
        first, second = max(told, key=lambda pair: abs(pair[1] - pair[0]))
        yield Check(
            name="prefix-cache hit rate drift",
            subject=endpoint,
            value=drift,
            limit=HIT_RATE_DRIFT_LIMIT,
            unit="",
            ok=drift <= HIT_RATE_DRIFT_LIMIT,
            finding=f"{endpoint}: prefix-cache hit rate {first:.1%} in the first half of the window, {second:.1%} in "
            f"the second (limit {HIT_RATE_DRIFT_LIMIT * 100:g} points apart)",
            advice="the cache was still warming up, or filled up: lengthen warmup_s, or run longer",
        )


def _slow_seconds(seconds: Sequence[Mapping[str, float]], worker: int, requests: Requests) -> str:
    """The worst seconds by lag, in order of time, with the requests that were in flight in them."""
    if not seconds:
        return ""
    worst = sorted(sorted(seconds, key=lambda second: -second["lag_ms"])[:_SLOW_SECONDS_NAMED], key=lambda s: s["t_s"])
    named = [
        f"{second['t_s']:g} s ({second['lag_ms']:,.0f} ms, {_in_flight(requests, worker, second['t_s']):,} in flight)"
        for second in worst
    ]
    more = f" and {len(seconds) - len(worst):,} more seconds" if len(seconds) > len(worst) else ""
    return f", high at {', '.join(named)}{more}"


def _in_flight(requests: Requests, worker: int, second_s: float) -> int:
    """Requests that a load process had open at some time in the second that starts at `second_s`."""
    start_ns = round(second_s * 1e9)
    sent = (requests.sent_ns != NEVER) & (requests.sent_ns < start_ns + 1_000_000_000)
    open_still = (requests.ended_ns == NEVER) | (requests.ended_ns > start_ns)
    return int((sent & open_still & (requests.worker == worker)).sum())
