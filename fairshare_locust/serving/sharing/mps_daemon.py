"""MpsDaemon: an MPS daemon of our own, in folders of its own, that ends with us in whatever way we end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.process import ServerProcess
from fairshare_locust.serving.sharing import mps_quit
from fairshare_locust.serving.sharing.mps_control import MpsServer, ask, control_program, servers

__all__ = ["MpsDaemon"]

_PATH_AT_MOST = 104  # of a Unix socket, a little under the limit of 107: the daemon says nothing of a longer one
_LONGEST_NAME = "/control_privileged"
_READY_WITHIN_S = 30.0
_POLL_S = 0.05
_BEYOND_S = 15.0


class MpsDaemon:
    """A daemon for one GPU.

    Attributes:
        pipe_directory: where its clients reach it.
        pid: of the daemon.
    """

    def __init__(self, gpu_uuid: str, folder: Path, stop_within_s: float, lock: GpuLock | None) -> None:
        """Start it; its logs go into `folder`. `stop_within_s`: how long clients may take to end.

        By UUID, since clients count GPUs anew among those that the daemon has. Raises ServingError when it does not
        come up.
        """
        control = control_program()
        self.pipe_directory = _short_folder()
        try:
            logs = folder / "mps"
            logs.mkdir(parents=True, exist_ok=True)
            own = {
                "CUDA_MPS_PIPE_DIRECTORY": str(self.pipe_directory),
                "CUDA_MPS_LOG_DIRECTORY": str(logs.absolute()),
                "CUDA_VISIBLE_DEVICES": gpu_uuid,
            }
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
            within_s = stop_within_s + _BEYOND_S
            self._process = ServerProcess(
                [control, "-f"],
                {**inherited, **own},
                folder / "mps-control.log",
                name="the MPS daemon",
                stop_within_s=within_s,
                first=[sys.executable, "-I", "-S", mps_quit.__file__, control, f"{within_s:g}"],
                remove=[self.pipe_directory],
                lock=None if lock is None else (lock.descriptor, lock.path),
            )
        except BaseException:
            shutil.rmtree(self.pipe_directory, ignore_errors=True)
            raise
        self.pid = self._process.pid
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self) -> None:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not self._process.ended:
            if (self.pipe_directory / "control").exists():
                try:
                    ask(self.pipe_directory, "get_server_list")
                    return
                except ServingError:
                    pass  # the socket is there before anybody listens
            if time.monotonic() > deadline_s:
                raise ServingError(
                    f"the MPS daemon did not answer within {_READY_WITHIN_S:g} s; see mps/control.log beside the "
                    "servers' logs"
                )
            time.sleep(_POLL_S)
        raise self._process.death()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.ended

    def servers(self) -> tuple[MpsServer, ...]:
        """Its servers and their clients. Raises ServingError when it does not answer."""
        if self.ended:
            raise self._process.death("before the servers could be verified")
        return servers(self.pipe_directory)

    def default_thread_percentage(self) -> str:
        """What clients may use of the SMs at most, as the daemon says it."""
        return " ".join(ask(self.pipe_directory, "get_default_active_thread_percentage"))

    def stop(self) -> None:
        """Ask it to quit, and see that it, its servers and its folder are gone; safe to call twice."""
        self._process.stop()


def _short_folder() -> Path:
    """An empty folder of our own whose path leaves room for a socket's name."""
    for place in dict.fromkeys((tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR") or "/tmp", "/tmp")):
        if len(os.fsencode(place)) + len("/fs-mps-12345678") + len(_LONGEST_NAME) <= _PATH_AT_MOST:
            return Path(tempfile.mkdtemp(prefix="fs-mps-", dir=place))
    raise ServingError(
        f"no folder for temporary files has a path short enough for MPS's sockets ({_PATH_AT_MOST} bytes); point "
        "TMPDIR to one that has"
    )
