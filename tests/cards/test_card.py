"""What follows from cards, worked out by hand and beside what others measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fairshare_locust.cards import CardError, GpuCard, ModelCard, constants, derived, dtype_card, gpu_card, model_card

BF16, INT4 = dtype_card("bf16"), dtype_card("int4")
ROUND = GpuCard(
    name="round",
    memory_mib=1000,
    bandwidth_gb_s=100,
    bf16_tflop_s=10,
    bandwidth_efficiency=0.8,
    compute_efficiency=0.5,
    step_base_ms=1,
    step_per_sequence_us=10,
    idle_w=20,
    busy_w=100,
    gpu_memory_utilization=0.9,
    reserve_mib=100,
    sms=10,
    mig=(),
)
SMALL = ModelCard(
    name="small",
    parameters=200 * 2**20,  # 400 MiB in bf16
    unquantised_parameters=2**20,
    layers=4,
    kv_heads=2,
    head_dim=64,
    flop_per_token=4e8,
    max_model_len=100_000,
)


def test_a_round_card_and_a_small_model() -> None:
    """A KV token has 4 · 2 · 64 · 2 · 2 = 2048 bytes; 1000 · 0.9 − 400 − 100 = 400 MiB hold 204,800 of them."""
    assert derived(ROUND, SMALL, BF16) == {
        "step_base_ms": 1,
        "weights_ms": pytest.approx(400 * 2**20 / 80e9 * 1e3),
        "compute_per_token_us": pytest.approx(80),  # 4e8 / 5e12 s
        "kv_read_per_token_ns": pytest.approx(25.6),  # 2048 / 80e9 s
        "step_per_sequence_us": 10,
        "kv_capacity_tokens": 204_800,
        "max_model_len": 8192,
        "memory_mib": 1000,
        "weights_mib": 400,
        "kv_bytes_per_token": 2048,
        "idle_w": 20,
        "busy_w": 100,
    }


def test_four_bits_make_weights_small_and_arithmetic_a_little_slower() -> None:
    """Of each 128 quantised parameters 64 bytes of weights, 2 of a scale and half of one for a zero are read."""
    [bf16, int4] = (derived(ROUND, SMALL, dtype) for dtype in (BF16, INT4))
    assert SMALL.weights_bytes(INT4) == 199 * 2**20 * 66.5 / 128 + 2**20 * 2
    assert int4["weights_ms"] / bf16["weights_ms"] == pytest.approx(SMALL.weights_bytes(INT4) / (400 * 2**20))
    assert int4["compute_per_token_us"] == pytest.approx(1.1 * bf16["compute_per_token_us"])
    assert int4["kv_read_per_token_ns"] == bf16["kv_read_per_token_ns"]
    freed_mib = 400 - SMALL.weights_bytes(INT4) / 2**20
    assert int4["kv_capacity_tokens"] == 204_800 + int(freed_mib * 2**20 / 2048 / 16) * 16


@pytest.mark.parametrize(
    ("changes", "max_model_len"), [({"max_model_len": 4096}, 4096), ({"parameters": 397 * 2**20}, 3072)]
)
def test_the_longest_sequence_is_what_the_model_and_the_cache_take(changes: dict[str, Any], max_model_len: int) -> None:
    """A model of 794 MiB leaves 6 MiB of cache: 3072 tokens of 2048 bytes."""
    assert derived(ROUND, replace(SMALL, **changes), BF16)["max_model_len"] == max_model_len


def test_part_of_a_block_holds_nothing() -> None:
    """A block has 16 · 2048 bytes = 1/32 MiB; 100 MiB + 1/64 MiB less in reserve make no difference."""
    assert derived(replace(ROUND, reserve_mib=499), SMALL, BF16)["kv_capacity_tokens"] == 512
    just = replace(SMALL, parameters=400 * 2**20 - 2**14)  # 799 31/32 MiB: one block is left
    assert derived(ROUND, just, BF16)["kv_capacity_tokens"] == 16
    with pytest.raises(CardError, match="doesn't fit"):
        derived(ROUND, replace(just, parameters=just.parameters + 1), BF16)


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(CardError) as caught:
        derived(replace(gpu_card("L4"), name="T4-like", memory_mib=15360), model_card("llama-3-8b"), BF16)
    assert str(caught.value) == (
        "llama-3-8b in bf16 doesn't fit on T4-like: 15,360 MiB × 0.9 − 15,317 MiB of weights − 1,200 MiB in reserve = "
        "-2,693 MiB for the KV cache, where 16 tokens need 2 MiB; take a GPU with more memory, a smaller model, or "
        "dtype int4"
    )
    assert caught.value.key == "model"
    with pytest.raises(CardError, match=r"take a GPU with more memory, a smaller model$"):
        derived(replace(ROUND, memory_mib=200), SMALL, INT4)


def test_llama_3_8b_on_an_l4() -> None:
    """16.06 GB at 258 GB/s; 23034 · 0.9 − 15316.5 − 1200 = 4214.1 MiB, of which a block of 16 · 128 KiB takes 2 MiB."""
    card = model_card("llama-3-8b")
    assert card.weights_bytes(BF16) == 2 * card.parameters == 16_060_522_496
    assert card.kv_bytes_per_token == 32 * 8 * 128 * 2 * 2 == 131_072
    found = constants("L4", "llama-3-8b")
    assert found["kv_capacity_tokens"] == 2107 * 16 == 33_712
    assert found["weights_ms"] == pytest.approx(16_060.522496 / (300 * 0.86))
    assert found["compute_per_token_us"] == pytest.approx(16_060.522496 / (121 * 0.5))
    assert found["kv_read_per_token_ns"] == pytest.approx(131_072 / (300 * 0.86))


def _linear(layers: int, hidden: int, kv: int, ffn: int) -> int:
    """Parameters of the layers' matrices: queries and output, keys and values, gate, up and down."""
    return layers * (2 * hidden**2 + 2 * hidden * kv + 3 * hidden * ffn)


