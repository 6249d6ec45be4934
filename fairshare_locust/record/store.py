"""RecordStore: a run's records, and the answers whose tokens are still to be counted, in files that a full disk spares.

It knows no event loop: its owner calls `flush` about twice a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.record.record import RequestRecord
from fairshare_locust.record.run_directory import replace_lines
from fairshare_locust.record.writer import RecordWriter

__all__ = ["FLUSH_EVERY_S", "RecordStore", "relabel"]

FLUSH_EVERY_S = 0.5

_log = logging.getLogger(__name__)


class RecordStore:
    """Writes lines to two files: a RequestRecord each, and an answer each that came without a count of its tokens.

    Attributes:
        requests, texts: the files; the second is there only if a line was written to it.
    """

    def __init__(self, requests: Path, texts: Path) -> None:
        self.requests = requests
        self.texts = texts
        self._records = RecordWriter(requests)
        self._answers: RecordWriter | None = None
        self._disk_trouble = False

    def append(self, lines: bytes) -> None:
        """Add records, line ends included. Touches no file."""
        self._records.append(lines)

    def append_texts(self, lines: bytes) -> None:
        """Add answers, each `{"request_id": …, "text": …}`, line ends included."""
        if self._answers is None:
            self._answers = RecordWriter(self.texts)
        self._answers.append(lines)

    def flush(self) -> bool:
        """Write what is pending; False, told once, while the disk does not take it."""
        try:
            self._records.flush()
            if self._answers is not None:
                self._answers.flush()
        except OSError as error:
            if not self._disk_trouble:
                self._disk_trouble = True
                _log.error("%s can't be written (%s); records are kept in memory", self.requests, error.strerror)
            return False
        if self._disk_trouble:
            self._disk_trouble = False
            _log.warning("%s can be written again; nothing was lost", self.requests)
        return True

    @property
    def unwritten(self) -> tuple[bytes, bytes]:
        """Records, and answers, that are not in their files yet; they may begin in the middle of a line."""
        return self._records.unwritten, b"" if self._answers is None else self._answers.unwritten

    def close(self) -> tuple[bytes, bytes]:
        """Write everything; returns what could not be written of either file (nothing if all went well)."""
        if not self.flush():
            return self.unwritten
        self._records.close()
        if self._answers is not None:
            self._answers.close()
        return b"", b""

    def lines(self) -> Iterator[bytes]:
        """Every record, those included that are not in the file yet."""
        torn = b""
        with open(self.requests, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    torn = line
                    break
                yield line
        yield from (torn + self._records.unwritten).splitlines(keepends=True)

    def count_texts(self, count: Callable[[Sequence[str]], Sequence[int]]) -> None:
        """Put the counts of the answers into their records; `count` gives the tokens of each of some texts."""
        if self._answers is None:
            return
        texts: dict[str, str] = {}
        with open(self.texts, "rb") as lines:
            for line in lines:
                saved = orjson.loads(line)
                texts[saved["request_id"]] = saved["text"]
        counts = dict(zip(texts, count(list(texts.values())), strict=True))
        replace_lines(self.requests, lambda line: _with_count(line, counts))
        self.texts.unlink()


def _with_count(line: bytes, counts: Mapping[str, int]) -> bytes:
    record = RequestRecord.from_json(line)
    count = counts.get(record.request_id)
    if count is None or record.tokens_from != "chunks":
        return line
    return replace(record, output_tokens=count, tokens_from="tokenizer").to_json()


def relabel(requests: Path, parts: Sequence[Mapping[str, Any]]) -> None:
    """Name each record's phase anew, by when it was scheduled.

    Of several processes, none knows when the others have made their share of a number of requests, which ends the
    measurement: that is known when all have.

    Args:
        parts: as `phases` of `run.json`.
    """
    by_phase: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        by_phase.setdefault(part["name"].rpartition("/")[0], []).append(part)

    def with_label(line: bytes) -> bytes:
        values = orjson.loads(line)
        own = by_phase.get(values["phase"].rpartition("/")[0], [])
        begun = [part for part in own if part["start_s"] <= values["scheduled_s"]]
        if not begun or begun[-1]["name"] == values["phase"]:
            return line
        return replace(RequestRecord.from_json(line), phase=begun[-1]["name"]).to_json()

    replace_lines(requests, with_label)
