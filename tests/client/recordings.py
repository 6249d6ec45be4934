"""Exchanges recorded from real servers, and what a person reads in them.

`wire/*.wire.jsonl` has a line for each segment received, HTTP head and chunk framing included. The values of
`RECORDINGS` were read off those files by eye; no code made them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fairshare_locust.profile.model import Api
from fairshare_locust.record.record import Outcome
from tests.client.server import chunk

__all__ = ["RECORDINGS", "Recording", "engine_death"]

_WIRE = Path(__file__).parent / "wire"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What one recorded exchange says. `content`: (segment, text) of each chunk with generated content."""

    name: str
    api: Api = "openai_chat"
    status: int = 200
    outcome: Outcome = "ok"
    error: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    chunk_tokens: tuple[int, ...] | None = None
    content: tuple[tuple[int, str], ...] = ()

    def segments(self) -> list[bytes]:
        """The bytes as they came."""
        lines = (_WIRE / f"{self.name}.wire.jsonl").read_text().splitlines()
        return [json.loads(line)["bytes"].encode("latin-1") for line in lines]


def engine_death() -> list[bytes]:
    """A stream whose engine died: an error event inside a 200, then [DONE]. A segment for the head and each event."""
    text = (_WIRE / "vllm-cpu.midstream_sigterm.txt").read_text()
    head, _, body = text.partition("<<< response head\n")[2].partition("\n<<< body")
    events = [line for line in body.splitlines() if line.startswith("data: ")]
    framed = [chunk(f"{event}\n\n".encode()) for event in events]
    return [head.replace("\n", "\r\n").encode() + b"\r\n\r\n", *framed, chunk(b"")]


def _from(first: int, *texts: str) -> tuple[tuple[int, str], ...]:
    """Chunks in consecutive segments."""
    return tuple(enumerate(texts, start=first))


_HTTP_422 = (
    "HTTP 422: [{'type': 'json_invalid', 'loc': ['body', 1], 'msg': 'JSON decode error', 'input': {}, "
    "'ctx': {'error': 'Expecting property name enclosed in double quotes'}}]"
)
_PINNED = "HTTP 400: Server is pinned to 'real/servers/dir/tiny-llama'; requested 'no-such-model'."
_TWELVE = _from(
    *(2, " seek", "G", " therefore", "hor", " topic", "ment", " ((", "ms", "quivalent", ' "{}', "ATED", " timestamp")
)
_EIGHT = _from(1, " new", "di", "br", " dummy", " way", " /,", "allenge", "same")

