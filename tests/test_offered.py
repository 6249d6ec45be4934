"""What a profile will offer, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fairshare_locust.offered import offered_load
from fairshare_locust.plan import apply_plan, phases_of
from fairshare_locust.profile import Profile, Tenant
from fairshare_locust.profile.arrivals import ClosedArrival, ConstantArrival, RateStep, StepsArrival
from fairshare_locust.profile.distribution import ConstantLength, UniformLength
from fairshare_locust.profile.model import PhaseOptions, Run
from fairshare_locust.profile.workloads import ConversationWorkload, JsonlWorkload, SyntheticWorkload
from fairshare_locust.workload import load_tokenizer
from tests.profile.profiles import MINIMAL, parse, tenant


def profile(*tenants: Tenant, run: Run | None = None) -> Profile:
    return dataclasses.replace(parse(MINIMAL), tenants=tenants, run=run or Run(warmup_s=10, duration_s=60))


def test_an_open_loop() -> None:
    """2 requests/s for 70 s, 100 tokens in and 10 out each."""
    made = profile(tenant(arrival=ConstantArrival(rate_per_s=2)))
    [offered] = offered_load(made, phases_of(made))
    assert offered.tenant == made.tenants[0]
    assert offered.requests == 140
    assert offered.requests_per_s == 2
    assert (offered.mean_input_tokens, offered.mean_output_tokens) == (100, 10)
    assert (offered.input_tokens_per_s, offered.output_tokens_per_s) == (200, 20)


def test_a_closed_loop_is_as_fast_as_its_server() -> None:
    made = profile(tenant(arrival=ClosedArrival(concurrency=4)))
    [offered] = offered_load(made, phases_of(made))
    assert offered.requests is None
    assert offered.requests_per_s is None
    assert offered.input_tokens_per_s is None
    assert offered.output_tokens_per_s is None
    assert offered.mean_input_tokens == 100


def test_means_are_those_of_the_very_requests() -> None:
    workload = SyntheticWorkload(
        input_tokens=UniformLength(low=1, high=100), output_tokens=UniformLength(low=1, high=9)
    )
    made = profile(tenant(arrival=ConstantArrival(rate_per_s=0.1), workload=workload))
    [offered] = offered_load(made, phases_of(made))
    assert offered.requests == 7
    assert (offered.mean_input_tokens * 7) % 1 == pytest.approx(0, abs=1e-9)
    assert offered.mean_input_tokens != 50.5
    assert 1 <= offered.mean_output_tokens <= 9


def test_prompts_from_a_file(tmp_path: Path) -> None:
    """Two prompts in turn, with 3 and 5 tokens to answer; the mark of the tenant counts as input."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "the", "output_tokens": 3}\n{"prompt": "the", "output_tokens": 5}\n')
    workload = JsonlWorkload(path=tmp_path / "p.jsonl", share_prefix=True, output_tokens=ConstantLength(value=1))
    made = profile(tenant(arrival=ConstantArrival(rate_per_s=2), workload=workload))
    [offered] = offered_load(made, phases_of(made))
    assert offered.mean_input_tokens == load_tokenizer("builtin").count("the")
    assert offered.mean_output_tokens == 4


def test_each_tenant_in_the_first_phase_it_takes_part_in() -> None:
    made = profile(
        tenant("a", arrival=ConstantArrival(rate_per_s=2)), tenant("b", arrival=ConstantArrival(rate_per_s=1))
    )
    for plan in (phases_of(made), phases_of(apply_plan("solo", made))):
        assert [(o.tenant.id, o.requests) for o in offered_load(made, plan)] == [("a", 140), ("b", 70)]


def test_a_number_of_requests() -> None:
    made = profile(tenant(arrival=ConstantArrival(rate_per_s=2)), run=Run(warmup_s=10, requests=50))
    [offered] = offered_load(made, phases_of(made))
    assert offered.requests == 70


def test_a_rate_so_low_that_nothing_is_due() -> None:
    """Poisson at one request in ten days: none, and the mean length is still that of a prompt."""
    made = parse(MINIMAL.replace("rate_per_s: 2", "rate_per_s: 0.000001"))
    [offered] = offered_load(made, phases_of(made))
    assert offered.requests == 0
    assert offered.mean_input_tokens == 100


def test_a_varying_rate_is_its_mean_over_the_measurement() -> None:
    """1/s for 10 s of warm-up, then 1/s for 20 s and 4/s for the last 40: (20 + 160) / 60."""
    steps = (RateStep(rate_per_s=1, for_s=30), RateStep(rate_per_s=4, for_s=1))
    made = profile(tenant(arrival=StepsArrival(steps=steps, base="constant")))
    [offered] = offered_load(made, phases_of(made))
    assert offered.requests_per_s == pytest.approx(3)
    assert offered.requests == 190


def test_the_turns_of_conversations_count() -> None:
    """Three turns, each of 10 tokens more than all before it: prompts of 10, 10+5+10 and 10+5+10+5+10 tokens."""
    workload = ConversationWorkload(
        turns=ConstantLength(value=3), input_tokens=ConstantLength(value=10), output_tokens=ConstantLength(value=5)
    )
    made = profile(tenant(arrival=ConstantArrival(rate_per_s=2), workload=workload))
    [offered] = offered_load(made, phases_of(made))
    assert (offered.arrivals, offered.turns, offered.requests, offered.requests_per_s) == (140, 3, 420, 6)
    assert offered.mean_input_tokens == pytest.approx((10 + 25 + 40) / 3, abs=1)


def test_a_phase_of_twice_the_load() -> None:
    made = dataclasses.replace(
        profile(tenant(arrival=ConstantArrival(rate_per_s=2))), phases=(PhaseOptions(name="twice", load=2),)
    )
    [offered] = offered_load(made, phases_of(made))
    assert (offered.requests_per_s, offered.requests) == (4, 280)
