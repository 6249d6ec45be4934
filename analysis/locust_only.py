"""What can be said of a run of which there is only Locust's CSV, and what can't, why, and how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.locust_csv import (
    TOKEN_ROWS,
    History,
    LocustCsv,
    StatsRow,
    read_histories,
    read_locust_csv,
    users_over_time,
)
from fairshare_locust.errors import RunDirectoryError

__all__ = ["KIND", "LocustOnly", "describe"]

SCHEMA = 1
KIND = "locust_csv"
"""`kind` in the `summary.json` of such a folder; that of a run has none."""

_WITH_OURS = "run it with this project's tenants: they write requests.jsonl, a line for each request"


@dataclass(frozen=True, eq=False)
class LocustOnly:
    """The result: what `summary.json` holds, and the histories that the figure draws.

    Attributes:
        histories: by type and name; empty without `PREFIX_stats_history.csv`.
        start_unix_s: of the first row of the history, from which figures count; None without one.
        full_history: there is a history of each name, whose percentiles are of the last ten seconds. Else they are
            of all requests so far.
    """

    content: dict[str, Any]
    histories: dict[tuple[str, str], History]
    start_unix_s: int | None
    full_history: bool


def describe(prefix: Path) -> LocustOnly:
    """All that can be said of the files of a prefix.

    Raises RunDirectoryError for a file that is not Locust's.
    """
    told = read_locust_csv(prefix)
    if told is None or told.rows is None:
        raise RunDirectoryError(f"{prefix.name}_stats.csv is missing beside {str(prefix.parent)!r}: nothing to report")
    histories = read_histories(prefix) or {}
    start = min((one.unix_s[0] for one in histories.values() if one.unix_s), default=None)
    full_history = any(name for name in histories if name != ("", "Aggregated"))
    everything = histories.get(("", "Aggregated"))
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        "folder": prefix.parent.resolve().name,
        "prefix": prefix.name,
        "started_unix_s": start,
        "length_s": None if start is None else max(one.unix_s[-1] for one in histories.values()) - start,
        "names": [_row(row) for row in told.rows],
        "total": None if told.total is None else _row(told.total),
        "users": None if everything is None or start is None else users_over_time(everything, float(start)),
        "history": None if everything is None or start is None else _history(everything, start, full_history),
        "failures": None if told.failures is None else [vars(row) for row in told.failures],
        "exceptions": None if told.exceptions is None else [vars(row) for row in told.exceptions],
        "cannot": [{"what": what, "why": why, "how": how} for what, why, how in _cannot(told, full_history)],
        "warnings": [f"the last row of {name} is torn, and was left out" for name in told.torn],
    }
    return LocustOnly(content, histories, start, full_history)


def _row(row: StatsRow) -> dict[str, Any]:
    """`requests` and `failures` are counts of the whole run; what is rounded says so in its name."""
    return {
        "type": row.type or None,
        "name": row.name,
        "requests": row.requests,
        "failures": None if row.type in TOKEN_ROWS else row.failures,
        "failure_share": row.failures / row.requests if row.requests and row.type not in TOKEN_ROWS else None,
        "mean_ms": row.mean_ms,
        "min_ms": row.min_ms,
        "max_ms": row.max_ms,
        "median_rounded_ms": row.median_ms,
        "percentiles_rounded_ms": dict(row.percentiles_ms),
        "mean_bytes": None if row.type in TOKEN_ROWS else row.mean_bytes,
        "requests_per_s": row.requests_per_s,
        "failures_per_s": None if row.type in TOKEN_ROWS else row.failures_per_s,
    }


def _history(history: History, start: int, full_history: bool) -> dict[str, Any]:
    return {
        "t_s": [unix_s - start for unix_s in history.unix_s],
        "requests_per_s": history.requests_per_s,
        "failures_per_s": history.failures_per_s,
        "percentiles_rounded_ms": dict(history.percentiles_ms),
        "percentiles_of": "the last 10 s" if full_history else "all requests so far",
    }


def _cannot(told: LocustCsv, full_history: bool) -> Iterator[tuple[str, str, str]]:
    """What, why, and how to get it."""
    types = {row.type for row in told.rows or ()}
    if not set(TOKEN_ROWS) <= types:
        lacking = " or ".join(kind for kind in TOKEN_ROWS if kind not in types)
        yield (
            lacking if types & set(TOKEN_ROWS) else "TTFT and time per output token",
            f"Locust times a request as a whole, and there is no row {lacking}",
            "run it with this project's tenants, which stream, and stamp each token",
        )
    yield (
        "tails, and intervals of percentiles",
        "Locust rounds to two significant digits above 100 ms, so p99 and p99.9 are often one value; "
        "it keeps no single request",
        _WITH_OURS,
    )
    yield (
        "SLO attainment and goodput",
        "whether a request met its limits was not kept, and the limits are not known",
        "give each tenant an slo in the profile, and run it with this project's tenants",
    )
    yield (
        "fairness between tenants, slowdown, isolation",
        "Locust's names need not be tenants, and neither tokens nor overlapping times were kept",
        "describe the tenants in a profile, and run it with this project",
    )
    yield (
        "tokens per second, cost and energy",
        "Locust counts bytes, not tokens, and samples no GPU",
        "run it with this project's tenants, with cost and telemetry in the profile",
    )
    yield (
        "waiting before sending (send lag), and whether the load kept up",
        "times count from sending; when a request was due was not kept, so a stall of the client hides itself",
        _WITH_OURS + " with its due time",
    )
    yield (
        "a window without warm-up and drain",
        "every count, mean and percentile is over the whole run",
        "set warmup_s and duration_s in the profile, and run it with this project",
    )
    yield (
        "a verdict",
        "nothing tells how busy the load processes were, or whether records were lost",
        "run it with this project, which watches its own processes",
    )
    if told.history is None:
        yield ("users and rates over time", f"{told.prefix.name}_stats_history.csv is missing or empty", "keep it")
    elif not full_history:
        yield (
            "rates and percentiles of each name over time",
            "the history has all requests together, and its percentiles are of all requests so far",
            "run Locust with --csv-full-history",
        )
    if told.failures is None:
        yield ("failures by message", f"{told.prefix.name}_failures.csv is missing", "keep it beside the others")
    if told.exceptions is None:
        yield ("exceptions", f"{told.prefix.name}_exceptions.csv is missing", "keep it beside the others")
