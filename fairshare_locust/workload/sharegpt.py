"""ShareGPT: recorded conversations, their first prompts or all that their humans said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.arrival.duration import draw_durations
from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.workloads import SharegptWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.length import draw_length
from fairshare_locust.workload.reading import read_whole, refuse
from fairshare_locust.workload.rounds import Rounds, with_mark
from fairshare_locust.workload.source import FollowUp, PromptRequest, PromptSource, next_turn
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["RecordedConversation", "SharegptSource", "read_sharegpt"]

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_PREPARED = 16_384
_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class RecordedConversation:
    """What a human said and was answered, turn by turn, at least one. `system`: empty if there was none."""

    system: str
    turns: tuple[tuple[str, str], ...]


def read_sharegpt(path: Path) -> list[RecordedConversation]:
    """The conversations of a file in which somebody was answered.

    A turn is what a human said, if it is not blank, directly before an answer; whatever stands elsewhere, as an
    answer at the start or a prompt at the end, is left out. Raises WorkloadError that names each entry that is no
    conversation, or that there is none to ask.
    """
    try:
        entries = orjson.loads(read_whole(path))
    except orjson.JSONDecodeError as error:
        raise WorkloadError(f"{path}:{error.lineno}: not JSON: {error}") from error
    if not isinstance(entries, list):
        raise WorkloadError(f"{path}: found {type(entries).__name__}; must be a list of {{id, conversations}}")
    conversations: list[RecordedConversation] = []
    problems: list[str] = []
    for i, entry in enumerate(entries):
        try:
            said = _said(entry)
        except ValueError as error:
            problems.append(f" conversation {i}{_name(entry)}: {error}")
            continue
        turns = tuple(_turns(said))
        if turns:
            conversations.append(RecordedConversation(_BETWEEN.join(t for role, t in said if role == "system"), turns))
        entries[i] = None  # what is left out need not stay in memory
    refuse(path, problems)
    if not conversations:
        raise WorkloadError(
            f"{path}: in none of its {len(entries)} conversations is a prompt (from human) followed by an answer (gpt)"
        )
    return conversations


def _name(entry: Any) -> str:
    return f" (id {entry['id']!r})" if isinstance(entry, dict) and "id" in entry else ""


def _said(entry: Any) -> list[tuple[str, str]]:
    """Roles and texts, one after another."""
    if not isinstance(entry, dict):
        raise ValueError(f"found {type(entry).__name__}; must be an object with conversations")
    messages = entry.get("conversations")
    if not isinstance(messages, list):
        found = type(messages).__name__ if "conversations" in entry else "nothing"
        raise ValueError(f"conversations: found {found}; must be a list of {{from, value}}")
    said = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise ValueError(f"conversations[{i}]: found {type(message).__name__}; must be an object {{from, value}}")
        name, text = message.get("from"), message.get("value")
        if not isinstance(name, str) or name not in _ROLES:
            raise ValueError(f"conversations[{i}].from: found {name!r}; must be one of {', '.join(_ROLES)}")
        if not isinstance(text, str):
            raise ValueError(f"conversations[{i}].value: found {type(text).__name__}; must be text")
        said.append((_ROLES[name], text))
    return said


def _turns(said: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    spoken = [(role, text) for role, text in said if role != "system"]
    for (role, text), (next_role, answer) in pairwise(spoken):
        if role == "user" and next_role == "assistant" and text.strip():
            yield text, answer


@dataclass(frozen=True, slots=True)
class _Turn:
    """A prompt with its tokens, in the first turn with all that stands before it, and the tokens of its answer."""

    text: str
    text_tokens: int
    answer_tokens: int | None


class SharegptSource(PromptSource):
    """Conversations in the order and with the marks of `Rounds`; with `conversation: true` turn by turn.

    Of a large file only so many conversations as requests are `expected` are prepared (None: nobody knows); later
    requests ask those again, in other orders. Each answer is to be as long as the recorded one, 1 token at least,
    or as `output_tokens` draws for index and turn.
    """

    def __init__(
        self,
        workload: SharegptWorkload,
        conversations: Sequence[RecordedConversation],
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer,
        expected: int | None,
    ) -> None:
        self._workload = workload
        self._seed = seed
        self._tenant_id = tenant_id
        most = _PREPARED if expected is None else max(1, expected)
        marked = not workload.share_prefix
        self._rounds = Rounds(len(conversations), seed, tenant_id, tokenizer, marked=marked, most=most)
        self._systems = {place: conversations[place].system for place in self._rounds.places}
        self._turns = self._prepare(conversations, tokenizer)

    def _prepare(
        self, conversations: Sequence[RecordedConversation], tokenizer: Tokenizer
    ) -> dict[int, tuple[_Turn, ...]]:
        """The turns of each conversation, by its place in the file."""
        asked = None if self._workload.conversation else 1
        recorded = [(place, turn) for place in self._rounds.places for turn in conversations[place].turns[:asked]]
        texts = []
        begun: set[int] = set()
        for place, (text, _) in recorded:
            texts.append(text if place in begun else self._rounds.first_mark + self._opening(place, text))
            begun.add(place)
        text_tokens = tokenizer.counts(texts)
        answer_tokens: list[int | None] = [None] * len(recorded)
        if self._workload.output_tokens is None:
            answer_tokens = [max(1, count) for count in tokenizer.counts([answer for _, (_, answer) in recorded])]
        turns: dict[int, tuple[_Turn, ...]] = dict.fromkeys(self._rounds.places, ())
        for (place, (text, _)), tokens, answer in zip(recorded, text_tokens, answer_tokens, strict=True):
            turns[place] += (_Turn(text, tokens, answer),)
        return turns

    def _opening(self, place: int, text: str) -> str:
        """System text and first prompt as one text."""
        system = self._systems[place]
        return f"{system}{_BETWEEN}{text}" if system else text

    def _output_tokens(self, recorded: _Turn, index: int, turn: int) -> int:
        if self._workload.output_tokens is None:
            return recorded.answer_tokens or 1
        return draw_length(self._workload.output_tokens, self._seed, self._tenant_id, f"output_tokens/{index}/{turn}")

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        item = self._rounds.at(index)
        recorded = self._turns[item.place][0]
        user = {"role": "user", "content": recorded.text}
        system = self._systems[item.place]
        return PromptRequest(
            messages=with_mark(({"role": "system", "content": system}, user) if system else (user,), item.mark),
            prompt=item.mark + self._opening(item.place, recorded.text),
            input_tokens=recorded.text_tokens + item.more_tokens,
            output_tokens=self._output_tokens(recorded, index, 0),
            turn=0 if self._workload.conversation else None,
        )

    def follow_up(self, index: int, request: PromptRequest, answer: str, answer_tokens: int) -> FollowUp | None:
        """See PromptSource."""
        turns = self._turns[self._rounds.at(index).place]
        turn = (request.turn or 0) + 1
        if turn >= len(turns):
            return None
        recorded = turns[turn]
        following = next_turn(
            request,
            answer,
            answer_tokens,
            text=recorded.text,
            text_tokens=recorded.text_tokens,
            output_tokens=self._output_tokens(recorded, index, turn),
            separator=_BETWEEN,
        )
        stream = random_stream(self._seed, self._tenant_id, f"think_s/{index}/{turn}")
        return FollowUp(following, float(draw_durations(self._workload.think_s, stream, 1)[0]))
