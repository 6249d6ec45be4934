"""What servers and networks do wrong: each exchange ends in exactly one outcome, with what was measured till then."""

from __future__ import annotations

import json
import re
import socket

import gevent
import pytest

from fairshare_locust.client import exchange as exchange_module
from fairshare_locust.profile.model import Timeouts
from tests.client.conftest import Connect, Serve, Talk, WatchedExchange
from tests.client.events import DONE, FINISH, ROLE, USAGE, event, token
from tests.client.server import Peer, Script, answer, chunk, event_stream, until

_CLOSE = "Connection: close\r\n"


def _says(*pieces: bytes) -> Script:
    """Answer with these bytes, each received before the next is sent, then close."""

    def script(peer: Peer) -> None:
        peer.request()
        for piece in pieces:
            peer.send(piece)

    return script


def _stalls(*pieces: bytes) -> Script:
    """Answer with these bytes, then say nothing more."""

    def script(peer: Peer) -> None:
        peer.request()
        for piece in pieces:
            peer.send(piece)
        peer.wait_closed()

    return script


def _ended(exchange: WatchedExchange) -> tuple[str | None, str | None]:
    """The outcome, after a look at what has to hold whatever it is."""
    stamps = (exchange.sent_at, exchange.headers_at, exchange.transcript.first_token_at, exchange.ended_at)
    there = [stamp for stamp in stamps if stamp is not None]
    assert exchange.outcome is not None
    assert (exchange.error is None) == (exchange.outcome == "ok")
    assert exchange.sent_at is not None
    assert exchange.ended_at is not None
    assert there == sorted(there)
    return exchange.outcome, exchange.error


# --- connections


