"""The snapshot: windows, rates and fairness worked out by hand, and what is undefined."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fairness import jain
from fairshare_locust.live.tally import LoadGauges
from fairshare_locust.live.view import RunStatus
from tests.live.build import BATCH, CHAT, Inputs, record


def test_rates_of_the_window_and_of_the_run_by_hand() -> None:
    """At t = 12.5 the window is [2, 12): of chat's four requests two, of 11 tokens each."""
    inputs = Inputs()
    for ended_s in (1.5, 3.0, 11.5, 12.2):
        inputs.tally.add(record(ended_s=ended_s), CHAT, True)
    inputs.tally.add(record("batch", ended_s=4.0), BATCH, None)
    view = inputs.view()
    view.tick(12.5)
    chat, batch = view.snapshot()["tenants"]
    assert chat["window"]["requests_per_s"] == pytest.approx(0.2)
    assert chat["window"]["output_tokens_per_s"] == pytest.approx(2.2)
    assert chat["window"]["completed"] == 2
    assert chat["whole"]["completed"] == 4
    assert chat["whole"]["requests_per_s"] == pytest.approx(4 / 12.5)
    assert chat["window"]["ttft_ms"]["count"] == 2
    assert chat["window"]["ttft_ms"]["p99"] == pytest.approx(200, rel=0.01)
    assert chat["window"]["ttft_sent_ms"]["p99"] == pytest.approx(100, rel=0.01)
    assert chat["window"]["tpot_ms"]["p50"] == pytest.approx(80, rel=0.01)
    assert chat["window"]["e2e_ms"]["p50"] == pytest.approx(1000, rel=0.01)
    assert chat["window"]["slo_attainment"] == 1.0
    assert batch["window"]["slo_attainment"] is None
    total = view.snapshot()["total"]
    assert total["window"]["completed"] == 3
    assert total["window"]["output_tokens_per_s"] == pytest.approx(3.3)


def test_fairness_by_hand() -> None:
    """Tokens/s over weight: chat 2.2, batch 1.1 / 2 = 0.55. Jain 2.75² / (2 · (2.2² + 0.55²)) = 0.7353, ratio 4."""
    inputs = Inputs()
    for tenant, ended_s in ((CHAT, 3.0), (CHAT, 5.0), (BATCH, 4.0)):
        inputs.tally.add(record(tenant.id, ended_s=ended_s), tenant, None)
    view = inputs.view()
    view.tick(12.0)
    fairness = view.snapshot()["fairness"]
    assert fairness["jain_throughput"] == pytest.approx(7.5625 / (2 * (4.84 + 0.3025)))
    assert fairness["max_min_ratio"] == pytest.approx(4)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=2))
def test_jain_is_that_of_the_analysis(counts: list[int]) -> None:
    inputs = Inputs()
    for tenant, count in zip((CHAT, BATCH), counts, strict=True):
        for _ in range(count):
            inputs.tally.add(record(tenant.id, ended_s=1.5), tenant, None)
    view = inputs.view()
    view.tick(10.0)
    assert view.snapshot()["fairness"]["jain_throughput"] == pytest.approx(jain(np.array(counts) / [1, 2]))


def test_a_tenant_that_asks_and_gets_nothing_makes_it_unfair_one_that_is_idle_does_not() -> None:
    inputs = Inputs()
    inputs.tally.add(record(ended_s=1.5), CHAT, None)
    view = inputs.view()
    view.tick(2.0)
    assert view.snapshot()["fairness"] == {"jain_throughput": 1.0, "max_min_ratio": 1.0}
    inputs.loads = {"batch": LoadGauges(streams=4, in_flight=4, asked=4, sent=4)}
    view.tick(3.0)
    assert view.snapshot()["fairness"] == {"jain_throughput": 0.5, "max_min_ratio": None}


def test_asked_and_offered_over_the_last_ten_seconds() -> None:
    """One more is due each second, but from t = 10 on none is sent: at t = 15, 10 asked, 5 offered in 10 s."""
    inputs = Inputs()
    view = inputs.view()
    for second in range(1, 16):
        inputs.loads = {"chat": LoadGauges(streams=2, asked=second, sent=min(second, 10))}
        view.tick(float(second))
    chat = view.snapshot()["tenants"][0]
    assert chat["window"]["asked_per_s"] == pytest.approx(1.0)
    assert chat["window"]["offered_per_s"] == pytest.approx(0.5)
    assert chat["whole"]["asked_per_s"] == pytest.approx(1.0)
    assert chat["whole"]["offered_per_s"] == pytest.approx(10 / 15)
    assert chat["streams"] == 2


