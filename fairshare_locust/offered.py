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
from fairshare_locust.trace import TraceRows, load_traces, row_times
from fairshare_locust.workload import PromptSource, expected_requests, prepare_prompts

__all__ = ["Offered", "asked_lengths", "offered_load"]

# So many requests, the first ones, stand for all.
_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Offered:
    """A tenant's load in one phase. Rates and counts are None for a closed loop: the server's speed decides.

    `arrivals` includes the warm-up; each is a request or, where there are conversations, one of these with `turns`
    requests on average. The mean lengths are those of the very requests that will be sent, answers of the length
    asked for. `sampled` are the lengths, prompt and answer together, of the first of them.
    """

    tenant: Tenant
    phase: Phase
    arrivals_per_s: float | None
    arrivals: int | None
    turns: float
    mean_input_tokens: float
    mean_output_tokens: float
    sampled: tuple[int, ...]

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
    lengths: list[tuple[int, int]] = []
    firsts = 0
    while len(lengths) < _SAMPLE and (firsts == 0 or count is None or firsts < count):
        lengths += asked_lengths(prompts, firsts)
        firsts += 1
    return Offered(
        tenant=tenant,
        phase=phase,
        arrivals_per_s=_rate(tenant, seed, phase, traces),
        arrivals=count,
        turns=len(lengths) / firsts,
        mean_input_tokens=sum(asked for asked, _ in lengths) / len(lengths),
        mean_output_tokens=sum(wanted for _, wanted in lengths) / len(lengths),
        sampled=tuple(asked + wanted for asked, wanted in lengths),
    )


def asked_lengths(prompts: PromptSource, index: int) -> Iterator[tuple[int, int]]:
    """Tokens in and out of the request with this index and, if it opens a conversation, of all that follow it."""
    request = prompts.request(index)
    yield request.input_tokens, request.output_tokens
    while (turn := prompts.follow_up(index, request, "", request.output_tokens)) is not None:
        request = turn.request
        yield request.input_tokens, request.output_tokens


def _rate(tenant: Tenant, seed: int, phase: Phase, traces: Mapping[str, TraceRows]) -> float | None:
    """The process's own rate; where it varies, its mean over the measurement."""
    arrival = scaled_arrival(tenant.arrival, phase.load)
    if isinstance(arrival, ClosedArrival | BatchArrival):
        return None
    if isinstance(arrival, ConstantArrival | PoissonArrival | GammaArrival | WeibullArrival) and not arrival.active_s:
        return arrival.rate_per_s
    schedule = open_schedule(arrival, seed, tenant.id, row_times(tenant, traces))
    if phase.duration_s is None:
        return None
    before = count_before(schedule, phase.warmup_s)
    return (count_before(schedule, phase.warmup_s + phase.duration_s) - before) / phase.duration_s
