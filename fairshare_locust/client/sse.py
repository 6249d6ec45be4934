"""Server-sent events: bytes in, the `data` of each event out. Right for any split of the bytes.

Follows the WHATWG HTML standard, section "Server-sent events": lines end with LF, CR or CRLF and with nothing
else (U+2028 is text), comments and unknown fields are skipped, several `data` lines are joined with LF, an event
without a closing blank line is dropped, and a byte order mark at the very start is ignored. Works on bytes,
so a character split over two segments is never decoded in halves.
"""

from __future__ import annotations

import re

__all__ = ["SseParser"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseParser:
    """Feeds on the body of one response and gives the `data` of every event as it is completed."""

    __slots__ = ("_after_cr", "_data", "_line", "_started")

    def __init__(self) -> None:
        self._started = False
        self._after_cr = False  # the last byte was a CR that ended a line; an LF right after it belongs to it
        self._line = b""  # a line whose end has not come
        self._data: list[bytes] | None = None  # data lines of the event under way

    @property
    def between_events(self) -> bool:
        """Whether nothing of an event has arrived that is not complete."""
        return self._started and not self._line and self._data is None and not self._after_cr

    def feed(self, segment: bytes) -> list[bytes]:
        """The data of the events that `segment` completes, in order."""
        if self.between_events and segment.startswith(b"data:") and segment.endswith(b"\n\n") and b"\r" not in segment:
            # Nearly every segment of nearly every server: whole events of one data line each.
            blocks = segment[:-2].split(b"\n\n")
            if all(block.startswith(b"data:") and b"\n" not in block for block in blocks):
                return [block[6:] if block[5:6] == b" " else block[5:] for block in blocks]
        return self._feed_lines(segment)

    def _feed_lines(self, segment: bytes) -> list[bytes]:
        if not segment:
            return []
        if self._started and not self._after_cr and _LINE_END.search(segment) is None:
            self._line += segment  # looked at once, however long the line becomes
            return []
        if self._after_cr and segment.startswith(b"\n"):
            segment = segment[1:]
        self._after_cr = False
        text = self._line + segment
        if not self._started:
            if len(text) < 3 and _BYTE_ORDER_MARK.startswith(text):
                self._line = text
                return []
            self._started = True
            if text.startswith(_BYTE_ORDER_MARK):
                text = text[3:]
        self._after_cr = text.endswith(b"\r")
        lines = _LINE_END.split(text)
        self._line = lines.pop()
        events = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data is not None:
                events.append(b"\n".join(self._data))
                self._data = None
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            if self._data is None:
                self._data = []
            self._data.append(value[1:] if value.startswith(b" ") else value)
