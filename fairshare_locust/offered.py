"""What a profile will offer: requests and tokens per tenant, worked out without sending anything."""

from __future__ import annotations

from dataclasses import dataclass

from fairshare_locust.plan import Phase
from fairshare_locust.profile.arrivals import ClosedArrival
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.workload import PromptSource, expected_requests, prepare_prompts

__all__ = ["Offered", "offered_load"]

# A closed loop has no number of requests; the mean of so many stands for its prompts.
_CLOSED_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Offered:
    """A tenant's load in one phase. Rates and counts are None for a closed loop: the server's speed decides.

    `requests` includes the warm-up. The mean lengths are those of the very requests that will be sent.
    """

    tenant: Tenant
    requests_per_s: float | None
    requests: int | None
    mean_input_tokens: float
    mean_output_tokens: float

    @property
    def input_tokens_per_s(self) -> float | None:
        """Prompt tokens offered per second."""
        return None if self.requests_per_s is None else self.requests_per_s * self.mean_input_tokens

    @property
    def output_tokens_per_s(self) -> float | None:
        """Output tokens asked for per second."""
        return None if self.requests_per_s is None else self.requests_per_s * self.mean_output_tokens


def offered_load(profile: Profile, plan: tuple[Phase, ...]) -> list[Offered]:
    """The load of each tenant in the first phase of the plan that it takes part in. Raises WorkloadError."""
    prompts = prepare_prompts(profile, plan)
    load = []
    for tenant in profile.tenants:
        phase = next(phase for phase in plan if tenant.id in phase.tenants)
        load.append(_offered(tenant, profile.seed, phase, prompts[tenant.id]))
    return load


def _offered(tenant: Tenant, seed: int, phase: Phase, prompts: PromptSource) -> Offered:
    count = expected_requests(tenant, seed, phase)
    sample = [prompts.request(index) for index in range(max(1, _CLOSED_SAMPLE if count is None else count))]
    return Offered(
        tenant=tenant,
        requests_per_s=None if isinstance(tenant.arrival, ClosedArrival) else tenant.arrival.rate_per_s,
        requests=count,
        mean_input_tokens=sum(request.input_tokens for request in sample) / len(sample),
        mean_output_tokens=sum(request.output_tokens for request in sample) / len(sample),
    )
