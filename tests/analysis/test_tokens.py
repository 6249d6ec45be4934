"""When tokens arrived."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import tokens
from analysis.tokens import arrivals, tabulate, tokens_by_cell
from analysis.window import Window
from fairshare_locust.record import RequestRecord
from tests.analysis import reference
from tests.analysis.build import columns, record
from tests.analysis.random_records import records


def test_tokens_are_spread_evenly_where_the_server_tells_none() -> None:
    requests = columns([record(first_token_s=9.8, gaps_us=[100_000] * 3, output_tokens=8)])
    (block,) = arrivals(requests, np.array([True]))
    assert block.time_ns.tolist() == [9_800_000_000, 9_900_000_000, 10_000_000_000, 10_100_000_000]
    assert block.tokens.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("told", "output", "expected"),
    [([1, 3], 4, [1, 3]), ([1, 3], 8, [2, 6]), ([0, 0], 4, [2, 2]), ([0, 2], 2, [0, 2])],
)
def test_told_tokens_are_scaled_to_the_count(told: list[int], output: int, expected: list[int]) -> None:
    requests = columns([record(gaps_us=[5], output_tokens=output, chunk_tokens=told)])
    (block,) = arrivals(requests, np.array([True]))
    assert block.tokens.tolist() == expected


def test_a_token_on_an_edge_belongs_to_the_later_cell() -> None:
    # 0.7 + 0.1 is less than 0.8 in floats; here it is 0.8.
    requests = columns([record(scheduled_s=0.1, first_token_s=0.7, gaps_us=[100_000])])
    cells = tokens_by_cell(requests, np.array([0]), 1, np.array([700_000_000, 800_000_000, 900_000_000]))
    assert cells.tolist() == [[1, 1]]


@settings(deadline=None)
@given(records(), st.lists(st.integers(0, 1500), min_size=1, max_size=6, unique=True), st.integers(1, 4))
def test_against_the_slow_reference(some: list[RequestRecord], edges: list[int], block: int) -> None:
    edges.sort()
    requests = columns(some)
    group = np.array([index % 3 - 1 for index in range(len(some))], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_BLOCK_CHUNKS", block)
        found = tokens_by_cell(requests, group, 2, np.array(edges) * 10_000_000)
    expected = np.zeros((2, len(edges) - 1))
    for index, one in enumerate(some):
        for time, count in reference.chunks(one):
            for cell, (start, end) in enumerate(pairwise(edges)):
                if group[index] >= 0 and Fraction(start, 100) <= time < Fraction(end, 100):
                    expected[group[index], cell] += float(count)
    assert found == pytest.approx(expected)


def test_a_table_gives_the_tokens_of_any_window_it_was_made_for() -> None:
    requests = columns([record("a", gaps_us=[1_000_000] * 4), record("b", first_token_s=3.0)])  # a: 1.5 to 5.5 s
    windows = [Window.of_seconds((1, 3)), Window.of_seconds((2, 5))]
    table = tabulate(requests, 2, np.array([True, False]), windows)
    assert table.within(windows[0]).tolist() == [[0, 2], [0, 0]]
    assert table.within(windows[1]).tolist() == [[0, 3], [1, 0]]
    assert table.within(Window()).tolist() == [[0, 0], [0, 0]]


@settings(deadline=None)
@given(records(), st.lists(st.integers(0, 1500), max_size=10, unique=True))
def test_spans_of_a_table_hold_what_their_windows_hold(some: list[RequestRecord], edges: list[int]) -> None:
    stamps = [edge * 10_000_000 for edge in sorted(edges)]
    spans = [*pairwise(stamps[:4]), *zip(stamps[4::2], stamps[5::2], strict=False)]  # adjacent ones, then apart
    table = tabulate(columns(some), 2, np.ones(len(some), np.bool_), [Window((span,)) for span in spans])
    found = table.in_spans(spans)
    assert found.shape == (2, len(spans))
    for place, span in enumerate(spans):
        assert found[:, place] == pytest.approx(table.within(Window((span,))).sum(axis=1))
