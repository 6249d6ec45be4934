"""A conversation between the real client and a scripted server, in one event loop."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate, pairwise
from typing import Protocol

import gevent
import pytest

from fairshare_locust.client import client as client_module
from fairshare_locust.client.client import StreamingClient
from fairshare_locust.client.dialects import DIALECTS
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.profile.model import Api, Timeouts
from tests.client.server import Script, ScriptedServer


class WatchedExchange(Exchange):
    """An exchange that says what has reached it and when."""

    __slots__ = ("receipts",)

    receipts: list[tuple[int, float]]  # for each read: bytes received so far, and its stamp

    def received(self, stamp: float, data: bytes) -> None:
        super().received(stamp, data)
        seen = self.seen + len(data)
        if seen == len(data):
            self.receipts = []
        self.receipts.append((seen, stamp))

    @property
    def seen(self) -> int:
        """Bytes of the answer that have reached the exchange."""
        return self.receipts[-1][0] if hasattr(self, "receipts") else 0

    def stamps_of(self, segments: Sequence[bytes]) -> list[list[float]]:
        """For each segment that the server sent by itself: the stamps of the reads that brought it, mostly one."""
        edges = [0, *accumulate(map(len, segments))]
        return [[stamp for seen, stamp in self.receipts if a < seen <= b] for a, b in pairwise(edges)]


class WatchedClient(StreamingClient):
    """A client whose exchanges are watched."""

    def exchange(self, body: bytes, request_id: str) -> WatchedExchange:
        exchange = super().exchange(body, request_id)
        assert isinstance(exchange, WatchedExchange)
        return exchange


class Serve(Protocol):
    """Starts a scripted server that is stopped with the test."""

    def __call__(self, script: Script, *, host: str = ..., tls: ssl.SSLContext | None = ...) -> ScriptedServer: ...


class Connect(Protocol):
    """Makes a client that is closed with the test."""

    def __call__(
        self,
        url: str,
        *,
        api: Api = ...,
        timeouts: Timeouts = ...,
        headers: dict[str, str] | None = ...,
        key: str | None = ...,
        tls: ssl.SSLContext | None = ...,
    ) -> WatchedClient: ...


class Talk(Protocol):
    """Sends one request to a server with this script; the exchange with its outcome."""

    def __call__(
        self, script: Script, *, api: Api = ..., timeouts: Timeouts = ..., body: bytes = ...
    ) -> WatchedExchange: ...


@pytest.fixture(autouse=True)
def hang_guard() -> Iterator[None]:
    """A test that waits for what never comes fails instead."""
    with gevent.Timeout(20):
        yield


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "Exchange", WatchedExchange)


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(cleanup: ExitStack) -> Serve:
    def start(script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> ScriptedServer:
        server = ScriptedServer(script, host=host, tls=tls)
        cleanup.callback(server.stop)
        return server

    return start


@pytest.fixture
def connect(cleanup: ExitStack) -> Connect:
    def make(
        url: str,
        *,
        api: Api = "openai_chat",
        timeouts: Timeouts | None = None,
        headers: dict[str, str] | None = None,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> WatchedClient:
        client = WatchedClient(Endpoint.parse(url), DIALECTS[api], timeouts or Timeouts(), headers, key, tls)
        cleanup.callback(client.close)
        return client

    return make


@pytest.fixture
def talk(serve: Serve, connect: Connect) -> Callable[..., WatchedExchange]:
    def converse(
        script: Script, *, api: Api = "openai_chat", timeouts: Timeouts | None = None, body: bytes = b"{}"
    ) -> WatchedExchange:
        client = connect(serve(script).url, api=api, timeouts=timeouts or Timeouts())
        exchange = client.exchange(body, "test-000000")
        client.send(exchange)
        return exchange

    return converse