def test_a_refused_connection(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening
        client = connect(f"http://127.0.0.1:{unused.getsockname()[1]}")
        exchange = client.exchange(b"{}", "test-000000")
        client.send(exchange)
    assert (exchange.outcome, exchange.error) == ("connection_error", "can't connect: Connection refused")
    assert exchange.status is None
    assert exchange.headers_at is None
    assert exchange.sent_at is not None


def test_a_host_without_an_address(connect: Connect) -> None:
    client = connect("http://does-not-exist.invalid:8000")
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert exchange.outcome == "connection_error"
    assert exchange.error is not None
    assert exchange.error.startswith("can't connect: ")


def test_closed_without_an_answer(talk: Talk) -> None:
    assert _ended(talk(_says())) == ("connection_error", "no answer: the connection was closed")


def test_reset_without_an_answer(talk: Talk) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.reset()

    assert _ended(talk(script)) == ("connection_error", "no answer: Connection reset by peer")


def test_reset_in_mid_stream(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a")))
        peer.until(lambda: exchange.transcript.first_token_at is not None)
        peer.reset()

    client = connect(serve(script).url)
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert _ended(exchange) == ("connection_error", "broken in mid-answer: Connection reset by peer")
    assert exchange.transcript.texts == ["a"]
    assert exchange.status == 200


def test_fin_in_mid_head(talk: Talk) -> None:
    exchange = talk(_says(event_stream()[:40]))
    assert _ended(exchange) == ("truncated", "the connection was closed in mid-answer")
    assert exchange.headers_at is None


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_fin_in_mid_chunk(talk: Talk, cut: int) -> None:
    exchange = talk(_says(event_stream() + chunk(token("a")), chunk(token("b"))[:cut]))
    assert _ended(exchange) == ("truncated", "the connection was closed in mid-answer")
    assert exchange.transcript.texts[0] == "a"


def test_fin_between_chunks(talk: Talk) -> None:
    exchange = talk(_says(event_stream(), chunk(token("a")), chunk(FINISH)))
    assert _ended(exchange) == ("truncated", "the connection was closed in mid-answer")


def test_fin_after_done_without_the_end_of_the_framing(talk: Talk) -> None:
    exchange = talk(_says(event_stream(), chunk(token("a")), chunk(DONE)))
    assert _ended(exchange) == ("ok", None)


@pytest.mark.parametrize("cut", range(1, len(DONE)))
def test_fin_after_a_done_that_came_in_two_segments(talk: Talk, cut: int) -> None:
    exchange = talk(_says(event_stream(), chunk(token("a")), chunk(DONE[:cut]), chunk(DONE[cut:])))
    assert _ended(exchange) == ("ok", None)


def test_reset_after_done(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        answered = event_stream() + chunk(token("a")) + chunk(DONE)
        peer.send(answered)
        peer.until(lambda: exchange.seen == len(answered))
        peer.reset()

    client = connect(serve(script).url)
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert _ended(exchange) == ("ok", None)


def test_a_content_length_that_is_not_reached(talk: Talk) -> None:
    exchange = talk(_says(event_stream("Content-Length: 5000\r\n"), token("a")))
    assert _ended(exchange) == ("truncated", "the connection was closed in mid-answer")


# --- bodies that end with their connection


def test_close_delimited_with_done(talk: Talk) -> None:
    exchange = talk(_says(event_stream(_CLOSE), ROLE, token("a"), FINISH, USAGE, DONE))
    assert _ended(exchange) == ("ok", None)
    assert exchange.transcript.output_tokens == 2


def test_close_delimited_that_finishes_without_done(talk: Talk) -> None:
    exchange = talk(_says(event_stream(_CLOSE), ROLE, token("a"), FINISH))
    assert _ended(exchange) == ("ok", None)
    assert exchange.transcript.finish_reason == "stop"


def test_close_delimited_that_breaks_off(talk: Talk) -> None:
    exchange = talk(_says(event_stream(_CLOSE), ROLE, token("a"), token("b")))
    assert _ended(exchange) == ("truncated", "the stream ended without its proper end")
    assert exchange.transcript.texts == ["a", "b"]


def test_an_event_without_its_blank_line_does_not_count(talk: Talk) -> None:
    exchange = talk(_says(event_stream(_CLOSE), token("a"), FINISH[:-1]))
    assert _ended(exchange) == ("truncated", "the stream ended without its proper end")


def test_a_stream_without_any_event(talk: Talk) -> None:
    exchange = talk(_says(event_stream(), chunk(b": keep-alive\n\n"), chunk(b"")))
    assert _ended(exchange) == ("truncated", "the stream ended without its proper end")
    assert exchange.transcript.first_token_at is None


# --- timeouts


def test_stall_before_the_head(talk: Talk) -> None:
    exchange = talk(_stalls(), timeouts=Timeouts(first_token_s=0.1))
    assert _ended(exchange) == ("timeout", "first_token_s: no token within 0.1 s")
    assert exchange.status is None


def test_stall_before_the_first_token(talk: Talk) -> None:
    exchange = talk(_stalls(event_stream(), chunk(ROLE)), timeouts=Timeouts(first_token_s=0.1))
    assert _ended(exchange) == ("timeout", "first_token_s: no token within 0.1 s")
    assert exchange.status == 200
    assert exchange.headers_at is not None


def test_keep_alive_comments_are_no_tokens(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(ROLE))
        while exchange.outcome is None:
            peer.send(chunk(b": keep-alive\n\n"))
            seen = exchange.seen
            peer.until(lambda: exchange.seen > seen or exchange.outcome is not None)  # noqa: B023

    client = connect(serve(script).url, timeouts=Timeouts(first_token_s=0.1))
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert _ended(exchange) == ("timeout", "first_token_s: no token within 0.1 s")


def test_stall_between_tokens(talk: Talk) -> None:
    timeouts = Timeouts(first_token_s=10, between_tokens_s=0.1)
    exchange = talk(_stalls(event_stream(), chunk(token("a")), chunk(token("b"))), timeouts=timeouts)
    assert _ended(exchange) == ("timeout", "between_tokens_s: no token for 0.1 s")
    assert exchange.transcript.texts == ["a", "b"]
    assert exchange.ended_at is not None
    assert exchange.transcript.last_token_at is not None
    assert exchange.ended_at - exchange.transcript.last_token_at >= 0.1


def test_a_slow_trickle(serve: Serve, connect: Connect) -> None:
    """Tokens that come in time, one after another, but too many of them."""
    sent: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream())
        piece = chunk(token("a"))
        while exchange.outcome is None:
            seen = exchange.seen
            peer.send(piece)
            sent.append(piece)
            peer.until(lambda: exchange.seen >= seen + len(piece) or exchange.outcome is not None)  # noqa: B023

    client = connect(serve(script).url, timeouts=Timeouts(total_s=0.2, between_tokens_s=5))
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert _ended(exchange) == ("timeout", "total_s: not finished within 0.2 s")
    transcript = exchange.transcript
    assert len(transcript.texts) in (len(sent) - 1, len(sent))
    assert transcript.first_token_at is not None
    assert transcript.last_token_at is not None
    assert sum(transcript.gap_us) == pytest.approx(
        (transcript.last_token_at - transcript.first_token_at) * 1e6, abs=transcript.chunks
    )


def test_total_s_goes_before_first_token_s_when_it_is_shorter(talk: Talk) -> None:
    exchange = talk(_stalls(event_stream()), timeouts=Timeouts(total_s=0.1, first_token_s=10))
    assert _ended(exchange) == ("timeout", "total_s: not finished within 0.1 s")


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "_LINGER_S", 0.05)


@pytest.mark.usefixtures("short_linger")
def test_a_stall_after_done_is_no_timeout(talk: Talk) -> None:
    timeouts = Timeouts(between_tokens_s=0.5, total_s=0.5)
    exchange = talk(_stalls(event_stream(), chunk(token("a")), chunk(DONE)), timeouts=timeouts)
    assert _ended(exchange) == ("ok", None)


@pytest.mark.usefixtures("short_linger")
def test_a_stall_after_done_and_more_is_no_timeout(talk: Talk) -> None:
    """What comes behind [DONE] in its chunk must not hide it, nor the segments before it."""
    pieces = [event_stream(), *(chunk(token(text)) for text in "abcde"), chunk(DONE + b": and a comment\n\n")]
    exchange = talk(_stalls(*pieces), timeouts=Timeouts(between_tokens_s=0.5))
    assert _ended(exchange) == ("ok", None)
    assert exchange.transcript.texts == list("abcde")


@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize("cut", [1, 6, 9, 12, 13])
def test_a_stall_after_a_done_in_two_segments_is_no_timeout(talk: Talk, cut: int) -> None:
    pieces = (event_stream(), chunk(token("a")), chunk(DONE[:cut]), chunk(DONE[cut:]))
    exchange = talk(_stalls(*pieces), timeouts=Timeouts(between_tokens_s=0.5))
    assert _ended(exchange) == ("ok", None)


def test_a_server_that_takes_no_connection_in_time(serve: Serve, connect: Connect) -> None:
    """Accepted by the kernel, but the TLS handshake gets no answer."""
    url = serve(lambda peer: peer.wait_closed()).url.replace("http:", "https:")
    client = connect(url, timeouts=Timeouts(connect_s=0.1))
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert (exchange.outcome, exchange.error) == ("timeout", "connect_s: no connection within 0.1 s")


# --- answers that are no stream


def test_html_with_status_200(talk: Talk) -> None:
    page = b"<html>\n<body>\ndata: maintenance\n</body>\n</html>\n"
    exchange = talk(_says(answer("200 OK", page, "text/html; charset=utf-8")))
    outcome, error = _ended(exchange)
    assert outcome == "http_error"
    assert error == (
        "HTTP 200, but no event stream: text/html; charset=utf-8: <html> <body> data: maintenance </body> </html>"
    )


def test_json_with_status_200(talk: Talk) -> None:
    whole = json.dumps({"choices": [{"message": {"content": "hi"}}]}, indent=1).encode()
    exchange = talk(_says(answer("200 OK", whole)))
    outcome, error = _ended(exchange)
    assert outcome == "http_error"
    assert error is not None
    assert error.startswith("HTTP 200, but no event stream: application/json: ")
    assert exchange.transcript.chunks == 0


def test_nothing_with_status_200(talk: Talk) -> None:
    exchange = talk(_says(answer("200 OK", b"", None)))
    assert _ended(exchange) == ("http_error", "HTTP 200, but no event stream: no content type: (no body)")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "overloaded", "code": 503}}', "overloaded"),
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"error": {"error": "inner"}}', "inner"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"message": "bare"}', "bare"),
        (b"[1, 2]", "[1, 2]"),
        (b"upstream\n\n  timed   out\n", "upstream timed out"),
        (b"\xff\xfe gr\xc3\xbc\xc3\x9fe", "\ufffd\ufffd grüße"),
        (b"", "(no body)"),
        (b"x" * 5000, "x" * 500),
    ],
)
def test_refusals_say_why(talk: Talk, body: bytes, words: str) -> None:
    exchange = talk(_says(answer("503 Service Unavailable", body)))
    assert _ended(exchange) == ("http_error", f"HTTP 503: {words}")
    assert exchange.status == 503


