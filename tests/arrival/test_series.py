"""Series: numbers by index, drawn block by block."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.arrival.series import BLOCK, Series, running_sums


@given(indices=st.lists(st.integers(0, 5 * BLOCK), min_size=1, max_size=10))
def test_the_order_of_asking_is_no_matter_and_no_block_is_drawn_twice(indices: list[int]) -> None:
    drawn: list[int] = []

    def draw(number: int) -> np.ndarray:
        drawn.append(number)
        return np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.float64)

    series = Series(draw)
    assert [series.at(index) for index in indices] == indices
    assert drawn == list(range(max(indices) // BLOCK + 1))


def test_running_sums_go_on_from_block_to_block() -> None:
    sums = running_sums(lambda count: np.full(count, 0.5))
    assert [sums.at(i) for i in (0, 1, BLOCK - 1, BLOCK, 3 * BLOCK)] == [0.5, 1, 512, 512.5, 1536.5]
