"""Cards in a profile: the constants they stand for, and what is said of those that can't be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from fairshare_locust.cards import CardError, constants, deck, gpu_card
from fairshare_locust.errors import ProfileError
from fairshare_locust.profile import resolved_yaml
from fairshare_locust.profile.model import SimulatorOptions
from tests.profile.profiles import MINIMAL, parse

_AT = "p.yaml:4: deployment.simulator"


def _text(simulator: str) -> str:
    return MINIMAL.replace("tenants:", f"deployment: {{simulator: {simulator}}}\ntenants:")


def _options(simulator: str) -> SimulatorOptions:
    return parse(_text(simulator)).deployment.simulator


def _problems(simulator: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse(_text(simulator))
    return caught.value.problems


def _shown(options: SimulatorOptions, names: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def test_cards_give_the_constants() -> None:
    options = _options("{gpu: L4, model: llama-3-8b, dtype: int4}")
    expected = constants("L4", "llama-3-8b", "int4")
    assert _shown(options, expected) == expected
    assert (options.gpu, options.model, options.dtype) == ("L4", "llama-3-8b", "int4")
    assert options.max_num_seqs == SimulatorOptions().max_num_seqs
    assert options == SimulatorOptions.on_card("L4", "llama-3-8b", "int4")


def test_weights_are_in_bf16_unless_said() -> None:
    assert _options("{gpu: H100, model: mistral-7b}") == SimulatorOptions.on_card("H100", "mistral-7b", "bf16")


def test_what_is_given_goes_before_the_cards() -> None:
    options = _options("{gpu: L4, model: llama-3-8b, weights_ms: 50, busy_w: 60, max_model_len: 30000}")
    expected = constants("L4", "llama-3-8b") | {"weights_ms": 50.0, "busy_w": 60.0, "max_model_len": 30_000}
    assert _shown(options, expected) == expected
    assert options == SimulatorOptions.on_card("L4", "llama-3-8b", weights_ms=50.0, busy_w=60.0, max_model_len=30_000)


def test_sequences_are_as_long_as_a_cache_that_is_given() -> None:
    assert _options("{gpu: L4, model: llama-3-8b, kv_capacity_tokens: 3000}").max_model_len == 3000
    assert SimulatorOptions.on_card("L4", "llama-3-8b", kv_capacity_tokens=3000).max_model_len == 3000


def test_without_cards_the_defaults_are_as_ever() -> None:
    assert _options("{max_num_seqs: 64}") == _options("{gpu: null, model: null}") == SimulatorOptions()


def test_the_resolved_form_shows_the_constants_and_loads_to_an_equal_profile() -> None:
    profile = parse(_text("{gpu: A100-80, model: mistral-7b, kv_capacity_tokens: 4000}"))
    text = resolved_yaml(profile)
    shown = yaml.safe_load(text)["deployment"]["simulator"]
    expected = constants("A100-80", "mistral-7b") | {"kv_capacity_tokens": 4000, "max_model_len": 4000}
    assert {name: shown[name] for name in expected} == expected
    assert (shown["gpu"], shown["model"], shown["dtype"]) == ("A100-80", "mistral-7b", "bf16")
    assert parse(text) == profile


@pytest.mark.parametrize(
    ("simulator", "problem"),
    [
        ("{gpu: L4}", ".model: missing beside gpu: 'L4'; give both, or the constants themselves"),
        ("{model: llama-3-8b}", ".gpu: missing beside model: 'llama-3-8b'; give both, or the constants themselves"),
        (
            "{gpu: l4, model: llama-3-8b, max_model_len: 100000}",  # of the cache nothing is said
            ".gpu: found 'l4', a GPU without a card; must be one of L4, A10G, A100-40, A100-80, H100, H200; "
            "did you mean 'L4'?",
        ),
        (
            "{gpu: L4, model: llama-3}",
            ".model: found 'llama-3', a model without a card; must be one of llama-3-8b, llama-2-7b, mistral-7b, "
            "llama-3.2-1b, llama-3.2-3b; did you mean 'llama-3-8b'?",
        ),
        ("{gpu: L4, model: llama-3-8b, dtype: fp8}", ".dtype: found 'fp8'; must be one of bf16, int4"),
        ("{gpu: 4, model: llama-3-8b}", ".gpu: found 4; must be text or null"),
        (
            "{gpu: L4, model: llama-3-8b, max_model_len: 40000}",
            ".kv_capacity_tokens: found 33712; must be at least max_model_len (40000)",
        ),
        (
            "{gpu: L4, model: llama-3-8b, max_num_seqs: many, max_model_len: 30000}",  # the cards' cache takes it
            ".max_num_seqs: found 'many'; must be a whole number, at least 1",
        ),
    ],
)
def test_what_is_said_of_cards_that_can_not_be(simulator: str, problem: str) -> None:
    assert _problems(simulator) == [_AT + problem]


def test_a_model_that_does_not_fit_is_a_problem_of_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(gpu_card("L4"), memory_mib=15360)
    monkeypatch.setattr(deck, "_gpus", lambda: {"L4": small})
    [problem] = _problems("{gpu: L4, model: llama-3-8b}")
    assert problem.startswith(
        f"{_AT}.model: llama-3-8b in bf16 doesn't fit on L4: 15,360 MiB × 0.9 − 15,317 MiB of weights − 1,200 MiB"
    )


@pytest.mark.parametrize(("gpu", "model"), [("L5", "llama-3-8b"), ("L4", "llama-9")])
def test_code_that_names_no_card_is_told(gpu: str, model: str) -> None:
    with pytest.raises(CardError, match="without a card"):
        SimulatorOptions.on_card(gpu, model)