@pytest.mark.parametrize(
    ("name", "linear", "embeddings", "norms"),
    [
        ("llama-3-8b", _linear(32, 4096, 1024, 14336), 2 * 128256 * 4096, 65 * 4096),
        ("llama-2-7b", _linear(32, 4096, 4096, 11008), 2 * 32000 * 4096, 65 * 4096),
        ("mistral-7b", _linear(32, 4096, 1024, 14336), 2 * 32768 * 4096, 65 * 4096),
        ("llama-3.2-1b", _linear(16, 2048, 512, 8192), 128256 * 2048, 33 * 2048),
        ("llama-3.2-3b", _linear(28, 3072, 1024, 8192), 128256 * 3072, 57 * 3072),
    ],
)
def test_parameters_are_those_of_the_architecture(name: str, linear: int, embeddings: int, norms: int) -> None:
    card = model_card(name)
    assert card.unquantised_parameters == embeddings + norms
    assert card.parameters == linear + embeddings + norms
    assert card.flop_per_token == 2 * card.parameters


@pytest.mark.parametrize(("name", "gigabytes"), [("llama-3-8b", 5.73), ("llama-2-7b", 3.89), ("mistral-7b", 4.15)])
def test_weights_of_4_bits_have_the_size_of_published_checkpoints(name: str, gigabytes: float) -> None:
    """AWQ checkpoints with groups of 128."""
    assert model_card(name).weights_bytes(INT4) / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("gpu", "step_ms", "sequence_us", "token_us", "kv_ns"),
    [("H100", 6.2, 17.5, 23, 50), ("A100-80", 10.5, 20, 75, 85), ("L4", 63, 30, 265, 510)],
)
def test_llama_3_8b_is_near_what_was_fitted_to_measurements(
    gpu: str, step_ms: float, sequence_us: float, token_us: float, kv_ns: float
) -> None:
    """Fits to Vidur's profiles and public runs of vLLM, calibrated estimates themselves: within 15 %."""
    found = constants(gpu, "llama-3-8b")
    assert found["step_base_ms"] + found["weights_ms"] == pytest.approx(step_ms, rel=0.15)
    assert found["step_per_sequence_us"] == pytest.approx(sequence_us, rel=0.15)
    assert found["compute_per_token_us"] == pytest.approx(token_us, rel=0.15)
    assert found["kv_read_per_token_ns"] == pytest.approx(kv_ns, rel=0.15)


@pytest.mark.parametrize(("gpu", "model", "step_ms"), [("A100-40", "llama-3-8b", 13.3), ("H100", "llama-3-8b", 6.48)])
def test_one_sequence_decodes_as_fast_as_in_public_runs(gpu: str, model: str, step_ms: float) -> None:
    """vLLM, one request at a time."""
    found = constants(gpu, model)
    alone_ms = found["step_base_ms"] + found["weights_ms"] + found["step_per_sequence_us"] / 1e3
    assert alone_ms == pytest.approx(step_ms, rel=0.15)
