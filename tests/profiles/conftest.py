"""Runs the scenarios that ship, shortened: in virtual time, but for two of them as Locust processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from fairshare_locust.profile import Profile, load_profile, resolved_yaml
from fairshare_locust.profile.arrivals import Arrival, RampArrival, StepsArrival
from fairshare_locust.profile.distribution import Duration
from fairshare_locust.profile.workloads import ConversationWorkload, SharegptWorkload, Workload
from fairshare_locust.record import RequestRecord
from fairshare_locust.simulator.virtual import VirtualRun
from tests.run.conftest import REPOSITORY, FinishedRun, run_once

PROFILES = REPOSITORY / "profiles"

# Scenario → factor on its durations. Rates, lengths and the server stay as they are, and so do the bursts of on_off:
# how long a burst is against an answer is what it is about.
SHORTENED = {
    "azure_code_and_chat": 0.08,
    "conversations": 0.1,
    "demo": 0.1,
    "fairshare_l4": 0.06,
    "gpushare_matrix": 0.1,
    "noisy_neighbour": 0.13,
    "on_off": 0.13,
    "overload": 0.18,
    "priority": 0.08,
    "prompt_bomb": 0.12,
    "ramping_aggressor": 0.13,
    "short_long_mix": 0.1,
    "trace_replay": 0.12,
    "weighted": 0.09,
}
IN_REAL_TIME = ("conversations", "trace_replay")


@dataclass(frozen=True)
class ScenarioRun:
    """A scenario that has been run, and what its report says."""

    profile: Profile
    finished: FinishedRun

    @property
    def records(self) -> list[RequestRecord]:
        return self.finished.records

    @property
    def summary(self) -> dict[str, Any]:
        return self.finished.summary

    def part(self, name: str) -> dict[str, Any]:
        """The figures of a measured part."""
        return next(part for part in self.summary["phases"] if part["name"] == name)


def shortened(profile: Profile, factor: float) -> Profile:
    """The profile with every duration times `factor`, the drain excepted, which ends by itself; without telemetry."""

    def scale(value: float | None) -> float | None:
        return None if value is None else value * factor

    def think(duration: Duration) -> Duration:
        times = {f.name: scale(getattr(duration, f.name)) for f in fields(duration) if f.name in _SECONDS}
        return replace(duration, **times)  # type: ignore[arg-type]

    def workload(workload: Workload) -> Workload:
        if isinstance(workload, (ConversationWorkload, SharegptWorkload)):
            return replace(workload, think_s=think(workload.think_s))
        return workload

    def arrival(arrival: Arrival) -> Arrival:
        arrival = replace(
            arrival, active_s=tuple(tuple(bound * factor for bound in stretch) for stretch in arrival.active_s)
        )
        if isinstance(arrival, RampArrival):
            return replace(arrival, over_s=arrival.over_s * factor, after_s=arrival.after_s * factor)
        if isinstance(arrival, StepsArrival):
            return replace(arrival, steps=tuple(replace(step, for_s=step.for_s * factor) for step in arrival.steps))
        return arrival

    return replace(
        profile,
        run=replace(
            profile.run,
            warmup_s=profile.run.warmup_s * factor,
            duration_s=scale(profile.run.duration_s),
            fairness_window_s=profile.run.fairness_window_s * factor,
        ),
        tenants=tuple(
            replace(tenant, arrival=arrival(tenant.arrival), workload=workload(tenant.workload))
            for tenant in profile.tenants
        ),
        phases=tuple(
            replace(phase, warmup_s=scale(phase.warmup_s), duration_s=scale(phase.duration_s))
            for phase in profile.phases
        ),
        telemetry=replace(profile.telemetry, nvml="never", server_metrics="never"),
    )


_SECONDS = ("value", "low", "high", "mean", "max")  # what a duration's parameters in seconds are called


@pytest.fixture(scope="session")
def _runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[ScenarioRun]]]:
    """A run for each scenario that a chosen test asks for; those in real time are under way while others are made."""
    asked = {name for item in request.session.items if (name := _asked_by(item)) is not None}

    def run(name: str, folder: Path) -> ScenarioRun:
        profile = shortened(load_profile(PROFILES / f"{name}.yaml"), SHORTENED[name])
        if name in IN_REAL_TIME:
            return ScenarioRun(profile, run_once(folder, resolved_yaml(profile), "--fairshare-no-report"))
        return ScenarioRun(profile, FinishedRun(0, "", VirtualRun(profile, "mixed").run(folder, name).path))

    with ThreadPoolExecutor(len(IN_REAL_TIME)) as real_time, ThreadPoolExecutor(1) as virtual:
        yield {
            name: (real_time if name in IN_REAL_TIME else virtual).submit(run, name, tmp_path_factory.mktemp(name))
            for name in sorted(asked)
        }


def _asked_by(item: pytest.Item) -> str | None:
    params: dict[str, str] = getattr(getattr(item, "callspec", None), "params", {})
    return params.get("scenario")


@pytest.fixture
def scenario(request: pytest.FixtureRequest, _runs: dict[str, Future[ScenarioRun]]) -> ScenarioRun:
    """The scenario that the test's parameter names, run to its end."""
    return _runs[request.param].result()
