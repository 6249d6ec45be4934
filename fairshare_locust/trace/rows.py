"""Rows of a trace: all that were recorded, those of a cut, and those of a tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.errors import WorkloadError

__all__ = ["BLOCK_TOKENS", "Blocks", "Labels", "Rows", "TenantRows", "TraceRows"]

BLOCK_TOKENS = 512  # tokens that one hash id stands for (Mooncake, FAST '25)


@dataclass(frozen=True, slots=True)
class Labels:
    """A text for each row: `names[codes[row]]`, or none where the code is -1."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    def take(self, rows: NDArray[np.intp]) -> Labels:
        """Those of some rows."""
        return Labels(self.codes[rows], self.names)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Hash ids of each row's prompt: `ids[starts[row]:ends[row]]`. Rows that are taken share `ids`."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def take(self, rows: NDArray[np.intp]) -> Blocks:
        """Those of some rows."""
        return Blocks(self.ids, self.starts[rows], self.ends[rows])

    def of(self, row: int) -> tuple[int, ...]:
        """The hash ids of one row."""
        return tuple(self.ids[self.starts[row] : self.ends[row]].tolist())


@dataclass(frozen=True, slots=True)
class Rows:
    """Recorded requests, in the order of their times; arrays of the same length n.

    Attributes:
        times_s: seconds since the trace's first row.
        output_tokens: 0 for a request that failed.
        sessions, models: None for a format that has none.
        blocks: prefix blocks; None for a format that has none.
    """

    times_s: NDArray[np.float64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    sessions: Labels | None = None
    models: Labels | None = None
    blocks: Blocks | None = None

    def __len__(self) -> int:
        return len(self.times_s)

    def take(self, rows: NDArray[np.intp]) -> Rows:
        """Some of them, in the given order."""
        return Rows(
            self.times_s[rows],
            self.input_tokens[rows],
            self.output_tokens[rows],
            self.sessions and self.sessions.take(rows),
            self.models and self.models.take(rows),
            self.blocks and self.blocks.take(rows),
        )

    def in_order(self) -> Rows:
        """By time; rows of the same time stay as they stood in the file."""
        if np.all(self.times_s[:-1] <= self.times_s[1:]):
            return self
        return self.take(np.argsort(self.times_s, kind="stable"))


@dataclass(frozen=True, slots=True)
class TenantRows:
    """The rows that one tenant sends, by time; arrays of the same length n ≥ 1.

    Attributes:
        times_s: seconds since the cut begins, never decreasing.
        input_tokens: as recorded, 0 included.
        output_tokens: at least 1.
    """

    times_s: NDArray[np.float64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    blocks: Blocks | None = None

    def __len__(self) -> int:
        return len(self.times_s)

    def hash_blocks(self, row: int) -> tuple[int, ...]:
        """Hash ids of the row's prompt, one for each `BLOCK_TOKENS` tokens; empty where the trace has none."""
        return () if self.blocks is None else self.blocks.of(row)


@dataclass(frozen=True, slots=True)
class TraceRows:
    """The rows of a trace's cut, and who sends which.

    Attributes:
        rows: of the cut, without failures; times from where the cut begins.
        failures: rows of the cut that were left out, as their answer had no token.
        owners: tenant → its rows, ascending; None: each tenant sends all of them.
    """

    name: str
    rows: Rows
    failures: int
    owners: Mapping[str, NDArray[np.intp]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def of_tenant(self, tenant_id: str) -> TenantRows:
        """The rows of one tenant. Raises WorkloadError for one that the trace assigns nothing to."""
        rows = self.rows
        if self.owners is not None:
            if tenant_id not in self.owners:
                raise WorkloadError(
                    f"traces.{self.name}: assigns no row to tenant {tenant_id!r}; "
                    f"it has rows for {', '.join(self.owners)}"
                )
            rows = rows.take(self.owners[tenant_id])
        return TenantRows(rows.times_s, rows.input_tokens, rows.output_tokens, rows.blocks)
