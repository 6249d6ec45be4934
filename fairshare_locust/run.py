"""Run: one run of a profile, from its preparation to its last file. It conducts; the parts do the work."""

from __future__ import annotations

import gc
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import gevent
import locust
import orjson
from locust.env import Environment

from fairshare_locust import __version__
from fairshare_locust.arrival import ArrivalQueue, Window
from fairshare_locust.attainment import Attainment
from fairshare_locust.child import child_command, child_environment
from fairshare_locust.clock import RunClock
from fairshare_locust.errors import FairshareError
from fairshare_locust.health import HealthSampler
from fairshare_locust.live.monitor import Monitor
from fairshare_locust.live.terminal import terminal_view
from fairshare_locust.live.view import RunStatus
from fairshare_locust.locust_csv import LocustCsv
from fairshare_locust.offered import asked_lengths
from fairshare_locust.options import Options
from fairshare_locust.parts import Part, absences, measured_parts, present
from fairshare_locust.plan import Phase, apply_plan, phases_of, slots_of
from fairshare_locust.profile import Profile, resolved_yaml
from fairshare_locust.profile.model import Tenant
from fairshare_locust.record import RequestRecord, RunDirectory
from fairshare_locust.record.run_directory import SCHEMA, replace_file
from fairshare_locust.recorder import Recorder
from fairshare_locust.serving import Deployed, check_external, deploy, server_notes
from fairshare_locust.serving.probe import api_key
from fairshare_locust.telemetry import Telemetry
from fairshare_locust.trace import TraceRows, load_traces, row_times
from fairshare_locust.users import TenantLoad
from fairshare_locust.workload import PromptSource, load_tokenizer, prepare_prompts

__all__ = ["Run"]

State = Literal["running", "complete", "interrupted"]

# Slots that wait at the gate need a moment to wake, before the first requests are due.
_LEAD_S = 0.1
_POLL_S = 0.02
_CONTEXT_SAMPLE = 500
# What is told to stop at the end of a drain needs a moment to do so.
_ABORT_WITHIN_S = 2.0


