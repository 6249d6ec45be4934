"""How many requests a plan will need, and a source of prompts for each tenant."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fairshare_locust.errors import WorkloadError
from fairshare_locust.plan import Phase, mixed, solo
from fairshare_locust.profile.arrivals import ClosedArrival, ConstantArrival, PoissonArrival
from fairshare_locust.profile.model import Run
from fairshare_locust.profile.workloads import JsonlWorkload, TextWorkload
from fairshare_locust.workload import expected_requests, prepare_prompts
from fairshare_locust.workload.file import FileSource
from fairshare_locust.workload.synthetic import SyntheticSource
from tests.profile.profiles import MINIMAL, parse, tenant


def phase(warmup_s: float = 10, duration_s: float | None = 60, requests: int | None = None) -> Phase:
    return Phase("", ("chat",), warmup_s, duration_s, requests, 20)


def test_expected_requests_by_hand() -> None:
    chat = tenant(arrival=ConstantArrival(rate_per_s=2))
    assert expected_requests(chat, 7, phase()) == 140
    assert expected_requests(chat, 7, phase(warmup_s=0, duration_s=0.5)) == 1
    assert expected_requests(chat, 7, phase(duration_s=None, requests=50)) == 70  # 20 of them in the warm-up
    assert expected_requests(tenant(arrival=ConstantArrival(rate_per_s=0.3)), 7, phase()) == 21


def test_a_closed_loop_has_no_number() -> None:
    assert expected_requests(tenant(arrival=ClosedArrival(concurrency=4)), 7, phase()) is None


def test_expected_requests_are_those_of_the_schedule_itself() -> None:
    chat = tenant(arrival=PoissonArrival(rate_per_s=4))
    numbers = {expected_requests(chat, seed, phase()) for seed in range(20)}
    assert len(numbers) > 5
    assert all(number is not None and 280 - 5 * 17 < number < 280 + 5 * 17 for number in numbers)


def test_prepare_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("hi\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "ho"}\n')
    tenants = (
        tenant("chat"),
        tenant("text", workload=TextWorkload(path=tmp_path / "prompts.txt")),
        tenant("batch", arrival=ClosedArrival(concurrency=1), workload=JsonlWorkload(path=tmp_path / "prompts.jsonl")),
    )
    profile = dataclasses.replace(parse(MINIMAL), tenants=tenants)
    sources = prepare_prompts(profile, mixed(profile))
    assert list(sources) == ["chat", "text", "batch"]
    assert isinstance(sources["chat"], SyntheticSource)
    assert isinstance(sources["batch"], FileSource)
    assert sources["chat"].request(0).input_tokens == 100
    assert sources["text"].request(0).prompt == "(text)\nhi"
    assert sources["batch"].request(0).prompt == "(batch)\nho"


def test_alone_or_together_a_tenant_asks_the_same() -> None:
    profile = dataclasses.replace(parse(MINIMAL), tenants=(tenant("chat"), tenant("batch")), run=Run(duration_s=20))
    together, alone = (prepare_prompts(profile, plan(profile)) for plan in (mixed, solo))
    for tenant_id in ("chat", "batch"):
        for index in (0, 1, 59, 60, 61, 5000):
            assert together[tenant_id].request(index) == alone[tenant_id].request(index)


def test_a_tenant_that_never_sends_still_has_a_source() -> None:
    profile = parse(MINIMAL)
    plan = tuple(dataclasses.replace(each, tenants=()) for each in mixed(profile))
    assert prepare_prompts(profile, plan)["chat"].request(0).input_tokens == 100


def test_a_tokenizer_that_is_missing(tmp_path: Path) -> None:
    profile = parse(MINIMAL.replace("name: tiny", f"name: tiny, tokenizer: {tmp_path}/tokenizer.json"))
    with pytest.raises(WorkloadError, match=r"model.tokenizer: '.*/tokenizer.json' can't be loaded"):
        prepare_prompts(profile, mixed(profile))
