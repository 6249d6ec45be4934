"""Locust's events → the parts of a run; the one place that knows their order.

import of the locustfile   register: profile read, user classes made (a worker has none: its master tells it)
init                       options applied, prompts made, servers started or probed (headless); a worker greets
runner.start               a run is set up, on the workers too; slots will wait at the gate
spawning_complete          t = 0; a greenlet runs the phases
test_stopping, test_stop   the load has ended, every record is in: files, analysis
quitting, quit             Ctrl-C and SIGTERM come this way; the report is printed last
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import gevent
import locust
import psutil
from locust.env import Environment
from locust.event import EventHook
from locust.runners import STATE_CLEANUP, STATE_STOPPING, MasterRunner, WorkerRunner
from locust.util.timespan import parse_timespan

from fairshare_locust.distributed.fleet import Roster
from fairshare_locust.distributed.worker import Worker
from fairshare_locust.errors import FairshareError
from fairshare_locust.live.profiles import profile_choices
from fairshare_locust.live.prometheus import exposition
from fairshare_locust.live.web import RunLink, check_start, install
from fairshare_locust.options import Options, add_options, early_options, meet_apart
from fairshare_locust.otel import prepare_opentelemetry
from fairshare_locust.plan import PLANS, apply_plan, slots_of
from fairshare_locust.profile import (
    Profile,
    load_profile,
    only_tenants,
    resolved_yaml,
    scaled,
    with_duration,
    with_endpoint,
    with_slots,
)
from fairshare_locust.run import Run
from fairshare_locust.users import TenantUser, tenant_user_class

__all__ = ["register"]

_log = logging.getLogger(__name__)

_EXIT_USAGE = 2
_PROFILES = Path("profiles")  # what the web UI's form offers
_EXIT_SUSPECT = 3
_FORKS_END_WITHIN_S = 5.0
_EXIT_INTERRUPTED = 130


def register(namespace: dict[str, Any], plan: str = "mixed") -> None:
    """Make a locustfile a run of the profile: `register(globals())`.

    Puts a user class per tenant into the locustfile's namespace, where Locust looks for them, and listens to
    Locust's events. A profile that can't be used ends the process here, with every problem in it.

    Args:
        namespace: the locustfile's `globals()`.
        plan: one of `fairshare_locust.plan.PLANS`: `mixed` (all tenants at once), `solo` (each alone, one after
            another), `pairs`, `interference` (alone, in pairs, all), `noisy_neighbour`, `steps` (a sweep of loads).
    """
    if plan not in PLANS:
        _fail(f"register(plan={plan!r}): no such plan; there are {', '.join(PLANS)}")
    early = early_options()
    offered = list(profile_choices(_PROFILES, early.profile))
    locust.events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser, offered))
    for hook in ("first_token", "token", "response"):
        if not hasattr(locust.events, hook):
            setattr(locust.events, hook, EventHook())
    if early.asks_for_help:
        namespace["TenantUser"] = TenantUser
        return
    try:
        if early.otel:
            prepare_opentelemetry()
        if early.forks:
            atexit.register(_end_forks, os.getpid())
            if not early.meeting_given:
                meet_apart()
        if early.worker:
            # Locust wants a user class; the tenants come with the master's run.
            namespace["WaitingTenant"] = type("WaitingTenant", (TenantUser,), {"abstract": False, "tenant_id": ""})
            given = resolved_yaml(load_profile(early.profile)) if early.profile_given else None
            locust.events.init.add_listener(lambda environment, runner, **_: _work(environment, runner, given))
            return
        profile = load_profile(early.profile)
    except FairshareError as error:
        _fail(str(error))
    for tenant in profile.tenants:
        namespace[tenant.class_name] = tenant_user_class(tenant)
    Plugin(plan, early.profile)


def _work(environment: Environment, runner: Any, given_profile: str | None) -> None:
    if isinstance(runner, WorkerRunner):  # else it only lists what there is
        Worker(environment, runner, given_profile, alone=True)


class Plugin:
    """Listens to Locust and keeps the run under way."""

    def __init__(self, plan: str, started_with: Path) -> None:
        self._plan = plan
        self._started_with = started_with
        self._default_users = 0
        self._users_given = False
        self._preparing = False
        self._starting = False
        self._runs: list[Run] = []
        self._environment: Environment | None = None
        self._roster: Roster | None = None
        self._prepared: Run | None = None
        self._cancelled = False
        self._run: Run | None = None
        self._finishing: Run | None = None
        self._finished: Run | None = None
        self._interrupt: Any = None
        self._conductor: gevent.Greenlet | None = None
        locust.events.init.add_listener(self._on_init)

    # --- before the load

    def _on_init(self, environment: Environment, runner: Any, web_ui: Any = None, **_: Any) -> None:
        if isinstance(runner, WorkerRunner):  # of --processes: it has this process's memory, and no part of its work
            Worker(environment, runner, None, alone=False)
            return
        self._environment = environment
        if isinstance(runner, MasterRunner):
            self._roster = Roster(environment, runner)
        events = environment.events
        events.spawning_complete.add_listener(self._on_spawning_complete)
        events.test_stopping.add_listener(self._on_test_stopping)
        events.test_stop.add_listener(self._on_test_stop)
        events.quitting.add_listener(self._on_quitting)
        events.quit.add_listener(self._on_quit)
        parsed: Any = environment.parsed_options
        try:
            profile = self._profile(parsed)
            self._users_given = parsed.num_users is not None
            if self._users_given:
                profile = self._with_slots(profile, parsed.num_users)
            parsed.num_users = sum(slots_of(profile).values())
            if parsed.spawn_rate is None:
                # Slots wait at the gate until all are there, so there is nothing to ramp up for.
                parsed.spawn_rate = parsed.num_users
                logging.getLogger("locust.runners").addFilter(_is_no_spawn_rate_warning)
            self._start_users = runner.start
            runner.start = self._start
            if parsed.headless:
                parsed.only_summary = True
                parsed.run_time = None  # it is the run's duration; the run ends itself
                self._prepared = self._prepare(profile, parsed)
                self._interrupt = gevent.signal_handler(signal.SIGINT, self._on_interrupt)
                if self._roster is not None:
                    # While Locust waits for workers, it knows of no other end than the process's.
                    gevent.signal_handler(signal.SIGTERM, self._on_terminate)
                    atexit.register(self._undo)
            elif web_ui is not None:
                self._serve(web_ui)
                if parsed.autostart:
                    self._prepared = self._prepare(profile, parsed)
                    parsed.run_time = None  # as above
        except FairshareError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            print("fairshare: interrupted before any load was sent", file=sys.stderr, flush=True)
            sys.exit(_EXIT_INTERRUPTED)

    def _serve(self, web_ui: Any) -> None:
        """Our pages in the web UI, and our fields in its form."""
        parsed: Any = web_ui.environment.parsed_options
        self._default_users = parsed.num_users
        install(web_ui, self._snapshot, self._links, self._metrics)
        check_start(
            web_ui,
            lambda: profile_choices(_PROFILES, self._started_with),
            prepare=self._prepare_form,
            undo=self._not_started,
        )

    def _prepare_form(self, form: Mapping[str, Any]) -> None:
        """Prepare the run that the form asks for, so that the page shows what is in its way. Raises FairshareError."""
        if self._busy():
            raise FairshareError("a run is still going on, or being analysed; stop it, and wait for its verdict")
        if self._preparing or self._starting:
            raise FairshareError("a run is being prepared already, as somebody else has asked for it; wait for it")
        self._preparing = True
        try:
            self._undo()
            assert self._environment is not None
            asked = Namespace(**vars(self._environment.parsed_options))
            vars(asked).update({name: value for name, value in form.items() if name in vars(asked)})
            run_time = form.get("run_time")
            asked.run_time = parse_timespan(run_time) if run_time else None
            profile = self._profile(asked)
            users = int(form.get("user_count", self._default_users))
            # The number that the form came with is that of the profile it came with; another profile has its own.
            same = self._users_given and Options.of(asked).profile == self._started_with
            if users != self._default_users or same:
                profile = self._with_slots(profile, users)
            self._prepared = self._prepare(profile, asked)
            self._muster(self._prepared)
        except BaseException:
            self._undo()
            self._preparing = False
            raise

    def _not_started(self) -> None:
        """Locust has not started what was prepared."""
        self._preparing = False
        self._undo()

    def _undo(self) -> None:
        """The run that was prepared is not wanted after all."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.discard()

    def _busy(self) -> bool:
        runner: Any = None if self._environment is None else self._environment.runner
        under_way = self._run is not None or self._finishing is not None
        return under_way or (runner is not None and runner.state in (STATE_STOPPING, STATE_CLEANUP))

    def _shown(self) -> Run | None:
        """The run that goes on, or was the last."""
        return next((run for run in reversed(self._runs) if run.live is not None), None)

    def _snapshot(self) -> dict[str, Any] | None:
        run = self._shown()
        return None if run is None or run.live is None else run.live.view.snapshot()

    def _metrics(self) -> str:
        run = self._shown()
        return "" if run is None or run.live is None else exposition(run.live.tally, run.live.view.snapshot())

    def _links(self) -> list[RunLink]:
        # The last run has its verdict once another one may start.
        done = self._runs[:-1] if self._busy() else self._runs
        verdicts = {run: run.summary["verdict"] for run in done if run.summary is not None}
        return [RunLink(run.path, verdicts.get(run)) for run in self._runs]

    def _profile(self, parsed: Any) -> Profile:
        """The profile as the plan makes it, with everything that the command line changes in it."""
        options = Options.of(parsed)
        profile = scaled(load_profile(options.profile), options.scale)
        if options.seed is not None:
            profile = replace(profile, seed=options.seed)
        if parsed.run_time == 0:
            raise FairshareError("run time (-t): found 0; must be more than 0 s")
        if parsed.run_time:
            profile = with_duration(profile, float(parsed.run_time))
        if parsed.host:
            profile = with_endpoint(profile, parsed.host)
        chosen = set(parsed.user_classes or ())
        if chosen:
            profile = only_tenants(profile, chosen)
        return apply_plan(self._plan, profile)

    def _with_slots(self, profile: Profile, users: int) -> Profile:
        """The profile with so many streams in the phase that needs most of them."""
        most = sum(slots_of(profile).values())
        if users == most:
            return profile
        if users < len(profile.tenants):
            return with_slots(profile, users)  # refuses, and names the number that was given
        base = users if most == profile.slots else round(users * profile.slots / most)
        sized = with_slots(profile, max(len(profile.tenants), base))
        got = sum(slots_of(sized).values())
        if got != users:
            print(f"fairshare: users (-u): {got} instead of {users}, as loads round up", file=sys.stderr, flush=True)
        return sized

    def _prepare(self, profile: Profile, parsed: Any) -> Run:
        assert self._environment is not None
        options = Options.of(parsed)
        base = resolved_yaml(load_profile(options.profile))
        run = Run(self._environment, profile, self._plan, options, base)
        run.prepare()
        return run

    def _muster(self, run: Run) -> None:
        """Have the workers, if there are any, make ready for the run. Raises FairshareError when too few can."""
        if self._roster is not None and self._environment is not None:
            parsed: Any = self._environment.parsed_options
            run.muster(self._roster, max(1, parsed.expect_workers), lambda: self._deserted(run))

    def _deserted(self, run: Run) -> None:
        """Nobody is left to make the run's load."""
        if run is self._run:
            run.end_load("interrupted")
            self._stop()

    def _start(self, user_count: int, spawn_rate: float, *args: Any, **kwargs: Any) -> Any:
        """Locust's `runner.start`, with a run behind it."""
        assert self._environment is not None
        if self._busy():
            if self._roster is None:
                return self._start_users(user_count, spawn_rate, *args, **kwargs)
            return None  # Locust moves users when workers come and go; a run's are where their arrivals are
        if self._starting:
            return None  # a key was pressed while the run is being made ready
        self._starting = True
        try:
            if self._prepared is None:  # started by a key, by --autostart, or by somebody's code
                parsed: Any = self._environment.parsed_options
                self._prepared = self._prepare(self._with_slots(self._profile(parsed), user_count), parsed)
                parsed.run_time = None
            if self._roster is not None and not self._prepared.mustered:
                self._muster(self._prepared)
            self._environment.user_classes = self._user_classes(self._prepared)
        except Exception as error:
            self._preparing = False
            if self._cancelled:
                return None
            if not isinstance(error, FairshareError | OSError):
                _log.exception("the run can't begin")
            self._give_up(str(error))
            return None
        finally:
            self._starting = False
        self._preparing = False
        self._run, self._prepared = self._prepared, None
        run = self._run
        self._runs.append(run)
        if self._roster is not None:
            self._environment.dispatcher_class = run.dispatcher
        return self._start_users(sum(run.slots.values()), spawn_rate, *args, **kwargs)

    def _user_classes(self, run: Run) -> list[type[Any]]:
        """Set the run up; the classes of its tenants."""
        assert self._environment is not None
        loads = run.set_up()
        known = {user_class.__name__: user_class for user_class in self._environment.user_classes}
        classes: list[type[Any]] = []
        for tenant in run.profile.tenants:
            user_class: Any = known.get(tenant.class_name) or tenant_user_class(tenant)
            user_class.load = loads.get(tenant.id)
            user_class.fixed_count = run.slots[tenant.id]
            classes.append(user_class)
        return classes

    def _give_up(self, why: str) -> None:
        """The run can't begin: tell, and end the process of a headless one."""
        assert self._environment is not None
        for line in why.splitlines():
            print(f"fairshare: {line}", file=sys.stderr, flush=True)
        self._undo()
        self._run = None
        parsed: Any = self._environment.parsed_options
        if parsed.headless:
            self._environment.process_exit_code = _EXIT_USAGE
            runner: Any = self._environment.runner
            runner.quit()

    # --- the load and its end

    def _on_spawning_complete(self, **_: Any) -> None:
        if self._run is not None and self._conductor is None:
            self._conductor = gevent.spawn(self._conduct, self._run)

    def _conduct(self, run: Run) -> None:
        try:
            complete = run.begin()
        except Exception:
            _log.exception("the run ends, as it can't be conducted any further")
            run.end_load("interrupted")
            complete = True
        if complete:
            self._stop()

    def _stop(self) -> None:
        assert self._environment is not None
        runner: Any = self._environment.runner
        parsed: Any = self._environment.parsed_options
        runner.stop()
        if parsed.headless:
            runner.quit()

    def _on_interrupt(self) -> None:
        self._interrupt.cancel()
        self._interrupt = gevent.signal_handler(signal.SIGINT, self._on_second_interrupt)
        if self._waits:
            self._end_wait()
            return
        print("fairshare: interrupted, finishing (again to quit at once)", file=sys.stderr, flush=True)
        if self._run is not None:
            self._run.end_load("interrupted")
        self._stop()

    @property
    def _waits(self) -> bool:
        """Whether a headless run has not begun yet, as for want of workers."""
        return self._run is None and self._finishing is None and self._finished is None

    def _end_wait(self) -> None:
        assert self._environment is not None
        self._cancelled = True
        self._undo()
        print("fairshare: interrupted before any load was sent", file=sys.stderr, flush=True)
        runner: Any = self._environment.runner
        runner.quit()
        gevent.spawn(sys.exit, _EXIT_INTERRUPTED)  # ends the main greenlet, which may be waiting for workers

    def _on_terminate(self) -> None:
        if self._waits:  # else Locust ends the run
            self._end_wait()

    def _on_second_interrupt(self) -> None:
        for run in (self._run, self._finishing):
            if run is not None:
                run.abandon()
        os._exit(_EXIT_INTERRUPTED)

    def _on_test_stopping(self, **_: Any) -> None:
        if self._run is not None:
            self._run.end_load("interrupted")  # unless it has ended already

    def _on_test_stop(self, environment: Environment, **_: Any) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        self._finishing = run
        conductor, self._conductor = self._conductor, None
        if conductor is not None and conductor is not gevent.getcurrent():
            conductor.kill()
        try:
            run.finalise()
            self._judge(environment, run)
        finally:
            self._finishing, self._finished = None, run
        parsed: Any = environment.parsed_options
        if not parsed.headless:
            self._print_report(run)

    def _judge(self, environment: Environment, run: Run) -> None:
        parsed: Any = environment.parsed_options
        strict = Options.of(parsed).strict
        if run.problem is not None:
            print(f"fairshare: {run.problem}", file=sys.stderr, flush=True)
            environment.process_exit_code = 1
        elif strict and run.summary is not None and run.summary["verdict"]["status"] != "valid":
            environment.process_exit_code = _EXIT_SUSPECT

    def _on_quitting(self, environment: Environment, **_: Any) -> None:
        if self._run is not None:  # SIGTERM, or Ctrl-C in the web UI: the users still run
            self._run.end_load("interrupted")
            runner: Any = environment.runner
            runner.stop()
        while self._finishing is not None:  # in another greenlet: the process must not end before it has
            gevent.sleep(0.05)
        self._undo()

    def _on_quit(self, **_: Any) -> None:
        parsed: Any = None if self._environment is None else self._environment.parsed_options
        if self._finished is not None and parsed.headless:
            self._print_report(self._finished)

    def _print_report(self, run: Run) -> None:
        print((run.report or f"fairshare: the run is in {run.path}").rstrip(), flush=True)


def _end_forks(parent: int) -> None:
    """The process ends: none of the workers that Locust has forked for it may stay.

    Locust has asked them by now, and forgotten those that took their time, as they do that still look for a master.
    """
    if os.getpid() != parent:
        return
    forks = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    _, alive = psutil.wait_procs(forks, _FORKS_END_WITHIN_S)
    for process in alive:
        process.kill()


def _is_no_spawn_rate_warning(record: logging.LogRecord) -> bool:
    return "spawn rate is very high" not in str(record.msg)


def _fail(message: str) -> NoReturn:
    """End the process with every line of the message marked as ours."""
    for line in message.splitlines():
        print(f"fairshare: {line}", file=sys.stderr, flush=True)
    sys.exit(_EXIT_USAGE)
