"""Requests on the wire, connections kept and not kept, TLS and IPv6."""

from __future__ import annotations

import socket
import ssl

import gevent
import pytest
import trustme

from fairshare_locust.client import client as client_module
from fairshare_locust.profile.model import Timeouts
from tests.client.conftest import Connect, Serve
from tests.client.events import DONE, token
from tests.client.server import Peer, Script, answer, chunk, event_stream, until

_ANSWER = event_stream() + chunk(token("a") + DONE) + chunk(b"")


def _answers(data: bytes = _ANSWER) -> Script:
    """Answer every request on the connection with this."""

    def script(peer: Peer) -> None:
        try:
            while True:
                peer.request()
                peer.send(data)
        except ConnectionError:
            pass  # the client has had enough

    return script


def _outcomes(connect: Connect, url: str, count: int) -> list[str | None]:
    client = connect(url)
    outcomes: list[str | None] = []
    for number in range(count):
        exchange = client.exchange(b"{}", f"test-{number:06d}")
        client.send(exchange)
        outcomes.append(exchange.outcome)
    return outcomes


# --- what is sent


def test_the_request(serve: Serve, connect: Connect) -> None:
    server = serve(_answers())
    client = connect(server.url, headers={"X-Tenant": "chat"}, key="sk-secret")
    client.send(client.exchange('{"text": "größe"}'.encode(), "chat-000017"))
    [request] = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.body == '{"text": "größe"}'.encode()
    assert request.headers == {
        "host": [f"127.0.0.1:{server.port}"],
        "user-agent": ["fairshare-locust/0.1.0"],
        "accept": ["text/event-stream"],
        "accept-encoding": ["identity"],
        "content-type": ["application/json"],
        "content-length": ["19"],
        "x-tenant": ["chat"],
        "x-request-id": ["chat-000017"],
        "authorization": ["Bearer sk-secret"],
    }


def test_no_key_no_header(serve: Serve, connect: Connect) -> None:
    server = serve(_answers())
    client = connect(server.url)
    client.send(client.exchange(b"{}", "chat-000017"))
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/proxy/eu", "/proxy/eu/v1/chat/completions"),
        ("/proxy/eu/v1", "/proxy/eu/v1/chat/completions"),
        ("/v1/proxy", "/v1/proxy/v1/chat/completions"),
        ("/av1", "/av1/v1/chat/completions"),
    ],
)
def test_a_path_on_the_endpoint(serve: Serve, connect: Connect, base: str, path: str) -> None:
    server = serve(_answers())
    assert _outcomes(connect, server.url + base, 1) == ["ok"]
    assert server.requests[0].line == f"POST {path} HTTP/1.1"


@pytest.mark.parametrize(
    ("api", "path"),
    [("openai_completions", "/v1/completions"), ("tgi", "/generate_stream")],
    ids=["completions", "tgi"],
)
def test_each_api_has_its_path(serve: Serve, connect: Connect, api: str, path: str) -> None:
    server = serve(_answers())
    client = connect(server.url, api="tgi" if api == "tgi" else "openai_completions")
    client.send(client.exchange(b"{}", "test-000000"))
    assert server.requests[0].line == f"POST {path} HTTP/1.1"


def test_a_large_request_arrives_whole(serve: Serve, connect: Connect) -> None:
    body = b"".join(b"%08d" % i for i in range(1_000_000))
    server = serve(_answers())
    client = connect(server.url)
    exchange = client.exchange(body, "test-000000")
    client.send(exchange)
    assert exchange.outcome == "ok"
    assert server.requests[0].body == body


# --- connections kept


def test_a_connection_is_used_again(serve: Serve, connect: Connect) -> None:
    server = serve(_answers())
    assert _outcomes(connect, server.url, 3) == ["ok"] * 3
    assert server.connections == 1


def test_a_refusal_leaves_a_connection_fit_to_use_again(serve: Serve, connect: Connect) -> None:
    server = serve(_answers(answer("400 Bad Request", b'{"error": "no"}')))
    assert _outcomes(connect, server.url, 3) == ["http_error"] * 3
    assert server.connections == 1


