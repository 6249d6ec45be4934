"""The GPU that servers are started on: which one it is, and when it is free of them again."""

from __future__ import annotations

import sys
import time
from collections.abc import Set

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.sharing.nvidia_smi import find_gpu, used_by

__all__ = ["device_key", "wait_until_released"]

_RELEASED_WITHIN_S = 20.0
_POLL_S = 0.25


def device_key(gpu: int | str) -> str:
    """Its UUID, if the driver tells it, so that an index and a UUID are the same GPU; else what is given."""
    try:
        return find_gpu(gpu).uuid
    except ServingError:
        return str(gpu)  # an engine on the CPU, or a GPU that whoever needs it will miss


def wait_until_released(gpu: int | str, pids: Set[int]) -> bool:
    """Wait until the driver shows none of these processes on the GPU, and tell if it does for too long.

    True where there is no driver to ask, as well.
    """
    deadline_s = time.monotonic() + _RELEASED_WITHIN_S
    while holding := _users(gpu) & pids:
        if time.monotonic() > deadline_s:
            print(
                f"fairshare: GPU {gpu}: the driver still shows pid {', '.join(map(str, sorted(holding)))}, which have "
                "ended; see nvidia-smi before the next run",
                file=sys.stderr,
                flush=True,
            )
            return False
        time.sleep(_POLL_S)
    return True


def _users(gpu: int | str) -> set[int]:
    try:
        return {process.pid for process in used_by(find_gpu(gpu))}
    except ServingError:
        return set()
