"""Whose process is it? From a pid that the GPU's driver tells, up the process tree to a server that we know.

A server's own pid is seldom the one on the GPU: vLLM's engine, for one, is a child of its API server. The driver tells
pids of the host; a container with a pid namespace of its own sees other numbers for the same processes. Across that
border nothing can be mapped, and a match would be chance: sample where the servers' pids are the host's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["owner"]


def owner(pid: int, roots: Mapping[int, str]) -> str | None:
    """The name in `roots` (pid of a server → name) of the nearest ancestor of `pid`, itself included.

    A process whose parent is gone still belongs to the server that leads its session. None: no server's, or the
    process has ended.
    """
    seen: set[int] = set()
    at: int | None = pid
    while at and at not in seen:
        if at in roots:
            return roots[at]
        seen.add(at)
        at = _parent(at)
    try:
        return roots.get(os.getsid(pid))
    except OSError:
        return None


def _parent(pid: int) -> int | None:
    """The parent's pid; None if the process has ended, or where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # pid (name) state parent …: the name may hold spaces and brackets, so what counts starts after the last one.
    return int(stat.rpartition(b")")[2].split()[1])
