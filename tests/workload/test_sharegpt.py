"""ShareGPT: what a file may hold, first prompts and whole conversations, in which order, with which mark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.distribution import ConstantDuration, ConstantLength, UniformDuration, UniformLength
from fairshare_locust.profile.workloads import SharegptWorkload
from fairshare_locust.workload import PromptRequest, load_tokenizer
from fairshare_locust.workload.sharegpt import RecordedConversation, SharegptSource, read_sharegpt
from fairshare_locust.workload.words import Words

_TOKENIZER = load_tokenizer("builtin")
_WORDS = Words(_TOKENIZER)
_FILE = Path("sharegpt.json")


def said(*texts: str) -> list[dict[str, str]]:
    """`human: Hi` and so on."""
    return [dict(zip(("from", "value"), text.split(": ", 1), strict=True)) for text in texts]


def entry(name: str, *texts: str) -> dict[str, Any]:
    return {"id": name, "conversations": said(*texts)}


def file(folder: Path, *entries: Any) -> Path:
    (folder / "sharegpt.json").write_text(json.dumps(entries))
    return folder / "sharegpt.json"


def answer(tokens: int) -> str:
    """Words of so many tokens."""
    return " ".join([_WORDS.first[0], *_WORDS.inner[: tokens - 1]])


def recorded(*turns: tuple[str, str], system: str = "") -> RecordedConversation:
    return RecordedConversation(system, turns)


def source(
    *conversations: RecordedConversation,
    tenant_id: str = "chat",
    seed: int = 7,
    expected: int | None = None,
    **options: Any,
) -> SharegptSource:
    workload = SharegptWorkload(path=_FILE, **options)
    return SharegptSource(workload, conversations, seed, tenant_id, _TOKENIZER, expected)


# --- reading


def test_read_sharegpt(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        entry("a", "human: Hi", "gpt: Hello"),
        entry("b", "system: Be brief.", "user: One", "chatgpt: 1", "human: Two", "bard: 2", "human: unanswered"),
        entry("never answered", "human: Hi"),
        entry("nothing"),
        entry("answers first", "gpt: Hello", "human: Hi", "human: again", "assistant: Yes"),
        entry("blank", "human:  ", "gpt: What?", "human: Hi", "bing: Hello"),
        {"conversations": said("human: no id", "gpt: fine"), "model": "x"},
    )
    assert read_sharegpt(path) == [
        RecordedConversation("", (("Hi", "Hello"),)),
        RecordedConversation("Be brief.", (("One", "1"), ("Two", "2"))),
        RecordedConversation("", (("again", "Yes"),)),
        RecordedConversation("", (("Hi", "Hello"),)),
        RecordedConversation("", (("no id", "fine"),)),
    ]


def test_every_entry_that_is_no_conversation_is_named(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        entry("fine", "human: Hi", "gpt: Hello"),
        7,
        {"id": "x1"},
        {"id": "x2", "conversations": {"from": "human"}},
        {"conversations": ["Hi"]},
        {"id": "x3", "conversations": [*said("human: Hi"), {"from": "tool", "value": "1"}]},
        {"id": 9, "conversations": [{"value": "Hi"}]},
        {"id": "x5", "conversations": [{"from": "human", "value": None}]},
    )
    names = "human, user, gpt, chatgpt, bard, bing, assistant, system"
    with pytest.raises(WorkloadError) as caught:
        read_sharegpt(path)
    assert str(caught.value).split("\n") == [
        f"{path}: conversation 1: found int; must be an object with conversations",
        f"{path}: conversation 2 (id 'x1'): conversations: found nothing; must be a list of {{from, value}}",
        f"{path}: conversation 3 (id 'x2'): conversations: found dict; must be a list of {{from, value}}",
        f"{path}: conversation 4: conversations[0]: found str; must be an object {{from, value}}",
        f"{path}: conversation 5 (id 'x3'): conversations[1].from: found 'tool'; must be one of {names}",
        f"{path}: conversation 6 (id 9): conversations[0].from: found None; must be one of {names}",
        f"{path}: conversation 7 (id 'x5'): conversations[0].value: found NoneType; must be text",
    ]


def test_only_the_first_twenty_are_shown(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_sharegpt(file(tmp_path, *[7] * 23))
    assert len(str(caught.value).split("\n")) == 21
    assert str(caught.value).endswith("\nand 3 more")


def test_a_file_that_is_not_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text('[\n {"id": "a",\n  "conversations": [}\n]\n')
    with pytest.raises(WorkloadError, match=r"sharegpt.json:3: not JSON: "):
        read_sharegpt(path)


def test_a_file_that_is_no_list_is_gone_or_has_nothing_to_ask(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text('\ufeff{"conversations": []}')
    with pytest.raises(WorkloadError, match=r"sharegpt.json: found dict; must be a list of \{id, conversations\}"):
        read_sharegpt(path)
    with pytest.raises(WorkloadError, match=r"none.json: can't be read: No such file or directory"):
        read_sharegpt(tmp_path / "none.json")
    with pytest.raises(WorkloadError) as caught:
        read_sharegpt(file(tmp_path, entry("a", "human: Hi"), entry("b", "gpt: Hello")))
    assert str(caught.value) == (
        f"{path}: in none of its 2 conversations is a prompt (from human) followed by an answer (gpt)"
    )


# --- first prompts


def test_the_first_prompt_with_the_length_of_its_recorded_answer() -> None:
    """An empty answer is asked for as one token."""
    made = source(recorded(("Hi", answer(3)), ("More", answer(9))), share_prefix=True).request(0)
    assert made == PromptRequest(({"role": "user", "content": "Hi"},), "Hi", _TOKENIZER.count("Hi"), 3)
    assert source(recorded(("Hi", "")), share_prefix=True).request(0).output_tokens == 1


def test_a_system_text_goes_first() -> None:
    made = source(recorded(("Hi", "the"), system="Be brief."), share_prefix=True).request(0)
    assert made.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert made.prompt == "Be brief.\n\nHi"
    assert made.input_tokens == _TOKENIZER.count("Be brief.\n\nHi")


def test_lengths_that_are_drawn() -> None:
    prompts = source(recorded(("Hi", "the the")), output_tokens=UniformLength(low=50, high=52))
    assert {prompts.request(i).output_tokens for i in range(40)} == {50, 51, 52}


def test_first_prompts_have_no_further_turn() -> None:
    prompts = source(recorded(("Hi", "the"), ("More", "the")))
    assert prompts.request(0).turn is None
    assert prompts.follow_up(0, prompts.request(0), "Hello", 1) is None


# --- conversations


def test_a_conversation_carries_the_real_answers_in_order() -> None:
    talk = recorded(("One?", answer(1)), ("Two?", answer(2)), ("Three?", answer(3)), system="Be brief.")
    prompts = source(talk, conversation=True, share_prefix=True, think_s=ConstantDuration(value=2.5))
    first = prompts.request(0)
    second = prompts.follow_up(0, first, "Real one.", 40)
    assert second is not None
    third = prompts.follow_up(0, second.request, "Real two.", 50)
    assert third is not None
    assert prompts.follow_up(0, third.request, "Real three.", 60) is None
    assert third.request.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Real one."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Real two."},
        {"role": "user", "content": "Three?"},
    )
    assert third.request.prompt == "Be brief.\n\nOne?Real one.\n\nTwo?Real two.\n\nThree?"
    assert second.request.messages == third.request.messages[:4]
    assert [first.turn, second.request.turn, third.request.turn] == [0, 1, 2]
    assert [first.output_tokens, second.request.output_tokens, third.request.output_tokens] == [1, 2, 3]
    assert (second.think_s, third.think_s) == (2.5, 2.5)
    opening, two, three = _TOKENIZER.counts(["Be brief.\n\nOne?", "Two?", "Three?"])
    assert first.input_tokens == opening
    assert second.request.input_tokens == opening + 40 + two
    assert third.request.input_tokens == opening + 40 + two + 50 + three


def test_drawn_lengths_and_think_times_depend_on_index_and_turn_alone() -> None:
    talk = recorded(("One?", "a"), ("Two?", "b"), ("Three?", "c"))
    options: dict[str, Any] = {
        "conversation": True,
        "output_tokens": UniformLength(low=1, high=10_000),
        "think_s": UniformDuration(low=0, high=5),
    }

    prompts = source(talk, **options)

    def drawn(index: int, real: str) -> list[tuple[int, float]]:
        request = prompts.request(index)
        made = [(request.output_tokens, 0.0)]
        while (following := prompts.follow_up(index, request, real, 3)) is not None:
            request = following.request
            made.append((request.output_tokens, following.think_s))
        return made

    assert drawn(5, "yes") == drawn(5, "no")
    everything = [each for index in range(10) for each in drawn(index, "yes")]
    assert len({output_tokens for output_tokens, _ in everything}) > 25
    assert len({think_s for _, think_s in everything}) == 1 + 20  # a first turn waits for nothing


# --- order and marks


def many(count: int) -> list[RecordedConversation]:
    return [recorded((f"prompt {i}", "the")) for i in range(count)]


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 30), rounds=st.integers(1, 3), seed=st.integers(0, 2**63 - 1))
def test_every_round_is_a_permutation(count: int, rounds: int, seed: int) -> None:
    prompts = source(*many(count), seed=seed, share_prefix=True)
    made = [prompts.request(i).prompt for i in range(rounds * count)]
    for round_ in range(rounds):
        assert sorted(made[round_ * count : (round_ + 1) * count]) == sorted(f"prompt {i}" for i in range(count))
    assert rounds == 1 or count < 8 or made[:count] != made[count : 2 * count]


def test_of_a_large_file_only_what_is_expected_is_prepared() -> None:
    every, few = source(*many(40), share_prefix=True), source(*many(40), expected=10, share_prefix=True)
    made = [few.request(i).prompt for i in range(30)]
    assert made[:10] == [every.request(i).prompt for i in range(10)]
    assert sorted(made[10:20]) == sorted(made[20:]) == sorted(made[:10])
    assert len({tuple(made[i : i + 10]) for i in (0, 10, 20)}) == 3
    assert source(*many(3), expected=0).request(2).prompt.startswith("(chat 3)\n")


def test_each_conversation_begins_with_the_tenant_and_the_round() -> None:
    talk = recorded(("One?", "the"), ("Two?", "the"), system="Be brief.")
    prompts = source(talk, conversation=True)
    for index, mark in ((0, "(chat)\n"), (1, "(chat 2)\n")):
        first = prompts.request(index)
        following = prompts.follow_up(index, first, "Yes.", 2)
        assert following is not None
        assert first.messages is not None
        assert first.messages[0] == {"role": "system", "content": f"{mark}Be brief."}
        assert first.input_tokens == _TOKENIZER.count(first.prompt)
        assert following.request.messages is not None
        assert following.request.messages[:2] == first.messages
        assert following.request.prompt == f"{mark}Be brief.\n\nOne?Yes.\n\nTwo?"


def test_the_order_is_shuffled_by_seed_and_tenant() -> None:
    def order(**options: Any) -> list[str]:
        prompts = source(*many(50), share_prefix=True, **options)
        return [prompts.request(i).prompt for i in range(50)]

    assert order() == order()
    assert len({tuple(one) for one in (order(), order(seed=8), order(tenant_id="batch"))}) == 3


def test_the_lengths_of_a_tenants_turns_by_profile_default() -> None:
    """`output_tokens: 7` for every turn, whatever was recorded."""
    prompts = source(
        recorded(("One?", "the the"), ("Two?", "the")), conversation=True, output_tokens=ConstantLength(value=7)
    )
    following = prompts.follow_up(0, prompts.request(0), "", 0)
    assert following is not None
    assert (prompts.request(0).output_tokens, following.request.output_tokens) == (7, 7)
