"""NoMps: keeps servers from a stray MPS daemon, which would turn another way of sharing into MPS without a word."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.placement import Placement
from fairshare_locust.serving.sharing.mode import Verified, family_of, of_whom
from fairshare_locust.serving.sharing.mps_control import foreign_daemons
from fairshare_locust.serving.sharing.nvidia_smi import GpuInfo, UsedBy, used_by

__all__ = ["UNSET", "NoMps"]

UNSET: Mapping[str, str] = {
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "",
    "CUDA_MPS_SM_PARTITION": "",
    "CUDA_MPS_CLIENT_PRIORITY": "",
}
"""Variables that would cap a server behind our back."""


class NoMps:
    """A pipe directory in which no daemon is.

    Attributes:
        environment: what servers are told.
        notes: daemons of others that were found.
    """

    def __init__(self, folder: Path, contained: bool) -> None:
        """`contained`: the servers run in containers, which see no daemon of this host anyway."""
        self._directory = folder / "no-mps"
        self.environment: dict[str, str] = dict(UNSET)
        if not contained:
            self._directory.mkdir(parents=True, exist_ok=True)
            self.environment["CUDA_MPS_PIPE_DIRECTORY"] = str(self._directory.absolute())
        self.notes = tuple(f"{daemon.in_words}; the servers are kept from it" for daemon in foreign_daemons())

    def verify(self, placements: Sequence[Placement], pids: Sequence[int], gpu: GpuInfo | None) -> Verified:
        """Check that no server is a client of an MPS daemon. Raises ServingError for the first that is."""
        how = "no MPS daemon lists the servers as clients, and the driver shows none of them as one"
        daemons = foreign_daemons()
        seen: dict[int, UsedBy] = {} if gpu is None else {process.pid: process for process in used_by(gpu)}
        shown = 0
        for placement, pid in zip(placements, pids, strict=True):
            family = family_of(pid)
            for daemon in daemons:
                if any(family & set(server.clients) for server in daemon.servers):
                    raise ServingError(
                        f"{of_whom(placement)} ran under MPS: the daemon at {daemon.pipe_directory} lists it as a "
                        "client; stop that daemon (echo quit | nvidia-cuda-mps-control), or take sharing: mps"
                    )
            here = [seen[one] for one in family if one in seen]
            for process in here:
                if process.type.startswith("M"):
                    raise ServingError(
                        f"{of_whom(placement)} ran under MPS: the driver shows pid {process.pid} with type "
                        f"{process.type}; stop the MPS daemon it has found, or take sharing: mps"
                    )
            shown += bool(here)
        if gpu is None:
            return Verified(how, None, "this host has no NVIDIA driver to ask")
        if shown < len(placements):
            return Verified(how, True, f"the driver shows {shown} of {len(placements)} servers at all")
        return Verified(how, True, f"the driver shows all {shown} servers as plain processes")

    def close(self) -> None:
        """Remove the folder; safe to call twice."""
        with contextlib.suppress(OSError):
            self._directory.rmdir()
