"""What of the card each engine has: arithmetic by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fairshare_locust.errors import ProfileError, ServingError
from fairshare_locust.profile.model import Sharing, SimulatorOptions
from fairshare_locust.simulator.costs import StepCosts
from fairshare_locust.simulator.partition import Part, partition, parts_of
from tests.profile.profiles import MINIMAL, parse

COSTS = StepCosts(1 * 1e-3, 8 * 1e-3, 60 * 1e-6, 400 * 1e-9, 20 * 1e-6)


def parts(sharing: Sharing, *tenants: str, **changes: Any) -> tuple[Part, ...]:
    """Of a card of 10000 MiB with weights of 2000, a KV token taking 1/16 MiB, unless changed."""
    options = {
        **{"memory_mib": 10000, "weights_mib": 2000, "kv_bytes_per_token": 2**16, "kv_capacity_tokens": 65536},
        **{"max_model_len": 4096, "step_base_ms": 1, "weights_ms": 8, "compute_per_token_us": 60},
        **{"kv_read_per_token_ns": 400, "step_per_sequence_us": 20, **changes},
    }
    return partition(SimulatorOptions(**options), sharing, tenants or ("a", "b"))


def on_card(gpu: str, **changes: Any) -> SimulatorOptions:
    """With an 8B model in bf16: 15317 MiB of weights, 1/8 MiB a token."""
    return SimulatorOptions.on_card(gpu, "llama-3-8b", **{"max_model_len": 4096, **changes})


def refusal(sharing: Sharing, *tenants: str, **changes: Any) -> str:
    with pytest.raises(ServingError) as caught:
        parts(sharing, *tenants, **changes)
    return str(caught.value)


def test_logically_all_have_the_whole_card_together() -> None:
    [part] = parts("logical", "a", "b", "c")
    assert part == Part(0, ("a", "b", "c"), COSTS, 65536, 10000, 2000, 1.0)


def test_in_turns_each_has_all_of_the_card_and_half_of_its_memory() -> None:
    # 5000 - 2000 of weights = 3000 MiB, 16 tokens in each.
    assert parts("timeslice", sm_percent={"a": 10}) == (
        Part(0, ("a",), COSTS, 48000, 5000, 2000, 1.0),
        Part(1, ("b",), COSTS, 48000, 5000, 2000, 1.0),
    )


@pytest.mark.parametrize("sharing", ["mps", "mig_emulated"])
def test_at_once_each_has_its_shares(sharing: Sharing) -> None:
    found = parts(sharing, "a", "b", "c", memory_percent={"b": 40}, sm_percent={"a": 90, "b": 5})
    # 30, 40 and 30 % of the memory; under caps c has the 5 % of the SMs that are left, under MPS all of them.
    assert [(part.memory_mib, part.kv_capacity_tokens) for part in found] == [
        (3000, 16000),
        (4000, 32000),
        (3000, 16000),
    ]
    assert [part.sm_share for part in found] == pytest.approx([0.9, 0.05, 1.0 if sharing == "mps" else 0.05])
    assert {part.costs for part in found} == {COSTS}  # the card sees to the caps
    assert [part.sm_share for part in parts(sharing, sm_percent={"a": 100, "b": 60})] == [1.0, 0.6]


def test_the_cache_is_in_whole_blocks() -> None:
    # 3000 MiB are 47.9 blocks of 62.6 MiB.
    [part] = parts("mps", "a", memory_mib=5000, kv_bytes_per_token=4102000, max_model_len=750)
    assert part.kv_capacity_tokens == 47 * 16


def test_a_cache_that_takes_no_memory_is_as_large_as_it_is_said_to_be() -> None:
    assert [part.kv_capacity_tokens for part in parts("mps", kv_bytes_per_token=0)] == [65536, 65536]


def test_a_card_keeps_memory_in_reserve() -> None:
    # 20480 of 40960 MiB; 90 % of them, but for 15317 of weights and 1536 in reserve, are 1579 MiB: 789 blocks of 2 MiB.
    first, second = partition(on_card("A100-40"), "timeslice", ["a", "b"])
    assert (first.memory_mib, first.weights_mib) == (20480, 15317)
    assert first.kv_capacity_tokens == second.kv_capacity_tokens == 789 * 16


def test_a_slice_is_as_much_slower_as_it_is_smaller() -> None:
    # 3 of 7 of the SMs, but 4 of 8 of the bandwidth. 40192 MiB · 0.9 - 15317 - 2048 = 18807.8 MiB.
    options = on_card("A100-80", step_base_ms=1, weights_ms=8, compute_per_token_us=60, kv_read_per_token_ns=400)
    costs = StepCosts(1e-3, 16e-3, 140e-6, 800e-9, options.step_per_sequence_us * 1e-6)
    first, second = partition(options, "mig", ["a", "b"])
    assert first.costs.weights_s == pytest.approx(costs.weights_s)
    assert first.costs.compute_per_token_s == pytest.approx(costs.compute_per_token_s)
    assert first.costs.kv_read_per_token_s == pytest.approx(costs.kv_read_per_token_s)
    assert (first.costs.base_s, first.costs.per_sequence_s) == (costs.base_s, costs.per_sequence_s)
    assert (first.memory_mib, first.kv_capacity_tokens) == (40192, 9403 * 16)
    assert first.sm_share == pytest.approx(3 / 7)
    assert replace(first, index=1, tenants=("b",)) == second


@pytest.mark.parametrize(
    ("tenants", "given", "chosen"),
    [
        ("a", {}, ["7g.40gb"]),
        ("ab", {}, ["3g.20gb"] * 2),
        ("abc", {}, ["2g.10gb"] * 3),
        ("abcd", {}, ["1g.10gb"] * 4),
        ("abcdefg", {}, ["1g.5gb"] * 7),
        ("ab", {"b": "4g.20gb"}, ["3g.20gb", "4g.20gb"]),
        ("abc", {"a": "3g.20gb"}, ["3g.20gb", "2g.10gb", "2g.10gb"]),
        ("abc", {"c": "4g.20gb", "a": "1g.5gb"}, ["1g.5gb", "2g.10gb", "4g.20gb"]),
    ],
)
def test_who_gets_which_slice(tenants: str, given: dict[str, str], chosen: list[str]) -> None:
    options = on_card("A100-40", weights_mib=100, mig=given)
    assert [part.mig for part in partition(options, "mig", list(tenants))] == chosen


def test_the_parts_of_a_profile() -> None:
    text = MINIMAL + MINIMAL[MINIMAL.index("  - id") :].replace("chat", "batch")
    assert [part.tenants for part in parts_of(parse(text))] == [("chat", "batch")]
    text += "deployment: {sharing: mps, simulator: {weights_mib: 4000, memory_percent: {batch: 75}}}\n"
    assert [(part.tenants, part.memory_mib) for part in parts_of(parse(text))] == [
        (("chat",), 6144),
        (("batch",), 18432),
    ]


# --- refused


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    assert refusal("mps", memory_percent={"a": 79}) == (
        "deployment.simulator: the engine of tenant 'b' has no room for max_model_len (4,096 tokens): 10,000 MiB × 21 "
        "% − 2,000 MiB of weights = 100 MiB for the KV cache, and 256 MiB are needed (256 blocks of 16 × 65,536 "
        "bytes); take a card with more memory, a smaller model, fewer tenants or a lower max_model_len"
    )
    with pytest.raises(ServingError) as caught:
        partition(on_card("L4"), "timeslice", ["a", "b"])
    assert str(caught.value) == (
        "deployment.simulator: the engine of tenant 'a' has no room for max_model_len (4,096 tokens): 23,034 MiB × 50 "
        "% × 0.9 − 15,317 MiB of weights − 1,200 MiB in reserve = -6,152 MiB for the KV cache, and 512 MiB are needed "
        "(256 blocks of 16 × 131,072 bytes); take a card with more memory, dtype int4, a smaller model, fewer tenants "
        "or a lower max_model_len"
    )
    with pytest.raises(ServingError, match=r"9,984 MiB of a 2g\.10gb × 0\.9 − 15,317 MiB of weights"):
        partition(on_card("A100-40"), "mig", ["a", "b", "c"])


@pytest.mark.parametrize("key", ["memory_percent", "sm_percent"])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"zz": 50}, ": found 'zz'; no tenant has this id"),
        ({"Chat": 50}, ": found 'Chat'; no tenant has this id; did you mean 'chat'?"),
        ({"a": 0}, ".a: found 0; must be above 0 and at most 100"),
        ({"a": 100.5}, ".a: found 100.5; must be above 0 and at most 100"),
        (
            {"a": 60, "chat": 40},
            ": 60 + 40 leaves nothing of 100 for 'b'; give them a number, or the others less",
        ),
    ],
)
def test_shares_that_cannot_be(key: str, given: dict[str, float], why: str) -> None:
    assert refusal("mig_emulated", "a", "b", "chat", **{key: given}) == f"deployment.simulator.{key}{why}"


def test_more_memory_than_there_is() -> None:
    assert refusal("timeslice", memory_percent={"a": 60, "b": 50}) == (
        "deployment.simulator.memory_percent: 60 + 50 = 110; must be at most 100 together"
    )
    assert len(parts("mps", "a", "b", "c", memory_percent={"a": 33.3, "b": 33.3, "c": 33.4})) == 3


@pytest.mark.parametrize(
    ("tenants", "given", "why"),
    [
        ("ab", {"c": "1g.5gb"}, "mig: found 'c'; no tenant has this id"),
        (
            "ab",
            {"a": "3g.20g"},
            "mig.a: found '3g.20g'; must be a MIG profile of A100-40: 1g.5gb, 1g.10gb, 2g.10gb, 3g.20gb, 4g.20gb, "
            "7g.40gb; did you mean '3g.20gb'?",
        ),
        (
            "ab",
            {"a": "4g.20gb", "b": "4g.20gb"},
            "mig: 2 × 4g.20gb are more than the card can have (1); choose smaller profiles",
        ),
        (
            "abc",
            {"a": "4g.20gb", "b": "3g.20gb", "c": "1g.5gb"},
            "mig: 4g.20gb + 3g.20gb + 1g.5gb take 4 + 3 + 1 = 8 sevenths of the SMs, and there are 7; choose smaller "
            "profiles",
        ),
        (
            "abc",
            {"a": "3g.20gb", "b": "3g.20gb"},
            "mig: no profile of A100-40 is left for 'c': even with the smallest, 3g.20gb + 3g.20gb + 1g.5gb take 4 + "
            "4 + 1 = 9 eighths of the memory, and there are 8; take fewer tenants, or choose smaller profiles for the "
            "others",
        ),
        (
            "abcdefgh",
            {},
            "mig: no profile of A100-40 is left for 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h': even with the smallest, 8 "
            "× 1g.5gb are more than the card can have (7); take fewer tenants",
        ),
    ],
)
def test_slices_that_cannot_be(tenants: str, given: dict[str, str], why: str) -> None:
    with pytest.raises(ServingError) as caught:
        partition(on_card("A100-40", mig=given), "mig", list(tenants))
    assert str(caught.value) == f"deployment.simulator.{why}"


def test_no_slices_without_a_card_that_has_them() -> None:
    able = "must be one of A100-40, A100-80, H100, H200, or choose another way of sharing"
    assert refusal("mig") == f"deployment.simulator.gpu: missing, and sharing: mig needs a card; {able}"
    with pytest.raises(ServingError, match=f"found 'L4', which has no MIG; {able}"):
        partition(on_card("L4"), "mig", ["a"])


def own_models(sharing: Sharing, **changes: Any) -> tuple[Part, ...]:
    options = on_card("A100-80", **{"models": {"b": "llama-3.2-3b"}, **changes})
    return partition(options, sharing, ["a", "b"])


@pytest.mark.parametrize("sharing", ["timeslice", "mps", "mig_emulated", "mig"])
def test_a_tenant_with_a_model_of_its_own_has_its_constants(sharing: Sharing) -> None:
    first, second = own_models(sharing)
    same, _ = partition(on_card("A100-80"), sharing, ["a", "b"])
    _, alone = partition(SimulatorOptions.on_card("A100-80", "llama-3.2-3b", max_model_len=4096), sharing, ["a", "b"])
    assert (first, second) == (same, alone)
    # 3,212,749,824 parameters of 2 bytes.
    assert second.weights_mib == 6128
    assert first.costs.base_s == second.costs.base_s
    assert first.costs.weights_s > 2 * second.costs.weights_s


def test_one_engine_has_one_model() -> None:
    with pytest.raises(ServingError, match=r"deployment.simulator.models.b: found 'llama-3.2-3b', but under sharing: "):
        own_models("logical")
    [part] = own_models("logical", models={"b": "llama-3-8b"})
    assert part.tenants == ("a", "b")


def test_a_model_of_nobody() -> None:
    with pytest.raises(ServingError, match=r"deployment.simulator.models: found 'bb'; no tenant has this id"):
        own_models("mps", models={"bb": "llama-3.2-3b"})


@pytest.mark.parametrize(
    ("simulator", "words"),
    [
        (
            "{gpu: L4, model: llama-3-8b, models: {chat: llama-9}}",
            "models.chat: found 'llama-9', a model without a card; must be",
        ),
        ("{models: {chat: llama-3-8b}}", "models.chat: found 'llama-3-8b', but its constants need cards"),
    ],
)
def test_models_that_have_no_card(simulator: str, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        parse(MINIMAL + f"deployment: {{simulator: {simulator}}}\n")
