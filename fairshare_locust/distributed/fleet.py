"""Fleet: the workers of one run, as the master conducts them. Roster: those that there are to choose from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import gevent
import yaml
import zmq
from locust import runners
from locust.env import Environment
from locust.rpc import Message
from locust.runners import MasterRunner

from fairshare_locust.arrival import shares
from fairshare_locust.attainment import Attainment
from fairshare_locust.clock import RunClock
from fairshare_locust.distributed.dispatcher import TenantDispatcher
from fairshare_locust.distributed.letters import LetterBox
from fairshare_locust.distributed.likeness import differences, package_versions
from fairshare_locust.distributed.lost import Loss, lost_share, recorded_by
from fairshare_locust.distributed.messages import FILES, FROM_WORKER, PREFIX, listen
from fairshare_locust.distributed.parcels import Inbox
from fairshare_locust.distributed.task import Task
from fairshare_locust.errors import FairshareError
from fairshare_locust.live.tally import LiveTally, LoadGauges
from fairshare_locust.parts import LoadSpan
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.record import RecordStore
from fairshare_locust.record.run_directory import worker_file
from fairshare_locust.trace import TraceRows

__all__ = ["Fleet", "Roster", "WorkersError"]

_POLL_S = 0.02
_GREETED_WITHIN_S = 10.0
# A worker that is silent for so long is lost. It gives up a little earlier when it hears nothing itself.
_SILENT_S = 10.0
_WATCH_EVERY_S = 0.25
# One that is there, and yet does not do what it was told, is lost too.
_PATIENCE_S = 60.0
_SPAWNED_WITHIN_S = 1.5  # it tells Locust of its state every second
# Locust takes a worker for missing after so many heartbeats of a second; a cut of some seconds has to heal before.
_HEARTBEATS = 15

_MORE_WORKERS = "start more with: locust -f LOCUSTFILE --worker --master-host THIS_HOST"

Said = dict[str, Any]


class WorkersError(FairshareError):
    """Too few workers can take part in a run."""


class Roster:
    """The workers that have greeted this master, over all runs; hands their messages on to the run's fleet.

    Attributes:
        fleet: of the run that goes on, or was the last.
    """

    def __init__(self, environment: Environment, runner: MasterRunner) -> None:
        self._runner = runner
        self._greetings: dict[str, Said] = {}
        self.fleet: Fleet | None = None
        runners.HEARTBEAT_LIVENESS = max(runners.HEARTBEAT_LIVENESS, _HEARTBEATS)
        # A worker that connects anew is heard at once, though nobody has noticed yet that its old connection is gone.
        runner.server.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._send_to_client: Callable[[Message], None] = runner.server.send_to_client
        runner.server.send_to_client = self._send_for_locust
        listen(runner, FROM_WORKER, self._heard)
        environment.events.worker_report.add_listener(self._reported)

    @property
    def connected(self) -> list[str]:
        """Ids of the workers that are free, in the order in which they came."""
        return sorted((client.id for client in self._runner.clients.ready), key=self._runner.get_worker_index)

    def greeting(self, worker_id: str) -> Said | None:
        """What a worker has said of itself; None while it has not."""
        return self._greetings.get(worker_id)

    def send(self, worker_id: str, name: str, data: Said) -> None:
        """Send a message to one worker."""
        self._runner.send_message(PREFIX + name, data, worker_id)

    def waits_for_users(self, worker_id: str, wanted: Mapping[str, int]) -> bool:
        """Whether Locust has heard nothing of a worker's users, or not of as many as are wanted."""
        client = self._runner.clients.get(worker_id)
        if client is None:
            return False
        got: Mapping[str, int] = client.user_classes_count
        return client.state == runners.STATE_INIT or any(got.get(name, 0) < count for name, count in wanted.items())

    def send_for_locust(self, message: Message) -> None:
        """Send a message of Locust's own again."""
        self._send_to_client(message)

    def _send_for_locust(self, message: Message) -> None:
        if message.type == "spawn" and self.fleet is not None:
            self.fleet.spawning(message)
        self._send_to_client(message)

    def strike(self, worker_id: str) -> None:
        """Forget a worker that is lost, so that Locust waits for it no more."""
        if worker_id in self._runner.clients:
            del self._runner.clients[worker_id]

    def _heard(self, worker_id: str, message: Said) -> None:
        if message["message"] == "hello":
            self._greetings[worker_id] = message
            self.send(worker_id, "welcome", {})
        elif self.fleet is not None and self.fleet.run == message["run"]:
            self.fleet.heard(worker_id, message)
        else:
            self.send(worker_id, "dismiss", {"run": message["run"], "why": "that run is over"})

    def _reported(self, client_id: str, data: Said) -> None:
        report = data.get("fairshare")
        if report is not None and self.fleet is not None and self.fleet.run == report["run"]:
            self.fleet.reported(client_id, report)


