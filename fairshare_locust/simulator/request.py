"""What a client asks for, whichever API it came through, and how it is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fairshare_locust.errors import FairshareError

__all__ = ["TENANT_HEADER", "GenerationRequest", "RefusalError", "parse_json"]

TENANT_HEADER = "X-Gateway-Inference-Fairness-Id"
"""Says whose a request is; the name is that of the Kubernetes gateways for inference."""


class RefusalError(FairshareError):
    """A request that is answered with an error: `status`, and `body` as JSON, or as plain text if a str."""

    def __init__(self, status: int, body: dict[str, Any] | str) -> None:
        self.status = status
        self.body = body
        super().__init__(f"{status}: {body}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A checked request. The prompt is either `texts`, to be tokenized, or `token_ids`.

    Attributes:
        texts: parts of the prompt that are tokenized apart (chat messages).
        extra_prompt_tokens: added by the chat template.
        model: the adapter asked for; None for the base model.
        priority: lower goes first, where the engine schedules by priority.
        special_tokens: count what the tokenizer puts around a whole prompt.
        max_tokens: None if the client left it to the server.
        min_tokens: the answer does not end by itself before.
        ignore_eos: the answer never ends by itself.
        stop: strings that end it.
        include_stop: the one that ends it is part of it.
        cache_salt: only prompts with the same share blocks in the prefix cache.
        choices: answers to the one prompt.
        include_usage, continuous_usage: token counts at the end of a stream, and in each of its events.
        details: TGI's counts at the end.
    """

    texts: tuple[str, ...] = ()
    token_ids: tuple[int, ...] | None = None
    extra_prompt_tokens: int = 0
    model: str | None = None
    priority: int = 0
    special_tokens: bool = False
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    cache_salt: str | None = None
    choices: int = 1
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    details: bool = False


def parse_json(body: bytes) -> Any:
    """The JSON value in `body`.

    Raises:
        json.JSONDecodeError: it is none; the error knows where and why.
    """
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("invalid UTF-8", "", error.start) from error
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", "", 0) from error
