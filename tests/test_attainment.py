"""SLO attainment while the run goes on: the same rules as the analysis has."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fairshare_locust.attainment import Attainment, meets
from fairshare_locust.profile.model import Slo
from fairshare_locust.record import RequestRecord
from tests.profile.profiles import tenant

_OK: dict[str, Any] = {
    "request_id": "a-0",
    "tenant": "a",
    "phase": "load-1/measure",
    "worker": 0,
    "index": 0,
    "scheduled_s": 10.0,
    "sent_s": 10.1,
    "first_token_s": 10.5,
    "last_token_s": 11.5,
    "ended_s": 11.5,
    "outcome": "ok",
    "output_tokens": 11,
    "chunk_gap_us": [100_000] * 10,
}


def record(**changes: Any) -> RequestRecord:
    return RequestRecord(**{**_OK, **changes})


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        (Slo(ttft_ms=500), True),  # 10.5 - 10.0, from when it was due, not from when it was sent
        (Slo(ttft_ms=499), False),
        (Slo(e2e_ms=1500), True),
        (Slo(e2e_ms=1499), False),
        (Slo(tpot_ms=100.001), True),  # 1 s for the ten tokens after the first
        (Slo(tpot_ms=99), False),
        (Slo(ttft_ms=500, tpot_ms=99), False),  # all of them
    ],
)
def test_by_hand(slo: Slo, met: bool) -> None:
    assert meets(record(), slo) is met


def test_a_failure_misses_and_an_answer_without_a_token_too() -> None:
    assert not meets(record(outcome="timeout"), Slo(ttft_ms=9999))
    empty = record(first_token_s=None, last_token_s=None, output_tokens=None, chunk_gap_us=None)
    assert not meets(empty, Slo(ttft_ms=9999))
    assert not meets(empty, Slo(e2e_ms=9999))


def test_tpot_of_one_token_is_left_out() -> None:
    assert meets(record(output_tokens=1, chunk_gap_us=[]), Slo(tpot_ms=1))


def test_shares_by_phase() -> None:
    """3 of 4 met it in load-1; the warm-up, another phase and a tenant without SLO do not count."""
    chat = dataclasses.replace(tenant("a"), slo=Slo(ttft_ms=500, attainment=0.8))
    attainment = Attainment()
    for first_token_s in (10.1, 10.2, 10.3, 10.9):
        attainment.add(record(first_token_s=first_token_s), chat)
    attainment.add(record(phase="load-1/warmup", first_token_s=10.9), chat)
    attainment.add(record(phase="load-2/measure-2", first_token_s=10.1), chat)
    attainment.add(record(tenant="b"), tenant("b"))
    [broken] = attainment.broken("load-1/", (chat, tenant("b")))
    assert (broken.met, broken.scheduled) == (3, 4)
    assert str(broken) == "tenant 'a': 3 of 4 requests met its SLO (75.0%, wanted 80.0%)"
    assert attainment.broken("load-2/", (chat,)) == []
    assert attainment.broken("load-3/", (chat,)) == []


def test_a_run_without_named_phases() -> None:
    chat = dataclasses.replace(tenant("a"), slo=Slo(ttft_ms=1))
    attainment = Attainment()
    attainment.add(record(phase="measure"), chat)
    assert [each.met for each in attainment.broken("", (chat,))] == [0]
