"""The native API of Text Generation Inference: `/generate` and `/generate_stream`.

An event per token, `data:` without a blank behind it, no `[DONE]`. TGI has no `ignore_eos`: an answer can be
capped (`max_new_tokens`), not stretched. A log probability is 0 because the modelled answer is certain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence as Many
from typing import Any

from fairshare_locust.simulator.answer import Choice
from fairshare_locust.simulator.request import GenerationRequest, RefusalError, parse_json
from fairshare_locust.simulator.text import Word

__all__ = ["TgiApi", "TgiFormat"]

_MAX_NEW_TOKENS = 100  # the API's default
_FINISH_REASONS = {"length": "length", "stop": "eos_token"}


class TgiApi:
    """One of TGI's two endpoints: they differ in whether the answer is streamed."""

    def __init__(self, max_model_len: int, *, stream: bool) -> None:
        self._max_model_len = max_model_len
        self._stream = stream

    def parse(self, body: bytes, headers: Mapping[str, str]) -> GenerationRequest:  # noqa: ARG002 - one protocol
        """Check a request body.

        Raises:
            RefusalError: 400 for what is no JSON, 422 for a fault in it.
        """
        try:
            value = parse_json(body)
        except json.JSONDecodeError as error:
            raise RefusalError(400, f"Failed to parse the request body as JSON: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get("inputs"), str):
            raise _cannot_deserialize("`inputs` must be a string")
        parameters = value.get("parameters")
        parameters = {} if parameters is None else parameters
        if not isinstance(parameters, dict):
            raise _cannot_deserialize("`parameters` must be an object")
        max_new_tokens = parameters.get("max_new_tokens")
        if max_new_tokens is not None and type(max_new_tokens) is not int:
            raise _cannot_deserialize("`parameters.max_new_tokens` must be an integer")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise _invalid("`max_new_tokens` must be strictly positive")
        adapter = parameters.get("adapter_id")
        if adapter is not None and not isinstance(adapter, str):
            raise _cannot_deserialize("`parameters.adapter_id` must be a string")
        details = parameters.get("details")
        if details is not None and not isinstance(details, bool):
            raise _cannot_deserialize("`parameters.details` must be a boolean")
        return GenerationRequest(
            texts=(value["inputs"],),
            special_tokens=True,
            max_tokens=max_new_tokens,
            stream=self._stream,
            details=bool(details),
        )

    def max_tokens(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """The cap of the answer: what was asked for, else 100.

        Raises:
            RefusalError: 422 for a request that does not fit into the context, or has no prompt.
        """
        if prompt_tokens < 1:
            raise _invalid("`inputs` cannot be empty")
        max_new_tokens = request.max_tokens or _MAX_NEW_TOKENS
        if prompt_tokens + max_new_tokens > self._max_model_len:
            raise _invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {self._max_model_len}. Given: {prompt_tokens} "
                f"`inputs` tokens and {max_new_tokens} `max_new_tokens`"
            )
        return max_new_tokens

    def answer_format(self, request: GenerationRequest, prompt_tokens: int) -> TgiFormat:
        """How to write the answer to `request`."""
        return TgiFormat(request, prompt_tokens)

    def refuse_failed(self, message: str) -> RefusalError:
        """The refusal of an answer that can't be finished."""
        return RefusalError(424, {"error": message, "error_type": "generation"})


class TgiFormat:
    """Events and body of a generation."""

    def __init__(self, request: GenerationRequest, prompt_tokens: int) -> None:
        self._details = request.details
        self._prompt_tokens = prompt_tokens

    def opening(self, choices: int) -> Many[bytes]:  # noqa: ARG002 - one protocol for all formats
        """Nothing: the first event has the first token."""
        return ()

    def token(self, index: int, word: Word, generated_tokens: int) -> bytes:  # noqa: ARG002
        """Event of one token; its index counts from 1."""
        return (
            b'data:{"index":%d,"token":{"id":%d,"text":%b,"logprob":0.0,"special":false},'
            b'"generated_text":null,"details":null}\n\n' % (generated_tokens, word.id, word.json)
        )

    def last_token(self, index: int, choice: Choice, *, ends_answer: bool) -> bytes:  # noqa: ARG002
        """Event of the last token, with the whole text."""
        event = {
            "index": len(choice.words),
            "token": _token(choice.words[-1]),
            "generated_text": _text(choice),
            "details": {**self._counts(choice), "input_length": self._prompt_tokens} if self._details else None,
        }
        return _event(event)

    def closing(self, choices: Many[Choice]) -> Many[bytes]:  # noqa: ARG002
        """Nothing: the event with the whole text was the last."""
        return ()

    def error(self, message: str) -> Many[bytes]:
        """An error event under status 200."""
        return (_event({"error": message, "error_type": "generation"}),)

    def whole(self, choices: Many[Choice]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        (choice,) = choices
        body: dict[str, Any] = {"generated_text": _text(choice)}
        if self._details:
            tokens = [_token(word) for word in choice.words]
            body["details"] = {**self._counts(choice), "prefill": [], "tokens": tokens}
        return body

    def _counts(self, choice: Choice) -> dict[str, Any]:
        return {
            "finish_reason": _FINISH_REASONS[choice.finish_reason],
            "generated_tokens": len(choice.words),
            "seed": None,
        }


def _token(word: Word) -> dict[str, Any]:
    return {"id": word.id, "text": word.text, "logprob": 0.0, "special": False}


def _text(choice: Choice) -> str:
    return "".join(word.text for word in choice.words)


def _event(value: dict[str, Any]) -> bytes:
    return b"data:%b\n\n" % json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _invalid(message: str) -> RefusalError:
    return RefusalError(422, {"error": f"Input validation error: {message}", "error_type": "validation"})


def _cannot_deserialize(message: str) -> RefusalError:
    return RefusalError(422, f"Failed to deserialize the JSON body into the target type: {message}")
