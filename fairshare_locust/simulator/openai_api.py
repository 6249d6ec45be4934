"""The OpenAI API as vLLM speaks it: requests, refusals, events and bodies, in vLLM's bytes.

Parameters that would only change which words come (`temperature`, `top_p`, `seed`, …) are accepted: the
words carry no meaning here. Absent from the model and from these answers: tools, log probabilities, token ids.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from collections.abc import Sequence as Many
from typing import Any

from fairshare_locust import __version__
from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.answer import Choice
from fairshare_locust.simulator.request import GenerationRequest, RefusalError, parse_json
from fairshare_locust.simulator.text import Word

__all__ = ["MOST_CHOICES", "ChatApi", "CompletionsApi", "error_body"]

MOST_CHOICES = 128
_FINGERPRINT = f"fairshare-simulator-{__version__}"
_DONE = b"data: [DONE]\n\n"
_COMPLETIONS_MAX_TOKENS = 16  # the API's default where a completion does not say
_PRIORITY_HEADER = "X-Vllm-Priority"
_MOST_PRIORITY = 2**63 - 1
_NOT_IN_CACHE_SALT = frozenset("@/\\\0")
_LONGEST_CACHE_SALT = 128


def error_body(status: int, message: str, kind: str, param: str | None) -> dict[str, Any]:
    """vLLM's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class _OpenAiApi:
    """What the two endpoints share. An instance knows the names it serves under and the modelled server."""

    def __init__(self, config: SimulatorOptions, model: str, adapters: Many[str]) -> None:
        self._config = config
        self._model = model
        self._adapters = frozenset(adapters)

    def refuse_failed(self, message: str) -> RefusalError:
        """The refusal of an answer that can't be finished."""
        return RefusalError(500, error_body(500, message, "InternalServerError", None))

    def _fields(self, body: bytes) -> _Fields:
        """The request's fields, once it is known to be an object that asks for a model that is served."""
        try:
            value = parse_json(body)
        except json.JSONDecodeError as error:
            raise _invalid("json_invalid", f"body.{error.pos}", "JSON decode error", {"error": error.msg}) from error
        if not isinstance(value, dict):
            raise _invalid("model_attributes_type", "body", "Input should be a valid dictionary")
        fields = _Fields(value)
        model = fields.text("model")
        if model and model != self._model and model not in self._adapters:
            message = f"The model `{model}` does not exist. Valid aliases: {self._model}."
            raise RefusalError(404, error_body(404, message, "NotFoundError", "model"))
        return fields

    def _common(self, fields: _Fields, headers: Mapping[str, str], max_tokens_name: str) -> dict[str, Any]:
        """What both endpoints take, as arguments of GenerationRequest."""
        max_tokens = fields.integer(max_tokens_name)
        if max_tokens is not None and max_tokens < 1:
            raise _bad_value(f"max_tokens must be at least 1, got {max_tokens}.", "max_tokens", max_tokens)
        min_tokens = fields.integer("min_tokens") or 0
        if min_tokens < 0:
            message = f"min_tokens must be greater than or equal to 0, got {min_tokens}."
            raise _bad_value(message, "min_tokens", min_tokens)
        if max_tokens is not None and min_tokens > max_tokens:
            message = f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}."
            raise _bad_value(message, "min_tokens", min_tokens)
        choices = fields.integer("n")
        choices = 1 if choices is None else choices
        if not 1 <= choices <= MOST_CHOICES:
            raise _bad_value(f"n must be at least 1 and at most {MOST_CHOICES}, got {choices}.", "n", choices)
        temperature = fields.number("temperature")
        if temperature is not None and temperature < 0:
            message = f"temperature must be non-negative, got {temperature}."
            raise _bad_value(message, "temperature", temperature)
        model = fields.text("model")
        stream = fields.boolean("stream")
        options = fields.nested("stream_options")
        if options is not None and not stream:
            message = "Stream options can only be defined when `stream=True`."
            raise RefusalError(400, error_body(400, message, "BadRequestError", "stream_options"))
        include_usage = options is not None and options.boolean("include_usage")
        return {
            "model": model if model in self._adapters else None,
            "priority": _priority(fields, headers),
            "max_tokens": max_tokens,
            "min_tokens": min_tokens,
            "ignore_eos": fields.boolean("ignore_eos"),
            "stop": _stop(fields),
            "include_stop": fields.boolean("include_stop_str_in_output"),
            "cache_salt": _cache_salt(fields),
            "choices": choices,
            "stream": stream,
            "include_usage": include_usage,
            "continuous_usage": include_usage and options is not None and options.boolean("continuous_usage_stats"),
        }

    def _check_length(self, prompt_tokens: int, max_tokens: int | None) -> None:
        if prompt_tokens < 1:
            message = "The decoder prompt cannot be empty"
            raise RefusalError(400, error_body(400, message, "BadRequestError", "prompt"))
        limit = self._config.max_model_len
        head = f"This model's maximum context length is {limit} tokens. However, "
        if prompt_tokens >= limit:
            message = (
                f"{head}your prompt contains at least {prompt_tokens} input tokens, which exceeds this limit "
                "even without any output tokens. Please reduce the length of the input prompt."
            )
            raise _bad_value(message, "input_tokens", prompt_tokens)
        if max_tokens is not None and prompt_tokens + max_tokens > limit:
            message = (
                f"{head}you requested {max_tokens} output tokens and your prompt contains at least "
                f"{prompt_tokens} input tokens, for a total of at least {prompt_tokens + max_tokens} tokens. "
                "Please reduce the length of the input prompt or the number of requested output tokens."
            )
            raise _bad_value(message, "input_tokens", prompt_tokens)


