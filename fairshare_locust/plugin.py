"""Locust's events → the parts of a run; the one place that knows their order.

import of the locustfile   register: profile read, user classes made
init                       options applied, prompts made, servers started or probed (headless)
test_start                 a run is set up; slots will wait at the gate
spawning_complete          t = 0; a greenlet runs the phases
test_stopping, test_stop   the load has ended, every record is in: files, analysis
quitting, quit             Ctrl-C and SIGTERM come this way; the report is printed last
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import gevent
import locust
from locust.env import Environment
from locust.event import EventHook
from locust.exception import StopTest
from locust.runners import STATE_CLEANUP, STATE_STOPPING, LocalRunner

from fairshare_locust.errors import FairshareError
from fairshare_locust.live.profiles import Settings, profile_choices
from fairshare_locust.live.prometheus import exposition
from fairshare_locust.live.web import RunLink, check_start, install
from fairshare_locust.options import Options, add_options, early_options
from fairshare_locust.plan import PLANS, apply_plan, slots_of
from fairshare_locust.profile import (
    Profile,
    load_profile,
    only_tenants,
    scaled,
    with_duration,
    with_endpoint,
    with_slots,
)
from fairshare_locust.run import Run
from fairshare_locust.users import TenantUser, tenant_user_class

__all__ = ["register"]

_EXIT_USAGE = 2
_PROFILES = Path("profiles")  # what the web UI's form offers
_EXIT_SUSPECT = 3
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
    if early.distributed is not None:
        _fail(f"{early.distributed} is not supported: one process makes the load; run without it")
    try:
        profile = load_profile(early.profile)
    except FairshareError as error:
        _fail(str(error))
    for tenant in profile.tenants:
        namespace[tenant.class_name] = tenant_user_class(tenant)
    Plugin(plan, early.profile)


class Plugin:
    """Listens to Locust and keeps the run under way."""

    def __init__(self, plan: str, started_with: Path) -> None:
        self._plan = plan
        self._started_with = started_with
        self._default_users = 0
        self._runs: list[Run] = []
        self._environment: Environment | None = None
        self._prepared: Run | None = None
        self._run: Run | None = None
        self._finishing: Run | None = None
        self._finished: Run | None = None
        self._interrupt: Any = None
        self._conductor: gevent.Greenlet | None = None
        locust.events.init.add_listener(self._on_init)

    # --- before the load

    def _on_init(self, environment: Environment, runner: Any, web_ui: Any = None, **_: Any) -> None:
        if not isinstance(runner, LocalRunner):
            _fail("distributed runs are not supported: one process makes the load")
        self._environment = environment
        events = environment.events
        events.test_start.add_listener(self._on_test_start)
        events.spawning_complete.add_listener(self._on_spawning_complete)
        events.test_stopping.add_listener(self._on_test_stopping)
        events.test_stop.add_listener(self._on_test_stop)
        events.quitting.add_listener(self._on_quitting)
        events.quit.add_listener(self._on_quit)
        parsed: Any = environment.parsed_options
        try:
            profile = self._profile(parsed)
            if parsed.num_users is not None:
                profile = self._with_slots(profile, parsed.num_users)
            parsed.num_users = sum(slots_of(profile).values())
            if parsed.spawn_rate is None:
                # Slots wait at the gate until all are there, so there is nothing to ramp up for.
                parsed.spawn_rate = parsed.num_users
                logging.getLogger("locust.runners").addFilter(_is_no_spawn_rate_warning)
            if parsed.headless:
                parsed.only_summary = True
                parsed.run_time = None  # it is the run's duration; the run ends itself
                self._prepared = self._prepare(profile, parsed)
                self._interrupt = gevent.signal_handler(signal.SIGINT, self._on_interrupt)
            elif web_ui is not None:
                self._serve(web_ui, runner)
        except FairshareError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            print("fairshare: interrupted before any load was sent", file=sys.stderr, flush=True)
            sys.exit(_EXIT_INTERRUPTED)

    def _serve(self, web_ui: Any, runner: Any) -> None:
        """Our pages in the web UI, and our fields in its form."""
        parsed: Any = web_ui.environment.parsed_options
        self._default_users = parsed.num_users
        install(web_ui, self._snapshot, self._links, self._metrics)
        check_start(web_ui, lambda: profile_choices(_PROFILES, self._started_with), check=self._check)
        start = runner.start

        def start_run(user_count: int, *args: Any, **kwargs: Any) -> Any:
            # The number that the form came with is that of the profile it came with; another profile has its own.
            web_ui._cancel_run_time_timer()  # it is the run's duration, warm-up and drain aside; the run ends itself
            profile = self._profile(parsed)
            if user_count != self._default_users:
                profile = self._with_slots(profile, user_count)
            return start(sum(slots_of(profile).values()), *args, **kwargs)

        runner.start = start_run

    def _check(self, settings: Settings) -> None:
        """What the form asks for is a profile that can be planned, and no run is in its way. Raises FairshareError."""
        if self._busy():
            raise FairshareError("a run is still going on, or being analysed; stop it, and wait for its verdict")
        profile = scaled(load_profile(settings.profile or self._started_with), settings.scale or 1.0)
        apply_plan(self._plan, profile)

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
        run = Run(self._environment, profile, self._plan, Options.of(parsed))
        run.prepare()
        return run

    def _on_test_start(self, environment: Environment, **_: Any) -> None:
        runner: Any = environment.runner
        try:
            if self._prepared is None:  # started from the web UI
                profile = self._with_slots(self._profile(environment.parsed_options), runner.target_user_count)
                self._prepared = self._prepare(profile, environment.parsed_options)
            run, self._prepared = self._prepared, None
            self._run = run
            self._runs.append(run)
            load = run.set_up()
        except (FairshareError, OSError) as error:
            environment.process_exit_code = _EXIT_USAGE
            raise StopTest(str(error)) from error
        classes: list[type[Any]] = []
        known = {user_class.__name__: user_class for user_class in environment.user_classes}
        for tenant in run.profile.tenants:
            user_class: Any = known.get(tenant.class_name) or tenant_user_class(tenant)
            user_class.load = load.loads[tenant.id]
            user_class.fixed_count = run.slots[tenant.id]
            classes.append(user_class)
        environment.user_classes = classes

    # --- the load and its end

    def _on_spawning_complete(self, **_: Any) -> None:
        if self._run is not None and self._conductor is None:
            self._conductor = gevent.spawn(self._conduct, self._run)

    def _conduct(self, run: Run) -> None:
        if run.begin():
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
        print("fairshare: interrupted, finishing (again to quit at once)", file=sys.stderr, flush=True)
        if self._run is not None:
            self._run.end_load("interrupted")
        self._stop()

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
        if self._prepared is not None:
            self._prepared.stop_servers()

    def _on_quit(self, **_: Any) -> None:
        parsed: Any = None if self._environment is None else self._environment.parsed_options
        if self._finished is not None and parsed.headless:
            self._print_report(self._finished)

    def _print_report(self, run: Run) -> None:
        print((run.report or f"fairshare: the run is in {run.path}").rstrip(), flush=True)


def _is_no_spawn_rate_warning(record: logging.LogRecord) -> bool:
    return "spawn rate is very high" not in str(record.msg)


def _fail(message: str) -> NoReturn:
    """End the process with every line of the message marked as ours."""
    for line in message.splitlines():
        print(f"fairshare: {line}", file=sys.stderr, flush=True)
    sys.exit(_EXIT_USAGE)
