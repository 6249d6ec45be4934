"""The measured parts of a run as rows, and which of them the other figures are from, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.report.numbers import count, number, percentile, ratio, share, stamp

__all__ = ["COLUMNS", "Row", "conversations", "doubts", "headline", "titled"]

COLUMNS = (
    ("ttft_scheduled_ms", "p50"),
    ("ttft_scheduled_ms", "p99"),
    ("tpot_ms", "p50"),
    ("e2e_scheduled_ms", "p95"),
    ("output_tokens_per_s", ""),
    ("slo_attainment", ""),
)
"""Metric and percentile of each column of the table by phase, after the requests."""


Row = tuple[str, dict[str, Any], list[str]]
"""A tenant with its entry and its cells: requests, then `COLUMNS`."""


def _rows(part: dict[str, Any]) -> Iterator[Row]:
    """Each tenant of a part."""
    for tenant, entry in part["tenants"].items():
        cells = [f"{entry['completed']}/{entry['scheduled']}"]
        for name, rank in COLUMNS:
            if rank:
                cells.append(percentile(entry[name], rank))
            else:
                cells.append(share(entry[name]) if name == "slo_attainment" else number(entry[name]))
        yield tenant, entry, cells


def _title(part: dict[str, Any], *, with_load: bool) -> str:
    """Name, span and fairness of a part, and its load where parts differ in it."""
    words = [f"{part['name']}, {stamp(part['start_s'])} to {stamp(part['end_s'])} s"]
    if with_load:
        words.append(f"load {part['load']:g}")
    if part["fairness"] is not None:
        words.append(f"Jain's index of service {ratio(part['fairness']['jain_service'])}")
    return ", ".join(words)


def titled(content: dict[str, Any]) -> list[tuple[str, list[Row]]]:
    """Each measured part with its title and its rows."""
    with_load = len({part["load"] for part in content["phases"]}) > 1
    return [(_title(part, with_load=with_load), list(_rows(part))) for part in content["phases"]]


def headline(content: dict[str, Any]) -> str | None:
    """Which of several measured parts the other figures are from, and why; None where there is only one."""
    if len(content["phases"]) < 2:
        return None
    return f"{', '.join(content['window']['phases'])}: {content['window']['why']}"


def doubts(content: dict[str, Any]) -> Iterator[str]:
    """Why a measured part that the verdict does not speak of can't be believed."""
    judged = content["window"]["phases"]
    for part in content["phases"]:
        for reason in part["reasons"] if part["name"] not in judged else ():
            yield f"{part['name']} is suspect: {reason}"


def conversations(content: dict[str, Any]) -> str | None:
    """How many conversations each tenant had; None where no request belongs to one."""
    said = [
        f"{tenant} {count(source['sessions'])} of {number(source['mean_turns'])} turns on average"
        for tenant, source in content["sources"]["tenants"].items()
        if source["sessions"] is not None
    ]
    return f"conversations, whole run: {'; '.join(said)}" if said else None
