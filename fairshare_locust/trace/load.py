"""Loading a profile's traces: each file is read once, then cut and dealt to the tenants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.model import Profile
from fairshare_locust.profile.traces import AssignByModel, Trace
from fairshare_locust.trace.assign import assign_rows
from fairshare_locust.trace.rows import Rows, TraceRows

__all__ = ["cut_trace", "load_traces", "read_trace"]


def load_traces(profile: Profile) -> Mapping[str, TraceRows]:
    """The rows of each of the profile's traces, by name.

    Raises WorkloadError for a file that can't be read, with each line at fault, for a cut that leaves no row, and
    for a tenant that a trace is to be assigned to but that gets no row of it.
    """
    files: dict[tuple[Path, str], Rows] = {}
    traces = {}
    for trace in profile.traces:
        file = (trace.path, trace.format)
        if file not in files:
            files[file] = read_trace(*file)
        traces[trace.name] = cut_trace(trace, files[file], profile.seed)
    return traces


def read_trace(path: Path, trace_format: str) -> Rows:
    """All rows of a file, failures included, by time. Raises WorkloadError."""
    rows = _reader(trace_format)(path)
    if not len(rows):
        raise WorkloadError(f"{path}: has no row; a trace of format {trace_format} needs at least one")
    return rows


def _reader(trace_format: str) -> Callable[[Path], Rows]:
    """Each load process of each run starts anew: one without a trace does not load Arrow."""
    match trace_format:
        case "azure":
            from fairshare_locust.trace.azure import read_azure

            return read_azure
        case "burstgpt":
            from fairshare_locust.trace.burstgpt import read_burstgpt

            return read_burstgpt
        case _:
            from fairshare_locust.trace.mooncake import read_mooncake

            return read_mooncake


def cut_trace(trace: Trace, rows: Rows, seed: int) -> TraceRows:
    """The rows with an answer in `[from_s, to_s)`, and whose they are. Raises WorkloadError."""
    inside = rows.times_s >= trace.from_s
    if trace.to_s is not None:
        inside &= rows.times_s < trace.to_s
    answered = inside & (rows.output_tokens > 0)
    if not answered.any():
        raise WorkloadError(
            f"traces.{trace.name}: no row with an answer in {_span(trace)} of {trace.path}, which spans "
            f"0 to {rows.times_s[-1]:g} s with {len(rows):,} rows; choose from_s and to_s inside of that"
        )
    kept = rows.take(np.flatnonzero(answered))
    cut = Rows(
        kept.times_s - trace.from_s, kept.input_tokens, kept.output_tokens, kept.sessions, kept.models, kept.blocks
    )
    failures = int(inside.sum() - answered.sum())
    if trace.assign is None:
        return TraceRows(trace.name, cut, failures)
    places = assign_rows(trace.assign, rows, seed, trace.name)[answered]
    owners = {tenant_id: np.flatnonzero(places == i) for i, tenant_id in enumerate(trace.assign.shares)}
    for tenant_id, own in owners.items():
        if not len(own) and tenant_id not in trace.others:
            raise WorkloadError(
                f"traces.{trace.name}: no row falls to tenant {tenant_id!r}, of {len(cut):,} in {_span(trace)} of "
                f"{trace.path}; {_remedy(trace, cut)}"
            )
    return TraceRows(trace.name, cut, failures, owners)


def _span(trace: Trace) -> str:
    return f"[{trace.from_s:g}, {'end' if trace.to_s is None else f'{trace.to_s:g}'}) s"


def _remedy(trace: Trace, cut: Rows) -> str:
    if isinstance(trace.assign, AssignByModel) and cut.models is not None:
        asked = sorted({cut.models.names[code] for code in np.unique(cut.models.codes) if code >= 0})
        return f"the models asked for there: {', '.join(asked) or 'none'}"
    return "give it a larger share, or cut out more of the trace"
