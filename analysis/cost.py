"""What the output cost, in money and in energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.requests import NEVER, SHED, Requests
from analysis.service import Intervals
from analysis.window import Window

__all__ = [
    "Cost",
    "cost_of",
    "cost_per_million_output_tokens",
    "idle_share",
    "joules_per_output_token",
    "shares_of_service",
]


@dataclass(frozen=True)
class Cost:
    """The price of a window, and who has to bear it.

    Attributes:
        total, tenants: US dollars per million output tokens, of all tenants and of each; None where no token came.
        window_usd: None for an empty window.
        tenants_usd: of each tenant; None where nobody had any service.
    """

    total: float | None
    tenants: tuple[float | None, ...]
    window_usd: float | None
    tenants_usd: tuple[float | None, ...]


def cost_per_million_output_tokens(usd: float, tokens: float) -> float | None:
    """Price of the window over the output tokens that arrived in it × 1e6."""
    return usd / tokens * 1e6 if tokens else None


def cost_of(
    gpu_hour_usd: float,
    gpus: int,
    length_s: float,
    tokens: Sequence[float],
    service: Sequence[float],
    slices: Sequence[float] | None = None,
) -> Cost:
    """Share the price of a window's GPUs among tenants: by slice where each owns one, else by unweighted service.

    Service is not divided by weight: a weight says what a tenant should get, not what it used. Idle time is in every
    tenant's price, as nobody else pays for it; what no slice holds is in none.

    Args:
        tokens, service: per tenant, output tokens and service (weighted tokens) in the window.
        slices: per tenant, its share of the GPU's compute.
    """
    usd = gpu_hour_usd * gpus * length_s / 3600 if length_s else None
    parts = shares_of_service(service) if slices is None else tuple(slices)
    own = tuple(None if usd is None or part is None else usd * part for part in parts)
    return Cost(
        total=None if usd is None else cost_per_million_output_tokens(usd, sum(tokens)),
        tenants=tuple(
            None if price is None else cost_per_million_output_tokens(price, count)
            for count, price in zip(tokens, own, strict=True)
        ),
        window_usd=usd,
        tenants_usd=own,
    )


def shares_of_service(service: Sequence[float]) -> tuple[float | None, ...]:
    """Each tenant's part of all service; None where there was none."""
    total = sum(service)
    return tuple(own / total if total else None for own in service)


def idle_share(requests: Requests, window: Window) -> float | None:
    """Share of a window in which no tenant had an unshed request outstanding (`scheduled_s` to `ended_s`).

    None for an empty window. A GPU that nobody asks for anything costs what a busy one costs.
    """
    if not window:
        return None
    some = (requests.outcome != SHED) & (requests.ended_ns != NEVER)
    busy = Intervals.union(requests.scheduled_ns[some], requests.ended_ns[some])
    busy_ns = sum(
        int((np.clip(busy.ends, start, end) - np.clip(busy.starts, start, end)).sum()) for start, end in window.spans
    )
    length_ns = sum(end - start for start, end in window.spans)
    return (length_ns - busy_ns) / length_ns


def joules_per_output_token(joules: float | None, tokens: float) -> float | None:
    """Energy over the window / output tokens that arrived in it; None where either is not known or no token came."""
    return joules / tokens if joules is not None and tokens else None
