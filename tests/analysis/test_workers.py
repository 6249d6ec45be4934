"""Does a load process wait longer for first tokens than the others?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from analysis.window import Window
from analysis.workers import Comparison, Sent, compare

Floats = npt.NDArray[np.float64]


def sent(
    at_s: npt.ArrayLike, worker: npt.ArrayLike, ttft_ms: npt.ArrayLike, *, seconds: float = 20.0, tenant: str = "a"
) -> Sent:
    return Sent(
        tenant=tenant,
        window=Window.of_seconds((0.0, seconds)),
        worker=np.asarray(worker, np.int32),
        scheduled_ns=np.rint(np.asarray(at_s, np.float64) * 1e9).astype(np.int64),
        ttft_ms=np.asarray(ttft_ms, np.float64),
    )


def alternating(late_ms: Callable[[int], float], blocks: int = 20, *, base_ms: float = 100.0) -> Sent:
    """Three requests of each of two processes a second; the second waits so much longer in each second."""
    rows = [
        (second + place / 10, place % 2, base_ms + second + (late_ms(second) if place % 2 else 0.0))
        for second in range(blocks)
        for place in range(6)
    ]
    return sent(*zip(*rows, strict=True))


def test_one_that_always_waits_longer_is_apart() -> None:
    first, second = compare([alternating(lambda second: 4.0 + second / 10)])
    assert (second.tenant, second.worker, second.requests, second.blocks) == ("a", 1, 60, 20)
    # By nearest rank the 30th of 60, of the tenth second: 100 + 9 ms, and 4 + 0.9 ms more.
    assert (second.median_ms, second.others_median_ms) == (113.9, 109.0)
    assert second.difference_ms == pytest.approx(4.95)  # halfway between 4.9 and 5 ms
    assert second.p_value == pytest.approx(2 / 2**20)  # all differences have one sign: this one, or its mirror
    assert second.apart
    assert first.difference_ms == pytest.approx(-4.95)
    assert (first.p_value, first.apart) == (second.p_value, True)


def test_differences_that_change_sides_are_chance() -> None:
    _, second = compare([alternating(lambda second: 4.0 + second / 10 if second % 2 else -4.0 - second / 10)])
    assert second.p_value is not None
    assert second.p_value > 0.5
    assert not second.apart


@pytest.mark.parametrize(
    ("late_ms", "base_ms", "apart"), [(0.5, 1.0, False), (0.51, 1.0, True), (2.1, 100.0, False), (2.3, 100.0, True)]
)
def test_half_a_millisecond_or_two_per_cent_is_not_worth_telling(late_ms: float, base_ms: float, apart: bool) -> None:
    # The others' median is 10 ms and 109 ms, of which 2 % are 0.2 and 2.18 ms.
    _, second = compare([alternating(lambda _: late_ms, base_ms=base_ms)])
    assert second.p_value == pytest.approx(2 / 2**20, rel=100)
    assert second.apart is apart


def test_equal_ones_are_not_apart() -> None:
    _, second = compare([alternating(lambda _: 0.0)])
    assert (second.difference_ms, second.p_value, second.apart) == (0.0, 1.0, False)


def test_too_few_blocks_or_requests_are_undefined() -> None:
    _, second = compare([alternating(lambda _: 50.0, blocks=7)])
    assert (second.requests, second.blocks) == (21, 7)
    assert (second.difference_ms, second.p_value, second.apart) == (None, None, False)
    _, second = compare([alternating(lambda _: 50.0, blocks=8)])
    assert (second.blocks, second.difference_ms, second.apart) == (8, 50.0, False)  # 1 of 128 by chance: 2 comparisons
    two_a_second = sent(np.arange(80) / 4, np.arange(80) % 2, np.where(np.arange(80) % 2, 200, 100))
    assert [(one.blocks, one.p_value) for one in compare([two_a_second])] == [(0, None)] * 2
    assert compare([sent([1.0, 2.0], [0, 0], [9.0, 9.0]), sent([], [], [])]) == ()


def test_every_comparison_of_the_run_counts() -> None:
    lone = alternating(lambda second: 30.0 + second, blocks=11)  # 2 / 2 ** 11: told at 1 % of 10 comparisons, not of 12
    rest = [alternating(lambda _: 0.0, blocks=11)]
    assert compare([lone, *rest * 4])[1].apart
    assert not compare([lone, *rest * 5])[1].apart
    assert compare([lone, *rest * 4, *[alternating(lambda _: 0.0, blocks=7)] * 9])[1].apart  # these test nothing


def test_blocks_keep_to_the_window() -> None:
    """Of two stretches, each is cut by itself: what was due between them would be in no block."""
    one = alternating(lambda _: 50.0)
    gap = np.where(one.scheduled_ns < 10e9, one.scheduled_ns, one.scheduled_ns + 90 * 10**9)
    apart = Sent(
        tenant="a",
        window=Window.of_seconds((0, 10), (100, 110)),
        worker=one.worker,
        scheduled_ns=gap,
        ttft_ms=one.ttft_ms,
    )
    assert [c.blocks for c in compare([apart])] == [20, 20]


def null_run(seed: int, *, drifting: bool) -> tuple[Comparison, ...]:
    """Two processes that take arrivals in turn, and waits that know nothing of it; skewed, and drifting by half."""
    draw = np.random.default_rng(seed)
    count = 240
    at_s = np.sort(draw.uniform(0, 20, count))
    level = np.ones(count)
    if drifting:
        kept = 0.98
        steps = draw.normal(size=count) * np.sqrt(1 - kept**2)
        for index in range(1, count):
            steps[index] += kept * steps[index - 1]
        level = np.exp(0.5 * steps)
    ttft_ms = 100 * level * draw.lognormal(0, 0.5, count)
    return compare([sent(at_s, np.arange(count) % 2, ttft_ms)])


@pytest.mark.parametrize("drifting", [False, True])
def test_false_alarms_are_rare(drifting: bool) -> None:
    runs = [null_run(seed, drifting=drifting) for seed in range(200)]
    assert all(one.p_value is not None for run in runs for one in run)
    alarms = sum(any(one.apart for one in run) for run in runs)
    assert alarms <= 6  # 1 % of 200 is 2


def test_a_process_that_was_there_in_the_calm_half_only_is_not_faster() -> None:
    second = np.repeat(np.arange(20), 12)
    worker = np.tile([0, 1], 120)
    calm = second < 9
    ttft_ms = np.where(calm, 100, 900) * np.random.default_rng(1).lognormal(0, 0.1, 240)
    there = calm | (worker == 0)
    _, gone = compare([sent(second[there] + 0.5, worker[there], ttft_ms[there])])
    assert gone.others_median_ms > 5 * gone.median_ms
    assert gone.blocks == 9  # those in which both were there
    assert not gone.apart