def test_requests_at_the_same_time_have_connections_of_their_own(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.until(lambda: len(server.requests) == 3)
        peer.send(_ANSWER)
        peer.request()
        peer.send(_ANSWER)
        peer.wait_closed()

    server = serve(script)
    client = connect(server.url)
    for first in (0, 3):
        exchanges = [client.exchange(b"{}", f"test-{first + i:06d}") for i in range(3)]
        gevent.joinall([gevent.spawn(client.send, exchange) for exchange in exchanges], raise_error=True)
        assert [exchange.outcome for exchange in exchanges] == ["ok"] * 3
    assert server.connections == 3


@pytest.mark.parametrize(
    "data",
    [
        event_stream("Transfer-Encoding: chunked\r\nConnection: close\r\n") + chunk(token("a") + DONE) + chunk(b""),
        event_stream("") + token("a") + DONE,
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 14\r\n\r\n" + DONE,
    ],
    ids=["connection: close", "no framing", "http 1.0"],
)
def test_connections_that_end_with_their_answer(serve: Serve, connect: Connect, data: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(data)

    server = serve(script)
    assert _outcomes(connect, server.url, 2) == ["ok"] * 2
    assert server.connections == 2


def test_done_without_the_end_of_the_framing_is_ok_and_the_connection_is_not_used_again(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairshare_locust.client.exchange._LINGER_S", 0.05)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a") + DONE))
        peer.wait_closed()

    server = serve(script)
    assert _outcomes(connect, server.url, 2) == ["ok"] * 2
    assert server.connections == 2


@pytest.mark.parametrize("how", ["fin", "reset", "more bytes"])
def test_a_connection_that_the_server_gave_up_is_not_used_again(serve: Serve, connect: Connect, how: str) -> None:
    given_up: list[bool] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(_ANSWER)
        if peer.number == 0:
            peer.until(lambda: first.outcome is not None)
            if how == "reset":
                peer.reset()
            elif how == "more bytes":
                peer.send(answer("408 Request Timeout", b""))
            given_up.append(True)

    server = serve(script)
    client = connect(server.url)
    first, second = client.exchange(b"{}", "test-000000"), client.exchange(b"{}", "test-000001")
    client.send(first)
    until(lambda: bool(given_up))
    gevent.idle()  # the server closes after its script
    client.send(second)
    assert (first.outcome, second.outcome) == ("ok", "ok")
    assert server.connections == 2


