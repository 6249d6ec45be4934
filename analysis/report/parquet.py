"""A run as two tables for notebooks and databases: `requests.parquet` and `timeseries.parquet`.

`requests.parquet` has a row per request, of the whole run, in the order of `requests.jsonl`. Null: it did not happen,
or is undefined.

| column | type | what |
| --- | --- | --- |
| tenant, phase, endpoint, outcome, tokens_from | dictionary of text | as in `requests.jsonl` |
| index, worker, session | int32 | place in the tenant's schedule; load process; number of the conversation |
| follows | bool | a later turn of a conversation |
| scheduled_s, sent_s, first_token_s, last_token_s, ended_s | float64 | seconds since the load started |
| input_tokens, output_tokens, requested_output_tokens | int64 | tokens; 0 where the record has none |
| chunks | int32 | content chunks |
| queued_s, computed_s | float64 | in the queue, and in prefill and decode, as the engine tells |
| ttft_ms, ttft_scheduled_ms, tpot_ms, e2e_ms, e2e_scheduled_ms, send_lag_ms | float64 | as `docs/metrics.md` says |
| in_window | bool | scheduled in its tenant's window of the headline figures |
| met_slo | bool | met all its tenant's SLOs; null for a tenant without |

`timeseries.parquet` has a row per value, in long form:

| column | type | what |
| --- | --- | --- |
| t_s | float64 | start of the stretch, or instant of the sample, in seconds since the load started |
| of | dictionary of text | `tenant`, `all` (the tenants compared), `server`, or who sampled a GPU |
| subject | dictionary of text | the tenant, endpoint or device; `all` where `of` is |
| metric | dictionary of text | its name; a percentile of one as `ttft_scheduled_ms_p50` |
| value | float64 | null where it is undefined |

Samples of telemetry are those that the figures draw: means of adjacent ones where there are very many.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.latency import Floats, per_request_ms
from analysis.load import Run
from analysis.rates import met_slos
from analysis.requests import NEVER, TOKEN_SOURCES, Int64s, Mask, Requests
from analysis.summary import Summary
from analysis.window import Window
from fairshare_locust.record.record import OUTCOMES

__all__ = ["write_requests", "write_timeseries"]

_ROWS = 100_000
"""Rows of a group: so many are put together at a time."""

_STAMPS = ("scheduled", "sent", "first_token", "last_token", "ended")
_NAME = pa.dictionary(pa.int16(), pa.string())
_SERIES = pa.schema(
    [("t_s", pa.float64()), *((name, _NAME) for name in ("of", "subject", "metric")), ("value", pa.float64())]
)

Point = tuple[float, str, str, str, float | None]
"""A row of `timeseries.parquet`."""


def write_requests(run: Run, content: Mapping[str, Any], path: Path) -> None:
    """Write `requests.parquet`, whole or not at all.

    Args:
        content: the run's summary, for its windows.
    """
    windows = [Window.of_seconds(*content["window"]["tenants"][tenant.id]) for tenant in run.profile.tenants]
    starts = range(0, len(run.requests), _ROWS) or (0,)  # an empty run has a table as well
    _write(path, (_rows(run, _slice(run.requests, start, start + _ROWS), windows) for start in starts))


def write_timeseries(summary: Summary, path: Path) -> None:
    """Write `timeseries.parquet`, whole or not at all."""
    columns = list(zip(*_points(summary), strict=True)) or [()] * len(_SERIES)
    _write(
        path, [pa.table([pa.array(column, kind.type) for column, kind in zip(columns, _SERIES, strict=True)], _SERIES)]
    )


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    """Each table as a group of rows; the file appears when it has all of them."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as file:
            writer = None
            for table in tables:
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            if writer is not None:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _slice(requests: Requests, start: int, end: int) -> Requests:
    """Some of the requests. Gaps and chunk tokens stay whole: the starts point into them as before."""
    columns = {
        field.name: getattr(requests, field.name)[start : end + field.name.endswith("_start")]
        for field in dataclasses.fields(requests)
        if isinstance(getattr(requests, field.name), np.ndarray) and field.name not in ("gap_us", "chunk_tokens")
    }
    return dataclasses.replace(requests, **columns)


def _rows(run: Run, requests: Requests, windows: Sequence[Window]) -> pa.Table:
    tenants = run.profile.tenants
    latencies = per_request_ms(requests)
    in_window = np.zeros(len(requests), np.bool_)
    for code, window in enumerate(windows):
        in_window |= (requests.tenant == code) & window.contains(requests.scheduled_ns)
    judged = np.isin(requests.tenant, [code for code, tenant in enumerate(tenants) if tenant.slo is not None])
    met = met_slos(requests, tenants, latencies)
    return pa.table(
        {
            "tenant": _named(requests.tenant, [tenant.id for tenant in tenants]),
            "phase": _named(requests.phase, requests.phases),
            "index": pa.array(requests.index, mask=requests.index < 0),
            "worker": pa.array(requests.worker),
            "session": pa.array(requests.session, mask=requests.session < 0),
            "follows": pa.array(requests.follows),
            "endpoint": _named(requests.endpoint, requests.endpoints),
            "outcome": _named(requests.outcome, OUTCOMES),
            **{f"{name}_s": _seconds(getattr(requests, f"{name}_ns")) for name in _STAMPS},
            "input_tokens": pa.array(requests.input_tokens),
            "output_tokens": pa.array(requests.output_tokens),
            "requested_output_tokens": pa.array(requests.requested_tokens),
            "tokens_from": _named(requests.tokens_from, TOKEN_SOURCES),
            "chunks": pa.array(requests.chunks.astype(np.int32)),
            **{name: _known(getattr(requests, name)) for name in ("queued_s", "computed_s")},
            **{name: _known(values) for name, values in latencies.items()},
            "in_window": pa.array(in_window),
            "met_slo": pa.array(met, mask=~judged),
        }
    )


def _named(codes: npt.NDArray[Any], names: Sequence[str]) -> pa.Array:
    """Codes with their names; -1 is null."""
    missing: Mask = codes < 0
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int16), mask=missing), pa.array(names, pa.string()))


def _seconds(stamps_ns: Int64s) -> pa.Array:
    never = stamps_ns == NEVER
    return pa.array(np.where(never, 0, stamps_ns) / 1e9, mask=never)


def _known(values: Floats) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _points(summary: Summary) -> Iterator[Point]:
    """Every value of every series."""
    content = summary.content
    for tenant, series in content["timeline"]["tenants"].items():
        yield from _long(content["timeline"]["t_s"], "tenant", tenant, series)
    if content["fairness"] is not None:
        series = dict(content["fairness"]["series"])
        yield from _long(series.pop("t_s"), "all", "all", series)
    users = (content["locust"] or {}).get("users")
    if users is not None:
        yield from _long(users["t_s"], "all", "all", {"users": users["users"]})
    for trace in summary.curves.traces:
        for at, value in zip(trace.times_s.tolist(), trace.mean.tolist(), strict=True):
            if value == value:  # NaN where a line breaks
                yield at, trace.source, trace.subject, trace.metric, value


def _long(times_s: Sequence[float], of: str, subject: str, series: Mapping[str, Any]) -> Iterator[Point]:
    for metric, values in series.items():
        if isinstance(values, Mapping):
            named = {f"{metric}_{rank}": ranked for rank, ranked in values.items()}
            yield from _long(times_s, of, subject, named)
        else:
            for at, value in zip(times_s, values, strict=True):
                yield at, of, subject, metric, value
