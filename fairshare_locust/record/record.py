"""RequestRecord: everything that is known of one scheduled request, and its JSON form."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import orjson

__all__ = ["OUTCOMES", "SCHEMA", "Outcome", "RequestRecord", "TokensFrom", "tpot_ms"]

SCHEMA = 1

Outcome = Literal["ok", "http_error", "stream_error", "truncated", "timeout", "connection_error", "cancelled", "shed"]
TokensFrom = Literal["usage", "tokenizer", "chunks"]

OUTCOMES: tuple[Outcome, ...] = (
    "ok",  # the answer came, with its proper end
    "http_error",  # a refusal, or an answer that is no event stream
    "stream_error",  # an error event inside the stream
    "truncated",  # the stream ended without its proper end
    "timeout",  # one of the tenant's timeouts ran out
    "connection_error",  # refused, reset, or closed before any answer
    "cancelled",  # the run ended first
    "shed",  # every slot was busy when it was due, and the profile says to drop it then
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One scheduled request. Stamps are seconds on the run clock; None means it did not happen.

    Attributes:
        phase: the phase that holds `scheduled_s`.
        worker: index of the load process that sent it.
        index: place in the tenant's schedule, from 0 in each phase.
        scheduled_s: when the arrival process wanted it to go out.
        sent_s: just before the client began to send, or to connect.
        headers_s: response headers complete.
        first_token_s, last_token_s: first and last event with generated content.
        ended_s: stream closed, finished or failed.
        input_tokens: the server's count, else that of the prompt (without a chat template).
        tokens_from: where `output_tokens` comes from; None if no token came.
        chunk_gap_us: microseconds between consecutive content chunks, one fewer than chunks.
        chunk_tokens: tokens of each content chunk where the server tells them, else None.
        engine: seconds that the engine says it spent on the request: `queued_s`, `prefill_s`, `decode_s`.
        prompt_sha: first 16 hexadecimal digits of the SHA-256 of the prompt.
    """

    schema: int = SCHEMA
    request_id: str
    tenant: str
    phase: str
    worker: int
    index: int
    scheduled_s: float
    sent_s: float | None = None
    headers_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    ended_s: float | None = None
    outcome: Outcome
    status: int | None = None
    error: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens_from: TokensFrom | None = None
    requested_output_tokens: int | None = None
    chunk_gap_us: list[int] | None = None
    chunk_tokens: list[int] | None = None
    endpoint: str | None = None
    api: str | None = None
    model: str | None = None
    session: str | None = None
    turn: int | None = None
    engine: dict[str, float] | None = None
    prompt_sha: str | None = None

    def to_json(self) -> bytes:
        """One line of `requests.jsonl`, line end included."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, line: bytes | str) -> RequestRecord:
        """The record of one line. Raises ValueError for a line that is no record of this schema."""
        values: Any = orjson.loads(line)
        if not isinstance(values, dict):
            raise ValueError(f"a record is a JSON object, found {type(values).__name__}")
        if values.get("schema") != SCHEMA:
            raise ValueError(f"record schema {values.get('schema')!r} is unknown; this version reads {SCHEMA}")
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys in a record: {', '.join(sorted(unknown))}")
        missing = {field.name for field in fields(cls) if field.default is MISSING} - values.keys()
        if missing:
            raise ValueError(f"keys missing in a record: {', '.join(sorted(missing))}")
        return cls(**values)


def tpot_ms(record: RequestRecord) -> float | None:
    """Time per output token after the first chunk; None where it does not apply."""
    if record.first_token_s is None or record.last_token_s is None or not record.chunk_gap_us:
        return None
    first_chunk = record.chunk_tokens[0] if record.chunk_tokens else 1
    after = (record.output_tokens or 0) - first_chunk
    return (record.last_token_s - record.first_token_s) * 1000 / after if after > 0 else None
