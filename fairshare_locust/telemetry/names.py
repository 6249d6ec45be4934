"""Names of metrics: what each engine calls a thing, and what it is called here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CACHE_CONFIG", "DCGM", "HISTOGRAMS", "LIVE", "PREFIX_CACHE", "SERVER", "DcgmField", "ServerMetric"]


@dataclass(frozen=True, slots=True)
class ServerMetric:
    """A gauge or counter of a server.

    Attributes:
        name: with the unit; a counter ends in `_total`, a share of 1 is what has no unit.
        known_as: the ways to get it; the first whose names are all there counts, and its names are added up.
        labels: what becomes of its values under different labels (finish reasons, several engines).
    """

    name: str
    known_as: tuple[tuple[str, ...], ...]
    labels: Literal["sum", "max"] = "sum"


SERVER = (
    # The fullest engine preempts first. vLLM's is a share of 1, whatever its name says.
    ServerMetric(
        "kv_cache_usage",
        (("vllm:kv_cache_usage_perc",), ("vllm:gpu_cache_usage_perc",), ("llamacpp:kv_cache_usage_ratio",)),
        labels="max",
    ),
    ServerMetric(
        "requests_running",
        (("vllm:num_requests_running",), ("tgi_batch_current_size",), ("llamacpp:requests_processing",)),
    ),
    ServerMetric(
        "requests_waiting", (("vllm:num_requests_waiting",), ("tgi_queue_size",), ("llamacpp:requests_deferred",))
    ),
    ServerMetric("requests_swapped", (("vllm:num_requests_swapped",),)),
    ServerMetric("requests_finished_total", (("vllm:request_success_total",), ("tgi_request_success",))),
    ServerMetric("requests_rejected_total", (("vllm:admission_rejections_total",),)),
    ServerMetric("preemptions_total", (("vllm:num_preemptions_total",),)),
    ServerMetric(
        "prefix_cache_queries_tokens_total",
        (
            ("vllm:prefix_cache_queries_total",),
            ("vllm:gpu_prefix_cache_queries_total",),
            ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),
        ),
    ),
    ServerMetric(
        "prefix_cache_hits_tokens_total",
        (
            ("vllm:prefix_cache_hits_total",),
            ("vllm:gpu_prefix_cache_hits_total",),
            ("llamacpp:prompt_tokens_cached_total",),
        ),
    ),
    # All tokens of the prompts, found in the cache or not: llama-server counts the two apart.
    ServerMetric(
        "prompt_tokens_total",
        (
            ("vllm:prompt_tokens_total",),
            ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),
            ("llamacpp:prompt_tokens_total",),  # an older one, that doesn't tell what it found
            ("tgi_request_input_length_sum",),
        ),
    ),
    ServerMetric(
        "generation_tokens_total",
        (
            ("vllm:generation_tokens_total",),
            ("llamacpp:tokens_predicted_total",),
            ("tgi_request_generated_tokens_sum",),
        ),
    ),
)

PREFIX_CACHE = frozenset({"prefix_cache_queries_tokens_total", "prefix_cache_hits_tokens_total"})
"""vLLM before 0.9 counts these in blocks, as their help says."""

HISTOGRAMS: dict[str, tuple[str, ...]] = {
    "ttft_seconds": ("vllm:time_to_first_token_seconds",),
    "queue_seconds": (
        "vllm:request_queue_time_seconds",
        "vllm:time_in_queue_requests",  # of vLLM's first engine, and in seconds too
        "tgi_request_queue_duration",
    ),
    "prefill_seconds": ("vllm:request_prefill_time_seconds",),
    "decode_seconds": ("vllm:request_decode_time_seconds",),
    "inference_seconds": ("vllm:request_inference_time_seconds", "tgi_request_inference_duration"),
    "e2e_seconds": ("vllm:e2e_request_latency_seconds", "tgi_request_duration"),
}
"""Histograms by our name; the first that is there counts."""

CACHE_CONFIG = "vllm:cache_config_info"
"""A gauge of 1 whose labels are the configuration of the KV cache."""


@dataclass(frozen=True, slots=True)
class DcgmField:
    """A field of the DCGM exporter: our name of it, and what its values are multiplied by to have our unit."""

    name: str
    factor: float = 1.0


DCGM = {
    "DCGM_FI_DEV_GPU_UTIL": DcgmField("gpu_utilization_ratio", 0.01),
    "DCGM_FI_DEV_MEM_COPY_UTIL": DcgmField("memory_copy_utilization_ratio", 0.01),
    "DCGM_FI_DEV_FB_USED": DcgmField("memory_used_bytes", 2.0**20),
    "DCGM_FI_DEV_FB_FREE": DcgmField("memory_free_bytes", 2.0**20),
    "DCGM_FI_DEV_FB_RESERVED": DcgmField("memory_reserved_bytes", 2.0**20),
    "DCGM_FI_DEV_FB_TOTAL": DcgmField("memory_total_bytes", 2.0**20),
    "DCGM_FI_DEV_POWER_USAGE": DcgmField("power_w"),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": DcgmField("energy_j_total", 0.001),
    "DCGM_FI_DEV_GPU_TEMP": DcgmField("temperature_c"),
    "DCGM_FI_DEV_SM_CLOCK": DcgmField("sm_clock_mhz"),
    "DCGM_FI_DEV_MEM_CLOCK": DcgmField("memory_clock_mhz"),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": DcgmField("graphics_active_ratio"),
    "DCGM_FI_PROF_SM_ACTIVE": DcgmField("sm_active_ratio"),
    "DCGM_FI_PROF_SM_OCCUPANCY": DcgmField("sm_occupancy_ratio"),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": DcgmField("tensor_active_ratio"),
    "DCGM_FI_PROF_DRAM_ACTIVE": DcgmField("dram_active_ratio"),
    # A rate, though older exporters call them counters.
    "DCGM_FI_PROF_PCIE_TX_BYTES": DcgmField("pcie_tx_bytes_per_s"),
    "DCGM_FI_PROF_PCIE_RX_BYTES": DcgmField("pcie_rx_bytes_per_s"),
}

LIVE = frozenset(
    {
        *("kv_cache_usage", "requests_running", "requests_waiting", "preemptions_total"),
        *("gpu_utilization_ratio", "sm_active_ratio", "memory_used_bytes", "memory_total_bytes", "power_w"),
    }
)
"""What a live view shows."""