def test_a_refusal_in_an_event_stream_is_a_refusal(talk: Talk) -> None:
    body = token("a") + DONE
    exchange = talk(_says(answer("500 Internal Server Error", body, "text/event-stream")))
    assert _ended(exchange)[0] == "http_error"
    assert exchange.transcript.first_token_at is None


def test_a_refusal_that_is_cut_short(talk: Talk) -> None:
    whole = answer("429 Too Many Requests", b'{"error": "slow down"}')
    exchange = talk(_says(whole[:-1]))
    assert _ended(exchange) == ("http_error", 'HTTP 429: {"error": "slow down"')


@pytest.mark.parametrize("status", ["204 No Content", "301 Moved Permanently", "206 Partial Content"])
def test_other_statuses_are_no_success(talk: Talk, status: str) -> None:
    exchange = talk(_says(answer(status, b"")))
    assert _ended(exchange)[0] == "http_error"
    assert exchange.status == int(status[:3])


def test_a_refusal_while_a_large_body_is_being_sent(talk: Talk) -> None:
    """The server reads the head only, and keeps the connection: the client must not go on sending until a timeout."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(answer("413 Content Too Large", b'{"error": "too large"}'))
        peer.wait_closed()

    exchange = talk(script, body=b"x" * 16_000_000)
    assert _ended(exchange) == ("http_error", "HTTP 413: too large")


def test_a_refusal_while_a_large_body_is_being_sent_leaves_no_connection_to_reuse(
    serve: Serve, connect: Connect
) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.head()
            peer.send(answer("413 Content Too Large", b'{"error": "too large"}'))
            peer.until(lambda: server.connections == 2)
        else:
            peer.request()
            peer.send(event_stream() + chunk(token("a") + DONE) + chunk(b""))

    server = serve(script)
    client = connect(server.url)
    first, second = client.exchange(b"x" * 16_000_000, "test-000000"), client.exchange(b"{}", "test-000001")
    client.send(first)
    client.send(second)
    assert (first.outcome, second.outcome) == ("http_error", "ok")


def test_a_refusal_and_a_reset_while_a_large_body_is_being_sent(serve: Serve, connect: Connect) -> None:
    """What a server does that closes with unread bytes: the answer is on its way, then RST."""

    def script(peer: Peer) -> None:
        peer.head()
        refusal = answer("413 Content Too Large", b'{"error": "too large"}', more=_CLOSE)
        peer.send(refusal)
        peer.until(lambda: exchange.seen == len(refusal))
        peer.reset()

    client = connect(serve(script).url)
    exchange = client.exchange(b"x" * 16_000_000, "test-000000")
    client.send(exchange)
    assert _ended(exchange) == ("http_error", "HTTP 413: too large")


# --- broken HTTP


def test_a_bad_chunk_size(talk: Talk) -> None:
    exchange = talk(_stalls(event_stream() + chunk(token("a")), b"zz\r\n" + token("b")))
    outcome, error = _ended(exchange)
    assert outcome == "http_error"
    assert error is not None
    assert error.startswith("malformed HTTP: ")
    assert exchange.transcript.texts == ["a"]


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x00\xa5", b"HTTP/9.9 huh\r\n\r\n"])
def test_garbage_instead_of_http(talk: Talk, garbage: bytes) -> None:
    exchange = talk(_stalls(garbage))
    outcome, error = _ended(exchange)
    assert outcome == "http_error"
    assert error is not None
    assert error.startswith("malformed HTTP: ")


def test_garbage_after_the_answer_changes_nothing_but_the_connection(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a") + DONE) + chunk(b"") + b"\x00garbage")
        peer.wait_closed()

    server = serve(script)
    client = connect(server.url)
    for number in range(2):
        exchange = client.exchange(b"{}", f"test-{number:06d}")
        client.send(exchange)
        assert exchange.outcome == "ok"
        assert exchange.status == 200
    assert server.connections == 2


def test_an_answer_behind_the_answer_is_not_read(serve: Serve, connect: Connect) -> None:
    """A server that answers twice: the second answer must neither change this one nor be taken for the next one's."""

    def script(peer: Peer) -> None:
        peer.request()
        first = event_stream() + chunk(token("a") + DONE) + chunk(b"")
        peer.send(first + answer("500 Internal Server Error", b"nobody asked"))
        peer.wait_closed()

    server = serve(script)
    client = connect(server.url)
    for number in range(2):
        exchange = client.exchange(b"{}", f"test-{number:06d}")
        client.send(exchange)
        assert _ended(exchange) == ("ok", None)
        assert exchange.status == 200
        assert exchange.transcript.texts == ["a"]
    assert server.connections == 2


