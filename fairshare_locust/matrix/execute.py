"""Executors: who makes the run of a cell: Locust in real time, a worker in virtual time. None outlives the matrix."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

import orjson

from fairshare_locust.cell import VARIABLE
from fairshare_locust.child import child_command, child_environment
from fairshare_locust.matrix.cells import Cell
from fairshare_locust.matrix.prefix_cache import reset_prefix_caches
from fairshare_locust.matrix.state import Time

__all__ = ["Executor", "LocustExecutor", "VirtualExecutor"]

_PR_SET_PDEATHSIG = 1
_LOCUSTFILE = """\
from fairshare_locust import register

register(globals(), plan={plan!r})
"""
# They would change what the cell's profile says.
_NOT_OURS = ("FAIRSHARE_SCALE", "FAIRSHARE_SEED", "FAIRSHARE_NO_REPORT", "FAIRSHARE_STRICT", VARIABLE)


class Executor(Protocol):
    """Makes the runs of cells, in one kind of time."""

    time: Time

    def run(self, cell: Cell, profile: Path, log: Path, variable: str) -> str:
        """Make the run beside the cell's profile, and wait for its end; what its process says went wrong, else "".

        Ctrl-C ends the run in the way that it would end by itself, and is passed on.

        Args:
            log: where what the process prints goes.
            variable: `FAIRSHARE_CELL` of the run.
        """
        ...

    def close(self) -> None:
        """End what still runs; safe to call twice."""
        ...


def _dies_with_us() -> Callable[[], None]:
    """To be called in a child before it becomes what it is to be: it is killed when we are, or have been."""
    parent = os.getpid()
    prctl = None
    with contextlib.suppress(OSError, AttributeError):  # Linux has it, and that is where GPUs are
        prctl = ctypes.CDLL(None).prctl

    def follow() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return follow


class LocustExecutor:
    """Real time: each cell is a headless Locust of its own, which starts and stops its own servers."""

    time: Time = "real"

    def __init__(self, tell: Callable[[str], None], *, figures: bool = True) -> None:
        """`figures`: each run has its whole report; else `analysis/summary.json` alone."""
        self._tell = tell
        self._figures = figures
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, cell: Cell, profile: Path, log: Path, variable: str) -> str:
        """See `Executor`."""
        if cell.profile.deployment.engine == "external":
            for note in reset_prefix_caches(cell.profile):
                self._tell(note)
        locustfile = profile.with_name("locustfile.py")
        locustfile.write_text(_LOCUSTFILE.format(plan=cell.plan), encoding="utf-8")
        environment = {key: value for key, value in child_environment().items() if key not in _NOT_OURS}
        environment[VARIABLE] = variable
        options = ["--fairshare-profile", str(profile), "--fairshare-out", str(profile.parent)]
        if not self._figures:
            options.append("--fairshare-no-report")
        self._follow([*child_command("locust", "-f", str(locustfile), "--headless"), *options], environment, log)
        latest = profile.parent / "latest"
        if not self._figures and latest.is_dir():
            self._follow(child_command("fairshare_locust.matrix.verdict", str(latest.resolve())), environment, log)
        return ""

    def _follow(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Run it to its end. Each Ctrl-C is passed on: the first ends the run properly, the second at once."""
        with open(log, "ab") as output:
            self._child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the terminal is for us
                preexec_fn=_dies_with_us(),
            )
        interrupted = False
        while True:
            try:
                self._child.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                self._tell("interrupted; the run ends, and is analysed (again to quit at once)")
                self._child.send_signal(signal.SIGINT)
        self._child = None
        if interrupted:
            raise KeyboardInterrupt

    def close(self) -> None:
        """See `Executor`."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait()
            self._child = None


class VirtualExecutor:
    """Virtual time: one worker process makes all runs, see `worker`."""

    time: Time = "virtual"

    def __init__(self, *, figures: bool) -> None:
        """`figures`: each run has its whole report; else `analysis/summary.json` alone."""
        self._figures = figures
        self._worker: subprocess.Popen[bytes] | None = None

    def run(self, cell: Cell, profile: Path, log: Path, variable: str) -> str:
        """See `Executor`."""
        worker = self._worker or self._start()
        order = {
            "profile": str(profile),
            "plan": cell.plan,
            "out": str(profile.parent),
            "log": str(log),
            "cell": variable,
            "figures": self._figures,
        }
        asked: IO[bytes] | None = worker.stdin
        answers: IO[bytes] | None = worker.stdout
        assert asked is not None
        assert answers is not None
        try:
            asked.write(orjson.dumps(order) + b"\n")
            asked.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = b""
        except KeyboardInterrupt:
            self.close()
            raise
        if not line:
            code = worker.wait()
            self.close()
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            return f"its process ended {how}"
        error: str | None = orjson.loads(line)["error"]
        return error or ""

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in child_environment().items() if key not in _NOT_OURS}
        self._worker = subprocess.Popen(
            child_command("fairshare_locust.matrix.worker"),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_dies_with_us(),
        )
        return self._worker

    def close(self) -> None:
        """See `Executor`."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()  # it starts nothing, and what it was at is set aside
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        worker.wait()
