"""Attainment: how many of a tenant's measured requests have met its SLO, counted while the run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fairshare_locust.profile.model import Slo, Tenant
from fairshare_locust.record import RequestRecord
from fairshare_locust.record.record import tpot_ms

__all__ = ["Attainment", "Broken", "meets"]


def meets(record: RequestRecord, slo: Slo) -> bool:
    """Whether a request met all its limits; TTFT and e2e count from when it was due.

    A failure is a miss, an answer without any token misses both of these, and a TPOT that does not apply is left out.
    """
    if record.outcome != "ok":
        return False
    for limit_ms, at_s in ((slo.ttft_ms, record.first_token_s), (slo.e2e_ms, record.last_token_s)):
        if limit_ms is not None and (at_s is None or (at_s - record.scheduled_s) * 1000 > limit_ms):
            return False
    per_token_ms = tpot_ms(record)
    return slo.tpot_ms is None or per_token_ms is None or per_token_ms <= slo.tpot_ms


@dataclass(frozen=True, slots=True)
class Broken:
    """An SLO that too few requests met."""

    tenant: Tenant
    met: int
    scheduled: int

    def __str__(self) -> str:
        assert self.tenant.slo is not None
        return (
            f"tenant {self.tenant.id!r}: {self.met} of {self.scheduled} requests met its SLO "
            f"({self.met / self.scheduled:.1%}, wanted {self.tenant.slo.attainment:.1%})"
        )


class Attainment:
    """Counts by phase and tenant. Requests of tenants without SLO, or scheduled outside measurement, do not count."""

    def __init__(self) -> None:
        self._met: Counter[tuple[str, str]] = Counter()
        self._scheduled: Counter[tuple[str, str]] = Counter()

    def add(self, record: RequestRecord, tenant: Tenant) -> bool | None:
        """Take in a record; its phase's last part says whether it was measured.

        Returns whether it met the SLO, measured or not; None for a tenant without one.
        """
        if tenant.slo is None:
            return None
        met = meets(record, tenant.slo)
        prefix, _, part = record.phase.rpartition("/")
        if part.startswith("measure"):
            self._scheduled[prefix, tenant.id] += 1
            self._met[prefix, tenant.id] += met
        return met

    def counts(self) -> list[list[Any]]:
        """All of it as `[phase, tenant id, met, scheduled]`, for JSON or msgpack."""
        return [[*key, self._met[key], scheduled] for key, scheduled in self._scheduled.items()]

    @classmethod
    def of(cls, counts: Iterable[Sequence[Any]]) -> Attainment:
        """What these, of one process or several, add up to."""
        attainment = cls()
        for phase, tenant_id, met, scheduled in counts:
            attainment._met[phase, tenant_id] += met
            attainment._scheduled[phase, tenant_id] += scheduled
        return attainment

    def broken(self, prefix: str, tenants: tuple[Tenant, ...]) -> list[Broken]:
        """The SLOs that are broken in the phase with this prefix (`load-2/`). A tenant without requests broke none."""
        phase = prefix.rstrip("/")
        return [
            Broken(tenant, self._met[phase, tenant.id], scheduled)
            for tenant in tenants
            if tenant.slo is not None
            and (scheduled := self._scheduled[phase, tenant.id])
            and self._met[phase, tenant.id] / scheduled < tenant.slo.attainment
        ]
