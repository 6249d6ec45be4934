"""Windows from phases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.load import Phase
from analysis.window import Window, Windows, find_windows, measured_parts, parts_by_load
from tests.analysis.build import phases


def found_in(every: Sequence[Phase], tenants: str, known_until_s: float = math.inf) -> Windows:
    return find_windows(measured_parts(every, known_until_s), tenants)


def test_a_tenants_window_is_the_measured_phases_that_list_it() -> None:
    every = phases("ab", ("warmup", 0, 10, False), ("measure", 10, 70, True), ("drain", 70, 90, False))
    found = found_in(every, "ab")
    assert found.tenants == (Window.of_seconds((10, 70)),) * 2
    assert found.common == found.whole == Window.of_seconds((10, 70))


def test_tenants_alone_share_no_window() -> None:
    every = (*phases("a", ("solo-a/measure", 0, 10, True)), *phases("b", ("solo-b/measure", 20, 30, True)))
    found = found_in(every, "ab")
    assert [window.start_s for window in found.tenants] == [0, 20]
    assert not found.common
    assert found.whole.length_s == 20


def test_of_several_tenants_one_alone_is_not_compared() -> None:
    assert not found_in(phases("a", ("solo-a/measure", 0, 10, True)), "ab").common


def test_a_single_tenant_is_compared_with_itself() -> None:
    assert found_in(phases("a", ("measure", 0, 10, True)), "a").common.length_s == 10


def test_the_common_window_is_where_all_measured_tenants_are() -> None:
    every = (
        *phases("a", ("one", 0, 10, True)),
        *phases("ab", ("two", 10, 20, True)),
        *phases("abc", ("three", 25, 30, True)),
    )
    found = found_in(every, "abcd")
    assert found.tenants[0] == Window.of_seconds((0, 20), (25, 30))
    assert found.common == Window.of_seconds((25, 30))
    assert not found.tenants[3]


def part(name: str, start_s: float, end_s: float, tenants: str, load: float = 1.0, *, measured: bool = True) -> Phase:
    return Phase(name=name, start_s=start_s, end_s=end_s, measured=measured, tenants=tuple(tenants), load=load)


def names(loads: dict[float, tuple[Phase, ...]]) -> dict[float, list[str]]:
    return {load: [one.name for one in some] for load, some in loads.items()}


def test_parts_are_measured_and_ascend_and_have_a_length() -> None:
    every = [
        part("b/measure", 30, 40, "a"),
        part("a/warmup", 0, 10, "a", measured=False),
        part("a/measure", 10, 20, "a"),
        part("c/measure", 50, 50, "a"),
    ]
    assert [one.name for one in measured_parts(every, math.inf)] == ["a/measure", "b/measure"]


def test_the_phases_of_all_tenants_are_told_from_the_others() -> None:
    every = [part("solo-a/measure", 0, 10, "a"), part("solo-b/measure", 10, 20, "b"), part("all/measure", 20, 30, "ab")]
    assert names(parts_by_load(every)) == {1.0: ["all/measure"]}
    assert parts_by_load(every[:2]) == {}
    assert names(parts_by_load(every[:1])) == {1.0: ["solo-a/measure"]}  # nobody else was measured


def test_a_phase_has_a_tenant_that_comes_and_goes() -> None:
    every = [part("measure-1", 0, 10, "a"), part("measure-2", 10, 20, "ab"), part("measure-3", 20, 30, "a")]
    (only,) = parts_by_load(every).values()
    found = found_in(only, "ab")
    assert found.tenants == (Window.of_seconds((0, 30)), Window.of_seconds((10, 20)))
    assert found.common == Window.of_seconds((10, 20))
    assert found.phases == ("measure-1", "measure-2", "measure-3")


def test_loads_ascend_and_pool_their_phases() -> None:
    every = [
        part("high/measure", 0, 10, "ab", 2.0),
        part("low/measure", 10, 20, "ab", 0.5),
        part("again/measure", 20, 30, "ab", 2.0),
        part("alone/measure", 30, 40, "a", 4.0),
    ]
    assert list(parts_by_load(every)) == [0.5, 2.0]
    assert names(parts_by_load(every))[2.0] == ["high/measure", "again/measure"]


def test_nothing_is_known_after_a_crash() -> None:
    measure = Phase(name="measure", start_s=10, end_s=math.inf, measured=True, tenants=("a",))
    assert found_in([measure], "a", 25.5).common == Window.of_seconds((10, 25.5))
    assert not found_in([measure], "a", 5.0).common


def test_a_window_is_half_open() -> None:
    inside = Window.of_seconds((1, 2), (3, 4)).contains(np.array([1, 2, 3, 4, 5]) * 10**9)
    assert inside.tolist() == [True, False, True, False, False]


def test_sub_windows_are_adjacent_and_the_last_may_be_shorter() -> None:
    spans = Window.of_seconds((10, 22)).sub_windows(5)
    assert [(start / 1e9, end / 1e9) for start, end in spans] == [(10, 15), (15, 20), (20, 22)]


def test_an_empty_window_has_no_ends() -> None:
    empty = Window.of_seconds((3, 3))
    assert (empty.start_s, empty.end_s, empty.length_s, empty.sub_windows(5)) == (None, None, 0, ())
