"""Counts and rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.latency import per_request_ms
from analysis.load import Slo, Tenant
from analysis.rates import Rates, Tally, makespan_tokens_per_s, met_slos, rates, tally
from analysis.window import Window
from fairshare_locust.record import RequestRecord
from tests.analysis.build import columns, record


def met(one: RequestRecord, slo: Slo | None) -> bool:
    requests = columns([one])
    return bool(met_slos(requests, [Tenant(id="a", slo=slo), Tenant(id="b")], per_request_ms(requests))[0])


@pytest.mark.parametrize(
    ("values", "slo", "expected"),
    [
        ({}, Slo(ttft_ms=500), True),  # a value on the limit meets it
        ({}, Slo(ttft_ms=499.999), False),
        ({"scheduled_s": 3.201, "first_token_s": 4.201}, Slo(ttft_ms=1000), True),  # 1000.0000000000005 in floats
        ({"sent_s": 1.4}, Slo(ttft_ms=200), False),  # counted from schedule
        ({"gaps_us": [60_000, 60_000]}, Slo(tpot_ms=60), True),
        ({"gaps_us": [60_000, 60_001]}, Slo(tpot_ms=60), False),
        ({}, Slo(tpot_ms=1), True),  # one token: TPOT does not apply
        ({"gaps_us": [500_000]}, Slo(e2e_ms=1000), True),
        ({"gaps_us": [500_001]}, Slo(e2e_ms=1000), False),
        ({"gaps_us": [500_000]}, Slo(ttft_ms=600, tpot_ms=100), False),  # all limits count
        ({"first_token_s": None}, Slo(ttft_ms=9999), False),  # ok without a token
        ({"first_token_s": None}, Slo(e2e_ms=9999), False),
        ({"outcome": "timeout", "gaps_us": []}, Slo(ttft_ms=9999), False),
        ({"outcome": "shed"}, Slo(tpot_ms=9999), False),
        ({}, None, True),
        ({"outcome": "timeout", "gaps_us": []}, None, False),
    ],
)
def test_slos(values: dict[str, Any], slo: Slo | None, expected: bool) -> None:
    assert met(record(**values), slo) is expected


def test_a_tally_worked_by_hand() -> None:
    some = [
        record(index=0, scheduled_s=0.5, ended_s=2.0),  # due before the window, ended in it
        record(index=1, scheduled_s=1.0, ended_s=2.5),
        record(index=2, scheduled_s=2.0, sent_s=3.5, first_token_s=3.6, ended_s=4.0),  # sent after the window
        record(index=3, scheduled_s=2.5, outcome="timeout", ended_s=2.9),
        record(index=4, scheduled_s=2.9, ended_s=3.0),  # ended on the edge: outside
        record("b", index=5, scheduled_s=2.0),
        record(index=6, scheduled_s=2.0, outcome="shed"),
    ]
    requests = columns(some)
    good = np.array([True, False, True, False, True, True, False])
    found = tally(requests, requests.tenant == 0, Window.of_seconds((1, 3)), good, has_slo=True, tokens=(3.0, 4.0))
    assert (found.scheduled, found.completed) == (5, 3)
    assert {outcome: count for outcome, count in found.failed.items() if count} == {"timeout": 1, "shed": 1}
    assert (found.offered, found.finished, found.finished_good) == (3, 2, 1)
    assert found.slo_attainment == 2 / 5
    assert rates(found, 2.0) == Rates(
        asked_requests_per_s=2.5,
        offered_requests_per_s=1.5,
        requests_per_s=1.0,
        output_tokens_per_s=3.5,
        goodput_requests_per_s=0.5,
        goodput_tokens_per_s=2.0,
    )
    double = Tally.total([found, found])
    assert (double.scheduled, double.offered, double.tokens, double.slo_attainment) == (10, 6, 14.0, 2 / 5)


def test_an_empty_window_has_no_rates() -> None:
    assert rates(Tally(), 0.0).output_tokens_per_s is None
    assert Tally().slo_attainment is None


def test_makespan() -> None:
    requests = columns(
        [
            record(index=0, scheduled_s=1.0, gaps_us=[500_000]),  # tokens at 1.5 and 2.0 s
            record(index=1, scheduled_s=2.0, gaps_us=[500_000] * 3),  # 2.5 to 4.0 s
            record(index=2, scheduled_s=9.0, outcome="connection_error"),
        ]
    )
    assert makespan_tokens_per_s(requests, np.array([True, True, True])) == 6 / 3.0
    assert makespan_tokens_per_s(requests, np.array([False, True, False])) == 4 / 2.0
    assert makespan_tokens_per_s(requests, np.array([False, False, True])) is None
