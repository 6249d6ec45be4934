"""Token arrivals: when each content chunk of each request came, and how many tokens it is counted for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.requests import Int64s, Mask, Requests
from analysis.window import Window

__all__ = ["Arrivals", "TokenTable", "arrivals", "tabulate", "tokens_by_cell"]

_BLOCK_CHUNKS = 1 << 21


@dataclass(frozen=True, eq=False)
class Arrivals:
    """m content chunks: the request each belongs to, when it arrived (run clock, ns), its tokens."""

    request: Int64s
    time_ns: Int64s
    tokens: npt.NDArray[np.float64]


def arrivals(requests: Requests, chosen: Mask) -> Iterator[Arrivals]:
    """The content chunks of the chosen requests, in blocks of whole requests that fit the processor's reach.

    Chunk k arrives at `first_token_s` + the gaps before it. A request's output tokens are spread over its
    chunks by `chunk_tokens`, evenly where unknown.
    """
    chunks = np.where(chosen, requests.chunks, 0)
    ends = np.cumsum(chunks)
    first = 0
    while first < len(requests):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _BLOCK_CHUNKS, side="right")))
        if ends[last - 1] > done:
            yield _block(requests, chosen, chunks, first, last)
        first = last


def _block(requests: Requests, chosen: Mask, all_chunks: Int64s, first: int, last: int) -> Arrivals:
    rows = first + np.flatnonzero(all_chunks[first:last])
    chunks = all_chunks[rows]
    starts = np.cumsum(chunks) - chunks
    size = int(chunks.sum())

    later = np.ones(size, np.bool_)
    later[starts] = False
    gap_part = slice(requests.gap_start[first], requests.gap_start[last])
    gaps = requests.gap_us[gap_part]
    if not chosen[first:last].all():
        gaps = gaps[np.repeat(chosen[first:last], np.diff(requests.gap_start[first : last + 1]))]
    elapsed = np.zeros(size, np.int64)
    elapsed[later] = gaps
    np.cumsum(elapsed, out=elapsed)
    elapsed *= 1000
    elapsed += np.repeat(requests.first_token_ns[rows] - elapsed[starts], chunks)

    tokens = np.repeat(requests.output_tokens[rows] / chunks, chunks)
    telling = chosen[first:last] & requests.tells_tokens[first:last]
    if telling.any():
        part = slice(requests.chunk_start[first], requests.chunk_start[last])
        told = requests.chunk_tokens[part][np.repeat(telling, np.diff(requests.chunk_start[first : last + 1]))]
        of_row = telling[rows - first]
        sums = np.add.reduceat(told, (np.cumsum(chunks[of_row]) - chunks[of_row])).astype(np.float64)
        scale = np.divide(requests.output_tokens[rows[of_row]], sums, where=sums > 0, out=np.zeros_like(sums))
        spread = told * np.repeat(scale, chunks[of_row])
        usable = np.repeat(sums > 0, chunks[of_row])  # all zeros tell nothing: spread evenly
        tokens[np.flatnonzero(np.repeat(of_row, chunks))[usable]] = spread[usable]
    return Arrivals(np.repeat(rows, chunks), elapsed, tokens)


def tokens_by_cell(
    requests: Requests, group: npt.NDArray[np.integer], groups: int, edges_ns: Int64s
) -> npt.NDArray[np.float64]:
    """Tokens that arrived in each cell `[edge, next edge)`, per group of requests: shape (groups, edges - 1).

    Args:
        group: shape (n,), the group of each request; a negative one leaves it out.
        edges_ns: ascending, at least one.
    """
    cells = len(edges_ns) + 1  # one more on either side for what falls outside
    sums = np.zeros(groups * cells)
    for block in arrivals(requests, group >= 0):
        cell = np.searchsorted(edges_ns, block.time_ns, side="right")
        cell += group[block.request].astype(np.int64) * cells
        sums += np.bincount(cell, weights=block.tokens, minlength=len(sums))
    return sums.reshape(groups, cells)[:, 1:-1]


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Tokens that arrived, by tenant, by whether their request met its SLOs, and by stretch of time.

    Attributes:
        edges_ns: ascending; cell k is `[edges_ns[k], edges_ns[k + 1])`.
        tokens: shape (tenants, 2, cells); the second axis is 1 for requests that met their SLOs.
    """

    edges_ns: Int64s
    tokens: npt.NDArray[np.float64]

    def within(self, window: Window) -> npt.NDArray[np.float64]:
        """Tokens inside a window whose edges are edges of the table: shape (tenants, 2)."""
        inside: npt.NDArray[np.float64] = self.tokens[:, :, window.contains(self.edges_ns[:-1])].sum(axis=2)
        return inside

    def in_spans(self, spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
        """Tokens inside each span `[start, end)`, whose ends are edges of the table: shape (tenants, spans).

        Args:
            spans: not empty, disjoint and ascending.
        """
        tokens = np.append(self.tokens.sum(axis=1), np.zeros((len(self.tokens), 1)), axis=1)  # a span may end the table
        if not spans:
            return np.zeros((len(self.tokens), 0))
        ends = np.searchsorted(self.edges_ns, np.array(spans, np.int64).ravel())
        sums: npt.NDArray[np.float64] = np.add.reduceat(tokens, ends, axis=1)[:, ::2]
        return sums


def tabulate(requests: Requests, tenants: int, met_slos: Mask, windows: Iterable[Window]) -> TokenTable:
    """Count every token once, in cells that make up all of `windows`.

    Args:
        tenants: how many there are.
        met_slos: shape (n,), the requests that met all their SLOs.
    """
    stamps = {stamp for window in windows for span in window.spans for stamp in span}
    edges = np.array(sorted(stamps or {0}), np.int64)
    cells = tokens_by_cell(requests, requests.tenant * 2 + met_slos, tenants * 2, edges)
    return TokenTable(edges, cells.reshape(tenants, 2, -1))
