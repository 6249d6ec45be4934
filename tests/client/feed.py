"""Exchanges without sockets: the bytes of an answer, cut as the test likes, through framing, SSE and dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import gevent

from fairshare_locust.client.connection import Connection, Receiver
from fairshare_locust.client.dialects import DIALECTS
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.profile.model import Api, Timeouts

__all__ = ["cut", "feed", "understood"]


class _Feeder:
    """In a connection's place: answers a request with these segments, a second apart, then closes."""

    def __init__(self, segments: Sequence[bytes]) -> None:
        self._segments = segments
        self._receiver: Receiver | None = None
        self.idle_since = 0.0
        self.released = False

    def listen(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def pause(self) -> None:
        self._receiver = None

    def close(self) -> None:
        self._receiver = None

    def expect(self, segment_bytes: int) -> None:
        """A hint for real sockets."""

    def hang_up(self) -> None:
        raise AssertionError("the request was sent at once")

    def send(self, data: bytes, deadline: float) -> None:
        gevent.spawn(self._answer)

    def _answer(self) -> None:
        """Segment i comes at second i, as far as the exchange is told."""
        for second, segment in enumerate(self._segments):
            if self._receiver is None:
                return
            self._receiver.received(float(second), segment)
        if self._receiver is not None:
            self._receiver.closed(None)

    def release(self, connection: Connection) -> None:
        self.released = True


_Listener = Callable[[Exchange, float], None] | None


def feed(
    segments: Sequence[bytes],
    api: Api = "openai_chat",
    on_first_token: _Listener = None,
    on_token: _Listener = None,
) -> Exchange:
    """An exchange that was answered with these segments; segment i is stamped i."""
    exchange = Exchange(DIALECTS[api], b"", Timeouts())
    exchange.on_first_token = on_first_token
    exchange.on_token = on_token
    feeder = _Feeder(segments)
    exchange.run(lambda _timeout_s: cast(Connection, feeder), feeder.release)
    return exchange


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The pieces of `data` between these places."""
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def understood(exchange: Exchange) -> dict[str, Any]:
    """What an exchange has come to, apart from its stamps: the same for any cut of the same bytes."""
    transcript = exchange.transcript
    return {
        "outcome": exchange.outcome,
        "error": exchange.error,
        "status": exchange.status,
        "texts": transcript.texts,
        "chunks": transcript.chunks,
        "chunk_tokens": transcript.chunk_tokens,
        "input_tokens": transcript.input_tokens,
        "output_tokens": transcript.output_tokens,
        "finish_reason": transcript.finish_reason,
        "ended": transcript.ended,
        "message": transcript.error,
    }
