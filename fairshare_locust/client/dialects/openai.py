"""OpenAI's streaming APIs, chat and plain completions, as vLLM, transformers, llama.cpp and others speak them."""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

from fairshare_locust.client.dialects.dialect import Ask, event_object, token_count
from fairshare_locust.client.dialects.transcript import Transcript

__all__ = ["OpenAIChat", "OpenAICompletions"]


class _OpenAI:
    """What the two APIs share: everything but where the text stands."""

    name: str
    path: str
    _text_mark: re.Pattern[bytes]

    def _text(self, choice: dict[str, Any]) -> str | None:
        """Generated content of a choice; None if it has none (a role, an empty delta)."""
        raise NotImplementedError

    def _thought(self, choice: dict[str, Any]) -> str:  # noqa: ARG002 - a chat looks at it
        """The reasoning that a choice's text begins with."""
        return ""

    def read(self, data: bytes, stamp: float, transcript: Transcript) -> None:
        """Take in one event. Usage may stand in any event; `[DONE]` is the end."""
        if data == b"[DONE]":
            transcript.ended = True
            return
        event = event_object(data, transcript)
        if event is None:
            return
        usage = event.get("usage")
        if usage:
            transcript.input_tokens = token_count(usage.get("prompt_tokens"))
            transcript.output_tokens = token_count(usage.get("completion_tokens"))
            if "metrics" in event:
                transcript.engine = _engine_times(event["metrics"])
        text = None
        thought = ""
        token_ids = 0
        for choice in event.get("choices") or ():
            piece = self._text(choice)
            if piece is not None:
                text = piece if text is None else text + piece
                thought = thought or self._thought(choice)
            ids = choice.get("token_ids")
            if ids:
                token_ids += len(ids)
            reason = choice.get("finish_reason")
            transcript.choice(choice.get("index") or 0, reason)
            if reason == "error":
                transcript.fail("finish_reason is error")
        if text is not None:
            # A running count: tokens that came without text of their own are credited to the chunk that shows them.
            counted = transcript.count(transcript.output_tokens) if usage else None
            transcript.content(stamp, text, counted or token_ids or None, thought)

    def text_bounds(self, data: bytes) -> tuple[int, int] | None:
        """See Dialect: one choice with one text, no usage, no token ids, no finish."""
        marks = list(self._text_mark.finditer(data))
        event: Any = orjson.loads(data)
        if len(marks) != 1 or event.get("usage") or event.get("error") is not None or len(event["choices"]) != 1:
            return None
        [choice] = event["choices"]
        start = marks[0].end()
        end = data.find(b'"', start)
        text = data[start:end]
        told = choice.get("finish_reason") is not None or choice.get("token_ids")
        if told or b"\\" in text or self._text(choice) != text.decode(errors="replace"):
            return None
        return start, end

    def close(self, transcript: Transcript) -> None:
        """Servers without `[DONE]` (transformers) end a stream after the chunk with `finish_reason`."""
        if transcript.finished:
            transcript.ended = True

    def _options(self, ask: Ask) -> dict[str, Any]:
        sampling = ask.sampling
        options: dict[str, Any] = {"stream": True, "temperature": sampling.temperature}
        if sampling.top_p is not None:
            options["top_p"] = sampling.top_p
        options |= ask.options
        if ask.family.stream_usage:
            options["stream_options"] = {"include_usage": True}
            if sampling.continuous_usage:
                options["stream_options"]["continuous_usage_stats"] = True
        if sampling.ignore_eos:
            if ask.family.ignore_eos:
                options["ignore_eos"] = True
                options["min_tokens"] = ask.output_tokens
            elif ask.family.generation_config:
                config = {"max_new_tokens": ask.output_tokens, "min_new_tokens": ask.output_tokens}
                if sampling.temperature > 0:  # the config takes the place of the model's own, and is greedy
                    config["do_sample"] = True
                options["generation_config"] = orjson.dumps(config).decode()
        return options


# vLLM's `--enable-per-request-metrics`, in the event with the final usage. Its time to the first token counts from when
# the request was scheduled, not from when it came.
_ENGINE_TIMES = (
    ("queued_s", "queue_time_ms"),
    ("prefill_s", "time_to_first_token_ms"),
    ("decode_s", "generation_time_ms"),
)


def _engine_times(metrics: Any) -> dict[str, float] | None:
    """How long a request was queued, prefilled and decoded; None unless the engine says something of it."""
    if not isinstance(metrics, dict):
        return None
    times = {name: _seconds(metrics.get(key)) for name, key in _ENGINE_TIMES}
    return {name: time_s for name, time_s in times.items() if time_s is not None} or None


def _seconds(ms: Any) -> float | None:
    usable = type(ms) in (int, float) and math.isfinite(ms) and ms >= 0
    return round(ms / 1000, 6) if usable else None


class OpenAIChat(_OpenAI):
    """`/v1/chat/completions`."""

    name = "openai_chat"
    path = "/v1/chat/completions"
    _text_mark = re.compile(rb'"content": ?"')

    def body(self, ask: Ask) -> bytes:
        """The JSON body of a streaming chat request."""
        messages = ask.messages or ({"role": "user", "content": ask.prompt},)
        body = {
            "model": ask.model,
            "messages": messages,
            "max_tokens": ask.output_tokens,
            **self._options(ask),
        }
        return orjson.dumps(body)

    def _text(self, choice: dict[str, Any]) -> str | None:
        delta = choice.get("delta")
        if not delta:
            return None
        content = delta.get("content")
        reasoning = self._thought(choice)
        if reasoning:
            content = reasoning + (content or "")
        if content:
            return str(content)
        return "" if delta.get("tool_calls") else None

    def _thought(self, choice: dict[str, Any]) -> str:
        delta = choice.get("delta") or {}
        return delta.get("reasoning") or delta.get("reasoning_content") or ""


class OpenAICompletions(_OpenAI):
    """`/v1/completions`."""

    name = "openai_completions"
    path = "/v1/completions"
    _text_mark = re.compile(rb'"text": ?"')

    def body(self, ask: Ask) -> bytes:
        """The JSON body of a streaming completion request."""
        body = {
            "model": ask.model,
            "prompt": ask.prompt,
            "max_tokens": ask.output_tokens,
            **self._options(ask),
        }
        return orjson.dumps(body)

    def _text(self, choice: dict[str, Any]) -> str | None:
        return choice.get("text") or None
