"""mig_guard: restores a GPU's slices at the end of a run, even of one that was killed.

`python -m fairshare_locust.serving.sharing.mig_guard JSON` with `{"gpu": UUID, "layout": […], "within_s": S}` says
`ready`, waits for SIGTERM and restores. It runs under a keeper, which sends that when the run ends in whatever way.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.process import ServerProcess
from fairshare_locust.serving.sharing.mig_slices import Layout, restore
from fairshare_locust.serving.sharing.nvidia_smi import GpuInfo, find_gpu

__all__ = ["MigGuard", "main"]

_READY = "ready"
_READY_WITHIN_S = 60.0
_BEYOND_S = 60.0
_POLL_S = 0.02


class MigGuard:
    """Knows what slices a GPU had, and restores them when it is closed, or when we are killed."""

    def __init__(self, gpu: GpuInfo, layout: Layout, folder: Path, stop_within_s: float, lock: GpuLock | None) -> None:
        """`stop_within_s`: how long the servers on the slices may take to end. Raises ServingError."""
        self._gpu = gpu
        self._log = folder / "mig-guard.log"
        asked = {"gpu": gpu.uuid, "layout": layout.as_json(), "within_s": stop_within_s + _BEYOND_S / 2}
        self._process = ServerProcess(
            [sys.executable, "-m", "fairshare_locust.serving.sharing.mig_guard", json.dumps(asked)],
            _environment(),
            self._log,
            name="the guard of the MIG slices",
            stop_within_s=stop_within_s + _BEYOND_S,
            lock=None if lock is None else (lock.descriptor, lock.path),
        )
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while _READY not in self._log.read_text(errors="replace"):
            if self._process.ended:
                raise self._process.death()
            if time.monotonic() > deadline_s:
                self._process.stop()
                raise ServingError(f"the guard of the MIG slices did not start within {_READY_WITHIN_S:g} s")
            time.sleep(_POLL_S)
        self._closed = False

    def close(self) -> None:
        """Restore the slices, and tell if they can't be; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._process.stop()
        if self._process.exit_code != 0:
            lines = self._log.read_text(errors="replace").strip().splitlines()
            said = lines[-1] if lines and lines[-1] != _READY else "its guard was killed"
            print(
                f"fairshare: GPU {self._gpu.index}: its MIG slices were not restored: {said}",
                file=sys.stderr,
                flush=True,
            )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def main(text: str) -> int:
    """Wait, and restore: 0 when all is as it was."""
    asked = json.loads(text)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print(_READY, flush=True)
    signal.sigwait({signal.SIGTERM})
    try:
        restore(find_gpu(asked["gpu"]), Layout.from_json(asked["layout"]), asked["within_s"])
    except ServingError as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
