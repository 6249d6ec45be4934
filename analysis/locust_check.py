"""Locust's view of a run beside ours: users over time, failures by message, and whether its counts and means agree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.latency import Floats
from analysis.load import Run
from analysis.locust_csv import TOKEN_ROWS, LocustCsv, StatsRow, users_over_time
from analysis.requests import NEVER, OK, TOKEN_SOURCES, Mask, Requests

__all__ = [
    "MEAN_TOLERANCE",
    "MEAN_TOLERANCE_MS",
    "WHAT",
    "Comparison",
    "describe_locust",
    "response_ms",
    "users_over_time",
]

MEAN_TOLERANCE_MS = 0.01
MEAN_TOLERANCE = 1e-4
"""Means agree if they are this close, in ms or as a share of ours, whichever allows more.

Locust is told the very stamps of the records, to a microsecond, and keeps an exact sum, so sums of many floats are all
that may differ. Its rounded median and percentiles are not compared: they could only agree by chance.
"""


@dataclass(frozen=True)
class Comparison:
    """One figure of a tenant, whole run, twice. `agree` is None where one side has none or they can't be compared.

    Attributes:
        what: `requests`, `failures`, `e2e_mean_ms`, `ttft_count`, `ttft_mean_ms`, `tpot_count` or `tpot_mean_ms`.
        note: why they may differ, or can't be compared; "" without a reason.
    """

    tenant: str
    what: str
    ours: float | None
    locust: float | None
    agree: bool | None
    note: str = ""


WHAT = {
    "requests": "requests",
    "failures": "failed requests",
    "e2e_mean_ms": "mean response time in ms",
    "ttft_count": "requests with a first token",
    "ttft_mean_ms": "mean TTFT in ms",
    "tpot_count": "requests with a time per output token",
    "tpot_mean_ms": "mean time per output token in ms",
}
"""What each `what` is, in words."""


def describe_locust(run: Run, latencies: dict[str, Floats]) -> dict[str, Any] | None:
    """The key `locust` of `summary.json`; None where Locust's CSV is missing. A part whose file is missing is None.

    Args:
        latencies: of `per_request_ms`.
    """
    told = run.locust
    if told is None:
        return None
    if isinstance(told, str):
        unread = dict.fromkeys(("users", "failures", "exceptions"))
        return {**unread, "cross_check": [], "warnings": [f"Locust's own figures are left out: {told}"]}
    start_unix_s = (run.info.get("t0") or {}).get("unix_s")
    comparisons = list(_compare(run, told, latencies))
    return {
        "users": None
        if told.history is None or start_unix_s is None
        else users_over_time(told.history, float(start_unix_s)),
        "failures": None if told.failures is None else [asdict(row) for row in told.failures],
        "exceptions": None if told.exceptions is None else [asdict(row) for row in told.exceptions],
        "cross_check": [asdict(one) for one in comparisons],
        "warnings": [*_disagreements(comparisons), *_troubles(told)],
    }


def response_ms(requests: Requests) -> Floats:
    """What Locust is told as response time, shape (n,): from sending to the last token, or to the end of what failed.

    NaN for what was never sent, which Locust counts without a time.
    """
    answered = (requests.outcome == OK) & requests.got_token
    end_ns = np.where(answered, requests.last_token_ns, requests.ended_ns)
    known = (requests.sent_ns != NEVER) & (end_ns != NEVER)
    return np.where(known, np.where(known, end_ns - requests.sent_ns, 0) / 1e6, np.nan)


def _compare(run: Run, told: LocustCsv, latencies: dict[str, Floats]) -> Iterator[Comparison]:
    if told.rows is None:
        return
    requests, doubt = run.requests, _doubt(run)
    response = response_ms(requests)
    for code, tenant in enumerate(run.profile.tenants):
        of_tenant: Mask = requests.tenant == code
        rows = [row for row in told.rows if row.name == tenant.id]
        counts = told.counts(tenant.id)
        assert counts is not None  # there are rows
        failed = int((of_tenant & (requests.outcome != OK)).sum())
        yield _same_count(tenant.id, "requests", int(of_tenant.sum()), counts.requests, doubt)
        yield _same_count(tenant.id, "failures", failed, counts.failures, doubt)
        own = [row for row in rows if row.type not in TOKEN_ROWS]
        mean = own[0].mean_ms if len(own) == 1 else None
        several = "Locust has several rows of it, each with a mean of its own" if len(own) > 1 else ""
        yield _same_mean(tenant.id, "e2e_mean_ms", response[of_tenant], mean, several or doubt)

        for kind, name in zip(TOKEN_ROWS, ("ttft", "tpot"), strict=True):
            values = latencies[f"{name}_ms"][of_tenant]
            row = next((row for row in rows if row.type == kind), None)
            yield from _token_row(tenant.id, name, values, row, told, _recounted(requests, of_tenant, name), doubt)


def _token_row(
    tenant: str, name: str, values: Floats, row: StatsRow | None, told: LocustCsv, unlike: str, doubt: str
) -> Iterator[Comparison]:
    """`unlike` says why our values are no longer what Locust was told."""
    count = int((~np.isnan(values)).sum())
    if not any(one.type == name.upper() for one in told.rows or ()):
        yield Comparison(tenant, f"{name}_count", count, None, None, f"Locust's CSV has no row {name.upper()}")
        return
    in_row = row.requests if row else 0
    if unlike:
        yield Comparison(tenant, f"{name}_count", count, in_row, None, unlike)
        yield Comparison(tenant, f"{name}_mean_ms", _mean(values), row.mean_ms if row else None, None, unlike)
        return
    yield _same_count(tenant, f"{name}_count", count, in_row, doubt)
    yield _same_mean(tenant, f"{name}_mean_ms", values, row.mean_ms if row else None, doubt)


def _recounted(requests: Requests, of_tenant: Mask, name: str) -> str:
    tokenizer = TOKEN_SOURCES.index("tokenizer")
    if name == "tpot" and bool((of_tenant & (requests.tokens_from == tokenizer)).any()):
        return "tokens were counted after the run, when Locust's row was written"
    return ""


def _same_count(tenant: str, what: str, ours: int, theirs: int, doubt: str) -> Comparison:
    agree = ours == theirs
    return Comparison(tenant, what, ours, theirs, agree, "" if agree else doubt)


def _same_mean(tenant: str, what: str, values: Floats, theirs: float | None, doubt: str) -> Comparison:
    ours = _mean(values)
    if ours is None or theirs is None:
        return Comparison(tenant, what, ours, theirs, None, doubt if ours is not None else "")
    agree = math.isclose(ours, theirs, rel_tol=MEAN_TOLERANCE, abs_tol=MEAN_TOLERANCE_MS)
    return Comparison(tenant, what, ours, theirs, agree, "" if agree else doubt)


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _doubt(run: Run) -> str:
    """What would explain a difference, as far as the run knows of it."""
    if run.state != "complete":
        return f"the run's state is {run.state}: the last seconds may be missing in Locust's files"
    gone = [worker for worker in run.info.get("workers") or [] if worker.get("state") in ("lost", "left")]
    if gone:
        return (
            "load processes were lost: Locust may lack what they told last, and requests.jsonl what "
            "`python -m analysis merge` can still add"
        )
    if run.requests.duplicates:
        return f"{run.requests.duplicates:,} records stand in requests.jsonl twice"
    if run.requests.incomplete_lines:
        return "the last line of requests.jsonl is torn"
    return ""


def _disagreements(comparisons: list[Comparison]) -> Iterator[str]:
    """One line for each tenant. Of other requests the mean is another one: it is told where the counts agree."""
    apart: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if one.agree is False:
            apart.setdefault(one.tenant, []).append(one)
    for tenant, ones in apart.items():
        counts = [one for one in ones if not one.what.endswith("_ms")]
        figures = ", ".join(f"{WHAT[one.what]} {_told(one.locust)} against {_told(one.ours)}" for one in counts or ones)
        why = ones[0].note or "look in the log for lost records or a full disk, and run again"
        yield f"{tenant}: Locust's CSV and requests.jsonl disagree: {figures}; {why}"


def _told(value: float | None) -> str:
    """A value with so many digits that two which differ look different."""
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _troubles(told: LocustCsv) -> Iterator[str]:
    raised = sum(row.count for row in told.exceptions or ())
    if told.exceptions and raised:
        most = max(told.exceptions, key=lambda row: row.count)
        yield (
            f"Locust caught {raised:,} exceptions in the load's own code, most often: {most.message}; "
            "read their tracebacks below, and mend the locustfile"
        )
    for name in told.torn:
        yield f"the last row of {name} is torn, and was left out"
