"""Profiles: the text of a small one, and hypothesis strategies for any."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

from fairshare_locust.cards import gpu_names, model_names
from fairshare_locust.profile import Profile, Tenant, parse_profile
from fairshare_locust.profile.arrivals import (
    Arrival,
    BatchArrival,
    ClosedArrival,
    ConstantArrival,
    GammaArrival,
    OnOffArrival,
    PoissonArrival,
    RampArrival,
    RateStep,
    StepsArrival,
    TraceArrival,
    WeibullArrival,
)
from fairshare_locust.profile.distribution import (
    ConstantDuration,
    ConstantLength,
    ExponentialDuration,
    LognormalDuration,
    LognormalLength,
    NormalLength,
    UniformDuration,
    UniformLength,
)
from fairshare_locust.profile.model import (
    Cost,
    Deployment,
    Fairness,
    Model,
    PhaseOptions,
    Run,
    Sampling,
    ServiceWeights,
    SimulatorOptions,
    Slo,
    Timeouts,
)
from fairshare_locust.profile.telemetry import Telemetry
from fairshare_locust.profile.traces import (
    Assign,
    AssignByHash,
    AssignByModel,
    AssignBySession,
    AssignByShare,
    Trace,
)
from fairshare_locust.profile.workloads import (
    ConversationWorkload,
    JsonlWorkload,
    MixturePart,
    MixtureWorkload,
    PlainWorkload,
    PrefixWorkload,
    SharegptWorkload,
    SyntheticWorkload,
    TextWorkload,
    TraceWorkload,
    Workload,
)

__all__ = ["MINIMAL", "parse", "profiles", "tenant"]

MINIMAL = """\
name: small
run: {duration_s: 60}
model: {name: tiny}
tenants:
  - id: chat
    arrival: {process: poisson, rate_per_s: 2}
    workload: {source: synthetic, input_tokens: 100, output_tokens: 10}
