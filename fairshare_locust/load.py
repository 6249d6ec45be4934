"""Load: what carries out a run's phases. LoadProcess: this process's part of it, or all of it."""

from __future__ import annotations

import gc
import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
from locust.env import Environment

from fairshare_locust.arrival import ArrivalQueue, first_exhausted_s
from fairshare_locust.attainment import Attainment
from fairshare_locust.clock import RunClock
from fairshare_locust.health import HealthSampler
from fairshare_locust.live.tally import LoadGauges
from fairshare_locust.otel import trace_requests
from fairshare_locust.parts import LoadSpan, PhaseTimes
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile
from fairshare_locust.profile.model import Tenant
from fairshare_locust.record import RecordStore, RequestRecord
from fairshare_locust.recorder import Recorder
from fairshare_locust.serving import Server
from fairshare_locust.trace import TraceRows, row_times
from fairshare_locust.users import TenantLoad
from fairshare_locust.workload import PromptSource

__all__ = ["Load", "LoadProcess", "Prepared", "Tallying"]

_POLL_S = 0.02
# What is told to stop needs a moment to do so.
_ABORT_WITHIN_S = 2.0


class Tallying(Protocol):
    """What counts requests as they end: `LiveTally`, `TallyDelta`."""

    def add(self, record: RequestRecord, tenant: Tenant, met_slo: bool | None) -> None:
        """Count one; `met_slo` is None for a tenant without SLO."""


@dataclass(frozen=True)
class Prepared:
    """What a load needs to know: who asks whom for what. By tenant id; `traces` by name."""

    prompts: Mapping[str, PromptSource]
    traces: Mapping[str, TraceRows]
    servers: Mapping[str, Sequence[Server]]


class Load(Protocol):
    """Carries out phases, one after another.

    Attributes:
        lead_s: how long before its start a phase has to be told.
        attainment: of the phases that have ended.
    """

    lead_s: float

    @property
    def attainment(self) -> Attainment:
        """See above."""
        ...

    def begin(self, clock: RunClock) -> None:
        """t = 0 is known: the clock says so."""
        ...

    def begin_phase(self, number: int, start_s: float) -> None:
        """The plan's phase with this number begins then, on the run clock."""
        ...

    def idle(self, since_s: float) -> bool:
        """Whether, at `since_s` on the run clock or later, nothing was due any more and nothing in flight."""
        ...

    def exhausted_s(self) -> Mapping[str, float | None]:
        """When each tenant of the phase had had its number of requests, by tenant id; None for one that has not."""
        ...

    def end_phase(self, why: str) -> None:
        """The phase is over: what is open is cancelled, and every record of it made."""
        ...

    def end(self, why: str) -> None:
        """Nothing more is sent, what is open is cancelled. Safe to call twice."""
        ...

    def close(self) -> None:
        """Every user has stopped: make the last records, leave nothing running."""
        ...

    def release(self, *, keep: bool) -> None:
        """The records are in the run's files; `keep` if some are not, and copies elsewhere are to stay.

        Safe to call twice.
        """
        ...

    def settle_accounts(self, spans: Sequence[LoadSpan]) -> None:
        """Everything is in the run's files: reckon up what is missing. May read all of it."""
        ...

    def abandon(self) -> None:
        """Make the records of what has ended; the process is about to end."""
        ...

    def scheduled(self) -> Mapping[str, int]:
        """Requests that have fallen due, by tenant id."""
        ...

    def gauges(self) -> Mapping[str, LoadGauges]:
        """The load of this moment, by tenant id."""
        ...

    def health(self) -> Mapping[str, Any] | None:
        """Of the process that is worst off, as `HealthSampler.summary`; None while there is none."""
        ...

    def describe(self) -> list[dict[str, Any]]:
        """The load processes, as `run.json` has them."""
        ...


