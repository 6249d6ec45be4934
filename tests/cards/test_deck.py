"""The cards that come along: complete, each constant with its source, found by name."""

from __future__ import annotations

import re
import typing
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from fairshare_locust.cards import (
    CardError,
    DtypeCard,
    constants,
    derived,
    dtype_card,
    gpu_card,
    gpu_names,
    model_card,
    model_names,
)
from fairshare_locust.cards.deck import read_card
from fairshare_locust.errors import FairshareError
from fairshare_locust.profile.model import SimulatorOptions

DTYPES = typing.get_args(typing.get_type_hints(SimulatorOptions)["dtype"])


def test_the_cards_that_come_along() -> None:
    assert gpu_names() == ("L4", "A10G", "A100-40", "A100-80", "H100", "H200")
    assert model_names() == ("llama-3-8b", "llama-2-7b", "mistral-7b", "llama-3.2-1b", "llama-3.2-3b")
    assert [dtype_card(name).name for name in DTYPES] == ["bf16", "int4"]


EVERY = [*product(gpu_names(), model_names(), DTYPES)]


@pytest.mark.parametrize(("gpu", "model", "dtype"), EVERY)
def test_any_model_fits_on_any_whole_gpu(gpu: str, model: str, dtype: str) -> None:
    found = constants(gpu, model, dtype)
    options = SimulatorOptions(**{"gpu": gpu, "model": model, "dtype": dtype, **found})  # type: ignore[arg-type]
    assert list(options.check()) == []
    assert found["kv_capacity_tokens"] % 16 == 0
    assert found["max_model_len"] == min(8192, model_card(model).max_model_len)
    whole = {name for name, kind in typing.get_type_hints(SimulatorOptions).items() if kind is int}
    assert {name for name, value in found.items() if isinstance(value, int)} == whole & set(found)


@pytest.mark.parametrize(("gpu", "model", "dtype"), EVERY)
def test_any_model_on_an_eighth_of_a_gpu_has_constants_or_a_refusal_with_arithmetic(
    gpu: str, model: str, dtype: str
) -> None:
    card, of, stored = gpu_card(gpu), model_card(model), dtype_card(dtype)
    eighth = replace(card, memory_mib=card.memory_mib // 8)
    left = eighth.memory_mib * 2**20 * 0.9 - of.weights_bytes(stored) - card.reserve_mib * 2**20
    blocks = left // (16 * of.kv_bytes_per_token)
    if blocks >= 1:
        assert derived(eighth, of, stored)["kv_capacity_tokens"] == 16 * blocks
    else:
        with pytest.raises(CardError, match=r"MiB × 0\.9 − .* MiB of weights − .* MiB in reserve = -.* MiB"):
            derived(eighth, of, stored)


GIVEN: dict[str, Any] = {
    "bytes_per_parameter": {"value": 2, "source": "16 bits"},
    "compute_factor": {"value": 1, "estimate": "as it is"},
}


def test_a_constant_has_a_source_or_is_an_estimate() -> None:
    card = read_card(DtypeCard, "d", GIVEN)
    assert card == DtypeCard(name="d", bytes_per_parameter=2.0, compute_factor=1.0)
    assert type(card.bytes_per_parameter) is float


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"value": 2}, "found value; a value needs a source, or an estimate's reason"),
        ({"value": 2, "source": " "}, "found value, source; a value needs a source, or an estimate's reason"),
        ({"value": 2, "source": 7}, "found value, source; a value needs a source, or an estimate's reason"),
        ({"value": 2, "source": "a", "estimate": "b"}, "found value, source, estimate; a value needs a source"),
        ({"value": 2, "source": "a", "unit": "b"}, "found value, source, unit; a value needs a source"),
        ({"source": "a"}, "found {'source': 'a'}; must be {value, source} or {value, estimate}"),
        (2, "found 2; must be {value, source} or {value, estimate}"),
        ({"value": "2", "source": "a"}, "found '2'; must be a number above 0"),
        ({"value": 0, "source": "a"}, "found 0; must be a number above 0"),
        ({"value": True, "source": "a"}, "found True; must be a number above 0"),
        ({"value": float("nan"), "source": "a"}, "found nan; must be a number above 0"),
    ],
)
def test_a_constant_that_is_refused(entry: Any, problem: str) -> None:
    with pytest.raises(CardError, match=re.escape(f"card d: compute_factor: {problem}")):
        read_card(DtypeCard, "d", GIVEN | {"compute_factor": entry})


@pytest.mark.parametrize("constants", [{}, {**GIVEN, "colour": {"value": 1, "source": "a"}}])
def test_a_card_that_lacks_a_constant_or_has_another(constants: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=r"card d: missing or unknown: .*; a card has bytes_per_parameter, comp"):
        read_card(DtypeCard, "d", constants)


@pytest.mark.parametrize(
    ("gpu", "model", "dtype", "key", "problem"),
    [
        (
            "l4",
            "llama-3-8b",
            "bf16",
            "gpu",
            "found 'l4', a GPU without a card; must be one of L4, A10G, .*, H100, H200; did you mean 'L4'",
        ),
        ("H100", "llama3-8b", "bf16", "model", "a model without a card; .*; did you mean 'llama-3-8b'"),
        ("H100", "llama-3-8b", "fp8", "dtype", "found 'fp8', a dtype without a card; must be one of bf16, int4$"),
        ("RTX 6000", "llama-3-8b", "bf16", "gpu", "H100, H200$"),
    ],
)
def test_a_name_without_a_card(gpu: str, model: str, dtype: str, key: str, problem: str) -> None:
    with pytest.raises(CardError, match=problem) as caught:
        constants(gpu, model, dtype)
    assert caught.value.key == key
    assert isinstance(caught.value, FairshareError)


@pytest.mark.parametrize("name", gpu_names())
def test_a_gpu_is_sane(name: str) -> None:
    gpu = gpu_card(name)
    assert 0 < gpu.bandwidth_efficiency < 1
    assert 0 < gpu.compute_efficiency < 1
    assert 0 < gpu.gpu_memory_utilization < 1
    assert gpu.idle_w < gpu.busy_w


@pytest.mark.parametrize("name", ["L4", "A10G"])
def test_gpus_without_mig(name: str) -> None:
    assert gpu_card(name).mig == ()


@pytest.mark.parametrize("name", ["A100-40", "A100-80", "H100", "H200"])
def test_mig_profiles_are_those_of_the_guide(name: str) -> None:
    """Six shapes: sevenths of compute, eighths of memory, how many; the name has both in it."""
    gpu = gpu_card(name)
    shapes = [(profile.compute_sevenths, profile.memory_eighths, profile.at_most) for profile in gpu.mig]
    assert shapes == [(1, 1, 7), (1, 2, 4), (2, 2, 3), (3, 4, 2), (4, 4, 1), (7, 8, 1)]
    for profile in gpu.mig:
        named = re.fullmatch(r"(\d)g\.(\d+)gb", profile.profile)
        assert named is not None
        assert int(named[1]) == profile.compute_sevenths
        assert 0.85 < profile.memory_mib / 1024 / int(named[2]) < 1.01
        assert 0.85 < profile.memory_mib / (gpu.memory_mib * profile.memory_eighths / 8) < 1.02
        assert profile.sms <= gpu.sms
        assert profile.compute_sevenths * profile.at_most <= 7
        assert profile.memory_eighths * profile.at_most <= 8
