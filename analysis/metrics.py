"""Metric: name, label, unit, formula, direction and source of every number, said once.

Headers, hovers, comparisons and docs/metrics.md read them from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Metric"]


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


METRICS = {
    metric.name: metric
    for metric in (
        Metric("scheduled", "scheduled", "", "requests scheduled in the window = completed + failed"),
        Metric("completed", "completed", "", "requests scheduled in the window that ended ok"),
        Metric("failed", "failed", "", "requests scheduled in the window with any outcome but ok"),
        Metric("ttft_ms", "TTFT from send", "ms", "first_token_s - sent_s, of all that got a token"),
        Metric(
            "ttft_scheduled_ms",
            "TTFT from schedule",
            "ms",
            "first_token_s - scheduled_s, of all that got a token: what the tenant's own user waits",
        ),
        Metric(
            "tpot_ms",
            "TPOT",
            "ms/token",
            "(last_token_s - first_token_s) / (output_tokens - tokens in the first chunk), per request",
        ),
        Metric("icl_ms", "ICL", "ms", "gap between consecutive content chunks, pooled over requests"),
        Metric(
            "itl_ms",
            "ITL",
            "ms/token",
            "a chunk of k tokens gives k samples of gap / k; only from requests whose server tells k",
        ),
        Metric("e2e_ms", "e2e from send", "ms", "last_token_s - sent_s, of ok requests"),
        Metric("e2e_scheduled_ms", "e2e from schedule", "ms", "last_token_s - scheduled_s, of ok requests"),
        Metric("send_lag_ms", "send lag", "ms", "sent_s - scheduled_s: the client's own delay"),
        Metric(
            "asked_requests_per_s", "asked", "requests/s", "requests scheduled in the window / length of the window"
        ),
        Metric(
            "offered_requests_per_s", "offered", "requests/s", "those of them that were sent in the window / length"
        ),
        Metric("in_flight", "in flight", "", "requests that were sent and had not ended, mean over the stretch"),
        Metric("requests_per_s", "finished", "requests/s", "ok requests that ended in the window / length"),
        Metric(
            "output_tokens_per_s",
            "output",
            "tokens/s",
            "output tokens that arrived in the window, whatever became of their request / length",
        ),
        Metric(
            "makespan_tokens_per_s",
            "whole-run output",
            "tokens/s",
            "all output tokens of the run / (last last_token_s - first sent_s), warm-up and drain included",
        ),
        Metric(
            "goodput_requests_per_s", "goodput", "requests/s", "requests_per_s over requests that met all their SLOs"
        ),
        Metric(
            "goodput_tokens_per_s", "goodput", "tokens/s", "output_tokens_per_s over requests that met all their SLOs"
        ),
        Metric(
            "slo_attainment",
            "SLO attainment",
            "",
            "requests that met all their SLOs (TTFT and e2e from schedule) / requests scheduled in the window",
        ),
        Metric(
            "jain_throughput",
            "Jain, throughput",
            "",
            "(Σ y)² / (n Σ y²) over y = output_tokens_per_s / weight; 1 = equal",
        ),
        Metric(
            "jain_service",
            "Jain, service",
            "",
            "Jain's index over service / weight; service = weighted input + output tokens, credited when they arrive",
        ),
        Metric(
            "jain_demand",
            "Jain, satisfied demand",
            "",
            "Jain's index over min(1, service credited / service asked for in the window)",
        ),
        Metric("max_min_ratio", "max/min throughput", "", "largest / smallest output_tokens_per_s / weight"),
        Metric("attainment_gap", "SLO attainment gap", "", "best minus worst tenant's SLO attainment"),
        Metric(
            "service_gap_max_tokens",
            "largest service gap",
            "tokens",
            "largest |W_i / w_i - W_j / w_j| of two tenants while both are backlogged, from 0 at the start of each "
            "such interval",
        ),
        Metric(
            "service_gap_window_max_tokens",
            "largest service gap, sliding",
            "tokens",
            "the same, counting at each instant only the service of the last fairness_window_s of the interval",
        ),
        Metric(
            "starvation_s_max",
            "longest starvation",
            "s",
            "longest stretch of the window in which a tenant had a request outstanding and received no token",
        ),
        Metric(
            "cost_per_million_output_tokens",
            "cost",
            "USD per million output tokens",
            "GPU price per hour × GPUs × window / output tokens arriving in it × 1e6; per tenant by share of "
            "unweighted service",
        ),
        Metric(
            "joules_per_output_token",
            "energy per token",
            "J per output token",
            "energy over the window of the GPUs that served / output tokens that arrived in it",
        ),
        Metric("energy_j", "energy", "J", "over the window: the device's own energy counter, else power over time"),
        Metric(
            "gpu_utilization_ratio",
            "GPU utilisation",
            "ratio",
            "share of the sampling period in which any kernel ran; not how full the GPU was",
        ),
        Metric(
            "memory_copy_utilization_ratio",
            "memory utilisation",
            "ratio",
            "share of the sampling period in which device memory was read or written",
        ),
        Metric(
            "graphics_active_ratio", "engine activity", "ratio", "share of time in which the compute engine was busy"
        ),
        Metric("sm_active_ratio", "SM activity", "ratio", "share of time in which an SM had work, mean over all SMs"),
        Metric("sm_occupancy_ratio", "SM occupancy", "ratio", "warps resident on the SMs / warps that fit"),
        Metric("tensor_active_ratio", "tensor-core activity", "ratio", "share of time in which tensor cores worked"),
        Metric("dram_active_ratio", "DRAM activity", "ratio", "memory bandwidth in use / memory bandwidth there is"),
        Metric("memory_used_bytes", "memory used", "bytes", "device memory in use, whoever's it is"),
        Metric("memory_total_bytes", "memory", "bytes", "device memory there is"),
        Metric("power_w", "power", "W", "power draw of the whole board"),
        Metric("energy_j_total", "energy counter", "J", "energy since the driver was loaded"),
        Metric("temperature_c", "temperature", "°C", "temperature of the chip"),
        Metric("sm_clock_mhz", "SM clock", "MHz", "clock of the SMs"),
        Metric("memory_clock_mhz", "memory clock", "MHz", "clock of the memory"),
        Metric("pcie_tx_bytes_per_s", "PCIe sent", "bytes/s", "sent by the GPU over PCIe"),
        Metric("pcie_rx_bytes_per_s", "PCIe received", "bytes/s", "received by the GPU over PCIe"),
        Metric("stale_s", "age of its values", "s", "time since any value of the device changed, as far as was seen"),
        Metric("process_memory_bytes", "process memory", "bytes", "device memory of one process, or of one server's"),
        Metric(
            "process_sm_ratio",
            "process SM use",
            "ratio",
            "share of the sampling periods in which a kernel of the process ran",
        ),
        Metric(
            "kv_cache_usage", "KV-cache use", "ratio", "KV-cache blocks in use / blocks there are, of a whole server"
        ),
        Metric("kv_cache_peak", "KV-cache peak", "ratio", "highest sampled KV-cache use, with the time"),
        Metric("requests_running", "running", "requests", "requests in the server's batch, all tenants'"),
        Metric("requests_waiting", "waiting", "requests", "requests in the server's queue, all tenants'"),
        Metric("requests_swapped", "swapped", "requests", "requests whose KV cache was moved to the host's memory"),
        Metric("preemptions", "preemptions", "", "requests whose KV cache was taken away while they ran"),
        Metric(
            "hit_rate",
            "prefix-cache hit rate",
            "ratio",
            "prompt tokens found in the prefix cache / prompt tokens looked up, in the window",
        ),
        Metric(
            "queue_ms",
            "time in the queue",
            "ms",
            "from arrival at the engine until it was scheduled, as the engine tells",
        ),
        Metric("compute_ms", "time of compute", "ms", "prefill and decode of the request, as the engine tells"),
    )
}
