"""Streams of real servers, replayed over a socket, and cut at every byte."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.conftest import Connect, Serve, WatchedExchange
from tests.client.feed import cut, feed, understood
from tests.client.recordings import RECORDINGS, Recording, engine_death
from tests.client.server import Peer

_BY_NAME = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
_STREAMS = pytest.mark.parametrize(
    "recording", [r for r in RECORDINGS if r.status == 200], ids=lambda recording: recording.name
)
_DEATH = "EngineCore encountered an issue. See stack trace (above) for the root cause."


def _replay(segments: list[bytes], recording: Recording, serve: Serve, connect: Connect) -> WatchedExchange:
    """Send a request to a server that answers with these segments, each when the one before has been received."""

    def script(peer: Peer) -> None:
        peer.request()
        sent = 0
        for segment in segments:
            peer.send(segment)
            sent += len(segment)
            peer.until(lambda: exchange.seen >= sent)  # noqa: B023
        peer.wait_closed()

    client = connect(serve(script).url, api=recording.api)
    exchange = client.exchange(b"{}", "test-000000")
    client.send(exchange)
    return exchange


def test_every_recording_is_read() -> None:
    files = {path.name.removesuffix(".wire.jsonl") for path in (Path(__file__).parent / "wire").glob("*.wire.jsonl")}
    assert files == {recording.name for recording in RECORDINGS}


@_BY_NAME
def test_replay(recording: Recording, serve: Serve, connect: Connect) -> None:
    segments = recording.segments()
    exchange = _replay(segments, recording, serve, connect)
    transcript = exchange.transcript

    assert (exchange.outcome, exchange.error) == (recording.outcome, recording.error)
    assert exchange.status == recording.status
    assert transcript.finish_reason == recording.finish_reason
    assert transcript.input_tokens == recording.input_tokens
    assert transcript.output_tokens == recording.output_tokens
    assert transcript.texts == [text for _, text in recording.content]
    assert transcript.chunks == len(recording.content)
    if recording.chunk_tokens is not None:
        assert transcript.chunk_tokens == list(recording.chunk_tokens)
    elif recording.content:
        assert transcript.chunk_tokens is None

    stamps = exchange.stamps_of(segments)
    at = transcript.stamps
    assert exchange.headers_at in stamps[0]
    assert len(at) == len(recording.content)
    for stamp, (segment, _) in zip(at, recording.content, strict=True):
        assert stamp in stamps[segment]
    assert transcript.first_token_at == (at[0] if at else None)
    assert transcript.last_token_at == (at[-1] if at else None)
    assert transcript.gap_us == [round((b - a) * 1e6) for a, b in pairwise(at)]
    assert exchange.sent_at is not None
    assert exchange.ended_at is not None
    assert exchange.sent_at <= stamps[0][0] <= stamps[-1][-1] <= exchange.ended_at


def test_replay_of_an_engine_that_dies(serve: Serve, connect: Connect) -> None:
    segments = engine_death()
    exchange = _replay(segments, Recording(name="engine death"), serve, connect)
    assert (exchange.outcome, exchange.error) == ("stream_error", _DEATH)
    assert exchange.status == 200
    # 51 events: the role, 48 with text, the error, [DONE]; the head is a segment too.
    assert exchange.transcript.chunks == 48
    assert exchange.transcript.texts[:4] == ["ern", "\n", "ern", "\n"]
    stamps = exchange.stamps_of(segments)
    assert exchange.transcript.stamps == [stamp for [stamp] in stamps[2:50]]


_CUTS_APART = 331  # bytes; events have some 200


@_STREAMS
def test_a_cut_at_every_byte(recording: Recording) -> None:
    stream = b"".join(recording.segments())
    whole = understood(feed([stream], recording.api))
    assert whole["outcome"] == recording.outcome
    # Many cuts in a pass, each in another event or two away from the next: passes for each byte would be quadratic.
    for first in range(1, _CUTS_APART + 1):
        places = range(first, len(stream), _CUTS_APART)
        assert understood(feed(cut(stream, places), recording.api)) == whole, f"cut at {first} and each {_CUTS_APART}"


@_BY_NAME
def test_byte_by_byte(recording: Recording) -> None:
    stream = b"".join(recording.segments())
    whole = understood(feed([stream], recording.api))
    assert understood(feed(cut(stream, range(len(stream))), recording.api)) == whole
    assert whole["texts"] == [text for _, text in recording.content]


def test_an_engine_that_dies_byte_by_byte() -> None:
    stream = b"".join(engine_death())
    whole = understood(feed([stream]))
    assert whole["message"] == _DEATH
    assert understood(feed(cut(stream, range(len(stream))))) == whole


@settings(deadline=None, max_examples=150)
@given(recording=st.sampled_from(RECORDINGS), data=st.data())
def test_any_cuts(recording: Recording, data: st.DataObject) -> None:
    stream = b"".join(recording.segments())
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=30))
    assert understood(feed(cut(stream, places), recording.api)) == understood(feed([stream], recording.api))


@settings(deadline=None, max_examples=100)
@given(recording=st.sampled_from([r for r in RECORDINGS if r.content]), data=st.data())
def test_a_stream_that_breaks_off_is_no_success(recording: Recording, data: st.DataObject) -> None:
    """Cut short anywhere before the end of its framing, it has an outcome, and `ok` only after [DONE]."""
    stream = b"".join(recording.segments())
    length = data.draw(st.integers(0, len(stream) - 1))
    places = data.draw(st.lists(st.integers(0, length), max_size=5))
    exchange = feed(cut(stream[:length], places), recording.api)
    finished = b"data: [DONE]\n\n" in stream[:length]
    assert exchange.outcome == ("connection_error" if length == 0 else "ok" if finished else "truncated")
    assert exchange.transcript.chunks <= len(recording.content)
    assert exchange.transcript.texts == [text for _, text in recording.content][: exchange.transcript.chunks]
