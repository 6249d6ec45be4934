"""mps_quit: ends an MPS daemon when its clients are gone. It needs the standard library alone.

`python -I mps_quit.py CONTROL WITHIN_S`, with CUDA_MPS_PIPE_DIRECTORY set. A client that is killed in its work, or
whose daemon goes away under it, is in no defined state: so it waits for them, but not for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

__all__ = ["main"]

_POLL_S = 0.1
_ANSWER_WITHIN_S = 10.0
_GONE_WITHIN_S = 10.0


def main(control: str, within_s: float) -> int:
    """0 when the daemon is gone, 1 when it still is there."""
    deadline_s = time.monotonic() + within_s
    while _clients(control) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    _ask(control, "quit")
    deadline_s = time.monotonic() + _GONE_WITHIN_S
    while _ask(control, "get_server_list") is not None:
        if time.monotonic() > deadline_s:
            return 1
        time.sleep(_POLL_S)
    return 0


def _clients(control: str) -> list[str]:
    servers = _ask(control, "get_server_list") or []
    return [client for server in servers for client in _ask(control, f"get_client_list {server}") or []]


def _ask(control: str, command: str) -> list[str] | None:
    """Numbers in the answer; None when nobody answers."""
    socket = os.path.join(os.environ["CUDA_MPS_PIPE_DIRECTORY"], "control")
    if not os.path.lexists(socket):
        return None
    try:
        result = subprocess.run(
            [control], input=command.encode() + b"\n", capture_output=True, timeout=_ANSWER_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if result.returncode else [word for word in result.stdout.decode().split() if word.isdigit()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
