"""LiveTally: what became of the requests that have ended, by tenant: in the last seconds, in a phase, in the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fairshare_locust.live.histogram import LogHistogram
from fairshare_locust.profile.model import Tenant
from fairshare_locust.record import RequestRecord
from fairshare_locust.recorder import tpot_ms

__all__ = ["WINDOW_S", "Cell", "LiveTally", "LoadGauges", "TallyDelta"]

WINDOW_S = 10
"""Whole seconds that "now" is made of."""

# Reports of other load processes come late; their seconds must still be there then.
_KEPT_S = 3 * WINDOW_S


@dataclass(frozen=True, slots=True)
class LoadGauges:
    """A tenant's load at this moment; those of several processes add up.

    Attributes:
        streams: requests that it may have in flight.
        in_flight: requests sent and not ended.
        waiting: requests that are due and not sent.
        asked: requests that have been due, since t = 0.
        sent: those of them that were sent.
    """

    streams: int = 0
    in_flight: int = 0
    waiting: int = 0
    asked: int = 0
    sent: int = 0

    def __add__(self, other: LoadGauges) -> LoadGauges:
        return LoadGauges(
            self.streams + other.streams,
            self.in_flight + other.in_flight,
            self.waiting + other.waiting,
            self.asked + other.asked,
            self.sent + other.sent,
        )


class Cell:
    """Counts of requests that have ended.

    Attributes:
        completed: those that ended `ok`.
        failed: how many had each other outcome.
        output_tokens: tokens of all of them, failed ones too.
        slo_met, slo_judged: those that met their SLO, of those that have one.
        ttft_ms: from when they were due, of all that got a token.
        ttft_sent_ms: from when they were sent, of the same.
        tpot_ms: of the same, where it applies.
        e2e_ms: from when they were due, of `ok` ones with a token.
    """

    __slots__ = (
        "completed",
        "e2e_ms",
        "failed",
        "output_tokens",
        "slo_judged",
        "slo_met",
        "tpot_ms",
        "ttft_ms",
        "ttft_sent_ms",
    )

    def __init__(self) -> None:
        self.completed = 0
        self.failed: dict[str, int] = {}
        self.output_tokens = 0
        self.slo_met = 0
        self.slo_judged = 0
        self.ttft_ms = LogHistogram()
        self.ttft_sent_ms = LogHistogram()
        self.tpot_ms = LogHistogram()
        self.e2e_ms = LogHistogram()

    @property
    def ended(self) -> int:
        """Requests counted."""
        return self.completed + sum(self.failed.values())

    def add(self, record: RequestRecord, met_slo: bool | None) -> None:
        """Count one request; `met_slo` is None for a tenant without SLO."""
        if record.outcome == "ok":
            self.completed += 1
            if record.last_token_s is not None:
                self.e2e_ms.add((record.last_token_s - record.scheduled_s) * 1000)
        else:
            self.failed[record.outcome] = self.failed.get(record.outcome, 0) + 1
        if met_slo is not None:
            self.slo_judged += 1
            self.slo_met += met_slo
        if record.first_token_s is None:
            return
        self.output_tokens += record.output_tokens or 0
        self.ttft_ms.add((record.first_token_s - record.scheduled_s) * 1000)
        if record.sent_s is not None:
            self.ttft_sent_ms.add((record.first_token_s - record.sent_s) * 1000)
        per_token_ms = tpot_ms(record)
        if per_token_ms is not None:
            self.tpot_ms.add(per_token_ms)

    def merge(self, other: Cell) -> None:
        """Count all that the other one has counted."""
        self.completed += other.completed
        for outcome, count in other.failed.items():
            self.failed[outcome] = self.failed.get(outcome, 0) + count
        self.output_tokens += other.output_tokens
        self.slo_met += other.slo_met
        self.slo_judged += other.slo_judged
        self.ttft_ms.merge(other.ttft_ms)
        self.ttft_sent_ms.merge(other.ttft_sent_ms)
        self.tpot_ms.merge(other.tpot_ms)
        self.e2e_ms.merge(other.e2e_ms)

    @classmethod
    def sum(cls, cells: Iterable[Cell]) -> Cell:
        """A new cell that has counted what all of these have."""
        total = cls()
        for cell in cells:
            total.merge(cell)
        return total

    def to_dict(self) -> dict[str, Any]:
        """For JSON or msgpack."""
        return {
            "completed": self.completed,
            "failed": dict(self.failed),
            "output_tokens": self.output_tokens,
            "slo_met": self.slo_met,
            "slo_judged": self.slo_judged,
            "ttft_ms": self.ttft_ms.to_dict(),
            "ttft_sent_ms": self.ttft_sent_ms.to_dict(),
            "tpot_ms": self.tpot_ms.to_dict(),
            "e2e_ms": self.e2e_ms.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """What `to_dict` made."""
        cell = cls()
        cell.completed = values["completed"]
        cell.failed = dict(values["failed"])
        cell.output_tokens = values["output_tokens"]
        cell.slo_met = values["slo_met"]
        cell.slo_judged = values["slo_judged"]
        cell.ttft_ms = LogHistogram.from_dict(values["ttft_ms"])
        cell.ttft_sent_ms = LogHistogram.from_dict(values["ttft_sent_ms"])
        cell.tpot_ms = LogHistogram.from_dict(values["tpot_ms"])
        cell.e2e_ms = LogHistogram.from_dict(values["e2e_ms"])
        return cell


class TallyDelta:
    """What has ended since the last report: a load process adds to it, and sends what it takes from it."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], Cell] = {}

    def add(self, record: RequestRecord, tenant: Tenant, met_slo: bool | None) -> None:
        """Count a request that has ended."""
        ended_s = record.scheduled_s if record.ended_s is None else record.ended_s
        key = (tenant.id, record.phase, math.floor(ended_s))
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell()
        cell.add(record, met_slo)

    def take(self) -> list[Any]:
        """All of it as `[tenant id, phase, second on the run clock, cell]`, for JSON or msgpack; nothing is left."""
        return [[*key, cell.to_dict()] for key, cell in self.take_cells()]

    def take_cells(self) -> Iterator[tuple[tuple[str, str, int], Cell]]:
        """The same for use in this process."""
        cells, self._cells = self._cells, {}
        return iter(cells.items())


