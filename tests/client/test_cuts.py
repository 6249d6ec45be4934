"""However an answer is cut into segments, it means the same: also the answers that no server should send.

Segments that repeat an earlier one but for a word are read by a short cut; it must not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairshare_locust.client.exchange import Exchange
from fairshare_locust.client.template import Template
from tests.client.events import DONE, FINISH, ROLE, USAGE, event, tgi_token, token
from tests.client.feed import cut, feed, understood
from tests.client.server import answer, chunk, event_stream

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_EVENTS = st.one_of(
    _TEXT.map(token),
    st.sampled_from("abc").map(token),
    _TEXT.map(lambda text: token(text, usage={"prompt_tokens": 3, "completion_tokens": 1 + len(text)})),
    st.sampled_from(
        [
            ROLE,
            FINISH,
            USAGE,
            b": keep-alive\n\n",
            event({"choices": [{"index": 0, "delta": {"content": "x"}, "token_ids": [1, 2]}]}),
            event({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]}),
            event({"choices": [{"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}]}),
            event({"choices": [{"index": 0, "delta": {"content": "the end"}, "finish_reason": "stop"}]}),
            event({"error": {"message": "engine died"}}),
            b"data: {nonsense\n\n",
            b"event: x\r\ndata: 7\r\n\r\n",
            b"data: a\n",
            b"\n",
        ]
    ),
)
_CHUNKS = st.lists(_EVENTS, min_size=1, max_size=3).map(b"".join).map(chunk)
_ENDS = st.sampled_from(
    [
        chunk(DONE) + chunk(b""),
        chunk(DONE + b": bye\n\n"),
        chunk(DONE)[:-1],
        chunk(b""),
        b"0\r\nTrailer: x\r\n\r\n",
        b"zz\r\n" + token("lost") + b"\r\n" + chunk(token("lost")),
        b"",
        chunk(DONE) + chunk(b"") + answer("500 Internal Server Error", b"behind"),
        chunk(DONE) + chunk(b"") + chunk(token("behind")),
    ]
)


@settings(deadline=None, max_examples=150)
@given(chunks=st.lists(_CHUNKS, max_size=24), end=_ENDS, data=st.data())
def test_any_cut_of_any_answer(chunks: list[bytes], end: bytes, data: st.DataObject) -> None:
    pieces = [event_stream(), *chunks, end]
    stream = b"".join(pieces)
    whole = understood(feed([stream]))
    assert understood(feed([piece for piece in pieces if piece])) == whole
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert understood(feed(cut(stream, places))) == whole


@settings(deadline=None, max_examples=30)
@given(chunks=st.lists(_CHUNKS, max_size=6), end=_ENDS)
def test_byte_by_byte(chunks: list[bytes], end: bytes) -> None:
    stream = b"".join([event_stream(), *chunks, end])
    assert understood(feed(cut(stream, range(len(stream))))) == understood(feed([stream]))


def _watched(segments: Sequence[bytes]) -> tuple[Exchange, list[float]]:
    """With a listener for tokens, every segment is read at once and in full."""
    heard: list[float] = []
    return feed(segments, on_token=lambda _, stamp: heard.append(stamp)), heard


@settings(deadline=None, max_examples=150)
@given(chunks=st.lists(_CHUNKS, max_size=40), end=_ENDS)
@example(chunks=[chunk(token("")), chunk(token("0")), chunk(FINISH), chunk(token("a"))], end=chunk(b""))
def test_the_short_cut_gives_what_the_full_way_gives(chunks: list[bytes], end: bytes) -> None:
    pieces = [piece for piece in (event_stream(), *chunks, end) if piece]
    short = feed(pieces)
    full, heard = _watched(pieces)
    assert understood(short) == understood(full)
    assert short.transcript.stamps == full.transcript.stamps
    assert heard == sorted(set(full.transcript.stamps))
    assert short.headers_at == full.headers_at == 0


def test_listeners_hear_of_the_first_token_once_and_of_every_segment_with_tokens() -> None:
    pieces = [
        event_stream(),
        chunk(ROLE),
        chunk(token("a") + token("b")),
        chunk(b": c\n\n"),
        chunk(token("c")),
        chunk(DONE),
    ]
    heard: list[tuple[str, float]] = []
    exchange = feed(
        [*pieces, chunk(b"")],
        on_first_token=lambda _, stamp: heard.append(("first", stamp)),
        on_token=lambda _, stamp: heard.append(("token", stamp)),
    )
    assert exchange.outcome == "ok"
    assert heard == [("first", 2.0), ("token", 2.0), ("token", 4.0)]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 64, 65, 300])
def test_a_long_answer_is_read_in_full(count: int) -> None:
    """Each token in a segment of its own, stamped with the second of its segment."""
    texts = [f"word{i}" if i % 7 else 'with "quotes"\n' for i in range(count)]
    pieces = [event_stream(), *(chunk(token(text)) for text in texts), chunk(FINISH + USAGE + DONE), chunk(b"")]
    exchange = feed(pieces)
    assert exchange.outcome == "ok"
    assert exchange.transcript.texts == texts
    assert exchange.transcript.stamps == [float(1 + i) for i in range(count)]
    assert exchange.transcript.gap_us == [1_000_000] * (count - 1)
    assert exchange.transcript.output_tokens == 2


def test_tgi_is_read_the_same_however_it_is_cut() -> None:
    last = tgi_token("c", generated_text="abc", details={"finish_reason": "length", "generated_tokens": 3})
    pieces = [event_stream(), *map(chunk, (tgi_token("a"), b":\n\n", tgi_token("b"), last)), chunk(b"")]
    stream = b"".join(pieces)
    whole = understood(feed([stream], "tgi"))
    assert (whole["outcome"], whole["texts"], whole["output_tokens"]) == ("ok", ["a", "b", "c"], 3)
    assert whole["chunk_tokens"] == [1, 1, 1]
    assert understood(feed(pieces, "tgi")) == whole
    for place in range(1, len(stream)):
        assert understood(feed(cut(stream, [place]), "tgi")) == whole


# --- the short cut by itself


_BEFORE, _AFTER = b'data: {"content": "', b'"}\n\n'


def _framed(text: bytes) -> bytes:
    return chunk(_BEFORE + text + _AFTER)


@given(text=_TEXT.filter(bool))
@example("x" * 233)  # 0xff and 0x100 bytes of chunk: the size gains a digit
@example("x" * 232)
@example("x" * 4070)
@example("é")
def test_a_template_knows_its_like(text: str) -> None:
    data = text.encode()
    plain = not any(character in '"\\\x7f' or character < " " for character in text)
    assert Template(_BEFORE, _AFTER).match(_framed(data)) == (data if plain else None)


@pytest.mark.parametrize(
    "segment",
    [
        b"",
        b"\r\n",
        _framed(b""),
        _framed(b"a") + b"\r\n",
        _framed(b"a")[:-1],
        _framed(b"a")[1:],
        _framed(b"a") * 2,
        _framed(b'a"}\n\n' + _BEFORE + b"b"),
        chunk(_BEFORE + b"a" + _AFTER + _BEFORE + b"b" + _AFTER),
        b"0" + _framed(b"a"),
        b"19\r\n" + _BEFORE + b"a" + _AFTER + b"\r\n",
        b"ff" + _framed(b"a")[2:],
        chunk(b"Data" + _BEFORE[4:] + b"a" + _AFTER),
        chunk(_BEFORE + b"a" + b"'" + _AFTER[1:]),
        _framed(b"a\\n"),
        _framed(b"\x01"),
    ],
)
def test_a_template_leaves_everything_else(segment: bytes) -> None:
    template = Template(_BEFORE, _AFTER)
    assert template.match(_framed(b"a")) == b"a"
    assert template.match(segment) is None


def test_a_template_has_an_answer_for_every_length() -> None:
    """16 bytes more than a size of one digit leaves room for, one too few for two: there is no such chunk."""
    template = Template(b"", b"")
    for length in range(5000):
        assert template.match(b"x" * length) is None
    for length in range(1, 5000):
        text = b"x" * length
        assert template.match(chunk(text)) == text


def _differs_from_slow(segments: list[bytes]) -> bool:
    """Whether the short cut shows: the same bytes in one segment leave it nothing to do."""
    return understood(feed(segments)) != understood(feed([b"".join(segments)]))


def test_a_size_line_in_two_segments_is_no_place_between_chunks() -> None:
    word = token("a")
    long = token("b" * (0x100 - 0x10))
    size, body = chunk(long).split(b"\r\n", 1)
    assert len(size) == 3
    segments = [event_stream(), chunk(ROLE), chunk(word), chunk(word), size[:1], size[1:] + b"\r\n" + body]
    assert not _differs_from_slow([*segments, chunk(FINISH), chunk(DONE), chunk(b"")])
    # A size that is completed to another one: what follows would be a whole chunk by itself.
    inner = chunk(word)
    trap = [event_stream(), chunk(ROLE), inner, inner, b"1", inner]
    assert not _differs_from_slow([*trap, b"x" * 400])


def test_a_first_event_that_began_in_another_chunk_makes_no_template() -> None:
    word = token("a")
    cut_off = [event_stream(), chunk(ROLE), chunk(word[:2]), chunk(word[2:]), chunk(word[2:]), chunk(word[2:])]
    exchange = feed([*cut_off, chunk(FINISH), chunk(DONE), chunk(b"")])
    assert exchange.transcript.chunks == 1
    assert not _differs_from_slow([*cut_off, chunk(FINISH), chunk(DONE), chunk(b"")])


def test_a_byte_order_mark_is_no_part_of_a_template() -> None:
    word = b"\xef\xbb\xbf" + token("a")
    segments = [event_stream(), chunk(word), chunk(word), chunk(word), chunk(FINISH), chunk(DONE), chunk(b"")]
    assert feed(segments).transcript.chunks == 1
    assert not _differs_from_slow(segments)


def test_text_that_is_no_utf8_is_an_error_whatever_the_cut() -> None:
    bad = token("a").replace(b'"a"', b'"\xff"')
    segments = [event_stream(), chunk(ROLE), chunk(token("a")), chunk(bad), chunk(FINISH), chunk(DONE), chunk(b"")]
    assert feed(segments).outcome == "stream_error"
    assert not _differs_from_slow(segments)


def test_chunk_sizes_in_capital_letters_take_the_short_cut() -> None:
    before, after = token("x" * 3).split(b"xxx")
    template = Template(before, after)
    for length in range(1, 200):
        text = b"w" * length
        framed = chunk(before + text + after)
        size, rest = framed.split(b"\r\n", 1)
        assert template.match(framed) == text
        assert template.match(size.upper() + b"\r\n" + rest) == text
