"""Template: recognises the segments of a stream that differ from an earlier one in nothing but plain text.

Token after token, a server sends the same event in the same framing with another word in it. Once one such event
has been understood by the full parsers, a segment that is the same up to a text without quotes, backslashes or
control characters is the same JSON with another string, in a chunk of its own: comparing bytes settles it, at a
tenth of the price. Whatever is not exactly so is left to the full parsers.
"""

from __future__ import annotations

import re

__all__ = ["Template"]

_NOT_PLAIN = re.compile(rb'["\\\x00-\x1f\x7f]')


class Template:
    """Segments of the form: chunk size, line end, `before`, a plain text, `after`, line end."""

    __slots__ = ("_after", "_after_length", "_before", "_starts")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after + b"\r\n"
        self._after_length = len(self._after)
        self._starts: dict[int, tuple[bytes, ...]] = {}  # segment length → how such a segment has to begin

    def match(self, segment: bytes) -> bytes | None:
        """The text of a segment that is one whole chunk with one event like the template; None for any other."""
        length = len(segment)
        starts = self._starts.get(length)
        if starts is None:
            starts = self._start(length)
        if segment.startswith(starts) and segment.endswith(self._after):
            text = segment[len(starts[0]) : length - self._after_length]
            if text and _NOT_PLAIN.search(text) is None and (text.isascii() or _is_utf8(text)):
                return text
        return None

    def _start(self, length: int) -> tuple[bytes, ...]:
        """Chunk size and `before` for a segment of this length; the size counts what stands between its line ends.

        The size's digits may be small or capital letters. Empty, which nothing begins with, where no chunk has
        this length: with one digit more its size has one, too.
        """
        starts: tuple[bytes, ...] = ()
        for digits in range(1, 9):
            size = b"%x" % max(0, length - digits - 4)
            if len(size) == digits:
                starts = tuple(written + b"\r\n" + self._before for written in dict.fromkeys((size, size.upper())))
        self._starts[length] = starts
        return starts


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
