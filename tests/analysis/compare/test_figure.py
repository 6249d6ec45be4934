"""Figures of a run and of repeats, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analysis.compare.figure import FAIRNESS, LATENCIES, OF_RUN, OF_TENANT, RATES, figure, pooled
from analysis.compare.model import UNDEFINED, Value
from analysis.load import load_run
from analysis.summary import summarise
from tests.analysis.compare.runs import compared_run


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summarise(load_run(compared_run(tmp_path_factory.mktemp("figures") / "run"))).content


def test_of_all_and_of_one_tenant(content: dict[str, Any]) -> None:
    """Two tenants, ten requests each of 5 tokens in 10 s, 0.25 s to the first, 0.65 s to the last."""
    assert figure(content, "output_tokens_per_s").value == 10
    assert figure(content, "output_tokens_per_s", tenant="chat").value == 5
    assert figure(content, "ttft_scheduled_ms", "p99", "chat").value == pytest.approx(250)
    assert figure(content, "e2e_scheduled_ms", "p95").value == pytest.approx(650)
    assert figure(content, "slo_attainment").value == 1
    assert figure(content, "slo_attainment", tenant="batch") == UNDEFINED
    assert figure(content, "jain_throughput").value == 1
    assert figure(content, "requests_per_s", tenant="nobody") == UNDEFINED


def test_a_tail_of_few_requests_is_not_certified(content: dict[str, Any]) -> None:
    assert figure(content, "ttft_ms", "p50").certified
    assert not figure(content, "ttft_ms", "p99").certified


def test_cost_and_its_interval() -> None:
    """Twice the tokens, half the cost: the interval turns round."""
    content = {
        "totals": {"output_tokens_per_s": 100.0, "ci95": {"output_tokens_per_s": [80.0, 125.0]}},
        "cost": {"cost_per_million_output_tokens": 2.0, "tenants": {}},
        "gpu": None,
    }
    value = figure(content, "cost_per_million_output_tokens")
    assert value.value == 2
    assert list(value.ci95) == pytest.approx([1.6, 2.5])
    assert figure(content, "joules_per_output_token") == UNDEFINED
    assert figure({**content, "cost": None}, "cost_per_million_output_tokens") == UNDEFINED


def test_interference() -> None:
    content = {
        "totals": {},
        "tenants": {"chat": {}},
        "interference": {
            "isolation_leakage": {"value": 0.5, "ci95": [0.4, 0.6], "victim": "chat"},
            "sharing_efficiency": {"value": None, "ci95": [None, None]},
            "tenants": {"chat": {"isolation_leakage": {"value": 0.5, "ci95": [0.4, None]}}},
        },
    }
    assert figure(content, "isolation_leakage") == Value(0.5, (0.4, 0.6))
    assert figure(content, "isolation_leakage", tenant="chat") == Value(0.5, (0.4, None))
    assert figure(content, "sharing_efficiency") == UNDEFINED
    assert figure({**content, "interference": None}, "isolation_leakage") == UNDEFINED


def test_mean_running(content: dict[str, Any]) -> None:
    """Each of 20 requests is in flight for 0.65 of 10 s. Where the engine was sampled, its own count stands."""
    assert figure(content, "mean_running").value == pytest.approx(20 * 0.65 / 10)
    endpoints = {
        "x": {"requests_running": {"mean": 2.0}, "kv_cache_peak": {"value": 0.4, "t_s": 1}},
        "y": {"requests_running": {"mean": 1.5}, "kv_cache_peak": {"value": 0.7, "t_s": 2}},
    }
    sampled = {**content, "server": {"endpoints": endpoints}}
    assert figure(sampled, "mean_running").value == 3.5
    assert figure(sampled, "kv_cache_peak").value == 0.7
    assert figure(content, "kv_cache_peak") == UNDEFINED
    endpoints["y"]["requests_running"] = None  # type: ignore[assignment]
    assert figure(sampled, "mean_running").value == pytest.approx(1.3)


def test_every_name_is_in_the_summary(content: dict[str, Any]) -> None:
    assert set(LATENCIES) | set(RATES) <= set(content["totals"])
    assert set(FAIRNESS) <= set(content["fairness"])
    for name in (*OF_RUN, *OF_TENANT):
        figure(content, name)


def test_repeats_have_the_t_interval() -> None:
    """10, 12, 14: mean 12, s = 2, t(2) = 4.3027, 4.3027 · 2 / sqrt(3) = 4.9683.

    The runs' own intervals play no part.
    """
    value = pooled([Value(10.0, (9.0, 11.0)), Value(12.0), Value(14.0, certified=False)])
    assert value.value == 12
    assert list(value.ci95) == pytest.approx([12 - 4.9683, 12 + 4.9683], abs=1e-4)
    assert not value.certified


def test_repeats_of_which_some_are_undefined() -> None:
    assert pooled([Value(10.0), UNDEFINED]) == Value(10.0)
    assert pooled([UNDEFINED, UNDEFINED]) == UNDEFINED
    assert pooled([Value(10.0), Value(math.inf)]).value == math.inf


def test_one_run_has_its_own_interval() -> None:
    assert pooled([Value(10.0, (9.0, None))]) == Value(10.0, (9.0, None))


def test_a_window_without_requests(tmp_path: Path) -> None:
    """Nothing answers 0 where it is undefined."""
    run = compared_run(tmp_path / "run")
    (run / "requests.jsonl").write_bytes(b"")
    empty = summarise(load_run(run)).content
    for name in (*LATENCIES, "slo_attainment", "cost_per_million_output_tokens", "jain_throughput"):
        assert figure(empty, name, "p99").value is None
