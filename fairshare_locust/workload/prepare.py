"""Preparing every tenant's prompts before the load starts."""

from __future__ import annotations

from collections.abc import Mapping

from fairshare_locust.arrival import count_before, open_schedule
from fairshare_locust.plan import Phase
from fairshare_locust.profile.arrivals import ClosedArrival
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.profile.workloads import SyntheticWorkload
from fairshare_locust.workload.file import FileSource
from fairshare_locust.workload.source import PromptSource
from fairshare_locust.workload.synthetic import POOL, SyntheticSource, Words
from fairshare_locust.workload.tokenizer import load_tokenizer

__all__ = ["expected_requests", "prepare_prompts"]


def expected_requests(tenant: Tenant, seed: int, phase: Phase) -> int | None:
    """Requests of a tenant in a phase; None for a closed loop, where the server's speed decides."""
    if isinstance(tenant.arrival, ClosedArrival):
        return phase.requests if phase.warmup_s == 0 else None
    schedule = open_schedule(tenant.arrival, seed, tenant.id)
    if phase.requests is not None:
        return count_before(schedule, phase.warmup_s) + phase.requests
    return count_before(schedule, phase.warmup_s + (phase.duration_s or 0.0))


def prepare_prompts(profile: Profile, plan: tuple[Phase, ...]) -> Mapping[str, PromptSource]:
    """A prompt source for each tenant, by id. Raises WorkloadError."""
    tokenizer = load_tokenizer(profile.model.tokenizer)
    words: Words | None = None
    sources: dict[str, PromptSource] = {}
    for tenant in profile.tenants:
        if isinstance(tenant.workload, SyntheticWorkload):
            words = words or Words(tokenizer)
            expected = _most(tenant, profile.seed, plan)
            sources[tenant.id] = SyntheticSource(tenant.workload, profile.seed, tenant.id, tokenizer, words, expected)
        else:
            sources[tenant.id] = FileSource(tenant.workload, profile.seed, tenant.id, tokenizer)
    return sources


def _most(tenant: Tenant, seed: int, plan: tuple[Phase, ...]) -> int:
    counts = [expected_requests(tenant, seed, phase) for phase in plan if tenant.id in phase.tenants]
    return max((POOL if count is None else count for count in counts), default=0)
