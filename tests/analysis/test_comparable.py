"""Which stretches of a run show the same tenant alone and beside others."""

from __future__ import annotations

import math
from pathlib import Path

from analysis.comparable import Comparable, comparable, solo_warnings
from analysis.conditions import Condition, conditions
from analysis.interference import Observed
from analysis.load import Phase
from tests.analysis.build import run
from tests.analysis.sides import side


def found(*parts: tuple[str, str, float]) -> tuple[Condition, ...]:
    """Conditions of adjacent parts of a second each, from (name, tenants of one letter, load)."""
    phases = [
        Phase(name=name, start_s=k, end_s=k + 1, measured=True, tenants=tuple(tenants), load=load)
        for k, (name, tenants, load) in enumerate(parts)
    ]
    return conditions(phases, phases)


SOLO = (("x/measure", "a", 1.0), ("y/measure", "b", 1.0), ("z/measure", "c", 1.0))
PAIRS = (("1/measure", "ab", 1.0), ("2/measure", "ac", 1.0), ("3/measure", "bc", 1.0))
ALL = ("4/measure", "abc", 1.0)


def test_alone_in_pairs_and_all_together() -> None:
    one = comparable(found(*SOLO, *PAIRS, ALL), ["4/measure"], ())
    assert one.together is not None
    assert one.together.phases == ("4",)
    assert {tenant: condition.phases for tenant, condition in one.alone.items()} == {
        "a": ("x",),
        "b": ("y",),
        "c": ("z",),
    }
    assert {"".join(sorted(tenants)) for tenants in one.pairs} == {"ab", "ac", "bc"}


def test_of_two_tenants_all_is_the_pair() -> None:
    one = comparable(found(SOLO[0], SOLO[1], ("all/measure", "ab", 1.0)), ["all/measure"], ())
    assert list(one.pairs.values()) == [one.together]


def test_a_tenant_that_comes_and_goes_leaves_the_other_alone() -> None:
    parts = [("measure-1", "a", 1.0), ("measure-2", "ab", 1.0), ("measure-3", "a", 1.0)]
    one = comparable(found(*parts), [name for name, _, _ in parts], ())
    assert list(one.alone) == ["a"]
    assert one.alone["a"].parts == ("measure-1", "measure-3")
    assert one.together is not None


def test_only_what_has_the_same_load_is_compared() -> None:
    parts = [("x/measure", "a", 1.0), ("half/measure", "ab", 0.5), ("full/measure", "ab", 1.0)]
    assert comparable(found(*parts), ["full/measure"], ()).load == 1.0
    assert "a" in comparable(found(*parts), ["full/measure"], ()).alone
    assert comparable(found(*parts), ["half/measure"], ()) == Comparable()
    elsewhere = comparable(found(*parts), ["half/measure"], ["b"])
    assert (elsewhere.load, dict(elsewhere.alone)) == (0.5, {})


def test_pairs_without_all_together() -> None:
    one = comparable(found(*SOLO, *PAIRS), [], ())
    assert one.together is None
    assert len(one.pairs) == 3


def test_nothing_to_compare() -> None:
    assert comparable((), [], ()) == Comparable()
    assert comparable(found(*SOLO), ["x/measure"], ["a"]) == Comparable()  # nobody beside anybody
    assert comparable(found(ALL), ["4/measure"], ()) == Comparable()  # nobody alone
    assert comparable(found(ALL), ["4/measure"], ["stranger"]) == Comparable()
    assert list(Comparable().spans()) == []


def test_requests_that_failed_beside_others_are_told(tmp_path: Path) -> None:
    """Slowdown leaves them out, and with them, it may be, what was slowest."""
    both = {"a": side(10, 20), "b": side(10, 20)}
    observed = Observed(("a", "b"), both, {"a": side(30, math.nan), "b": side(30, 40)}, {}, {}, "all")
    assert list(solo_warnings(run(tmp_path, []), observed, None, 1.0)) == [
        "1 of 2 requests of a had no end-to-end time beside others: they failed, or got no token; its slowdown and "
        "leakage are of the rest, and may be too low"
    ]
