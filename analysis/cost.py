"""What the output cost, in money and in energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Cost", "cost_of", "cost_per_million_output_tokens", "joules_per_output_token"]


@dataclass(frozen=True)
class Cost:
    """US dollars per million output tokens, of all tenants and of each; None where no token came."""

    total: float | None
    tenants: tuple[float | None, ...]


def cost_per_million_output_tokens(usd: float, tokens: float) -> float | None:
    """Price of the window over the output tokens that arrived in it × 1e6."""
    return usd / tokens * 1e6 if tokens else None


def cost_of(gpu_hour_usd: float, gpus: int, length_s: float, tokens: Sequence[float], service: Sequence[float]) -> Cost:
    """Share the price of a window's GPUs among tenants by their unweighted service in it.

    Args:
        tokens, service: per tenant, output tokens and service (weighted tokens) in the window.
    """
    usd = gpu_hour_usd * gpus * length_s / 3600
    all_service = sum(service)
    return Cost(
        total=cost_per_million_output_tokens(usd, sum(tokens)),
        tenants=tuple(
            cost_per_million_output_tokens(usd * own / all_service, count) if all_service else None
            for count, own in zip(tokens, service, strict=True)
        ),
    )


def joules_per_output_token(joules: float | None, tokens: float) -> float | None:
    """Energy over the window / output tokens that arrived in it; None where either is not known or no token came."""
    return joules / tokens if joules is not None and tokens else None