class ChatApi(_OpenAiApi):
    """`/v1/chat/completions`."""

    def parse(self, body: bytes, headers: Mapping[str, str]) -> GenerationRequest:
        """Check a request body.

        Raises:
            RefusalError: 400 for a fault in it, 404 for another model.
        """
        fields = self._fields(body)
        messages = fields.array("messages")
        if not messages:
            raise _invalid("too_short", "body.messages", "List should have at least 1 item")
        name = "max_tokens" if fields.integer("max_completion_tokens") is None else "max_completion_tokens"
        return GenerationRequest(
            texts=tuple(_content(message, f"body.messages.{i}") for i, message in enumerate(messages)),
            extra_prompt_tokens=self._config.chat_template_tokens,
            **self._common(fields, headers, name),
        )

    def max_tokens(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """The cap of the answer: what was asked for, else all that is left of the context.

        Raises:
            RefusalError: 400 for a request that does not fit into the context, or has no prompt.
        """
        self._check_length(prompt_tokens, request.max_tokens)
        return request.max_tokens or self._config.max_model_len - prompt_tokens

    def answer_format(self, request: GenerationRequest, prompt_tokens: int) -> ChatFormat:
        """How to write the answer to `request`."""
        return ChatFormat(self._config, request.model or self._model, request, prompt_tokens)


class CompletionsApi(_OpenAiApi):
    """`/v1/completions`."""

    def parse(self, body: bytes, headers: Mapping[str, str]) -> GenerationRequest:
        """Check a request body.

        Raises:
            RefusalError: 400 for a fault in it, 404 for another model.
        """
        fields = self._fields(body)
        prompt = fields.value("prompt")
        common = self._common(fields, headers, "max_tokens")
        if isinstance(prompt, str):
            return GenerationRequest(texts=(prompt,), special_tokens=True, **common)
        if isinstance(prompt, list) and all(type(token) is int and token >= 0 for token in prompt):
            return GenerationRequest(token_ids=tuple(prompt), **common)
        raise _invalid("string_type", "body.prompt", "Input should be a string or a list of token ids")

    def max_tokens(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """The cap of the answer: what was asked for, else 16, or less at the end of the context.

        Raises:
            RefusalError: 400 for a request that does not fit into the context, or has no prompt.
        """
        self._check_length(prompt_tokens, request.max_tokens)
        return request.max_tokens or min(_COMPLETIONS_MAX_TOKENS, self._config.max_model_len - prompt_tokens)

    def answer_format(self, request: GenerationRequest, prompt_tokens: int) -> CompletionsFormat:
        """How to write the answer to `request`."""
        return CompletionsFormat(self._config, request.model or self._model, request, prompt_tokens)


class _OpenAiFormat:
    """What the two formats share: everything that is the same in each event is serialised once."""

    _id_prefix: str
    _chunk_object: str
    _object: str
    _usage_details = ""  # further fields of the usage in each event

    def __init__(self, config: SimulatorOptions, model: str, request: GenerationRequest, prompt_tokens: int) -> None:
        self._per_request_metrics = config.per_request_metrics
        self._prompt_tokens = prompt_tokens
        self._include_usage = request.include_usage
        self._continuous_usage = request.continuous_usage
        identity = {"id": f"{self._id_prefix}-{uuid.uuid4().hex[:16]}"}
        rest = {"created": int(time.time()), "model": model}
        self._envelope: dict[str, Any] = {**identity, "object": self._object, **rest}
        chunk_envelope = _compact({**identity, "object": self._chunk_object, **rest})
        self._head = b"data: %b," % chunk_envelope[:-1]  # the object stays open
        self._token_heads = [self._token_head(index) for index in range(request.choices)]

    def token(self, index: int, word: Word, generated_tokens: int) -> bytes:
        """Event of one token."""
        if self._continuous_usage:
            usage = self._usage_field(generated_tokens)
            return b"%b%b%b]%b}\n\n" % (self._token_heads[index], word.json, self._token_tail, usage)
        return b"%b%b%b]}\n\n" % (self._token_heads[index], word.json, self._token_tail)

    def last_token(self, index: int, choice: Choice, *, ends_answer: bool) -> bytes:
        """Event of the last token of a choice, with the finish reason."""
        rest = b""
        if self._continuous_usage:
            rest = self._usage_field(len(choice.words))
        elif ends_answer and not self._include_usage:
            rest = b',"system_fingerprint":"%b"' % _FINGERPRINT.encode()
        stop = b"null" if choice.stop is None else json.dumps(choice.stop).encode()
        tail = self._last_token_tail % (choice.finish_reason.encode(), stop)
        return b"%b%b%b]%b}\n\n" % (self._token_heads[index], choice.words[-1].json, tail, rest)

    def closing(self, choices: Many[Choice]) -> Many[bytes]:
        """The usage, with the request's metrics, if it was asked for, and `[DONE]`."""
        if not self._include_usage:
            return (_DONE,)
        usage = _compact(self._usage(choices))
        rest = b',"system_fingerprint":"%b"' % _FINGERPRINT.encode()
        if self._per_request_metrics and len(choices) == 1:
            # In a stream vLLM leaves out what is null.
            metrics = {name: value for name, value in _metrics(choices[0]).items() if value is not None}
            rest += b',"metrics":%b' % _compact(metrics)
        return (b'%b"choices":[],"usage":%b%b}\n\n' % (self._head, usage, rest), _DONE)

    def error(self, message: str) -> Many[bytes]:
        """An error event under status 200, and `[DONE]`, as vLLM ends a stream whose engine died."""
        body = json.dumps(error_body(500, message, "InternalServerError", None))
        return (f"data: {body}\n\n".encode(), _DONE)

    def whole(self, choices: Many[Choice]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        body = {
            **self._envelope,
            "choices": [self._whole_choice(index, choice) for index, choice in enumerate(choices)],
            "system_fingerprint": _FINGERPRINT,
            "usage": self._usage(choices),
        }
        if self._per_request_metrics:
            body["metrics"] = _metrics(choices[0]) if len(choices) == 1 else None
        return body

    _token_tail: bytes
    _last_token_tail: bytes

    def _token_head(self, index: int) -> bytes:
        """Everything of a token's event before its text."""
        raise NotImplementedError

    def _whole_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        raise NotImplementedError

    def _usage(self, choices: Many[Choice]) -> dict[str, int]:
        generated_tokens = sum(len(choice.words) for choice in choices)
        return {
            "prompt_tokens": self._prompt_tokens,
            "total_tokens": self._prompt_tokens + generated_tokens,
            "completion_tokens": generated_tokens,
        }

    def _usage_field(self, generated_tokens: int) -> bytes:
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%b}' % (
            self._prompt_tokens,
            self._prompt_tokens + generated_tokens,
            generated_tokens,
            self._usage_details.encode(),
        )


class ChatFormat(_OpenAiFormat):
    """Events and body of a chat completion."""

    _id_prefix = "chatcmpl"
    _chunk_object = "chat.completion.chunk"
    _object = "chat.completion"
    _usage_details = ',"completion_tokens_details":null'
    _token_tail = b'},"logprobs":null,"finish_reason":null,"token_ids":null}'
    _last_token_tail = b'},"logprobs":null,"finish_reason":"%b","stop_reason":%b,"token_ids":null}'

    def opening(self, choices: int) -> Many[bytes]:
        """A role without content for each choice: it comes with the first token, but carries none."""
        usage = self._usage_field(0) if self._continuous_usage else b""
        return [
            b'%b"choices":[{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,'
            b'"finish_reason":null}]%b,"prompt_token_ids":null,"prompt_text":null}\n\n' % (self._head, index, usage)
            for index in range(choices)
        ]

    def _token_head(self, index: int) -> bytes:
        return b'%b"choices":[{"index":%d,"delta":{"content":' % (self._head, index)

    def _whole_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": _text(choice)},
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop,
        }


