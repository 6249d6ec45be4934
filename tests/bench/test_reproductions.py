"""What the modelled GPU gives of two published experiments, in virtual time."""

from __future__ import annotations

from functools import cache

import pytest

from bench.reproductions import CASES, Case, Figure, simulate


@cache
def figures(name: str) -> dict[str, Figure]:
    [case] = [case for case in CASES if case.name == name]
    return {figure.name: figure for figure in simulate(case)}


@pytest.mark.parametrize("case", [case for case in CASES if case.expected], ids=lambda case: case.name)
def test_what_the_mechanism_gives_is_near(case: Case) -> None:
    far = {name: f"{figure.deviation:+.1%}" for name, figure in figures(case.name).items() if not figure.within}
    assert far == {}


@pytest.mark.parametrize("case", [case for case in CASES if not case.expected], ids=lambda case: case.name)
def test_what_it_does_not_give_is_far(case: Case) -> None:
    """Else the page says something wrong."""
    assert not all(figure.within for figure in figures(case.name).values())


def test_orders_on_the_l4() -> None:
    logical, quotas = figures("logical"), figures("simulated MIG, as quotas on one engine")
    assert logical["throughput"].simulated > 1.3 * quotas["throughput"].simulated
    assert quotas["P95"].simulated < logical["P95"].simulated
    assert quotas["P99"].simulated < logical["P99"].simulated
    assert quotas["Jain"].simulated > logical["Jain"].simulated


def test_orders_of_the_matrix() -> None:
    baseline, warm = figures("baseline"), figures("MPS around one server: a prefix that is warm")
    two = figures("MIG emulation, shorter requests, half of the batch")
    for streams in (8, 16, 24):
        name = f"throughput at {streams}"
        assert two[name].simulated < baseline[name].simulated < warm[name].simulated
        tail = f"P99 at {streams}"
        assert two[tail].simulated < baseline[tail].simulated
        assert warm[tail].simulated < baseline[tail].simulated
    for mode in (baseline, warm, two):
        for kind in ("throughput", "P99"):
            few, more, most = (mode[f"{kind} at {streams}"].simulated for streams in (8, 16, 24))
            assert few < more < most
