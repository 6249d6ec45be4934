"""The modelled GPU: figures worked out by hand, and what holds for any steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.device import BusyTime, Device, Reading
from fairshare_locust.simulator.engine import Engine, Sequence

MIB = 2**20


def test_a_device_at_rest_holds_the_weights_and_draws_its_idle_power() -> None:
    now_s = 100.0
    config = SimulatorOptions(memory_mib=20000, weights_mib=10000, kv_bytes_per_token=1024, idle_w=40, busy_w=240)
    device = Device([Engine(config)], BusyTime(), lambda: now_s)
    assert device.read() == Reading(0.0, 10000, 10000, 40.0, 0.0)
    now_s = 102.5
    assert device.read() == Reading(0.0, 10000, 10000, 40.0, 100.0)


def test_a_device_at_work() -> None:
    now_s = 100.0
    config = SimulatorOptions(
        memory_mib=20000, weights_mib=10000, kv_bytes_per_token=MIB // 2, kv_capacity_tokens=8192, idle_w=40, busy_w=240
    )
    engine, busy_time = Engine(config), BusyTime()
    device = Device([engine], busy_time, lambda: now_s)
    engine.submit(Sequence(1000, 10))
    engine.begin_step()
    # Two steps in a row and, after a pause, one of which a tenth is over.
    busy_time.add(100.2, 100.3)
    busy_time.add(100.3, 100.6)
    busy_time.add(101.1, 102.1)
    now_s = 101.2
    reading = device.read()
    assert reading.memory_used_mib == 10504  # 1000 tokens are in 63 blocks of 16
    assert reading.memory_free_mib == 9496
    # In the second from 100.2 to 101.2: 0.4 s and 0.1 s.
    assert reading.busy_share == pytest.approx(0.5)
    assert reading.power_w == pytest.approx(140)
    assert reading.energy_j == pytest.approx(40 * 1.2 + 200 * 0.5)
    now_s = 102.1
    assert device.read().busy_share == pytest.approx(1.0)
    now_s = 104.1
    assert device.read().busy_share == 0.0
    assert device.read().energy_j == pytest.approx(40 * 4.1 + 200 * 1.4)


def test_each_engine_has_its_own_weights_and_cache() -> None:
    config = SimulatorOptions(memory_mib=20000, weights_mib=4000, kv_bytes_per_token=MIB // 2, kv_capacity_tokens=8192)
    engines = [Engine(config), Engine(config), Engine(config)]
    for engine, tokens in zip(engines, (160, 320), strict=False):
        engine.submit(Sequence(tokens, 10))
        engine.begin_step()
    reading = Device(engines, BusyTime(), lambda: 0.0).read()
    assert reading.memory_used_mib == 3 * 4000 + 80 + 160
    assert reading.memory_free_mib == 20000 - 12240


def test_what_is_known_of_the_end_may_change() -> None:
    busy_time = BusyTime()
    busy_time.add(10.0, 10.5)
    busy_time.add(10.25, 10.75)  # another engine joins: the first step ends later
    assert busy_time.until(10.7) == pytest.approx(0.7)
    busy_time.add(10.7, 10.72)
    assert busy_time.until(11.0) == pytest.approx(0.72)


def test_a_step_that_is_over_but_not_yet_followed_counts_no_further() -> None:
    busy_time = BusyTime()
    busy_time.add(10.0, 10.5)
    assert busy_time.until(10.25) == 0.25
    assert busy_time.until(10.75) == 0.5
    busy_time.add(10.5, 11.0)
    assert busy_time.until(10.75) == 0.75


@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.floats(0.001, 3)), max_size=30),
    pauses=st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_busy_time_is_that_of_the_steps_so_far_and_never_goes_back(
    steps: list[tuple[float, float]], pauses: list[float]
) -> None:
    busy_time = BusyTime()
    spans: list[tuple[float, float]] = []
    end_s = before_s = 0.0
    for i, (idle_s, duration_s) in enumerate(steps):
        start_s = end_s + idle_s
        end_s = start_s + duration_s
        spans.append((start_s, end_s))
        busy_time.add(start_s, end_s)
        now_s = start_s + pauses[i % len(pauses)] * duration_s
        for time_s in (now_s - 1, now_s):  # as slow as can be: every step ever, cut at the time
            expected = sum(max(0.0, min(end, time_s) - start) for start, end in spans)
            assert busy_time.until(time_s) == pytest.approx(expected)
        assert busy_time.until(now_s) >= before_s
        before_s = busy_time.until(now_s)
        assert -1e-9 <= busy_time.share(now_s) <= 1 + 1e-9


def test_engines_with_models_of_their_own_take_memory_of_their_own() -> None:
    large = SimulatorOptions(memory_mib=20000, weights_mib=10000, kv_capacity_tokens=8192)
    small = replace(large, weights_mib=2000)
    reading = Device([Engine(large), Engine(small)], BusyTime(), lambda: 0.0).read()
    assert (reading.memory_used_mib, reading.memory_free_mib) == (12000, 8000)
