"""How another clock stands to ours: by hand, and whatever the network does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.distributed.clock_sync import ClockSync


def test_one_exchange_by_hand() -> None:
    """Theirs is 5 s ahead; 2 ms there, 1 ms in between, 4 ms back: the difference of the ways is the error, halved."""
    sync = ClockSync()
    sync.add(100.000, 105.002, 105.003, 100.007)
    estimate = sync.estimate(100.0035)
    assert estimate is not None
    assert estimate.offset_s == pytest.approx(4.999)
    assert estimate.round_trip_s == pytest.approx(0.006)
    assert estimate.uncertainty_s == pytest.approx(0.003, rel=1e-3)
    assert estimate.drift_ppm is None
    assert estimate.exchanges == 1


def test_nothing_is_known_before_an_exchange() -> None:
    assert ClockSync().estimate(0.0) is None


def test_the_shortest_round_trip_counts() -> None:
    sync = ClockSync()
    for at_s, there_s, back_s in ((0.0, 0.050, 0.001), (0.2, 0.0002, 0.0002), (0.4, 0.001, 0.080)):
        sync.add(at_s, at_s + there_s - 7, at_s + there_s - 7, at_s + there_s + back_s)
    estimate = sync.estimate(0.4)
    assert estimate is not None
    assert estimate.offset_s == pytest.approx(-7.0, abs=1e-6)
    assert estimate.uncertainty_s == pytest.approx(0.0002 + 0.2 * 100e-6, rel=0.01)


def test_an_old_exchange_is_worth_less_by_the_drift_there_may_be() -> None:
    sync = ClockSync()
    sync.add(0.0, 0.0001, 0.0001, 0.0002)
    before, after = sync.estimate(0.0001), sync.estimate(10.0001)
    assert before is not None
    assert after is not None
    assert after.uncertainty_s - before.uncertainty_s == pytest.approx(10 * 100e-6)


def test_drift_by_hand() -> None:
    """Theirs gains 20 µs a second; each way takes 0.1 ms."""
    sync = ClockSync()
    for second in range(101):
        gained_s = second * 20e-6
        sync.add(second, second + 3 + gained_s + 0.0001, second + 3 + gained_s + 0.0001, second + 0.0002)
    estimate = sync.estimate(100.0001)
    assert estimate is not None
    assert estimate.drift_ppm == pytest.approx(20, rel=0.01)
    assert estimate.offset_s == pytest.approx(3 + 100 * 20e-6, abs=1e-5)
    # Nothing was heard for a minute: it is reckoned on.
    later = sync.estimate(160.0001)
    assert later is not None
    assert later.offset_s == pytest.approx(3 + 160 * 20e-6, abs=1e-5)
    assert later.uncertainty_s < 0.0004


@given(
    offset_s=st.floats(-1e6, 1e6),
    drift=st.floats(-90e-6, 90e-6),
    ways=st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0.001, 20)), min_size=1, max_size=100),
    ahead_s=st.floats(0, 30),
)
def test_the_truth_is_within_the_uncertainty(
    offset_s: float, drift: float, ways: list[tuple[float, float, float]], ahead_s: float
) -> None:
    def theirs(ours_s: float) -> float:
        return ours_s + offset_s + drift * ours_s

    sync = ClockSync()
    now_s = 0.0
    for there_s, back_s, pause_s in ways:
        received_s = theirs(now_s + there_s)
        sync.add(now_s, received_s, received_s, now_s + there_s + back_s)
        now_s += there_s + back_s + pause_s
    now_s += ahead_s
    estimate = sync.estimate(now_s)
    assert estimate is not None
    assert abs(estimate.offset_s - (theirs(now_s) - now_s)) <= estimate.uncertainty_s + 1e-8
    assert estimate.exchanges == len(ways)