def test_in_the_first_seconds_rates_are_over_those_there_were() -> None:
    inputs = Inputs()
    inputs.loads = {"chat": LoadGauges(asked=6, sent=4)}
    inputs.tally.add(record(ended_s=1.5), CHAT, None)
    view = inputs.view()
    view.tick(2.0)
    window = view.snapshot()["tenants"][0]["window"]
    assert (window["requests_per_s"], window["asked_per_s"], window["offered_per_s"]) == (0.5, 3.0, 2.0)


def test_nothing_is_defined_before_anything_happened() -> None:
    snapshot = Inputs().view().snapshot()
    assert snapshot["t_s"] == 0
    window = snapshot["tenants"][0]["window"]
    assert window["requests_per_s"] is None
    assert window["output_tokens_per_s"] is None
    assert window["asked_per_s"] is None
    assert window["ttft_ms"] == {"count": 0, "p50": None, "p99": None}
    assert window["slo_attainment"] is None
    assert (window["completed"], window["failed"]) == (0, {})
    assert snapshot["fairness"] == {"jain_throughput": None, "max_min_ratio": None}
    assert set(snapshot["health"].values()) == {None}
    assert snapshot["telemetry"] == {
        "kv_cache_usage": None,
        "requests_waiting": None,
        "requests_running": None,
        "gpu": {},
    }
    assert snapshot["series"]["t_s"] == []


def test_no_request_for_ten_seconds_is_a_rate_of_zero_without_latencies() -> None:
    inputs = Inputs()
    inputs.tally.add(record(ended_s=1.5), CHAT, True)
    view = inputs.view()
    view.tick(20.0)
    window = view.snapshot()["tenants"][0]["window"]
    assert window["requests_per_s"] == 0
    assert window["ttft_ms"]["p99"] is None
    assert window["slo_attainment"] is None


def test_the_phase_that_goes_on() -> None:
    inputs = Inputs(status=RunStatus("running", phase="measure", phase_start_s=10.0))
    inputs.tally.add(record(phase="warmup", ended_s=9.0), CHAT, False)
    inputs.tally.add(record(phase="measure", ended_s=12.0), CHAT, True)
    view = inputs.view()
    view.tick(14.0)
    chat = view.snapshot()["tenants"][0]
    assert chat["phase"]["completed"] == 1
    assert chat["phase"]["requests_per_s"] == 0.25
    assert chat["phase"]["slo_attainment"] == 1.0
    assert chat["whole"]["slo_attainment"] == 0.5


def test_the_window_waits_for_reports_that_come_late() -> None:
    """With reports up to 4 s late, at t = 12 the window is [0, 8)."""
    inputs = Inputs()
    inputs.tally.add(record(ended_s=7.5), CHAT, None)
    inputs.tally.add(record(ended_s=8.5), CHAT, None)
    view = inputs.view(settling_s=4.0)
    view.tick(12.0)
    window = view.snapshot()["tenants"][0]["window"]
    assert (window["completed"], window["requests_per_s"]) == (1, 1 / 8)


def test_telemetry_of_several_servers_and_what_is_stale() -> None:
    inputs = Inputs(
        telemetry={
            "server": {
                "http://a": {"kv_cache_usage": 0.25, "requests_waiting": 2.0, "t_s": 19.9},
                "http://b": {"kv_cache_usage": 0.75, "requests_waiting": 3.0, "t_s": 19.5},
                "http://c": {"kv_cache_usage": 0.99, "requests_waiting": 9.0, "t_s": 9.0},
            },
            "gpu": {"0": {"gpu_utilization_ratio": 0.5, "t_s": 19.9}, "1": {"power_w": 40.0, "t_s": 19.9}},
        }
    )
    view = inputs.view()
    view.tick(20.0)
    snapshot = view.snapshot()
    assert snapshot["telemetry"]["kv_cache_usage"] == 0.75
    assert snapshot["telemetry"]["requests_waiting"] == 5
    assert snapshot["telemetry"]["requests_running"] is None
    assert set(snapshot["telemetry"]["gpu"]) == {"0", "1"}
    assert snapshot["series"]["kv_cache_usage"] == [0.75]
    assert snapshot["series"]["gpu_utilization_ratio"] == [0.5]


