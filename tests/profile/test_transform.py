"""What the command line changes in a profile."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile import (
    Profile,
    only_tenants,
    resolved_yaml,
    scaled,
    with_duration,
    with_endpoint,
    with_slots,
)
from fairshare_locust.profile.arrivals import (
    Arrival,
    BatchArrival,
    ClosedArrival,
    ConstantArrival,
    GammaArrival,
    OnOffArrival,
    PoissonArrival,
    RampArrival,
    RateStep,
    StepsArrival,
    TraceArrival,
    WeibullArrival,
)
from fairshare_locust.profile.distribution import ConstantDuration
from fairshare_locust.profile.model import PhaseOptions, Run, Slo
from fairshare_locust.profile.transform import scaled_arrival
from tests.profile.profiles import MINIMAL, parse, tenant

_THINK = ConstantDuration(value=2)


def of_slots(*slots: int) -> Profile:
    """A profile whose tenants have so many slots; the first is a closed loop, the others are open."""
    tenants = [tenant("t0", arrival=ClosedArrival(concurrency=slots[0], think_s=_THINK))]
    tenants += [
        tenant(f"t{i}", arrival=PoissonArrival(rate_per_s=3, max_in_flight=n, overflow="shed"))
        for i, n in enumerate(slots[1:], start=1)
    ]
    return dataclasses.replace(parse(MINIMAL), tenants=tuple(tenants))


def slots_of(profile: Profile) -> list[int]:
    return [t.arrival.slots for t in profile.tenants]


def test_scaled() -> None:
    profile = of_slots(4, 10)
    double = scaled(profile, 2)
    assert double.tenants[0].arrival == ClosedArrival(concurrency=8, think_s=_THINK)
    assert double.tenants[1].arrival == PoissonArrival(rate_per_s=6, max_in_flight=20, overflow="shed")
    assert scaled(profile, 1) == profile
    assert dataclasses.replace(double, tenants=profile.tenants) == profile


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        (BatchArrival(size=4, think_s=_THINK), BatchArrival(size=6, think_s=_THINK)),
        (ConstantArrival(rate_per_s=2), ConstantArrival(rate_per_s=3, max_in_flight=96)),
        (GammaArrival(rate_per_s=2, cv=3), GammaArrival(rate_per_s=3, cv=3, max_in_flight=96)),
        (WeibullArrival(rate_per_s=2, shape=3), WeibullArrival(rate_per_s=3, shape=3, max_in_flight=96)),
        (
            OnOffArrival(rate_per_s=2, on_s=3, off_s=4, off_rate_per_s=0.5),
            OnOffArrival(rate_per_s=3, on_s=3, off_s=4, off_rate_per_s=0.75, max_in_flight=96),
        ),
        (
            RampArrival(from_per_s=0, to_per_s=2, over_s=10, after_s=5),
            RampArrival(from_per_s=0, to_per_s=3, over_s=10, after_s=5, max_in_flight=96),
        ),
        (
            StepsArrival(steps=(RateStep(rate_per_s=2, for_s=5), RateStep(rate_per_s=0, for_s=1)), loop=True),
            StepsArrival(
                steps=(RateStep(rate_per_s=3, for_s=5), RateStep(rate_per_s=0, for_s=1)), loop=True, max_in_flight=96
            ),
        ),
        (TraceArrival(trace="t"), TraceArrival(trace="t", speed=1.5, max_in_flight=96)),
        (TraceArrival(trace="t", speed=4), TraceArrival(trace="t", speed=6, max_in_flight=96)),
        (TraceArrival(trace="t", rate_per_s=2), TraceArrival(trace="t", rate_per_s=3, max_in_flight=96)),
        (
            PoissonArrival(rate_per_s=2, active_s=((1, 2),), max_in_flight=1, overflow="shed"),
            PoissonArrival(rate_per_s=3, active_s=((1, 2),), max_in_flight=2, overflow="shed"),
        ),
    ],
    ids=lambda arrival: arrival.process,
)
def test_half_as_much_again_of_every_process(arrival: Arrival, expected: Arrival) -> None:
    """Rates and slots times 1.5; times, shapes and stretches stay."""
    assert scaled_arrival(arrival, 1.5) == expected
    assert scaled_arrival(arrival, 1) == arrival


@pytest.mark.parametrize(
    ("slots", "factor", "expected"),
    [(4, 0.5, 2), (5, 0.5, 3), (1, 0.1, 1), (3, 0.01, 1), (10, 0.1, 1), (10, 1.1, 11), (100, 0.07, 7), (7, 3, 21)],
)
def test_scaled_slots_are_rounded_up_but_not_for_a_rounding_error(slots: int, factor: float, expected: int) -> None:
    assert slots_of(scaled(of_slots(slots, slots), factor)) == [expected, expected]


@pytest.mark.parametrize(
    ("slots", "wanted", "expected"),
    [
        # exact shares 1/6, 2/6, 3/6 of 10: 1.67, 3.33, 5 → floors 1, 3, 5, the tenth to the largest remainder
        ((1, 2, 3), 10, [2, 3, 5]),
        ((1, 2, 3), 6, [1, 2, 3]),
        ((1, 2, 3), 12, [2, 4, 6]),
        # 12/60 · 7 = 1.4, 32/60 · 7 = 3.73, 16/60 · 7 = 1.87 → 1, 3, 1, then the two largest remainders .87, .73
        ((12, 32, 16), 7, [1, 4, 2]),
        # 0.03, 2.97: the small one is lifted to 1, the large one gives
        ((1, 99), 3, [1, 2]),
        # 0.04, 0.04, 3.92 → 1, 1, 3 is one too many
        ((1, 1, 98), 4, [1, 1, 2]),
        ((1, 1, 98), 3, [1, 1, 1]),
        ((5, 5), 3, [2, 1]),
        ((7,), 3, [3]),
    ],
)
def test_with_slots_by_hand(slots: tuple[int, ...], wanted: int, expected: list[int]) -> None:
    profile = with_slots(of_slots(*slots), wanted)
    assert slots_of(profile) == expected
    assert [t.arrival.process for t in profile.tenants] == ["closed"] + ["poisson"] * (len(slots) - 1)


@settings(deadline=None, max_examples=120)
@given(slots=st.lists(st.integers(1, 300), min_size=1, max_size=8), more=st.integers(0, 1000))
def test_with_slots_shares_out_exactly_what_is_asked(slots: list[int], more: int) -> None:
    wanted = len(slots) + more
    shares = slots_of(with_slots(of_slots(*slots), wanted))
    exact = [n * wanted / sum(slots) for n in slots]
    assert sum(shares) == wanted
    assert min(shares) >= 1
    if min(exact) >= 1:  # nobody had to be lifted: the quota rule
        assert all(abs(share - quota) < 1 for share, quota in zip(shares, exact, strict=True))


def test_with_slots_of_a_batch() -> None:
    profile = of_slots(2, 2)
    batch = dataclasses.replace(profile.tenants[0], arrival=BatchArrival(size=2, think_s=_THINK))
    profile = with_slots(dataclasses.replace(profile, tenants=(batch, profile.tenants[1])), 10)
    assert profile.tenants[0].arrival == BatchArrival(size=5, think_s=_THINK)


def test_with_fewer_slots_than_tenants() -> None:
    with pytest.raises(ProfileError) as caught:
        with_slots(of_slots(4, 4, 4), 2)
    assert str(caught.value) == "users (-u): found 2; must be at least 3, a slot for each of the tenants"


def test_with_duration() -> None:
    by_requests = dataclasses.replace(parse(MINIMAL), run=Run(warmup_s=3, requests=50))
    profile = with_duration(by_requests, 12.5)
    assert profile.run == Run(warmup_s=3, duration_s=12.5)
    assert dataclasses.replace(profile, run=by_requests.run) == by_requests


def test_with_duration_bounds_every_phase() -> None:
    phases = (
        PhaseOptions(name="a", load=2),
        PhaseOptions(name="b", duration_s=900, warmup_s=1),
        PhaseOptions(name="c", requests=10, stop_if_slo_breaks=True),
    )
    profile = with_duration(dataclasses.replace(parse(MINIMAL), phases=phases), 12.5)
    assert profile.phases == (
        PhaseOptions(name="a", load=2, duration_s=12.5),
        PhaseOptions(name="b", duration_s=12.5, warmup_s=1),
        PhaseOptions(name="c", duration_s=12.5, stop_if_slo_breaks=True),
    )


def test_only_tenants() -> None:
    profile = of_slots(1, 2, 3)
    fewer = only_tenants(profile, {"T2Tenant", "T0Tenant"})
    assert fewer.tenants == (profile.tenants[0], profile.tenants[2])
    assert dataclasses.replace(fewer, tenants=profile.tenants) == profile
    assert only_tenants(profile, {t.class_name for t in profile.tenants}) == profile


def test_only_tenants_takes_what_is_the_others_out_of_the_deployment() -> None:
    profile = of_slots(1, 2)
    simulator = dataclasses.replace(
        profile.deployment.simulator, sm_percent={"t0": 30, "t1": 70}, models={"t1": "llama-3-8b"}
    )
    profile = dataclasses.replace(profile, deployment=dataclasses.replace(profile.deployment, simulator=simulator))
    fewer = only_tenants(profile, {"T0Tenant"}).deployment.simulator
    assert (fewer.sm_percent, fewer.models) == ({"t0": 30}, {})


def test_only_tenants_takes_the_others_out_of_phases() -> None:
    phases = (
        PhaseOptions(name="all", load=2, warmup_s=1),
        PhaseOptions(name="t0+t1", tenants=("t1", "t0"), duration_s=9),
        PhaseOptions(name="t1", tenants=("t1",)),
        PhaseOptions(name="t2", tenants=("t2",), requests=5),
    )
    profile = only_tenants(dataclasses.replace(of_slots(1, 2, 3), phases=phases), {"T0Tenant", "T2Tenant"})
    assert profile.phases == (
        PhaseOptions(name="all", load=2, warmup_s=1),
        PhaseOptions(name="t0+t1", tenants=("t0",), duration_s=9),
        PhaseOptions(name="t2", tenants=("t2",), requests=5),
    )
    assert parse(resolved_yaml(profile)) == profile


def test_only_tenants_leaves_no_stop_that_nothing_could_cause() -> None:
    """t0 has an SLO, t1 has none: a phase in which t1 is left alone can't break one."""
    promised, other = of_slots(1, 2).tenants
    promised = dataclasses.replace(promised, slo=Slo(ttft_ms=500))
    phases = (PhaseOptions(name="all", stop_if_slo_breaks=True), PhaseOptions(name="again", load=2))
    profile = dataclasses.replace(parse(MINIMAL), tenants=(promised, other), phases=phases)
    assert only_tenants(profile, {"T0Tenant"}).phases == phases
    without = only_tenants(profile, {"T1Tenant"})
    assert without.phases == (PhaseOptions(name="all"), PhaseOptions(name="again", load=2))
    assert parse(resolved_yaml(without)) == without


def test_with_endpoint() -> None:
    profile = with_endpoint(of_slots(1, 2), "http://10.0.0.1:8000")
    assert profile.deployment.engine == "external"
    assert [t.endpoint for t in profile.tenants] == [("http://10.0.0.1:8000",)] * 2


def test_a_transformed_profile_is_another_value() -> None:
    profile = parse(MINIMAL)
    before = dataclasses.replace(profile)
    for changed in (
        scaled(profile, 3),
        with_slots(profile, 9),
        with_duration(profile, 1),
        with_endpoint(profile, "http://a"),
        only_tenants(profile, set()),
    ):
        assert changed != profile
    assert profile == before
    assert scaled(dataclasses.replace(profile, tenants=(tenant(arrival=ConstantArrival(rate_per_s=4)),)), 0.25).tenants[
        0
    ].arrival == ConstantArrival(rate_per_s=1, max_in_flight=16)
