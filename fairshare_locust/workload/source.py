"""PromptSource: what a tenant's request with a given index asks for, and what follows it in a conversation."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import orjson

__all__ = ["FollowUp", "PromptRequest", "PromptSource", "next_turn", "prompt_sha"]


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What one request asks: a chat or a plain prompt, and how many tokens to answer.

    Attributes:
        messages: a chat; None for a plain prompt.
        prompt: the plain prompt, or the chat's texts one after another for an API that knows no chat.
        input_tokens: of the texts. Of random words also what the chat template adds, where that is known: such a
            text is made shorter by it, so that the server counts what the profile asks for. Of a later turn: all
            that was said so far, the answers by the server's own counts, without what the template adds to them.
        turn: place in its conversation, from 0; None outside of one.
    """

    messages: tuple[dict[str, str], ...] | None
    prompt: str
    input_tokens: int
    output_tokens: int
    turn: int | None = None

    @property
    def sha(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the prompt."""
        return prompt_sha(self.messages, self.prompt)


def prompt_sha(messages: tuple[dict[str, str], ...] | None, prompt: str) -> str:
    """See PromptRequest.sha."""
    content = prompt.encode() if messages is None else orjson.dumps(messages)
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The next turn of a conversation, due `think_s` after the answer has ended."""

    request: PromptRequest
    think_s: float


class PromptSource(ABC):
    """Prepared before the load starts; asking it costs no tokenization."""

    @abstractmethod
    def request(self, index: int) -> PromptRequest:
        """The request with this index: the same one whenever, wherever and in whatever order it is asked for.

        Where there are conversations, it is the first turn of one.
        """

    def follow_up(self, index: int, request: PromptRequest, answer: str, answer_tokens: int) -> FollowUp | None:  # noqa: ARG002
        """The turn after `request` in the conversation with this index, given the server's answer; None at its end.

        `answer_tokens` is the server's count. What the user says, the length asked for and the think time depend
        on index and turn alone, whatever the answer was.
        """
        return None


def next_turn(
    request: PromptRequest,
    answer: str,
    answer_tokens: int,
    text: str,
    text_tokens: int,
    output_tokens: int,
    separator: str,
) -> PromptRequest:
    """The chat of `request` with its answer and the next `text`.

    For an API that knows no chat, the answer goes on directly after the prompt, as it did when it was generated,
    and `separator` stands before the text: a prefix cache finds all of it.
    """
    messages = request.messages or ({"role": "user", "content": request.prompt},)
    return PromptRequest(
        messages=(*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": text}),
        prompt=f"{request.prompt}{answer}{separator}{text}",
        input_tokens=request.input_tokens + answer_tokens + text_tokens,
        output_tokens=output_tokens,
        turn=(request.turn or 0) + 1,
    )
