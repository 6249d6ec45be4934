"""Run: one run of a profile, from its preparation to its last file. It conducts; the parts do the work."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import gevent
import locust
import orjson
from locust.env import Environment

from fairshare_locust import __version__
from fairshare_locust.cell import cell_keys, note_verdict
from fairshare_locust.child import child_command, child_environment
from fairshare_locust.clock import RunClock
from fairshare_locust.conductor import Conductor
from fairshare_locust.distributed.fleet import Fleet, Roster
from fairshare_locust.distributed.lost import due_by_schedule
from fairshare_locust.distributed.task import Task
from fairshare_locust.errors import FairshareError
from fairshare_locust.live.monitor import Monitor
from fairshare_locust.live.tally import LiveTally
from fairshare_locust.live.terminal import terminal_view
from fairshare_locust.live.view import RunStatus
from fairshare_locust.load import Load, LoadProcess, Prepared
from fairshare_locust.locust_csv import LocustCsv
from fairshare_locust.offered import asked_lengths
from fairshare_locust.options import Options
from fairshare_locust.parts import Part, absences
from fairshare_locust.plan import apply_plan, phases_of, slots_of
from fairshare_locust.profile import Profile, resolved_yaml
from fairshare_locust.record import RecordStore, RunDirectory
from fairshare_locust.record.run_directory import SCHEMA, replace_file
from fairshare_locust.record.store import FLUSH_EVERY_S, relabel
from fairshare_locust.serving import Deployed, check_external, deploy, server_notes
from fairshare_locust.serving.probe import api_key
from fairshare_locust.serving.sharing_file import write_sharing
from fairshare_locust.telemetry import Telemetry
from fairshare_locust.trace import load_traces
from fairshare_locust.users import TenantLoad
from fairshare_locust.workload import load_tokenizer, prepare_prompts

__all__ = ["Run"]

State = Literal["running", "complete", "interrupted"]

_CONTEXT_SAMPLE = 500
_SETTLING_S = 2.0  # workers report every second; the last ones are not whole before


class Run:
    """One run. `prepare` before any user is spawned, `begin` when all are, `end_load` and `finalise` after it.

    Attributes:
        problem: what went wrong while the run was finalised, for the exit code; None if nothing did.
        profile: as the plan made it.
        slots: the streams, each a Locust user, that a tenant needs.
        summary: `summary.json` once the run has been analysed.
        live: the figures of now, once a run is set up.
        mustered: workers are ready to make the load.
        report: the analysis as it is printed; None without one.
    """

    def __init__(
        self, environment: Environment, profile: Profile, plan: str, options: Options, base_profile: str = ""
    ) -> None:
        """`base_profile`: as its file says, as YAML, before anything was changed in it."""
        self._environment = environment
        self._options = options
        self._plan_name = plan
        self.profile = apply_plan(plan, profile)
        self.slots = slots_of(self.profile)
        self.problem: str | None = None
        self.summary: dict[str, Any] | None = None
        self.report: str | None = None
        self.state: State = "running"
        self.mustered = False
        self._base_profile = base_profile
        self._cell = cell_keys()
        self._prepared = Prepared({}, {}, {})
        self._overhead_tokens: Mapping[str, int] = {}
        self._fleet: tuple[Fleet, LiveTally] | None = None
        self._headless = bool(getattr(environment.parsed_options, "headless", True))
        self.live: Monitor | None = None
        self._deployed = Deployed({})
        self._telemetry = Telemetry()
        self._directory: RunDirectory | None = None
        self._clock = RunClock()
        self._store: RecordStore | None = None
        self._flusher: gevent.Greenlet | None = None
        self._load: Load | None = None
        self._conductor: Conductor | None = None
        self._csv: LocustCsv | None = None
        self._due: Mapping[str, int] = {}  # by the schedules of the open-loop tenants, once the load has ended
        self._notes: list[str] = []
        self._finalised = False

    # --- preparation

    def prepare(self) -> None:
        """Everything that can fail, before any load is sent. Raises FairshareError."""
        for tenant in self.profile.tenants:
            api_key(tenant)
        traces = load_traces(self.profile)
        deployment = self.profile.deployment
        if deployment.engine == "external":
            self._deployed = check_external(self.profile, load_tokenizer(self.profile.model.tokenizer))
            overheads = self._deployed.prompt_overhead_tokens()
        elif deployment.engine == "simulator":
            template_tokens = deployment.simulator.chat_template_tokens
            overheads = {t.id: template_tokens if t.api == "openai_chat" else 0 for t in self.profile.tenants}
        else:
            overheads = {}  # they are known once the servers have answered
        # Of real engines, too: a server may take minutes to start, and a workload that fails should not wait for it.
        prompts = prepare_prompts(self.profile, phases_of(self.profile), traces, overheads)
        directory = RunDirectory.create(self._options.out, self.profile.name)
        self._directory = directory
        try:
            self._write_run(None)
            replace_file(directory.profile, resolved_yaml(self.profile).encode())
            if deployment.engine == "external":
                write_sharing(self.profile, directory.path)
            else:
                self._deployed = deploy(self.profile, directory.logs, directory=directory.path)
            if deployment.real:
                overheads = self._deployed.prompt_overhead_tokens()
                prompts = prepare_prompts(self.profile, phases_of(self.profile), traces, overheads)
            self._overhead_tokens = overheads
            self._prepared = Prepared(prompts, traces, self._deployed.servers)
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
        for note in self._deployed.notes:
            self.note(note)
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
        for absence in absences(self.profile, phases_of(self.profile)):
            self.note(absence)
        for trace in self._prepared.traces.values():
            if trace.failures:
                self.note(f"trace {trace.name!r}: {trace.failures} rows without an answer are left out")

    def _note_context(self, tenant_id: str) -> None:
        limits = [server.max_model_len for server in self._deployed.servers[tenant_id] if server.max_model_len]
        if not limits:
            return
        prompts = self._prepared.prompts[tenant_id]
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
        """Stop what was started, telemetry too, and let workers go that wait for a start; safe to call twice."""
        if self._fleet is not None and self._load is None:
            self._fleet[0].release(keep=False)
        self._telemetry.abandon()
        self._deployed.stop()

    def discard(self) -> None:
        """The run that was prepared will not begin. Safe to call twice."""
        self.stop_servers()
        if self._directory is not None and self._load is None and self.state == "running":
            self.state = "interrupted"
            with contextlib.suppress(OSError):
                self._write_run(0.0)

    @property
    def path(self) -> Path:
        """The run directory."""
        assert self._directory is not None
        return self._directory.path

    # --- the load

    def muster(self, roster: Roster, wanted: int, on_deserted: Callable[[], None]) -> None:
        """Have the workers make the load; see `Fleet.muster`. `on_deserted`: see `Fleet`."""
        assert self._directory is not None
        tally = LiveTally()
        fleet = Fleet(roster, self.profile, self._prepared.traces, self._directory.path, tally, self.note)
        fleet.on_deserted = on_deserted
        self._fleet = (fleet, tally)
        task = Task.of(self._directory.path.name, self.profile, self._prepared, self._overhead_tokens)
        fleet.muster(task, wanted, self._base_profile)
        self.mustered = True

    @property
    def dispatcher(self) -> Any:
        """What puts Locust's users on the workers that have been mustered."""
        assert self._fleet is not None
        return self._fleet[0].dispatcher

    def set_up(self) -> Mapping[str, TenantLoad]:
        """Make the tenants' loads; slots wait at their gate from now on.

        Returns the loads of this process, by tenant id: none if workers make them.
        """
        store = self._open_store()
        if self._fleet is not None:
            fleet, tally = self._fleet
            fleet.attach(store)
            self._conduct_with(fleet, tally)
            return {}
        tally = LiveTally()
        load = LoadProcess(self.profile, self._prepared, store, self._clock, self._environment, tally)
        self._conduct_with(load, tally)
        return load.loads

    def _open_store(self) -> RecordStore:
        assert self._directory is not None
        self._store = RecordStore(self._directory.requests, self._directory.texts)
        self._flusher = gevent.spawn(flush_regularly, self._store)
        return self._store

    def _conduct_with(self, load: Load, tally: LiveTally) -> None:
        assert self._directory is not None
        self._load = load
        self._csv = LocustCsv(self._environment, self._directory.locust_csv_prefix)
        self._conductor = Conductor(self.profile, load, self._clock, self.note, self._part_begins)
        self.live = Monitor(
            self.profile,
            tally,
            self._status,
            load.gauges,
            lambda: self._telemetry.latest,
            load.health,
            terminal_view() if self._headless else None,
            settling_s=0.0 if self._fleet is None else _SETTLING_S,
        )

    def _part_begins(self, part: Part) -> None:
        who = ", ".join(part.tenants)
        print(
            f"fairshare: t = {max(0.0, self._clock.now_s()):5.1f} s  {part.name}{': ' if who else ''}{who}", flush=True
        )
        try:
            self._write_run(None)
        except OSError as error:  # it is written again at the end; the load goes on
            self.note(f"{self._directory.path if self._directory else ''}: run.json can't be written: {error.strerror}")

    def _status(self) -> RunStatus:
        """Where the run is, for the live view."""
        part = self._parts[-1] if self._parts else None
        return RunStatus(
            state=self.state,
            phase=None if part is None else part["name"],
            phase_start_s=None if part is None else part["start_s"],
            run=None if self._directory is None else self._directory.path.name,
            simulated=any(server.simulated for servers in self._deployed.servers.values() for server in servers),
            notes=[*self._notes, *self._telemetry.notes],
        )

    @property
    def _parts(self) -> list[dict[str, Any]]:
        return [] if self._conductor is None else self._conductor.parts

    def begin(self) -> bool:
        """Every slot is spawned: t = 0. Runs the phases in the calling greenlet, until the load has ended.

        True if it came to its own end, False if somebody else ended it.
        """
        assert self._load is not None
        assert self._conductor is not None
        self._clock.start(self._load.lead_s)
        self._load.begin(self._clock)
        self._telemetry.begin(self._clock)
        if self.live is not None:
            self.live.begin(self._clock)
        complete = self._conductor.run()
        if complete:
            self.end_load("complete")
        return complete

    # --- the end

    def abandon(self) -> None:
        """Give up at once: keep what has been recorded so far, and leave no server behind."""
        if self.live is not None:
            self.live.close()
        if self._load is not None:
            self._load.abandon()
        if self._store is not None:
            self._store.flush()
        self.stop_servers()

    def end_load(self, state: State) -> None:
        """Send nothing more; settle what was due and not sent. The users may be killed after it. Safe to call twice."""
        if self._conductor is None:
            self.state = state
            return
        if not self._conductor.ended:
            self.state = state
        self._conductor.end("the run ended first")

    def finalise(self) -> None:
        """Every user has stopped: write the files, stop the servers, analyse. Safe to call twice."""
        if self._finalised:
            return
        self._finalised = True
        if self._load is None or self._store is None or self._directory is None:
            self.stop_servers()
            return
        self._load.close()
        self._telemetry.end()
        for process in self._deployed.processes:
            if process.ended:
                self.note(str(process.death("during the run")).splitlines()[0])
        self.stop_servers()
        if self._flusher is not None:
            self._flusher.kill()
        ended_s = round(max(0.0, self._clock.now_s()), 6)
        unwritten = self._store.close()
        self._load.release(keep=any(unwritten))  # before whatever takes long
        if self.live is not None:
            self.live.end(self._clock.now_s())
        try:
            if self._csv is not None:
                self._csv.finish()
            # In a thread: heartbeats and pages go on meanwhile.
            gevent.get_hub().threadpool.apply(self._work_up, (not any(unwritten),))
            spans = [] if self._conductor is None else self._conductor.spans
            self._load.settle_accounts(spans)
            self._due = due_by_schedule(self.profile, self._prepared.traces, spans)
            self._write_run(ended_s)
        except OSError as error:
            self.problem = f"{self._directory.path}: can't be written: {error.strerror}"
        except FairshareError as error:
            self.problem = str(error)
        if any(unwritten):
            self.problem = self._rescue(*unwritten)
        if self._options.report and self._parts:
            self._analyse()

    def _work_up(self, whole: bool) -> None:
        """What can be known only when every record is there; nothing if the file is not whole."""
        assert self._store is not None
        if not whole:
            return
        self._store.count_texts(load_tokenizer(self.profile.model.tokenizer).counts)
        if self._fleet is not None and any(phase.requests for phase in phases_of(self.profile)):
            relabel(self._store.requests, self._parts)

    def _rescue(self, unwritten: bytes, answers: bytes) -> str:
        """Save records elsewhere that the run directory has no room for; what to tell the user."""
        assert self._directory is not None
        if self._fleet is not None:
            return (
                f"{self._directory.path} has no room for {len(unwritten) + len(answers)} bytes; the workers keep "
                f"theirs: make room, copy each worker's {self._directory.path.name}/workers to "
                f"{self._directory.path}, then: python -m analysis merge {self._directory.path}"
            )
        if not unwritten:
            return (
                f"{self._directory.texts} has no room for its last {len(answers)} bytes: tokens of answers that came "
                "without a count stay counted by chunks"
            )
        requests = self._directory.requests
        rest = Path(tempfile.gettempdir()) / f"{self._directory.path.name}-requests-rest.jsonl"
        try:
            replace_file(rest, unwritten)
        except OSError as error:
            return f"{requests} and {rest} have no room ({error.strerror}): {len(unwritten)} bytes of records are lost"
        return f"{requests} has no room for its last {len(unwritten)} bytes; make room, then: cat {rest} >> {requests}"

    def _analyse(self) -> None:
        assert self._directory is not None
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
        try:
            note_verdict(self._directory, self.summary["verdict"]["status"])
        except OSError as error:
            self.problem = self.problem or f"{self._directory.path}: can't be written: {error.strerror}"

    def _write_run(self, ended_s: float | None) -> None:
        assert self._directory is not None
        clock = self._clock if self._parts else None
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
                "workers": [] if self._load is None else self._load.describe(),
                "phases": self._parts,
                "asked": {
                    tenant_id: {"scheduled": count, "due": self._due.get(tenant_id)}
                    for tenant_id, count in ({} if self._load is None else self._load.scheduled()).items()
                },
                "notes": [*self._notes, *self._telemetry.notes],
                **self._cell,
            }
        )


def _tell(text: str) -> None:
    """On the terminal, marked as ours."""
    print(f"fairshare: {text}", file=sys.stderr, flush=True)


def flush_regularly(store: RecordStore) -> None:
    """Write what is pending in the store, again and again."""
    while True:
        gevent.sleep(FLUSH_EVERY_S)
        store.flush()