class CompletionsFormat(_OpenAiFormat):
    """Events and body of a text completion."""

    _id_prefix = "cmpl"
    _chunk_object = _object = "text_completion"
    _token_tail = b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}'
    _last_token_tail = (
        b',"logprobs":null,"finish_reason":"%b","stop_reason":%b,"prompt_token_ids":null,"token_ids":null}'
    )

    def opening(self, choices: int) -> Many[bytes]:  # noqa: ARG002 - one protocol for all formats
        """Nothing: the first event has the first token."""
        return ()

    def _token_head(self, index: int) -> bytes:
        return b'%b"choices":[{"index":%d,"text":' % (self._head, index)

    def _whole_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        return {
            "index": index,
            "text": _text(choice),
            "logprobs": None,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop,
        }


class _Fields:
    """Typed reading of a JSON object; null counts as absent."""

    def __init__(self, values: dict[str, Any], location: str = "body") -> None:
        self._values = values
        self._location = location

    def value(self, name: str) -> Any:
        """A field that must be there."""
        if self._values.get(name) is None:
            raise _invalid("missing", f"{self._location}.{name}", "Field required")
        return self._values[name]

    def optional(self, name: str) -> Any:
        """A field of any type; None if absent."""
        return self._values.get(name)

    def array(self, name: str) -> list[Any]:
        """A list that must be there."""
        value = self.value(name)
        if not isinstance(value, list):
            raise _invalid("list_type", f"{self._location}.{name}", "Input should be a valid list")
        return value

    def integer(self, name: str) -> int | None:
        """A whole number."""
        value = self._values.get(name)
        if value is not None and type(value) is not int:
            raise _invalid("int_type", f"{self._location}.{name}", "Input should be a valid integer")
        return value

    def text(self, name: str) -> str | None:
        """A string."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise _invalid("string_type", f"{self._location}.{name}", "Input should be a valid string")
        return value

    def number(self, name: str) -> float | None:
        """A number."""
        value = self._values.get(name)
        if value is not None and type(value) not in (int, float):
            raise _invalid("float_type", f"{self._location}.{name}", "Input should be a valid number")
        return value

    def boolean(self, name: str) -> bool:
        """A truth value; false if absent."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise _invalid("bool_type", f"{self._location}.{name}", "Input should be a valid boolean")
        return bool(value)

    def nested(self, name: str) -> _Fields | None:
        """An object within this one."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise _invalid("dict_type", f"{self._location}.{name}", "Input should be a valid dictionary")
        return None if value is None else _Fields(value, f"{self._location}.{name}")


def _cache_salt(fields: _Fields) -> str | None:
    salt = fields.optional("cache_salt")
    if salt is None:
        return None
    fault = None
    if not isinstance(salt, str) or not salt:
        fault = "be a non-empty string if provided."
    elif len(salt) > _LONGEST_CACHE_SALT or not _NOT_IN_CACHE_SALT.isdisjoint(salt):
        fault = f"be at most {_LONGEST_CACHE_SALT} characters and must not contain '@', '/', '\\\\', or NUL."
    if fault is not None:
        message = f"Parameter 'cache_salt' must {fault} (parameter=cache_salt)"
        raise RefusalError(400, error_body(400, message, "BadRequestError", "cache_salt"))
    assert isinstance(salt, str)
    return salt


def _stop(fields: _Fields) -> tuple[str, ...]:
    """One string, or a list of them; an empty one would end every answer."""
    stop = fields.optional("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise _invalid("string_type", "body.stop", "Input should be a string or a list of strings")
    if "" in stops:
        raise _bad_value("stop cannot contain an empty string.", "stop", stops)
    return tuple(stops)


def _priority(fields: _Fields, headers: Mapping[str, str]) -> int:
    """The header's priority, else the body's, else 0; a header that is no whole number is not there."""
    priority = fields.integer("priority") or 0
    if not -_MOST_PRIORITY - 1 <= priority <= _MOST_PRIORITY:
        raise _invalid("int_range", "body.priority", "Input should be a 64-bit integer")
    try:
        return int(headers.get(_PRIORITY_HEADER, priority))
    except ValueError:
        return priority


def _content(message: Any, location: str) -> str:
    """The text of a chat message: a string, or a list of `{"type": "text", "text": …}`."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    ):
        return "\n".join(part["text"] for part in content)
    raise _invalid("string_type", f"{location}.content", "Input should be a string or a list of text parts")


