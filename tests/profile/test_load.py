"""Profiles that are right: defaults, shorthands, anchors, and the resolved form."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairshare_locust.profile import (
    Profile,
    arrivals,
    distribution,
    load_profile,
    model,
    resolved_yaml,
    servers,
    telemetry,
    traces,
    workloads,
)
from fairshare_locust.profile.arrivals import (
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
from fairshare_locust.profile.traces import AssignByHash, AssignByModel, AssignBySession, AssignByShare, Trace
from fairshare_locust.profile.workloads import (
    ConversationWorkload,
    JsonlWorkload,
    MixturePart,
    MixtureWorkload,
    PrefixWorkload,
    SharegptWorkload,
    SyntheticWorkload,
    TextWorkload,
    TraceWorkload,
)
from tests.profile.profiles import MINIMAL, parse, profiles

_PROFILES = Path(__file__).parents[2] / "profiles"


def test_defaults() -> None:
    profile = parse(MINIMAL)
    [tenant] = profile.tenants
    assert profile.name == "small"
    assert profile.seed == 0
    assert profile.run == model.Run(warmup_s=10, duration_s=60, requests=None, drain_s=20, fairness_window_s=5)
    assert profile.model.tokenizer == "builtin"
    assert (profile.deployment.engine, profile.deployment.sharing) == ("simulator", "logical")
    assert profile.fairness.service_weights == model.ServiceWeights(input=1, output=2)
    assert profile.cost is None
    assert profile.traces == ()
    assert profile.phases == ()
    assert tenant.weight == 1
    assert tenant.api == "openai_chat"
    assert tenant.endpoint is None
    assert tenant.api_key_env is None
    assert tenant.headers == {}
    assert (tenant.model, tenant.priority, tenant.cache_salt) == (None, None, None)
    assert tenant.arrival == PoissonArrival(rate_per_s=2, active_s=(), max_in_flight=64, overflow="wait")
    assert tenant.workload == SyntheticWorkload(
        input_tokens=ConstantLength(value=100), output_tokens=ConstantLength(value=10)
    )
    assert tenant.sampling == model.Sampling(
        temperature=0,
        top_p=None,
        top_k=None,
        seed=None,
        frequency_penalty=None,
        presence_penalty=None,
        ignore_eos=True,
        continuous_usage=False,
    )
    assert tenant.timeouts == model.Timeouts(connect_s=5, first_token_s=60, between_tokens_s=30, total_s=300)
    assert tenant.slo is None


def test_everything_said(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "hi"}\n')
    profile = parse(
        """\
