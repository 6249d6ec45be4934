"""RecordWriter: appends lines to a file in batches, and loses none of them when the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["RecordWriter"]


class RecordWriter:
    """Collects lines in memory and appends them to a file on `flush`.

    The caller flushes at least once a second, off the measured path, so a killed process loses no more
    than that. What can't be written (a full disk) stays in memory, in order, and is tried again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file_descriptor: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lines: list[bytes] = []
        self._unwritten = b""

    def append(self, lines: bytes) -> None:
        """Add one line or several, line ends included. Touches no file."""
        self._lines.append(lines)

    @property
    def pending(self) -> int:
        """Bytes that are not in the file yet."""
        return len(self.unwritten)

    @property
    def unwritten(self) -> bytes:
        """What is not in the file yet: it continues the file, perhaps in the middle of a line."""
        return b"".join((self._unwritten, *self._lines))

    def flush(self) -> None:
        """Write what is pending. Raises OSError when the file does not take it; nothing is lost then."""
        if self._file_descriptor is None:
            raise ValueError(f"{self.path} is closed")
        lines, self._lines = self._lines, []
        data = b"".join((self._unwritten, *lines))
        try:
            while data:
                data = data[os.write(self._file_descriptor, data) :]
        finally:
            self._unwritten = data

    def close(self) -> None:
        """Flush and close; safe to call twice. Raises OSError as `flush` does, and stays open then."""
        if self._file_descriptor is None:
            return
        self.flush()
        os.close(self._file_descriptor)
        self._file_descriptor = None
