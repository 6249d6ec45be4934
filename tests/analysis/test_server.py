"""What the servers counted, beside what the client saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.load import Tenant
from analysis.summary import Summary, summarise
from fairshare_locust.record import RequestRecord
from tests.analysis.build import Sample, histogram, part, record, run, sampled, write_samples

E = "http://127.0.0.1:40001"
F = "http://127.0.0.1:40002"


def summary_of(
    folder: Path, records: Iterable[RequestRecord], samples: Sequence[Sample], *tenants: Tenant, **values: Any
) -> Summary:
    write_samples(folder, server=samples)
    return summarise(run(folder, records, *tenants, **values))


def endpoint(summary: Summary, name: str = E) -> dict[str, Any]:
    found: dict[str, Any] = summary.content["server"]["endpoints"][name]
    return found


def to(tenant: str, index: int, ttft_s: float, *, at_s: float = 1.0, url: str = E, **values: Any) -> RequestRecord:
    """A request sent at `at_s`, with its first token `ttft_s` later and nothing after it."""
    return record(tenant, index, scheduled_s=at_s, first_token_s=at_s + ttft_s, endpoint=url, **values)


def test_gauges_by_hand(tmp_path: Path) -> None:
    samples = [
        *sampled(E, "kv_cache_usage", (1, 0.5), (2, 0.75), (3, 0.25), (11, 1.0)),
        *sampled(E, "requests_running", (1, 4), (2, 6)),
        *sampled(E, "requests_waiting", (1, 0), (2, 3)),
    ]
    found = endpoint(summary_of(tmp_path, [to("a", 0, 0.1), to("b", 0, 0.1)], samples))
    assert found["kv_cache_peak"] == {"value": 0.75, "t_s": 2.0}  # the fullest moment is after the window
    assert found["kv_cache_mean"] == 0.5
    assert found["requests_running"] == {"count": 2, "mean": 5.0, "peak": 6.0, "peak_t_s": 2.0}
    assert found["requests_waiting"] == {"count": 2, "mean": 1.5, "peak": 3.0, "peak_t_s": 2.0}
    assert found["requests_swapped"] is found["preemptions"] is found["prefix_cache"] is found["ttft"] is None
    assert found["tenants"] == ["a", "b"]
    assert (found["samples"], found["interval_s"], found["longest_gap_s"]) == (3, 1.0, 7.0)


def test_without_telemetry_there_is_no_server(tmp_path: Path) -> None:
    assert summary_of(tmp_path, [to("a", 0, 0.1)], []).content["server"] is None


def test_samples_outside_the_window_leave_it_undefined(tmp_path: Path) -> None:
    samples = [
        *sampled(E, "kv_cache_usage", (11, 0.5)),
        *sampled(E, "preemptions_total", (11, 5)),
        *histogram(E, "ttft_seconds", (11, 1.0, (1, 1, 1))),
    ]
    found = endpoint(summary_of(tmp_path, [to("a", 0, 0.1)], samples))
    assert found["kv_cache_peak"] is found["kv_cache_mean"] is found["preemptions"] is found["ttft"] is None
    assert found["samples"] == 0


def test_what_the_server_counted_before_the_samples_end_is_not_the_windows(tmp_path: Path) -> None:
    rising = [(float(t_s), 10.0 * t_s) for t_s in range(5)]
    samples = [
        *sampled(E, "preemptions_total", *rising),
        *histogram(E, "ttft_seconds", *((t_s, t_s, (t_s, t_s, t_s)) for t_s, _ in rising)),
    ]
    found = endpoint(summary_of(tmp_path, [to("a", 0, 0.1)], samples))
    assert found["preemptions"] is found["ttft"] is None
    assert found["counters_note"] == "of 10.0 s measured, up to 6.0 s on end were not sampled"


def test_counters_are_counted_over_the_window(tmp_path: Path) -> None:
    samples = [
        *sampled(E, "preemptions_total", (0, 2), (5, 4), (9, 7), (11, 100)),
        *sampled(E, "generation_tokens_total", (0, 0), (10, 9)),
        *sampled(E, "prompt_tokens_total", (0, 100), (10, 180)),
    ]
    records = [
        to("a", 0, 0.5, gaps_us=[1000] * 7, input_tokens=50),  # 8 tokens
        to("b", 0, 0.5, at_s=9.8, input_tokens=30),  # after the window
    ]
    found = endpoint(summary_of(tmp_path, records, samples))
    assert found["preemptions"] == 5
    assert found["counters_note"] is None
    assert found["tokens"] == {
        "generation_server": 9,
        "generation_client": 8.0,
        "prompt_server": 80,
        "prompt_client": 50,
    }


def test_each_endpoint_has_its_own_tokens(tmp_path: Path) -> None:
    samples = [
        sample
        for url in (E, F)
        for sample in (
            *sampled(url, "generation_tokens_total", (0, 0), (10, 9)),
            *sampled(url, "kv_cache_usage", (1, 0)),
        )
    ]
    records = [
        to("a", 0, 0.5, gaps_us=[1000] * 3),
        to("a", 1, 0.5, gaps_us=[1000] * 4, url=f"{F}/v1/"),
        to("b", 0, 0.5, gaps_us=[1000] * 5, url=f"{F}/v1"),
    ]
    summary = summary_of(tmp_path, records, samples)
    assert [endpoint(summary, url)["tokens"]["generation_client"] for url in (E, F)] == [4.0, 11.0]
    assert [endpoint(summary, url)["tenants"] for url in (E, F)] == [["a"], ["a", "b"]]


def test_an_endpoint_that_no_request_names_has_no_client(tmp_path: Path) -> None:
    found = endpoint(
        summary_of(tmp_path, [to("a", 0, 0.5, url="http://[broken")], sampled(E, "kv_cache_usage", (1, 0)))
    )
    assert found["tokens"]["generation_client"] is found["tokens"]["prompt_client"] is None
    assert found["tenants"] == []


def test_ttft_of_server_and_client_is_of_the_same_requests(tmp_path: Path) -> None:
    # Scraped at 0, 2 and 9.5 s: what came first at 0.95 and at 9.6 s is not in the histogram's window.
    parts = [part("warmup", 0, 2, "ab", measured=False), part("measure", 2, 10, "ab")]
    records = [
        to("a", 0, 0.95, at_s=0.0),
        to("a", 1, 0.2, at_s=1.9),  # sent before the window, first token in it
        to("a", 2, 0.4, at_s=3.0),
        to("b", 0, 0.6, at_s=4.0, outcome="timeout"),
        to("b", 1, 0.1, at_s=9.5),
    ]
    samples = histogram(
        E, "ttft_seconds", (0, 0, (0, 0, 0)), (2, 0.9, (0, 1, 1)), (9.5, 0.9 + 1.14, (0, 4, 4)), (11, 9, (9, 9, 9))
    )
    ttft = endpoint(summary_of(tmp_path, records, samples, info={"phases": parts, "ended_s": 11.0}))["ttft"]
    assert ttft["server"]["count"] == ttft["client"]["count"] == 3
    assert ttft["server"]["mean_ms"] == pytest.approx(380.0)
    assert ttft["client"]["mean_ms"] == pytest.approx(400.0)
    assert ttft["server"]["p95_ms"] == [100.0, 1000.0]
    assert ttft["client"]["p95_ms"] == 600.0
    assert ttft["agrees"] is True


def test_ttft_that_differs_by_more_than_a_bucket_does_not_agree(tmp_path: Path) -> None:
    samples = histogram(E, "ttft_seconds", (0, 0, (0, 0, 0)), (10, 0.5, (10, 10, 10)))
    records = [to("a", index, 0.35, at_s=float(index)) for index in range(9)]
    ttft = endpoint(summary_of(tmp_path, records, samples))["ttft"]
    assert ttft["server"]["p50_ms"] == [0.0, 100.0]
    assert ttft["agrees"] is False
    assert ttft["agrees_by_percentile"] == {"p50": False, "p95": False, "p99": False}


def test_ttft_without_requests_is_not_judged(tmp_path: Path) -> None:
    samples = histogram(E, "ttft_seconds", (0, 0, (0, 0, 0)), (10, 0, (0, 0, 0)))
    ttft = endpoint(summary_of(tmp_path, [], samples))["ttft"]
    assert ttft["agrees"] is None
    assert ttft["server"] == {"count": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None}
    assert ttft["client"]["count"] == 0


def test_the_share_of_the_queue_is_one_of_means(tmp_path: Path) -> None:
    samples = [
        *histogram(E, "ttft_seconds", (0, 0, (0, 0, 0)), (10, 2.0, (0, 4, 4))),
        *histogram(E, "queue_seconds", (0, 0, (0, 0, 0)), (10, 0.5, (4, 4, 4))),
    ]
    found = endpoint(summary_of(tmp_path, [to("a", 0, 0.5)], samples))
    assert found["latency"]["queue"]["mean_ms"] == 125.0
    assert found["queue_share_of_ttft"] == 0.25
    assert set(found["latency"]) == {"queue"}


def cache(*points: tuple[float, float, float]) -> list[Sample]:
    """Tokens looked up and found, both counted from the start, at each time."""
    return [
        *sampled(E, "prefix_cache_queries_tokens_total", *((t_s, queries) for t_s, queries, _ in points)),
        *sampled(E, "prefix_cache_hits_tokens_total", *((t_s, hits) for t_s, _, hits in points)),
    ]


def drift_check(summary: Summary) -> list[dict[str, Any]]:
    return [check for check in summary.content["verdict"]["checks"] if "drift" in check["name"]]


def test_the_hit_rate_and_its_drift(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, [to("a", 0, 0.5), to("b", 0, 0.5)], cache((0, 0, 0), (5, 100, 20), (10, 300, 80)))
    assert endpoint(summary)["prefix_cache"] == {
        "queries_tokens": 300,
        "hits_tokens": 80,
        "hit_rate": pytest.approx(80 / 300),
        "hit_rate_by_half": [[0.2, 0.3]],
        "hit_rate_drift": pytest.approx(0.1),
    }
    (check,) = drift_check(summary)
    assert check["ok"] is False
    assert check["subject"] == E
    (reason,) = (reason for reason in summary.content["verdict"]["reasons"] if "hit rate" in reason)
    assert reason == (
        f"{E}: prefix-cache hit rate 20.0% in the first half of the window, 30.0% in the second "
        "(limit 5 points apart); "
        "the cache was still warming up, or filled up: lengthen warmup_s, or run longer."
    )


def test_a_steady_hit_rate_is_fine(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, [to("a", 0, 0.5), to("b", 0, 0.5)], cache((0, 0, 0), (5, 100, 20), (10, 200, 45)))
    (check,) = drift_check(summary)
    assert (check["value"], check["ok"]) == (pytest.approx(0.05), True)


def test_a_cache_that_nobody_asked_is_not_checked(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, [to("a", 0, 0.5)], cache((0, 0, 0), (5, 0, 0), (10, 0, 0)))
    assert endpoint(summary)["prefix_cache"]["hit_rate"] is None
    assert drift_check(summary) == []


def test_parts_with_other_tenants_may_hit_at_another_rate(tmp_path: Path) -> None:
    parts = [part("solo-a/measure", 0, 10, "a"), part("solo-b/measure", 10, 20, "b")]
    samples = cache((0, 0, 0), (5, 100, 0), (10, 200, 0), (15, 300, 90), (20, 400, 180))
    records = [to("a", 0, 0.5), to("b", 0, 0.5, at_s=12.0)]
    summary = summary_of(tmp_path, records, samples, info={"phases": parts, "ended_s": 20.0})
    assert endpoint(summary)["prefix_cache"]["hit_rate_by_half"] == [[0.0, 0.0], [0.9, 0.9]]
    (check,) = drift_check(summary)
    assert check["ok"] is True


def test_what_the_engine_tells_of_a_request_is_its_tenants(tmp_path: Path) -> None:
    records = [
        to("a", 0, 0.5, engine={"queued_s": 0.01, "prefill_s": 0.2, "decode_s": 0.1}),
        to("a", 1, 0.5, engine={"queued_s": 0.03, "prefill_s": 0.2}),
        to("a", 2, 0.5),
        to("a", 3, 0.5, at_s=10.5, engine={"queued_s": 9.0}),  # after the window
        to("b", 0, 0.5),
    ]
    tenants = summary_of(tmp_path, records, []).content["server"]["tenants"]
    queue, compute = tenants["a"]["queue_ms"], tenants["a"]["compute_ms"]
    assert (queue["count"], queue["mean"], queue["p50"], queue["p95"]) == (2, pytest.approx(20), 10.0, 30.0)
    assert (compute["count"], compute["p50"]) == (1, pytest.approx(300))
    assert tenants["b"]["queue_ms"]["count"] == 0
    assert tenants["b"]["queue_ms"]["p50"] is None
