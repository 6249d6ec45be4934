"""The load processes of a run as rows, and what is strange about one of them in words; nothing for a single one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.health import process_name
from analysis.metrics import METRICS
from analysis.report.numbers import UNDEFINED, number, share

__all__ = ["Row", "rows", "warnings"]

Row = tuple[dict[str, Any], list[str]]
"""A load process's entry and its cells: event-loop lag, CPU, clock offset."""


def rows(content: Mapping[str, Any]) -> Iterator[Row]:
    """Each of several load processes."""
    every = content["run"]["processes"]
    for process in every if len(every) > 1 else ():
        yield (
            process,
            [number(process["event_loop_lag_ms_p99"]), share(process["cpu_share_p95"]), _clock(process)],
        )


def _clock(process: Mapping[str, Any]) -> str:
    offset_s, uncertainty_s = process["clock_offset_s"], process["clock_uncertainty_s"]
    if offset_s is None:
        return UNDEFINED
    give_or_take = "" if uncertainty_s is None else f" ± {number(uncertainty_s * 1e3)}"
    return f"{number(offset_s * 1e3)}{give_or_take}"


def warnings(content: Mapping[str, Any]) -> Iterator[str]:
    """Which load processes see another TTFT than the others beyond chance, and what to look at.

    Where one waits longer, that the rest waits less is the same thing again: it is told only where none waits longer.
    """
    names = {process["index"]: process_name(process) for process in content["run"]["processes"]}
    apart = [one for one in content["run"]["ttft_by_process"] if one["apart"]]
    slower = {one["tenant"] for one in apart if one["difference_ms"] > 0}
    for one in apart:
        longer = one["difference_ms"] > 0
        if not longer and one["tenant"] in slower:
            continue
        yield (
            f"{names.get(one['worker'], process_name({'index': one['worker']}))}: {one['tenant']}'s "
            f"{METRICS['ttft_ms'].label} is {number(abs(one['difference_ms']))} ms {'longer' if longer else 'shorter'} "
            f"than with the other load processes at the same time (p50 {number(one['median_ms'])} against "
            f"{number(one['others_median_ms'])} ms, {one['requests']:,} requests, p = {one['p_value']:.1g}): "
            "look at its network path to the server, and at its machine"
        )
