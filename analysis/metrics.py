"""Metric: name, label, unit, formula, direction and source of every number, said once.

Headers, hovers, comparisons and docs/metrics.md read them from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["GROUPS", "METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """One number of the report.

    Attributes:
        name: its key in `summary.json`.
        label: its short name in tables and on axes.
        unit: "" for a ratio or a count.
        formula: what it is, in the stamps and names of a record.
        direction: whether more of it is better or worse for a tenant or an operator; None where neither.
        undefined: when there is none, in words; "" for one that always is.
        source: who defined it, where it is not our own or plain.
        function: where it is computed, as `module.function`.
    """

    name: str
    label: str
    unit: str
    formula: str
    direction: Literal["higher", "lower"] | None = None
    undefined: str = ""
    source: str = ""
    function: str = ""


JAIN = "Jain, Chiu, Hawe 1984"
VTC = "VTC: Sheng et al., OSDI 2024"
MLPERF = "MLPerf Inference rules: latency counts from the scheduled arrival"
NVML = "NVML"
GPM = "NVML's GPM metrics, DCGM's profiling metrics"
ENGINE = "the engine's own /metrics"

_NO_TOKEN = "no chosen request got a token"
_NO_OK = "no chosen request ended ok with a token"
_EMPTY_WINDOW = "the window has no length"
_NO_PART = "no tenant takes part, or all values are 0"
_NO_SOLO = "there is nothing to compare with: the tenant did not run alone, or one side has no value or 0"
_NOT_SAMPLED = "not sampled in the window, or unsupported by the device"
_NOT_SCRAPED = "the server was not sampled in the window, or does not tell it"
_NO_PRICE = "no price per hour in the profile"

_COUNTS = (
    Metric(
        "scheduled",
        "scheduled",
        "",
        "requests scheduled in the window = completed + failed",
        function="analysis.rates.tally",
    ),
    Metric(
        "completed",
        "completed",
        "",
        "requests scheduled in the window that ended ok",
        "higher",
        function="analysis.rates.tally",
    ),
    Metric(
        "failed",
        "failed",
        "",
        "requests scheduled in the window with any outcome but ok",
        "lower",
        function="analysis.rates.tally",
    ),
    Metric(
        "output_tokens",
        "output tokens",
        "tokens",
        "output tokens that arrived in the window, whatever became of their request",
        "higher",
        function="analysis.rates.tally",
    ),
)

_LATENCIES = (
    Metric(
        "ttft_ms",
        "TTFT from send",
        "ms",
        "first_token_s - sent_s, of all that got a token",
        "lower",
        _NO_TOKEN,
        function="analysis.latency.per_request_ms",
    ),
    Metric(
        "ttft_scheduled_ms",
        "TTFT from schedule",
        "ms",
        "first_token_s - scheduled_s, of all that got a token: what the tenant's own user waits",
        "lower",
        _NO_TOKEN,
        MLPERF,
        "analysis.latency.per_request_ms",
    ),
    Metric(
        "tpot_ms",
        "TPOT",
        "ms/token",
        "(last_token_s - first_token_s) / (output_tokens - tokens in the first chunk), per request",
        "lower",
        "no chosen request has two content chunks and a token after the first one",
        "vLLM bench serve (tpot)",
        "analysis.latency.per_request_ms",
    ),
    Metric(
        "icl_ms",
        "ICL",
        "ms",
        "gap between consecutive content chunks, pooled over requests",
        "lower",
        "no chosen request has two content chunks",
        "AIPerf (inter_chunk_latency); vLLM bench serve calls it itl",
        "analysis.latency.icl_ms",
    ),
    Metric(
        "itl_ms",
        "ITL",
        "ms/token",
        "a chunk of k tokens gives k samples of gap / k; only from requests whose server tells k",
        "lower",
        "no server told the tokens of each chunk, or no chosen request has two content chunks",
        function="analysis.latency.itl_ms",
    ),
    Metric(
        "e2e_ms",
        "e2e from send",
        "ms",
        "last_token_s - sent_s, of ok requests",
        "lower",
        _NO_OK,
        "vLLM bench serve (e2el)",
        "analysis.latency.per_request_ms",
    ),
    Metric(
        "e2e_scheduled_ms",
        "e2e from schedule",
        "ms",
        "last_token_s - scheduled_s, of ok requests",
        "lower",
        _NO_OK,
        MLPERF,
        "analysis.latency.per_request_ms",
    ),
    Metric(
        "send_lag_ms",
        "send lag",
        "ms",
        "sent_s - scheduled_s: the client's own delay",
        "lower",
        "no chosen request was sent",
        function="analysis.latency.per_request_ms",
    ),
)

_ADJUSTED = ("ttft_ms", "ttft_scheduled_ms", "tpot_ms", "e2e_ms", "e2e_scheduled_ms")


def _adjusted() -> Iterator[Metric]:
    """Each latency once more, with every failed request in it."""
    for metric in _LATENCIES:
        if metric.name in _ADJUSTED:
            yield replace(
                metric,
                name=f"{metric.name}_adjusted",
                label=f"{metric.label}, adjusted",
                formula=f"{metric.formula}; every failed request counts as +inf, even if it has a value",
                undefined=f"{metric.undefined}, and none failed",
                function="analysis.latency.describe",
            )


_RATES = (
    Metric(
        "asked_requests_per_s",
        "asked",
        "requests/s",
        "requests scheduled in the window / length of the window",
        None,
        _EMPTY_WINDOW,
        function="analysis.rates.rates",
    ),
    Metric(
        "offered_requests_per_s",
        "offered",
        "requests/s",
        "those of them that were sent in the window / length",
        None,
        _EMPTY_WINDOW,
        function="analysis.rates.rates",
    ),
    Metric(
        "in_flight",
        "in flight",
        "",
        "requests that were sent and had not ended, mean over the stretch",
        None,
        "nothing of the run is known",
        function="analysis.timeline.in_flight",
    ),
    Metric(
        "requests_per_s",
        "finished",
        "requests/s",
        "ok requests that ended in the window / length",
        "higher",
        _EMPTY_WINDOW,
        function="analysis.rates.rates",
    ),
    Metric(
        "output_tokens_per_s",
        "output",
        "tokens/s",
        "output tokens that arrived in the window, whatever became of their request / length",
        "higher",
        _EMPTY_WINDOW,
        function="analysis.rates.rates",
    ),
    Metric(
        "makespan_tokens_per_s",
        "whole-run output",
        "tokens/s",
        "all output tokens of the run / (last last_token_s - first sent_s), warm-up and drain included",
        "higher",
        "no token came, or all at one instant",
        function="analysis.rates.makespan_tokens_per_s",
    ),
    Metric(
        "goodput_requests_per_s",
        "goodput",
        "requests/s",
        "requests_per_s over requests that met all their SLOs",
        "higher",
        _EMPTY_WINDOW,
        "DistServe: Zhong et al., OSDI 2024",
        "analysis.rates.rates",
    ),
    Metric(
        "goodput_tokens_per_s",
        "goodput",
        "tokens/s",
        "output_tokens_per_s over requests that met all their SLOs",
        "higher",
        _EMPTY_WINDOW,
        function="analysis.rates.rates",
    ),
    Metric(
        "slo_attainment",
        "SLO attainment",
        "",
        "requests that met all their SLOs (TTFT and e2e from schedule) / requests scheduled in the window",
        "higher",
        "the tenant has no SLO, or no request was scheduled in the window",
        "DistServe: Zhong et al., OSDI 2024",
        "analysis.rates.Tally.slo_attainment",
    ),
)

_FAIRNESS = (
    Metric(
        "jain_throughput",
        "Jain, throughput",
        "",
        "(Σ y)² / (n Σ y²) over y = output_tokens_per_s / weight; 1 = equal",
        "higher",
        _NO_PART,
        JAIN,
        "analysis.fairness.indices",
    ),
    Metric(
        "jain_service",
        "Jain, service",
        "",
        "Jain's index over service / weight; service = weighted input + output tokens, credited when they arrive",
        "higher",
        _NO_PART,
        f"{JAIN}; {VTC}",
        "analysis.fairness.indices",
    ),
    Metric(
        "jain_demand",
        "Jain, satisfied demand",
        "",
        "Jain's index over min(1, service credited / service asked for in the window)",
        "higher",
        "no tenant asked for any service, or none got any",
        JAIN,
        "analysis.fairness.indices",
    ),
    Metric(
        "jain_progress",
        "Jain, progress",
        "",
        "Jain's index over 1 / slowdown (e2e p95), not divided by weight",
        "higher",
        "some tenant's slowdown is not known",
        JAIN,
        "analysis.interference.jain_progress",
    ),
    Metric(
        "max_min_ratio",
        "max/min throughput",
        "",
        "largest / smallest output_tokens_per_s / weight",
        "lower",
        "no tenant takes part, or the smallest is 0",
        function="analysis.fairness.max_min_ratio",
    ),
    Metric(
        "attainment_gap",
        "SLO attainment gap",
        "",
        "best minus worst tenant's SLO attainment",
        "lower",
        "no tenant that takes part has an SLO",
        function="analysis.fairness.indices",
    ),
    Metric(
        "service_gap_max_tokens",
        "largest service gap",
        "tokens",
        "largest |W_i / w_i - W_j / w_j| of two tenants while both are backlogged, from 0 at the start of each "
        "such interval",
        "lower",
        "no two tenants were ever backlogged at once",
        VTC,
        "analysis.fairness.gaps",
    ),
    Metric(
        "service_gap_window_max_tokens",
        "largest service gap, sliding",
        "tokens",
        "the same, counting at each instant only the service of the last fairness_window_s of the interval",
        "lower",
        "no two tenants were ever backlogged at once",
        VTC,
        "analysis.fairness.gaps",
    ),
    Metric(
        "starvation_s_max",
        "longest starvation",
        "s",
        "longest stretch of the window in which a tenant had a request outstanding and received no token",
        "lower",
        "no request was outstanding in the window",
        function="analysis.fairness.starvation",
    ),
)

_INTERFERENCE = (
    Metric(
        "slowdown",
        "slowdown",
        "",
        "shared / solo, of the same percentile of the same latency; paired by request index where the schedule is "
        "the same; 1 = as if alone",
        "lower",
        _NO_SOLO,
        function="analysis.slowdown.slowdowns",
    ),
    Metric(
        "throughput_ratio",
        "throughput, of solo",
        "",
        "shared / solo output_tokens_per_s of the same tenant",
        "higher",
        _NO_SOLO,
        function="analysis.slowdown.throughput_ratio",
    ),
    Metric(
        "isolation_leakage",
        "isolation leakage",
        "",
        "1 - 1 / slowdown of the worst victim (e2e p95 unless said otherwise); 0 = isolated",
        "lower",
        _NO_SOLO,
        function="analysis.interference.isolation_leakage",
    ),
    Metric(
        "sharing_efficiency",
        "sharing efficiency",
        "",
        "Σ shared / solo output_tokens_per_s over the tenants; 1 = no better than taking turns, above 1 sharing pays",
        "higher",
        _NO_SOLO,
        "weighted speedup: Snavely and Tullsen, ASPLOS 2000",
        "analysis.interference.sharing_efficiency",
    ),
)

_STEADY = (
    Metric(
        "suggested_warmup_s",
        "suggested warm-up",
        "s",
        "the longest that MSER-5 asks for in throughput or a tenant's TTFT: the cut after which means of batches of "
        "five have the smallest standard error; 0 where what is cut off differs by no more than noise",
        None,
        "the load changes by plan, or the run is too short to tell",
        "White 1997; White, Cobb, Spratt 2000; Hoad, Robinson, Davies 2010",
        "analysis.steady.suggest",
    ),
)

_COST = (
    Metric(
        "cost_per_million_output_tokens",
        "cost",
        "USD per million output tokens",
        "GPU price per hour × GPUs × window / output tokens arriving in it × 1e6; per tenant by share of "
        "unweighted service",
        "lower",
        f"no output token arrived in the window, or {_NO_PRICE}",
        function="analysis.cost.cost_per_million_output_tokens",
    ),
    Metric(
        "window_usd",
        "cost of the window",
        "USD",
        "GPU price per hour × GPUs × window",
        "lower",
        _NO_PRICE,
        function="analysis.cost.cost_of",
    ),
    Metric(
        "tenants_usd",
        "cost of a tenant",
        "USD",
        "the tenant's part of window_usd, by its share of unweighted service in the window, or by its slice",
        "lower",
        f"no tenant got any service, or {_NO_PRICE}",
        function="analysis.cost.cost_of",
    ),
    Metric(
        "idle_usd",
        "cost of idle time",
        "USD",
        "window_usd × idle_share",
        "lower",
        f"{_EMPTY_WINDOW}, or {_NO_PRICE}",
        function="analysis.cost.cost_of",
    ),
    Metric(
        "idle_share",
        "idle time",
        "ratio",
        "share of the window in which no tenant had a request outstanding",
        "lower",
        _EMPTY_WINDOW,
        function="analysis.cost.idle_share",
    ),
    Metric(
        "joules_per_output_token",
        "energy per token",
        "J per output token",
        "energy over the window of the GPUs that served / output tokens that arrived in it",
        "lower",
        "no output token arrived in the window, or its energy is not known",
        function="analysis.cost.joules_per_output_token",
    ),
    Metric(
        "energy_j",
        "energy",
        "J",
        "over the window: the device's own energy counter, else power over time",
        "lower",
        "neither was sampled over enough of the window",
        NVML,
        "analysis.gpu.energy_in",
    ),
    Metric(
        "energy_covered_ratio",
        "energy covered",
        "ratio",
        "share of the window that the samples of energy or power cover",
        "higher",
        _EMPTY_WINDOW,
        function="analysis.gpu.energy_in",
    ),
)


def _sampled(
    name: str,
    label: str,
    unit: str,
    formula: str,
    source: str = NVML,
    direction: Literal["higher", "lower"] | None = None,
) -> Metric:
    """A gauge of a GPU or of a process on it."""
    return Metric(name, label, unit, formula, direction, _NOT_SAMPLED, source, "analysis.telemetry.gauge")


_GPU = (
    _sampled(
        "gpu_utilization_ratio",
        "GPU utilisation",
        "ratio",
        "share of the sampling period in which any kernel ran; not how full the GPU was",
    ),
    _sampled(
        "memory_copy_utilization_ratio",
        "memory utilisation",
        "ratio",
        "share of the sampling period in which device memory was read or written",
    ),
    _sampled(
        "graphics_active_ratio",
        "engine activity",
        "ratio",
        "share of time in which the compute engine was busy",
        GPM,
    ),
    _sampled(
        "sm_active_ratio", "SM activity", "ratio", "share of time in which an SM had work, mean over all SMs", GPM
    ),
    _sampled("sm_occupancy_ratio", "SM occupancy", "ratio", "warps resident on the SMs / warps that fit", GPM),
    _sampled("tensor_active_ratio", "tensor-core activity", "ratio", "share of time in which tensor cores worked", GPM),
    _sampled("dram_active_ratio", "DRAM activity", "ratio", "memory bandwidth in use / memory bandwidth there is", GPM),
    _sampled("memory_used_bytes", "memory used", "bytes", "device memory in use, whoever's it is"),
    _sampled("memory_total_bytes", "memory", "bytes", "device memory there is"),
    _sampled("power_w", "power", "W", "power draw of the whole board", direction="lower"),
    _sampled("energy_j_total", "energy counter", "J", "energy since the driver was loaded"),
    _sampled("temperature_c", "temperature", "°C", "temperature of the chip"),
    _sampled("sm_clock_mhz", "SM clock", "MHz", "clock of the SMs"),
    _sampled("memory_clock_mhz", "memory clock", "MHz", "clock of the memory"),
    _sampled("pcie_tx_bytes_per_s", "PCIe sent", "bytes/s", "sent by the GPU over PCIe"),
    _sampled("pcie_rx_bytes_per_s", "PCIe received", "bytes/s", "received by the GPU over PCIe"),
    _sampled("stale_s", "age of its values", "s", "time since any value of the device changed, as far as was seen", ""),
    _sampled("process_memory_bytes", "process memory", "bytes", "device memory of one process, or of one server's"),
    _sampled(
        "process_sm_ratio",
        "process SM use",
        "ratio",
        "share of the sampling periods in which a kernel of the process ran",
    ),
)


def _scraped(
    name: str,
    label: str,
    unit: str,
    formula: str,
    function: str = "telemetry.gauge",
    direction: Literal["higher", "lower"] | None = None,
) -> Metric:
    """What a server tells of itself."""
    return Metric(name, label, unit, formula, direction, _NOT_SCRAPED, ENGINE, f"analysis.{function}")


_SERVER = (
    _scraped("kv_cache_usage", "KV-cache use", "ratio", "KV-cache blocks in use / blocks there are, of a whole server"),
    _scraped(
        "kv_cache_peak",
        "KV-cache peak",
        "ratio",
        "highest sampled KV-cache use, with the time",
        "server.describe_server",
        "lower",
    ),
    _scraped(
        "kv_cache_mean", "KV-cache mean", "ratio", "KV-cache use, mean over the samples", "server.describe_server"
    ),
    _scraped("requests_running", "running", "requests", "requests in the server's batch, all tenants'"),
    _scraped(
        "requests_waiting", "waiting", "requests", "requests in the server's queue, all tenants'", direction="lower"
    ),
    _scraped(
        "requests_swapped",
        "swapped",
        "requests",
        "requests whose KV cache was moved to the host's memory",
        direction="lower",
    ),
    _scraped(
        "preemptions",
        "preemptions",
        "",
        "requests whose KV cache was taken away while they ran",
        "server.describe_server",
        "lower",
    ),
    _scraped(
        "hit_rate",
        "prefix-cache hit rate",
        "ratio",
        "prompt tokens found in the prefix cache / prompt tokens looked up, in the window",
        "server.describe_server",
        "higher",
    ),
    _scraped(
        "hit_rate_drift",
        "prefix-cache hit rate drift",
        "ratio",
        "largest change of the hit rate from the first to the second half of a measured part",
        "server.describe_server",
        "lower",
    ),
    _scraped(
        "queue_share_of_ttft",
        "queue's share of TTFT",
        "ratio",
        "mean time in the queue / mean TTFT, both by the engine's histograms",
        "server.describe_server",
        "lower",
    ),
    _scraped(
        "generation_server",
        "output tokens, by the server",
        "tokens",
        "growth of the server's counter of generated tokens over the window",
        "server.describe_server",
    ),
    _scraped(
        "generation_client",
        "output tokens, by the client",
        "tokens",
        "output tokens of the server's own requests that arrived in the window",
        "server.describe_server",
    ),
    _scraped(
        "prompt_server",
        "input tokens, by the server",
        "tokens",
        "growth of the server's counter of prompt tokens over the window",
        "server.describe_server",
    ),
    _scraped(
        "prompt_client",
        "input tokens, by the client",
        "tokens",
        "input tokens of the server's own requests whose first token arrived in the window",
        "server.describe_server",
    ),
    _scraped(
        "queue_ms",
        "time in the queue",
        "ms",
        "from arrival at the engine until it was scheduled, as the engine tells",
        "server.describe_server",
        "lower",
    ),
    _scraped(
        "compute_ms",
        "time of compute",
        "ms",
        "prefill and decode of the request, as the engine tells",
        "server.describe_server",
        "lower",
    ),
)

GROUPS: dict[str, tuple[Metric, ...]] = {
    "Counts": _COUNTS,
    "Latency": (*_LATENCIES, *_adjusted()),
    "Rates": _RATES,
    "Fairness": _FAIRNESS,
    "Interference": _INTERFERENCE,
    "Steady state": _STEADY,
    "Cost and energy": _COST,
    "GPU": _GPU,
    "Server": _SERVER,
}
"""The metrics by what they tell of, in the order of the documentation."""

METRICS = {metric.name: metric for group in GROUPS.values() for metric in group}
"""Every metric by name."""
