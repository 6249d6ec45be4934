"""The SSE parser against the WHATWG rules, against a slow reference, and against every split of its input."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.client.sse import SseParser

_BOM = b"\xef\xbb\xbf"
_ODD_LINE_ENDS = "a\u2028b\u2029c\x85d\x0be\x0cf".encode()


def parse(*segments: bytes) -> list[bytes]:
    parser = SseParser()
    return [event for segment in segments for event in parser.feed(segment)]


def reference(stream: bytes) -> list[bytes]:
    """The standard's own algorithm, over the whole stream, a byte at a time."""
    if stream.startswith(_BOM):
        stream = stream[3:]
    lines: list[bytes] = []
    line = b""
    at = 0
    while at < len(stream):
        byte = stream[at : at + 1]
        at += 1
        if byte == b"\r" and stream[at : at + 1] == b"\n":
            at += 1
        if byte in (b"\r", b"\n"):
            lines.append(line)
            line = b""
        else:
            line += byte
    events: list[bytes] = []
    buffer = b""  # as the standard has it: each data line with an LF after it
    for line in lines:
        if line == b"":
            if buffer != b"":
                events.append(buffer[:-1])
            buffer = b""
            continue
        field, colon, value = line.partition(b":")
        if colon and value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            buffer += value + b"\n"
    return events


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"data: a\n\n", [b"a"], id="lf"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="cr"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="crlf"),
        pytest.param(b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"], id="mixed line ends"),
        pytest.param(b"data: a\n\r\n", [b"a"], id="lf, then crlf"),
        pytest.param(b"data:a\n\n", [b"a"], id="no space after the colon"),
        pytest.param(b"data:  a\n\n", [b" a"], id="only one space belongs to the colon"),
        pytest.param(b"data:\ta\n\n", [b"\ta"], id="a tab is no space"),
        pytest.param(b"data: a\ndata: b\ndata:c\n\n", [b"a\nb\nc"], id="several data lines"),
        pytest.param(b": keep-alive\n\ndata: a\n\n", [b"a"], id="comment before"),
        pytest.param(b"data: a\n: in the middle\ndata: b\n\n", [b"a\nb"], id="comment inside"),
        pytest.param(b":\n\n:\n\n", [], id="nothing but comments"),
        pytest.param(b"event: x\nid: 7\nretry: 10\ndata: a\n\n", [b"a"], id="other fields"),
        pytest.param(b"event: x\n\n", [], id="an event without data"),
        pytest.param(b"database: a\n\n", [], id="an unknown field that begins with data"),
        pytest.param(b" data: a\n\n", [], id="a field name with a space before it"),
        pytest.param(b"DATA: a\n\n", [], id="field names are case-sensitive"),
        pytest.param(b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"], id="the standard's third example"),
        pytest.param(b"data:test\n\ndata: test\n\n", [b"test", b"test"], id="the standard's fourth example"),
        pytest.param(b"data: a\n\ndata: b\n", [b"a"], id="an event without its blank line is dropped"),
        pytest.param(b"data: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"], id="more blank lines than needed"),
        pytest.param(_BOM + b"data: a\n\n", [b"a"], id="byte order mark at the start"),
        pytest.param(_BOM + _BOM + b"data: a\n\n", [], id="only one byte order mark is skipped"),
        pytest.param(b"data: a\n\n" + _BOM + b"data: b\n\n", [b"a"], id="a byte order mark later is text"),
        pytest.param(b"data: " + _ODD_LINE_ENDS + b"\n\n", [_ODD_LINE_ENDS], id="Unicode's other line ends are text"),
        pytest.param("data: größe 😀\n\n".encode(), ["größe 😀".encode()], id="UTF-8"),
        pytest.param(b"data: \xff\xfe\n\n", [b"\xff\xfe"], id="bytes that are no UTF-8"),
        pytest.param(b"data: a:b: c\n\n", [b"a:b: c"], id="colons in the value"),
        pytest.param(b"data: a\x00b\n\n", [b"a\x00b"], id="NUL"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_rules(stream: bytes, events: list[bytes]) -> None:
    assert parse(stream) == events
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == events
    assert reference(stream) == events  # the reference is held to the same rules


def test_each_event_comes_with_the_byte_that_completes_it() -> None:
    parser = SseParser()
    stream = b"data: a\n\ndata: b\r\n\r\n: c\n\ndata: d\n\n"
    completed = [(i, event) for i in range(len(stream)) for event in parser.feed(stream[i : i + 1])]
    # The CR of the blank line completes the second event; its LF is waited for no longer.
    assert completed == [(8, b"a"), (18, b"b"), (33, b"d")]


def test_an_empty_segment_changes_nothing() -> None:
    assert parse(b"", b"data: a\r", b"", b"\n\r", b"", b"\n", b"data: b\n\n") == [b"a", b"b"]
    assert parse(b"\xef", b"", b"\xbb", b"", b"\xbfdata: a\n\n") == [b"a"]


def test_a_beginning_that_is_only_half_a_byte_order_mark_is_text() -> None:
    assert parse(b"\xef", b"\xbb", b"data: a\n\ndata: b\n\n") == [b"b"]


def test_a_character_split_over_segments_stays_whole() -> None:
    stream = "data: 😀\n\n".encode()
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == ["😀".encode()]


def test_a_huge_event_in_many_segments() -> None:
    text = b"x" * 3_000_000
    stream = b"data: " + text + b"\n\n"
    assert parse(*(stream[i : i + 65536] for i in range(0, len(stream), 65536))) == [text]


_FRAGMENTS = st.sampled_from(
    [
        b"data:",
        b"data: ",
        b"data",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b":",
        b" ",
        b"x",
        b"\xef",
        b"\xbb",
        b"\xbf",
        _BOM,
        b'data: {"a":1}\n\n',
        b"data:y\n\n",
        b"event: z\n",
        b"id",
        b"\xe2\x80\xa8",
        b"\xc3\xa9",
        b"\x00",
        b"[DONE]",
    ]
)
_STREAMS = st.one_of(st.lists(_FRAGMENTS, max_size=40).map(b"".join), st.binary(max_size=60))


@settings(deadline=None, max_examples=300)
@given(stream=_STREAMS, data=st.data())
def test_any_split_gives_the_events_of_the_reference(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    segments = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*segments) == reference(stream)


_BLOCKS = st.sampled_from(
    [
        b"data: a\n\n",
        b"data:b\n\n",
        b"data:  c\n\n",
        b"data: d\ndata: e\n\n",
        b"data:\n\n",
        b"data: f\r\n\r\n",
        b"\n",
        b": g\n\n",
        b"event: h\ndata: i\n\n",
        b"data\n\n",
        b"data: j\n\n\n",
        b"id: k\n\n",
        b"data: l\r\r",
        b"data: m\n",
    ]
)


@settings(deadline=None, max_examples=200)
@given(segments=st.lists(st.lists(_BLOCKS, min_size=1, max_size=5).map(b"".join), max_size=6))
def test_whole_events_in_a_segment_read_as_byte_by_byte(segments: list[bytes]) -> None:
    """Segments of whole events take a short cut; it must not show."""
    stream = b"".join(segments)
    assert parse(b"\n", *segments) == parse(*(bytes([byte]) for byte in stream)) == reference(stream)
