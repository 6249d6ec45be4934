"""Schedules: by hand, as distributions, and as functions of seed, tenant and index."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairshare_locust.arrival.schedule import (
    ConstantSchedule,
    PoissonSchedule,
    Schedule,
    count_before,
    open_schedule,
)
from fairshare_locust.profile.arrivals import ConstantArrival, PoissonArrival

_POISSON = PoissonArrival(rate_per_s=4)


def due(schedule: Schedule, count: int) -> list[float]:
    return [schedule.due_s(i) for i in range(count)]


def test_constant_by_hand() -> None:
    assert due(ConstantSchedule(4), 5) == [0, 0.25, 0.5, 0.75, 1]
    assert ConstantSchedule(0.5).due_s(3) == 6
    assert due(open_schedule(ConstantArrival(rate_per_s=2), 7, "chat"), 3) == [0, 0.5, 1]


def test_constant_does_not_drift() -> None:
    assert ConstantSchedule(10).due_s(36_000_000) == 3_600_000


class _Gaps(np.random.Generator):
    """A generator whose unit exponentials are 1, 2, 1, 2, …"""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_exponential(self, size: int = 1) -> np.ndarray:  # type: ignore[override]
        return np.array([1.0 + i % 2 for i in range(size)])


def test_poisson_by_hand() -> None:
    """The first gap comes before the first request; the rate divides."""
    schedule = PoissonSchedule(2, _Gaps())
    assert due(schedule, 6) == [0.5, 1.5, 2.0, 3.0, 3.5, 4.5]
    # 1024 gaps to a block: 512 of 1 and 512 of 2 make 1536, and the next block goes on from there.
    assert schedule.due_s(1023) == 1536 / 2
    assert schedule.due_s(1024) == 1537 / 2


def test_poisson_gaps_are_exponential_and_independent() -> None:
    schedule = open_schedule(_POISSON, 7, "chat")
    gaps = np.diff([0.0, *due(schedule, 20_000)])
    assert gaps.min() > 0
    assert stats.kstest(gaps, "expon", args=(0, 1 / 4)).pvalue > 0.01
    # Standard error of the mean: 0.25 / sqrt(20000) = 0.0018; of a correlation: 0.007
    assert gaps.mean() == pytest.approx(0.25, abs=3 * 0.0018)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 * 0.0071


def test_poisson_counts_are_poisson() -> None:
    """Counts in 5 s at 4/s have mean and variance 20."""
    times = np.array(due(open_schedule(_POISSON, 7, "chat"), 20_000))
    counts = np.bincount((times // 5).astype(int))[:-1]
    assert len(counts) > 900
    assert counts.mean() == pytest.approx(20, rel=0.03)
    assert counts.var() == pytest.approx(20, rel=0.15)


def test_seed_and_tenant_decide() -> None:
    first = due(open_schedule(_POISSON, 7, "chat"), 50)
    assert due(open_schedule(_POISSON, 7, "chat"), 50) == first
    assert due(open_schedule(_POISSON, 8, "chat"), 50) != first
    assert due(open_schedule(_POISSON, 7, "batch"), 50) != first
    assert due(open_schedule(_POISSON, 0, "chat"), 50) != first


def test_another_rate_stretches_the_same_schedule() -> None:
    slow, fast = (open_schedule(PoissonArrival(rate_per_s=rate), 7, "chat") for rate in (4, 8))
    assert due(slow, 50) == pytest.approx([2 * t for t in due(fast, 50)])


@settings(deadline=None, max_examples=50)
@given(indices=st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_the_order_of_asking_is_no_matter(indices: list[int]) -> None:
    in_order = due(open_schedule(_POISSON, 7, "chat"), 5001)
    schedule = open_schedule(_POISSON, 7, "chat")
    assert [schedule.due_s(i) for i in indices] == [in_order[i] for i in indices]
    assert in_order == sorted(in_order)


def test_the_same_in_another_process() -> None:
    """Whatever that process hashes with."""
    code = (
        "import json\n"
        "from fairshare_locust.arrival import open_schedule\n"
        "from fairshare_locust.profile.model import PoissonArrival\n"
        "schedule = open_schedule(PoissonArrival(rate_per_s=4), 7, 'chat')\n"
        "print(json.dumps([schedule.due_s(i) for i in range(2000)]))"
    )
    here = due(open_schedule(_POISSON, 7, "chat"), 2000)
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert json.loads(there.stdout) == here


# --- counting


def test_count_before_by_hand() -> None:
    schedule = ConstantSchedule(4)
    assert [count_before(schedule, t) for t in (-1, 0, 0.1, 0.25, 0.26, 1, 100)] == [0, 0, 1, 1, 2, 4, 400]


@settings(deadline=None, max_examples=100)
@given(rate=st.floats(0.01, 1000), elapsed_s=st.floats(0, 20))
def test_count_before_counts(rate: float, elapsed_s: float) -> None:
    for arrival in (ConstantArrival(rate_per_s=rate), PoissonArrival(rate_per_s=rate)):
        schedule = open_schedule(arrival, 7, "chat")
        count = count_before(schedule, elapsed_s)
        assert count == 0 or schedule.due_s(count - 1) < elapsed_s
        assert schedule.due_s(count) >= elapsed_s
