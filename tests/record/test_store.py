"""Records and answers, while the disk takes them and when it does not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fairshare_locust.record import RecordStore
from fairshare_locust.record.writer import RecordWriter


def full_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on, the disk has no room for files of this name."""
    flush = RecordWriter.flush

    def unless_full(writer: RecordWriter) -> None:
        if writer.path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(writer)

    monkeypatch.setattr(RecordWriter, "flush", unless_full)


def test_what_had_no_room_is_told_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, unwritten in (("requests.jsonl", (b"record\n", b"answer\n")), ("texts.jsonl", (b"", b"answer\n"))):
        with monkeypatch.context() as patch:
            folder = tmp_path / name.removesuffix(".jsonl")
            folder.mkdir()
            store = RecordStore(folder / "requests.jsonl", folder / "texts.jsonl")
            store.append(b"record\n")
            store.append_texts(b"answer\n")
            full_for(patch, name)
            assert store.close() == unwritten
            assert list(store.lines()) == [b"record\n"]


def test_nothing_is_left_when_all_is_written(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "requests.jsonl", tmp_path / "texts.jsonl")
    store.append(b"one\ntwo\n")
    assert store.flush()
    store.append(b"three\n")
    assert list(store.lines()) == [b"one\n", b"two\n", b"three\n"]
    assert store.close() == (b"", b"")
    assert not store.texts.exists()


def test_a_line_that_the_disk_took_half_of_is_whole(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "requests.jsonl", tmp_path / "texts.jsonl")
    store.append(b"one\ntw")
    assert store.flush()
    store.append(b"o\n")
    assert list(store.lines()) == [b"one\n", b"two\n"]