RECORDINGS = (
    # --- vLLM
    Recording(
        name="vllm-cpu.chat_stream_plain",
        finish_reason="length",
        content=_from(2, "sigint", "sv", "ES", "ize", "ites"),
    ),
    Recording(
        name="vllm-cpu.chat_stream_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=12,
        content=_from(
            *(2, " distribut", "LEVEL", " English", "hor", "SELECTED", ' "{}', "FILENO"),
            *(" En", "den", " subdirectories", " Union", " cir"),
        ),
    ),
    Recording(
        name="vllm-cpu.chat_stream_continuous_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=5,
        chunk_tokens=(1, 1, 1, 1, 1),
        content=_from(2, " bo", "}{", "CLASS", "fsencode", " Pos"),
    ),
    Recording(
        name="vllm-cpu.chat_stream_n2",
        finish_reason="length",
        input_tokens=20,
        output_tokens=8,
        content=(
            *((2, "################"), (3, "xffff"), (4, "US"), (5, " cert"), (5, "fig"), (6, "New")),
            *((7, "visible"), (8, "ces")),
        ),
    ),
    Recording(
        name="vllm-cpu.completions_stream_usage",
        api="openai_completions",
        finish_reason="length",
        input_tokens=2,
        output_tokens=8,
        content=_from(1, "mu", " upon", "filename", "ween", " new", "mu", " process", " Charset"),
    ),
    Recording(
        name="vllm-cpu.completions_stream_token_ids",
        api="openai_completions",
        finish_reason="length",
        input_tokens=4,
        output_tokens=3,
        content=_from(1, "()", " guarante", "42"),
    ),
    Recording(
        name="vllm-cpu.error_bad_json",
        status=400,
        outcome="http_error",
        error="HTTP 400: 1 validation error: {'type': 'json_invalid', 'loc': 'body.1', 'msg': 'JSON decode error', "
        "'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting property name enclosed in double quotes'}}",
    ),
    Recording(
        name="vllm-cpu.error_bad_max_tokens",
        status=400,
        outcome="http_error",
        error="HTTP 400: max_tokens must be at least 1, got -1. (parameter=max_tokens, value=-1)",
    ),
    Recording(name="vllm-cpu.error_not_found", status=404, outcome="http_error", error="HTTP 404: Not Found"),
    Recording(
        name="vllm-cpu.error_prompt_too_long_chat",
        status=400,
        outcome="http_error",
        error="HTTP 400: This model's maximum context length is 2048 tokens. However, your prompt contains at least "
        "2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the "
        "input prompt. (parameter=input_tokens, value=2049)",
    ),
    Recording(
        name="vllm-cpu.error_unknown_model",
        status=404,
        outcome="http_error",
        error="HTTP 404: The model `no-such-model` does not exist. Valid aliases: tiny.",
    ),
    # --- llama.cpp: the role and the first token share a segment; usage stands in an event of its own or with the end
    Recording(
        name="llama-server.chat_stream_plain",
        finish_reason="length",
        content=_from(1, "unded", "de", " gre", " double", "art"),
    ),
    Recording(
        name="llama-server.chat_stream_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=12,
        content=_from(
            *(1, "ATTRIBUTE", "ateg", '",', " Note", " nothing", "chronous"),
            *("unless", "space", "sa", "75", "ites", " Argument"),
        ),
    ),
    Recording(
        name="llama-server.chat_stream_continuous_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=5,
        content=_from(1, " stream", " W", " Open", " src", " nargs"),
    ),
    Recording(  # a usage event for each choice, and never their sum
        name="llama-server.chat_stream_n2",
        finish_reason="length",
        input_tokens=20,
        output_tokens=4,
        content=(
            *((1, "TUPLE"), (2, " title"), (3, "ivision"), (4, "ferred"), (5, "Iter"), (6, "From"), (7, "1234")),
            (8, "unless"),
        ),
    ),
    Recording(
        name="llama-server.completions_stream_usage",
        api="openai_completions",
        finish_reason="length",
        input_tokens=2,
        output_tokens=8,
        content=_from(1, " new", " Visual", "MM", " algorithm", "mu", " fs", " builtins", "hor"),
    ),
    Recording(
        name="llama-server.completions_stream_token_ids",
        api="openai_completions",
        finish_reason="length",
        input_tokens=4,
        output_tokens=3,
        content=_from(1, "()", "paths", "ATED"),
    ),
    Recording(  # it serves its only model under any name
        name="llama-server.error_unknown_model",
        finish_reason="length",
        content=_from(1, " packed", ' "{}', " Sub", '"\\'),
    ),
    Recording(
        name="llama-server.error_bad_json",
        status=500,
        outcome="http_error",
        error="HTTP 500: [json.exception.parse_error.101] parse error at line 1, column 3: syntax error while parsing "
        "object key - invalid literal; last read: '{no'; expected string literal",
    ),
    Recording(name="llama-server.error_not_found", status=404, outcome="http_error", error="HTTP 404: File Not Found"),
    Recording(
        name="llama-server.error_prompt_too_long_chat",
        status=400,
        outcome="http_error",
        error="HTTP 400: request (12011 tokens) exceeds the available context size (2048 tokens), try increasing it",
    ),
    # --- transformers serve: no [DONE]; the last event has finish_reason and usage; `n` is ignored
    Recording(
        name="transformers-serve.chat_stream_plain",
        finish_reason="length",
        input_tokens=20,
        output_tokens=5,
        content=((2, " seek"), (2, "G"), (3, " therefore"), (4, "hor"), (5, " topic")),
    ),
    Recording(
        name="transformers-serve.chat_stream_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=12,
        content=_TWELVE,
    ),
    Recording(
        name="transformers-serve.chat_stream_continuous_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=5,
        content=_from(1, " seek", "G", " therefore", "hor", " topic"),
    ),
    Recording(
        name="transformers-serve.chat_stream_n2",
        finish_reason="length",
        input_tokens=20,
        output_tokens=4,
        content=_from(2, " seek", "G", " therefore", "hor"),
    ),
    Recording(
        name="transformers-serve.completions_stream_usage",
        api="openai_completions",
        finish_reason="length",
        input_tokens=2,
        output_tokens=8,
        content=_EIGHT,
    ),
    Recording(
        name="transformers-serve.completions_stream_token_ids",
        api="openai_completions",
        status=400,
        outcome="http_error",
        error="HTTP 400: prompt must be a string.",
    ),
    Recording(name="transformers-serve.error_bad_json", status=422, outcome="http_error", error=_HTTP_422),
    Recording(
        name="transformers-serve.error_bad_max_tokens",
        api="openai_completions",
        outcome="stream_error",
        error="`max_new_tokens` must be greater than 0, but is -1.",
    ),
    Recording(name="transformers-serve.error_not_found", status=404, outcome="http_error", error="HTTP 404: Not Found"),
    Recording(  # it takes a prompt of any length
        name="transformers-serve.error_prompt_too_long_chat",
        finish_reason="length",
        input_tokens=12011,
        output_tokens=4,
        content=_from(2, "IPE", " nbytes", "ces", "mon"),
    ),
    Recording(name="transformers-serve.error_unknown_model", status=400, outcome="http_error", error=_PINNED),
    # --- the same with continuous batching
    Recording(
        name="transformers-serve-cb.chat_stream_plain",
        finish_reason="length",
        input_tokens=20,
        output_tokens=5,
        content=_from(2, " seek", "G", " therefore", "hor", " topic"),
    ),
    Recording(
        name="transformers-serve-cb.chat_stream_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=12,
        content=_TWELVE,
    ),
    Recording(
        name="transformers-serve-cb.chat_stream_continuous_usage",
        finish_reason="length",
        input_tokens=20,
        output_tokens=5,
        content=_from(2, " seek", "G", " therefore", "hor", " topic"),
    ),
    Recording(  # the head and the role share a segment
        name="transformers-serve-cb.chat_stream_n2",
        finish_reason="length",
        input_tokens=20,
        output_tokens=4,
        content=_from(1, " seek", "G", " therefore", "hor"),
    ),
    Recording(
        name="transformers-serve-cb.completions_stream_usage",
        api="openai_completions",
        finish_reason="length",
        input_tokens=2,
        output_tokens=8,
        content=_EIGHT,
    ),
    Recording(
        name="transformers-serve-cb.completions_stream_token_ids",
        api="openai_completions",
        status=400,
        outcome="http_error",
        error="HTTP 400: prompt must be a string.",
    ),
    Recording(name="transformers-serve-cb.error_bad_json", status=422, outcome="http_error", error=_HTTP_422),
    Recording(  # it answers a length of -1 with nothing at all, properly ended
        name="transformers-serve-cb.error_bad_max_tokens",
        api="openai_completions",
        finish_reason="length",
        input_tokens=2,
        output_tokens=0,
    ),
    Recording(
        name="transformers-serve-cb.error_not_found", status=404, outcome="http_error", error="HTTP 404: Not Found"
    ),
    Recording(
        name="transformers-serve-cb.error_prompt_too_long_chat",
        finish_reason="length",
        input_tokens=12011,
        output_tokens=4,
        content=_from(2, "IPE", " nbytes", "ces", "mon"),
    ),
    Recording(name="transformers-serve-cb.error_unknown_model", status=400, outcome="http_error", error=_PINNED),
)
