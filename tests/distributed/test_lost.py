"""What is missing of a worker that was lost, by hand."""

from __future__ import annotations

import dataclasses
from collections import Counter

import orjson
import pytest

from fairshare_locust.distributed.lost import Loss, Recorded, lost_share, recorded_by
from fairshare_locust.parts import LoadSpan
from fairshare_locust.profile import Profile
from tests.profile.profiles import parse

PROFILE = """
name: lost
run: {warmup_s: 2, duration_s: 8}
model: {name: tiny}
tenants:
  - id: steady
    arrival: {process: constant, rate_per_s: 2, max_in_flight: 8}
    workload: {source: synthetic, input_tokens: 5, output_tokens: 5}
  - id: loop
    arrival: {process: closed, concurrency: 4}
    workload: {source: synthetic, input_tokens: 5, output_tokens: 5}
"""


@pytest.fixture
def profile() -> Profile:
    return parse(PROFILE)


def test_what_is_missing_by_hand(profile: Profile) -> None:
    """Worker 1 of 2 has 1, 3, …, 19, two a second in all. Last heard of at 4 s, it has 1, 3 and 7 on record."""
    lost = lost_share(profile, {}, [LoadSpan(0, 0.0, 10.0)], 1, 2, 4.0, Recorded({("", "steady"): {1, 3, 7}}))
    assert lost == {"steady": Loss(7, 6.0), "loop": Loss(None, 6.0)}
    assert str(lost["steady"]) == "7 requests in 6.0 s"
    assert str(lost["loop"]) == "an unknown number of requests in 6.0 s"


def test_a_run_that_was_cut_short_has_less_to_miss(profile: Profile) -> None:
    """Until 5 s: 1, 3, 5, 7, 9 were due, the last at 4.5 s."""
    lost = lost_share(profile, {}, [LoadSpan(0, 0.0, 5.0)], 1, 2, 4.0, Recorded({("", "steady"): {1, 3, 7}}))
    assert lost["steady"] == Loss(2, 1.0)


def test_nothing_is_missing_of_one_that_left_at_the_end(profile: Profile) -> None:
    everything = Recorded({("", "steady"): set(range(1, 20, 2))})
    assert lost_share(profile, {}, [LoadSpan(0, 0.0, 10.0)], 1, 2, 10.5, everything) == {}


def test_phases_add_up(profile: Profile) -> None:
    """Lost in the second of two phases, which begins at 20 s: the first is whole."""
    profile = dataclasses.replace(profile, phases=parse(PROFILE + "phases: [{name: a}, {name: b}, {name: c}]\n").phases)
    known = Recorded({("a", "steady"): set(range(0, 20, 2)), ("b", "steady"): {0, 2, 4}})
    lost = lost_share(
        profile, {}, [LoadSpan(0, 0.0, 10.0), LoadSpan(1, 20.0, 30.0), LoadSpan(2, 40.0, 43.0)], 0, 2, 23.0, known
    )
    # 7 of the second; of the third, cut short, those due at 0, 1 and 2 s.
    assert lost["steady"] == Loss(7 + 3, 7.0 + 3.0)


def test_records_by_worker() -> None:
    """Turns of a conversation have one index, and a record each."""
    rows = [
        {"worker": 0, "tenant": "a", "phase": "measure", "index": 0},
        {"worker": 1, "tenant": "a", "phase": "solo-a/measure", "index": 1},
        {"worker": 1, "tenant": "a", "phase": "solo-a/drain", "index": 3},
        {"worker": 1, "tenant": "a", "phase": "solo-a/drain", "index": 3},
        {"worker": 1, "tenant": "b", "phase": "warmup", "index": 1},
    ]
    found = recorded_by((orjson.dumps(row) for row in rows), [1, 2])
    assert found == {
        1: Recorded({("solo-a", "a"): {1, 3}, ("", "b"): {1}}, Counter(a=3, b=1)),
        2: Recorded(),
    }
