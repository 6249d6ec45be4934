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

from fairshare_locust.profile import Profile, load_profile, model, resolved_yaml
from fairshare_locust.profile.arrivals import ClosedArrival, ConstantArrival, PoissonArrival
from fairshare_locust.profile.distribution import ConstantLength, LognormalLength, NormalLength, UniformLength
from fairshare_locust.profile.workloads import JsonlWorkload, SyntheticWorkload
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
    assert tenant.weight == 1
    assert tenant.api == "openai_chat"
    assert tenant.endpoint is None
    assert tenant.api_key_env is None
    assert tenant.headers == {}
    assert tenant.arrival == PoissonArrival(rate_per_s=2, max_in_flight=64, overflow="wait")
    assert tenant.workload == SyntheticWorkload(
        input_tokens=ConstantLength(value=100), output_tokens=ConstantLength(value=10)
    )
    assert tenant.sampling == model.Sampling(temperature=0, top_p=None, ignore_eos=True, continuous_usage=False)
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
    assert batch.arrival == ClosedArrival(concurrency=4, think_s=1)
    assert batch.arrival.slots == 4
    assert batch.workload == SyntheticWorkload(
        input_tokens=LognormalLength(mean=512, sigma=0.6, max=3000), output_tokens=NormalLength(mean=5, std=1, min=2)
    )
    assert profile.cost == model.Cost(gpu_hour_usd=2, gpus=4)


def test_whole_numbers_become_the_type_that_the_field_has() -> None:
    profile = parse(MINIMAL.replace("rate_per_s: 2", "rate_per_s: 2, max_in_flight: 3.0"))
    arrival = profile.tenants[0].arrival
    assert isinstance(arrival, PoissonArrival)
    assert type(arrival.rate_per_s) is float
    assert type(arrival.max_in_flight) is int


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
    assert isinstance(workload, model.TextWorkload)
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


def _scalars(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_scalars, value.values()))
    return sum(map(_scalars, value)) if isinstance(value, list) else 1


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
    assert tenant["arrival"] == {"process": "poisson", "rate_per_s": 2.0, "max_in_flight": 64, "overflow": "wait"}
    assert tenant["workload"]["input_tokens"] == {"distribution": "constant", "value": 100}
    assert tenant["timeouts"]["total_s"] == 300.0
    assert list(shown) == [field.name for field in dataclasses.fields(Profile)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_resolved_form_loads_to_an_equal_profile(data: st.DataObject, tmp_path: Path) -> None:
    file = tmp_path / "prompts: #1 'é'.jsonl"
    file.touch()
    profile = data.draw(profiles(file))
    text = resolved_yaml(profile)
    assert parse(text) == profile
    assert resolved_yaml(parse(text)) == text


# --- values that never change


def _made() -> list[Any]:
    """One of each dataclass of the model."""
    found: list[Any] = []

    def walk(value: Any) -> None:
        if dataclasses.is_dataclass(value):
            found.append(value)
            for field in dataclasses.fields(value):
                walk(getattr(value, field.name))
        elif isinstance(value, tuple):
            for item in value:
                walk(item)

    walk(parse(MINIMAL))
    found += [
        ClosedArrival(concurrency=1),
        ConstantArrival(rate_per_s=1),
        UniformLength(low=1, high=2),
        NormalLength(mean=1, std=1),
        LognormalLength(mean=1, sigma=1),
        JsonlWorkload(path=Path("x")),
        model.TextWorkload(path=Path("x")),
        model.Slo(ttft_ms=1),
        model.Cost(gpu_hour_usd=1),
    ]
    return found


def test_no_field_can_be_set() -> None:
    made = _made()
    everything = {
        kind
        for kind in vars(model).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == model.__name__
    }
    assert {type(value) for value in made} == everything - {model.OpenArrival}
    for value in made:
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)


def test_no_field_holds_a_list() -> None:
    for value in _made():
        for hint in typing.get_type_hints(type(value)).values():
            assert typing.get_origin(hint) is not list