name: all
seed: 9223372036854775807
run: {warmup_s: 0, requests: 100, drain_s: 1.5, fairness_window_s: 2}
model: {name: some/model, tokenizer: some/other}
deployment: {engine: external, sharing: mps}
tenants:
  - id: chat-eu
    weight: 2.5
    api: tgi
    endpoint: http://127.0.0.1:8000/v1
    api_key_env: CHAT_KEY
    headers: {X-Tenant: chat}
    arrival: {process: constant, rate_per_s: 0.5, max_in_flight: 3, overflow: shed}
    workload:
      source: jsonl
      path: prompts.jsonl
      output_tokens: {distribution: uniform, low: 3, high: 3}
      share_prefix: true
    sampling: {temperature: 0.7, top_p: 0.9, ignore_eos: false, continuous_usage: yes}
    timeouts: {connect_s: 1, first_token_s: 2, between_tokens_s: 3, total_s: 4}
    slo: {e2e_ms: 100}
  - id: batch
    endpoint: [http://a:1, http://b:2]
    arrival: {process: closed, concurrency: 4, think_s: 1}
    workload:
      source: synthetic
      input_tokens: {distribution: lognormal, mean: 512, sigma: 0.6, max: 3000}
      output_tokens: {distribution: normal, mean: 5, std: 1, min: 2}
fairness: {service_weights: {input: 0, output: 1}}
cost: {gpu_hour_usd: 2, gpus: 4}
""",
        tmp_path,
    )
    chat, batch = profile.tenants
    assert profile.seed == 2**63 - 1
    assert profile.run.requests == 100
    assert profile.run.duration_s is None
    assert chat.endpoint == ("http://127.0.0.1:8000/v1",)
    assert chat.headers == {"X-Tenant": "chat"}
    assert chat.arrival == ConstantArrival(rate_per_s=0.5, max_in_flight=3, overflow="shed")
    assert chat.workload == JsonlWorkload(
        path=(tmp_path / "prompts.jsonl").resolve(), output_tokens=UniformLength(low=3, high=3), share_prefix=True
    )
    assert chat.sampling.continuous_usage is True
    assert chat.slo == model.Slo(e2e_ms=100)
    assert chat.class_name == "ChatEuTenant"
    assert batch.endpoint == ("http://a:1", "http://b:2")
    assert batch.arrival == ClosedArrival(concurrency=4, think_s=ConstantDuration(value=1))
    assert batch.arrival.slots == 4
    assert batch.workload == SyntheticWorkload(
        input_tokens=LognormalLength(mean=512, sigma=0.6, max=3000), output_tokens=NormalLength(mean=5, std=1, min=2)
    )
    assert profile.cost == model.Cost(gpu_hour_usd=2, gpus=4)


_EVERY_KIND = """\
name: every-kind
run: {warmup_s: 5, duration_s: 300}
model: {name: tiny}
deployment: {simulator: {scheduling_policy: priority, chat_template_tokens: 12}}
traces:
  - name: code
    path: azure.csv
    format: azure
    from_s: 60
    to_s: 360.5
    assign: {by: share, shares: {chat: 3, batch: 0.5}}
  - {name: talks, path: burstgpt.csv, format: burstgpt, assign: {by: session, shares: {chat: 1}}}
  - {name: models, path: burstgpt.csv, format: burstgpt, assign: {by: model, models: {GPT-4: chat, ChatGPT: chat}}}
  - {name: blocks, path: mooncake.jsonl, format: mooncake, to_s: 10, assign: {by: hash, shares: {agent: 1}}}
  - {name: whole, path: mooncake.jsonl, format: mooncake}
tenants:
  - id: chat
    model: my-adapter
    priority: -1
    cache_salt: chat-1
    arrival: {process: trace, trace: code, speed: 2.5, loop: true, active_s: [[0, 30], [45.5, 60]]}
    workload:
      source: mixture
      parts:
        - workload: {source: trace, trace: code, max_input_tokens: 4000}
        - {weight: 2.5, workload: {source: synthetic, input_tokens: 7, output_tokens: 3}}
    sampling: {top_k: 20, seed: 7, frequency_penalty: -0.5, presence_penalty: 2}
    slo: {ttft_ms: 500, attainment: 0.9}
  - id: batch
    arrival: {process: batch, size: 8, think_s: {distribution: uniform, low: 0, high: 2.5}}
    workload: {source: text, path: prompts.txt}
  - id: agent
    arrival: {process: closed, concurrency: 2, think_s: {distribution: exponential, mean: 2, max: 30}}
    workload:
      source: conversation
      turns: {distribution: uniform, low: 2, high: 5}
      system_tokens: 200
      input_tokens: 50
      output_tokens: 80
      think_s: {distribution: lognormal, mean: 4, sigma: 0.7, max: 60}
  - id: paced
    arrival: {process: constant, rate_per_s: 2}
    workload: {source: jsonl, path: prompts.jsonl}
  - id: plain
    arrival: {process: poisson, rate_per_s: 2}
    workload: {source: sharegpt, path: sharegpt.json, conversation: true, think_s: 3}
  - id: vllm
    arrival: {process: gamma, rate_per_s: 2, burstiness: 0.25}
    workload: {source: sharegpt, path: sharegpt.json, output_tokens: 16}
  - id: uneven
    arrival: {process: gamma, rate_per_s: 2, cv: 2, max_in_flight: 9, overflow: shed}
    workload: {source: prefix, groups: 4, zipf: 0, prefix_tokens: 900, input_tokens: 9, output_tokens: 3}
  - id: even
    arrival: {process: weibull, rate_per_s: 2, shape: 3}
    workload: {source: prefix, prefix_tokens: 900, input_tokens: 9, output_tokens: 3, share_prefix: true}
  - id: bursts
    arrival: {process: on_off, rate_per_s: 9, on_s: 5, off_s: 15, durations: exponential}
    workload: {source: trace, trace: whole, max_output_tokens: 100}
  - id: growing
    arrival: {process: ramp, from_per_s: 0, to_per_s: 9, over_s: 60, after_s: 10, base: constant}
    workload:
      source: synthetic
      input_tokens: {distribution: lognormal, mean: 512, sigma: 0.6}
      output_tokens: {distribution: normal, mean: 5, std: 1}
  - id: stairs
    arrival:
      process: steps
      steps:
        - {rate_per_s: 1, for_s: 30}
        - {rate_per_s: 0, for_s: 1.5}
      loop: true
    workload: {source: trace, trace: whole}
  - id: replay
    arrival: {process: trace, trace: whole, rate_per_s: 4}
    workload: {source: trace, trace: whole}
phases:
  - {name: solo-chat, tenants: [chat], warmup_s: 0, duration_s: 60, drain_s: 1}
  - {name: all+2.5x, load: 2.5, stop_if_slo_breaks: true}
telemetry: {nvml: never, agent_url: "http://gpu:9401/metrics", agent_token_env: AGENT_TOKEN, scrape_interval_s: 2}
cost: {gpu_hour_usd: 0}
"""
_FILES = ("azure.csv", "burstgpt.csv", "mooncake.jsonl", "prompts.txt", "prompts.jsonl", "sharegpt.json")


@pytest.fixture
def every_kind(tmp_path: Path) -> Profile:
    """A profile with every process, workload, trace assignment and distribution."""
    for name in _FILES:
        (tmp_path / name).touch()
    return parse(_EVERY_KIND, tmp_path.resolve())


def test_every_arrival(every_kind: Profile) -> None:
    assert {tenant.id: tenant.arrival for tenant in every_kind.tenants} == {
        "chat": TraceArrival(trace="code", speed=2.5, loop=True, active_s=((0, 30), (45.5, 60))),
        "batch": BatchArrival(size=8, think_s=UniformDuration(low=0, high=2.5)),
        "agent": ClosedArrival(concurrency=2, think_s=ExponentialDuration(mean=2, max=30)),
        "paced": ConstantArrival(rate_per_s=2),
        "plain": PoissonArrival(rate_per_s=2),
        "vllm": GammaArrival(rate_per_s=2, burstiness=0.25),
        "uneven": GammaArrival(rate_per_s=2, cv=2, max_in_flight=9, overflow="shed"),
        "even": WeibullArrival(rate_per_s=2, shape=3),
        "bursts": OnOffArrival(
            rate_per_s=9, on_s=5, off_s=15, off_rate_per_s=0, durations="exponential", base="poisson"
        ),
        "growing": RampArrival(from_per_s=0, to_per_s=9, over_s=60, after_s=10, base="constant"),
        "stairs": StepsArrival(steps=(RateStep(rate_per_s=1, for_s=30), RateStep(rate_per_s=0, for_s=1.5)), loop=True),
        "replay": TraceArrival(trace="whole", speed=1, rate_per_s=4, loop=False),
    }


def test_every_workload(every_kind: Profile, tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    three, nine, long = (ConstantLength(value=value) for value in (3, 9, 900))
    assert {tenant.id: tenant.workload for tenant in every_kind.tenants} == {
        "chat": MixtureWorkload(
            parts=(
                MixturePart(weight=1, workload=TraceWorkload(trace="code", max_input_tokens=4000)),
                MixturePart(
                    weight=2.5, workload=SyntheticWorkload(input_tokens=ConstantLength(value=7), output_tokens=three)
                ),
            )
        ),
        "batch": TextWorkload(path=folder / "prompts.txt", output_tokens=ConstantLength(value=128)),
        "agent": ConversationWorkload(
            turns=UniformLength(low=2, high=5),
            system_tokens=200,
            input_tokens=ConstantLength(value=50),
            output_tokens=ConstantLength(value=80),
            think_s=LognormalDuration(mean=4, sigma=0.7, max=60),
        ),
        "paced": JsonlWorkload(path=folder / "prompts.jsonl"),
        "plain": SharegptWorkload(
            path=folder / "sharegpt.json", output_tokens=None, conversation=True, think_s=ConstantDuration(value=3)
        ),
        "vllm": SharegptWorkload(
            path=folder / "sharegpt.json",
            output_tokens=ConstantLength(value=16),
            conversation=False,
            think_s=ConstantDuration(value=1),
        ),
        "uneven": PrefixWorkload(groups=4, zipf=0, prefix_tokens=long, input_tokens=nine, output_tokens=three),
        "even": PrefixWorkload(
            groups=8, zipf=1, prefix_tokens=long, input_tokens=nine, output_tokens=three, share_prefix=True
        ),
        "bursts": TraceWorkload(trace="whole", max_output_tokens=100),
        "growing": SyntheticWorkload(
            input_tokens=LognormalLength(mean=512, sigma=0.6), output_tokens=NormalLength(mean=5, std=1)
        ),
        "stairs": TraceWorkload(trace="whole", max_input_tokens=None, max_output_tokens=None),
        "replay": TraceWorkload(trace="whole"),
    }


def test_every_trace(every_kind: Profile, tmp_path: Path) -> None:
    azure, burstgpt, mooncake = (tmp_path.resolve() / name for name in _FILES[:3])
    assert every_kind.traces == (
        Trace(
            name="code",
            path=azure,
            format="azure",
            from_s=60,
            to_s=360.5,
            assign=AssignByShare(shares={"chat": 3, "batch": 0.5}),
        ),
        Trace(name="talks", path=burstgpt, format="burstgpt", assign=AssignBySession(shares={"chat": 1})),
        Trace(
            name="models",
            path=burstgpt,
            format="burstgpt",
            assign=AssignByModel(models={"GPT-4": "chat", "ChatGPT": "chat"}),
        ),
        Trace(name="blocks", path=mooncake, format="mooncake", to_s=10, assign=AssignByHash(shares={"agent": 1})),
        Trace(name="whole", path=mooncake, format="mooncake", from_s=0, to_s=None, assign=None),
    )
    models = every_kind.traces[2].assign
    assert models is not None
    assert list(models.shares) == ["chat"]


def test_every_phase(every_kind: Profile) -> None:
    assert every_kind.phases == (
        model.PhaseOptions(name="solo-chat", tenants=("chat",), warmup_s=0, duration_s=60, drain_s=1),
        model.PhaseOptions(
            name="all+2.5x", tenants=(), load=2.5, warmup_s=None, duration_s=None, drain_s=None, stop_if_slo_breaks=True
        ),
    )


def test_what_a_tenant_asks_of_its_server(every_kind: Profile) -> None:
    chat = every_kind.tenants[0]
    assert (chat.model, chat.priority, chat.cache_salt) == ("my-adapter", -1, "chat-1")
    assert chat.sampling == model.Sampling(top_k=20, seed=7, frequency_penalty=-0.5, presence_penalty=2)
    assert chat.slo == model.Slo(ttft_ms=500, tpot_ms=None, e2e_ms=None, attainment=0.9)
    assert every_kind.deployment.simulator.scheduling_policy == "priority"
    assert every_kind.deployment.simulator.chat_template_tokens == 12


def test_slots_of_every_arrival(every_kind: Profile) -> None:
    """Streams: eight of the batch, two of the closed loop, nine as said, 64 of each of the nine others."""
    assert every_kind.slots == 8 + 2 + 9 + 9 * 64


@pytest.mark.parametrize(
    ("arrival", "shape"),
    [(GammaArrival(rate_per_s=1, burstiness=0.25), 0.25), (GammaArrival(rate_per_s=1, cv=2), 0.25)],
)
def test_burstiness_and_cv_are_two_words_for_one_thing(arrival: GammaArrival, shape: float) -> None:
    """cv = 1 / sqrt(shape): a shape of 1/4 has a cv of 2."""
    assert arrival.shape == shape


def test_whole_numbers_become_the_type_that_the_field_has() -> None:
    profile = parse(MINIMAL.replace("rate_per_s: 2", "rate_per_s: 2, max_in_flight: 3.0"))
    arrival = profile.tenants[0].arrival
    assert isinstance(arrival, PoissonArrival)
    assert type(arrival.rate_per_s) is float
    assert type(arrival.max_in_flight) is int


def test_whole_numbers_in_pairs_and_mappings_become_floats(every_kind: Profile) -> None:
    [stretch, _] = every_kind.tenants[0].arrival.active_s
    assert [type(bound_s) for bound_s in stretch] == [float, float]
    assign = every_kind.traces[0].assign
    assert isinstance(assign, AssignByShare)
    assert [type(share) for share in assign.shares.values()] == [float, float]


def test_paths_start_at_the_profiles_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "prompts.txt").write_text("hi\n")
    (folder / "p.yaml").write_text(
        MINIMAL.replace(
            "{source: synthetic, input_tokens: 100, output_tokens: 10}", "{source: text, path: prompts.txt}"
        )
    )
    monkeypatch.chdir(tmp_path)
    workload = load_profile("profiles/p.yaml").tenants[0].workload
    assert isinstance(workload, TextWorkload)
    assert workload.path == folder / "prompts.txt"
    assert workload.output_tokens == ConstantLength(value=128)


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_profile(tmp_path / "p.yaml") == parse(MINIMAL)


_TWO = MINIMAL.replace("  - id: chat", "  - &chat\n    id: chat")


def test_an_alias_stands_for_the_whole_value() -> None:
    text = MINIMAL.replace(
        "input_tokens: 100, output_tokens: 10",
        "input_tokens: &length {distribution: uniform, low: 3, high: 9}, output_tokens: *length",
    )
    workload = parse(text).tenants[0].workload
    assert isinstance(workload, SyntheticWorkload)
    assert workload.input_tokens == workload.output_tokens == UniformLength(low=3, high=9)


def test_a_merge_key_takes_over_what_is_not_said_again() -> None:
    profile = parse(_TWO + "  - {<<: *chat, id: other, weight: 3}\n")
    chat, other = profile.tenants
    assert other == dataclasses.replace(chat, id="other", weight=3.0)


def test_a_merge_key_brings_the_word_that_tells_kinds_apart() -> None:
    text = _TWO.replace("arrival: {", "arrival: &arrival {")
    text += "  - {<<: *chat, id: other, arrival: {<<: *arrival, rate_per_s: 7}}\n"
    assert parse(text).tenants[1].arrival == PoissonArrival(rate_per_s=7)


def test_a_merged_mapping_may_be_used_twice() -> None:
    """Resolving the merge in one place must not leave the mapping with a key twice in the other."""
    text = MINIMAL.replace(
        "input_tokens: 100, output_tokens: 10",
        "input_tokens: &base {distribution: uniform, low: 3, high: 9}, output_tokens: &more {<<: *base, high: 5}",
    )
    text += (
        "  - id: other\n    arrival: {process: closed, concurrency: 1}\n"
        "    workload: {source: synthetic, input_tokens: *more, output_tokens: {<<: [*more, *base], low: 2}}\n"
    )
    workload = parse(text).tenants[1].workload
    assert isinstance(workload, SyntheticWorkload)
    assert workload.input_tokens == UniformLength(low=3, high=5)
    assert workload.output_tokens == UniformLength(low=2, high=5)


@pytest.mark.parametrize("path", sorted(_PROFILES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_profiles_that_come_along_are_right(path: Path) -> None:
    profile = load_profile(path)
    assert parse(resolved_yaml(profile)) == profile


# --- the resolved form


def test_the_resolved_form_shows_every_default() -> None:
    shown = yaml.safe_load(resolved_yaml(parse(MINIMAL)))
    assert shown["run"] == {
        "warmup_s": 10.0,
        "duration_s": 60.0,
        "requests": None,
        "drain_s": 20.0,
        "fairness_window_s": 5.0,
    }
    [tenant] = shown["tenants"]
    assert list(tenant) == [field.name for field in dataclasses.fields(model.Tenant)]
    assert tenant["arrival"] == {
        "process": "poisson",
        "active_s": [],
        "rate_per_s": 2.0,
        "max_in_flight": 64,
        "overflow": "wait",
    }
    assert (tenant["model"], tenant["priority"], tenant["cache_salt"]) == (None, None, None)
    assert tenant["sampling"] == {
        "temperature": 0.0,
        "top_p": None,
        "top_k": None,
        "seed": None,
        "frequency_penalty": None,
        "presence_penalty": None,
        "ignore_eos": True,
        "continuous_usage": False,
    }
    assert tenant["workload"]["input_tokens"] == {"distribution": "constant", "value": 100}
    assert tenant["timeouts"]["total_s"] == 300.0
    assert list(shown) == [field.name for field in dataclasses.fields(Profile)]
    assert (shown["traces"], shown["phases"]) == ([], [])


_SHOWN_OPEN = {"active_s": [], "max_in_flight": 64, "overflow": "wait"}
_SHOWN_NOTHING = {"distribution": "constant", "value": 0.0}
_SHOWN_SECOND = {"distribution": "constant", "value": 1.0}


@pytest.mark.parametrize(
    ("arrival", "defaults"),
    [
        ("{process: closed, concurrency: 3}", {"active_s": [], "think_s": _SHOWN_NOTHING}),
        ("{process: batch, size: 3}", {"active_s": [], "think_s": _SHOWN_NOTHING}),
        ("{process: gamma, rate_per_s: 3, cv: 3}", {**_SHOWN_OPEN, "burstiness": None}),
        ("{process: gamma, rate_per_s: 3, burstiness: 3}", {**_SHOWN_OPEN, "cv": None}),
        ("{process: weibull, rate_per_s: 3, shape: 3}", _SHOWN_OPEN),
        (
            "{process: on_off, rate_per_s: 3, on_s: 3, off_s: 3}",
            {**_SHOWN_OPEN, "off_rate_per_s": 0.0, "durations": "fixed", "base": "poisson"},
        ),
        (
            "{process: ramp, from_per_s: 3, to_per_s: 3, over_s: 3}",
            {**_SHOWN_OPEN, "after_s": 0.0, "base": "poisson"},
        ),
        ("{process: steps, steps: [{rate_per_s: 3, for_s: 3}]}", {**_SHOWN_OPEN, "loop": False, "base": "poisson"}),
        ("{process: trace, trace: t}", {**_SHOWN_OPEN, "speed": 1.0, "rate_per_s": None, "loop": False}),
    ],
)
def test_the_resolved_form_shows_every_default_of_an_arrival(
    arrival: str, defaults: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").touch()
    text = MINIMAL.replace("{process: poisson, rate_per_s: 2}", arrival)
    shown = yaml.safe_load(resolved_yaml(parse(text + "traces: [{name: t, path: t.csv, format: azure}]\n", tmp_path)))
    assert shown["tenants"][0]["arrival"] == yaml.safe_load(arrival) | defaults
    assert next(iter(shown["tenants"][0]["arrival"])) == "process"


@pytest.mark.parametrize(
    ("workload", "defaults"),
    [
        (
            "{source: jsonl, path: f}",
            {"output_tokens": {"distribution": "constant", "value": 128}, "share_prefix": False},
        ),
        (
            "{source: sharegpt, path: f}",
            {"output_tokens": None, "conversation": False, "think_s": _SHOWN_SECOND, "share_prefix": False},
        ),
        ("{source: trace, trace: t}", {"max_input_tokens": None, "max_output_tokens": None}),
        (
            "{source: prefix, prefix_tokens: &l {distribution: constant, value: 3}, input_tokens: *l, "
            "output_tokens: *l}",
            {"groups": 8, "zipf": 1.0, "share_prefix": False},
        ),
        (
            "{source: conversation, turns: &l {distribution: constant, value: 3}, input_tokens: *l, output_tokens: *l}",
            {"system_tokens": 0, "think_s": _SHOWN_SECOND},
        ),
        (
            "{source: mixture, parts: [{workload: {source: trace, trace: t, max_input_tokens: 3}}]}",
            {
                "parts": [
                    {
                        "weight": 1.0,
                        "workload": {
                            "source": "trace",
                            "trace": "t",
                            "max_input_tokens": 3,
                            "max_output_tokens": None,
                        },
                    }
                ]
            },
        ),
    ],
)
def test_the_resolved_form_shows_every_default_of_a_workload(
    workload: str, defaults: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "f").touch()
    text = MINIMAL.replace("{source: synthetic, input_tokens: 100, output_tokens: 10}", workload)
    shown = yaml.safe_load(resolved_yaml(parse(text + "traces: [{name: t, path: f, format: azure}]\n", tmp_path)))
    expected = yaml.safe_load(workload) | defaults
    if "path" in expected:
        expected["path"] = str((tmp_path / "f").resolve())
    assert shown["tenants"][0]["workload"] == expected


def test_the_resolved_form_shows_every_default_of_a_trace_a_phase_and_an_slo(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    text = MINIMAL + "    slo: {ttft_ms: 9}\ntraces: [{name: t, path: f, format: azure}]\nphases: [{name: p}]\n"
    shown = yaml.safe_load(resolved_yaml(parse(text, tmp_path)))
    assert shown["traces"] == [
        {
            "name": "t",
            "path": str((tmp_path / "f").resolve()),
            "format": "azure",
            "from_s": 0.0,
            "to_s": None,
            "assign": None,
            "others": [],
        }
    ]
    assert shown["phases"] == [
        {
            "name": "p",
            "tenants": [],
            "load": 1.0,
            "warmup_s": None,
            "duration_s": None,
            "requests": None,
            "drain_s": None,
            "stop_if_slo_breaks": False,
        }
    ]
    assert shown["tenants"][0]["slo"] == {"ttft_ms": 9.0, "tpot_ms": None, "e2e_ms": None, "attainment": 0.95}


def test_the_resolved_form_of_every_kind_loads_to_an_equal_profile(every_kind: Profile) -> None:
    text = resolved_yaml(every_kind)
    assert parse(text) == every_kind
    shown = yaml.safe_load(text)
    assert shown["tenants"][0]["arrival"]["active_s"] == [[0.0, 30.0], [45.5, 60.0]]
    assert shown["traces"][0]["assign"] == {"by": "share", "shares": {"chat": 3.0, "batch": 0.5}}
    assert list(shown["traces"][0]["assign"]) == ["by", "shares"]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_resolved_form_loads_to_an_equal_profile(data: st.DataObject, tmp_path: Path) -> None:
    file = tmp_path / "prompts: #1 'é'.jsonl"
    file.touch()
    profile = data.draw(profiles(file))
    text = resolved_yaml(profile)
    assert parse(text) == profile
    assert resolved_yaml(parse(text)) == text


# --- values that never change


def _made(profile: Profile) -> list[Any]:
    """Every dataclass in a profile, itself included."""
    found: list[Any] = []

    def walk(value: Any) -> None:
        if dataclasses.is_dataclass(value):
            found.append(value)
            for field in dataclasses.fields(value):
                walk(getattr(value, field.name))
        elif isinstance(value, tuple):
            for item in value:
                walk(item)

    walk(profile)
    return found


_PARTS = (model, servers, arrivals, workloads, distribution, telemetry, traces)


def _kinds() -> set[type[Any]]:
    """Every dataclass of the model."""
    return {
        kind
        for part in _PARTS
        for kind in vars(part).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == part.__name__
    }


def test_no_field_can_be_set(every_kind: Profile) -> None:
    made = _made(every_kind)
    bases = {base for kind in _kinds() for base in kind.__mro__[1:]}
    assert {type(value) for value in made} == _kinds() - bases
    for value in made:
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)


def test_no_field_holds_a_list() -> None:
    for kind in _kinds():
        for hint in typing.get_type_hints(kind).values():
            assert typing.get_origin(hint) is not list