def test_an_interim_answer_is_not_the_answer(talk: Talk) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nContent-Type: text/html\r\n\r\n"
    exchange = talk(_says(interim, early, event_stream(), chunk(token("a") + DONE), chunk(b"")))
    assert _ended(exchange) == ("ok", None)
    assert exchange.status == 200
    assert exchange.transcript.texts == ["a"]


def test_an_interim_answer_and_then_nothing(talk: Talk) -> None:
    exchange = talk(_says(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert _ended(exchange)[0] in ("truncated", "connection_error")
    assert exchange.status is None


def test_http_1_0(talk: Talk) -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    exchange = talk(_says(head, token("a"), DONE))
    assert _ended(exchange) == ("ok", None)


# --- streams with odd events


def test_the_word_done_in_the_text(talk: Talk) -> None:
    exchange = talk(_says(event_stream(), chunk(token("[DONE]")), chunk(token("data: [DONE]\n\n")), chunk(FINISH)))
    assert _ended(exchange) == ("truncated", "the connection was closed in mid-answer")
    assert exchange.transcript.texts == ["[DONE]", "data: [DONE]\n\n"]


def test_the_word_done_in_the_text_does_not_end_the_wait(talk: Talk) -> None:
    exchange = talk(_stalls(event_stream(), chunk(token("[DONE]"))), timeouts=Timeouts(between_tokens_s=0.1))
    assert _ended(exchange) == ("timeout", "between_tokens_s: no token for 0.1 s")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"data: {nonsense\n\n", "event is no JSON object: {nonsense"),
        (b"data: [1, 2]\n\n", "event is no JSON object: [1, 2]"),
        (b"data: null\n\n", "event is no JSON object: null"),
        (b"data: \xff\n\n", "event is no JSON object: \ufffd"),
        (b"data: " + b"[" * 5000 + b"\n\n", "event is no JSON object: " + "[" * 200),
        (event({"error": {"message": "engine died", "code": 500}}), "engine died"),
        (event({"error": "text"}), "text"),
        (event({"error": {"http_status_code": 500}}), "{'http_status_code': 500}"),
    ],
)
def test_bad_events_and_error_events(talk: Talk, bad: bytes, message: str) -> None:
    exchange = talk(_says(event_stream(), chunk(token("a")), chunk(bad), chunk(token("b")), chunk(DONE), chunk(b"")))
    assert _ended(exchange) == ("stream_error", message)
    assert exchange.transcript.texts == ["a", "b"]
    assert exchange.status == 200


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": "none"},
        {"choices": [None]},
        {"choices": {"a": 1}},
        {"choices": [{"index": 0, "delta": "text"}]},
        {"choices": [{"index": {"a": 1}, "delta": {"content": "x"}}]},
        {"choices": [], "usage": [1]},
        {"choices": [{"index": 0, "delta": {"content": "x", "reasoning": {"a": 1}}}]},
        {"choices": 7},
    ],
)
def test_events_of_another_shape_are_stream_errors(talk: Talk, odd: object) -> None:
    exchange = talk(_says(event_stream(), chunk(token("a") + event(odd) + DONE), chunk(b"")))
    outcome, error = _ended(exchange)
    assert outcome == "stream_error"
    assert error is not None
    assert re.match(r"event can't be read \(.+\): \{\"choices\"", error)


