"""Synthetic conversations: exact texts, all that was said in order, and nothing that depends on the answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.profile.distribution import ConstantDuration, ConstantLength, UniformDuration, UniformLength
from fairshare_locust.profile.workloads import ConversationWorkload
from fairshare_locust.workload import PromptRequest, load_tokenizer
from fairshare_locust.workload.conversation import ConversationSource
from fairshare_locust.workload.words import Words

_TOKENIZER = load_tokenizer("builtin")
_WORDS = Words(_TOKENIZER)


def source(tenant_id: str = "chat", seed: int = 7, *, overhead_tokens: int = 0, **options: Any) -> ConversationSource:
    defaults = {
        "turns": ConstantLength(value=3),
        "input_tokens": ConstantLength(value=10),
        "output_tokens": ConstantLength(value=5),
    }
    workload = ConversationWorkload(**{**defaults, **options})
    return ConversationSource(workload, seed, tenant_id, _TOKENIZER, _WORDS, overhead_tokens)


def held(prompts: ConversationSource, index: int, answer: str = " yes", answer_tokens: int = 1) -> list[PromptRequest]:
    """All turns of a conversation in which every answer is the same."""
    turns = [prompts.request(index)]
    while (following := prompts.follow_up(index, turns[-1], answer, answer_tokens)) is not None:
        turns.append(following.request)
    return turns


def user_texts(turns: list[PromptRequest]) -> list[str]:
    assert turns[-1].messages is not None
    return [message["content"] for message in turns[-1].messages if message["role"] == "user"]


def system_text(turns: list[PromptRequest]) -> str:
    assert turns[0].messages is not None
    assert turns[0].messages[0]["role"] == "system"
    return turns[0].messages[0]["content"]


def test_each_turn_carries_all_that_was_said_and_the_real_answers() -> None:
    """System 4 tokens, 10 a turn; the server counts 7 and 2 tokens for its answers: 14, 31, 43."""
    prompts = source(system_tokens=4)
    first = prompts.request(0)
    second = prompts.follow_up(0, first, " one answer", 7)
    assert second is not None
    third = prompts.follow_up(0, second.request, " another", 2)
    assert third is not None
    assert prompts.follow_up(0, third.request, " the last", 3) is None
    assert [request.turn for request in (first, second.request, third.request)] == [0, 1, 2]
    assert [request.input_tokens for request in (first, second.request, third.request)] == [14, 31, 43]
    assert third.request.messages is not None
    system, one, two, three = (third.request.messages[i]["content"] for i in (0, 1, 3, 5))
    assert third.request.messages == (
        {"role": "system", "content": system},
        {"role": "user", "content": one},
        {"role": "assistant", "content": " one answer"},
        {"role": "user", "content": two},
        {"role": "assistant", "content": " another"},
        {"role": "user", "content": three},
    )
    assert _TOKENIZER.counts([system, one, two, three]) == [4, 10, 10, 10]
    assert second.request.messages == third.request.messages[:4]
    assert first.messages == third.request.messages[:2]
    assert first.prompt == f"{system} {one}"
    assert second.request.prompt == f"{system} {one} one answer {two}"
    assert third.request.prompt == f"{system} {one} one answer {two} another {three}"


def test_without_a_system_text() -> None:
    request = source().request(0)
    assert request.messages == ({"role": "user", "content": request.prompt},)
    assert request.input_tokens == _TOKENIZER.count(request.prompt) == 10


@settings(deadline=None, max_examples=40)
@given(
    turns=st.integers(1, 5),
    system_tokens=st.integers(0, 50),
    low=st.integers(1, 100),
    seed=st.integers(0, 2**63 - 1),
    index=st.integers(0, 10**9),
)
def test_token_counts_are_exact_where_answers_are_whole_words(
    turns: int, system_tokens: int, low: int, seed: int, index: int
) -> None:
    prompts = source(
        seed=seed,
        turns=ConstantLength(value=turns),
        system_tokens=system_tokens,
        input_tokens=UniformLength(low=low, high=low + 20),
    )
    answer = " the the the"
    made = held(prompts, index, answer, _TOKENIZER.count(answer))
    assert [request.turn for request in made] == list(range(turns))
    for request in made:
        assert _TOKENIZER.count(request.prompt) == request.input_tokens
    assert all(low <= count <= low + 20 for count in _TOKENIZER.counts(user_texts(made)))


def test_what_is_said_does_not_depend_on_the_answers() -> None:
    prompts = source(
        turns=UniformLength(low=2, high=9),
        output_tokens=UniformLength(low=1, high=1000),
        input_tokens=UniformLength(low=1, high=50),
    )
    for index in range(20):
        one, other = held(prompts, index, " yes", 1), held(prompts, index, "\nNo, not at all.", 8)
        assert user_texts(one) == user_texts(other)
        assert [turn.output_tokens for turn in one] == [turn.output_tokens for turn in other]


def test_an_answer_that_is_empty_stays_in_the_chat() -> None:
    second = held(source(), 0, "", 0)[1]
    assert second.messages is not None
    assert second.messages[1] == {"role": "assistant", "content": ""}
    assert second.input_tokens == 20


def test_turns_lengths_and_think_times_are_drawn() -> None:
    prompts = source(
        turns=UniformLength(low=2, high=4),
        output_tokens=UniformLength(low=3, high=5),
        think_s=UniformDuration(low=1, high=2),
    )
    assert {prompts.turns(i) for i in range(60)} == {2, 3, 4}
    assert all(len(held(prompts, i)) == prompts.turns(i) for i in range(30))
    assert {turn.output_tokens for i in range(30) for turn in held(prompts, i)} == {3, 4, 5}
    think_s = []
    for index in range(30):
        request = prompts.request(index)
        while (following := prompts.follow_up(index, request, "", 0)) is not None:
            request = following.request
            think_s.append(following.think_s)
    assert all(1 <= each <= 2 for each in think_s)
    assert len(set(think_s)) == len(think_s) == sum(prompts.turns(i) - 1 for i in range(30))
    constant = source(think_s=ConstantDuration(value=2.5))
    following = constant.follow_up(0, constant.request(0), "", 0)
    assert following is not None
    assert following.think_s == 2.5


def test_conversations_differ_in_every_turn_but_share_their_system_text() -> None:
    prompts = source(system_tokens=8)
    made = [held(prompts, index) for index in range(100)]
    texts = [text for turns in made for text in user_texts(turns)]
    assert len(set(texts)) == 300
    assert len({system_text(turns) for turns in made}) == 1
    assert system_text(held(source("batch", system_tokens=8), 0)) != system_text(made[0])


def test_seed_tenant_and_index_decide() -> None:
    made = [held(source(), index) for index in range(5)]
    assert [held(source(), index) for index in (4, 0)] == [made[4], made[0]]
    assert held(source("batch"), 0) != made[0]
    assert held(source(seed=8), 0) != made[0]


def test_the_template_is_taken_off_the_first_turn() -> None:
    made = held(source(overhead_tokens=4), 0)
    assert _TOKENIZER.counts(user_texts(made)) == [6, 10, 10]
    assert [turn.input_tokens for turn in made] == [10, 21, 32]
    least = source(overhead_tokens=40).request(0)
    assert (_TOKENIZER.count(least.prompt), least.input_tokens) == (1, 41)
