"""The prompts that ship with the profiles: well formed, all different, and of many kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROMPTS = Path(__file__).resolve().parents[2] / "profiles" / "prompts.jsonl"

LINES = PROMPTS.read_text(encoding="utf-8").rstrip("\n").split("\n")
ENTRIES: list[dict[str, Any]] = [json.loads(line) for line in LINES]


def text_of(entry: dict[str, Any]) -> str:
    if "prompt" in entry:
        return str(entry["prompt"])
    return "\n".join(message["content"] for message in entry["messages"])


TEXTS = [text_of(entry) for entry in ENTRIES]
WORD_COUNTS = [len(text.split()) for text in TEXTS]


def test_there_are_at_least_200() -> None:
    assert len(ENTRIES) >= 200


def test_each_has_either_a_prompt_or_messages_and_nothing_unknown() -> None:
    for entry in ENTRIES:
        assert ("prompt" in entry) != ("messages" in entry)
        assert entry.keys() <= {"prompt", "messages", "output_tokens"}


def test_prompts_are_text() -> None:
    for entry in ENTRIES:
        if "prompt" in entry:
            assert isinstance(entry["prompt"], str)
            assert entry["prompt"].strip()


def test_conversations_alternate_and_end_with_the_user() -> None:
    for entry in ENTRIES:
        if "messages" in entry:
            assert all(message.keys() == {"role", "content"} for message in entry["messages"])
            assert all(message["content"].strip() for message in entry["messages"])
            roles = [message["role"] for message in entry["messages"]]
            turns = roles[1:] if roles[0] == "system" else roles
            assert turns == ["user", "assistant"] * (len(turns) // 2) + ["user"]


def test_most_say_how_long_the_answer_is() -> None:
    lengths = [entry["output_tokens"] for entry in ENTRIES if "output_tokens" in entry]

    assert all(type(length) is int and 8 <= length <= 600 for length in lengths)
    assert len(ENTRIES) * 0.9 < len(lengths) < len(ENTRIES)


def test_no_two_are_the_same() -> None:
    assert len({text.casefold() for text in TEXTS}) == len(TEXTS)


def test_long_ones_share_no_line() -> None:
    long_texts = [text for text, words in zip(TEXTS, WORD_COUNTS, strict=True) if words > 400]
    lines = [line for text in long_texts for line in text.split("\n") if len(line) > 40]

    assert len(set(lines)) == len(lines)


def test_some_are_short_and_some_are_long() -> None:
    assert sum(words <= 20 for words in WORD_COUNTS) >= 40
    assert sum(words > 400 for words in WORD_COUNTS) >= 35
    assert max(WORD_COUNTS) > 1000


def test_some_contain_code_of_several_languages() -> None:
    for sign in ("def ", "fn ", "func main", "SELECT ", "function ", "#include", "public class"):
        assert any(sign in text for text in TEXTS), sign


def test_some_have_history() -> None:
    turns = [sum(message["role"] == "assistant" for message in entry.get("messages", [])) for entry in ENTRIES]

    assert sum(count >= 1 for count in turns) >= 25
    assert max(turns) >= 2


def test_some_are_not_in_latin_letters() -> None:
    for first, last in (("Ѐ", "ӿ"), ("぀", "ヿ"), ("一", "鿿"), ("가", "힣"), ("؀", "ۿ")):
        assert any(first <= letter <= last for text in TEXTS for letter in text), (first, last)
