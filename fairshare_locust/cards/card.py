"""Cards: what is known of a GPU, a model and a way to store weights, and the simulated engine's constants from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairshare_locust.errors import CardError

__all__ = ["BLOCK_TOKENS", "DtypeCard", "GpuCard", "MigProfile", "ModelCard", "derived"]

BLOCK_TOKENS = 16
"""The KV cache is handed out in blocks of so many tokens."""

_BF16_BYTES = 2
_MIB = 2**20
_USUAL_MODEL_LEN = 8192  # what a server is given that shares its cache: longer prompts are rare, and fill it alone


@dataclass(frozen=True, kw_only=True)
class MigProfile:
    """A slice of a GPU: sevenths of the compute, eighths of memory and bandwidth, and at most so many of it."""

    profile: str
    compute_sevenths: int
    memory_eighths: int
    memory_mib: int
    sms: int
    at_most: int


@dataclass(frozen=True, kw_only=True)
class GpuCard:
    """A GPU. Its file says what each constant means, and where it comes from."""

    name: str
    memory_mib: int
    bandwidth_gb_s: float
    bf16_tflop_s: float
    bandwidth_efficiency: float
    compute_efficiency: float
    step_base_ms: float
    step_per_sequence_us: float
    idle_w: float
    busy_w: float
    gpu_memory_utilization: float
    reserve_mib: int
    sms: int
    mig: tuple[MigProfile, ...]

    @property
    def bytes_per_s(self) -> float:
        """Memory bandwidth that is reached: peak · efficiency."""
        return self.bandwidth_gb_s * 1e9 * self.bandwidth_efficiency

    @property
    def flop_per_s(self) -> float:
        """Arithmetic in bf16 that is reached: dense peak · MFU."""
        return self.bf16_tflop_s * 1e12 * self.compute_efficiency


@dataclass(frozen=True, kw_only=True)
class DtypeCard:
    """What weights are stored in. Whatever it is, arithmetic and KV cache are in bf16."""

    name: str
    bytes_per_parameter: float
    compute_factor: float


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A model. Its file says what each constant means, and where it comes from."""

    name: str
    parameters: int
    unquantised_parameters: int
    layers: int
    kv_heads: int
    head_dim: int
    flop_per_token: float
    max_model_len: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token: layers · KV heads · head dimension · 2 · 2 bytes."""
        return self.layers * self.kv_heads * self.head_dim * 2 * _BF16_BYTES

    def weights_bytes(self, dtype: DtypeCard) -> int:
        """Quantised parameters · bytes of the dtype + the others · 2 bytes, rounded up."""
        quantised = self.parameters - self.unquantised_parameters
        return math.ceil(quantised * dtype.bytes_per_parameter + self.unquantised_parameters * _BF16_BYTES)


def derived(gpu: GpuCard, model: ModelCard, dtype: DtypeCard) -> dict[str, float | int]:
    """The simulator's constants on the whole GPU, by their names in a profile. Raises CardError for want of memory.

    weights_ms           = weights bytes / (bandwidth · efficiency)
    compute_per_token_us = FLOP per token · factor of the dtype / (FLOP/s · MFU)
    kv_read_per_token_ns = KV bytes per token / (bandwidth · efficiency)
    kv_capacity_tokens   = ⌊(utilisation · memory − weights − reserve) / (16 · KV bytes per token)⌋ · 16
    max_model_len        = the model's own, the cache's capacity, or 8192, whichever is least
    """
    weights_bytes = model.weights_bytes(dtype)
    capacity = _kv_capacity_tokens(gpu, model, dtype)
    return {
        "step_base_ms": gpu.step_base_ms,
        "weights_ms": weights_bytes / gpu.bytes_per_s * 1e3,
        "compute_per_token_us": model.flop_per_token * dtype.compute_factor / gpu.flop_per_s * 1e6,
        "kv_read_per_token_ns": model.kv_bytes_per_token / gpu.bytes_per_s * 1e9,
        "step_per_sequence_us": gpu.step_per_sequence_us,
        "kv_capacity_tokens": capacity,
        "max_model_len": min(model.max_model_len, capacity, _USUAL_MODEL_LEN),
        "memory_mib": gpu.memory_mib,
        "weights_mib": math.ceil(weights_bytes / _MIB),
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "idle_w": gpu.idle_w,
        "busy_w": gpu.busy_w,
    }


def _kv_capacity_tokens(gpu: GpuCard, model: ModelCard, dtype: DtypeCard) -> int:
    weights_mib = model.weights_bytes(dtype) / _MIB
    left_mib = gpu.memory_mib * gpu.gpu_memory_utilization - weights_mib - gpu.reserve_mib
    block_mib = BLOCK_TOKENS * model.kv_bytes_per_token / _MIB
    if left_mib < block_mib:
        smaller = "a smaller model" if dtype.name == "int4" else "a smaller model, or dtype int4"
        raise CardError(
            f"{model.name} in {dtype.name} doesn't fit on {gpu.name}: {gpu.memory_mib:,} MiB × "
            f"{gpu.gpu_memory_utilization:g} − {weights_mib:,.0f} MiB of weights − {gpu.reserve_mib:,} MiB in reserve "
            f"= {left_mib:,.0f} MiB for the KV cache, where {BLOCK_TOKENS} tokens need {block_mib:g} MiB; take a GPU "
            f"with more memory, {smaller}",
            "model",
        )
    return math.floor(left_mib / block_mib) * BLOCK_TOKENS
