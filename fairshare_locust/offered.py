"""What a profile will offer: requests and tokens per tenant, worked out without sending anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fairshare_locust.arrival import count_before, open_schedule
from fairshare_locust.plan import Phase
from fairshare_locust.profile.arrivals import (
    BatchArrival,
    ClosedArrival,
    ConstantArrival,
    GammaArrival,
    PoissonArrival,
    WeibullArrival,
)
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.trace import TraceRows, load_traces, trace_times_s
from fairshare_locust.workload import PromptRequest, PromptSource, expected_requests, prepare_prompts

__all__ = ["Offered", "offered_load"]

# The mean of so many requests, the first ones, stands for all.
_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Offered:
    """A tenant's load in one phase. Rates and counts are None for a closed loop: the server's speed decides.

    `arrivals` includes the warm-up; each is a request or, where there are conversations, one of these with `turns`
    requests on average. The mean lengths are those of the very requests that will be sent, answers of the length
    asked for.
    """

    tenant: Tenant
    phase: Phase
    arrivals_per_s: float | None
    arrivals: int | None
    turns: float
    mean_input_tokens: float
    mean_output_tokens: float

    @property
    def requests_per_s(self) -> float | None:
        """Requests offered per second, all turns counted."""
        return None if self.arrivals_per_s is None else self.arrivals_per_s * self.turns

    @property
    def requests(self) -> int | None:
        """Requests of the phase, all turns counted; of conversations an estimate."""
        return None if self.arrivals is None else round(self.arrivals * self.turns)

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
    traces = load_traces(profile)
    prompts = prepare_prompts(profile, plan, traces)
    load = []
    for tenant in profile.tenants:
        phase = next((phase for phase in plan if tenant.id in phase.tenants), None)
        if phase is not None:
            load.append(_offered(tenant, profile.seed, phase, prompts[tenant.id], traces))
    return load


def _offered(
    tenant: Tenant, seed: int, phase: Phase, prompts: PromptSource, traces: Mapping[str, TraceRows]
) -> Offered:
    count = expected_requests(tenant, seed, phase, traces)
    firsts = max(1, min(_SAMPLE, _SAMPLE if count is None else count))
    sample = [request for index in range(firsts) for request in _conversation(prompts, index)]
    return Offered(
        tenant=tenant,
        phase=phase,
        arrivals_per_s=_rate(tenant, seed, phase, traces),
        arrivals=count,
        turns=len(sample) / firsts,
        mean_input_tokens=sum(request.input_tokens for request in sample) / len(sample),
        mean_output_tokens=sum(request.output_tokens for request in sample) / len(sample),
    )


def _conversation(prompts: PromptSource, index: int) -> Iterator[PromptRequest]:
    """The request with this index and, if it opens a conversation, all that follow it."""
    request = prompts.request(index)
    yield request
    while (turn := prompts.follow_up(index, request, "", request.output_tokens)) is not None:
        request = turn.request
        yield request


def _rate(tenant: Tenant, seed: int, phase: Phase, traces: Mapping[str, TraceRows]) -> float | None:
    """The process's own rate; where it varies, its mean over the measurement."""
    arrival = scaled_arrival(tenant.arrival, phase.load)
    if isinstance(arrival, ClosedArrival | BatchArrival):
        return None
    if isinstance(arrival, ConstantArrival | PoissonArrival | GammaArrival | WeibullArrival) and not arrival.active_s:
        return arrival.rate_per_s
    schedule = open_schedule(arrival, seed, tenant.id, trace_times_s(tenant, traces))
    if phase.duration_s is None:
        return None
    before = count_before(schedule, phase.warmup_s)
    return (count_before(schedule, phase.warmup_s + phase.duration_s) - before) / phase.duration_s
