"""The profile: what to run, against what, with which tenants. Plain frozen values; defaults stand here, once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fairshare_locust.cards import constants
from fairshare_locust.errors import CardError
from fairshare_locust.profile.arrivals import Arrival, TraceArrival
from fairshare_locust.profile.schema import allow, near
from fairshare_locust.profile.servers import ServerOptions
from fairshare_locust.profile.telemetry import Telemetry
from fairshare_locust.profile.traces import Trace
from fairshare_locust.profile.workloads import MixtureWorkload, TraceWorkload, Workload
from fairshare_locust.simulator.faults import Fault, FaultError

__all__ = [
    "Api",
    "Cost",
    "Deployment",
    "Engine",
    "Fairness",
    "Model",
    "PhaseOptions",
    "Profile",
    "Run",
    "Sampling",
    "ServerOptions",
    "ServiceWeights",
    "Sharing",
    "SimulatorOptions",
    "Slo",
    "Tenant",
    "Timeouts",
]

Api = Literal["openai_chat", "openai_completions", "tgi"]
Engine = Literal["simulator", "vllm", "tgi", "transformers", "external"]
Sharing = Literal["logical", "mps", "timeslice", "mig", "mig_emulated"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long a run warms up, measures and drains. Either `duration_s` or `requests` bounds the measurement."""

    warmup_s: float = allow(10.0, at_least=0)
    duration_s: float | None = allow(None, above=0)
    requests: int | None = allow(None, at_least=1)
    drain_s: float = allow(20.0, at_least=0)
    fairness_window_s: float = allow(5.0, above=0)

    def check(self) -> Iterator[tuple[str, str]]:
        """Exactly one bound."""
        if self.duration_s is None and self.requests is None:
            yield (
                "duration_s",
                "missing; give duration_s (seconds measured) or requests (a number for each tenant)",
            )
        if self.duration_s is not None and self.requests is not None:
            yield (
                "requests",
                f"found {self.requests} beside duration_s: {self.duration_s:g}; give one of the two",
            )


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model asked for, and the tokenizer that counts prompts."""

    name: str = allow(pattern=r"\S(.*\S)?", pattern_means="a name as the server knows it, or auto to ask the server")
    tokenizer: str = allow(
        "builtin", pattern=r"\S(.*\S)?", pattern_means="builtin, a folder, a tokenizer.json or a hub id"
    )


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """The modelled GPU of the embedded server, its engines, and how they share it.

    With `gpu` and `model` the constants come from their cards, but for those that are given. In code `on_card` does so.

    Attributes:
        gpu, model, dtype: cards, such as L4 and llama-3-8b; what the weights are stored in.
        step_base_ms: cost of any step on the host.
        weights_ms: reading the weights once, in every step; it hides as much computing.
        compute_per_token_us: computing one token, of a prompt or an answer.
        kv_read_per_token_ns: reading one KV token, of those that a decoding sequence attends to.
        step_per_sequence_us: added by each decoding sequence, on the host.
        kv_capacity_tokens: tokens the KV cache holds, prompts and answers together, where one engine has the whole GPU.
        max_num_seqs: sequences in the batch at once.
        max_num_batched_tokens: tokens, decoded and prefilled, in one step.
        max_model_len: longest prompt and answer together.
        scheduling_policy: who of the waiting comes first: `fcfs`, `priority` (lower first, then who came first), or
            fairly by tenant: `vtc` (virtual token counter), `drr` (deficit round robin).
        prefix_caching: prompts that begin alike share blocks of 16 KV tokens.
        jitter: sigma of a log-normal factor of mean 1 on each step's time.
        chat_template_tokens: what the chat template adds to a chat's prompt.
        per_request_metrics: an OpenAI answer says how long it waited and computed, as it does on a vLLM server with
            `--enable-per-request-metrics`.
        memory_mib: memory of the card; the defaults are an 8B model in bf16 on one of 24 GiB.
        weights_mib: what the weights take of it.
        kv_bytes_per_token: what each token in the KV cache takes of it.
        idle_w, busy_w: power while no step runs, and while one does.
        quantum_ms, switch_us: time-slicing: the longest turn of an engine, and what changing turns costs.
        contention_loss: MPS and MIG-like caps: the share of speed that engines lose while they use the GPU together.
        sm_percent, memory_percent, mig: by tenant id, where each has an engine of its own: at most so much of the SMs,
            so much of the memory, a MIG profile such as 3g.20gb. Without them each gets an even part; under MPS, whose
            active thread percentage it is, each may have all of the SMs.
        models: by tenant id, where each has an engine of its own: the card of the model that it has instead of `model`,
            with all that follows from it.
        faults: what goes wrong on purpose, each as `KIND[:rate=R][:after=S][:for=S][:seed=N]` with a KIND of stall,
            reset, error, slow and crash.
    """

    gpu: str | None = None
    model: str | None = None
    dtype: Literal["bf16", "int4"] = "bf16"
    step_base_ms: float = allow(8.0, above=0)
    weights_ms: float = allow(0.0, at_least=0)
    compute_per_token_us: float = allow(60.0, at_least=0)
    kv_read_per_token_ns: float = allow(0.0, at_least=0)
    step_per_sequence_us: float = allow(40.0, at_least=0)
    kv_capacity_tokens: int = allow(65536, at_least=1)
    max_num_seqs: int = allow(64, at_least=1)
    max_num_batched_tokens: int = allow(2048, at_least=1)
    max_model_len: int = allow(8192, at_least=1)
    scheduling_policy: Literal["fcfs", "priority", "vtc", "drr"] = "fcfs"
    prefix_caching: bool = True
    jitter: float = allow(0.0, at_least=0, at_most=1)
    chat_template_tokens: int = allow(0, at_least=0)
    per_request_metrics: bool = True
    memory_mib: int = allow(24576, at_least=1)
    weights_mib: int = allow(15316, at_least=0)
    kv_bytes_per_token: int = allow(131072, at_least=0)
    idle_w: float = allow(30.0, at_least=0)
    busy_w: float = allow(300.0, at_least=0)
    quantum_ms: float = allow(2.0, above=0)
    switch_us: float = allow(50.0, at_least=0)
    contention_loss: float = allow(0.05, at_least=0, at_most=0.9)
    sm_percent: dict[str, float] = field(default_factory=dict)
    memory_percent: dict[str, float] = field(default_factory=dict)
    mig: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @classmethod
    def on_card(cls, gpu: str, model: str, dtype: Literal["bf16", "int4"] = "bf16", **changes: Any) -> SimulatorOptions:
        """These cards' constants, but for the changes. Raises CardError for an unknown card or want of memory."""
        return cls(**cls._with_constants({"gpu": gpu, "model": model, "dtype": dtype, **changes}))

    @classmethod
    def fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The cards' constants where the profile names cards and doesn't give the constants itself."""
        if values.get("gpu") is None or values.get("model") is None:
            return values
        try:
            return cls._with_constants(values)
        except CardError:
            return values  # check tells

    @classmethod
    def _with_constants(cls, values: dict[str, Any]) -> dict[str, Any]:
        found = constants(values["gpu"], values["model"], values.get("dtype", cls.dtype))
        capacity = values.get("kv_capacity_tokens", found["kv_capacity_tokens"])
        return {**found, "max_model_len": min(found["max_model_len"], capacity), **values}

    def check(self) -> Iterator[tuple[str, str]]:
        """Cards must go together, a batch take every running sequence, the cache the longest, the card all of it."""
        if self.max_num_batched_tokens < self.max_num_seqs:
            yield (
                "max_num_batched_tokens",
                f"found {self.max_num_batched_tokens}; must be at least max_num_seqs ({self.max_num_seqs})",
            )
        if self.gpu is None and self.model is not None:
            yield "gpu", f"missing beside model: {self.model!r}; give both, or the constants themselves"
        elif self.gpu is not None and self.model is None:
            yield "model", f"missing beside gpu: {self.gpu!r}; give both, or the constants themselves"
        elif self.gpu is not None and self.model is not None:
            try:
                constants(self.gpu, self.model, self.dtype)
            except CardError as error:
                yield error.key, str(error)
                return  # without them nothing can be said of the cache
        yield from self._check_models()
        if self.kv_capacity_tokens < self.max_model_len:
            yield (
                "kv_capacity_tokens",
                f"found {self.kv_capacity_tokens}; must be at least max_model_len ({self.max_model_len})",
            )
        needed_mib = self.weights_mib + math.ceil(self.kv_capacity_tokens * self.kv_bytes_per_token / 2**20)
        if self.memory_mib < needed_mib:
            yield (
                "memory_mib",
                f"found {self.memory_mib}; must be at least {needed_mib}: weights_mib ({self.weights_mib}) and "
                f"kv_capacity_tokens ({self.kv_capacity_tokens}) of kv_bytes_per_token ({self.kv_bytes_per_token})",
            )
        if self.busy_w < self.idle_w:
            yield "busy_w", f"found {self.busy_w:g}; must be at least idle_w ({self.idle_w:g})"
        for i, fault in enumerate(self.faults):
            try:
                Fault.parse(fault)
            except FaultError as error:
                yield f"faults[{i}]", f"{fault!r}: {error}"

    @property
    def by_tenant(self) -> dict[str, Mapping[str, object]]:
        """The options that name tenants."""
        return {
            "sm_percent": self.sm_percent,
            "memory_percent": self.memory_percent,
            "mig": self.mig,
            "models": self.models,
        }

    def _check_models(self) -> Iterator[tuple[str, str]]:
        for tenant, name in self.models.items():
            if self.gpu is None or self.model is None:
                yield f"models.{tenant}", f"found {name!r}, but its constants need cards: give gpu and model, too"
                continue
            try:
                constants(self.gpu, name, self.dtype)
            except CardError as error:
                yield f"models.{tenant}", str(error)

    def of_tenant(self, tenant_id: str) -> SimulatorOptions:
        """Those of an engine of the tenant's own: with the constants of its model, if it has one in `models`."""
        name = self.models.get(tenant_id, self.model)
        if self.gpu is None or name is None or name == self.model:
            return self
        found: dict[str, Any] = constants(self.gpu, name, self.dtype)
        own = {key: found[key] for key in _OF_MODEL}
        length = min(self.max_model_len, found["max_model_len"])
        return replace(self, model=name, max_model_len=length, **own)


