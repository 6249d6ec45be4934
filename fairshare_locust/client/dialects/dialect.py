"""Dialect: what a client has to know of one API. Pure; no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from fairshare_locust.client.dialects.option import Option, asked_options
from fairshare_locust.client.dialects.transcript import Transcript
from fairshare_locust.profile.model import Sampling

__all__ = ["Ask", "Dialect", "ServerFamily", "error_message", "event_object", "token_count"]


@dataclass(frozen=True, slots=True)
class ServerFamily:
    """What a server accepts beyond the plain API.

    Attributes:
        name: vllm, transformers, simulator, …; unknown if it could not be told.
        ignore_eos: it takes `ignore_eos` and `min_tokens`, so an answer has exactly the wanted length.
        generation_config: it takes the length as a `generation_config` string (transformers serve).
        stream_usage: it takes `stream_options.include_usage`.
        takes: the options that it takes.
        by_priority: whether it schedules by priority; None: that can't be seen.
    """

    name: str
    ignore_eos: bool = False
    generation_config: bool = False
    stream_usage: bool = True
    takes: frozenset[Option] = frozenset()
    by_priority: bool | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request in terms of no API: a prompt or a chat, and how much to answer.

    `adapter` is the model where it is not the server's own, for an API that names it apart (TGI).
    """

    model: str
    messages: tuple[dict[str, str], ...] | None
    prompt: str
    output_tokens: int
    sampling: Sampling
    family: ServerFamily
    priority: int | None = None
    cache_salt: str | None = None
    adapter: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that are asked for and that the server takes."""
        asked = asked_options(self.sampling, self.priority, self.cache_salt)
        return {option: value for option, value in asked.items() if option in self.family.takes}


class Dialect(Protocol):
    """How one API is asked, and how its stream is read."""

    @property
    def name(self) -> str:
        """The profile's word for it."""
        ...

    @property
    def path(self) -> str:
        """Path of the endpoint, after the server's base URL."""
        ...

    def body(self, ask: Ask) -> bytes:
        """The JSON body of a streaming request."""
        ...

    def read(self, data: bytes, stamp: float, transcript: Transcript) -> None:
        """Take in the data of one event that arrived at `stamp`."""
        ...

    def text_bounds(self, data: bytes) -> tuple[int, int] | None:
        """Where the text stands in an event that is content and nothing else (no count of tokens either).

        Any event with the same bytes around another plain text then is so, too. None for other events.
        """
        ...

    def close(self, transcript: Transcript) -> None:
        """The stream is over: draw conclusions that need its end."""
        ...


def event_object(data: bytes, transcript: Transcript) -> dict[str, Any] | None:
    """The JSON object of an event; None, with the transcript failed, for an error event or anything else."""
    try:
        event: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        event = None
    if not isinstance(event, dict):
        transcript.fail(f"event is no JSON object: {data[:200].decode(errors='replace')}")
        return None
    if event.get("error") is not None:
        transcript.fail(error_message(event["error"]))
        return None
    return event


def error_message(error: Any) -> str:
    """The message of an error in any of the shapes that servers use: a text, or an object with a message."""
    if isinstance(error, dict):
        message = error.get("message") or error.get("error") or error
        return str(message)
    return str(error)


def token_count(value: Any) -> int | None:
    """A server's count of tokens; None for anything that is no count."""
    return value if type(value) is int and value >= 0 else None
