"""RunDirectory: where a run's files stand, and `run.json`, which says what they are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.errors import RunDirectoryError

__all__ = ["SCHEMA", "RunDirectory", "replace_file", "replace_lines", "worker_file"]

SCHEMA = 1


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file so that a reader, or a crash, never meets half of it."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def worker_file(run: Path, worker: int, kind: str) -> Path:
    """A load process's own file of a run's `requests` or `texts`, kept until the run's have all of it."""
    return run / "workers" / f"{worker}-{kind}.jsonl"


def _point_latest(latest: Path, name: str) -> None:
    link = latest.with_name(f".latest.{os.getpid()}")
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        os.replace(link, latest)
    except OSError:
        pass  # a file system without links, or a folder of that name: the run itself needs no `latest`


class RunDirectory:
    """The files of one run, by name. Making the object touches no file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, parent: Path, profile_name: str) -> RunDirectory:
        """A new directory `<UTC time>-<profile name>`, with `latest` beside it pointing to it.

        Raises RunDirectoryError when it can't be made.
        """
        stem = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{profile_name}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path = parent / stem
            suffix = 1
            while True:
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    suffix += 1
                    path = parent / f"{stem}-{suffix}"
            (path / "logs").mkdir()
        except OSError as error:
            raise RunDirectoryError(
                f"run directory under {str(parent)!r} can't be made: {error.strerror}; "
                "name another folder with --fairshare-out"
            ) from error
        _point_latest(parent / "latest", path.name)
        return cls(path)

    @property
    def requests(self) -> Path:
        """One RequestRecord per line."""
        return self.path / "requests.jsonl"

    @property
    def texts(self) -> Path:
        """Answers whose tokens have still to be counted; gone once they are."""
        return self.path / "texts.jsonl"

    @property
    def profile(self) -> Path:
        """The profile with every default."""
        return self.path / "profile.resolved.yaml"

    @property
    def run_json(self) -> Path:
        """State, versions, servers, clock, phases and health of the run."""
        return self.path / "run.json"

    @property
    def logs(self) -> Path:
        """Folder of server logs."""
        return self.path / "logs"

    @property
    def locust_csv_prefix(self) -> Path:
        """Locust's CSV files begin with this."""
        return self.path / "locust"

    def write_run(self, content: dict[str, Any]) -> None:
        """Replace `run.json` as a whole."""
        replace_file(self.run_json, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    def read_run(self) -> dict[str, Any]:
        """`run.json` as a dictionary. Raises RunDirectoryError when it is missing or no JSON."""
        try:
            content: Any = orjson.loads(self.run_json.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise RunDirectoryError(f"{self.run_json} can't be read: {error}") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise RunDirectoryError(f"{self.run_json} is no run of schema {SCHEMA}")
        return content


def replace_lines(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Pass every line of a file through `change`; a crash leaves the file as it was."""
    temporary = path.with_name(f".{path.name}.part")
    with open(path, "rb") as lines, open(temporary, "wb") as changed:
        for line in lines:
            changed.write(change(line))
        changed.flush()
        os.fsync(changed.fileno())
    os.replace(temporary, path)