# What of a card's constants follows from the model.
_OF_MODEL = (
    *("weights_ms", "compute_per_token_us", "kv_read_per_token_ns"),
    *("kv_capacity_tokens", "weights_mib", "kv_bytes_per_token"),
)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Who serves, and how tenants share the GPU.

    `external`: a server that runs already; its sharing mode is then what you say it is. `simulator` has options of its
    own, `server` those of all the other engines that we start.
    """

    engine: Engine = "simulator"
    sharing: Sharing = "logical"
    simulator: SimulatorOptions = field(default_factory=SimulatorOptions)
    server: ServerOptions = field(default_factory=ServerOptions)

    @property
    def real(self) -> bool:
        """Whether we start an engine that needs a GPU, or a model at least."""
        return self.engine not in ("simulator", "external")

    def check(self) -> Iterator[tuple[str, str]]:
        """Options that the engine can't follow."""
        for key, message in self.server.refused(self.engine):
            yield f"server.{key}", message


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the server is asked to generate.

    `ignore_eos` asks for exactly the wanted number of tokens, in the way the server knows; a server that knows
    none is told of at the start. `continuous_usage` asks for token counts in every chunk (more bytes, but
    inter-token latency becomes exact).
    """

    temperature: float = allow(0.0, at_least=0, at_most=2)
    top_p: float | None = allow(None, above=0, at_most=1)
    top_k: int | None = allow(None, at_least=1)
    seed: int | None = allow(None, at_least=0, at_most=2**31 - 1)
    frequency_penalty: float | None = allow(None, at_least=-2, at_most=2)
    presence_penalty: float | None = allow(None, at_least=-2, at_most=2)
    ignore_eos: bool = True
    continuous_usage: bool = False


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds after which a request counts as failed; from `sent_s`, but `between_tokens_s` from the last token."""

    connect_s: float = allow(5.0, above=0)
    first_token_s: float = allow(60.0, above=0)
    between_tokens_s: float = allow(30.0, above=0)
    total_s: float = allow(300.0, above=0)


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Limits a request has to meet, all of those given; TTFT and e2e count from when it was due.

    `attainment` is the share of requests that have to meet them: with fewer, the SLO is broken.
    """

    ttft_ms: float | None = allow(None, above=0)
    tpot_ms: float | None = allow(None, above=0)
    e2e_ms: float | None = allow(None, above=0)
    attainment: float = allow(0.95, above=0, at_most=1)

    def check(self) -> Iterator[tuple[str, str]]:
        """At least one limit."""
        if self.ttft_ms is None and self.tpot_ms is None and self.e2e_ms is None:
            yield "", "no limit given; give ttft_ms, tpot_ms or e2e_ms, or leave slo out"


_SECRET_HEADER = re.compile(r"auth|secret|passw|api-?key|cookie|credential|token$", re.IGNORECASE)
_OWN_HEADERS = {
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "content-type",
    "accept",
    "accept-encoding",
    "user-agent",
    "x-request-id",
}


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """One user of the shared GPU: when it sends what, how, and what it was promised.

    Attributes:
        model: what it asks for instead of `model.name`, such as a LoRA adapter.
        priority: lower is served earlier, by a server that schedules by priority.
        cache_salt: keeps its prompts apart from those of other salts in a server's prefix cache.
    """

    id: str = allow(
        pattern=r"[A-Za-z][A-Za-z0-9_-]{0,62}",
        pattern_means="a letter, then letters, digits, - or _ (63 at most)",
    )
    weight: float = allow(1.0, above=0)
    api: Api = "openai_chat"
    endpoint: tuple[str, ...] | None = allow(
        None, or_one=True, pattern=r"https?://[^\s/?#@]+[^\s?#@]*", pattern_means="an http:// or https:// URL"
    )
    api_key_env: str | None = allow(
        None, pattern=r"[A-Za-z_][A-Za-z0-9_]*", pattern_means="the name of an environment variable"
    )
    headers: dict[str, str] = field(default_factory=dict)
    model: str | None = allow(None, pattern=r"\S(.*\S)?", pattern_means="a name as the server knows it")
    priority: int | None = allow(None, at_least=-(2**31), at_most=2**31 - 1)
    cache_salt: str | None = allow(
        None, pattern=r"[^\s@/\\\0]{1,128}", pattern_means="text without blanks, @, / or \\ (128 characters at most)"
    )
    arrival: Arrival
    workload: Workload
    sampling: Sampling = field(default_factory=Sampling)
    timeouts: Timeouts = field(default_factory=Timeouts)
    slo: Slo | None = None

    @property
    def class_name(self) -> str:
        """Name of the tenant's Locust user class: `chat-eu` makes `ChatEuTenant`."""
        return "".join(part[:1].upper() + part[1:] for part in re.split("[-_]", self.id)) + "Tenant"

    def check(self) -> Iterator[tuple[str, str]]:
        """Headers that would hold a secret, or break the request."""
        if self.endpoint == ():
            yield "endpoint", "found an empty list; give a URL, a list of URLs, or leave it out"
        for name, value in self.headers.items():
            if _SECRET_HEADER.search(name):
                yield (
                    f"headers.{name}",
                    "a key must not stand in a file; put it into an environment variable and name that "
                    "with api_key_env",
                )
            elif name.lower() in _OWN_HEADERS:
                yield f"headers.{name}", "this header is set by the client itself"
            elif not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                yield f"headers.{name}", f"found {name!r}; not a header name"
            elif not re.fullmatch(r"[\t\x20-\x7e]*", value):
                yield f"headers.{name}", f"found {value!r}; must be printable ASCII on one line"