State = Literal["asked", "ready", "enlisted", "ended", "lost", "left", "refused"]


@dataclass(eq=False)
class _Member:
    """A worker of the run, and the last that it said. `number` is its place among those that take part."""

    id: str
    greeting: Said
    state: State = "asked"
    number: int = -1
    box: LetterBox = field(default_factory=LetterBox)
    heard_s: float = field(default_factory=monotonic)
    moved_s: float = field(default_factory=monotonic)  # when it last brought something on
    problems: list[str] = field(default_factory=list)
    spawn: Message | None = None  # Locust's: make these users
    spawn_sent_s: float = 0.0
    clock: Said | None = None
    health: Said | None = None
    progress: Said = field(default_factory=dict)
    ended_phase: int = -1
    attainment: Sequence[Sequence[Any]] = ()
    final: Said | None = None
    inboxes: dict[str, Inbox] = field(default_factory=lambda: {kind: Inbox() for kind in FILES})
    gone_s: float | None = None  # on the run clock: when it was last heard of, or left
    why: str | None = None
    losses: dict[str, Loss] = field(default_factory=dict)
    recorded: dict[str, int] | None = None  # of one that is lost, by tenant id

    def __str__(self) -> str:
        place = "a worker" if self.number < 0 else f"worker {self.number}"
        return f"{place} ({self.greeting.get('hostname', self.id)}, process {self.greeting.get('pid', 'unknown')})"

    @property
    def at_work(self) -> bool:
        """Whether it is to send load, or may be asked to."""
        return self.state == "enlisted"

    @property
    def delivered(self) -> bool:
        """Whether everything of it has come."""
        return self.final is not None and all(
            inbox.received >= self.final["sizes"][kind] for kind, inbox in self.inboxes.items()
        )


