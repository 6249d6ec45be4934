"""Locust's view of a run as rows and lines: users over time, failures by message, exceptions, the cross-check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.locust_check import WHAT
from analysis.report.numbers import UNDEFINED, count, stamp

__all__ = ["rows"]

_ROWS_SHOWN = 50


def rows(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `locust.html` shows; None without Locust's CSV.

    Args:
        content: of `summary.json`.
    """
    locust = content["locust"]
    if locust is None:
        return None
    failures = sorted(locust["failures"] or [], key=lambda row: -row["occurrences"])
    exceptions = sorted(locust["exceptions"] or [], key=lambda row: -row["count"])
    return {
        "users": users_line(locust["users"]),
        "failures": failures[:_ROWS_SHOWN],
        "failures_left_out": sum(row["occurrences"] for row in failures[_ROWS_SHOWN:]),
        "exceptions": exceptions[:_ROWS_SHOWN],
        "exceptions_left_out": sum(row["count"] for row in exceptions[_ROWS_SHOWN:]),
        "cross_check": [
            {
                "tenant": one["tenant"],
                "what": WHAT[one["what"]],
                "ours": _figure(one["ours"], one["what"]),
                "locust": _figure(one["locust"], one["what"]),
                "agree": UNDEFINED if one["agree"] is None else "yes" if one["agree"] else "no",
                "note": one["note"],
            }
            for one in locust["cross_check"]
        ],
        "missing": [
            f"locust_{name}.csv"
            for name, there in (
                ("stats", bool(locust["cross_check"])),
                ("stats_history", locust["users"] is not None),
                ("failures", locust["failures"] is not None),
                ("exceptions", locust["exceptions"] is not None),
            )
            if not there
        ],
    }


def users_line(users: Mapping[str, Any] | None) -> str | None:
    """Locust's users over time in a line: how many at most, from when to when. None where nothing is known of them."""
    if users is None or not users["t_s"]:
        return None
    most = max(users["users"])
    if not most:
        return "Locust counted no user"
    at = [t_s for t_s, there in zip(users["t_s"], users["users"], strict=True) if there == most]
    when = f"at {stamp(at[0])} s" if at[0] == at[-1] else f"from {stamp(at[0])} to {stamp(at[-1])} s"
    return f"Locust's users: {count(most)} at most, {when}; {count(users['users'][-1])} at the end"


def _figure(value: float | None, what: str) -> str:
    if value is None or not what.endswith("_ms"):
        return count(value)
    return f"{value:,.2f}"  # as many digits in both columns: two figures that differ look different
