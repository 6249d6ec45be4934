"""Placement: where a server is to run, and how much of the GPU's memory it may have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile

__all__ = ["Placement", "memory_shares", "tenant_groups"]


@dataclass(frozen=True)
class Placement:
    """One server that is to be started.

    Attributes:
        part: its number, from 0; `logical` has one part, else each tenant has one.
        tenants: whom it serves.
        environment: variables that put it there, such as CUDA_VISIBLE_DEVICES; an empty value unsets the variable.
        memory_fraction: what it may use of the whole device's memory, or of its slice's; above 0 and at most 1.
        device: for containers: `0`, `0:1` (GPU and MIG index) or a UUID; None: `server.gpu`.
    """

    part: int
    tenants: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_fraction: float = 0.9
    device: str | None = None


def tenant_groups(profile: Profile) -> tuple[tuple[str, ...], ...]:
    """The tenants of each part, by its number: all in one under `logical`, else each in its own."""
    every = tuple(tenant.id for tenant in profile.tenants)
    return (every,) if profile.deployment.sharing == "logical" else tuple((tenant,) for tenant in every)


def memory_shares(profile: Profile) -> tuple[float, ...]:
    """By part, what its server may use of the whole GPU's memory: its share of `gpu_memory_utilization`.

    A tenant's share is its `memory_percent`; those who have none get an even part of the rest. Not for MIG, where each
    has a slice to itself. Raises ServingError when nothing is left for somebody.
    """
    server = profile.deployment.server
    groups = tenant_groups(profile)
    if len(groups) == 1:
        return (server.gpu_memory_utilization,)
    given = {tenant: server.memory_percent[tenant] for (tenant,) in groups if tenant in server.memory_percent}
    others = [tenant for (tenant,) in groups if tenant not in given]
    left = 100 - math.fsum(given.values())
    if others and left <= 0:
        raise ServingError(
            f"deployment.server.memory_percent: {math.fsum(given.values()):g} in all leaves nothing of 100 for "
            f"{', '.join(map(repr, others))}; give them a number, or the others less"
        )
    percent = [given.get(tenant, left / max(1, len(others))) for (tenant,) in groups]
    return tuple(server.gpu_memory_utilization * share / 100 for share in percent)
