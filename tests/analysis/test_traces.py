"""Telemetry as it is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.telemetry import read_telemetry
from analysis.traces import grown, thinned, traces
from analysis.window import Window
from tests.analysis.build import sampled, write_samples
from tests.analysis.test_telemetry import series


def test_few_samples_are_drawn_as_they_are() -> None:
    at, mean, low, high = thinned(series((0.0, 1.0), (1.0, 3.0), (2.0, 2.0)))
    assert at.tolist() == [0.0, 1.0, 2.0]
    assert mean.tolist() == low.tolist() == high.tolist() == [1.0, 3.0, 2.0]


def test_many_samples_become_means_with_their_range() -> None:
    # Stretches of 3.5 s: four samples, three, then the last one too.
    some = series(*((float(t), float(value)) for t, value in enumerate([0, 8, 4, 4, 1, 1, 7, 5])))
    at, mean, low, high = thinned(some, points=2)
    assert at.tolist() == [1.5, 5.0, 7.0]
    assert mean.tolist() == [4.0, 3.0, 5.0]
    assert low.tolist() == [0.0, 1.0, 5.0]
    assert high.tolist() == [8.0, 7.0, 5.0]


def test_a_line_breaks_where_samples_are_missing() -> None:
    at, mean, *_ = thinned(series((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (9.0, 2.0), (10.0, 2.0)))
    assert np.isnan(at).tolist() == np.isnan(mean).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("points", [(), ((1.0, 2.0),)])
def test_one_sample_or_none(points: tuple[tuple[float, float], ...]) -> None:
    at, mean, *_ = thinned(series(*points))
    assert list(zip(at.tolist(), mean.tolist(), strict=True)) == list(points)


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(-9, 9)), min_size=1, max_size=300, unique_by=lambda p: p[0])
)
def test_nothing_is_lost_but_detail(points: list[tuple[int, int]]) -> None:
    some = series(*((float(t), float(value)) for t, value in sorted(points)))
    at, mean, low, high = thinned(some, points=20)
    there = ~np.isnan(at)
    assert there.sum() <= 21
    assert (np.diff(at[there]) > 0).all()
    assert (low[there] <= mean[there] + 1e-9).all()
    assert (mean[there] <= high[there] + 1e-9).all()
    assert high[there].max() == some.values.max()
    assert low[there].min() == some.values.min()


def test_a_counter_is_drawn_where_it_grew() -> None:
    at, mean, *_ = grown(series((0.0, 3.0), (1.0, 3.0), (2.0, 5.0), (3.0, 1.0), (4.0, 1.0)))
    assert (at.tolist(), mean.tolist()) == ([2.0, 3.0], [2.0, 1.0])


def test_only_what_is_drawn_is_a_trace(tmp_path: Path) -> None:
    write_samples(
        tmp_path,
        gpu=[*sampled("GPU-1", "power_w", (1, 50)), *sampled("GPU-1", "temperature_c", (1, 60))],
        server=[
            *sampled("http://a", "preemptions_total", (1, 0), (2, 1)),
            *sampled("http://a", "prompt_tokens_total", (1, 0)),
        ],
    )
    found = [
        (trace.source, trace.subject, trace.metric)
        for trace in traces(read_telemetry(tmp_path, None), Window.of_seconds((0.0, 5.0)))
    ]
    assert found == [("server", "http://a", "preemptions_total"), ("nvml", "GPU-1", "power_w")]


def test_samples_outside_the_run_are_not_drawn(tmp_path: Path) -> None:
    samples = [*sampled("GPU-1", "power_w", (1, 50), (9, 70)), *sampled("GPU-2", "power_w", (9, 70))]
    write_samples(tmp_path, gpu=samples)
    (trace,) = traces(read_telemetry(tmp_path, None), Window.of_seconds((0.0, 5.0)))
    assert (trace.subject, trace.times_s.tolist()) == ("GPU-1", [1.0])
