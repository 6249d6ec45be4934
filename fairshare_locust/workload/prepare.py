"""Preparing every tenant's prompts before the load starts."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from fairshare_locust.arrival import count_before, open_schedule
from fairshare_locust.plan import Phase
from fairshare_locust.profile.arrivals import (
    BatchArrival,
    ClosedArrival,
    OpenArrival,
    RampArrival,
    StepsArrival,
    TraceArrival,
)
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.profile.workloads import (
    ConversationWorkload,
    JsonlWorkload,
    MixtureWorkload,
    PlainWorkload,
    PrefixWorkload,
    SharegptWorkload,
    SyntheticWorkload,
    TextWorkload,
    TraceWorkload,
)
from fairshare_locust.trace import TraceRows, row_times
from fairshare_locust.workload.conversation import ConversationSource
from fairshare_locust.workload.file import FilePrompt, FileSource, read_prompts
from fairshare_locust.workload.mixture import MixtureSource, Part
from fairshare_locust.workload.prefix import PrefixSource
from fairshare_locust.workload.sharegpt import RecordedConversation, SharegptSource, read_sharegpt
from fairshare_locust.workload.source import PromptSource
from fairshare_locust.workload.synthetic import POOL, SyntheticSource
from fairshare_locust.workload.tokenizer import load_tokenizer
from fairshare_locust.workload.trace import TraceSource
from fairshare_locust.workload.words import Words, words_of

__all__ = ["expected_requests", "prepare_prompts"]

_NO_TRACES: Mapping[str, TraceRows] = MappingProxyType({})
_NO_OVERHEAD: Mapping[str, int] = MappingProxyType({})


def expected_requests(
    tenant: Tenant, seed: int, phase: Phase, traces: Mapping[str, TraceRows] = _NO_TRACES
) -> int | None:
    """Requests of a tenant in a phase, warm-up included; a conversation counts as one.

    None for a closed loop and for batches, where the server's speed decides, unless all of the phase is measured
    and ends with a number of requests.
    """
    arrival = scaled_arrival(tenant.arrival, phase.load)
    if isinstance(arrival, ClosedArrival | BatchArrival):
        return phase.requests if phase.warmup_s == 0 else None
    schedule = open_schedule(arrival, seed, tenant.id, row_times(tenant, traces))
    if phase.requests is None:
        return count_before(schedule, phase.warmup_s + (phase.duration_s or 0.0))
    most = count_before(schedule, phase.warmup_s) + phase.requests
    return bisect_left(range(most), math.inf, key=schedule.due_s) if _ends(arrival) else most


def _ends(arrival: OpenArrival) -> bool:
    """Whether there is a last request. One that never ends may be asked for more than can be counted out."""
    if arrival.active_s and arrival.active_s[-1][1] < math.inf:
        return True
    match arrival:
        case TraceArrival(loop=loop):
            return not loop
        case StepsArrival(steps=steps, loop=loop):
            return not loop and steps[-1].rate_per_s == 0
        case RampArrival(to_per_s=to_per_s):
            return to_per_s == 0
    return False


def prepare_prompts(
    profile: Profile,
    plan: tuple[Phase, ...],
    traces: Mapping[str, TraceRows] = _NO_TRACES,
    overhead_tokens: Mapping[str, int] = _NO_OVERHEAD,
    *,
    checked: bool = True,
) -> Mapping[str, PromptSource]:
    """A prompt source for each tenant, by id. Raises WorkloadError.

    `traces` holds each trace that a tenant names; `overhead_tokens` what the chat template adds to a tenant's
    prompts, where that is known. Not `checked`: prompts of random words are not tokenized to see whether they have
    the tokens that they were made of; where nobody will count them again, that saves most of the time.
    """
    preparation = _Preparation(profile, traces, checked=checked)
    sources: dict[str, PromptSource] = {}
    for tenant in profile.tenants:
        expected = _most(tenant, profile.seed, plan, traces)
        overhead = overhead_tokens.get(tenant.id, 0)
        if isinstance(tenant.workload, MixtureWorkload):
            parts = [
                Part(part.weight, preparation.source(part.workload, tenant.id, f"{tenant.id}/{i}", expected, overhead))
                for i, part in enumerate(tenant.workload.parts)
            ]
            sources[tenant.id] = MixtureSource(parts, profile.seed, tenant.id)
        else:
            sources[tenant.id] = preparation.source(tenant.workload, tenant.id, tenant.id, expected, overhead)
    return sources


class _Preparation:
    """What the sources of a profile have in common: each is made once, when the first of them needs it."""

    def __init__(self, profile: Profile, traces: Mapping[str, TraceRows], *, checked: bool) -> None:
        self._seed = profile.seed
        self._traces = traces
        self._tokenizer = load_tokenizer(profile.model.tokenizer)
        self._checks = self._tokenizer if checked else None
        self._conversations: dict[Path, list[RecordedConversation]] = {}
        self._files: dict[tuple[Path, str], list[FilePrompt]] = {}

    @cached_property
    def _words(self) -> Words:
        return words_of(self._tokenizer)

    def _prompts(self, workload: JsonlWorkload | TextWorkload) -> list[FilePrompt]:
        """Of a file that several may name: it is read once."""
        file = (workload.path, workload.source)
        if file not in self._files:
            self._files[file] = read_prompts(workload)
        return self._files[file]

    def _recorded(self, path: Path) -> list[RecordedConversation]:
        if path not in self._conversations:
            self._conversations[path] = read_sharegpt(path)
        return self._conversations[path]

    def source(
        self, workload: PlainWorkload, tenant_id: str, stream_id: str, expected: int | None, overhead_tokens: int
    ) -> PromptSource:
        """The source of a tenant's workload; `stream_id` stands for the tenant in everything that is drawn.

        Parts of a mixture have one of their own, so that two alike do not ask the same.
        """
        seed, tokenizer, checks = self._seed, self._tokenizer, self._checks
        pool = POOL if expected is None else expected
        match workload:
            case JsonlWorkload() | TextWorkload():
                everyone = self._prompts(workload)
                return FileSource(workload, seed, stream_id, tokenizer, lines_of=tenant_id, everyone=everyone)
            case SharegptWorkload(path=path):
                return SharegptSource(workload, self._recorded(path), seed, stream_id, tokenizer, expected)
            case SyntheticWorkload():
                return SyntheticSource(workload, seed, stream_id, checks, self._words, pool, overhead_tokens)
            case PrefixWorkload():
                return PrefixSource(workload, seed, stream_id, checks, self._words, pool, overhead_tokens)
            case ConversationWorkload():
                return ConversationSource(workload, seed, stream_id, checks, self._words, overhead_tokens)
            case TraceWorkload(trace=trace):
                rows = self._traces[trace].of_tenant(tenant_id)
                return TraceSource(workload, rows, seed, stream_id, checks, self._words, pool, overhead_tokens)


def _most(tenant: Tenant, seed: int, plan: tuple[Phase, ...], traces: Mapping[str, TraceRows]) -> int | None:
    """Requests of the phase that has most of them; None when that can't be known."""
    most = 0
    for phase in plan:
        if tenant.id in phase.tenants:
            expected = expected_requests(tenant, seed, phase, traces)
            if expected is None:
                return None
            most = max(most, expected)
    return most
