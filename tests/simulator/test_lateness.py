"""Whether a process keeps up with its model."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.simulator.lateness import Lateness


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_the_percentile_is_of_the_last_second() -> None:
    clock = Clock()
    lateness = Lateness(clock)
    assert lateness.p99_s() == 0.0
    for i in range(200):  # of 200 two are above the 99th percentile
        lateness.add(50 + i * 0.001, {7: 0.009, 8: 0.008, 9: 0.0015}.get(i, 0.0001))
    clock.now_s = 50.3
    assert lateness.p99_s() == 0.0015
    clock.now_s = 51.1
    assert lateness.p99_s() == 0.0001
    clock.now_s = 52
    assert lateness.p99_s() == 0.0


def test_one_warning_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    lateness = Lateness(Clock())
    with caplog.at_level(logging.WARNING):
        for i in range(150):  # one in a hundred may be late
            lateness.add(50 + i * 0.001, 0.005 if i == 120 else 0.001)
        assert caplog.messages == []
        lateness.add(50.2, 0.0031)
        assert caplog.messages == [
            "behind the model: in the last second 99 % of 151 steps were up to 3.1 ms late (tolerated: 2 ms), so "
            "tokens come later than modelled; lower the load, or leave this process a core of its own"
        ]
        for i in range(98):
            lateness.add(50.3 + i * 0.1, 0.004)
        assert len(caplog.messages) == 1
        lateness.add(60.3, 0.004)
        assert len(caplog.messages) == 2


@given(late_ms=st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.1, 9.0]), min_size=1, max_size=250))
def test_it_warns_when_the_percentile_is_above_two_milliseconds(late_ms: list[float]) -> None:
    clock = Clock()
    lateness = Lateness(clock)
    warnings: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record)

    handler = Handler()
    logger = logging.getLogger("fairshare_locust.simulator")
    logger.addHandler(handler)
    try:
        behind = False
        for late in late_ms:
            lateness.add(clock.now_s, late * 1e-3)
            behind = behind or lateness.p99_s() > 0.002
            assert bool(warnings) == behind
    finally:
        logger.removeHandler(handler)