class LiveTally:
    """Counts of all load processes, by tenant id. A second is one of the run clock, by when a request ended."""

    def __init__(self) -> None:
        self._delta = TallyDelta()
        self._seconds: dict[str, dict[int, Cell]] = {}
        self._phases: dict[tuple[str, str], Cell] = {}
        self._whole: dict[str, Cell] = {}

    def add(self, record: RequestRecord, tenant: Tenant, met_slo: bool | None) -> None:
        """Count a request of this process; `met_slo` is None for a tenant without SLO."""
        self._delta.add(record, tenant, met_slo)

    def merge(self, delta: list[Any]) -> None:
        """Count what another process took from its `TallyDelta`. Each may come once."""
        for tenant_id, phase, second, values in delta:
            self._fold(tenant_id, phase, second, Cell.from_dict(values))

    def window(self, tenant_id: str, end_s: int) -> Cell:
        """What ended in the `WINDOW_S` seconds before `end_s`, which is at most 20 s before the latest."""
        self._settle()
        seconds = self._seconds.get(tenant_id, {})
        return Cell.sum(cell for second, cell in seconds.items() if end_s - WINDOW_S <= second < end_s)

    def phase(self, tenant_id: str, phase: str) -> Cell:
        """What was scheduled in a phase and has ended."""
        self._settle()
        return self._phases.get((tenant_id, phase)) or Cell()

    def whole(self, tenant_id: str) -> Cell:
        """What has ended since t = 0."""
        self._settle()
        return self._whole.get(tenant_id) or Cell()

    def _settle(self) -> None:
        for (tenant_id, phase, second), cell in self._delta.take_cells():
            self._fold(tenant_id, phase, second, cell)

    def _fold(self, tenant_id: str, phase: str, second: int, cell: Cell) -> None:
        self._whole.setdefault(tenant_id, Cell()).merge(cell)
        self._phases.setdefault((tenant_id, phase), Cell()).merge(cell)
        seconds = self._seconds.setdefault(tenant_id, {})
        seconds.setdefault(second, Cell()).merge(cell)
        oldest = max(seconds) - _KEPT_S
        for past in [past for past in seconds if past < oldest]:
            del seconds[past]