class Fleet:
    """The load that the workers make together: see Load. `muster` first.

    Attributes:
        run: name of the run directory.
        on_deserted: called when no worker is left while the load goes on.
    """

    lead_s = 0.5  # a message takes its time, and slots that wait at the gate need a moment to wake

    def __init__(
        self,
        roster: Roster,
        profile: Profile,
        traces: Mapping[str, TraceRows],
        directory: Path,
        tally: LiveTally,
        note: Callable[[str], None],
    ) -> None:
        """`note` tells the user of something."""
        self._roster = roster
        self._profile = profile
        self._traces = traces
        self._directory = directory
        self._tally = tally
        self._note = note
        self.run = directory.name
        self.on_deserted: Callable[[], None] = lambda: None
        self._members: list[_Member] = []
        self._store: RecordStore | None = None
        self._clock = RunClock()
        self._phase = -1
        self._ended = False
        self._released = False
        self._taken_in: list[Path] = []  # files of workers that are gone: given up once ours are written
        self._watcher: gevent.Greenlet | None = None

    # --- getting together

    def muster(self, task: Task, wanted: int, base_profile: str) -> None:
        """Choose the run's workers, of all that are connected, and have them make ready. It may take a while.

        Args:
            wanted: how many there have to be at least.
            base_profile: the profile as its file says, as YAML; a worker that was given one has to have the same.

        Raises WorkersError when too few can take part, with what is in the way of each; nobody is at work then.
        """
        self._roster.fleet = self
        self._members = [self._greeted(worker_id) for worker_id in self._roster.connected]
        self._watcher = gevent.spawn(self._watch)
        for member in self._members:
            problems = self._unlike(member, base_profile)
            if problems:
                self._refuse(member, problems)
            else:
                member.heard_s = monotonic()  # another one may have kept us waiting for its greeting
                self._write(member, "prepare", task=task.to_dict())
        self._wait(lambda: not self._in_state("asked"))
        accepted = self._in_state("ready")
        for number, member in enumerate(accepted):
            member.number = number
        if len(accepted) >= wanted:
            for member in accepted:
                self._write(member, "enlist", worker=member.number, workers=len(accepted))
            self._wait_for(accepted, lambda member: member.state != "ready")
        refused = self._in_state("refused")
        able = self._in_state("enlisted", "ready")
        if len(accepted) < wanted or len(able) < len(accepted):
            why = [f"{member}: {problem}" for member in refused for problem in member.problems]
            more = [] if len(accepted) == len(self._members) >= wanted else [_MORE_WORKERS]
            self.release(keep=False)
            raise WorkersError(
                "\n".join([f"workers: found {len(able)} that can take part; must be {wanted} at least", *why, *more])
            )
        for member in refused:
            for problem in member.problems:
                self._note(f"{member} takes no part in this run: {problem}")
        self._members = accepted

    def _greeted(self, worker_id: str) -> _Member:
        with gevent.Timeout(_GREETED_WITHIN_S, False):
            while self._roster.greeting(worker_id) is None:
                gevent.sleep(_POLL_S)
        return _Member(worker_id, self._roster.greeting(worker_id) or {})

    def _unlike(self, member: _Member, base_profile: str) -> list[str]:
        if not member.greeting:
            return ["it does not answer; start it with a locustfile that calls fairshare_locust.register()"]
        packages = differences(package_versions(), member.greeting["packages"])
        profile: list[str] = []
        if member.greeting["profile"] is not None:
            profile = differences(yaml.safe_load(base_profile), yaml.safe_load(member.greeting["profile"]))
        return [
            *(f"another version: {difference}; install the same on both" for difference in packages),
            *(f"another profile: {difference}; start it without one" for difference in profile),
        ]

    def _refuse(self, member: _Member, problems: list[str]) -> None:
        member.state = "refused"
        member.problems = problems
        self._send(member, "dismiss", why="; ".join(problems))

    def _in_state(self, *states: State) -> list[_Member]:
        return [member for member in self._members if member.state in states]

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds. Workers that are lost meanwhile are found out elsewhere."""
        while not condition():
            gevent.sleep(_POLL_S)

    def _wait_for(self, members: Iterable[_Member], done: Callable[[_Member], bool]) -> None:
        """Until it holds for each of them that is not lost. One that brings nothing on for long is."""
        since_s = monotonic()

        def over(member: _Member) -> bool:
            if member.state in ("lost", "refused") or done(member):
                return True
            if monotonic() - max(since_s, member.moved_s) > _PATIENCE_S:
                self._give_up(member, f"it brought nothing on for {_PATIENCE_S:g} s")
                return True
            return False

        waiting = list(members)
        self._wait(lambda: not [member for member in waiting if not over(member)])

    def _send(self, member: _Member, name: str, **data: Any) -> None:
        self._roster.send(member.id, name, {"run": self.run, **data})

    def _write(self, member: _Member, name: str, **content: Any) -> None:
        """A letter: it is sent until it has come."""
        self._send(member, name, **member.box.write(name, content, monotonic()))

    @property
    def dispatcher(self) -> Callable[..., TenantDispatcher]:
        """What puts Locust's users where their shares are."""
        plan = phases_of(self._profile)
        deal: dict[str, dict[str, int]] = {member.id: {} for member in self._members}
        for tenant in self._profile.tenants:
            most = [0] * len(self._members)
            for phase in plan:
                if tenant.id in phase.tenants:
                    dealt = shares(tenant.id, scaled_arrival(tenant.arrival, phase.load), len(self._members))
                    most = [max(before, share.slots) for before, share in zip(most, dealt, strict=True)]
            for member, slots in zip(self._members, most, strict=True):
                deal[member.id][tenant.class_name] = slots
        return partial(TenantDispatcher, deal)

    # --- what they say

    def heard(self, worker_id: str, message: Said) -> None:
        """A message for this run."""
        received_s = monotonic()
        member = next((one for one in self._members if one.id == worker_id), None)
        if member is None or member.state in ("lost", "refused"):
            why = "it came too late" if member is None else member.why or "; ".join(member.problems)
            self._roster.send(worker_id, "dismiss", {"run": self.run, "why": why})
            return
        member.heard_s = received_s
        if "letter" in message:
            new = member.box.accept(message)
            self._send(member, "heard", received_letters=member.box.received)
            if not new:
                return
            member.moved_s = received_s
        if "received_letters" in message:
            member.box.heard(message["received_letters"])
        match message["message"]:
            case "ping":
                self._send(
                    member,
                    "pong",
                    sent_s=message["sent_s"],
                    received_s=received_s,
                    replied_s=monotonic(),
                )
            case "progress":
                member.progress = message
            case "parcel":
                self._take_in(member, message)
            case "busy":
                self._refuse(member, [message["problem"]])
            case "prepared":
                member.clock = message["clock"]
                if member.state != "asked":
                    return  # it has left since
                if message["problems"]:
                    self._refuse(member, message["problems"])
                else:
                    member.state = "ready"
            case "enlisted":
                if member.state != "ready":
                    return
                if message["problem"] is not None:
                    self._refuse(member, [message["problem"]])
                else:
                    member.state = "enlisted"
            case "phase-ended":
                member.ended_phase = message["phase"]
                member.attainment = message["attainment"]
            case "leaving":
                self._gone(member, "left", message["why"])
            case "ended":
                member.final = message
                member.attainment = message["attainment"]
                member.clock, member.health = message["clock"], message["health"]
                if member.at_work:
                    member.state = "ended"

    def spawning(self, message: Message) -> None:
        """What Locust tells a worker to make its users with is being sent."""
        for member in self._members:
            if member.id == message.node_id:
                member.spawn, member.spawn_sent_s = message, monotonic()

    def reported(self, worker_id: str, report: Said) -> None:
        """What came with Locust's own report."""
        for member in self._members:
            if member.id == worker_id and member.state != "lost":
                self._tally.merge(report["tally"])
                member.health = report["health"]
                member.clock = report["clock"]

    def _take_in(self, member: _Member, parcel: Said) -> None:
        inbox = member.inboxes[parcel["kind"]]
        lines = inbox.take(parcel["offset"], parcel["data"])
        if lines:
            try:
                self._store_lines(parcel["kind"], lines)
            except OSError:  # the file can't be made; it is sent again
                inbox.received -= len(lines)
            member.moved_s = monotonic()
        self._send(member, "have", kind=parcel["kind"], received=inbox.received)

    def _store_lines(self, kind: str, lines: bytes) -> None:
        assert self._store is not None
        if kind == "requests":
            self._store.append(lines)
        else:
            self._store.append_texts(lines)

    def _watch(self) -> None:
        """Send again what has not come, and find out who is lost."""
        while True:
            gevent.sleep(_WATCH_EVERY_S)
            if self._released and (self._roster.fleet is not self or not self._unsettled()):
                return
            for member in self._members:
                if member.state in ("lost", "refused"):
                    continue
                for name, letter in member.box.again(monotonic()):
                    self._send(member, name, **letter)
                self._spawn_again(member)
                if monotonic() - member.heard_s < _SILENT_S:
                    continue
                if member.state in ("asked", "ready"):
                    self._refuse(member, [f"it went silent for {_SILENT_S:g} s; look at its log, and start it anew"])
                elif not self._released and (member.at_work or not member.delivered):
                    self._give_up(member, f"it went silent for {_SILENT_S:g} s")

    def _spawn_again(self, member: _Member) -> None:
        """Locust says it once. A worker that got it after all ignores it, by its time stamp."""
        if member.spawn is None or self._ended or not member.at_work:
            return
        wanted = member.spawn.data["user_classes_count"]
        if monotonic() - member.spawn_sent_s > _SPAWNED_WITHIN_S and self._roster.waits_for_users(member.id, wanted):
            member.spawn_sent_s = monotonic()
            self._roster.send_for_locust(member.spawn)

    def _unsettled(self) -> list[_Member]:
        """Those that have not got every letter, and may still get it."""
        return [
            member
            for member in self._members
            if member.state not in ("lost", "refused", "left")
            and not member.box.settled
            and monotonic() - member.heard_s < _SILENT_S
        ]

    def _give_up(self, member: _Member, why: str) -> None:
        self._gone(member, "lost", why)
        self._roster.strike(member.id)

    def _gone(self, member: _Member, state: Literal["lost", "left"], why: str) -> None:
        before, member.state, member.why = member.state, state, why
        if member.gone_s is None:
            member.gone_s = max(0.0, self._clock.now_s() - (monotonic() - member.heard_s))
        if before != "enlisted" or self._ended:
            return
        left = bool(self._in_state("enlisted"))
        what = "the run goes on without its share" if left else "no worker is left, the run ends"
        self._note(f"{member} {_was(state)} at t = {member.gone_s:.1f} s ({why}); {what}")
        if not left:
            gevent.spawn(self.on_deserted)

    # --- phases

    def attach(self, store: RecordStore) -> None:
        """Where records go."""
        self._store = store

    def begin(self, clock: RunClock) -> None:
        """See Load."""
        self._clock = clock
        for member in self._in_state("enlisted"):
            self._write(member, "begin", monotonic_s=clock.monotonic_s, unix_s=clock.unix_s)

    def begin_phase(self, number: int, start_s: float) -> None:
        """See Load."""
        self._phase = number
        for member in self._in_state("enlisted"):
            self._write(member, "phase", number=number, start_s=start_s)

    def _reporting(self) -> list[_Member] | None:
        """Those at work, if all of them have told of the phase that goes on; else None."""
        at_work = self._in_state("enlisted")
        told = all(member.progress.get("phase") == self._phase for member in at_work)
        return at_work if told else None

    def idle(self, since_s: float) -> bool:
        """See Load."""
        members = self._reporting()
        return members is not None and all(
            member.progress["idle"] and member.progress["t_s"] >= since_s for member in members
        )

    def exhausted_s(self) -> dict[str, float | None]:
        """See Load: a tenant has had its number when each worker has made its share of it."""
        members = self._reporting()
        tenants = phases_of(self._profile)[self._phase].tenants
        if members is None:
            return dict.fromkeys(tenants)
        ends: dict[str, float | None] = {}
        for tenant_id in tenants:
            told = [m.progress["exhausted"][tenant_id] for m in members if tenant_id in m.progress["exhausted"]]
            # Where all who had a share are lost, nothing more is to come.
            ends[tenant_id] = None if None in told else max(told, default=self._clock.now_s())
        return ends

    def end_phase(self, why: str) -> None:
        """See Load."""
        number = self._phase
        for member in self._in_state("enlisted"):
            self._write(member, "end-phase", number=number, why=why)
        self._wait_for(self._members, lambda member: not member.at_work or member.ended_phase >= number)

    def end(self, why: str) -> None:
        """See Load; waits until every worker's records are here, or the worker is lost."""
        if not self._ended:
            self._ended = True
            for member in self._in_state("enlisted"):
                self._write(member, "end", why=why)
        self._wait_for(self._members, lambda member: member.delivered)

    def close(self) -> None:
        """See Load; takes in what stands in a lost worker's file, if that is here."""
        for member in self._in_state("lost", "left"):
            self._recover(member)

    def _recover(self, member: _Member) -> None:
        """What has not come of a worker's records may stand in its file, if that is on this host."""
        for kind, inbox in member.inboxes.items():
            path = worker_file(self._directory, member.number, kind)
            try:
                with open(path, "rb") as file:
                    file.seek(inbox.received)
                    rest = file.read()
                whole = rest[: rest.rfind(b"\n") + 1]
                if whole:
                    self._store_lines(kind, whole)
                    inbox.received += len(whole)
                    lines = whole.count(b"\n")
                    self._note(f"{member}: {lines:,} lines that had not come were taken from its own file of {kind}")
                if len(whole) == len(rest):
                    self._taken_in.append(path)
            except OSError:
                continue  # it is on another host, or there was nothing to keep

    def release(self, *, keep: bool) -> None:
        """See Load."""
        if self._released:
            return
        self._released = True
        if not keep:
            for path in self._taken_in:
                path.unlink(missing_ok=True)
        for member in self._members:
            if member.state not in ("lost", "left", "refused"):
                self._write(member, "release", keep=keep)
        with contextlib.suppress(OSError):  # somebody's file is in it, or there is none
            (self._directory / "workers").rmdir()

    def settle_accounts(self, spans: Sequence[LoadSpan]) -> None:
        """See Load: what is missing of workers that are gone."""
        gone = self._in_state("lost", "left")
        if not gone or self._store is None:
            return
        numbers = [member.number for member in gone]
        recorded = gevent.get_hub().threadpool.apply(recorded_by, (self._store.lines(), numbers))
        for member in gone:
            known = recorded[member.number]
            member.losses = lost_share(
                self._profile,
                self._traces,
                spans,
                member.number,
                len(self._members),
                member.gone_s or 0.0,
                known,
            )
            if member.state == "lost":
                member.recorded = dict(known.counts)
            missing = ", ".join(f"{loss} of tenant {tenant_id!r}" for tenant_id, loss in member.losses.items())
            self._note(f"{member} {_was(member.state)}; missing: {missing or 'nothing'}")

    def abandon(self) -> None:
        """See Load: the workers stop by themselves when they hear nothing more, and keep their files."""

    # --- accounts

    @property
    def attainment(self) -> Attainment:
        """See Load."""
        return Attainment.of(counts for member in self._members for counts in member.attainment)

    def scheduled(self) -> dict[str, int]:
        """See Load. Of lost workers, what is on record."""
        totals = {tenant.id: 0 for tenant in self._profile.tenants}
        for member in self._members:
            told = (member.final or member.progress).get("scheduled", {})
            for tenant_id, count in (told if member.recorded is None else member.recorded).items():
                totals[tenant_id] += count
        return totals

    def gauges(self) -> dict[str, LoadGauges]:
        """See Load."""
        totals = {tenant.id: LoadGauges() for tenant in self._profile.tenants}
        for member in self._members:
            for tenant_id, values in member.progress.get("gauges", {}).items():
                gauges = LoadGauges(*values)
                if not member.at_work:
                    streams = 0 if member.state == "lost" else gauges.streams
                    gauges = LoadGauges(streams, asked=gauges.asked, sent=gauges.sent)
                totals[tenant_id] += gauges
        return totals

    def health(self) -> Said | None:
        """See Load."""
        return _worst(member.health for member in self._members if member.health is not None)

    def describe(self) -> list[Said]:
        """See Load."""
        return [
            {
                "index": member.number,
                "hostname": member.greeting.get("hostname"),
                "pid": member.greeting.get("pid"),
                "state": {"enlisted": "running", "ended": "complete"}.get(member.state, member.state),
                "clock_offset_s": (member.clock or {}).get("offset_s"),
                "clock": member.clock,
                "health": member.health,
                "lost": None
                if member.gone_s is None
                else {
                    "since_s": round(member.gone_s, 3),
                    "why": member.why,
                    "tenants": {
                        tenant_id: {"requests": loss.requests, "seconds": round(loss.seconds, 3)}
                        for tenant_id, loss in member.losses.items()
                    },
                },
            }
            for member in self._members
        ]


def _was(state: State) -> str:
    return "was lost" if state == "lost" else "left"


def _worst(every: Iterable[Said]) -> Said | None:
    """One summary with the worst figure of each kind; None of none."""
    summaries = list(every)
    if not summaries:
        return None

    def worst(group: str, figure: str) -> float | None:
        return max((s[group][figure] for s in summaries if s[group][figure] is not None), default=None)

    return {
        "event_loop_lag_ms": {figure: worst("event_loop_lag_ms", figure) for figure in ("p50", "p99", "max")},
        "cpu_share": {figure: worst("cpu_share", figure) for figure in ("p50", "p95", "max")},
    }
