"""Log histograms: percentiles to 1 %, sums that are those of the whole."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.live.histogram import LogHistogram

_MS = st.floats(0.001, 1e7, allow_nan=False)


def histogram(values: Iterable[float]) -> LogHistogram:
    result = LogHistogram()
    for value in values:
        result.add(value)
    return result


@given(st.lists(_MS, min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_within_one_per_cent_of_the_exact_one(values: list[float], percent: int) -> None:
    rank = next(rank for rank in range(1, len(values) + 1) if rank * 100 >= percent * len(values))
    assert histogram(values).percentile(percent) == pytest.approx(sorted(values)[rank - 1], rel=0.01)


@given(st.lists(_MS, max_size=50), st.lists(_MS, max_size=50))
def test_merged_parts_are_the_whole(one: list[float], other: list[float]) -> None:
    merged = histogram(one)
    merged.merge(histogram(other))
    whole = histogram([*one, *other])
    assert merged.count == whole.count == len(one) + len(other)
    assert merged.sum_ms == pytest.approx(whole.sum_ms)
    for percent in (1, 50, 99, 100):
        assert merged.percentile(percent) == whole.percentile(percent)


def test_merging_leaves_the_other_as_it_was() -> None:
    one, other = histogram([1.0]), histogram([100.0])
    one.merge(other)
    one.add(100.0)
    assert (one.count, other.count) == (3, 1)


def test_nearest_rank_by_hand() -> None:
    """Of 10, 20, 30, 40: p50 is the 2nd, p51 the 3rd, p75 the 3rd, p76 the 4th."""
    four = histogram([40, 10, 30, 20])
    found = [four.percentile(percent) for percent in (25, 50, 51, 75, 76, 99)]
    assert four.percentiles(25, 50, 51, 75, 76, 99) == found
    assert found == pytest.approx([10, 20, 30, 30, 40, 40], rel=0.01)


def test_without_values_there_is_no_percentile() -> None:
    assert LogHistogram().percentile(99) is None
    assert LogHistogram().count == 0


def test_less_than_a_microsecond_counts_as_zero() -> None:
    small = histogram([0.0, 0.0009, -3.0, 5.0])
    assert small.percentile(75) == 0.0
    assert small.percentile(76) == pytest.approx(5.0, rel=0.01)
    assert small.sum_ms == pytest.approx(2.0009)


def test_values_at_most_a_limit() -> None:
    some = histogram([0, 1, 10, 10, 1000])
    assert some.counts_at_most([0.5, 2, 9, 20, 500, 2000]) == [1, 2, 2, 4, 4, 5]
    assert LogHistogram().counts_at_most([1, 2]) == [0, 0]


@given(st.lists(_MS | st.just(0.0), max_size=50))
def test_it_survives_json_and_msgpack(values: list[float]) -> None:
    sent = histogram(values)
    for received in (json.loads(json.dumps(sent.to_dict())), msgpack.unpackb(msgpack.packb(sent.to_dict()))):
        again = LogHistogram.from_dict(received)
        assert again.to_dict() == sent.to_dict()
        assert (again.count, again.percentile(99)) == (len(values), sent.percentile(99))
