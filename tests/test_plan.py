"""Plans: profile → profile with other phases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fairshare_locust.errors import ProfileError
from fairshare_locust.plan import LOADS, PLANS, Phase, apply_plan, phases_of, slots_of
from fairshare_locust.profile import Profile, parse_profile, resolved_yaml
from fairshare_locust.profile.arrivals import ClosedArrival
from fairshare_locust.profile.model import PhaseOptions, Run, Slo
from tests.profile.profiles import MINIMAL, parse, tenant

_PROFILE = dataclasses.replace(
    parse(MINIMAL), tenants=(tenant("chat"), tenant("batch")), run=Run(warmup_s=3, duration_s=30, drain_s=7)
)


def phases(plan: str, profile: Profile = _PROFILE) -> list[tuple[str, tuple[str, ...]]]:
    return [(phase.prefix, phase.tenants) for phase in phases_of(apply_plan(plan, profile))]


def test_mixed_is_all_tenants_at_once() -> None:
    assert phases_of(apply_plan("mixed", _PROFILE)) == (Phase("", ("chat", "batch"), 3, 30, None, 7),)


def test_solo_is_one_after_another() -> None:
    assert phases_of(apply_plan("solo", _PROFILE)) == (
        Phase("solo-chat/", ("chat",), 3, 30, None, 7),
        Phase("solo-batch/", ("batch",), 3, 30, None, 7),
    )


def test_a_number_of_requests_instead_of_a_duration() -> None:
    profile = dataclasses.replace(_PROFILE, run=Run(requests=50))
    assert [(each.duration_s, each.requests) for each in phases_of(apply_plan("solo", profile))] == [(None, 50)] * 2


def test_pairs_and_interference_of_three() -> None:
    three = dataclasses.replace(_PROFILE, tenants=(tenant("a"), tenant("b"), tenant("c")))
    pairs = [("a+b/", ("a", "b")), ("a+c/", ("a", "c")), ("b+c/", ("b", "c"))]
    alone = [("solo-a/", ("a",)), ("solo-b/", ("b",)), ("solo-c/", ("c",))]
    assert phases("pairs", three) == pairs
    assert phases("interference", three) == [*alone, *pairs, ("all/", ("a", "b", "c"))]


def test_of_two_tenants_the_pair_is_all() -> None:
    assert [prefix for prefix, _ in phases("interference")] == ["solo-chat/", "solo-batch/", "all/"]


def test_the_noisy_neighbour_is_the_last_tenant_in_the_middle_third() -> None:
    """Warm-up to 3, measurement 3 to 33: its thirds are 3-13, 13-23, 23-33."""
    planned = apply_plan("noisy_neighbour", _PROFILE)
    assert [each.arrival.active_s for each in planned.tenants] == [(), ((13, 23),)]
    assert phases("noisy_neighbour") == [("", ("chat", "batch"))]
    assert apply_plan("noisy_neighbour", planned) == planned


def test_a_noisy_neighbour_needs_a_duration() -> None:
    with pytest.raises(ProfileError, match=r"needs run\.duration_s"):
        apply_plan("noisy_neighbour", dataclasses.replace(_PROFILE, run=Run(requests=50)))


@pytest.mark.parametrize("promised", [True, False])
def test_steps_end_with_an_slo_that_breaks(promised: bool) -> None:
    chat = dataclasses.replace(tenant("chat"), slo=Slo(ttft_ms=100) if promised else None)
    planned = phases_of(apply_plan("steps", dataclasses.replace(_PROFILE, tenants=(chat,))))
    assert tuple(each.load for each in planned) == LOADS
    assert {each.stop_if_slo_breaks for each in planned} == {promised}
    assert planned[1].prefix == "load-0.5/"


def test_a_profile_may_write_its_own_phases() -> None:
    own = PhaseOptions(name="late", tenants=("batch",), load=2, warmup_s=0, requests=5, drain_s=1)
    profile = dataclasses.replace(_PROFILE, phases=(own, PhaseOptions(name="all")))
    assert phases_of(apply_plan("mixed", profile)) == (
        Phase("late/", ("batch",), 0, None, 5, 1, 2),
        Phase("all/", ("chat", "batch"), 3, 30, None, 7),
    )
    with pytest.raises(ProfileError, match="phases: the plan 'solo' writes its own"):
        apply_plan("solo", profile)


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_applied_twice_is_the_plan(plan: str) -> None:
    once = apply_plan(plan, _PROFILE)
    assert apply_plan(plan, once) == once


@pytest.mark.parametrize("plan", PLANS)
def test_what_a_plan_makes_is_a_profile(plan: str) -> None:
    planned = apply_plan(plan, _PROFILE)
    assert parse_profile(resolved_yaml(planned), source="p", folder=Path()) == planned


def test_slots_for_the_phase_that_needs_most() -> None:
    closed = dataclasses.replace(tenant("chat"), arrival=ClosedArrival(concurrency=3))
    profile = dataclasses.replace(_PROFILE, tenants=(closed, tenant("batch")))
    assert slots_of(apply_plan("steps", profile)) == {"chat": 12, "batch": 256}
    assert slots_of(profile) == {"chat": 3, "batch": 64}


def test_a_phase_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        phases_of(_PROFILE)[0].prefix = "x"  # type: ignore[misc]
