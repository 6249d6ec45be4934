"""ServerProcess: a server that we started, from its first breath to the end of its last process."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

from fairshare_locust.errors import ServingError
from fairshare_locust.serving import keeper
from fairshare_locust.serving.causes import PROFILING_RACE, likely_cause

__all__ = ["ServerProcess"]

_POLL_S = 0.1
_LOG_LINES = 20
_LOG_BYTES = 1 << 18  # of its end, in which a cause is looked for
_STARTED_WITHIN_S = 30.0  # the keeper, not the server
_STOPS_BEYOND_S = 60.0  # over the server's own time: killing, removing a container
_ANSWER_WITHIN_S = 5.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ServerProcess:
    """A server in a session of its own, under a keeper that ends it with us (see `keeper`).

    Attributes:
        name: what errors call it.
        command: its command line, without the keeper's.
        log: where it writes.
        pid: of the server, which leads its process group; its descendants may be those that use the GPU.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        name: str,
        stop_within_s: float,
        first: Sequence[str] = (),
        finally_: Sequence[Sequence[str]] = (),
        remove: Iterable[Path] = (),
        remove_last: Iterable[Path] = (),
        lock: tuple[int, Path] | None = None,
    ) -> None:
        """Start it; `finally_` are commands run, and `remove` folders removed, when it has ended in whatever way.

        `first` is a command that asks it to end, before SIGTERM does. `lock` is held as long as any of its processes
        runs. Folders in `remove_last` are removed if we are killed, once nobody holds `lock`. Raises ServingError when
        it can't be started.
        """
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._stop_within_s = stop_within_s
        self._ended: dict[str, Any] | None = None
        asked = {
            "command": list(command),
            "stop_within_s": stop_within_s,
            "first": list(first),
            "finally": [list(one) for one in finally_],
            "remove": [str(path) for path in remove],
            "remove_last": [str(path) for path in remove_last],
            "parent": os.getpid(),
            "lock": None if lock is None else [lock[0], str(lock[1])],
        }
        with open(log, "ab") as output:
            self._log_from = output.tell()  # what stands there already is of an earlier start
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, orjson.dumps(asked).decode()],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=() if lock is None else (lock[0],),
                start_new_session=True,  # a Ctrl-C at the terminal is for us
                bufsize=0,  # what it has said and we have not read is seen by `select`
            )
        said = self._hear(_STARTED_WITHIN_S)
        if said is None or "pid" not in said:
            self.stop()
            why = "it did not start" if said is None else said.get("error", "it did not start")
            raise ServingError(f"{name}: {command[0]} can't be run: {why}")
        self.pid: int = said["pid"]

    def _hear(self, within_s: float) -> dict[str, Any] | None:
        """What the keeper says next; None if it says nothing."""
        assert self._keeper.stdout is not None
        readable, _, _ = select.select([self._keeper.stdout], [], [], within_s)
        line = self._keeper.stdout.readline() if readable else b""
        said: dict[str, Any] | None = orjson.loads(line) if line else None
        return said

    @property
    def ended(self) -> bool:
        """Whether it has ended, by itself or by us."""
        if self._ended is None and self._keeper.poll() is not None:
            self._ended = self._hear(0.0) or {}
        return self._ended is not None

    @property
    def exit_code(self) -> int | None:
        """Of the server, negative for a signal; None while it runs, and if nobody knows."""
        return self._ended.get("code") if self.ended and self._ended is not None else None

    def pids(self) -> set[int]:
        """The server's process and all below it, as they are now."""
        if self.ended:
            return set()
        try:
            return {process.pid for process in psutil.Process(self._keeper.pid).children(recursive=True)}
        except psutil.Error:
            return set()

    def wait_ready(self, url: str, deadline_s: float, path: str = "/health") -> None:
        """Wait until it answers 200 at `path`, on the monotonic clock until `deadline_s` at most.

        Raises ServingError, with the end of its log, when it dies or takes too long.
        """
        self.wait_until(lambda: _answers(url, path), deadline_s, f"it did not answer {url}{path}")

    def wait_until(self, done: Callable[[], bool], deadline_s: float, otherwise: str) -> None:
        """The same for anything else; `otherwise` says what did not happen."""
        began_s = time.monotonic()
        while not done():
            if self.ended:
                raise self.death()
            if time.monotonic() > deadline_s:
                raise ServingError(
                    f"{self.name}: {otherwise} within {time.monotonic() - began_s:.0f} s"
                    f"{self._why()}; if it only needs longer, raise deployment.server.ready_within_s\n{self._log_end()}"
                )
            time.sleep(_POLL_S)

    def death(self, when: str = "while starting") -> ServingError:
        """The error that tells of its end: exit code, likely cause, the last lines of its log."""
        code = self.exit_code
        how = "" if code is None else f" with exit code {code}" if code >= 0 else f" by signal {-code}"
        return ServingError(f"{self.name} ended {when}{how}{self._why()}\n{self._log_end()}")

    @property
    def lost_a_race(self) -> bool:
        """Whether it ended since another process took or freed GPU memory while it measured it."""
        return self.ended and PROFILING_RACE.search(self._log_text()) is not None

    def _why(self) -> str:
        cause = likely_cause(self._log_text())
        return "" if cause is None else f"; likely cause: {cause}"

    def _log_text(self) -> str:
        with open(self.log, "rb") as file:
            file.seek(max(self._log_from, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            return _COLOURS.sub("", file.read().decode(errors="replace"))

    def _log_end(self) -> str:
        lines = self._log_text().rstrip().splitlines()[-_LOG_LINES:]
        return "\n".join([f"its log ({self.log}) ends:", *lines]) if lines else f"its log ({self.log}) is empty"

    def begin_stop(self) -> None:
        """Ask it to end, and return at once."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._keeper.stdin.close()

    def stop(self) -> None:
        """End it and all of its processes, kindly at first; safe to call twice."""
        self.begin_stop()
        try:
            self._keeper.wait(self._stop_within_s + _STOPS_BEYOND_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()  # its server's process, not all below it, dies with it
            self._keeper.wait()
        assert self.ended
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()


def _answers(url: str, path: str) -> bool:
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
