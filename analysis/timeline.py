"""Timeline: what each tenant asked for and got over the whole run, warm-up and drain included."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.entry import Basis
from analysis.intervals import PERCENTILES
from analysis.latency import Floats
from analysis.requests import NEVER, Int64s, Requests

__all__ = ["edges_every", "in_flight", "percentiles_by_cell", "spans_between", "timeline"]


def edges_every(step_s: float, end_ns: int) -> Int64s:
    """Edges from 0 to the end, `step_s` apart; the last stretch may be shorter."""
    return np.append(np.arange(0, end_ns, max(1, round(step_s * 1e9))), end_ns).astype(np.int64)


def spans_between(edges_ns: Int64s) -> list[tuple[int, int]]:
    """The stretches between adjacent edges."""
    return list(zip(edges_ns[:-1].tolist(), edges_ns[1:].tolist(), strict=True))


def timeline(basis: Basis, edges_ns: Int64s) -> dict[str, Any]:
    """Series per tenant in stretches between edges, which are among the token table's."""
    requests, lengths_s = basis.requests, np.diff(edges_ns) / 1e9
    tokens = basis.table.in_spans(spans_between(edges_ns))
    due, inside = _cell(requests.scheduled_ns, edges_ns)
    sent, sent_inside = _cell(requests.sent_ns, edges_ns)
    on_time = inside & sent_inside & (due == sent)
    ttft_ms = basis.latencies["ttft_scheduled_ms"]
    tenants = {}
    for code, tenant in enumerate(basis.profile.tenants):
        own = basis.of_tenant(code)
        asked = np.bincount(due[own & inside], minlength=len(lengths_s))
        offered = np.bincount(due[own & on_time], minlength=len(lengths_s))
        waited = own & inside & ~np.isnan(ttft_ms)
        tenants[tenant.id] = {
            "asked_requests_per_s": (asked / lengths_s).tolist(),
            "offered_requests_per_s": (offered / lengths_s).tolist(),
            "output_tokens_per_s": (tokens[code] / lengths_s).tolist(),
            "ttft_scheduled_ms": percentiles_by_cell(ttft_ms[waited], due[waited], len(lengths_s), ("p50", "p95")),
            "in_flight": in_flight(requests, code, edges_ns).tolist(),
        }
    return {"t_s": (edges_ns[:-1] / 1e9).tolist(), "end_s": float(edges_ns[-1] / 1e9), "tenants": tenants}


def _cell(stamps_ns: Int64s, edges_ns: Int64s) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """The stretch that holds each stamp, and whether there is one."""
    cell = np.searchsorted(edges_ns, stamps_ns, side="right") - 1
    return cell, (cell >= 0) & (cell < len(edges_ns) - 1)


def percentiles_by_cell(
    values: Floats, cell: Int64s, cells: int, names: tuple[str, ...]
) -> dict[str, list[float | None]]:
    """Nearest-rank percentiles of the values in each cell; None in one without values.

    Args:
        values, cell: shape (n,); no NaN, cells from 0.
    """
    ordered = values[np.lexsort((values, cell))]
    counts = np.bincount(cell, minlength=cells)
    starts = np.cumsum(counts) - counts
    filled = np.flatnonzero(counts)
    series = {}
    for name in names:
        ranks = -(-PERCENTILES[name] * counts[filled] // 1000)
        of_cell: list[float | None] = [None] * cells
        for place, value in zip(filled.tolist(), ordered[starts[filled] + ranks - 1].tolist(), strict=True):
            of_cell[place] = value
        series[name] = of_cell
    return series


def in_flight(requests: Requests, tenant: int, edges_ns: Int64s) -> Floats:
    """Mean number of a tenant's requests that were sent and had not ended, in each stretch: shape (stretches,).

    One whose end is not known is in flight until the last edge.
    """
    cells, last_ns = len(edges_ns) - 1, int(edges_ns[-1])
    chosen = (requests.tenant == tenant) & (requests.sent_ns != NEVER) & (requests.sent_ns < last_ns)
    begin = np.maximum(requests.sent_ns[chosen], 0)
    end = requests.ended_ns[chosen]
    end = np.where(end == NEVER, last_ns, np.clip(end, begin, last_ns))
    first = np.searchsorted(edges_ns, begin, side="right") - 1
    last = np.minimum(np.searchsorted(edges_ns, end, side="right") - 1, cells - 1)
    # Whole stretches from the first to the last, less what lies before the begin and after the end.
    lengths_ns = np.diff(edges_ns)
    covered = np.bincount(first, minlength=cells + 1) - np.bincount(last + 1, minlength=cells + 1)
    open_ns = np.cumsum(covered)[:cells] * lengths_ns
    before = np.bincount(first, begin - edges_ns[first], cells)[:cells]
    after = np.bincount(last, edges_ns[last + 1] - end, cells)[:cells]
    return (open_ns - before - after) / lengths_ns
