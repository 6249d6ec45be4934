"""Draws by weight: their frequencies, and that an index decides alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.choices import Choices


def choices(*weights: float, seed: int = 7) -> Choices:
    return Choices(weights, random_stream(seed, "chat", "mixture"))


def test_frequencies_are_those_of_the_weights() -> None:
    """Of 10,000 draws 1/2, 1/3 and 1/6; standard deviation of a share at most 0.005."""
    drawn = choices(3, 2, 1)
    counts = np.bincount([drawn.at(i)[0] for i in range(10_000)])
    assert stats.chisquare(counts, [5000, 3333 + 1 / 3, 1666 + 2 / 3]).pvalue > 0.01
    assert counts / 10_000 == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.02)


def test_one_thing_only() -> None:
    drawn = choices(0.25)
    assert [drawn.at(i) for i in (0, 1, 5000, 2)] == [(0, 0), (0, 1), (0, 5000), (0, 2)]


def test_a_tiny_weight_is_drawn_as_seldom_as_it_says() -> None:
    drawn = choices(1e-12, 1, 1e-12)
    assert {drawn.at(i)[0] for i in range(3000)} == {1}


@settings(deadline=None, max_examples=60)
@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    seed=st.integers(0, 2**63 - 1),
    asked=st.lists(st.integers(0, 3000), min_size=1, max_size=20),
)
def test_the_same_in_any_order_and_counted(weights: list[float], seed: int, asked: list[int]) -> None:
    drawn = choices(*weights, seed=seed)
    in_order = list(map(choices(*weights, seed=seed).at, range(3001)))
    assert [drawn.at(i) for i in asked] == [in_order[i] for i in asked]
    seen = [0] * len(weights)
    for chosen, earlier in in_order:
        assert earlier == seen[chosen]
        seen[chosen] += 1
