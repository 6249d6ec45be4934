"""What the command line changes in a profile."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile import Profile, scaled, with_duration, with_endpoint, with_slots
from fairshare_locust.profile.arrivals import ClosedArrival, ConstantArrival, PoissonArrival
from fairshare_locust.profile.model import Run
from tests.profile.profiles import MINIMAL, parse, tenant


def of_slots(*slots: int) -> Profile:
    """A profile whose tenants have so many slots; the first is a closed loop, the others are open."""
    tenants = [tenant("t0", arrival=ClosedArrival(concurrency=slots[0], think_s=2))]
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
    assert double.tenants[0].arrival == ClosedArrival(concurrency=8, think_s=2)
    assert double.tenants[1].arrival == PoissonArrival(rate_per_s=6, max_in_flight=20, overflow="shed")
    assert scaled(profile, 1) == profile
    assert dataclasses.replace(double, tenants=profile.tenants) == profile


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


@settings(deadline=None, max_examples=300)
@given(slots=st.lists(st.integers(1, 300), min_size=1, max_size=8), more=st.integers(0, 1000))
def test_with_slots_shares_out_exactly_what_is_asked(slots: list[int], more: int) -> None:
    wanted = len(slots) + more
    shares = slots_of(with_slots(of_slots(*slots), wanted))
    exact = [n * wanted / sum(slots) for n in slots]
    assert sum(shares) == wanted
    assert min(shares) >= 1
    if min(exact) >= 1:  # nobody had to be lifted: the quota rule
        assert all(abs(share - quota) < 1 for share, quota in zip(shares, exact, strict=True))


def test_with_fewer_slots_than_tenants() -> None:
    with pytest.raises(ProfileError) as caught:
        with_slots(of_slots(4, 4, 4), 2)
    assert str(caught.value) == "users (-u): found 2; must be at least 3, a slot for each of the tenants"


def test_with_duration() -> None:
    by_requests = dataclasses.replace(parse(MINIMAL), run=Run(warmup_s=3, requests=50))
    profile = with_duration(by_requests, 12.5)
    assert profile.run == Run(warmup_s=3, duration_s=12.5)
    assert dataclasses.replace(profile, run=by_requests.run) == by_requests


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
    ):
        assert changed != profile
    assert profile == before
    assert scaled(dataclasses.replace(profile, tenants=(tenant(arrival=ConstantArrival(rate_per_s=4)),)), 0.25).tenants[
        0
    ].arrival == ConstantArrival(rate_per_s=1, max_in_flight=16)
