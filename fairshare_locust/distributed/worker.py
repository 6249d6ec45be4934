"""Worker: a load process that does what its master says, keeps a copy of its records, and sends them on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from time import monotonic, time
from typing import Any

import gevent
import locust
import zmq
from gevent.event import Event
from locust import runners
from locust.env import Environment
from locust.runners import WorkerRunner

from fairshare_locust.clock import RunClock
from fairshare_locust.distributed.clock_sync import ClockSync
from fairshare_locust.distributed.letters import LetterBox
from fairshare_locust.distributed.likeness import package_versions
from fairshare_locust.distributed.messages import FILES, FROM_MASTER, PREFIX, listen
from fairshare_locust.distributed.parcels import Outbox
from fairshare_locust.distributed.task import NotReadyError, Task
from fairshare_locust.live.tally import TallyDelta
from fairshare_locust.load import LoadProcess, Prepared, this_process
from fairshare_locust.profile import Profile
from fairshare_locust.record import RecordStore
from fairshare_locust.record.run_directory import worker_file
from fairshare_locust.record.store import FLUSH_EVERY_S
from fairshare_locust.users import tenant_user_class

__all__ = ["Worker"]

_HELLO_EVERY_S = 0.5
_PING_EVERY_S = 1.0
_FIRST_PINGS = 24
_FIRST_PONG_WITHIN_S = 1.0
_PROGRESS_EVERY_S = 0.1
_REPORT_EVERY_S = 1.0
# A master that is silent for so long is gone; a cut in the network of five seconds takes a little more to heal.
_MASTER_SILENT_S = 8.0
# A Ctrl-C at the terminal is for the master too: it has this time to say what is to be done.
_MASTERS_WORD_WITHIN_S = 2.0
_DELIVERED_WITHIN_S = 10.0


class Worker:
    """This process as a worker, over all runs of its life. It greets its master, and takes part in what it is told."""

    def __init__(
        self, environment: Environment, runner: WorkerRunner, given_profile: str | None, *, alone: bool
    ) -> None:
        """Greet the master from now on.

        Args:
            given_profile: the profile that this worker was started with, as YAML; the run's has to be the same.
            alone: it has a terminal, or a log, of its own, and says there what it does.
        """
        self._environment = environment
        self._runner = runner
        self._given_profile = given_profile
        self._alone = alone
        # Read now: Locust puts the master's options in the place of ours when users are spawned.
        self._out = Path(getattr(environment.parsed_options, "fairshare_out", None) or "runs")
        self._part: _Part | None = None
        self._welcome = Event()
        self._interrupted = False
        runners.WORKER_REPORT_INTERVAL = _REPORT_EVERY_S  # live figures come with Locust's reports
        listen(runner, FROM_MASTER, self._heard)
        environment.events.report_to_master.add_listener(self._report)
        environment.events.quitting.add_listener(self._on_quitting)
        self._interrupt: Any = gevent.signal_handler(signal.SIGINT, self._on_interrupt)
        gevent.spawn(self._greet)

    def _greet(self) -> None:
        greeting = {**this_process(), "packages": package_versions(), "profile": self._given_profile}
        while not self._welcome.is_set():
            self._send("hello", greeting)
            self._welcome.wait(_HELLO_EVERY_S)
        self._say("connected to the master; waiting for a run")

    def _say(self, text: str) -> None:
        if self._alone:
            print(f"fairshare: {text}", flush=True)

    def _send(self, name: str, data: dict[str, Any]) -> None:
        self._runner.send_message(PREFIX + name, data)

    def _heard(self, _: str, data: dict[str, Any]) -> None:
        name = data["message"]
        if name == "welcome":
            self._welcome.set()
        elif self._part is not None and data["run"] == self._part.run:
            self._part.heard(name, data)
        elif name == "prepare":
            if self._part is not None and not self._part.over:
                problem = f"it is still at work on {self._part.run}; wait for it, or start it anew"
                self._send("busy", {"run": data["run"], "problem": problem})
                return
            self._part = _Part(self._environment, data, self._out, self._send, self._say, self._master_lost)

    def _report(self, data: dict[str, Any], **_: Any) -> None:
        if self._part is not None:
            data["fairshare"] = self._part.report()

    # --- leaving

    def _master_lost(self, part: _Part) -> None:
        kept = f"; its records are in {part.path}" if part.path is not None else ""
        print(
            f"fairshare: the master has been silent for {_MASTER_SILENT_S:g} s; this worker has stopped{kept}",
            file=sys.stderr,
            flush=True,
        )
        self._environment.process_exit_code = 1
        # End the process, whatever is still on its way to a master that is gone.
        self._runner.client.socket.setsockopt(zmq.LINGER, 0)
        self._runner.quit()

    def _on_interrupt(self) -> None:
        if self._interrupted:
            if self._part is not None:
                self._part.keep_what_there_is()
            os._exit(130)
        self._interrupted = True
        gevent.spawn(self._leave_unless_told)

    def _leave_unless_told(self) -> None:
        if self._part is not None and not self._part.over:
            self._part.told_to_end.wait(_MASTERS_WORD_WITHIN_S)
            if self._part.told_to_end.is_set():
                return  # the master ends the run, and then this process
            self._part.leave("it was interrupted")
        self._runner.quit()

    def _on_quitting(self, **_: Any) -> None:
        if self._part is not None and not self._part.over:
            self._part.leave("it was told to quit")


class _Part:
    """A worker's part in one run, from `prepare` to `release`.

    Attributes:
        run: its name.
        over: there is nothing more to do for it.
        told_to_end: by the master.
    """

    def __init__(
        self,
        environment: Environment,
        prepare: dict[str, Any],
        out: Path,
        send: Callable[[str, dict[str, Any]], None],
        say: Callable[[str], None],
        master_lost: Callable[[_Part], None],
    ) -> None:
        """`prepare` is the master's first letter."""
        self._environment = environment
        self._task = Task.from_dict(prepare["task"])
        self._out = out
        self._send_message = send
        self._say = say
        self._master_lost = master_lost
        self.run = self._task.run
        self.over = False
        self.told_to_end = Event()
        self._box = LetterBox()
        self._box.accept(prepare)
        self._heard_s = monotonic()
        self._sync = ClockSync()
        self._pong = Event()
        self._clock = RunClock()
        self._t0: tuple[float, float] | None = None  # monotonic and unix, on the master's clocks
        self._prepared: tuple[Profile, Prepared] | None = None
        self._tally = TallyDelta()
        self._store: RecordStore | None = None
        self._outboxes: dict[str, Outbox] = {}
        self._load: LoadProcess | None = None
        self._phase = -1
        self._ending = False  # nothing more is sent
        self._stopped = Event()  # and every record is made
        self._accounting = False
        self._ended = Event()  # the account of it is on its way
        self._greenlets = [gevent.spawn(self._prepare), gevent.spawn(self._ping), gevent.spawn(self._watch_master)]

    @property
    def path(self) -> Path | None:
        """The worker's own file of records; None while there is none."""
        return None if self._store is None else self._store.requests

    def _send(self, name: str, **data: Any) -> None:
        self._send_message(name, {"run": self.run, **data})

    def _write(self, name: str, **content: Any) -> None:
        """A letter: it is sent until it has come."""
        self._send(name, **self._box.write(name, content, monotonic()))

    def heard(self, name: str, data: dict[str, Any]) -> None:
        """A message of the master for this run."""
        self._heard_s = monotonic()
        if "letter" in data and not self._box.accept(data):
            return
        match name:
            case "pong":
                self._sync.add(data["sent_s"], data["received_s"], data["replied_s"], monotonic())
                self._follow()
                self._pong.set()
            case "heard":
                self._box.heard(data["received_letters"])
            case "enlist":
                self._enlist(data["worker"], data["workers"])
            case "begin":
                self._t0 = (data["monotonic_s"], data["unix_s"])
                self._follow()
                if self._load is not None:
                    self._load.begin(self._clock)
            case "phase":
                if self._load is not None:
                    self._phase = data["number"]
                    self._load.begin_phase(data["number"], data["start_s"])
            case "end-phase":
                self._start(lambda: self._end_phase(data["number"], data["why"]))
            case "end":
                self.told_to_end.set()
                self._start(lambda: self._end(data["why"]))
            case "have":
                self._outboxes[data["kind"]].acknowledge(data["received"], monotonic())
            case "release":
                self._start(lambda: self._close(keep=data["keep"]))
            case "dismiss":
                self._start(lambda: self._dismissed(data["why"]))

    def _start(self, work: Callable[[], None]) -> None:
        self._greenlets.append(gevent.spawn(work))

    # --- getting ready

    def _prepare(self) -> None:
        problems = self._task.obstacles()
        try:
            # In a thread of its own: this one goes on telling the master that it is alive.
            self._prepared = gevent.get_hub().threadpool.apply(self._task.prepare)
        except NotReadyError as error:
            problems += error.problems
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")
        self._synchronise()
        clock = self._clock_described()
        if clock is None:
            problems.append("no answer to any message that was sent to compare clocks")
        self._write("prepared", problems=problems, clock=clock)

    def _synchronise(self) -> None:
        for _ in range(_FIRST_PINGS):
            self._pong.clear()
            self._send_ping()
            self._pong.wait(_FIRST_PONG_WITHIN_S)

    def _send_ping(self) -> None:
        self._send("ping", sent_s=monotonic(), received_letters=self._box.received)

    def _ping(self) -> None:
        while True:
            self._send_ping()
            gevent.sleep(_PING_EVERY_S)
            for name, letter in self._box.again(monotonic()):
                self._send(name, **letter)

    def _follow(self) -> None:
        """Keep t = 0 where the master has it."""
        estimate = self._sync.estimate(monotonic())
        if self._t0 is not None and estimate is not None:
            t0_s = self._t0[0] - estimate.offset_s
            self._clock.follow(t0_s, time() - (monotonic() - t0_s))

    def _enlist(self, worker: int, workers: int) -> None:
        assert self._prepared is not None
        profile, prepared = self._prepared
        try:
            requests, texts = (worker_file(self._out / self.run, worker, kind) for kind in FILES)
            requests.parent.mkdir(parents=True, exist_ok=True)
            self._store = RecordStore(requests, texts)
        except OSError as error:
            where = error.filename or self._out
            self._write(
                "enlisted",
                problem=f"{where} can't be made: {error.strerror}; start it with another --fairshare-out",
            )
            return
        self._outboxes = {kind: Outbox(path) for kind, path in zip(FILES, (requests, texts), strict=True)}
        load = LoadProcess(
            profile, prepared, self._store, self._clock, self._environment, self._tally, worker=worker, workers=workers
        )
        self._load = load
        classes: list[type[Any]] = []
        for tenant in profile.tenants:
            user_class = tenant_user_class(tenant)
            user_class.load = load.loads[tenant.id]
            classes.append(user_class)
        self._environment.user_classes = classes
        self._greenlets += [gevent.spawn(self._ship), gevent.spawn(self._tell_progress)]
        self._say(f"{self.run}: worker {worker} of {workers}")
        self._write("enlisted", problem=None)

    # --- the load

    def _tell_progress(self) -> None:
        while True:
            gevent.sleep(_PROGRESS_EVERY_S)
            if self._load is not None and not self._ending:
                now_s = self._clock.now_s()
                self._send(
                    "progress",
                    received_letters=self._box.received,
                    t_s=now_s,
                    phase=self._phase,
                    idle=self._load.idle(now_s),
                    exhausted=self._load.exhausted_s(),
                    scheduled=self._load.scheduled(),
                    gauges={tenant_id: astuple(gauges) for tenant_id, gauges in self._load.gauges().items()},
                )

    def report(self) -> dict[str, Any]:
        """What goes with Locust's own report: what has ended since the last one, and how this process keeps up."""
        return {
            "run": self.run,
            "tally": self._tally.take(),
            "health": None if self._load is None else self._load.health(),
            "clock": self._clock_described(),
        }

    def _clock_described(self) -> dict[str, Any] | None:
        """How the master's clock stands to ours, and by how much our wall clock is ahead of the master's."""
        estimate = self._sync.estimate(monotonic())
        if estimate is None:
            return None
        wall_s = None if self._t0 is None else round(self._clock.unix_s - self._t0[1], 6)
        return {**estimate.describe(), "wall_offset_s": wall_s}

    def _ship(self) -> None:
        while True:
            gevent.sleep(FLUSH_EVERY_S)
            if self._store is not None and not self._ending:
                self._store.flush()
            self._send_parcels()

    def _send_parcels(self) -> None:
        for kind, outbox in self._outboxes.items():
            while (parcel := outbox.next(monotonic())) is not None:
                self._send("parcel", kind=kind, offset=parcel.offset, data=parcel.data)
                gevent.sleep(0)  # packing the next one may wait for whatever is due

    def _end_phase(self, number: int, why: str) -> None:
        if self._load is not None:
            self._load.end_phase(why)
            self._write("phase-ended", phase=number, attainment=self._load.attainment.counts())

    def _end(self, why: str) -> None:
        """Send no more load, make every record, tell the master how much there is. Returns when that has been done."""
        if self._load is None or self._store is None:
            return
        if self._accounting:
            self._ended.wait()
            return
        self._accounting = True
        health = self._load.health()
        self._stop_load(why)
        if self.over:
            return
        if not self._store.flush():  # their files have no room: the rest is sent from memory
            for kind, rest in zip(FILES, self._store.unwritten, strict=True):
                self._outboxes[kind].tail = rest
        runner: Any = self._environment.runner
        runner._send_stats()  # so that the master's statistics are whole before the run's end is told
        self._send_parcels()
        self._write(
            "ended",
            scheduled=self._load.scheduled(),
            attainment=self._load.attainment.counts(),
            sizes={kind: outbox.size for kind, outbox in self._outboxes.items()},
            health=health,
            clock=self._clock_described(),
        )
        self._ended.set()

    def _stop_load(self, why: str) -> None:
        """Send no more, and make every record. Returns when that has been done, to each who calls it."""
        if self._ending:
            self._stopped.wait()
            return
        self._ending = True
        try:
            if self._load is not None:
                self._load.end(why)
                runner: Any = self._environment.runner
                runner.stop_users(runner.user_classes_count)
                self._load.close()
        finally:
            self._stopped.set()

    # --- the end

    def _watch_master(self) -> None:
        while True:
            asleep_s = monotonic()
            gevent.sleep(_PROGRESS_EVERY_S)
            late_s = monotonic() - asleep_s - _PROGRESS_EVERY_S
            if late_s > _PING_EVERY_S:
                self._heard_s += late_s  # this process stood still: it was not the master that was silent
            if monotonic() - self._heard_s > _MASTER_SILENT_S:
                gevent.spawn(self._give_up)  # this greenlet is one of those that end
                return

    def _give_up(self) -> None:
        self._stop_load("the master was lost")
        if not self.over:
            self._finish(keep=True)
            self._master_lost(self)

    def leave(self, why: str) -> None:
        """Send no more load; the master gets the records, and is told that this worker leaves."""
        self._write("leaving", why=why)
        with gevent.Timeout(_DELIVERED_WITHIN_S, False):
            self._end(f"the worker left: {why}")
            while self._hears_master and not (self.over or self._delivered):
                gevent.sleep(_PROGRESS_EVERY_S)
        if self.over:  # the master had gone, or had done with this worker
            return
        self._finish(keep=True)
        if self.path is not None:
            self._say(f"{self.run}: left, as {why}; a copy of its records is in {self.path}")

    @property
    def _delivered(self) -> bool:
        return self._box.settled and all(outbox.empty for outbox in self._outboxes.values())

    @property
    def _hears_master(self) -> bool:
        """Locust listens no more once the master has told it to quit, which it does when it has done with everybody."""
        runner: Any = self._environment.runner
        return len(runner.greenlet) > 0

    def _dismissed(self, why: str) -> None:
        """The run goes on without this worker, which may take part in the next one."""
        took_part = self._load is not None
        self._stop_load(f"dismissed: {why}")
        if self.over:  # it was told more than once
            return
        self._finish(keep=True)
        kept = "" if self.path is None else f"; what it has measured is in {self.path}"
        print(f"fairshare: {self.run} goes on without this worker: {why}{kept}", file=sys.stderr, flush=True)
        if took_part:
            runner: Any = self._environment.runner
            runner.stop()
            runner.send_message("client_ready", locust.__version__)
            runner.worker_state = runners.STATE_INIT

    def _close(self, *, keep: bool) -> None:
        self._stop_load("the run ended first")
        if self.over:
            return
        self._finish(keep=keep)
        if keep and self.path is not None:
            print(f"fairshare: the master has no room; records stay in {self.path}", file=sys.stderr, flush=True)
        elif self._load is not None:
            self._say(f"{self.run}: done; the master has its records")

    def keep_what_there_is(self) -> None:
        """The process ends at once."""
        if self._load is not None:
            self._load.abandon()
        if self._store is not None:
            self._store.flush()

    def _finish(self, *, keep: bool) -> None:
        """Leave nothing behind but, if it is to be kept, the worker's own file."""
        self.over = True
        greenlets = [one for one in self._greenlets if one is not gevent.getcurrent()]
        self._greenlets = []
        gevent.killall(greenlets, block=False)
        if self._store is None:
            return
        self._store.close()
        if keep:
            return
        for path in (self._store.requests, self._store.texts):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is more in it, of the master or of other workers
            self._store.requests.parent.rmdir()
            self._store.requests.parent.parent.rmdir()