def test_health() -> None:
    inputs = Inputs(health={"event_loop_lag_ms": {"p99": 2.5, "max": 7.0}, "cpu_share": {"p95": 0.31}})
    view = inputs.view()
    view.tick(1.0)
    assert view.snapshot()["health"] == {
        "event_loop_lag_ms_p99": 2.5,
        "event_loop_lag_ms_max": 7.0,
        "cpu_share_p95": 0.31,
    }


def test_a_point_a_second_thinned_by_two_when_there_are_too_many() -> None:
    inputs = Inputs()
    view = inputs.view()
    for second in range(1, 901):
        view.tick(float(second))
    assert view.snapshot()["series"]["t_s"] == [float(second) for second in range(1, 901)]
    for second in range(901, 1003):
        view.tick(float(second))
    series = view.snapshot()["series"]
    assert series["t_s"] == [float(second) for second in range(1, 1003, 2)]
    columns = [*series["tenants"]["chat"].values(), *series["tenants"]["batch"].values(), series["jain_throughput"]]
    assert {len(column) for column in columns} == {len(series["t_s"])}


def test_a_long_run_never_has_more_points_than_that() -> None:
    view = Inputs().view()
    for second in range(1, 4000):
        view.tick(float(second))
        assert len(view.snapshot()["series"]["t_s"]) <= 900
    t_s = view.snapshot()["series"]["t_s"]
    assert len({b - a for a, b in pairwise(t_s)}) == 1


def test_after_the_end_the_figures_stay_and_the_state_is_that_of_the_run() -> None:
    inputs = Inputs()
    view = inputs.view()
    view.tick(5.0)
    inputs.tally.add(record(ended_s=4.5), CHAT, None)
    view.end(5.5)
    inputs.tally.add(record(ended_s=6.5), CHAT, None)
    inputs.status = replace(inputs.status, state="complete", notes=("done",))
    view.tick(9.0)
    snapshot = view.snapshot()
    assert (snapshot["t_s"], snapshot["state"], snapshot["notes"]) == (5.5, "complete", ["done"])
    assert snapshot["tenants"][0]["whole"]["completed"] == 1


def test_an_end_at_the_time_of_the_last_tick_takes_in_what_came_since() -> None:
    inputs = Inputs()
    view = inputs.view()
    view.tick(5.0)
    inputs.tally.add(record(ended_s=4.5), CHAT, None)
    view.end(5.0)
    assert view.snapshot()["tenants"][0]["whole"]["completed"] == 1


def test_the_snapshot_is_plain_json_and_what_its_readers_expect() -> None:
    inputs = Inputs()
    inputs.tally.add(record(outcome="timeout", ended_s=1.0), CHAT, False)
    view = inputs.view()
    view.tick(3.0)
    snapshot: dict[str, Any] = json.loads(json.dumps(view.snapshot(), allow_nan=False))
    assert snapshot == view.snapshot()
    assert set(snapshot) == {
        *("t_s", "state", "phase", "run", "simulated", "tenants", "total", "fairness", "health", "telemetry"),
        *("series", "notes"),
    }
    assert [(entry["id"], entry["weight"], entry["color_index"]) for entry in snapshot["tenants"]] == [
        ("chat", 1, 0),
        ("batch", 2, 1),
    ]
    assert snapshot["tenants"][0]["whole"]["failed"] == {"timeout": 1}
    assert set(snapshot["tenants"][0]["window"]) == set(snapshot["total"]["whole"])


def test_a_tick_that_the_end_overtakes_in_a_pause_changes_nothing() -> None:
    at_pause: list[Callable[[], None]] = []
    view = Inputs().view(pause=lambda: at_pause.pop()() if at_pause else None)
    at_pause.append(lambda: view.end(6.0))
    view.tick(5.0)
    assert view.snapshot()["t_s"] == 6.0
    assert view.snapshot()["series"]["t_s"] == [6.0]