def test_an_error_event_and_then_a_broken_connection(talk: Talk) -> None:
    """The error is the reason, not the connection."""
    exchange = talk(_says(event_stream(), chunk(token("a")), chunk(event({"error": "engine died"}))))
    assert _ended(exchange) == ("stream_error", "engine died")


def test_a_huge_event(talk: Talk) -> None:
    text = "x" * 2_000_000
    exchange = talk(_says(event_stream(), chunk(token(text)), chunk(DONE), chunk(b"")))
    assert _ended(exchange) == ("ok", None)
    assert exchange.transcript.texts == [text]


def test_many_events_at_once(talk: Talk) -> None:
    burst = b"".join(token(str(i)) for i in range(200))
    exchange = talk(_says(event_stream() + chunk(burst + DONE) + chunk(b"")))
    assert _ended(exchange) == ("ok", None)
    assert exchange.transcript.chunks == 200


# --- ended from our side


@pytest.mark.parametrize("events", [[], [ROLE], [ROLE, token("a")], [ROLE, token("a"), token("b")]])
def test_a_killed_greenlet_keeps_what_was_measured(serve: Serve, connect: Connect, events: list[bytes]) -> None:
    disconnected: list[bool] = []

    def script(peer: Peer) -> None:
        peer.request()
        answered = event_stream() + b"".join(map(chunk, events))
        peer.send(answered)
        peer.until(lambda: exchange.seen == len(answered))
        sending.kill(block=False)
        peer.wait_closed()
        disconnected.append(True)

    client = connect(serve(script).url)
    exchange = client.exchange(b"{}", "test-000000")
    sending = gevent.spawn(client.send, exchange)
    sending.join()
    assert isinstance(sending.value, gevent.GreenletExit)
    assert exchange.outcome is None

    exchange.cancel("the run ended first")
    assert _ended(exchange) == ("cancelled", "the run ended first")
    assert exchange.status == 200
    assert exchange.transcript.texts == [text for text in ("a", "b") if token(text) in events]
    assert (exchange.transcript.first_token_at is None) == (len(events) < 2)
    until(lambda: bool(disconnected))

    exchange.cancel("again")
    assert exchange.error == "the run ended first"


