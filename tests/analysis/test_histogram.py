"""What a server counted in buckets."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.histogram import Bucket, Scrapes, scrapes
from analysis.telemetry import read_telemetry
from analysis.window import Window
from tests.analysis.build import Sample, histogram, write_samples

E = "http://127.0.0.1:40001"


def scraped(folder: Path, samples: Sequence[Sample]) -> dict[str, Scrapes]:
    return dict(scrapes(read_telemetry(write_samples(folder, server=samples), None).server.get(E, {})))


def test_a_delta_by_hand(tmp_path: Path) -> None:
    some = scraped(
        tmp_path, histogram(E, "ttft_seconds", (0, 1.0, (2, 3, 3)), (1, 2.5, (2, 6, 7)), (2, 9.0, (9, 9, 9)))
    )
    found = some["ttft_seconds"].over(Window.of_seconds((0.5, 1.5)))
    assert found is not None
    # From the scrape at 0 s to that at 1 s: none up to 0.1 s, 3 up to 1 s, 1 above; 1.5 s in all.
    assert found.counts.tolist() == [0, 3, 1]
    assert (found.count, found.mean) == (4, 0.375)
    assert found.spans == ((0, 10**9),)
    assert found.bounds == (0.1, 1.0, math.inf)


def test_percentiles_are_buckets(tmp_path: Path) -> None:
    some = scraped(tmp_path, histogram(E, "ttft_seconds", (0, 0, (0, 0, 0)), (10, 5.0, (1, 99, 100))))
    found = some["ttft_seconds"].over(Window.of_seconds((0.0, 10.0)))
    assert found is not None
    # The 50th of 100 is the 49th of the 98 in the bucket from 0.1 to 1 s; the 99th the last of them.
    median, tail = found.percentile("p50"), found.percentile("p99")
    assert median is not None
    assert tail is not None
    assert (median.low, median.high) == (tail.low, tail.high) == (0.1, 1.0)
    assert median.estimate == pytest.approx(0.1 + 0.9 * 49 / 98)
    assert tail.estimate == pytest.approx(1.0)
    assert found.percentile("p99_9") == Bucket(1.0, math.inf, None)


def test_without_observations_nothing_is_known(tmp_path: Path) -> None:
    some = scraped(tmp_path, histogram(E, "queue_seconds", (0, 5.0, (1, 2, 3)), (10, 5.0, (1, 2, 3))))
    found = some["queue_seconds"].over(Window.of_seconds((0.0, 10.0)))
    assert found is not None
    assert (found.count, found.mean, found.percentile("p50")) == (0, None, None)
    assert some["queue_seconds"].over(Window.of_seconds((20.0, 30.0))) is None
    assert some["queue_seconds"].over(Window()) is None


def test_a_restarted_server_counts_from_zero(tmp_path: Path) -> None:
    # After the restart the first bucket has already as many as before; the last tells of it.
    some = scraped(tmp_path, histogram(E, "q", (0, 9.0, (2, 5, 8)), (1, 9.5, (3, 6, 9)), (2, 0.6, (3, 4, 4))))
    found = some["q"].over(Window.of_seconds((0.0, 3.0)))
    assert found is not None
    assert found.counts.tolist() == [1 + 3, 0 + 1, 0]
    assert found.total == pytest.approx(0.5 + 0.6)


def test_a_scrape_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    samples = histogram(E, "q", (0, 0, (0, 0, 0)), (1, 1.0, (1, 2, 2)), (2, 9.0, (9, 9, 9)))[:-2]
    found = scraped(tmp_path, samples)["q"].over(Window.of_seconds((0.0, 2.0)))
    assert found is not None
    assert found.count == 2


def test_a_scrape_with_a_count_that_fell_a_little_is_left_out(tmp_path: Path) -> None:
    samples = histogram(E, "q", (0, 9.0, (20, 50, 80)), (1, 9.1, (20, 49, 80)), (2, 9.5, (20, 50, 81)))
    found = scraped(tmp_path, samples)["q"].over(Window.of_seconds((0.0, 2.0)))
    assert found is not None
    assert found.counts.tolist() == [0, 0, 1]
    assert found.total == pytest.approx(0.5)


def test_scrapes_of_a_small_part_of_the_window_are_not_its_histogram(tmp_path: Path) -> None:
    rising = [(t, float(t), (t, t, t)) for t in range(6)]
    some = scraped(tmp_path, histogram(E, "q", *rising))["q"]
    assert some.over(Window.of_seconds((0.0, 10.0))) is None
    assert some.over(Window.of_seconds((0.0, 5.5))) is not None


def test_what_is_no_whole_histogram_is_none(tmp_path: Path) -> None:
    samples = [*histogram(E, "open", (0, 0, (0,)), bounds=["1"]), (0.0, E, "lone_bucket_le_inf", 1.0)]
    assert scraped(tmp_path, samples) == {}


def test_two_spans_are_added_up(tmp_path: Path) -> None:
    rising = [(t, float(t), (t, t, t)) for t in range(11)]
    found = scraped(tmp_path, histogram(E, "q", *rising))["q"].over(Window.of_seconds((1.0, 3.0), (6.0, 9.0)))
    assert found is not None
    assert (found.count, found.spans) == (5, ((10**9, 3 * 10**9), (6 * 10**9, 9 * 10**9)))


@pytest.mark.parametrize(
    ("value", "agrees"),
    [(0.3, True), (0.2, True), (0.54, True), (0.56, False), (0.04, False)],
)
def test_a_value_agrees_if_it_is_no_further_off_than_the_bucket_is_wide(value: float, agrees: bool) -> None:
    assert Bucket(0.25, 0.5, 0.3).agrees(value) is agrees


def test_in_the_last_bucket_all_that_is_above_agrees() -> None:
    assert Bucket(10.0, math.inf, None).agrees(11.0)
    assert not Bucket(10.0, math.inf, None).agrees(9.0)


@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60))
def test_a_percentile_lies_in_its_bucket(values: list[float]) -> None:
    counts = [sum(value <= bound for value in values) for bound in (0.1, 1.0, math.inf)]
    with tempfile.TemporaryDirectory() as folder:
        some = scraped(Path(folder), histogram(E, "q", (0, 0, (0, 0, 0)), (1, sum(values), counts)))
    found = some["q"].over(Window.of_seconds((0.0, 1.0)))
    assert found is not None
    for name, rank in (("p50", -(-len(values) // 2)), ("p95", -(-95 * len(values) // 100))):
        exact = sorted(values)[rank - 1]
        bucket = found.percentile(name)
        assert bucket is not None
        assert bucket.low < exact <= bucket.high
        assert bucket.agrees(exact)
