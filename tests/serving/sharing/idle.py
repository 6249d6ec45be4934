"""Idle servers: processes that are where a server would be."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairshare_locust.serving.placement import Placement

__all__ = ["Idle", "IdleServers"]


@dataclass(frozen=True)
class Idle:
    """A launched process, and its child, which would use the GPU."""

    pid: int
    child: int


class IdleServers:
    """Servers that do nothing but be there. As with vLLM, a child of the launched process uses the GPU."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, environment: Mapping[str, str]) -> Idle:
        """Start one, which is a client of the faked MPS daemon that its environment names."""
        process = subprocess.Popen(
            ["sh", "-c", "sleep 1000 & echo $!; wait"],
            env={**os.environ, **{name: value for name, value in environment.items() if value}},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._running.append(process)
        assert process.stdout is not None
        idle = Idle(process.pid, int(process.stdout.readline()))
        pipes = Path(environment.get("CUDA_MPS_PIPE_DIRECTORY", "/nonexistent"))
        if (pipes / "control").exists():
            (pipes / "clients").mkdir(exist_ok=True)
            (pipes / "clients" / str(idle.child)).touch()
        return idle

    def start_all(self, placements: Iterable[Placement]) -> list[Idle]:
        """One for each placement."""
        return [self.start(placement.environment) for placement in placements]

    def end(self) -> None:
        """End them all."""
        while self._running:
            process = self._running.pop()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
