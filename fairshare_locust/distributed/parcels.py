"""Parcels: the lines of a growing file, sent piece by piece to another process, again until it says that it has them.

The file is the queue, so that what waits takes no memory, and is safe when either side dies. A parcel says where in
the file it begins; the receiver answers with how much of the file it has, and takes only what comes next.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Inbox", "Outbox", "Parcel"]

PARCEL_BYTES = 1 << 16  # packing it takes less than a millisecond
_ON_THE_WAY_BYTES = 1 << 21
_AGAIN_AFTER_S = 3.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """Whole lines of a file from `offset` on, compressed."""

    offset: int
    data: bytes


class Outbox:
    """The sending side. It never waits: there is a next parcel, or there is none for now.

    Attributes:
        acknowledged: bytes from the file's start that the other side has.
        tail: what continues the file and had no room in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tail = b""
        self._sent = 0
        self.acknowledged = 0
        self._moved_s = 0.0  # when the first of what is on its way was sent, or the one before it acknowledged

    @property
    def size(self) -> int:
        """Bytes there are to send, those that the other side has included."""
        return self._file_size() + len(self.tail)

    def _file_size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0  # there is none yet

    @property
    def empty(self) -> bool:
        """Whether the other side has all that is in the file."""
        return self.acknowledged >= self.size

    def next(self, now_s: float) -> Parcel | None:
        """What is to be sent now. None when everything is on its way, or so much that the other side comes first."""
        if self._sent > self.acknowledged and now_s - self._moved_s > _AGAIN_AFTER_S:
            self._sent = self.acknowledged  # it was lost on the way
        if self._sent - self.acknowledged >= _ON_THE_WAY_BYTES:
            return None
        lines = self._lines_at(self._sent)
        if not lines:
            return None
        parcel = Parcel(self._sent, zlib.compress(lines, 1))
        if self._sent == self.acknowledged:
            self._moved_s = now_s
        self._sent += len(lines)
        return parcel

    def acknowledge(self, received: int, now_s: float) -> None:
        """The other side has so many bytes from the file's start."""
        if received > self.acknowledged:
            self.acknowledged = received
            self._sent = max(self._sent, received)
            self._moved_s = now_s

    def _lines_at(self, offset: int) -> bytes:
        """Whole lines from there on, as many as make a parcel, one at least; nothing if there is no whole one."""
        try:
            content = self._read(offset, PARCEL_BYTES)
            while len(content) >= PARCEL_BYTES and b"\n" not in content:
                more = self._read(offset + len(content), PARCEL_BYTES)
                if not more:
                    break
                content += more
        except OSError:
            return b""
        return content[: content.rfind(b"\n") + 1]

    def _read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on, fewer at the end: of the file, then of what had no room in it."""
        end = self._file_size()
        content = b""
        if offset < end:
            with open(self._path, "rb") as file:
                file.seek(offset)
                content = file.read(min(length, end - offset))
        after = max(0, offset - end)
        return content + self.tail[after : after + length - len(content)]


class Inbox:
    """The receiving side.

    Attributes:
        received: bytes from the file's start that have been taken in.
    """

    def __init__(self) -> None:
        self.received = 0

    def take(self, offset: int, data: bytes) -> bytes:
        """The lines of a parcel, if they are the next ones; else nothing: they came before, or others come first."""
        if offset != self.received:
            return b""
        lines = zlib.decompress(data)
        self.received += len(lines)
        return lines
