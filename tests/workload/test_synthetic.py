"""Synthetic prompts: exact lengths, no two with the same beginning, the same everywhere."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.distribution import ConstantLength, Length, UniformLength
from fairshare_locust.profile.workloads import SyntheticWorkload
from fairshare_locust.workload import Tokenizer, load_tokenizer
from fairshare_locust.workload.source import PromptRequest
from fairshare_locust.workload.synthetic import POOL, SyntheticSource
from fairshare_locust.workload.words import Words
from tests.elsewhere import elsewhere

_TOKENIZER = load_tokenizer("builtin")
_WORDS = Words(_TOKENIZER)
_SPREAD = UniformLength(low=1, high=2000)


def source(
    input_tokens: Length, expected: int, seed: int = 7, tenant_id: str = "chat", output_tokens: Length = _SPREAD
) -> SyntheticSource:
    workload = SyntheticWorkload(input_tokens=input_tokens, output_tokens=output_tokens)
    return SyntheticSource(workload, seed, tenant_id, _TOKENIZER, _WORDS, expected)


def requests(prompts: SyntheticSource, count: int) -> list[PromptRequest]:
    return [prompts.request(i) for i in range(count)]


def beginning(text: str, tokens: int = 16) -> tuple[int, ...]:
    return tuple(_TOKENIZER._inner.encode(text, add_special_tokens=False).ids[:tokens])


@settings(deadline=None, max_examples=80)
@given(length=st.integers(1, 2000), seed=st.integers(0, 2**63 - 1), index=st.integers(0, 100_000))
def test_every_prompt_has_exactly_its_tokens(length: int, seed: int, index: int) -> None:
    """Whether it is one of the prepared ones or one that uses one of them again."""
    prompts = source(ConstantLength(value=length), 2, seed)
    for i in (0, 1, 2, index):
        request = prompts.request(i)
        assert request.input_tokens == length
        assert _TOKENIZER.count(request.prompt) == length
        assert request.messages is None


def test_lengths_are_those_of_the_distributions() -> None:
    prompts = source(UniformLength(low=10, high=20), 300, output_tokens=UniformLength(low=3, high=5))
    made = requests(prompts, 300)
    assert {request.input_tokens for request in made} == set(range(10, 21))
    assert {request.output_tokens for request in made} == {3, 4, 5}
    assert _TOKENIZER.counts([request.prompt for request in made]) == [request.input_tokens for request in made]


def test_the_pool_goes_round_with_new_beginnings() -> None:
    prompts = source(UniformLength(low=1, high=40), 10)
    made = requests(prompts, 50)
    for i, request in enumerate(made):
        model = made[i % 10]
        assert request.input_tokens == model.input_tokens == _TOKENIZER.count(request.prompt)
        assert request.output_tokens == model.output_tokens
        assert request.prompt.split(" ")[4:] == model.prompt.split(" ")[4:]
    long_enough = [request.prompt for request in made if request.input_tokens >= 4]
    assert len({beginning(prompt, 4) for prompt in long_enough}) == len(long_enough)


def test_no_more_are_prepared_than_a_pool_holds() -> None:
    prompts = source(ConstantLength(value=8), POOL + 5)
    first, again = prompts.request(3), prompts.request(POOL + 3)
    assert first.prompt.split(" ")[4:] == again.prompt.split(" ")[4:]
    assert first.prompt != again.prompt


def test_tenants_never_share_a_beginning() -> None:
    """16 tokens are a block of the usual prefix cache."""
    seen: dict[tuple[int, ...], str] = {}
    for tenant_id in ("chat", "batch", "a", "b", "chat2"):
        for request in requests(source(UniformLength(low=16, high=64), 400, tenant_id=tenant_id), 600):
            start = beginning(request.prompt)
            assert len(start) == 16
            assert start not in seen, (tenant_id, seen[start])
            seen[start] = tenant_id


def test_seed_tenant_and_index_decide() -> None:
    made = requests(source(_SPREAD, 20), 20)
    assert requests(source(_SPREAD, 20), 20) == made
    prompts = source(_SPREAD, 20)
    assert [prompts.request(i) for i in (13, 25, 5, 13)] == [made[13], prompts.request(25), made[5], made[13]]
    assert requests(source(_SPREAD, 20, seed=8), 20) != made
    assert requests(source(_SPREAD, 20, tenant_id="batch"), 20) != made


def test_a_longer_run_begins_with_the_same_requests() -> None:
    assert requests(source(_SPREAD, 50), 20) == requests(source(_SPREAD, 20), 20)


def test_inputs_and_outputs_are_drawn_apart() -> None:
    other = source(_SPREAD, 20, output_tokens=ConstantLength(value=1))
    assert [request.prompt for request in requests(other, 20)] == [
        request.prompt for request in requests(source(_SPREAD, 20), 20)
    ]


def test_nothing_expected_still_makes_one() -> None:
    assert source(ConstantLength(value=5), 0).request(0).input_tokens == 5


def shas() -> list[str]:
    return [request.sha for request in requests(source(_SPREAD, 20), 40)]


def test_the_same_in_another_process() -> None:
    assert elsewhere(shas) == shas()


def test_the_sha_is_that_of_the_prompt() -> None:
    """sha256("the")[:16], and of the chat's JSON."""
    plain = PromptRequest(None, "the", 1, 1)
    chat = PromptRequest(({"role": "user", "content": "the"},), "the", 1, 1)
    assert plain.sha == "b9776d7ddf459c9a"
    assert chat.sha != plain.sha
    assert chat.sha == PromptRequest(({"role": "user", "content": "the"},), "other", 9, 9).sha


def _word_level(words: list[str]) -> Tokenizer:
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0])
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return Tokenizer(inner)


def test_a_tokenizer_with_too_few_words() -> None:
    with pytest.raises(
        WorkloadError, match=r"model.tokenizer: only 3 words are one token in it \(3 at the start of a text\), too few"
    ):
        Words(_word_level(["the", "cat", "sat", "X"]))


def test_a_tokenizer_that_joins_words() -> None:
    letters = "abcdefghij"
    words = ["the", *(a + b for a in letters for b in letters)]
    tokenizer = _word_level(words)
    usable = Words(tokenizer)

    class Joining(Tokenizer):
        def counts(self, texts: list[str]) -> list[int]:  # type: ignore[override]
            return [count - 1 for count in super().counts(texts)]

    workload = SyntheticWorkload(input_tokens=ConstantLength(value=9), output_tokens=ConstantLength(value=1))
    with pytest.raises(WorkloadError) as caught:
        SyntheticSource(workload, 7, "chat", Joining(tokenizer._inner), usable, 3)
    assert str(caught.value) == (
        "model.tokenizer: a prompt made of 9 tokens came out at 8 (tenant 'chat', index 0): this tokenizer joins "
        "words; use a jsonl or text workload, or another tokenizer"
    )
