"""The exposition, as Prometheus's own parser reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from fairshare_locust.live.prometheus import exposition
from fairshare_locust.live.tally import LoadGauges
from tests.live.build import BATCH, CHAT, Inputs, record


def _samples(inputs: Inputs, now_s: float = 10.0) -> dict[tuple[str, ...], float]:
    """Value by name and label values."""
    view = inputs.view()
    view.tick(now_s)
    families = text_string_to_metric_families(exposition(inputs.tally, view.snapshot()))
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def _inputs() -> Inputs:
    inputs = Inputs(loads={"chat": LoadGauges(streams=64, in_flight=3, waiting=1, asked=24, sent=20)})
    inputs.tally.add(record(ended_s=1.5), CHAT, True)
    inputs.tally.add(record(ended_s=2.5, outcome="timeout"), CHAT, False)
    inputs.tally.add(record("batch", ended_s=3.5), BATCH, None)
    return inputs


def test_counters_and_gauges_by_hand() -> None:
    found = _samples(_inputs())
    assert found["fairshare_requests_total", "chat", "ok"] == 1
    assert found["fairshare_requests_total", "chat", "timeout"] == 1
    assert found["fairshare_requests_total", "batch", "ok"] == 1
    assert found["fairshare_output_tokens_total", "chat"] == 22
    assert found["fairshare_slo_requests_total", "chat", "true"] == 1
    assert found["fairshare_slo_requests_total", "chat", "false"] == 1
    assert ("fairshare_slo_requests_total", "batch", "true") not in found
    assert found["fairshare_in_flight", "chat"] == 3
    assert found["fairshare_waiting", "chat"] == 1
    assert found["fairshare_streams", "chat"] == 64
    assert 0 < found["fairshare_jain_throughput", "2026-two"] <= 1


def test_histograms_by_hand() -> None:
    """Chat: two TTFT of 200 ms (100 from sending), two of 80 ms per token, one e2e of 1 s, near a bound."""
    found = _samples(_inputs())
    assert found["fairshare_ttft_seconds_bucket", "chat", "0.1"] == 0
    assert found["fairshare_ttft_seconds_bucket", "chat", "0.25"] == 2
    assert found["fairshare_ttft_seconds_bucket", "chat", "+Inf"] == 2
    assert found["fairshare_ttft_seconds_count", "chat"] == 2
    assert round(found["fairshare_ttft_seconds_sum", "chat"], 6) == 0.4
    assert found["fairshare_tpot_seconds_bucket", "chat", "0.075"] == 0
    assert found["fairshare_tpot_seconds_bucket", "chat", "0.1"] == 2
    assert found["fairshare_e2e_seconds_bucket", "chat", "0.75"] == 0
    assert found["fairshare_e2e_seconds_bucket", "chat", "2.5"] == 1


def test_what_is_undefined_has_no_sample() -> None:
    found = _samples(Inputs(), now_s=1.0)
    assert not [name for name, *_ in found if "jain" in name or "lag" in name or "cpu" in name]
    assert found["fairshare_ttft_seconds_count", "chat"] == 0
    assert found["fairshare_requests_total", "chat", "ok"] == 0


def test_every_metric_has_a_type_and_a_help() -> None:
    inputs = _inputs()
    view = inputs.view()
    view.tick(10.0)
    families = list(text_string_to_metric_families(exposition(inputs.tally, view.snapshot())))
    assert all(family.documentation for family in families)
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}
    assert len({family.name for family in families}) == len(families)
