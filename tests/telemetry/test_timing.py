"""How well a source was sampled, worked out by hand."""

from __future__ import annotations

import pytest

from fairshare_locust.telemetry.timing import Timing


def test_samples_on_time_but_for_one_hole() -> None:
    timing = Timing(0.5)
    # Due at 0, 0.5, 1, 4, 4.5; each begins 10 ms late, the last 30 ms; each lasts 20 ms, the third 60 ms.
    for due_s, late_s, lasts_s in (
        (0.0, 0.01, 0.02),
        (0.5, 0.01, 0.02),
        (1.0, 0.01, 0.06),
        (4.0, 0.01, 0.02),
        (4.5, 0.03, 0.02),
    ):
        timing.add(due_s, due_s + late_s, due_s + late_s + lasts_s)
    summary = timing.summary(5.0)
    # Stamps: 0.02, 0.52, 1.04, 4.02, 4.54. Steps between them: 0.5, 0.52, 2.98, 0.52; the median is 0.52.
    assert summary["samples"] == 5
    assert summary["interval_s"] == 0.5
    assert summary["achieved_interval_s"] == pytest.approx(0.52)
    assert summary["jitter_s"] == {"p50": pytest.approx(0.01), "p99": pytest.approx(0.03)}
    assert summary["duration_s"] == {"mean": pytest.approx(0.028), "max": pytest.approx(0.06)}
    assert summary["gaps"] == {"count": 1, "longest_s": 2.98, "first": [{"from_s": 1.04, "to_s": 4.02}]}


def test_a_source_that_died_has_a_gap_to_the_end() -> None:
    timing = Timing(0.5)
    timing.add(0.0, 0.0, 0.0)
    assert timing.summary(10.0)["gaps"]["first"] == [{"from_s": 0.0, "to_s": 10.0}]


def test_a_source_that_came_late_has_a_gap_before() -> None:
    timing = Timing(1.0)
    timing.add(4.0, 4.0, 4.5)
    timing.add(5.0, 5.0, 5.5)
    assert timing.summary(6.0)["gaps"]["first"] == [{"from_s": 0.0, "to_s": 4.25}]


def test_three_intervals_are_no_gap() -> None:
    timing = Timing(1.0)
    timing.add(0.0, 0.0, 0.0)
    timing.add(3.0, 3.0, 3.0)
    assert timing.summary(3.0)["gaps"]["count"] == 0


def test_without_a_sample_nothing_is_known() -> None:
    summary = Timing(1.0).summary(None)
    assert summary["samples"] == 0
    assert summary["achieved_interval_s"] is None
    assert summary["jitter_s"] == {"p50": None, "p99": None}
    assert summary["duration_s"] == {"mean": None, "max": None}
    assert summary["gaps"] == {"count": 0, "longest_s": None, "first": []}


def test_a_sample_at_no_set_time_has_no_jitter() -> None:
    timing = Timing(1.0)
    timing.add(None, 7.0, 7.2)
    assert timing.summary(8.0)["jitter_s"]["p50"] is None


def test_a_thousand_holes_are_counted_and_a_hundred_told() -> None:
    timing = Timing(1.0)
    for number in range(1001):
        timing.add(number * 10.0, number * 10.0, number * 10.0)
    gaps = timing.summary(10_000.0)["gaps"]
    assert gaps["count"] == 1000
    assert len(gaps["first"]) == 100