def _invalid(kind: str, location: str, message: str, context: dict[str, Any] | None = None) -> RefusalError:
    """A validation error as vLLM words it."""
    fault: dict[str, Any] = {"type": kind, "loc": location, "msg": message, "input": "<dict of 0 items>"}
    if context is None:
        del fault["input"]
    else:
        fault["ctx"] = context
    text = f"1 validation error:\n  {fault}"
    return RefusalError(400, error_body(400, text, "Bad Request", location))


def _bad_value(message: str, param: str, value: object) -> RefusalError:
    text = f"{message} (parameter={param}, value={value})"
    return RefusalError(400, error_body(400, text, "BadRequestError", param))


def _metrics(choice: Choice) -> dict[str, float | None]:
    """What vLLM calls per-request metrics; they are of one sequence, so only a request of one choice has them."""
    timing, tokens = choice.timing, len(choice.words)
    return {
        "time_to_first_token_ms": timing.prefill_s * 1e3,  # from being scheduled
        "generation_time_ms": timing.decode_s * 1e3,
        "queue_time_ms": timing.queue_s * 1e3,
        "mean_itl_ms": timing.decode_s / (tokens - 1) * 1e3 if tokens > 1 else None,
        "tokens_per_second": tokens / timing.inference_s if timing.inference_s > 0 else None,
    }


def _text(choice: Choice) -> str:
    return "".join(word.text for word in choice.words)


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
