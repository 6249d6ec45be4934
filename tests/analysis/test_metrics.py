"""The registry: complete, true to the code and to the documentation, and every metric tested in three ways."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from analysis.__main__ import main
from analysis.commands.metrics import markdown
from analysis.latency import ADJUSTED, per_request_ms
from analysis.load import Slo, Tenant, load_run
from analysis.metrics import GROUPS, METRICS
from analysis.summary import summarise
from tests.analysis.build import histogram, part, record, sampled, write_run, write_samples

ROOT = Path(__file__).parents[2]
ENDPOINT = "http://127.0.0.1:40001"

# Numbers of summary.json that are no metrics: what was asked for, what was read, when, and how it was judged.
SECTIONS = {"schema", "run", "window", "verdict", "sources", "locust"}
KEYS = {
    "weight",  # the tenant's, from the profile
    "gpu_hour_usd",
    "gpus",
    "boards",
    "load",  # of a phase
    "t_s",
    "start_s",
    "end_s",
    "chosen_warmup_s",
    "samples",  # how often something was sampled, and with which gaps
    "interval_s",
    "longest_gap_s",
    "throttle",  # share of the samples with each of the device's own reasons
    "ttft",  # the server's histogram beside ttft_ms of the same requests, told with `le` bounds
    "latency",  # the server's other histograms
    "drift",  # from and to of a metric that is named beside
}
ALIASES = {  # of each tenant, the metric whose total stands beside it
    ("gpu", "tenants_energy_j"): "energy_j",
    ("gpu", "tenants_joules_per_output_token"): "joules_per_output_token",
    ("cost", "tenants"): "cost_per_million_output_tokens",
}

_REFERENCE = "test_summary_reference.test_every_number_of_a_run"
_NONE, _FAILED, _ALONE = "test_edges.test_no_requests", "test_edges.test_all_failed", "test_edges.test_one_tenant"
_EMPTY, _TOKEN = "test_edges.test_a_window_without_length", "test_edges.test_one_token"
_TALLY = ("test_rates.test_a_tally_worked_by_hand", _REFERENCE, _EMPTY)
_LATENCY = ("test_latency.test_one_request_worked_by_hand", _REFERENCE, "test_latency.test_undefined_is_nan")
_INDEX = ("test_fairness.test_indices_by_hand", _REFERENCE, "test_fairness.test_nothing_to_compare_is_undefined")
_GAP = (
    "test_service.test_a_gap_worked_by_hand",
    "test_service.test_gaps_against_the_slow_reference",
    "test_service.test_never_both_waiting_is_undefined",
)
_SLOWDOWN = (
    "test_slowdown.test_slowdown_worked_by_hand",
    "test_slowdown.test_against_a_slow_reference",
    "test_slowdown.test_a_latency_that_never_was_has_no_slowdown",
)
_COST = ("test_cost.test_cost_by_hand", _REFERENCE, _NONE)
_ENERGY = (
    "test_gpu.test_energy_is_the_difference_of_the_counter_at_the_windows_ends",
    "test_gpu.test_power_over_time_agrees_with_small_steps",
    "test_gpu.test_energy_outside_the_samples_is_undefined",
)
_GAUGE = (
    "test_telemetry.test_a_gauge_by_hand",
    "test_telemetry.test_a_gauge_agrees_with_a_slow_reference",
    "test_telemetry.test_without_a_sample_in_the_window_a_gauge_is_undefined",
)
_SERVER_GAUGE = (
    "test_server.test_gauges_by_hand",
    "test_telemetry.test_a_gauge_agrees_with_a_slow_reference",
    "test_server.test_samples_outside_the_window_leave_it_undefined",
)
_COUNTER = (
    "test_server.test_counters_are_counted_over_the_window",
    "test_telemetry.test_growth_agrees_with_a_slow_reference",
    "test_server.test_what_the_server_counted_before_the_samples_end_is_not_the_windows",
)
_HIT_RATE = (
    "test_server.test_the_hit_rate_and_its_drift",
    "test_telemetry.test_growth_agrees_with_a_slow_reference",
    "test_server.test_a_cache_that_nobody_asked_is_not_checked",
)
_TOLD = (
    "test_server.test_what_the_engine_tells_of_a_request_is_its_tenants",
    "test_latency.test_percentiles_against_the_slow_reference",
    "test_latency.test_no_sample_has_no_percentile",
)

TESTS = {
    **dict.fromkeys(("scheduled", "completed", "failed", "output_tokens"), (*_TALLY[:2], _NONE)),
    **dict.fromkeys(("ttft_ms", "ttft_scheduled_ms", "tpot_ms", "e2e_ms", "e2e_scheduled_ms", "send_lag_ms"), _LATENCY),
    **dict.fromkeys(
        ("icl_ms", "itl_ms"),
        (
            "test_latency.test_one_request_worked_by_hand",
            "test_latency.test_against_the_slow_reference",
            _TOKEN,
        ),
    ),
    **dict.fromkeys(
        (f"{name}_adjusted" for name in ADJUSTED),
        ("test_latency.test_failures_count_as_infinite", _REFERENCE, _FAILED),
    ),
    **dict.fromkeys(
        (
            "asked_requests_per_s",
            "offered_requests_per_s",
            "requests_per_s",
            "output_tokens_per_s",
            "goodput_requests_per_s",
            "goodput_tokens_per_s",
        ),
        _TALLY,
    ),
    "in_flight": (
        "test_timeline.test_a_timeline_worked_by_hand",
        _REFERENCE,
        "test_timeline.test_a_run_of_no_length_has_no_stretch",
    ),
    "makespan_tokens_per_s": (
        "test_rates.test_makespan",
        _REFERENCE,
        "test_edges.test_a_token_at_once_has_no_whole_run_rate",
    ),
    "slo_attainment": _TALLY,
    **dict.fromkeys(("jain_throughput", "jain_service", "jain_demand", "max_min_ratio", "attainment_gap"), _INDEX),
    **dict.fromkeys(("service_gap_max_tokens", "service_gap_window_max_tokens"), _GAP),
    "starvation_s_max": (
        "test_service.test_starvation_by_hand",
        "test_service.test_starvation_against_the_slow_reference",
        _NONE,
    ),
    "slowdown": _SLOWDOWN,
    "throughput_ratio": (
        "test_slowdown.test_throughput_ratio_worked_by_hand",
        "test_slowdown.test_against_a_slow_reference",
        "test_slowdown.test_throughput_alone_of_nothing_has_no_ratio",
    ),
    **{
        name: (
            f"test_interference.{example}",
            "test_interference.test_against_a_slow_reference",
            f"test_interference.{edge}",
        )
        for name, example, edge in (
            (
                "isolation_leakage",
                "test_isolation_leakage_worked_by_hand",
                "test_leakage_without_a_slowdown_is_undefined",
            ),
            ("sharing_efficiency", "test_sharing_efficiency_worked_by_hand", "test_efficiency_needs_every_tenant"),
            ("jain_progress", "test_jain_progress_worked_by_hand", "test_progress_needs_every_tenant"),
        )
    },
    "suggested_warmup_s": (
        "test_steady.test_mser5_worked_by_hand",
        "test_steady.test_mser5_against_the_slow_reference",
        "test_steady.test_nothing_is_known_of_a_run_without_requests",
    ),
    **dict.fromkeys(("cost_per_million_output_tokens", "window_usd", "tenants_usd"), _COST),
    **dict.fromkeys(("idle_usd", "idle_share"), ("test_cost.test_idle_share_worked_by_hand", _REFERENCE, _EMPTY)),
    "joules_per_output_token": (
        "test_cost.test_energy_per_token_by_hand",
        "test_summary_reference.test_energy_per_token",
        "test_gpu.test_without_tokens_energy_per_token_is_undefined",
    ),
    **dict.fromkeys(("energy_j", "energy_covered_ratio"), _ENERGY),
    **dict.fromkeys((metric.name for metric in GROUPS["GPU"]), _GAUGE),
    **dict.fromkeys(
        (
            "kv_cache_usage",
            "kv_cache_peak",
            "kv_cache_mean",
            "requests_running",
            "requests_waiting",
            "requests_swapped",
        ),
        _SERVER_GAUGE,
    ),
    **dict.fromkeys(
        ("preemptions", "generation_server", "generation_client", "prompt_server", "prompt_client"), _COUNTER
    ),
    **dict.fromkeys(("hit_rate", "hit_rate_drift"), _HIT_RATE),
    "queue_share_of_ttft": (
        "test_server.test_the_share_of_the_queue_is_one_of_means",
        "test_histogram.test_a_percentile_lies_in_its_bucket",
        "test_histogram.test_without_observations_nothing_is_known",
    ),
    **dict.fromkeys(("queue_ms", "compute_ms"), _TOLD),
}
"""Of each metric: an example worked by hand, a slow reference, and what stands there when it is undefined."""


def rich_run(folder: Path) -> Path:
    """Each of two tenants alone, then both; SLO, price, and samples of all that a GPU and a server can tell."""
    tenants = (Tenant(id="tenant-1", slo=Slo(ttft_ms=600)), Tenant(id="tenant-2", weight=2))
    phases = [("first", 0, ["tenant-1"]), ("second", 20, ["tenant-2"]), ("both", 40, ["tenant-1", "tenant-2"])]
    records = [
        record(
            tenant,
            index,
            phase=name,
            scheduled_s=start + index * 0.9,
            gaps_us=[20_000] * 9,
            input_tokens=10,
            endpoint=ENDPOINT,
            chunk_tokens=[1] * 10,
        )
        for name, start, taking_part in phases
        for tenant in taking_part
        for index in range(20)
    ]
    times = [float(t_s) for t_s in range(63)]
    gpu, server = [], []
    for metric in GROUPS["GPU"]:
        of = f"GPU-0/server={ENDPOINT}" if metric.name.startswith("process_") else "GPU-0"
        gpu += sampled(of, metric.name, *((t_s, 0.5 + t_s) for t_s in times))
    for name in ("kv_cache_usage", "requests_running", "requests_waiting", "requests_swapped"):
        server += sampled(ENDPOINT, name, *((t_s, 0.5) for t_s in times))
    for name in ("preemptions", "prefix_cache_hits", "prefix_cache_queries", "generation_tokens", "prompt_tokens"):
        server += sampled(ENDPOINT, f"{name}_total", *((t_s, 10 * t_s) for t_s in times))
    for name in ("ttft_seconds", "queue_seconds"):
        server += histogram(ENDPOINT, name, *((t_s, t_s * 0.5, (0, t_s, t_s)) for t_s in times))
    write_samples(folder, gpu=gpu, server=server)
    engine = {"endpoint": ENDPOINT, "engine": "vllm", "sharing": "logical", "simulated": False}
    info = {
        "phases": [part(name, start, start + 20, taking_part) for name, start, taking_part in phases],
        "ended_s": 62.0,
        "servers": [engine],
    }
    return write_run(folder, records, tenants, info=info, cost={"gpu_hour_usd": 1.8, "gpus": 1})


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every number; of lists, that of the list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


def test_every_number_of_a_summary_is_in_the_registry(tmp_path: Path) -> None:
    content = orjson.loads(summarise(load_run(rich_run(tmp_path))).to_json())
    assert content["interference"] is not None
    assert content["gpu"]["energy_j"] is not None
    assert content["fairness"]["jain_progress"] is not None
    unknown = {
        "/".join(path)
        for path in numbers(content)
        if path[0] not in SECTIONS and path[:2] not in ALIASES and not set(path) & (METRICS.keys() | KEYS)
    }
    assert unknown == set()
    assert set(ALIASES.values()) <= METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_the_function_of_a_metric_is_there(name: str) -> None:
    parts = METRICS[name].function.split(".")
    assert parts[0] == "analysis"
    found: Any = importlib.import_module(".".join(parts[:2]))
    for part_name in parts[2:]:
        found = getattr(found, part_name)
    assert callable(found) or isinstance(found, property)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_tested_in_three_ways(name: str) -> None:
    for test in TESTS[name]:
        module, function = test.split(".")
        assert callable(getattr(importlib.import_module(f"tests.analysis.{module}"), function))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric.label
    assert metric.formula
    assert metric.direction in ("higher", "lower", None)


def test_every_latency_is_in_the_registry() -> None:
    some = per_request_ms(load_nothing())
    assert some.keys() <= METRICS.keys()
    adjusted = [name for name in METRICS if name.endswith("_adjusted")]
    assert adjusted == [f"{name}_adjusted" for name in ADJUSTED]
    assert all("+inf" in METRICS[name].formula for name in adjusted)


def load_nothing() -> Any:
    from tests.analysis.build import columns

    return columns([])


def test_the_documentation_is_the_registry() -> None:
    """After a change: python -m analysis metrics --format md > docs/metrics.md."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == markdown()


def test_the_command_prints_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--format", "md"]) == 0
    assert capsys.readouterr().out == markdown()
    assert main(["metrics"]) == 0
    said = capsys.readouterr().out
    assert "  ttft_ms, ms, lower is better\n    first_token_s - sent_s" in said
    assert all(f"  {name}" in said for name in METRICS)


def test_certified_counts_stand_in_the_documentation() -> None:
    assert "| certified from | 11 | 64 | 130 | 662 | 6,636 |" in markdown()