def test_a_killed_greenlet_keeps_tokens_that_were_not_read_yet(serve: Serve, connect: Connect) -> None:
    """Segments put aside, like the ones before and unlike them, are read at the end at the latest."""
    pieces = [event_stream(), *(chunk(token(text)) for text in "abc"), chunk(b": comment\n\n"), chunk(token("d"))]

    def script(peer: Peer) -> None:
        peer.request()
        sent = 0
        for data in pieces:
            peer.send(data)
            sent += len(data)
            peer.until(lambda: exchange.seen == sent)  # noqa: B023
        sending.kill(block=False)
        peer.wait_closed()

    client = connect(serve(script).url)
    exchange = client.exchange(b"{}", "test-000000")
    sending = gevent.spawn(client.send, exchange)
    sending.join()
    exchange.cancel("the run ended first")
    assert _ended(exchange) == ("cancelled", "the run ended first")
    assert exchange.transcript.texts == ["a", "b", "c", "d"]
    assert exchange.transcript.stamps == [stamp for i in (1, 2, 3, 5) for stamp in exchange.stamps_of(pieces)[i]]


def test_killed_when_the_answer_is_complete(serve: Serve, connect: Connect) -> None:
    """The answer came in full, and the greenlet had not gone on yet: the kill changes nothing in what was measured."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a") + DONE) + chunk(b""))

    client = connect(serve(script).url)
    exchange = client.exchange(b"{}", "test-000000")
    sending = gevent.Greenlet(client.send, exchange)
    exchange.on_first_token = lambda *_: sending.kill(block=False)
    sending.start()
    sending.join()
    exchange.cancel("the run ended first")
    assert _ended(exchange) == ("ok", None)


def test_killed_while_it_connects(serve: Serve, connect: Connect) -> None:
    accepted: list[bool] = []

    def script(peer: Peer) -> None:
        sending.kill(block=False)
        peer.wait_closed()
        accepted.append(True)

    client = connect(serve(script).url.replace("http:", "https:"))
    exchange = client.exchange(b"{}", "test-000000")
    sending = gevent.spawn(client.send, exchange)
    sending.join()
    exchange.cancel("the run ended first")
    assert (exchange.outcome, exchange.status) == ("cancelled", None)
    until(lambda: bool(accepted))  # the half-open connection was closed


def test_killed_while_it_sends(serve: Serve, connect: Connect) -> None:
    accepted: list[bool] = []

    def script(peer: Peer) -> None:
        peer.head()
        sending.kill(block=False)
        peer.wait_closed()
        accepted.append(True)

    client = connect(serve(script).url)
    exchange = client.exchange(b"x" * 16_000_000, "test-000000")
    sending = gevent.spawn(client.send, exchange)
    sending.join()
    exchange.cancel("the run ended first")
    assert exchange.outcome == "cancelled"
    until(lambda: bool(accepted))


def test_cancel_does_not_touch_an_exchange_that_has_ended(talk: Talk) -> None:
    exchange = talk(_says(event_stream(), chunk(token("a") + DONE), chunk(b"")))
    ended_at = exchange.ended_at
    exchange.cancel("the run ended first")
    exchange.abort("cancelled", "late")
    gevent.idle()
    assert _ended(exchange) == ("ok", None)
    assert exchange.ended_at == ended_at


def test_abort_from_another_greenlet(serve: Serve, connect: Connect) -> None:
    disconnected: list[bool] = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(event_stream() + chunk(token("a")))
        peer.until(lambda: exchange.transcript.first_token_at is not None)
        exchange.abort("cancelled", "the drain is over")
        exchange.abort("timeout", "too late to change it")
        peer.wait_closed()
        disconnected.append(True)

    client = connect(serve(script).url)
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert _ended(exchange) == ("cancelled", "the drain is over")
    assert exchange.transcript.texts == ["a"]
    until(lambda: bool(disconnected))


def test_abort_while_it_sends(serve: Serve, connect: Connect) -> None:
    """The body does not fit the kernel's buffers and nobody reads it: the abort must not wait for a timeout."""

    def script(peer: Peer) -> None:
        peer.head()
        exchange.abort("cancelled", "the drain is over")
        peer.until(lambda: exchange.outcome is not None)

    client = connect(serve(script).url)
    exchange = client.exchange(b"x" * 16_000_000, "test-000000")
    client.send(exchange)
    assert (exchange.outcome, exchange.error) == ("cancelled", "the drain is over")


def test_abort_while_it_connects(serve: Serve, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        exchange.abort("cancelled", "the drain is over")
        peer.wait_closed()

    client = connect(serve(script).url.replace("http:", "https:"), timeouts=Timeouts(connect_s=0.2))
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    assert exchange.outcome in ("cancelled", "timeout")
    assert exchange.sent_at is not None


def test_a_request_that_is_never_taken(talk: Talk) -> None:
    """The peer reads nothing and says nothing: the deadline also ends the sending."""
    exchange = talk(
        lambda peer: peer.until(lambda: False), timeouts=Timeouts(first_token_s=0.2), body=b"x" * 16_000_000
    )
    assert _ended(exchange) == ("timeout", "first_token_s: no token within 0.2 s")
