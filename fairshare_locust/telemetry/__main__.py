"""`python -m fairshare_locust.telemetry`: samples GPUs and servers beside a run, and writes what they say.

A run starts it and talks to it in lines of JSON. Its standard input has the task first (`Task`), then
`{"t0_monotonic_s": SECONDS}` when the load begins (on CLOCK_MONOTONIC) and `{"end": true}` after it. It says
`{"ready": [SOURCE…]}` once each source was tried, `{"note": TEXT}` for what the user should know,
`{"latest": {…}}` each second of the load, and at the end `{"done": {…}}`. If its input ends before that the run died:
it writes what it has and stops, as it does on SIGTERM and SIGINT.
"""

from __future__ import annotations

import io
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

import orjson

from fairshare_locust.telemetry.collector import Collector
from fairshare_locust.telemetry.task import Task

__all__ = ["main"]

_EVERY_S = 1.0

_Commands = queue.SimpleQueue[dict[str, Any] | None]


def main() -> int:
    """Collect until told to end; the exit status: 0, or 2 for input that is no task."""
    commands: _Commands = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: commands.put(None))
    told = io.FileIO(0, closefd=False)  # unbuffered: a thread may be waiting in it when the interpreter ends
    try:
        task = Task.from_line(told.readline())
    except (ValueError, TypeError, KeyError, AttributeError):
        print("no task on standard input; this process is started by a run", file=sys.stderr)
        return 2
    threading.Thread(target=_listen, args=(told, commands), name="commands", daemon=True).start()
    voice = _Voice(commands)
    collector = Collector(task, lambda text: voice.say(note=text))
    voice.say(ready=collector.start())
    done = _follow(collector, commands, voice)
    summary = collector.end()
    if done:
        voice.say(done=summary)
    return 0


class _Voice:
    """Standard output, a line at a time, whichever thread speaks."""

    def __init__(self, commands: _Commands) -> None:
        self._commands = commands
        self._lock = threading.Lock()

    def say(self, **message: Any) -> None:
        """Write one line. If nobody listens any more, that is the end."""
        line = orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS, default=list)
        with self._lock:
            try:
                while line:
                    line = line[os.write(1, line) :]
            except OSError:
                self._commands.put(None)


def _listen(told: io.FileIO, commands: _Commands) -> None:
    """Hand on each command; None at the end of the input, or for what is no command."""
    for line in told:
        try:
            command = orjson.loads(line)
        except orjson.JSONDecodeError:
            break
        commands.put(command)
    commands.put(None)


def _follow(collector: Collector, commands: _Commands, voice: _Voice) -> bool:
    """Do what is told, and write each second; True if told to end, False if the run died."""
    begun = False
    due_s = time.monotonic() + _EVERY_S
    while True:
        try:
            command = commands.get(timeout=max(0.0, due_s - time.monotonic()))
        except queue.Empty:
            due_s = time.monotonic() + _EVERY_S
            collector.flush()
            if begun:
                voice.say(latest=collector.latest())
            continue
        if command is None:
            return False
        if "t0_monotonic_s" in command:
            begun = True
            collector.begin(command["t0_monotonic_s"])
        if command.get("end"):
            return True


if __name__ == "__main__":
    sys.exit(main())
