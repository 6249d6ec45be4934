"""Where a run's files stand."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from fairshare_locust.errors import FairshareError, RunDirectoryError
from fairshare_locust.record import RunDirectory
from fairshare_locust.record.run_directory import replace_file, replace_lines


@pytest.fixture
def same_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.gmtime(1_795_223_832)
    monkeypatch.setattr(time, "gmtime", lambda: now)


def test_create(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "runs" / "deep", "demo")
    assert re.fullmatch(r"\d{8}T\d{6}Z-demo", directory.path.name)
    assert directory.logs.is_dir()
    assert (tmp_path / "runs" / "deep" / "latest").resolve() == directory.path.resolve()
    assert sorted(path.name for path in directory.path.iterdir()) == ["logs"]


@pytest.mark.usefixtures("same_second")
def test_names_do_not_collide(tmp_path: Path) -> None:
    names = [RunDirectory.create(tmp_path, "demo").path.name for _ in range(3)]
    assert names == ["20261121T011712Z-demo", "20261121T011712Z-demo-2", "20261121T011712Z-demo-3"]
    assert os.readlink(tmp_path / "latest") == names[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "latest"]


@pytest.mark.usefixtures("same_second")
def test_a_file_by_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "20261121T011712Z-demo").write_text("mine")
    assert RunDirectory.create(tmp_path, "demo").path.name == "20261121T011712Z-demo-2"
    assert (tmp_path / "20261121T011712Z-demo").read_text() == "mine"


def test_latest_that_points_nowhere_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    directory = RunDirectory.create(tmp_path, "demo")
    assert os.readlink(tmp_path / "latest") == directory.path.name


def test_the_link_survives_a_move_of_the_folder(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "runs", "demo")
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "latest" / "logs").is_dir()
    assert not directory.path.exists()


def test_a_parent_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory.create(tmp_path / "file" / "runs", "demo")
    assert isinstance(caught.value, FairshareError)
    assert str(caught.value) == (
        f"run directory under '{tmp_path}/file/runs' can't be made: Not a directory; "
        "name another folder with --fairshare-out"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_can_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunDirectoryError, match="Permission denied"):
        RunDirectory.create(tmp_path, "demo")


def test_making_the_object_touches_nothing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    assert not directory.path.exists()
    files = (directory.requests, directory.texts, directory.profile, directory.run_json, directory.logs)
    assert [path.relative_to(directory.path).as_posix() for path in files] == [
        "requests.jsonl",
        "texts.jsonl",
        "profile.resolved.yaml",
        "run.json",
        "logs",
    ]


def test_run_json(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "demo")
    directory.write_run({"schema": 1, "state": "running"})
    directory.write_run({"schema": 1, "state": "complete", "name": "größe"})
    assert directory.read_run() == {"schema": 1, "state": "complete", "name": "größe"}
    assert directory.run_json.read_bytes().endswith(b"}\n")
    assert sorted(path.name for path in directory.path.iterdir()) == ["logs", "run.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't be read"), (b"{", "can't be read"), (b"[]", "no run of schema 1"), (b'{"schema": 2}', "no run of")],
)
def test_run_json_that_can_not_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    directory = RunDirectory(tmp_path)
    if content is not None:
        directory.run_json.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=message) as caught:
        directory.read_run()
    assert str(directory.run_json) in str(caught.value)


def test_replace_file_leaves_the_old_one_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def full(_file_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_replace_lines(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"a\nb\nhalf")
    replace_lines(path, bytes.upper)
    assert path.read_bytes() == b"A\nB\nHALF"

    def break_at_b(line: bytes) -> bytes:
        if line == b"B\n":
            raise ValueError("no")
        return b"?"

    with pytest.raises(ValueError, match="no"):
        replace_lines(path, break_at_b)
    assert path.read_bytes() == b"A\nB\nHALF"