def test_a_connection_idle_for_long_is_not_used_again(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers close idle connections, and a request may cross with that."""
    now = 1000.0
    monkeypatch.setattr(client_module, "monotonic", lambda: now)
    server = serve(_answers())
    client = connect(server.url)
    for seconds, connections in ((0.0, 1), (3.9, 1), (4.1, 2), (100.0, 3), (1.0, 3)):
        now += seconds
        exchange = client.exchange(b"{}", "test-000000")
        client.send(exchange)
        assert exchange.outcome == "ok"
        assert server.connections == connections


def test_after_a_failure_the_connection_is_not_used_again(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if peer.number == 0:
            peer.wait_closed()
        else:
            peer.send(_ANSWER)

    server = serve(script)
    client = connect(server.url, timeouts=Timeouts(first_token_s=0.3))
    first, second = client.exchange(b"{}", "test-000000"), client.exchange(b"{}", "test-000001")
    client.send(first)
    client.send(second)
    assert (first.outcome, second.outcome) == ("timeout", "ok")
    assert server.connections == 2


def test_close_closes_what_is_idle(serve: Serve, connect: Connect) -> None:
    closed: list[bool] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(_ANSWER)
        peer.wait_closed()
        closed.append(True)

    client = connect(serve(script).url)
    client.send(client.exchange(b"{}", "test-000000"))
    assert not closed
    client.close()
    until(lambda: bool(closed))
    client.close()


def test_no_file_descriptor_is_left_behind(serve: Serve, connect: Connect) -> None:
    """After answers, refusals, broken and timed-out exchanges, new sockets get the numbers that were free before."""

    def script(peer: Peer) -> None:
        kind = peer.request().headers["x-request-id"][0]
        if kind == "ok":
            peer.send(event_stream("") + token("a") + DONE)
        elif kind == "reset":
            peer.reset()
        elif kind == "stall":
            peer.wait_closed()

    def free_number() -> int:
        with socket.socket() as probe:
            return probe.fileno()

    client = connect(serve(script).url, timeouts=Timeouts(first_token_s=0.05))
    before = free_number()
    for kind in ("ok", "reset", "stall", "close") * 3:
        client.send(client.exchange(b"{}", kind))
    gevent.idle()
    assert free_number() == before


# --- IPv6


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")
def test_ipv6(serve: Serve, connect: Connect) -> None:
    server = serve(_answers(), host="::1")
    assert _outcomes(connect, server.url, 2) == ["ok"] * 2
    assert server.requests[0].headers["host"] == [f"[::1]:{server.port}"]
    assert server.connections == 1


# --- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def _send_tls(
    script: Script, serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext | None
) -> tuple[str | None, str | None, list[str]]:
    client = connect(serve(script, tls=server_tls).url, tls=client_tls)
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    return exchange.outcome, exchange.error, exchange.transcript.texts


def test_tls_with_a_known_authority(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    assert _send_tls(_answers(), serve, connect, server_tls, client_tls) == ("ok", None, ["a"])


def test_tls_with_an_unknown_authority(serve: Serve, connect: Connect, server_tls: ssl.SSLContext) -> None:
    """By default certificates are verified against the system's authorities."""

    def refused() -> tuple[str | None, str | None, list[str]]:
        return _send_tls(_answers(), serve, connect, server_tls, None)

    outcome, error, _ = refused()
    assert outcome == "connection_error"
    assert error is not None
    assert error.startswith("can't connect: ")
    assert "certificate verify failed" in error


def test_tls_with_a_certificate_for_another_host(
    serve: Serve, connect: Connect, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    outcome, error, _ = _send_tls(_answers(), serve, connect, context, client_tls)
    assert outcome == "connection_error"
    assert error is not None
    assert "IP address mismatch" in error


def test_tls_to_a_server_without_tls(serve: Serve, connect: Connect, client_tls: ssl.SSLContext) -> None:
    server = serve(lambda peer: peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    client = connect(server.url.replace("http:", "https:"), tls=client_tls)
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert exchange.outcome == "connection_error"


def test_tls_connections_are_used_again(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = serve(_answers(), tls=server_tls)
    client = connect(server.url, tls=client_tls)
    for number in range(3):
        exchange = client.exchange(b"{}", f"test-{number:06d}")
        client.send(exchange)
        assert exchange.outcome == "ok"
    assert server.connections == 1


def test_tls_with_a_large_request(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Longer than a TLS record, and than what the kernel takes at once."""
    body = b"".join(b"%08d" % i for i in range(500_000))
    server = serve(_answers(), tls=server_tls)
    client = connect(server.url, tls=client_tls)
    exchange = client.exchange(body, "test-000000")
    client.send(exchange)
    assert exchange.outcome == "ok"
    assert server.requests[0].body == body


def test_several_events_in_a_record_and_several_records_in_a_segment(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        record = peer.encrypt(event_stream() + chunk(token("a")) + chunk(token("b")))
        another = peer.encrypt(chunk(token("c")) + chunk(token("d")))
        end = peer.encrypt(chunk(DONE) + chunk(b""))
        peer.send_raw(record + another + end)
        peer.wait_closed()

    expected = ("ok", None, ["a", "b", "c", "d"])
    assert _send_tls(script, serve, connect, server_tls, client_tls) == expected


def test_an_event_over_several_records_and_a_record_over_several_segments(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    huge = "x" * 50_000

    def script(peer: Peer) -> None:
        peer.request()
        for byte in event_stream() + chunk(token("a")):
            peer.send(bytes([byte]))
        record = peer.encrypt(chunk(token("b")))
        for i in range(len(record)):
            peer.send_raw(record[i : i + 1])
            gevent.idle()
        peer.send(chunk(token(huge)))
        peer.send(chunk(DONE) + chunk(b""))
        peer.wait_closed()

    assert _send_tls(script, serve, connect, server_tls, client_tls) == ("ok", None, ["a", "b", huge])


@pytest.mark.parametrize("properly", [True, False], ids=["close_notify", "fin only"])
def test_a_tls_body_that_ends_with_its_connection(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, properly: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream("") + token("a") + DONE)
        if properly:
            peer.close_notify()

    assert _send_tls(script, serve, connect, server_tls, client_tls) == ("ok", None, ["a"])


def test_a_tls_stream_that_breaks_off(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a")))

    assert _send_tls(script, serve, connect, server_tls, client_tls) == (
        "truncated",
        "the connection was closed in mid-answer",
        ["a"],
    )


def test_tls_bytes_that_were_tampered_with(
    serve: Serve, connect: Connect, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a")))
        record = bytearray(peer.encrypt(chunk(token("b"))))
        record[-1] ^= 1
        peer.send_raw(bytes(record))
        peer.wait_closed()

    outcome, error, texts = _send_tls(script, serve, connect, server_tls, client_tls)
    assert outcome == "connection_error"
    assert error is not None
    assert error.startswith("broken in mid-answer: ")
    assert texts == ["a"]
