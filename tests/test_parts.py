"""Parts of a measurement, by hand."""

from __future__ import annotations

import dataclasses
import math

from fairshare_locust.parts import Part, measured_parts
from fairshare_locust.profile import Tenant
from tests.profile.profiles import tenant


def active(tenant_id: str, *stretches: tuple[float, float]) -> Tenant:
    made = tenant(tenant_id)
    return dataclasses.replace(made, arrival=dataclasses.replace(made.arrival, active_s=stretches))


def test_one_part_when_nobody_comes_or_goes() -> None:
    assert measured_parts([tenant("a"), tenant("b")], 100, 110, 170) == (Part("measure", 110, 170, ("a", "b")),)


def test_a_part_for_each_change() -> None:
    """The phase begins at 100, is measured from 110 to 170; b is there from 120 to 140, and c from 105 to 115."""
    assert measured_parts([tenant("a"), active("b", (20, 40)), active("c", (5, 15))], 100, 110, 170) == (
        Part("measure-1", 110, 115, ("a", "c")),
        Part("measure-2", 115, 120, ("a",)),
        Part("measure-3", 120, 140, ("a", "b")),
        Part("measure-4", 140, 170, ("a",)),
    )


def test_changes_outside_of_the_measurement_cut_nothing() -> None:
    assert measured_parts([active("a", (0, 80), (90, 95))], 100, 110, 170) == (Part("measure", 110, 170, ("a",)),)


def test_a_stretch_without_anybody() -> None:
    parts = measured_parts([active("a", (0, 20), (30, 70))], 0, 10, 70)
    assert [part.tenants for part in parts] == [("a",), (), ("a",)]


def test_a_measurement_without_a_known_end() -> None:
    assert measured_parts([tenant("a")], 0, 10, math.inf) == (Part("measure", 10, math.inf, ("a",)),)
