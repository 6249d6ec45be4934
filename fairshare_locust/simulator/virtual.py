"""Virtual time: a whole profile on the modelled machine, without sockets and without waiting, as an ordinary run.

The phases, the schedules, the requests and their names are those of a Locust run of the same profile. What is not the
same: nothing takes time but the model's steps, so a request is sent the moment that it is due, if a slot is free; a
later turn of a conversation has the length of the answers before it, but not their text (its `prompt_sha` is null, and
where answers end by themselves its own may end elsewhere); and a phase begins when the drain before it ends.
"""

from __future__ import annotations

import heapq
import math
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairshare_locust import __version__
from fairshare_locust.arrival import ArrivalQueue, first_exhausted_s
from fairshare_locust.attainment import Attainment
from fairshare_locust.cell import cell_keys
from fairshare_locust.distributed.lost import due_by_schedule
from fairshare_locust.errors import RunDirectoryError, ServingError
from fairshare_locust.parts import LoadSpan, Part, PhaseTimes, absences, open_part, window_end
from fairshare_locust.plan import Phase, apply_plan, phases_of, slots_of
from fairshare_locust.profile import Profile, resolved_yaml
from fairshare_locust.record import RecordStore, RequestRecord, RunDirectory
from fairshare_locust.record.run_directory import SCHEMA, replace_file
from fairshare_locust.serving.sharing import label_of
from fairshare_locust.serving.sharing_file import write_sharing
from fairshare_locust.simulator.flights import Flights
from fairshare_locust.simulator.machine import machine_of
from fairshare_locust.simulator.slots import Held, TenantSlots
from fairshare_locust.telemetry import Telemetry
from fairshare_locust.trace import load_traces, row_times
from fairshare_locust.workload import prepare_prompts

__all__ = ["VirtualRun"]

_FLUSH_EVERY = 5000  # records