class Run:
    """One run. `prepare` before any user is spawned, `begin` when all are, `end_load` and `finalise` after it.

    Attributes:
        problem: what went wrong while the run was finalised, for the exit code; None if nothing did.
        profile: as the plan made it.
        slots: the streams, each a Locust user, that a tenant needs.
        summary: `summary.json` once the run has been analysed.
        live: the figures of now, once a run is set up.
        report: the analysis as it is printed; None without one.
    """

    def __init__(self, environment: Environment, profile: Profile, plan: str, options: Options) -> None:
        self._environment = environment
        self._options = options
        self._plan_name = plan
        self.profile = apply_plan(plan, profile)
        self.plan = phases_of(self.profile)
        self.slots = slots_of(self.profile)
        self.problem: str | None = None
        self.summary: dict[str, Any] | None = None
        self.report: str | None = None
        self.state: State = "running"
        self._prompts: Mapping[str, PromptSource] = {}
        self._traces: Mapping[str, TraceRows] = {}
        self._attainment = Attainment()
        self._headless = bool(getattr(environment.parsed_options, "headless", True))
        self.live: Monitor | None = None
        self._deployed = Deployed({})
        self._telemetry = Telemetry()
        self._directory: RunDirectory | None = None
        self._clock: RunClock | None = None
        self._recorder: Recorder | None = None
        self._health: HealthSampler | None = None
        self._csv: LocustCsv | None = None
        self.loads: dict[str, TenantLoad] = {}
        self._phases: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._load_ended = False
        self._finalised = False

    # --- preparation

    def prepare(self) -> None:
        """Everything that can fail, before any load is sent. Raises FairshareError."""
        for tenant in self.profile.tenants:
            api_key(tenant)
        self._traces = load_traces(self.profile)
        external = self.profile.deployment.engine == "external"
        if external:
            self._deployed = check_external(self.profile, load_tokenizer(self.profile.model.tokenizer))
            overheads = self._deployed.prompt_overhead_tokens()
        else:
            template_tokens = self.profile.deployment.simulator.chat_template_tokens
            overheads = {t.id: template_tokens if t.api == "openai_chat" else 0 for t in self.profile.tenants}
        self._prompts = prepare_prompts(self.profile, self.plan, self._traces, overheads)
        directory = RunDirectory.create(self._options.out, self.profile.name)
        self._directory = directory
        try:
            self._write_run(None)
            replace_file(directory.profile, resolved_yaml(self.profile).encode())
            if not external:
                self._deployed = deploy(self.profile, directory.logs)
            self._note_servers()
            self._telemetry = Telemetry.start(self.profile, self._deployed.servers, directory, self._deployed.dcgm_url)
            for note in self._telemetry.notes:
                _tell(note)
            self._telemetry.on_note = _tell
            self._write_run(None)
        except OSError as error:
            self.stop_servers()
            raise FairshareError(f"{directory.path} can't be written: {error.strerror}; free some space") from error
        except BaseException:  # Ctrl-C too
            self.stop_servers()
            self.state = "interrupted"
            self._write_run(0.0)
            raise

    def _note_servers(self) -> None:
        for tenant in self.profile.tenants:
            families = [server.family for server in self._deployed.servers[tenant.id]]
            forced = all(family.ignore_eos or family.generation_config for family in families)
            if tenant.sampling.ignore_eos and not forced:
                self.note(
                    f"tenant {tenant.id!r}: its server takes no request for a fixed length; answers may end before "
                    "the wanted number of tokens"
                )
            for note in server_notes(tenant, self._deployed.servers[tenant.id]):
                self.note(f"tenant {tenant.id!r}: {note}")
            self._note_context(tenant.id)
        for absence in absences(self.profile, self.plan):
            self.note(absence)
        for trace in self._traces.values():
            if trace.failures:
                self.note(f"trace {trace.name!r}: {trace.failures} rows without an answer are left out")

    def _note_context(self, tenant_id: str) -> None:
        limits = [server.max_model_len for server in self._deployed.servers[tenant_id] if server.max_model_len]
        if not limits:
            return
        prompts = self._prompts[tenant_id]
        lengths = (length for index in range(_CONTEXT_SAMPLE) for length in asked_lengths(prompts, index))
        sample = list(islice(lengths, _CONTEXT_SAMPLE))
        longer = sum(asked + wanted > min(limits) for asked, wanted in sample)
        if longer:
            self.note(
                f"tenant {tenant_id!r}: {longer} of its first {len(sample)} requests ask for more than the "
                f"{min(limits)} tokens that its server takes, prompt and answer together; it may refuse them"
            )

    def note(self, text: str) -> None:
        """Tell the user, and keep it in run.json."""
        self._notes.append(text)
        _tell(text)

    def stop_servers(self) -> None:
        """Stop what was started, telemetry too; safe to call twice."""
        self._telemetry.abandon()
        self._deployed.stop()

    @property
    def path(self) -> Path:
        """The run directory."""
        assert self._directory is not None
        return self._directory.path

    # --- the load

    def set_up(self) -> None:
        """Make the tenants' loads; slots wait at their gate from now on."""
        assert self._directory is not None
        self._clock = RunClock()
        self._recorder = Recorder(self._directory, self._environment, self._clock)
        self._recorder.on_record = self._take_in
        self._csv = LocustCsv(self._environment, self._directory.locust_csv_prefix)
        for tenant in self.profile.tenants:
            self.loads[tenant.id] = TenantLoad(
                tenant,
                self.profile.seed,
                self._prompts[tenant.id],
                row_times(tenant, self._traces),
                self._deployed.servers[tenant.id],
                self._recorder,
                self._clock,
                self._environment,
            )

        self.live = Monitor(
            self.profile,
            self._status,
            lambda: {tenant_id: load.gauges() for tenant_id, load in self.loads.items()},
            lambda: self._telemetry.latest,
            lambda: None if self._health is None else self._health.summary(),
            terminal_view() if self._headless else None,
        )

    def _take_in(self, record: RequestRecord, tenant: Tenant) -> None:
        """A request has come to its end."""
        assert self.live is not None
        self.live.tally.add(record, tenant, self._attainment.add(record, tenant))

    def _status(self) -> RunStatus:
        """Where the run is, for the live view."""
        part = self._phases[-1] if self._phases else None
        return RunStatus(
            state=self.state,
            phase=None if part is None else part["name"],
            phase_start_s=None if part is None else part["start_s"],
            run=None if self._directory is None else self._directory.path.name,
            simulated=any(server.simulated for servers in self._deployed.servers.values() for server in servers),
            notes=[*self._notes, *self._telemetry.notes],
        )

    def begin(self) -> bool:
        """Every slot is spawned: t = 0. Runs the phases in the calling greenlet, until the load has ended.

        True if it came to its own end, False if somebody else ended it.
        """
        assert self._clock is not None
        # What is there now stays: the collector need not look at it again while stamps are taken.
        gc.collect()
        gc.freeze()
        self._clock.start(_LEAD_S)
        self._telemetry.begin(self._clock)
        if self.live is not None:
            self.live.begin(self._clock)
        self._health = HealthSampler(self._clock)
        self._write_run(None)
        for number, phase in enumerate(self.plan):
            self._run_phase(phase, last=number == len(self.plan) - 1)
            if self._load_ended:
                return False
            last = number == len(self.plan) - 1
            if phase.stop_if_slo_breaks and self._breaks(phase, last=last):
                break
        self.end_load("complete")
        return True

    def _breaks(self, phase: Phase, *, last: bool) -> bool:
        """Whether a tenant's SLO was broken in a phase that is over; if so, told."""
        assert self._recorder is not None
        self._recorder.settle()
        tenants = tuple(tenant for tenant in self.profile.tenants if tenant.id in phase.tenants)
        broken = self._attainment.broken(phase.prefix, tenants)
        if broken:
            end = "" if last else "; the phases after it are left out"
            self.note(f"{phase.prefix.rstrip('/')}: {'; '.join(map(str, broken))}{end}")
        return bool(broken)

    def _run_phase(self, phase: Phase, *, last: bool) -> None:
        assert self._clock is not None
        assert self._health is not None
        start_s = max(0.0, self._clock.now_s() + _LEAD_S) if self._phases else 0.0
        measure_s = start_s + phase.warmup_s
        end_s = math.inf if phase.duration_s is None else measure_s + phase.duration_s
        window = Window(start_s, measure_s, end_s, phase.requests)
        tenants = tuple(tenant for tenant in self.profile.tenants if tenant.id in phase.tenants)
        parts = measured_parts(tenants, start_s, phase.warmup_s, phase.duration_s)
        loads = [self.loads[tenant.id] for tenant in tenants]
        if phase.warmup_s > 0:
            warming = tuple(tenant.id for tenant in tenants if present(tenant, 0.0, phase.warmup_s))
            self._open_part(phase, Part("warmup", start_s, measure_s, warming), measured=False)
        queues: list[ArrivalQueue] = []

        def part_of(due_s: float) -> str:
            if due_s < measure_s:
                return phase.prefix + "warmup"
            if due_s >= _exhausted_s(queues):
                return phase.prefix + "drain"
            return phase.prefix + next((part.name for part in parts if due_s < part.end_s), "drain")

        for load in loads:
            queues.append(load.begin(phase, window, part_of))
        self._wait_until(measure_s)
        if self._load_ended:
            return
        self._health.measure(True)
        for part in parts:
            self._open_part(phase, part, measured=bool(part.tenants))
            if phase.requests is None:
                self._wait_until(part.end_s)
            else:
                end_s = self._wait_exhausted(queues)
                self._note_shortfall(phase, queues)
            if self._load_ended:
                break
        self._health.measure(False)
        if self._load_ended:
            return
        self._drain(phase, loads, end_s, last=last)

    def _drain(self, phase: Phase, loads: list[TenantLoad], end_s: float, *, last: bool) -> None:
        assert self._clock is not None
        self._open_part(phase, Part("drain", end_s, math.inf, ()), measured=False)
        until_s = self._clock.now_s() + phase.drain_s
        while any(load.in_flight or load.waiting for load in loads) and self._clock.now_s() < until_s:
            gevent.sleep(_POLL_S)
            if self._load_ended:
                return
        for load in loads:
            load.end(f"not finished {phase.drain_s:g} s after the measurement")
        self._wait_aborted(loads)
        if not last:
            self._phases[-1]["end_s"] = round(self._clock.now_s(), 6)

    def _wait_aborted(self, loads: list[TenantLoad]) -> None:
        with gevent.Timeout(_ABORT_WITHIN_S, False):
            while any(load.in_flight for load in loads):
                gevent.sleep(_POLL_S)

    def _wait_until(self, until_s: float) -> None:
        assert self._clock is not None
        while not self._load_ended and (left_s := until_s - self._clock.now_s()) > 0:
            gevent.sleep(min(left_s, _POLL_S * 5))

    def _wait_exhausted(self, queues: list[ArrivalQueue]) -> float:
        """Wait until every tenant has had its number of requests; the end of the stretch where all offer load."""
        assert self._clock is not None
        while not self._load_ended:
            ends_s = [queue.exhausted_s for queue in queues]
            if all(end_s is not None and end_s <= self._clock.now_s() for end_s in ends_s):
                break
            self._wait_until(self._clock.now_s() + _POLL_S)
        return min(_exhausted_s(queues), self._clock.now_s())

    def _note_shortfall(self, phase: Phase, queues: list[ArrivalQueue]) -> None:
        ends_s = [queue.exhausted_s or 0.0 for queue in queues]
        first = ends_s.index(min(ends_s))
        if max(ends_s) > ends_s[first]:
            self.note(
                f"tenant {phase.tenants[first]!r} had its {phase.requests} requests first, {ends_s[first]:.1f} s after "
                "t = 0; the window ends there, with fewer requests of the others in it"
            )

    def _open_part(self, phase: Phase, part: Part, *, measured: bool) -> None:
        """A part of a phase begins, the one before it ends."""
        start_s = round(part.start_s, 6)
        if self._phases:
            before = self._phases[-1]
            before["end_s"] = start_s if before["end_s"] is None else before["end_s"]
        name = phase.prefix + part.name
        self._phases.append(
            {
                "name": name,
                "start_s": start_s,
                "end_s": None,
                "measured": measured,
                "tenants": list(part.tenants),
                "load": phase.load,
            }
        )
        self._say(f"{name}: {', '.join(part.tenants)}" if part.tenants else name)
        self._write_run(None)

    def _say(self, text: str) -> None:
        assert self._clock is not None
        print(f"fairshare: t = {max(0.0, self._clock.now_s()):5.1f} s  {text}", flush=True)

    # --- the end

    def abandon(self) -> None:
        """Give up at once: keep what has been recorded so far, and leave no server behind."""
        if self.live is not None:
            self.live.close()
        if self._recorder is not None:
            self._recorder.settle()
            self._recorder.flush()
        self.stop_servers()

    def end_load(self, state: State) -> None:
        """Send nothing more; settle what was due and not sent. The users may be killed after it."""
        if self._load_ended:
            return
        self._load_ended = True
        self.state = state
        if self._clock is None:
            return
        now_s = self._clock.now_s()
        if self._health is not None:
            self._health.measure(False)
        for load in self.loads.values():
            load.cut(now_s)
            load.end("the run ended first")
        if self._phases:
            last = self._phases[-1]
            if last["end_s"] is None or last["end_s"] > now_s:
                last["end_s"] = round(max(now_s, last["start_s"]), 6)

    def finalise(self) -> None:
        """Every record is in: write the files, stop the servers, analyse. Safe to call twice."""
        if self._finalised:
            return
        self._finalised = True
        if self._clock is None or self._recorder is None or self._directory is None:
            self.stop_servers()
            return
        gc.unfreeze()
        for load in self.loads.values():
            load.close()
        if self._health is not None:
            self._health.stop()
        self._telemetry.end()
        self.stop_servers()
        unwritten = self._recorder.close()
        if self.live is not None:
            self.live.end(self._clock.now_s())
        try:
            if self._csv is not None:
                self._csv.finish()
            if not unwritten:
                self._recorder.count_saved_texts(load_tokenizer(self.profile.model.tokenizer))
            self._write_run(round(max(0.0, self._clock.now_s()), 6))
        except OSError as error:
            self.problem = f"{self._directory.path}: can't be written: {error.strerror}"
        except FairshareError as error:
            self.problem = str(error)
        if unwritten:
            self.problem = self._rescue(unwritten)
        if self._options.report and self._phases:
            self._analyse()

    def _rescue(self, unwritten: bytes) -> str:
        """Save records elsewhere that the run directory has no room for; what to tell the user."""
        assert self._directory is not None
        requests = self._directory.requests
        rest = Path(tempfile.gettempdir()) / f"{self._directory.path.name}-requests-rest.jsonl"
        try:
            replace_file(rest, unwritten)
        except OSError as error:
            return f"{requests} and {rest} have no room ({error.strerror}): {len(unwritten)} bytes of records are lost"
        return f"{requests} has no room for its last {len(unwritten)} bytes; make room, then: cat {rest} >> {requests}"

    def _analyse(self) -> None:
        # A process of its own: in this one its threads would be greenlets, and its memory the load's.
        command = child_command("analysis", "report", str(self.path))
        terminal = {"FORCE_COLOR": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
        environment = child_environment(**(terminal if sys.stdout.isatty() else {}))
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C at the terminal is for us
        )
        if result.returncode != 0:
            self.problem = self.problem or f"the analysis of {self.path} failed with exit code {result.returncode}"
            return
        self.report = result.stdout
        self.summary = orjson.loads((self.path / "analysis" / "summary.json").read_bytes())

    def _write_run(self, ended_s: float | None) -> None:
        assert self._directory is not None
        clock = self._clock if self._phases else None
        worker = {
            "index": 0,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "clock_offset_s": 0.0,
            "health": None if self._health is None else self._health.summary(),
        }
        self._directory.write_run(
            {
                "schema": SCHEMA,
                "state": self.state if ended_s is not None else "running",
                "name": self.profile.name,
                "plan": self._plan_name,
                "seed": self.profile.seed,
                "versions": {
                    "fairshare_locust": __version__,
                    "locust": locust.__version__,
                    "gevent": gevent.__version__,
                    "python": platform.python_version(),
                },
                "hosts": [
                    {
                        "hostname": socket.gethostname(),
                        "platform": platform.platform(),
                        "cpu_count": os.cpu_count(),
                    }
                ],
                "telemetry": self._telemetry.describe(),
                "servers": self._deployed.describe(),
                "t0": None if clock is None else {"unix_s": clock.unix_s, "monotonic_s": clock.monotonic_s},
                "ended_s": ended_s,
                "workers": [worker],
                "phases": self._phases,
                "asked": {tenant_id: {"scheduled": load.scheduled} for tenant_id, load in self.loads.items()},
                "notes": [*self._notes, *self._telemetry.notes],
            }
        )


def _tell(text: str) -> None:
    """On the terminal, marked as ours."""
    print(f"fairshare: {text}", file=sys.stderr, flush=True)


def _exhausted_s(queues: list[ArrivalQueue]) -> float:
    """When the first of the tenants ran out of its number of requests; infinite while none has."""
    return min((queue.exhausted_s for queue in queues if queue.exhausted_s is not None), default=math.inf)
