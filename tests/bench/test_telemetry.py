"""What the bench of telemetry calls little, and what too much."""

from __future__ import annotations

import pytest

from bench.telemetry import Measured, judge


def run(load_share: float, ttft_p50_ms: float) -> Measured:
    return Measured(load_share, 0.01, 100, ttft_p50_ms, 2 * ttft_p50_ms, None)


@pytest.mark.parametrize(
    ("load_share", "ttft_p50_ms", "good"),
    [
        (0.219, 40.7, [True, True]),
        (0.221, 40.0, [False, True]),
        (0.2, 40.9, [True, False]),  # 0.9 ms, but more than 2 %
        (0.2, 39.1, [True, False]),  # a TTFT that is better is no less odd
    ],
)
def test_the_limits(load_share: float, ttft_p50_ms: float, good: list[bool]) -> None:
    without = [run(0.2, 40), run(0.2, 40), run(0.9, 90)]
    verdicts = judge({False: without, True: [run(load_share, ttft_p50_ms)] * 3})
    assert [one for _, one in verdicts] == good


def test_a_long_ttft_may_not_move_by_a_millisecond_either() -> None:
    words, good = judge({False: [run(0.2, 400)], True: [run(0.2, 401.5)]})[1]
    assert not good
    assert words == "moves TTFT p50 by +1.500 ms, of 400.00 ms"
