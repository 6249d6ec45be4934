"""A collector in a process of its own, talked to as a run does."""

from __future__ import annotations

import csv
import resource
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from fairshare_locust.child import child_command, child_environment
from fairshare_locust.telemetry.task import PolledEndpoint, Task

__all__ = ["Collecting", "polled", "rows", "task"]


def polled(origin: str, **more: Any) -> PolledEndpoint:
    """An endpoint to poll, of the tenant `chat`."""
    more.setdefault("tenants", ("chat",))
    return PolledEndpoint(endpoint=origin, metrics_url=f"{origin}/metrics", **more)


def task(folder: Path, *origins: str, **more: Any) -> Task:
    """Poll these each 20 ms; whatever is scraped, each 50 ms."""
    endpoints = tuple(map(polled, origins))
    more = {"server_metrics_interval_s": 0.02, "scrape_interval_s": 0.05, "endpoints": endpoints, **more}
    return Task(directory=str(folder), **more)


def rows(path: Path) -> list[dict[str, str]]:
    """The samples of a file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Collecting:
    """The run's end of the pipes.

    Attributes:
        said: every message so far.
    """

    def __init__(
        self, task_: Task | None, *, file_bytes: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            child_command("fairshare_locust.telemetry"),
            env=child_environment(**(environment or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A limit on the size of files fails as a full disk does: some bytes are written, then none.
            preexec_fn=None if file_bytes is None else lambda: _limit_files(file_bytes),
        )
        if task_ is not None:
            self._stdin.write(task_.to_line())
            self._stdin.flush()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def tell(self, **command: Any) -> None:
        self._stdin.write(orjson.dumps(command) + b"\n")
        self._stdin.flush()

    def begin(self) -> None:
        """Now is t = 0."""
        self.tell(t0_monotonic_s=time.monotonic())

    def wait_for(self, key: str) -> Any:
        """What it says under this key; it ends by itself if it never does."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(orjson.loads(line))
            if key in self.said[-1]:
                return self.said[-1][key]
        raise AssertionError(f"it ended without {key!r}: {self.said}")

    def end(self) -> Any:
        """Tell it to end; what it has done."""
        self.tell(end=True)
        done = self.wait_for("done")
        assert self.finish() == 0
        return done

    def finish(self) -> int:
        """Close its input and wait; what it says until then is in `said`."""
        self._stdin.close()
        assert self.process.stdout is not None
        self.said += map(orjson.loads, self.process.stdout)
        return self.process.wait()

    @property
    def notes(self) -> list[str]:
        return [message["note"] for message in self.said if "note" in message]

    def __enter__(self) -> Collecting:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _limit_files(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
