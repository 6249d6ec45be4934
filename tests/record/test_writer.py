"""Lines reach the file in order, each once, also when the disk is full for a while."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairshare_locust.record import RecordWriter


def test_lines_are_written_on_flush(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "requests.jsonl")
    writer.append(b"a\n")
    writer.append(b"bc\n")
    assert writer.path.read_bytes() == b""
    assert writer.pending == 5
    writer.flush()
    assert writer.path.read_bytes() == b"a\nbc\n"
    assert writer.pending == 0
    writer.flush()
    writer.append(b"d\n")
    writer.close()
    assert writer.path.read_bytes() == b"a\nbc\nd\n"
    writer.close()
    with pytest.raises(ValueError, match="is closed"):
        writer.flush()


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_bytes(b"before\n")
    writer = RecordWriter(tmp_path / "requests.jsonl")
    writer.append(b"after\n")
    writer.close()
    assert writer.path.read_bytes() == b"before\nafter\n"


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecordWriter(tmp_path / "none" / "requests.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_loses_nothing() -> None:
    writer = RecordWriter(Path("/dev/full"))
    writer.append(b"a\n")
    for pending in (2, 4):
        with pytest.raises(OSError, match="No space left"):
            writer.flush()
        assert writer.pending == pending
        writer.append(b"b\n")
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert writer.pending == 6


def test_a_disk_that_fills_up_in_mid_line_and_has_room_again(tmp_path: Path) -> None:
    """The kernel takes what fits. The rest of that line goes first as soon as there is room."""
    lines = [b"%04d\n" % i for i in range(100)]
    writer = RecordWriter(tmp_path / "requests.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for room, batch in ((7, lines[:50]), (123, lines[50:90])):
            for line in batch:
                writer.append(line)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            with pytest.raises(OSError, match="File too large"):
                writer.flush()
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert writer.path.stat().st_size == room
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    for line in lines[90:]:
        writer.append(line)
    writer.close()
    assert writer.path.read_bytes() == b"".join(lines)
    assert writer.pending == 0


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.binary(min_size=1, max_size=9), max_size=4), max_size=8), data=st.data())
def test_any_sequence_of_partial_and_failing_writes(
    tmp_path: Path, batches: list[list[bytes]], data: st.DataObject
) -> None:
    written = bytearray()

    def write(_file_descriptor: int, content: bytes) -> int:
        taken = data.draw(st.integers(-1, len(content)).filter(bool))
        if taken < 0:
            raise OSError(28, "No space left on device")
        written.extend(content[:taken])
        return taken

    writer = RecordWriter(tmp_path / "requests.jsonl")
    sent = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        for batch in batches:
            for line in batch:
                writer.append(line)
                sent += line
            _try(writer.flush)
            assert bytes(written) == sent[: len(written)]
            assert writer.pending == len(sent) - len(written)
        while writer.pending:
            _try(writer.flush)
    assert bytes(written) == sent
    writer.close()


def _try(flush: Callable[[], None]) -> None:
    try:
        flush()
    except OSError:
        pass
