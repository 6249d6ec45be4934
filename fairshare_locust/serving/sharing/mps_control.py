"""mps_control: what MPS daemons say, asked through `nvidia-cuda-mps-control`; ours, and those of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fairshare_locust.errors import ServingError

__all__ = ["CONTROL", "ForeignDaemon", "MpsServer", "ask", "control_program", "foreign_daemons", "servers"]

CONTROL = "nvidia-cuda-mps-control"
_WITHIN_S = 20.0
_HINT = "it comes with NVIDIA's driver (on Debian and Ubuntu in the package nvidia-compute-utils-VERSION)"
_USUAL = Path("/tmp/nvidia-mps")  # where CUDA looks unless told otherwise


@dataclass(frozen=True, slots=True)
class MpsServer:
    """A server of MPS and its clients. `status` is INITIALIZING, ACTIVE or FAULT."""

    pid: int
    status: str
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ForeignDaemon:
    """A daemon that somebody else left or runs, where CUDA would find it. `runs`: it answers; None: nobody can ask."""

    pipe_directory: Path
    runs: bool | None
    servers: tuple[MpsServer, ...]

    @property
    def in_words(self) -> str:
        """What it is and where."""
        state = {
            True: "an MPS daemon runs",
            False: "a stale MPS daemon has left its files",
            None: "an MPS daemon may run",
        }[self.runs]
        return f"{state} at {self.pipe_directory}, where CUDA looks by default"


def control_program() -> str:
    """The path of the control program. Raises ServingError without it."""
    found = shutil.which(CONTROL)
    if found is None:
        raise ServingError(f"{CONTROL} is not found on PATH, and MPS needs it; {_HINT}")
    return found


def ask(pipe_directory: Path, command: str) -> list[str]:
    """The lines with which the daemon there answers. Raises ServingError when none does."""
    try:
        result = subprocess.run(
            [control_program()],
            input=f"{command}\n".encode(),
            capture_output=True,
            timeout=_WITHIN_S,
            check=False,
            env={**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(pipe_directory)},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServingError(f"the MPS daemon at {pipe_directory} does not answer {command!r}: {error}") from error
    text = result.stdout.decode(errors="replace")
    if result.returncode or "Cannot find MPS control daemon" in text:
        said = " ".join((text + result.stderr.decode(errors="replace")).split())
        raise ServingError(f"the MPS daemon at {pipe_directory} does not answer {command!r}: {said or 'it is gone'}")
    return [line.strip() for line in text.splitlines() if line.strip()]


def servers(pipe_directory: Path) -> tuple[MpsServer, ...]:
    """The servers of a daemon: none before its first client. Raises ServingError when it does not answer."""
    found = []
    for pid in _numbers(ask(pipe_directory, "get_server_list")):
        status = " ".join(ask(pipe_directory, f"get_server_status {pid}"))
        clients = tuple(_numbers(ask(pipe_directory, f"get_client_list {pid}")))
        found.append(MpsServer(pid, status, clients))
    return tuple(found)


def foreign_daemons(ours: Path | None = None) -> tuple[ForeignDaemon, ...]:
    """The daemons that CUDA would find if it were not told where to look."""
    named = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "")
    places = [Path(named)] if named else [_USUAL, Path(tempfile.gettempdir()) / "nvidia-mps"]
    found = []
    for place in dict.fromkeys(places):
        if place == ours or not os.path.lexists(place / "control"):
            continue
        if shutil.which(CONTROL) is None:
            found.append(ForeignDaemon(place, None, ()))
            continue
        try:
            found.append(ForeignDaemon(place, True, servers(place)))
        except ServingError:
            found.append(ForeignDaemon(place, False, ()))
    return tuple(found)


def _numbers(lines: Iterable[str]) -> list[int]:
    return [int(word) for line in lines for word in line.split() if word.isdigit()]