@dataclass(frozen=True, kw_only=True)
class ServiceWeights:
    """Service of one input and of one output token (VTC, OSDI '24)."""

    input: float = allow(1.0, at_least=0)
    output: float = allow(2.0, at_least=0)

    def check(self) -> Iterator[tuple[str, str]]:
        """Not both zero."""
        if self.input == 0 and self.output == 0:
            yield "", "both weights are 0; at least one must count"


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """How service is weighed when tenants are compared."""

    service_weights: ServiceWeights = field(default_factory=ServiceWeights)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the GPU costs."""

    gpu_hour_usd: float = allow(at_least=0)
    gpus: int = allow(1, at_least=1)


@dataclass(frozen=True, kw_only=True)
class PhaseOptions:
    """A phase of the run: who is there, at which load, for how long. What is left out is as `run` says.

    A tenant's schedule begins anew in each phase, and is the same in all of them.

    Attributes:
        name: goes before `warmup`, `measure` and `drain` on records.
        tenants: who offers load; none named: all.
        load: multiplies rates, concurrency and streams in flight.
        stop_if_slo_breaks: no phase comes after this one if a tenant's SLO is broken in it.
    """

    name: str = allow(pattern=r"[A-Za-z0-9][A-Za-z0-9._+-]{0,126}", pattern_means="letters, digits, ., -, + or _")
    tenants: tuple[str, ...] = ()
    load: float = allow(1.0, above=0, at_most=1e6)
    warmup_s: float | None = allow(None, at_least=0)
    duration_s: float | None = allow(None, above=0)
    requests: int | None = allow(None, at_least=1)
    drain_s: float | None = allow(None, at_least=0)
    stop_if_slo_breaks: bool = False

    def check(self) -> Iterator[tuple[str, str]]:
        """One bound at most."""
        if self.duration_s is not None and self.requests is not None:
            yield "requests", f"found {self.requests} beside duration_s: {self.duration_s:g}; give one of the two"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A whole run. `seed` and a tenant's id fix its schedule and its requests.

    Without `phases` the run has one, with all tenants.
    """

    name: str = allow(
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", pattern_means="letters, digits, ., - or _ (63 at most)"
    )
    seed: int = allow(0, at_least=0, at_most=2**63 - 1)
    run: Run
    model: Model
    deployment: Deployment = field(default_factory=Deployment)
    traces: tuple[Trace, ...] = ()
    tenants: tuple[Tenant, ...]
    phases: tuple[PhaseOptions, ...] = ()
    telemetry: Telemetry = field(default_factory=Telemetry)
    fairness: Fairness = field(default_factory=Fairness)
    cost: Cost | None = None

    @property
    def slots(self) -> int:
        """Streams that may be open at once, of all tenants together: Locust's number of users."""
        return sum(tenant.arrival.slots for tenant in self.tenants)

    def check(self) -> Iterator[tuple[str, str]]:
        """Tenants that can't be told apart, and what an engine needs of them."""
        if not self.tenants:
            yield "tenants", "found an empty list; at least one tenant is needed"
        seen: dict[str, int] = {}
        classes: dict[str, int] = {}
        for i, tenant in enumerate(self.tenants):
            if tenant.id in seen:
                yield (
                    f"tenants[{i}].id",
                    f"found {tenant.id!r} again; tenants[{seen[tenant.id]}] has it already",
                )
            elif tenant.class_name in classes:
                other = self.tenants[classes[tenant.class_name]].id
                yield (
                    f"tenants[{i}].id",
                    f"found {tenant.id!r}; its user class {tenant.class_name} is that of {other!r}",
                )
            seen.setdefault(tenant.id, i)
            classes.setdefault(tenant.class_name, i)
            if tenant.endpoint and self.deployment.engine != "external":
                yield (
                    f"tenants[{i}].endpoint",
                    f"found {tenant.endpoint[0]!r}, but engine {self.deployment.engine!r} starts the server itself; "
                    "leave endpoint out or say deployment.engine: external",
                )
        yield from self._check_servers(list(seen))
        yield from self._check_active()
        yield from self._check_phases(set(seen))
        yield from self._check_traces()

    def _check_servers(self, tenant_ids: list[str]) -> Iterator[tuple[str, str]]:
        deployment = self.deployment
        for key, given in deployment.server.by_tenant.items():
            for tenant_id in given:
                if tenant_id not in tenant_ids:
                    yield (
                        f"deployment.server.{key}.{tenant_id}",
                        f"found {tenant_id!r}; no tenant has this id{near(tenant_id, tenant_ids)}",
                    )
        if not deployment.real:
            return
        if self.model.name == "auto":
            yield (
                "model.name",
                f"found 'auto'; engine {deployment.engine} starts the server itself: name a model of the hub, or a "
                "folder with one",
            )
        for i, tenant in enumerate(self.tenants):
            if tenant.api == "tgi" and deployment.engine != "tgi":
                yield (
                    f"tenants[{i}].api",
                    f"found 'tgi'; engine {deployment.engine} has openai_chat and openai_completions",
                )

    def _check_active(self) -> Iterator[tuple[str, str]]:
        counted = self.run.requests is not None or any(phase.requests is not None for phase in self.phases)
        for i, tenant in enumerate(self.tenants):
            if counted and tenant.arrival.active_s:
                yield (
                    f"tenants[{i}].arrival.active_s",
                    "found beside a number of requests; tenants that come and go need duration_s",
                )

    def _check_phases(self, tenant_ids: set[str]) -> Iterator[tuple[str, str]]:
        names: dict[str, int] = {}
        for i, phase in enumerate(self.phases):
            if phase.name in names:
                yield (
                    f"phases[{i}].name",
                    f"found {phase.name!r} again; phases[{names[phase.name]}] has it already",
                )
            names.setdefault(phase.name, i)
            for tenant_id in phase.tenants:
                if tenant_id not in tenant_ids:
                    yield f"phases[{i}].tenants", f"found {tenant_id!r}; no tenant has this id"
            there = [tenant for tenant in self.tenants if not phase.tenants or tenant.id in phase.tenants]
            if phase.stop_if_slo_breaks and all(tenant.slo is None for tenant in there):
                yield (
                    f"phases[{i}].stop_if_slo_breaks",
                    "found true, but no tenant of the phase has an slo that could break",
                )

    def _check_traces(self) -> Iterator[tuple[str, str]]:
        traces: dict[str, Trace] = {}
        known_tenants = [tenant.id for tenant in self.tenants]
        for i, trace in enumerate(self.traces):
            if trace.name in traces:
                yield f"traces[{i}].name", f"found {trace.name!r} again; a trace before has it already"
            traces.setdefault(trace.name, trace)
            for name in trace.assign.shares if trace.assign is not None else ():
                if name not in known_tenants and name not in trace.others:
                    yield (
                        f"traces[{i}].assign",
                        f"found {name!r}; no tenant has this id{near(name, known_tenants)} (name it in others, if "
                        "nobody is to send its rows)",
                    )
        for i, tenant in enumerate(self.tenants):
            for key, name in _named_traces(tenant):
                if name not in traces:
                    known = ", ".join(traces) or "none"
                    yield f"tenants[{i}].{key}", f"found {name!r}; traces named in this profile: {known}"
                    continue
                assign = traces[name].assign
                if assign is not None and tenant.id not in assign.shares:
                    yield (
                        f"tenants[{i}].{key}",
                        f"found {name!r}, which assigns no row to {tenant.id!r}; give it a part in that trace's assign",
                    )


def _named_traces(tenant: Tenant) -> Iterator[tuple[str, str]]:
    """The traces that a tenant names, with the keys that name them."""
    if isinstance(tenant.arrival, TraceArrival):
        yield "arrival.trace", tenant.arrival.trace
    if isinstance(tenant.workload, TraceWorkload):
        yield "workload.trace", tenant.workload.trace
    if isinstance(tenant.workload, MixtureWorkload):
        for j, part in enumerate(tenant.workload.parts):
            if isinstance(part.workload, TraceWorkload):
                yield f"workload.parts[{j}].workload.trace", part.workload.trace
