"""Entries over a window."""

from __future__ import annotations

import pytest

from analysis.entry import Basis, entry, slo_broken
from analysis.latency import per_request_ms
from analysis.load import Slo, Tenant
from analysis.rates import met_slos
from analysis.tokens import tabulate
from analysis.window import Window
from tests.analysis.build import columns, profile, record


@pytest.mark.parametrize(
    ("attainment", "wanted", "expected"),
    [(19 / 20, 0.95, False), (57 / 60, 0.95, False), (56 / 60, 0.95, True), (1.0, 1.0, False), (None, 0.95, None)],
)
def test_an_slo_is_broken_below_its_share_only(attainment: float | None, wanted: float, expected: bool | None) -> None:
    assert slo_broken(attainment, wanted) is expected


def test_an_entry_worked_by_hand() -> None:
    requests = columns(
        [
            record("a", 0, scheduled_s=1.0, sent_s=1.1, first_token_s=1.5, gaps_us=[250_000]),
            record("a", 1, scheduled_s=3.0, first_token_s=3.25, gaps_us=[1_000_000], ended_s=4.25),
            record("a", 2, scheduled_s=2.0, outcome="timeout", ended_s=3.5),
            record("b", 0, scheduled_s=1.0),
        ]
    )
    who = profile(Tenant(id="a", slo=Slo(ttft_ms=300)), Tenant(id="b"))
    window = Window.of_seconds((0, 4))
    latencies = per_request_ms(requests)
    met = met_slos(requests, who.tenants, latencies)
    basis = Basis(requests, who, latencies, met, tabulate(requests, 2, met, [window]))
    scheduled = basis.scheduled([(0, window)])
    assert scheduled.tolist() == [True, True, True, False]
    found = entry(basis.tally(0, window), 4.0, basis.described(scheduled))
    assert (found["scheduled"], found["completed"], found["failed"]["timeout"]) == (3, 2, 1)
    assert found["output_tokens_per_s"] == 3 / 4  # the last token of the second came at 4.25 s
    assert found["requests_per_s"] == 1 / 4
    assert found["slo_attainment"] == pytest.approx(1 / 3)
    assert (found["ttft_ms"]["p50"], found["ttft_scheduled_ms"]["p99"]) == (250.0, 500.0)
    assert found["tpot_ms"]["count"] == 2
    assert found["e2e_ms"]["p99"] == 1250.0
