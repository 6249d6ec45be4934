"""The tally: what counts where, and that parts of several processes make up the whole."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.live.tally import Cell, LiveTally, LoadGauges, TallyDelta
from fairshare_locust.record import RequestRecord
from tests.live.build import BATCH, CHAT, record


def test_a_request_by_hand() -> None:
    """Due at 9.0, sent at 9.1, first token at 9.2, last at 10.0: ten tokens after the first in 800 ms."""
    cell = Cell()
    cell.add(record(ended_s=10.0), True)
    assert (cell.completed, cell.failed, cell.output_tokens) == (1, {}, 11)
    assert (cell.slo_met, cell.slo_judged) == (1, 1)
    assert cell.ttft_ms.sum_ms == pytest.approx(200)
    assert cell.ttft_sent_ms.sum_ms == pytest.approx(100)
    assert cell.tpot_ms.sum_ms == pytest.approx(80)
    assert cell.e2e_ms.sum_ms == pytest.approx(1000)


def test_a_failed_request_counts_its_tokens_and_its_first_one_but_has_no_end_to_end() -> None:
    cell = Cell()
    cell.add(record(outcome="timeout"), False)
    assert (cell.completed, cell.failed, cell.output_tokens, cell.ended) == (0, {"timeout": 1}, 11, 1)
    assert (cell.ttft_ms.count, cell.tpot_ms.count, cell.e2e_ms.count) == (1, 1, 0)
    assert (cell.slo_met, cell.slo_judged) == (0, 1)


def test_a_request_that_was_shed_has_no_latency() -> None:
    cell = Cell()
    nothing: dict[str, Any] = {
        "sent_s": None,
        "first_token_s": None,
        "last_token_s": None,
        "output_tokens": None,
        "chunk_gap_us": None,
    }
    cell.add(record(outcome="shed", **nothing), None)
    assert (cell.failed, cell.output_tokens, cell.slo_judged) == ({"shed": 1}, 0, 0)
    assert cell.ttft_ms.count == cell.ttft_sent_ms.count == cell.tpot_ms.count == cell.e2e_ms.count == 0


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    cell = Cell()
    cell.add(record(output_tokens=1, chunk_gap_us=[]), None)
    assert (cell.ttft_ms.count, cell.tpot_ms.count, cell.e2e_ms.count) == (1, 0, 1)


def test_the_window_holds_ten_seconds_by_when_requests_ended() -> None:
    tally = LiveTally()
    for ended_s in (1.999, 2.0, 5.5, 11.999, 12.0):
        tally.add(record(ended_s=ended_s), CHAT, None)
    assert tally.window("chat", 12).completed == 3  # 2.0, 5.5 and 11.999
    assert tally.window("chat", 13).completed == 3  # 5.5, 11.999 and 12.0
    assert tally.window("chat", 22).completed == 1
    assert tally.window("chat", 23).completed == 0
    assert tally.window("batch", 12).completed == 0
    assert tally.whole("chat").completed == 5


def test_a_phase_holds_what_was_scheduled_in_it() -> None:
    tally = LiveTally()
    tally.add(record(phase="warmup", ended_s=12.0), CHAT, None)
    tally.add(record(phase="measure", ended_s=12.0), CHAT, None)
    tally.add(record(phase="measure", ended_s=12.5), CHAT, None)
    assert tally.phase("chat", "warmup").completed == 1
    assert tally.phase("chat", "measure").completed == 2
    assert tally.phase("chat", "drain").completed == 0
    assert tally.whole("chat").completed == 3


def test_a_late_report_still_counts_in_the_window_and_always_in_the_whole() -> None:
    tally = LiveTally()
    tally.add(record(ended_s=100.5), CHAT, None)
    late = TallyDelta()
    late.add(record(ended_s=96.5), CHAT, None)
    late.add(record(ended_s=3.5), CHAT, None)
    tally.merge(late.take())
    assert tally.window("chat", 101).completed == 2
    assert tally.whole("chat").completed == 3


_RECORDS = st.lists(
    st.builds(
        record,
        tenant=st.sampled_from(["chat", "batch"]),
        ended_s=st.floats(1, 25),
        outcome=st.sampled_from(["ok", "timeout", "shed"]),
        phase=st.sampled_from(["warmup", "measure"]),
    ),
    max_size=40,
)


@given(_RECORDS, st.integers(1, 4), st.integers(0, 30))
def test_processes_add_up_to_the_whole(records: list[RequestRecord], processes: int, end_s: int) -> None:
    """Each process reports after every third request; what is sent goes through msgpack as Locust's reports do."""
    whole, merged = LiveTally(), LiveTally()
    deltas = [TallyDelta() for _ in range(processes)]
    for number, one in enumerate(records):
        tenant = CHAT if one.tenant == "chat" else BATCH
        met = one.outcome == "ok" if tenant is CHAT else None
        whole.add(one, tenant, met)
        delta = deltas[number % processes]
        delta.add(one, tenant, met)
        if number % 3 == 0:
            merged.merge(msgpack.unpackb(msgpack.packb(delta.take())))
    for delta in deltas:
        merged.merge(msgpack.unpackb(msgpack.packb(delta.take())))
        assert delta.take() == []
    for tenant_id in ("chat", "batch"):
        assert _plain(merged.whole(tenant_id)) == _plain(whole.whole(tenant_id))
        assert _plain(merged.window(tenant_id, end_s)) == _plain(whole.window(tenant_id, end_s))
        for phase in ("warmup", "measure"):
            assert _plain(merged.phase(tenant_id, phase)) == _plain(whole.phase(tenant_id, phase))


def _plain(cell: Cell) -> list[object]:
    """Counts and percentiles, which do not depend on the order of additions."""
    histograms = (cell.ttft_ms, cell.ttft_sent_ms, cell.tpot_ms, cell.e2e_ms)
    return [
        cell.completed,
        cell.failed,
        cell.output_tokens,
        cell.slo_met,
        cell.slo_judged,
        *((h.count, round(h.sum_ms, 3), h.percentile(50), h.percentile(99)) for h in histograms),
    ]


def test_gauges_of_processes_add_up() -> None:
    assert LoadGauges(4, 3, 2, 20, 10) + LoadGauges(1, 1, 0, 5, 5) == LoadGauges(5, 4, 2, 25, 15)
