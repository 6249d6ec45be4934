"""Windows from phases."""

from __future__ import annotations

import math

import numpy as np

from analysis.load import Phase
from analysis.window import Window, find_windows
from tests.analysis.build import phases


def test_a_tenants_window_is_the_measured_phases_that_list_it() -> None:
    every = phases("ab", ("warmup", 0, 10, False), ("measure", 10, 70, True), ("drain", 70, 90, False))
    found = find_windows(every, "ab", math.inf)
    assert found.tenants == (Window.of_seconds((10, 70)),) * 2
    assert found.common == found.whole == Window.of_seconds((10, 70))


def test_tenants_alone_share_no_window() -> None:
    every = (*phases("a", ("solo-a/measure", 0, 10, True)), *phases("b", ("solo-b/measure", 20, 30, True)))
    found = find_windows(every, "ab", math.inf)
    assert [window.start_s for window in found.tenants] == [0, 20]
    assert not found.common
    assert found.whole.length_s == 20


def test_of_several_tenants_one_alone_is_not_compared() -> None:
    assert not find_windows(phases("a", ("solo-a/measure", 0, 10, True)), "ab", math.inf).common


def test_a_single_tenant_is_compared_with_itself() -> None:
    assert find_windows(phases("a", ("measure", 0, 10, True)), "a", math.inf).common.length_s == 10


def test_the_common_window_is_where_all_measured_tenants_are() -> None:
    every = (
        *phases("a", ("one", 0, 10, True)),
        *phases("ab", ("two", 10, 20, True)),
        *phases("abc", ("three", 25, 30, True)),
    )
    found = find_windows(every, "abcd", math.inf)
    assert found.tenants[0] == Window.of_seconds((0, 20), (25, 30))
    assert found.common == Window.of_seconds((25, 30))
    assert not found.tenants[3]


def test_nothing_is_known_after_a_crash() -> None:
    measure = Phase(name="measure", start_s=10, end_s=math.inf, measured=True, tenants=("a",))
    assert find_windows([measure], "a", 25.5).common == Window.of_seconds((10, 25.5))
    assert not find_windows([measure], "a", 5.0).common


def test_a_window_is_half_open() -> None:
    inside = Window.of_seconds((1, 2), (3, 4)).contains(np.array([1, 2, 3, 4, 5]) * 10**9)
    assert inside.tolist() == [True, False, True, False, False]


def test_sub_windows_are_adjacent_and_the_last_may_be_shorter() -> None:
    spans = Window.of_seconds((10, 22)).sub_windows(5)
    assert [(start / 1e9, end / 1e9) for start, end in spans] == [(10, 15), (15, 20), (20, 22)]


def test_an_empty_window_has_no_ends() -> None:
    empty = Window.of_seconds((3, 3))
    assert (empty.start_s, empty.end_s, empty.length_s, empty.sub_windows(5)) == (None, None, 0, ())