"""


def parse(text: str, folder: Path = Path()) -> Profile:
    """The profile of this text, which errors call `p.yaml`."""
    return parse_profile(text, source="p.yaml", folder=folder)


def tenant(id_: str = "chat", **values: Any) -> Tenant:
    """A tenant in one line: Poisson at 2 requests/s, 100 tokens in, 10 out."""
    values.setdefault("arrival", PoissonArrival(rate_per_s=2.0))
    values.setdefault(
        "workload",
        SyntheticWorkload(input_tokens=ConstantLength(value=100), output_tokens=ConstantLength(value=10)),
    )
    return Tenant(id=id_, **values)


_POSITIVE = st.floats(1e-6, 1e6, allow_nan=False)
_NOT_NEGATIVE = st.floats(0, 1e6, allow_nan=False)
_COUNT = st.integers(1, 100_000)
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
_ASCII = st.text(string.printable[:95], max_size=20)
_WORDS = ["on", "null", "1", "~", "<<", "1e3", "x.y", "true", "a: b", "#", "2026-01-01"]  # YAML reads into them
_HEADERS = st.dictionaries(
    st.sampled_from(["X-Tenant", "X-Priority", "on", "null", "1", "~", "X-~", "1e3", "x.y", "true"]), _ASCII, max_size=3
)
_LENGTHS = st.one_of(
    st.builds(ConstantLength, value=_COUNT),
    st.tuples(_COUNT, _COUNT).map(lambda pair: UniformLength(low=min(pair), high=max(pair))),
    st.builds(NormalLength, mean=_POSITIVE, std=_NOT_NEGATIVE, min=st.just(1), max=st.none() | _COUNT),
    st.builds(
        LognormalLength,
        mean=_POSITIVE,
        sigma=st.floats(0, 5),
        min=st.integers(1, 9),
        max=st.integers(9, 99) | st.none(),
    ),
)
_DURATIONS = st.one_of(
    st.builds(ConstantDuration, value=_NOT_NEGATIVE),
    st.tuples(_NOT_NEGATIVE, _NOT_NEGATIVE).map(lambda pair: UniformDuration(low=min(pair), high=max(pair))),
    st.builds(ExponentialDuration, mean=_POSITIVE, max=st.none() | _POSITIVE),
    st.builds(LognormalDuration, mean=_POSITIVE, sigma=st.floats(0, 5), max=st.none() | _POSITIVE),
)
_STRETCHES = st.lists(_NOT_NEGATIVE, unique=True, max_size=5).map(
    lambda times_s: tuple(zip(sorted(times_s)[::2], sorted(times_s)[1::2], strict=False))
)

_OPEN = {"max_in_flight": _COUNT, "overflow": st.sampled_from(["wait", "shed"])}
_RATED = {"rate_per_s": _POSITIVE, **_OPEN}
_BASE = st.sampled_from(["poisson", "constant"])
_ARRIVALS: st.SearchStrategy[Arrival] = st.one_of(
    st.builds(ClosedArrival, concurrency=_COUNT, think_s=_DURATIONS),
    st.builds(BatchArrival, size=_COUNT, think_s=_DURATIONS),
    st.builds(ConstantArrival, **_RATED),
    st.builds(PoissonArrival, **_RATED),
    st.builds(GammaArrival, burstiness=st.floats(0.001, 1e6), **_RATED),
    st.builds(GammaArrival, cv=st.floats(0.001, 30), **_RATED),
    st.builds(WeibullArrival, shape=st.floats(0.1, 1000), **_RATED),
    st.builds(
        OnOffArrival,
        on_s=st.floats(0.001, 1e6),
        off_s=st.floats(0.001, 1e6),
        off_rate_per_s=_NOT_NEGATIVE,
        durations=st.sampled_from(["fixed", "exponential"]),
        base=_BASE,
        **_RATED,
    ),
    *(
        st.builds(RampArrival, from_per_s=a, to_per_s=b, over_s=_POSITIVE, after_s=_NOT_NEGATIVE, base=_BASE, **_OPEN)
        for a, b in ((_POSITIVE, _NOT_NEGATIVE), (_NOT_NEGATIVE, _POSITIVE))
    ),
    st.builds(
        StepsArrival,
        steps=st.tuples(
            st.builds(RateStep, rate_per_s=_POSITIVE, for_s=_POSITIVE),
            st.builds(RateStep, rate_per_s=_NOT_NEGATIVE, for_s=_POSITIVE),
        )
        .flatmap(st.permutations)
        .map(tuple),
        loop=st.booleans(),
        base=_BASE,
        **_OPEN,
    ),
)


def _trace_arrivals(names: list[str]) -> st.SearchStrategy[Arrival]:
    named = {"trace": st.sampled_from(names), "loop": st.booleans(), **_OPEN}
    return st.builds(TraceArrival, speed=_POSITIVE, **named) | st.builds(TraceArrival, rate_per_s=_POSITIVE, **named)


def _plain_workloads(file: Path, traces: list[str]) -> st.SearchStrategy[PlainWorkload]:
    path, shared = st.just(file), st.booleans()
    kinds: list[st.SearchStrategy[PlainWorkload]] = [
        st.builds(SyntheticWorkload, input_tokens=_LENGTHS, output_tokens=_LENGTHS),
        st.builds(JsonlWorkload, path=path, output_tokens=_LENGTHS, share_prefix=shared),
        st.builds(TextWorkload, path=path, output_tokens=_LENGTHS, share_prefix=shared),
        st.builds(
            SharegptWorkload,
            path=path,
            output_tokens=st.none() | _LENGTHS,
            conversation=st.booleans(),
            think_s=_DURATIONS,
            share_prefix=shared,
        ),
        st.builds(
            ConversationWorkload,
            turns=_LENGTHS,
            system_tokens=st.integers(0, 1_000_000),
            input_tokens=_LENGTHS,
            output_tokens=_LENGTHS,
            think_s=_DURATIONS,
        ),
        st.builds(
            PrefixWorkload,
            groups=st.integers(1, 10_000),
            zipf=st.floats(0, 10),
            prefix_tokens=_LENGTHS,
            input_tokens=_LENGTHS,
            output_tokens=_LENGTHS,
            share_prefix=shared,
        ),
    ]
    if traces:
        at_most = st.none() | _COUNT
        kinds.append(
            st.builds(
                TraceWorkload,
                trace=st.sampled_from(traces),
                max_input_tokens=at_most,
                max_output_tokens=at_most,
            )
        )
    return st.one_of(kinds)


def _workloads(file: Path, traces: list[str]) -> st.SearchStrategy[Workload]:
    plain = _plain_workloads(file, traces)
    parts = st.lists(st.builds(MixturePart, weight=_POSITIVE, workload=plain), min_size=1, max_size=3)
    return plain | st.builds(MixtureWorkload, parts=parts.map(tuple))


_DEALT: list[tuple[Literal["azure", "burstgpt", "mooncake"], type[Assign] | None]] = [
    ("azure", None),
    ("azure", AssignByShare),
    ("burstgpt", None),
    ("burstgpt", AssignByShare),
    ("burstgpt", AssignBySession),
    ("burstgpt", AssignByModel),
    ("mooncake", None),
    ("mooncake", AssignByShare),
    ("mooncake", AssignByHash),
]


def _assigns(kind: type[Assign], ids: list[str]) -> st.SearchStrategy[Assign]:
    tenants = st.sampled_from(ids)
    if kind is AssignByModel:
        return st.builds(
            AssignByModel, models=st.dictionaries(st.sampled_from(_WORDS) | _TEXT, tenants, min_size=1, max_size=3)
        )
    return st.builds(kind, shares=st.dictionaries(tenants, _POSITIVE, min_size=1, max_size=3))


@st.composite
def _traces(draw: st.DrawFn, file: Path, ids: list[str]) -> tuple[Trace, ...]:
    traces = []
    for name in draw(st.lists(_NAMES, max_size=3, unique=True)):
        trace_format, kind = draw(st.sampled_from(_DEALT))
        from_s, to_s = draw(st.sampled_from([(0.0, None), (0.0, 1.5), (60.0, None), (3600.0, 7200.0)]))
        traces.append(
            Trace(
                name=name,
                path=file,
                format=trace_format,
                from_s=from_s,
                to_s=to_s,
                assign=None if kind is None else draw(_assigns(kind, ids)),
            )
        )
    return tuple(traces)


_IDS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True) | st.sampled_from(["on", "null", "true", "n"])
_ENDPOINTS = st.lists(
    st.sampled_from(["http://a:1", "https://b.example/v1", "http://[::1]:80/x"]), min_size=1, max_size=3
).map(tuple)
_PENALTIES = st.none() | st.floats(-2, 2)
_SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_p=st.none() | st.floats(0.01, 1),
    top_k=st.none() | _COUNT,
    seed=st.none() | st.integers(0, 2**31 - 1),
    frequency_penalty=_PENALTIES,
    presence_penalty=_PENALTIES,
    ignore_eos=st.booleans(),
    continuous_usage=st.booleans(),
)
_TIMEOUTS = st.builds(
    Timeouts,
    connect_s=_POSITIVE,
    first_token_s=_POSITIVE,
    between_tokens_s=_POSITIVE,
    total_s=_POSITIVE,
)
_SLOS = st.builds(
    Slo,
    ttft_ms=_POSITIVE,
    tpot_ms=st.none() | _POSITIVE,
    e2e_ms=st.none() | _POSITIVE,
    attainment=st.floats(0.001, 1),
)
_SALTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="@/\\"), min_size=1, max_size=20
)
_DURATION_RUNS = st.builds(
    Run,
    warmup_s=_NOT_NEGATIVE,
    duration_s=_POSITIVE,
    requests=st.none(),
    drain_s=_NOT_NEGATIVE,
    fairness_window_s=_POSITIVE,
)
_COUNTED_RUNS = st.builds(Run, duration_s=st.none(), requests=st.integers(1, 10**12))


@st.composite
def _tenants(draw: st.DrawFn, id_: str, file: Path, traces: list[str], external: bool, counted: bool) -> Tenant:
    arrival = draw(_ARRIVALS | _trace_arrivals(traces) if traces else _ARRIVALS)
    return Tenant(
        id=id_,
        weight=draw(_POSITIVE),
        api=draw(st.sampled_from(["openai_chat", "openai_completions", "tgi"])),
        endpoint=draw(st.none() | _ENDPOINTS) if external else None,
        api_key_env=draw(st.none() | st.just("SOME_KEY")),
        headers=draw(_HEADERS),
        model=draw(st.none() | _TEXT),
        priority=draw(st.none() | st.integers(-(2**31), 2**31 - 1)),
        cache_salt=draw(st.none() | _SALTS),
        arrival=arrival if counted else replace(arrival, active_s=draw(_STRETCHES)),
        workload=draw(_workloads(file, traces)),
        sampling=draw(_SAMPLING),
        timeouts=draw(_TIMEOUTS),
        slo=draw(st.none() | _SLOS),
    )


@st.composite
def _phases(draw: st.DrawFn, tenants: list[Tenant], counted: bool) -> tuple[PhaseOptions, ...]:
    seconds = st.none() | _NOT_NEGATIVE
    phases = []
    for name in draw(
        st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True), max_size=3, unique=True)
    ):
        there = draw(st.lists(st.sampled_from(tenants), max_size=3, unique_by=lambda tenant: tenant.id))
        promised = any(tenant.slo for tenant in there or tenants)
        bound = draw(st.sampled_from(["duration_s", "requests", None] if counted else ["duration_s", None]))
        phases.append(
            PhaseOptions(
                name=name,
                tenants=tuple(tenant.id for tenant in there),
                load=draw(_POSITIVE),
                warmup_s=draw(seconds),
                duration_s=draw(_POSITIVE) if bound == "duration_s" else None,
                requests=draw(_COUNT) if bound == "requests" else None,
                drain_s=draw(seconds),
                stop_if_slo_breaks=promised and draw(st.booleans()),
            )
        )
    return tuple(phases)


_URLS = st.none() | st.just("https://gpu.example:9400/metrics")
_TELEMETRY = st.builds(
    Telemetry,
    nvml=st.sampled_from(["auto", "never"]),
    nvml_interval_s=st.floats(0.1, 60),
    server_metrics=st.sampled_from(["auto", "never"]),
    server_metrics_interval_s=st.floats(0.05, 60),
    dcgm_url=_URLS,
    agent_url=_URLS,
    scrape_interval_s=st.floats(0.1, 60),
)


_SIMULATED = {
    "step_base_ms": _POSITIVE,
    "scheduling_policy": st.sampled_from(["fcfs", "priority"]),
    "chat_template_tokens": st.integers(0, 100),
    "faults": st.lists(st.sampled_from(["stall", "error:rate=0.5:seed=3", "crash:after=1"])).map(tuple),
}
_SIMULATORS = st.builds(SimulatorOptions, **_SIMULATED) | st.builds(
    SimulatorOptions.on_card,
    gpu=st.sampled_from(gpu_names()),
    model=st.sampled_from(model_names()),
    dtype=st.sampled_from(["bf16", "int4"]),
    kv_read_per_token_ns=_NOT_NEGATIVE,
    kv_capacity_tokens=st.integers(1, 10_000),
    **_SIMULATED,
)


@st.composite
def profiles(draw: st.DrawFn, file: Path) -> Profile:
    """Any valid profile; its files are all `file`."""
    external, counted = draw(st.booleans()), draw(st.booleans())
    ids = draw(st.lists(_IDS, min_size=1, max_size=4, unique=True))
    traces = draw(_traces(file, ids))
    own_traces = {
        id_: [trace.name for trace in traces if trace.assign is None or id_ in trace.assign.shares] for id_ in ids
    }
    tenants = [draw(_tenants(id_, file, own_traces[id_], external, counted)) for id_ in ids]
    return Profile(
        name=draw(_NAMES),
        seed=draw(st.integers(0, 2**63 - 1)),
        run=draw(_DURATION_RUNS | _COUNTED_RUNS if counted else _DURATION_RUNS),
        model=Model(name=draw(_TEXT), tokenizer=draw(_TEXT)),
        deployment=Deployment(
            engine="external" if external else "simulator",
            sharing=draw(st.sampled_from(["mps", "mig", "logical"])) if external else "logical",
            simulator=draw(_SIMULATORS),
        ),
        traces=traces,
        tenants=tuple(tenants),
        phases=draw(_phases(tenants, counted)),
        telemetry=draw(_TELEMETRY),
        fairness=Fairness(service_weights=ServiceWeights(input=draw(_NOT_NEGATIVE), output=draw(_POSITIVE))),
        cost=draw(st.none() | st.builds(Cost, gpu_hour_usd=_NOT_NEGATIVE, gpus=_COUNT)),
    )
