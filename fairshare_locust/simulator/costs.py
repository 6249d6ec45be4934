"""Costs: how long a step lasts on the modelled GPU, and what of the GPU it takes meanwhile.

    t = base + max(weights, compute · (prefill + decode tokens)) + kv read · KV tokens + per sequence · sequences

Reading the weights hides the arithmetic of small batches, so the longer of the two counts; Vidur's profiles of
Llama-3-8B (Agrawal et al., MLSys 2024) are flat below some 128 tokens for that reason. The host's part (`base`, `per
sequence`: scheduling, launching, sampling) leaves the GPU to others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from fairshare_locust.profile.model import SimulatorOptions

__all__ = ["StepCosts", "Work"]


class Work(NamedTuple):
    """What a step has to do, in seconds that it takes with the whole GPU to itself.

    `host_s` occupies no GPU; `weights_s` all of the memory's bandwidth and, at the same time, `compute_s` all of the
    SMs; then `kv_s` all of the bandwidth.
    """

    host_s: float
    weights_s: float
    compute_s: float
    kv_s: float

    @property
    def alone_s(self) -> float:
        """How long it lasts if nothing else runs."""
        return self.host_s + max(self.weights_s, self.compute_s) + self.kv_s


@dataclass(frozen=True, slots=True)
class StepCosts:
    """The constants of the formula, in seconds."""

    base_s: float
    weights_s: float
    compute_per_token_s: float
    kv_read_per_token_s: float
    per_sequence_s: float

    @classmethod
    def of(cls, options: SimulatorOptions) -> StepCosts:
        """Of the whole card."""
        return cls(
            base_s=options.step_base_ms * 1e-3,
            weights_s=options.weights_ms * 1e-3,
            compute_per_token_s=options.compute_per_token_us * 1e-6,
            kv_read_per_token_s=options.kv_read_per_token_ns * 1e-9,
            per_sequence_s=options.step_per_sequence_us * 1e-6,
        )

    def scaled(self, sm_share: float, bandwidth_share: float) -> StepCosts:
        """Of a slice with such shares of the SMs and of the bandwidth, each above 0 and at most 1."""
        return replace(
            self,
            weights_s=self.weights_s / bandwidth_share,
            compute_per_token_s=self.compute_per_token_s / sm_share,
            kv_read_per_token_s=self.kv_read_per_token_s / bandwidth_share,
        )

    def work(self, decoding: int, tokens: int, kv_tokens: int) -> Work:
        """Of a step with so many decoding sequences, tokens in all (prefill and decode), and KV tokens read."""
        return Work(
            self.base_s + self.per_sequence_s * decoding,
            self.weights_s,
            self.compute_per_token_s * tokens,
            self.kv_read_per_token_s * kv_tokens,
        )
