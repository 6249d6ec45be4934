"""Faults: how they are written, and whom they strike."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.simulator.faults import Fault, FaultError, fault_of
from tests.profile.profiles import MINIMAL, parse

IDS = [f"chat-{index:06d}" for index in range(10_000)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("stall", Fault("stall", rate=1, after_s=0, for_s=5, seed=0)),
        ("stall:rate=0.25:after=3:for=0.5:seed=7", Fault("stall", 0.25, 3, 0.5, 7)),
        ("reset:seed=9:rate=1e-1", Fault("reset", rate=0.1, seed=9)),
        ("error:after=1.5", Fault("error", after_s=1.5)),
        ("slow", Fault("slow", for_s=0.05)),
        ("crash:after=10", Fault("crash", after_s=10)),
    ],
)
def test_a_fault_is_what_its_text_says(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found kind ''; must be one of stall, reset, error, slow, crash"),
        ("Stall", "found kind 'Stall'; must be one of stall, reset, error, slow, crash"),
        ("stall:often=1", "found option 'often'; allowed for stall: rate, after, for, seed"),
        ("stall:", "found option ''; allowed for stall: rate, after, for, seed"),
        ("reset:for=1", "found option 'for'; allowed for reset: rate, after, seed"),
        ("crash:rate=1", "found option 'rate'; allowed for crash: after"),
        ("crash", "found crash without after; say when, such as crash:after=10"),
        ("error:rate=1.1", "rate: found '1.1'; must be a number from 0 to 1"),
        ("error:rate=nan", "rate: found 'nan'; must be a number from 0 to 1"),
        ("error:rate", "rate: found ''; must be a number from 0 to 1"),
        ("error:after=-1", "after: found '-1'; must be a number of seconds from 0 to 86400"),
        ("slow:for=0", "for: found '0'; must be a number of seconds above 0, at most 86400"),
        ("slow:for=inf", "for: found 'inf'; must be a number of seconds above 0, at most 86400"),
        ("slow:seed=-1", "seed: found '-1'; must be a whole number from 0 to 9223372036854775807"),
        ("slow:seed=1.0", "seed: found '1.0'; must be a whole number from 0 to 9223372036854775807"),
        ("slow:seed=1:seed=1", "found seed twice; give it once"),
    ],
)
def test_a_wrong_one_is_named_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(FaultError) as raised:
        Fault.parse(text)
    assert str(raised.value) == message


def test_a_profile_with_a_wrong_one_says_where() -> None:
    text = MINIMAL + "deployment: {simulator: {faults: ['reset:rate=0.1', 'reset:rate=2']}}\n"
    with pytest.raises(Exception, match="rate: found '2'") as raised:
        parse(text)
    assert "deployment.simulator.faults[1]: 'reset:rate=2': rate: found '2'; must be" in str(raised.value)
    right = parse(text.replace("rate=2", "rate=0.2"))
    assert right.deployment.simulator.faults == ("reset:rate=0.1", "reset:rate=0.2")


@given(st.text())
def test_anything_is_a_fault_or_an_error(text: str) -> None:
    with contextlib.suppress(FaultError):
        assert Fault.parse(text) == Fault.parse(text)


def test_a_seed_picks_its_share_of_the_requests_whenever_they_come() -> None:
    # Of 10,000 draws at 0.2: 2,000, standard deviation 40.
    fault, other = Fault.parse("error:rate=0.2:seed=1"), Fault.parse("error:rate=0.2:seed=2")
    struck = {name for name in IDS if fault.strikes(name, 0.0)}
    assert 1800 < len(struck) < 2200
    assert {name for name in reversed(IDS) if fault.strikes(name, 99.0)} == struck
    assert {name for name in IDS if other.strikes(name, 0.0)} != struck
    assert not any(Fault.parse("error:rate=0").strikes(name, 0.0) for name in IDS)
    assert all(Fault.parse("error:rate=1").strikes(name, 0.0) for name in IDS)


def test_requests_before_its_time_are_safe() -> None:
    fault = Fault.parse("reset:after=3")
    assert not fault.strikes("a", 2.999)
    assert fault.strikes("a", 3.0)


def test_the_first_that_strikes_counts_and_a_crash_is_no_request_s() -> None:
    faults = [Fault.parse(text) for text in ("crash:after=0", "stall:after=5", "slow", "error")]
    assert fault_of(faults, "a", 4.0) == Fault.parse("slow")
    assert fault_of(faults, "a", 5.0) == faults[1]
    assert fault_of(faults[:1], "a", 5.0) is None
