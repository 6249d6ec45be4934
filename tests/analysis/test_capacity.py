"""The load to look at."""

from __future__ import annotations

import pytest

from analysis.capacity import Trial, best_trial, trial, why_best
from analysis.latency import per_request_ms
from analysis.load import Slo, Tenant
from analysis.rates import met_slos
from analysis.window import Window, Windows
from tests.analysis.build import columns, profile, record

NOWHERE = Windows((), Window(), Window())


def tried(load: float, *attainment: float | None, wanted: float = 0.95) -> Trial:
    tenants = tuple("ab"[: len(attainment)])
    return Trial(load, NOWHERE, tenants, attainment, (wanted,) * len(attainment))


@pytest.mark.parametrize(
    ("trials", "load", "why"),
    [
        (
            [tried(1, 1.0, 0.99), tried(2, 0.95, None), tried(3, 0.61, 0.96)],
            2,
            "highest load at which every SLO held: 2 (3 broke a's: attainment 61% < 95%)",
        ),
        (
            [tried(1, 1.0), tried(2, 0.97)],
            2,
            "highest load at which every SLO held: 2 (the highest that was tried)",
        ),
        (
            [tried(1, 0.5, 0.6), tried(2, 0.9499, 1.0)],
            1,
            "the lowest load, 1, as no load kept every SLO (1 broke a's: attainment 50% < 95%, b's: attainment "
            "60% < 95%; 2 broke a's: attainment 94.99% < 95.00%)",
        ),
        ([tried(1, None), tried(1.5, None)], 1.5, "the highest load, 1.5: there is no SLO to judge the loads by"),
        (
            [tried(1, 1.0), tried(2, 0.9), tried(3, 1.0)],
            3,
            "highest load at which every SLO held: 3 (2 broke a's: attainment 90% < 95%)",
        ),
        (
            [tried(1, 0.5), tried(2, None)],
            1,
            "the lowest load, 1, as no load kept every SLO (1 broke a's: attainment 50% < 95%)",
        ),
    ],
)
def test_the_load_to_look_at(trials: list[Trial], load: float, why: str) -> None:
    assert best_trial(trials).load == load
    assert why_best(trials) == why


def test_a_trial_counts_the_requests_of_its_windows() -> None:
    requests = columns(
        [
            record("a", 0, scheduled_s=1.0, first_token_s=1.1),
            record("a", 1, scheduled_s=2.0, first_token_s=2.4),
            record("a", 2, scheduled_s=3.0, outcome="shed"),
            record("a", 3, scheduled_s=9.0, first_token_s=9.1),  # after the window
            record("b", 0, scheduled_s=1.0),  # without SLO
        ]
    )
    who = profile(
        Tenant(id="a", slo=Slo(ttft_ms=300, attainment=0.3)), Tenant(id="b"), Tenant(id="c", slo=Slo(ttft_ms=1))
    )
    met = met_slos(requests, who.tenants, per_request_ms(requests))
    window = Window.of_seconds((0, 5))
    found = trial(requests, who, met, 2.0, Windows((window,) * 3, window, window))
    assert found.attainment == (1 / 3, None, None)
    assert found.broken == (False, None, None)
    assert found.held is True
