"""SampleFile: samples in long form, a CSV that can be read while it grows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

from fairshare_locust.record import RecordWriter

__all__ = ["SampleFile"]

_MOST_PENDING_BYTES = 16 << 20


class SampleFile:
    """`t_s,source,<subject>,metric,value`. The file comes with its first row: without a row there is none.

    Attributes:
        rows: samples that are in the file, or on their way to it.
        rows_lost: samples that are not, because the disk was full for too long, or when the file was closed.
    """

    def __init__(self, path: Path, subject: Literal["device", "endpoint"]) -> None:
        self.path = path
        self.rows = 0
        self.rows_lost = 0
        self._columns = ("t_s", "source", subject, "metric", "value")
        self._text = io.StringIO()
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._writer: RecordWriter | None = None
        self._full = False

    def append(self, t_s: float, source: str, subject: str, metric: str, value: float) -> None:
        """Take in one sample. Touches no file."""
        if self._full and self._text.tell() > _MOST_PENDING_BYTES:
            self.rows_lost += 1
            return
        if not self.rows:
            self._csv.writerow(self._columns)
        self._csv.writerow((f"{t_s:.6f}", source, subject, metric, f"{value:.15g}"))
        self.rows += 1

    def flush(self) -> None:
        """Write what is pending. Raises OSError when the file does not take it; it is tried again the next time."""
        if not self.rows:
            return
        self._full = True
        if self._writer is None:
            self._writer = RecordWriter(self.path)
        self._writer.flush()  # what the disk did not take the last time
        self._writer.append(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()
        self._writer.flush()
        self._full = False

    def close(self) -> None:
        """Flush and close. Raises OSError as `flush` does; what is not in the file then counts as lost."""
        try:
            self.flush()
        except OSError:
            unwritten = b"" if self._writer is None else self._writer.unwritten
            lines = unwritten.count(b"\n") + self._text.getvalue().count("\n")
            lost = min(lines, self.rows)  # one line more than rows if the columns' names are among them
            self.rows -= lost
            self.rows_lost += lost
            raise
        if self._writer is not None:
            self._writer.close()
