"""Processes that start at once: forks of one that has loaded their modules already.

Python and its modules take longer to load than most tests of a process last. What is forked goes on as
`python -m MODULE ARGUMENT…` would, with its own arguments, environment and streams, and ends as that does. That a
program starts from nothing is for tests that start it so.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

__all__ = ["Fork", "run_fork"]

_ROOT = Path(__file__).resolve().parents[1]
_READ_AT_THE_START = ("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED")  # a fork comes too late to read them
_MOST_BYTES = 1 << 17


class Fork:
    """`python -m MODULE ARGUMENT…` in the folder of the repository, with pipes to its streams.

    Attributes:
        pid: of the process.
        stdin, stdout, stderr: text, as `subprocess.Popen` has them; unless `keep_errors`, errors go where ours go.
        returncode: once it is known that it has ended.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None, keep_errors: bool = True
    ) -> None:
        environment = dict(os.environ if environment is None else environment)
        self._forker = _forker(tuple(environment.get(name) for name in _READ_AT_THE_START))
        (stdin, writing), (reading, stdout), (errors, stderr) = (os.pipe() for _ in range(3))
        asked = {"module": module, "arguments": arguments, "environment": environment}
        self.pid: int = self._forker.ask(asked, [stdin, stdout, stderr if keep_errors else 2])
        for descriptor in (stdin, stdout, stderr):
            # Where a test has loaded Locust, `os.close` is gevent's, which puts it off until its loop runs.
            os.closerange(descriptor, descriptor + 1)
        self.stdin: IO[str] = os.fdopen(writing, "w", encoding="utf-8")
        self.stdout: IO[str] = os.fdopen(reading, encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(errors, encoding="utf-8")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._forker.ask({"ended": self.pid, "within_s": 0})
        return self.returncode

    def wait(self, timeout_s: float = 60) -> int:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            self.returncode = self._forker.ask({"ended": self.pid, "within_s": timeout_s})
        assert self.returncode is not None, f"it still runs after {timeout_s} s"
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it is known that it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """End it as an orchestrator does."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it whatever it does."""
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Close its input; what it says until it ends, which is little."""
        self.stdin.close()
        said = self.stdout.read(), self.stderr.read()
        self.wait()
        self.close()
        return said

    def close(self) -> None:
        """Close the pipes."""
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()


def run_fork(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    process = Fork(module, *arguments, environment=environment)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess([module, *arguments], process.wait(), stdout, stderr)


class _Forker:
    """The process that is forked."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is for who runs the tests
            )

    def ask(self, question: dict[str, Any], descriptors: list[int] | None = None) -> Any:
        socket.send_fds(self._channel, [json.dumps(question).encode()], descriptors or [])
        return json.loads(self._channel.recv(_MOST_BYTES))

    def close(self) -> None:
        """It ends when there is nobody to ask it."""
        self._channel.close()
        self._process.wait()


@cache
def _forker(start: tuple[str | None, ...]) -> _Forker:
    own = {name: value for name, value in os.environ.items() if name not in _READ_AT_THE_START}
    set_ = {name: value for name, value in zip(_READ_AT_THE_START, start, strict=True) if value is not None}
    forker = _Forker({**own, **set_})
    atexit.register(forker.close)
    return forker


# --- in the other process


def _asked_to_become(channel: socket.socket) -> dict[str, Any] | None:
    """Answer questions; in a fork, what it is to be. None when nobody asks any more."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, _MOST_BYTES, 3)
        if not data:
            return None
        question: dict[str, Any] = json.loads(data)
        if "ended" in question:
            answer = _exit_code(question["ended"], question["within_s"])
        else:
            _load(question["module"])
            answer = os.fork()
            if not answer:
                for place, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, place)
                    os.close(descriptor)
                return question
            for descriptor in descriptors:
                os.close(descriptor)
        channel.send(json.dumps(answer).encode())


def _exit_code(pid: int, within_s: float) -> int | None:
    """Of a fork, if it ends in time."""
    descriptor = os.pidfd_open(pid)
    ended, _, _ = select.select([descriptor], [], [], within_s)
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else None


def _load(module: str) -> None:
    """Import what a module imports. It itself is run in the fork, as `__main__`."""
    spec = importlib.util.find_spec(module)
    main = f"{module}.__main__" if spec is not None and spec.submodule_search_locations else module
    importlib.import_module(main)
    del sys.modules[main]


def _main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.setblocking(True)
    question = _asked_to_become(channel)
    channel.close()
    if question is not None:
        os.environ.clear()
        os.environ.update(question["environment"])
        sys.argv[1:] = question["arguments"]
        runpy.run_module(question["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
