"""How many requests a plan will need, and a source of prompts for each tenant."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fairshare_locust.client.dialects import DIALECTS, Ask, ServerFamily
from fairshare_locust.errors import WorkloadError
from fairshare_locust.plan import Phase, mixed, phases_of, solo
from fairshare_locust.profile import Profile, Tenant
from fairshare_locust.profile.arrivals import (
    BatchArrival,
    ClosedArrival,
    ConstantArrival,
    PoissonArrival,
    RampArrival,
    RateStep,
    StepsArrival,
    TraceArrival,
)
from fairshare_locust.profile.distribution import ConstantLength, UniformDuration, UniformLength
from fairshare_locust.profile.model import Run, Sampling
from fairshare_locust.profile.traces import Trace
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
from fairshare_locust.trace import load_traces
from fairshare_locust.workload import PromptSource, expected_requests, load_tokenizer, prepare_prompts
from fairshare_locust.workload.conversation import ConversationSource
from fairshare_locust.workload.file import FileSource
from fairshare_locust.workload.mixture import MixtureSource
from fairshare_locust.workload.prefix import PrefixSource
from fairshare_locust.workload.sharegpt import SharegptSource
from fairshare_locust.workload.synthetic import SyntheticSource
from fairshare_locust.workload.trace import TraceSource
from tests.elsewhere import elsewhere
from tests.profile.profiles import MINIMAL, parse, tenant

_TEN = ConstantLength(value=10)
_SPREAD = UniformLength(low=5, high=40)
_SYNTHETIC = SyntheticWorkload(input_tokens=_TEN, output_tokens=_TEN)

# Three requests in two seconds.
_AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.0,30,3
2023-11-16 18:17:04.5,40,4
2023-11-16 18:17:05.0,50,5
"""
_SHAREGPT = [
    {
        "id": str(i),
        "conversations": [
            {"from": "human", "value": f"First question {i}?"},
            {"from": "gpt", "value": "An answer."},
            {"from": "human", "value": f"Second question {i}?"},
            {"from": "gpt", "value": "Another answer."},
        ],
    }
    for i in range(3)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of each kind."""
    (tmp_path / "prompts.txt").write_text("hi\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "ho"}\n{"prompt": "mine", "tenant": "jsonl"}\n')
    (tmp_path / "azure.csv").write_text(_AZURE)
    (tmp_path / "sharegpt.json").write_text(json.dumps(_SHAREGPT))
    return tmp_path


def profile_of(*tenants: Tenant, folder: Path | None = None) -> Profile:
    traces = () if folder is None else (Trace(name="azure", path=folder / "azure.csv", format="azure"),)
    return dataclasses.replace(parse(MINIMAL), tenants=tenants, traces=traces, run=Run(duration_s=20))


def prepare(profile: Profile, overhead_tokens: Mapping[str, int] | None = None) -> Mapping[str, PromptSource]:
    return prepare_prompts(profile, phases_of(profile), load_traces(profile), overhead_tokens or {})


def kinds(folder: Path) -> dict[str, PlainWorkload]:
    """A workload of each kind that is no mixture, with spread lengths."""
    think_s = UniformDuration(low=0, high=3)
    return {
        "synthetic": SyntheticWorkload(input_tokens=_SPREAD, output_tokens=_SPREAD),
        "text": TextWorkload(path=folder / "prompts.txt", output_tokens=_SPREAD),
        "jsonl": JsonlWorkload(path=folder / "prompts.jsonl", output_tokens=_SPREAD),
        "sharegpt": SharegptWorkload(path=folder / "sharegpt.json"),
        "recorded": SharegptWorkload(path=folder / "sharegpt.json", conversation=True, think_s=think_s),
        "trace": TraceWorkload(trace="azure"),
        "conversation": ConversationWorkload(
            turns=UniformLength(low=1, high=4),
            system_tokens=6,
            input_tokens=_SPREAD,
            output_tokens=_SPREAD,
            think_s=think_s,
        ),
        "prefix": PrefixWorkload(prefix_tokens=_SPREAD, input_tokens=_SPREAD, output_tokens=_SPREAD),
    }


def phase(warmup_s: float = 10, duration_s: float | None = 60, requests: int | None = None, load: float = 1.0) -> Phase:
    return Phase("", ("chat",), warmup_s, duration_s, requests, 20, load)


def number(requests: int) -> Phase:
    """So many requests, all of them measured."""
    return phase(warmup_s=0, duration_s=None, requests=requests)


def test_expected_requests_by_hand() -> None:
    chat = tenant(arrival=ConstantArrival(rate_per_s=2))
    assert expected_requests(chat, 7, phase()) == 140
    assert expected_requests(chat, 7, phase(warmup_s=0, duration_s=0.5)) == 1
    assert expected_requests(chat, 7, phase(duration_s=None, requests=50)) == 70  # 20 of them in the warm-up
    assert expected_requests(tenant(arrival=ConstantArrival(rate_per_s=0.3)), 7, phase()) == 21


def test_a_phases_load_multiplies_the_rate() -> None:
    assert expected_requests(tenant(arrival=ConstantArrival(rate_per_s=2)), 7, phase(load=1.5)) == 210


@pytest.mark.parametrize("arrival", [ClosedArrival(concurrency=4), BatchArrival(size=4)])
def test_where_the_server_decides_there_is_no_number(arrival: ClosedArrival | BatchArrival) -> None:
    assert expected_requests(tenant(arrival=arrival), 7, phase()) is None
    assert expected_requests(tenant(arrival=arrival), 7, phase(duration_s=None, requests=50)) is None
    assert expected_requests(tenant(arrival=arrival), 7, number(50)) == 50


def test_a_trace_has_its_rows(folder: Path) -> None:
    """At 0, 1.5 and 2 s."""

    def expected(phase: Phase, **options: Any) -> int | None:
        chat = tenant(arrival=TraceArrival(trace="azure", **options))
        return expected_requests(chat, 7, phase, load_traces(profile_of(chat, folder=folder)))

    assert expected(phase()) == 3
    assert expected(phase(warmup_s=0, duration_s=1.6)) == 2
    assert expected(phase(warmup_s=0, duration_s=0.8), speed=2.0) == 2
    assert expected(number(2)) == 2
    assert expected(number(50)) == 3
    assert expected(number(50), loop=True) == 50


@pytest.mark.parametrize(
    "arrival",
    [
        ConstantArrival(rate_per_s=1.9, active_s=((3, 5), (10, 13))),
        RampArrival(from_per_s=1.9, to_per_s=0, over_s=10, base="constant"),
        StepsArrival(steps=(RateStep(rate_per_s=1.9, for_s=5), RateStep(rate_per_s=0, for_s=1)), base="constant"),
    ],
)
def test_a_process_that_ends(arrival: ConstantArrival | RampArrival | StepsArrival) -> None:
    """Each has a mean of 9.5 requests in all, at even steps: ten, however many are asked for."""
    assert expected_requests(tenant(arrival=arrival), 7, number(50)) == 10
    assert expected_requests(tenant(arrival=arrival), 7, number(10)) == 10
    assert expected_requests(tenant(arrival=arrival), 7, number(4)) == 4


@pytest.mark.parametrize(
    "arrival",
    [
        PoissonArrival(rate_per_s=2),
        PoissonArrival(rate_per_s=2, active_s=((5, float("inf")),)),
        StepsArrival(steps=(RateStep(rate_per_s=2, for_s=1), RateStep(rate_per_s=0, for_s=1)), loop=True),
    ],
)
def test_a_process_without_end_is_not_counted_out(arrival: PoissonArrival | StepsArrival) -> None:
    assert expected_requests(tenant(arrival=arrival), 7, number(10**12)) == 10**12


def test_expected_requests_are_those_of_the_schedule_itself() -> None:
    chat = tenant(arrival=PoissonArrival(rate_per_s=4))
    numbers = {expected_requests(chat, seed, phase()) for seed in range(20)}
    assert len(numbers) > 5
    assert all(number is not None and 280 - 5 * 17 < number < 280 + 5 * 17 for number in numbers)


# --- sources


def test_each_kind_has_its_source(folder: Path) -> None:
    tenants = [tenant(name, workload=workload) for name, workload in kinds(folder).items()]
    mixture = MixtureWorkload(parts=(MixturePart(workload=_SYNTHETIC),))
    sources = prepare(profile_of(*tenants, tenant("mixture", workload=mixture), folder=folder))
    assert {name: type(source) for name, source in sources.items()} == {
        "synthetic": SyntheticSource,
        "text": FileSource,
        "jsonl": FileSource,
        "sharegpt": SharegptSource,
        "recorded": SharegptSource,
        "trace": TraceSource,
        "conversation": ConversationSource,
        "prefix": PrefixSource,
        "mixture": MixtureSource,
    }
    assert sources["text"].request(0).prompt == "(text)\nhi"
    assert sorted(sources["jsonl"].request(i).prompt for i in (0, 1)) == ["(jsonl)\nho", "(jsonl)\nmine"]
    assert [sources["trace"].request(i).input_tokens for i in range(4)] == [30, 40, 50, 30]
    first = sources["recorded"].request(0)
    assert first.prompt.startswith("(recorded)\nFirst question ")
    assert sources["recorded"].follow_up(0, first, "Yes.", 2) is not None
    assert sources["sharegpt"].follow_up(0, sources["sharegpt"].request(0), "Yes.", 2) is None


def test_parts_of_a_mixture_that_are_alike_ask_different_things(folder: Path) -> None:
    """Also of a file, where each part's mark differs; a line of one tenant is still its own."""
    file = JsonlWorkload(path=folder / "prompts.jsonl")
    for part in (_SYNTHETIC, kinds(folder)["prefix"], kinds(folder)["conversation"], kinds(folder)["trace"], file):
        workload = MixtureWorkload(parts=(MixturePart(workload=part), MixturePart(workload=part)))
        source = prepare(profile_of(tenant("jsonl", workload=workload), folder=folder))["jsonl"]
        prompts = [source.request(i).prompt for i in range(60)]
        assert len(set(prompts)) == 60
        assert part is not file or any("mine" in prompt for prompt in prompts)


def test_shared_prefixes_are_shared_with_parts_of_a_mixture() -> None:
    prefix = PrefixWorkload(groups=2, prefix_tokens=_TEN, input_tokens=_TEN, output_tokens=_TEN, share_prefix=True)
    mixture = MixtureWorkload(parts=(MixturePart(workload=_SYNTHETIC), MixturePart(workload=prefix)))
    sources = prepare(profile_of(tenant("a", workload=prefix), tenant("b", workload=mixture)))

    def starts(source: PromptSource) -> set[str]:
        requests = [source.request(i) for i in range(60)]
        return {" ".join(request.prompt.split(" ")[:10]) for request in requests if request.input_tokens == 20}

    assert len(starts(sources["a"])) == 2
    assert starts(sources["a"]) == starts(sources["b"])


def test_texts_are_shorter_by_what_the_template_adds(folder: Path) -> None:
    """100 tokens are asked for, of which the template makes 9; a file's prompts stay as they are."""
    count = load_tokenizer("builtin").count
    hundred = ConstantLength(value=100)
    workloads: dict[str, Workload] = {
        "synthetic": SyntheticWorkload(input_tokens=hundred, output_tokens=_TEN),
        "prefix": PrefixWorkload(prefix_tokens=ConstantLength(value=60), input_tokens=_TEN, output_tokens=_TEN),
        "conversation": ConversationWorkload(turns=_TEN, input_tokens=hundred, output_tokens=_TEN),
        "trace": TraceWorkload(trace="azure"),
        "text": TextWorkload(path=folder / "prompts.txt"),
        "mixture": MixtureWorkload(parts=(MixturePart(workload=_SYNTHETIC),)),
    }
    asked = {"synthetic": 100, "prefix": 70, "conversation": 100, "trace": 30, "mixture": 10}
    profile = profile_of(*(tenant(name, workload=each) for name, each in workloads.items()), folder=folder)
    sources = prepare(profile, dict.fromkeys(workloads, 9))
    for name, tokens in asked.items():
        request = sources[name].request(0)
        assert (request.input_tokens, count(request.prompt)) == (tokens, tokens - 9)
    request = sources["text"].request(0)
    assert request.input_tokens == count("(text)\nhi")
    assert prepare(profile)["synthetic"].request(0).input_tokens == count(
        prepare(profile)["synthetic"].request(0).prompt
    )


def bodies(path: str) -> list[str]:
    """Bodies of each kind's first requests, whole conversations included, for each API."""
    folder = Path(path)
    plain = kinds(folder)
    mixture = MixtureWorkload(parts=tuple(MixturePart(workload=workload) for workload in plain.values()))
    tenants = [tenant(name, workload=workload) for name, workload in {**plain, "mixture": mixture}.items()]
    sources = prepare(profile_of(*tenants, folder=folder))
    made = []
    for source in sources.values():
        for index in range(12):
            request = source.request(index)
            while True:
                for dialect in DIALECTS.values():
                    ask = Ask(
                        "tiny",
                        request.messages,
                        request.prompt,
                        request.output_tokens,
                        Sampling(),
                        ServerFamily("unknown"),
                    )
                    made.append(dialect.body(ask).decode())
                following = source.follow_up(index, request, "An answer.", 4)
                if following is None:
                    break
                made.append(repr(following.think_s))
                request = following.request
    return made


def test_the_same_bytes_in_another_process(folder: Path) -> None:
    here = bodies(str(folder))
    assert elsewhere(bodies, str(folder)) == here
    assert len(here) > 9 * 12 * 3


def test_alone_or_together_a_tenant_asks_the_same() -> None:
    profile = profile_of(tenant("chat"), tenant("batch"))
    together, alone = (prepare(plan(profile)) for plan in (mixed, solo))
    for tenant_id in ("chat", "batch"):
        for index in (0, 1, 59, 60, 61, 5000):
            assert together[tenant_id].request(index) == alone[tenant_id].request(index)


def test_a_tenant_that_never_sends_still_has_a_source() -> None:
    profile = parse(MINIMAL)
    plan = tuple(dataclasses.replace(each, tenants=()) for each in phases_of(profile))
    assert prepare_prompts(profile, plan)["chat"].request(0).input_tokens == 100


def test_a_tokenizer_that_is_missing(tmp_path: Path) -> None:
    profile = parse(MINIMAL.replace("name: tiny", f"name: tiny, tokenizer: {tmp_path}/tokenizer.json"))
    with pytest.raises(WorkloadError, match=r"model.tokenizer: '.*/tokenizer.json' can't be loaded"):
        prepare(profile)
