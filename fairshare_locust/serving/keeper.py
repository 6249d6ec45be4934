"""Keeper: runs a server, and sees to it that nothing of it outlives whoever asked for it.

It needs the standard library alone, so that it starts at once.

`python -I keeper.py JSON`, with `{"command": […], "stop_within_s": S, "first": […], "finally": [[…], …],
"remove": [PATH, …], "remove_last": [PATH, …], "lock": [FD, PATH] or null, "parent": PID}`. It prints `{"pid": N}`, and
when the server has ended `{"code": N, "killed": N}`: its exit code, and how many of its processes had to be killed. The
server is ended when standard input reaches its end, which it does, too, when our parent is killed; so it is when we get
SIGTERM. It is asked to end by the command `first`, if there is one, then by SIGTERM.

The server leads a session of its own. Whatever process it starts stays in our tree, even if it leaves the group (as the
parts of TGI's launcher do): an orphan is ours, as we are its subreaper. The lock of the GPU is held until all of them
are gone. `remove_last` is removed only if our parent was killed, and when nobody holds the lock any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

__all__ = ["main", "remove_if_free"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.02
_REST_WITHIN_S = 5.0  # for those that are left when the server itself has ended
_KILL_WITHIN_S = 10.0  # a process in the driver may take a while to die
_FINALLY_WITHIN_S = 30.0
_LAST_WITHIN_S = 600.0  # until whoever else holds the lock has ended


def main(asked: dict[str, Any]) -> int:
    """Run the server to its end, its own or ours."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getpid()

    def follow() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    try:
        server = subprocess.Popen(
            asked["command"], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True, preexec_fn=follow
        )
    except OSError as error:
        _tell({"error": error.strerror or str(error)})
        _clean_up(asked)
        return 1
    _tell({"pid": server.pid})
    asked_to_stop = False
    while server.poll() is None and not asked_to_stop:
        readable, _, _ = select.select([0, reading], [], [])
        if 0 in readable:
            asked_to_stop = not os.read(0, 4096)
        if reading in readable:
            asked_to_stop = signal.SIGTERM in os.read(reading, 4096) or asked_to_stop
            _descendants(server)  # an orphan may have ended
    if asked.get("first") and server.poll() is None:
        _run(asked["first"], asked["stop_within_s"] + _FINALLY_WITHIN_S)
    killed = _end(server, asked["stop_within_s"])
    _clean_up(asked)
    _tell({"code": server.returncode, "killed": killed})
    return 0


def _end(server: subprocess.Popen[bytes], within_s: float) -> int:
    """End the server and all that it has started: how many of them had to be killed."""
    _signal([server.pid] if server.poll() is None else [], signal.SIGTERM, group=True)
    deadline_s = time.monotonic() + within_s
    while server.poll() is None and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    rest = _descendants(server)
    if server.returncode is not None and rest:
        _signal(rest, signal.SIGTERM)
        deadline_s = min(deadline_s, time.monotonic() + _REST_WITHIN_S)
        while _descendants(server) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
    killed: set[int] = set()
    deadline_s = time.monotonic() + _KILL_WITHIN_S
    while (rest := _descendants(server)) and time.monotonic() < deadline_s:
        killed |= set(rest)
        _signal(rest, signal.SIGKILL)
        server.poll()
        time.sleep(_POLL_S)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(0.1)
    return len(killed)


def _signal(pids: list[int], number: int, group: bool = False) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if group else os.kill)(pid, number)


def _descendants(server: subprocess.Popen[bytes]) -> list[int]:
    """Processes below us that have not ended. Buries orphans that have."""
    children: dict[int, list[int]] = {}
    ended = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                children.setdefault(int(parent), []).append(int(entry))
                if state in (b"Z", b"X"):
                    ended.add(int(entry))
    found, front = [], children.get(os.getpid(), [])
    for pid in front:
        if pid in ended and pid != server.pid:  # whose exit code is still to be told
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    while front:
        found += front
        front = [child for pid in front for child in children.get(pid, [])]
    return [pid for pid in found if pid not in ended]


def _run(command: list[str], within_s: float) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, timeout=within_s, check=False)


def _clean_up(asked: dict[str, Any]) -> None:
    for command in asked.get("finally", ()):
        _run(command, _FINALLY_WITHIN_S)
    for path in asked.get("remove", ()):
        shutil.rmtree(path, ignore_errors=True)
    if asked.get("lock"):
        descriptor, path = asked["lock"]
        orphaned = os.getppid() != asked["parent"]
        with contextlib.suppress(OSError):
            remove_if_free(path, descriptor, _LAST_WITHIN_S if orphaned and asked.get("remove_last") else 0.0)
        for path in asked.get("remove_last", ()) if orphaned else ():
            shutil.rmtree(path, ignore_errors=True)


def remove_if_free(path: str, descriptor: int, within_s: float = 0.0) -> None:
    """Let go of a lock that `descriptor` holds; its file is removed when nobody else holds it, or has taken it.

    Raises BlockingIOError if somebody still does after `within_s`.
    """
    try:
        again = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(again), os.fstat(descriptor)):
            os.closerange(again, again + 1)
            return
    finally:
        os.closerange(descriptor, descriptor + 1)  # gevent's `os.close` would put it off until its loop runs
    try:
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(_POLL_S)
        if os.path.samestat(os.fstat(again), os.stat(path)):
            os.unlink(path)
    finally:
        os.closerange(again, again + 1)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux has it, and that is where GPUs are
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _tell(values: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody is left to hear it
        os.write(1, json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
