"""PromptSource: what a tenant's request with a given index asks for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import orjson

__all__ = ["PromptRequest", "PromptSource", "prompt_sha"]


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What one request asks: a chat or a plain prompt, and how many tokens to answer.

    Attributes:
        messages: a chat; None for a plain prompt.
        prompt: the plain prompt, or the chat's texts one after another for an API that knows no chat.
        input_tokens: of the texts, without what a chat template adds.
    """

    messages: tuple[dict[str, str], ...] | None
    prompt: str
    input_tokens: int
    output_tokens: int

    @property
    def sha(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the prompt."""
        return prompt_sha(self.messages, self.prompt)


def prompt_sha(messages: tuple[dict[str, str], ...] | None, prompt: str) -> str:
    """See PromptRequest.sha."""
    content = prompt.encode() if messages is None else orjson.dumps(messages)
    return hashlib.sha256(content).hexdigest()[:16]


class PromptSource(Protocol):
    """Prepared before the load starts; asking it costs no tokenization."""

    def request(self, index: int) -> PromptRequest:
        """The request with this index: the same one whenever, wherever and in whatever order it is asked for."""
        ...
