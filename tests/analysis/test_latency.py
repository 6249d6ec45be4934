"""Latencies, and what is said of them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.intervals import PERCENTILES
from analysis.latency import Sample, curve, describe, icl_ms, itl_ms, per_request_ms
from fairshare_locust.record import RequestRecord
from tests.analysis import reference
from tests.analysis.build import columns, record
from tests.analysis.random_records import records


def test_one_request_worked_by_hand() -> None:
    # Chunks at 1.51, 1.61 and 1.91 s of 1, 2 and 2 tokens.
    requests = columns(
        [
            record(
                scheduled_s=1.0,
                sent_s=1.01,
                first_token_s=1.51,
                gaps_us=[100_000, 300_000],
                last_token_s=1.91,
                output_tokens=5,
                chunk_tokens=[1, 2, 2],
            )
        ]
    )
    found = {name: values.tolist() for name, values in per_request_ms(requests).items()}
    assert found == {
        "ttft_ms": [500.0],
        "ttft_scheduled_ms": [510.0],
        "tpot_ms": [100.0],  # 400 ms over the 4 tokens after the first chunk
        "e2e_ms": [900.0],
        "e2e_scheduled_ms": [910.0],
        "send_lag_ms": [10.0],
    }
    everything = np.array([True])
    icl = icl_ms(requests, everything)
    assert (icl.values.tolist(), icl.counts.tolist()) == ([100.0, 300.0], [1, 1])
    itl = itl_ms(requests, everything)
    assert (itl.values.tolist(), itl.counts.tolist()) == ([50.0, 150.0], [2, 2])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tpot_ms", {"gaps_us": [], "output_tokens": 1}),  # a single token
        ("tpot_ms", {"gaps_us": [], "output_tokens": 8}),  # everything in one chunk
        ("tpot_ms", {"gaps_us": [10], "output_tokens": 4, "chunk_tokens": [4, 0]}),  # no token after the first chunk
        ("ttft_ms", {"first_token_s": None}),  # ok without a token
        ("e2e_ms", {"outcome": "timeout", "gaps_us": [10]}),  # failed
        ("send_lag_ms", {"outcome": "shed"}),
    ],
)
def test_undefined_is_nan(name: str, values: dict[str, Any]) -> None:
    assert math.isnan(per_request_ms(columns([record(**values)]))[name][0])


def test_a_failed_request_keeps_its_ttft_and_tpot() -> None:
    found = per_request_ms(columns([record(outcome="timeout", gaps_us=[10_000, 10_000])]))
    assert (found["ttft_ms"][0], found["tpot_ms"][0]) == (500.0, 10.0)


@settings(deadline=None)
@given(records(min_size=1))
def test_against_the_slow_reference(some: list[RequestRecord]) -> None:
    requests = columns(some)
    found = per_request_ms(requests)
    for row, one in enumerate(some):
        expected = reference.tpot_ms(one)
        assert found["tpot_ms"][row] == pytest.approx(math.nan if expected is None else expected, nan_ok=True)
    everything = np.ones(len(some), np.bool_)
    gaps = sorted(gap / 1000 for one in some for gap in one.chunk_gap_us or [])
    icl = icl_ms(requests, everything)
    assert sorted(np.repeat(icl.values, icl.counts)) == gaps
    tokens = [
        gap / 1000 / count
        for one in some
        if one.chunk_tokens
        for gap, count in zip(one.chunk_gap_us or [], one.chunk_tokens[1:], strict=True)
        for _ in range(count)
    ]
    itl = itl_ms(requests, everything)
    assert sorted(np.repeat(itl.values, itl.counts)) == pytest.approx(sorted(tokens))


def test_ten_values_worked_by_hand() -> None:
    found = describe(np.arange(10, 0, -1, dtype=np.float64))
    assert (found.count, found.mean) == (10, 5.5)
    assert found.percentiles == {"p50": 5.0, "p90": 9.0, "p95": 10.0, "p99": 10.0, "p99_9": 10.0}
    assert found.ci95["p50"] == (2.0, 9.0)
    assert found.certified == dict.fromkeys(PERCENTILES, False)


def test_certified_from_the_minimum_count() -> None:
    assert describe(np.ones(662)).certified == {"p50": True, "p90": True, "p95": True, "p99": True, "p99_9": False}
    assert not describe(np.ones(661)).certified["p99"]


def test_no_sample_has_no_percentile() -> None:
    found = describe(np.array([np.nan]))
    assert (found.count, found.mean, set(found.percentiles.values())) == (0, None, {None})
    assert found.ci95["p50"] == (None, None)


def test_failures_count_as_infinite() -> None:
    found = describe(np.array([1.0, 2.0, 3.0]), failed=1)
    assert (found.count, found.mean) == (4, math.inf)
    assert (found.percentiles["p50"], found.percentiles["p90"]) == (2.0, math.inf)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 5))),
    st.integers(0, 5),
    st.sampled_from(list(PERCENTILES)),
)
def test_percentiles_against_the_slow_reference(pairs: list[tuple[float, int]], failed: int, name: str) -> None:
    every = sorted([value for value, count in pairs for _ in range(count)] + [math.inf] * failed)
    position = math.ceil(Fraction(PERCENTILES[name], 1000) * len(every))
    expected = every[position - 1] if every else None
    sample = Sample(np.array([value for value, _ in pairs]), np.array([count for _, count in pairs], np.int64))
    assert describe(sample, failed=failed).percentiles[name] == expected
    finite = np.array([value for value in every if math.isfinite(value)])
    assert describe(finite, failed=failed).percentiles[name] == expected


def test_a_curve_keeps_both_ends() -> None:
    thinned = curve(np.arange(1.0, 100_001.0))
    assert thinned.count == 100_000
    assert len(thinned.values_ms) < 1000
    assert (thinned.values_ms[0], thinned.values_ms[-1], thinned.share[-1]) == (1.0, 100_000.0, 1.0)
    assert thinned.values_ms == pytest.approx(thinned.share * 100_000)
    assert curve(np.empty(0)).count == 0
