"""Parts of a measurement, by hand."""

from __future__ import annotations

import dataclasses
import math

from fairshare_locust.parts import Part, absences, measured_parts
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Tenant
from fairshare_locust.profile.model import Run
from tests.profile.profiles import MINIMAL, parse, tenant


def active(tenant_id: str, *stretches: tuple[float, float]) -> Tenant:
    made = tenant(tenant_id)
    return dataclasses.replace(made, arrival=dataclasses.replace(made.arrival, active_s=stretches))


def test_one_part_when_nobody_comes_or_goes() -> None:
    assert measured_parts([tenant("a"), tenant("b")], 100, 10, 60) == (Part("measure", 110, 170, ("a", "b")),)


def test_a_part_for_each_change() -> None:
    """The phase begins at 100, is measured from 110 to 170; b is there from 120 to 140, and c from 105 to 115."""
    assert measured_parts([tenant("a"), active("b", (20, 40)), active("c", (5, 15))], 100, 10, 60) == (
        Part("measure-1", 110, 115, ("a", "c")),
        Part("measure-2", 115, 120, ("a",)),
        Part("measure-3", 120, 140, ("a", "b")),
        Part("measure-4", 140, 170, ("a",)),
    )


def test_changes_outside_of_the_measurement_cut_nothing() -> None:
    assert measured_parts([active("a", (0, 80), (90, 95))], 100, 10, 60) == (Part("measure", 110, 170, ("a",)),)


def test_a_stretch_without_anybody() -> None:
    parts = measured_parts([active("a", (0, 20), (30, 70))], 0, 10, 60)
    assert [part.tenants for part in parts] == [("a",), (), ("a",)]


def test_a_measurement_without_a_known_end() -> None:
    assert measured_parts([tenant("a")], 0, 10, None) == (Part("measure", 10, math.inf, ("a",)),)


def test_a_phase_that_begins_anywhere_has_no_sliver() -> None:
    for start_s in (0.1, 15.2189, 1 / 3, 1e5 / 7):
        parts = measured_parts([active("a", (1.1, 3.3)), active("b", (3.3, 7.7))], start_s, 1.1, 6.6)
        assert [part.tenants for part in parts] == [("a",), ("b",)]


def test_who_is_never_there_is_told() -> None:
    profile = dataclasses.replace(parse(MINIMAL), tenants=(active("a", (100, 200)), tenant("b")))
    [phase] = phases_of(dataclasses.replace(profile, run=Run(warmup_s=2, duration_s=5)))
    assert absences(profile, [phase]) == [
        "tenant 'a' is never active while the run is measured, 2 to 7 s: its active_s are [100, 200]"
    ]
    assert absences(profile, [dataclasses.replace(phase, duration_s=100)]) == []