class LoadProcess:
    """The load that this process makes, number `worker` of `workers`: its slots of every tenant.

    Attributes:
        loads: by tenant id; what the user classes need.
    """

    lead_s = 0.1  # slots that wait at the gate need a moment to wake

    def __init__(
        self,
        profile: Profile,
        prepared: Prepared,
        store: RecordStore,
        clock: RunClock,
        environment: Environment,
        tally: Tallying,
        *,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._profile = profile
        self._clock = clock
        self._worker = worker
        self._tally = tally
        self._plan = phases_of(profile)
        self.attainment = Attainment()
        self._recorder = Recorder(store, environment, clock, self._take_in)
        self._health: HealthSampler | None = None
        self._end_tracing = trace_requests(environment, lambda: clock.unix_s)
        self._measured_until_s = math.inf
        self._times: PhaseTimes | None = None
        self._queues: dict[str, ArrivalQueue] = {}
        self.loads = {
            tenant.id: TenantLoad(
                tenant,
                profile.seed,
                prepared.prompts[tenant.id],
                row_times(tenant, prepared.traces),
                prepared.servers[tenant.id],
                self._recorder,
                clock,
                environment,
                worker,
                workers,
            )
            for tenant in profile.tenants
        }

    def _take_in(self, record: RequestRecord, tenant: Tenant) -> None:
        self._tally.add(record, tenant, self.attainment.add(record, tenant))

    # --- phases

    def begin(self, clock: RunClock) -> None:
        """See Load; the clock is the one that this load was made with."""
        # What is there now stays: the collector need not look at it again while stamps are taken.
        gc.collect()
        gc.freeze()
        self._health = HealthSampler(clock, self._measured)

    def begin_phase(self, number: int, start_s: float) -> None:
        """See Load."""
        times = PhaseTimes(self._profile, self._plan[number], start_s)
        queues: dict[str, ArrivalQueue] = {}

        def part_of(due_s: float) -> str:
            return times.name_at(due_s, first_exhausted_s(queues.values()))

        for tenant in times.tenants:
            queue = self.loads[tenant.id].begin(times, part_of)
            if queue is not None:
                queues[tenant.id] = queue
        self._times, self._queues = times, queues

    def _measured(self, at_s: float) -> bool:
        """Whether requests that are due then are measured."""
        if self._times is None:
            return False
        window = self._times.window
        until_s = min(window.end_s, first_exhausted_s(self._queues.values()), self._measured_until_s)
        return window.measure_s <= at_s < until_s

    def idle(self, since_s: float) -> bool:
        """See Load."""
        return self._clock.now_s() >= since_s and not any(
            load.in_flight or load.waiting for load in self.loads.values()
        )

    def exhausted_s(self) -> dict[str, float | None]:
        """See Load; of the tenants that this process has a share of."""
        return {tenant_id: queue.exhausted_s for tenant_id, queue in self._queues.items()}

    def end_phase(self, why: str) -> None:
        """See Load."""
        self._end_loads(why)
        with gevent.Timeout(_ABORT_WITHIN_S, False):
            while any(load.in_flight for load in self.loads.values()):
                gevent.sleep(_POLL_S)
        self._recorder.settle()

    def end(self, why: str) -> None:
        """See Load. Users that are still in a request end it when Locust stops them."""
        now_s = self._clock.now_s()
        self._measured_until_s = min(self._measured_until_s, now_s)
        for load in self.loads.values():
            load.cut(now_s)
        self._end_loads(why)

    def _end_loads(self, why: str) -> None:
        for load in self.loads.values():
            load.end(why)

    def close(self) -> None:
        """See Load."""
        gc.unfreeze()
        if self._health is not None:
            self._health.stop()
        for load in self.loads.values():
            load.close()
        self._recorder.close()
        self._end_tracing()

    def release(self, *, keep: bool) -> None:
        """See Load: there are no copies."""

    def settle_accounts(self, spans: Sequence[LoadSpan]) -> None:
        """See Load: nothing is."""

    # --- accounts

    def abandon(self) -> None:
        """See Load."""
        self._recorder.settle()

    def scheduled(self) -> dict[str, int]:
        """See Load."""
        return {tenant_id: load.scheduled for tenant_id, load in self.loads.items()}

    def gauges(self) -> dict[str, LoadGauges]:
        """See Load."""
        return {tenant_id: load.gauges() for tenant_id, load in self.loads.items()}

    def health(self) -> dict[str, Any] | None:
        """See Load."""
        return None if self._health is None else self._health.summary()

    def describe(self) -> list[dict[str, Any]]:
        """See Load."""
        state = "running" if self._recorder.open else "complete"
        clock = {"clock_offset_s": 0.0, "clock": None}
        return [{"index": self._worker, **this_process(), "state": state, **clock, "health": self.health()}]


def this_process() -> dict[str, Any]:
    """Who this is, as `run.json` has it."""
    return {"hostname": socket.gethostname(), "pid": os.getpid()}