class VirtualRun:
    """One run in virtual time. `run` does all of it.

    Attributes:
        profile: as the plan made it.
        directory: the run directory, once it has begun.
        notes: what a reader of its figures has to know.
    """

    def __init__(self, profile: Profile, plan: str) -> None:
        """Raises FairshareError for a profile that can't be run so, or a partition that does not fit the card."""
        if profile.deployment.engine != "simulator":
            raise ServingError(
                f"deployment.engine: found {profile.deployment.engine!r}; virtual time needs a modelled GPU: say "
                "engine: simulator"
            )
        self.profile = apply_plan(plan, profile)
        self.directory: RunDirectory | None = None
        self._cell = cell_keys()
        self._plan_name = plan
        self._plan = phases_of(self.profile)
        self._machine, parts = machine_of(self.profile)
        self._part_of = {tenant_id: part.index for part in parts for tenant_id in part.tenants}
        self._traces = load_traces(self.profile)
        template_tokens = profile.deployment.simulator.chat_template_tokens
        self._overheads = {t.id: template_tokens if t.api == "openai_chat" else 0 for t in self.profile.tenants}
        self._prompts = prepare_prompts(self.profile, self._plan, self._traces, self._overheads, checked=False)
        self._endpoints = {tenant_id: f"virtual:{part}" for tenant_id, part in self._part_of.items()}
        self._flights = Flights(
            self.profile, self._machine, self._part_of, self._endpoints, self._prompts, self._take_in
        )
        most = slots_of(self.profile)
        self._slots = {
            tenant.id: TenantSlots(
                tenant,
                self.profile.seed,
                self._prompts[tenant.id],
                row_times(tenant, self._traces),
                most[tenant.id],
                self._hold,
                self._flights.record_unsent,
            )
            for tenant in self.profile.tenants
        }
        self._attainment = Attainment()
        self._store: RecordStore | None = None
        self._recorded = 0
        self._now_s = 0.0
        self._due: list[tuple[float, int, TenantSlots, int, Held]] = []
        self._holds = 0
        self._parts: list[dict[str, Any]] = []
        self._spans: list[LoadSpan] = []
        self.notes = absences(self.profile, self._plan)
        if profile.deployment.simulator.faults:
            self.notes.append("deployment.simulator.faults: a server has them, virtual time has none")
        for trace in self._traces.values():
            if trace.failures:
                self.notes.append(f"trace {trace.name!r}: {trace.failures} rows without an answer are left out")

    def run(self, out: Path, name: str | None = None) -> RunDirectory:
        """Run the phases into a new directory under `out`, called by the time and `name`, else the profile's name.

        Raises RunDirectoryError when it can't be written.
        """
        self.directory = directory = RunDirectory.create(out, name or self.profile.name)
        started_unix_s = time.time()
        try:
            replace_file(directory.profile, resolved_yaml(self.profile).encode())
            write_sharing(self.profile, directory.path)
            self._store = store = RecordStore(directory.requests, directory.texts)
            self._write_run(started_unix_s, "running", None)
            for number, phase in enumerate(self._plan):
                last = number == len(self._plan) - 1
                self._run_phase(number, phase)
                if phase.stop_if_slo_breaks and self._breaks(phase, last=last):
                    break
            unwritten, _ = store.close()
            self._write_run(started_unix_s, "complete", round(self._now_s, 6))
        except OSError as error:
            raise RunDirectoryError(f"{directory.path} can't be written: {error.strerror}; free some space") from error
        if unwritten:
            raise RunDirectoryError(f"{directory.requests} has no room for {len(unwritten)} bytes; free some space")
        return directory

    # --- phases

    def _run_phase(self, number: int, phase: Phase) -> None:
        start_s = self._now_s
        times = PhaseTimes(self.profile, phase, start_s)
        if times.warmup is not None:
            open_part(self._parts, phase, times.warmup, measured=False)
        self._spans.append(LoadSpan(number, start_s, times.window.end_s))
        queues: dict[str, ArrivalQueue] = {}
        self._flights.prefix = phase.prefix
        if phase.requests is None:
            self._flights.phase_of = times.name_at
        else:
            self._flights.phase_of = lambda due_s: times.name_at(due_s, first_exhausted_s(queues.values()))
        for tenant in times.tenants:
            queues[tenant.id] = self._slots[tenant.id].begin(times, start_s)
        self._run_until(times.window.measure_s)
        end_s = times.window.end_s
        for part in times.parts:
            open_part(self._parts, phase, part, measured=bool(part.tenants))
            if phase.requests is None:
                self._run_until(part.end_s)
            else:
                end_s = self._run_out(phase, queues)
        self._drain(phase, end_s)

    def _drain(self, phase: Phase, end_s: float) -> None:
        span = self._spans[-1]
        self._spans[-1] = replace(span, end_s=min(span.end_s, max(span.start_s, end_s)))
        open_part(self._parts, phase, Part("drain", end_s, math.inf, ()), measured=False)
        until_s = self._now_s + phase.drain_s
        while self._busy():
            if not self._go_on(until_s):
                self._now_s = until_s
                break
        why = f"not finished {phase.drain_s:g} s after the measurement"
        for slots in self._slots.values():
            slots.end(why, self._now_s)
        self._flights.abort_all(why, self._now_s)
        self._due.clear()
        self._parts[-1]["end_s"] = round(self._now_s, 6)

    def _busy(self) -> bool:
        return bool(self._flights) or any(slots.waiting for slots in self._slots.values())

    def _run_out(self, phase: Phase, queues: Mapping[str, ArrivalQueue]) -> float:
        """Go on until every tenant has had its number of requests; the end of the stretch where all offer load."""
        while True:
            ends_s = {tenant_id: queue.exhausted_s for tenant_id, queue in queues.items()}
            known_s = {tenant_id: end_s for tenant_id, end_s in ends_s.items() if end_s is not None}
            until_s = max(known_s.values()) if len(known_s) == len(ends_s) else math.inf
            if until_s <= self._now_s:
                break
            if not self._go_on(until_s):
                if until_s == math.inf:  # nobody will ever ask for what is left
                    break
                self._now_s = until_s
        end_s, note = window_end(ends_s, phase.requests, self._now_s)
        if note is not None:
            self.notes.append(note)
        return end_s

    def _breaks(self, phase: Phase, *, last: bool) -> bool:
        """Whether a tenant's SLO was broken in a phase that is over; if so, noted."""
        tenants = tuple(tenant for tenant in self.profile.tenants if tenant.id in phase.tenants)
        broken = self._attainment.broken(phase.prefix, tenants)
        if broken:
            end = "" if last else "; the phases after it are left out"
            self.notes.append(f"{phase.prefix.rstrip('/')}: {'; '.join(map(str, broken))}{end}")
        return bool(broken)

    # --- time

    def _run_until(self, until_s: float) -> None:
        while self._go_on(until_s):
            pass
        self._now_s = max(self._now_s, until_s)

    def _go_on(self, until_s: float) -> bool:
        """Time goes to what happens next, and that happens; False if nothing does until `until_s`.

        A step ends, a request is sent, or a timeout runs out. Each step takes time, and so does each request: of those
        that are due at one moment there are no more than slots, or than the schedule has.
        """
        flight_s = self._flights.next_s
        due_s = self._due[0][0] if self._due else math.inf
        at_s = min(flight_s, due_s)
        if at_s > until_s or at_s == math.inf:
            return False
        self._now_s = max(self._now_s, at_s)
        if flight_s <= due_s:
            self._flights.advance(self._now_s)
        else:
            _, _, slots, slot, held = heapq.heappop(self._due)
            if slots.send(slot, held):
                self._flights.send(slots, slot, held, self._now_s)
        return True

    def _hold(self, slots: TenantSlots, slot: int, held: Held) -> None:
        self._holds += 1
        heapq.heappush(self._due, (max(held.arrival.due_s, self._now_s), self._holds, slots, slot, held))

    # --- files

    def _take_in(self, slots: TenantSlots, record: RequestRecord) -> None:
        assert self._store is not None
        self._attainment.add(record, slots.tenant)
        self._store.append(record.to_json())
        self._recorded += 1
        if self._recorded % _FLUSH_EVERY == 0:
            self._store.flush()

    def _write_run(self, started_unix_s: float, state: str, ended_s: float | None) -> None:
        assert self.directory is not None
        due = {} if ended_s is None else due_by_schedule(self.profile, self._traces, self._spans)
        worker = {
            "index": 0,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "state": state,
            "clock_offset_s": 0.0,
            "clock": None,
            "health": None,
        }
        self.directory.write_run(
            {
                "schema": SCHEMA,
                "state": state,
                "time": "virtual",
                "name": self.profile.name,
                "plan": self._plan_name,
                "seed": self.profile.seed,
                "versions": {"fairshare_locust": __version__, "python": platform.python_version()},
                "hosts": [
                    {
                        "hostname": socket.gethostname(),
                        "platform": platform.platform(),
                        "cpu_count": os.cpu_count(),
                    }
                ],
                "telemetry": Telemetry().describe(),
                "servers": self._servers(),
                "t0": {"unix_s": started_unix_s, "monotonic_s": 0.0} if self._parts else None,
                "ended_s": ended_s,
                "workers": [worker],
                "phases": self._parts,
                "asked": {
                    tenant_id: {"scheduled": slots.scheduled, "due": due.get(tenant_id)}
                    for tenant_id, slots in self._slots.items()
                },
                "notes": self.notes,
                **self._cell,
            }
        )

    def _servers(self) -> Sequence[dict[str, Any]]:
        """The engines as tenants meet them, as `run.json` has servers."""
        servers: list[dict[str, Any]] = []
        sharing = self.profile.deployment.sharing
        for tenant in self.profile.tenants:
            server: dict[str, Any] = {
                "endpoint": self._endpoints[tenant.id],
                "engine": "simulator",
                "sharing": sharing,
                "sharing_label": label_of(sharing),
                "part": None if sharing == "logical" else self._part_of[tenant.id],
                "simulated": True,
                "command": [],
                "pid": None,
                "family": "simulator",
                "fixed_length": tenant.api != "tgi",
                "model": tenant.model or self.profile.model.name,
                "max_model_len": self.profile.deployment.simulator.max_model_len,
                "prompt_overhead_tokens": self._overheads[tenant.id],
            }
            if server not in servers:
                servers.append(server)
        return servers
