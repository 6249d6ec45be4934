"""The edges of every metric: no request, one tenant, all failed, one token, a window without length.

A number that can't be said is None there, never 0; a 0 that stands there is one that was counted.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analysis.intervals import PERCENTILES
from analysis.latency import ADJUSTED
from analysis.load import Slo, Tenant
from analysis.summary import summarise
from fairshare_locust.record import RequestRecord
from tests.analysis.build import part, record, run
from tests.analysis.reference import LATENCIES

A, B = Tenant(id="a", slo=Slo(ttft_ms=600)), Tenant(id="b")
RATES = (
    "asked_requests_per_s",
    "offered_requests_per_s",
    "requests_per_s",
    "output_tokens_per_s",
    "goodput_requests_per_s",
    "goodput_tokens_per_s",
)
FAIRNESS = (
    "jain_throughput",
    "jain_service",
    "jain_demand",
    "max_min_ratio",
    "attainment_gap",
    "service_gap_max_tokens",
    "service_gap_window_max_tokens",
    "starvation_s_max",
    "jain_progress",
)


def content_of(folder: Path, records: list[RequestRecord], *tenants: Tenant, **info: Any) -> dict[str, Any]:
    cost = {"gpu_hour_usd": 3.6, "gpus": 1}  # 0.01 dollars in 10 s
    return summarise(run(folder, records, *tenants, info=info, cost=cost)).content


def undefined(latency: dict[str, Any]) -> bool:
    """Whether nothing is said of a latency but that there is no sample."""
    return latency["count"] == 0 and all(latency[name] is None for name in ("mean", *PERCENTILES))


def infinite(latency: dict[str, Any]) -> bool:
    return bool(latency["count"]) and all(latency[name] == math.inf for name in ("mean", *PERCENTILES))


def without_value(values: dict[str, Any]) -> set[str]:
    """Which fairness figures, or which latencies, are undefined."""
    return {
        name
        for name, value in values.items()
        if value is None or (isinstance(value, dict) and "count" in value and undefined(value))
    }


def test_no_requests(tmp_path: Path) -> None:
    content = content_of(tmp_path, [], A, B)
    for entry in (content["tenants"]["a"], content["totals"]):
        assert [entry[name] for name in RATES] == [0.0] * 6  # ten seconds in which nothing was asked for
        assert {*LATENCIES, "icl_ms", "itl_ms", *(f"{name}_adjusted" for name in ADJUSTED)} <= without_value(entry)
        assert entry["slo_attainment"] is entry["makespan_tokens_per_s"] is entry["starvation_s_max"] is None
        assert entry["itl_ms"]["share_of_requests"] is None
    assert without_value({name: content["fairness"][name] for name in FAIRNESS}) == set(FAIRNESS)
    cost = content["cost"]
    assert cost["cost_per_million_output_tokens"] is cost["tenants"]["a"] is cost["tenants_usd"]["a"] is None
    assert content["interference"] is None
    assert set(content["timeline"]["tenants"]["a"]["ttft_scheduled_ms"]["p50"]) == {None}
    assert set(content["timeline"]["tenants"]["a"]["in_flight"]) == {0.0}


def test_one_tenant(tmp_path: Path) -> None:
    content = content_of(tmp_path, [record(gaps_us=[10_000] * 4, input_tokens=3)], A)
    entry, fairness = content["tenants"]["a"], content["fairness"]
    assert {name: entry[name] for name in RATES} == {
        name: 0.5 if "tokens" in name else 0.1 for name in RATES
    }  # 1 request of 5 tokens in 10 s
    assert [fairness[name] for name in ("jain_throughput", "jain_service", "jain_demand", "max_min_ratio")] == [1.0] * 4
    assert fairness["attainment_gap"] == 0.0
    assert fairness["service_gap_max_tokens"] is fairness["service_gap_window_max_tokens"] is None  # of whom to whom?
    assert fairness["jain_progress"] is None
    assert fairness["starvation_s_max"] == 0.5  # 1.0 to 1.5 s
    assert content["cost"]["tenants"]["a"] == content["cost"]["cost_per_million_output_tokens"] == pytest.approx(2000)
    assert content["totals"]["ttft_ms"]["p50"] == entry["ttft_ms"]["p50"] == 500.0


def test_all_failed(tmp_path: Path) -> None:
    some = [record(outcome="timeout", ended_s=2.0), record("b", outcome="http_error", ended_s=1.5)]
    content = content_of(tmp_path, some, A, B)
    for entry in (content["tenants"]["a"], content["totals"]):
        assert without_value(entry) >= {"ttft_ms", "ttft_scheduled_ms", "tpot_ms", "e2e_ms", "e2e_scheduled_ms"}
        assert all(infinite(entry[f"{name}_adjusted"]) for name in ADJUSTED)
        assert entry["send_lag_ms"]["p50"] == 0.0  # both were sent when they were due
        assert entry["slo_attainment"] == entry["requests_per_s"] == entry["output_tokens_per_s"] == 0.0
        assert entry["makespan_tokens_per_s"] is None
        assert entry["starvation_s_max"] == 1.0
    fairness = content["fairness"]
    assert {"jain_throughput", "jain_service", "jain_demand", "max_min_ratio"} <= without_value(fairness)
    assert fairness["service_gap_max_tokens"] == 0.0  # both waited from 1.0 to 1.5 s, and neither got anything
    assert content["cost"]["cost_per_million_output_tokens"] is None
    assert content["cost"]["tenants"] == {"a": None, "b": None}


def test_one_token(tmp_path: Path) -> None:
    content = content_of(tmp_path, [record(), record("b")], A, B)
    entry = content["tenants"]["a"]
    assert without_value(entry) >= {"tpot_ms", "icl_ms", "itl_ms", "tpot_ms_adjusted"}
    assert [entry[name]["p99"] for name in ("ttft_ms", "ttft_scheduled_ms", "e2e_ms", "e2e_scheduled_ms")] == [500] * 4
    assert entry["output_tokens_per_s"] == 0.1
    assert entry["makespan_tokens_per_s"] == 2.0  # one token in the half second from 1.0 to 1.5
    assert entry["slo_attainment"] == 1.0
    assert content["fairness"]["jain_throughput"] == 1.0


def test_a_token_at_once_has_no_whole_run_rate(tmp_path: Path) -> None:
    content = content_of(tmp_path, [record(first_token_s=1.0)], A, B)
    assert content["tenants"]["a"]["makespan_tokens_per_s"] is None
    assert content["tenants"]["a"]["ttft_ms"]["p50"] == 0.0  # measured


def test_a_window_without_length(tmp_path: Path) -> None:
    phases = [part("measure", 1, 1, ["a", "b"])]
    content = content_of(tmp_path, [record(gaps_us=[10_000] * 4), record("b")], A, B, phases=phases, ended_s=5.0)
    for entry in (content["tenants"]["a"], content["totals"]):
        assert [entry[name] for name in RATES] == [None] * 6
        assert {*LATENCIES, "icl_ms", "itl_ms"} <= without_value(entry)
        assert entry["slo_attainment"] is entry["starvation_s_max"] is None
    assert content["tenants"]["a"]["makespan_tokens_per_s"] == pytest.approx(5 / 0.54)  # of the whole run
    assert content["fairness"] is content["interference"] is content["window"]["length_s"] is None
    cost = content["cost"]
    assert [cost[name] for name in ("cost_per_million_output_tokens", "window_usd", "idle_usd", "idle_share")] == [
        None
    ] * 4


def test_nothing_that_was_not_sampled_is_told(tmp_path: Path) -> None:
    content = content_of(tmp_path, [record()], A, B)
    assert content["gpu"] is content["server"] is None
