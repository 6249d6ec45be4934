"""Which load is tried next: by hand, and with servers that are noisy, always broken or never."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.search.bisection import Border, Limits, Try, border, next_try

WIDE = Limits(low=0.5, high=8, precision=0.1, repeats=3)


def searched(holds: Callable[[Try], bool], limits: Limits = WIDE) -> tuple[list[Try], Border]:
    """What is tried, in order, and the border that comes out."""
    known: dict[Try, bool] = {}
    while (one := next_try(known, limits)) is not None:
        assert one not in known
        known[one] = holds(one)
        assert len(known) < 500
    return list(known), border(known)


def test_by_hand() -> None:
    # Holds up to 3. Doubling: 0.5, 1, 2, 4. Then the geometric means of 2 and 4, 2.828 and 4, 2.828 and 3.364, and of
    # 2.828 and 3.084 (9 % apart: near enough). Then each once more: two of three can't be turned.
    tries, found = searched(lambda one: one.scale <= 3)
    assert [one.scale for one in tries[:7]] == [0.5, 1, 2, 4, 2.828, 3.363, 3.084]
    assert tries[7:] == [Try(2.828, 2), Try(3.084, 2)]
    assert found == Border(2.828, 3.084)


def test_nothing_holds() -> None:
    tries, found = searched(lambda _: False)
    assert tries == [Try(0.5, 1), Try(0.5, 2)]
    assert found == Border(None, 0.5)


def test_everything_holds() -> None:
    tries, found = searched(lambda _: True, Limits(low=0.5, high=3, precision=0.1, repeats=3))
    assert tries == [Try(0.5, 1), Try(1, 1), Try(2, 1), Try(3, 1), Try(3, 2)]
    assert found == Border(3, None)


def test_one_run_without_repeats_decides() -> None:
    tries, _ = searched(lambda one: one.scale <= 3, Limits(low=0.5, high=8, precision=0.1, repeats=1))
    assert {one.repeat for one in tries} == {1}


def test_a_break_by_chance_is_outvoted() -> None:
    # At 1 the first run breaks by chance: 0.5 and 1 close in on a border below 1, then 1 is asked again and holds.
    tries, found = searched(lambda one: one.scale <= 3 and one != Try(1.0, 1))
    assert found == Border(2.828, 3.084)
    assert Try(1.0, 2) in tries
    assert Try(1.0, 3) in tries


def test_a_hold_by_chance_is_outvoted() -> None:
    tries, found = searched(lambda one: one.scale <= 3 or one == Try(3.084, 1))
    assert found == Border(2.828, 3.084)
    assert {Try(3.084, 2), Try(3.084, 3)} <= set(tries)


def test_what_holds_above_a_break_does_not_count() -> None:
    # A hole from 1.2 to 1.7 is not seen by doubling, and the border is above it.
    _, found = searched(lambda one: one.scale <= 3 and not 1.2 < one.scale < 1.7)
    assert found == Border(2.828, 3.084)
    _, found = searched(lambda one: one.scale <= 3 and not 0.9 < one.scale < 1.7)
    assert found.broke is not None
    assert found.held is not None
    assert found.held < 0.9 < found.broke < 1


@settings(max_examples=200, deadline=None)
@given(limit=st.floats(0.01, 20), noise=st.sets(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=12))
def test_it_always_ends_and_stays_within_its_limits(limit: float, noise: set[tuple[int, int]]) -> None:
    numbers: dict[float, int] = {}

    def holds(one: Try) -> bool:
        number = numbers.setdefault(one.scale, len(numbers))
        return (one.scale <= limit) != ((number, one.repeat) in noise)

    tries, found = searched(holds)
    assert all(WIDE.low <= one.scale <= WIDE.high and 1 <= one.repeat <= 3 for one in tries)
    if found.held is not None and found.broke is not None:
        assert found.held < found.broke <= found.held * 1.1 * 1.001


@given(known=st.integers(0, 8))
def test_it_goes_on_from_what_is_known(known: int) -> None:
    tries, found = searched(lambda one: one.scale <= 3)
    kept = {one: one.scale <= 3 for one in tries[:known]}
    rest = []
    while (one := next_try(kept, WIDE)) is not None:
        rest.append(one)
        kept[one] = one.scale <= 3
    assert (rest, border(kept)) == (tries[known:], found)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"low": 0.0}, "low"),
        ({"low": 9.0}, "high"),
        ({"precision": 0.0}, "precision"),
        ({"repeats": 2}, "repeats-at-border"),
        ({"repeats": 0}, "repeats-at-border"),
    ],
)
def test_limits_that_are_none(changes: dict[str, float], key: str) -> None:
    limits = Limits(**changes)  # type: ignore[arg-type]
    assert [found for found, _ in limits.check()] == [key]
