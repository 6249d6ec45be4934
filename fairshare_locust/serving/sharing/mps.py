"""MpsMode: a server per tenant, all clients of an MPS daemon of ours: their kernels run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.placement import Placement, memory_shares, tenant_groups
from fairshare_locust.serving.sharing.mode import LABELS, Verified, asked, family_of, of_whom
from fairshare_locust.serving.sharing.mps_control import foreign_daemons
from fairshare_locust.serving.sharing.mps_daemon import MpsDaemon
from fairshare_locust.serving.sharing.no_mps import UNSET
from fairshare_locust.serving.sharing.nvidia_smi import GpuInfo, find_gpu
from fairshare_locust.serving.sharing.plain import check_compute_mode, whole_gpu

__all__ = ["MpsMode"]

_THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
_MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
_HOW = "the daemon's list of clients has a process of every server"


class MpsMode:
    """Clients of a daemon of our own. A client that can't reach it runs without MPS and says nothing: so all are
    looked up in its list."""

    def __init__(self, profile: Profile, folder: Path, lock: GpuLock | None) -> None:
        """Start the daemon. Raises ServingError when there is no GPU, no MPS, or the GPU is in another mode."""
        self._profile = profile
        options = profile.deployment.server
        self._gpu = find_gpu(options.gpu)
        whole_gpu(self._gpu, profile.deployment.sharing)
        check_compute_mode(self._gpu, several=False)
        shares = memory_shares(profile)
        groups = tenant_groups(profile)
        limits = [self._limits(tenants[0], self._gpu) for tenants in groups]
        self._foreign = foreign_daemons()
        self.notes = (
            *(f"{daemon.in_words}; it is not used" for daemon in self._foreign),
            *(
                f"tenant {tenant!r}: whether CUDA shows MPS's memory limit as all there is differs by driver, and an "
                "engine that takes a part of what it sees then takes less; give deployment.server.kv_cache_gib too"
                for tenant in options.memory_percent
                if profile.deployment.engine == "vllm" and tenant not in options.kv_cache_gib
            ),
        )
        self._read_back: dict[str, Any] = {}
        self._verified = Verified("not verified yet", None, "the run ended before")
        self._daemon = MpsDaemon(self._gpu.uuid, folder, options.stop_within_s, lock)
        pipes = str(self._daemon.pipe_directory)
        self.placements = tuple(
            Placement(
                part,
                tenants,
                {
                    "CUDA_VISIBLE_DEVICES": self._gpu.uuid,
                    "CUDA_MPS_PIPE_DIRECTORY": pipes,
                    **UNSET,
                    **limits[part],
                },
                shares[part],
                self._gpu.uuid,
            )
            for part, tenants in enumerate(groups)
        )

    def _limits(self, tenant: str, gpu: GpuInfo) -> dict[str, str]:
        options = self._profile.deployment.server
        limits = {}
        if tenant in options.sm_percent:
            limits[_THREADS] = f"{options.sm_percent[tenant]:g}"
        if tenant in options.memory_percent:
            if gpu.memory_mib is None:
                raise ServingError(
                    f"deployment.server.memory_percent.{tenant}: the driver does not tell the memory of GPU "
                    f"{gpu.index}, of which it is to be a part; leave it out"
                )
            # The daemon has this GPU alone, so that it is number 0 to all clients.
            limits[_MEMORY] = f"0={int(gpu.memory_mib * options.memory_percent[tenant] / 100)}M"
        return limits

    def verify(self, pids: Sequence[int]) -> None:
        """See `SharingMode`."""
        self._verified = Verified(_HOW, False, "see the error")
        servers = self._daemon.servers()
        self._read_back = {
            "servers": [asdict(server) for server in servers],
            "default_active_thread_percentage": self._daemon.default_thread_percentage(),
        }
        clients = {client for server in servers for client in server.clients}
        found = []
        for placement, pid in zip(self.placements, pids, strict=True):
            of_ours = sorted(family_of(pid) & clients)
            if not of_ours:
                raise ServingError(
                    f"{of_whom(placement)} ran without MPS: none of its processes is a client of our daemon, whose "
                    f"clients are {', '.join(map(str, sorted(clients))) or 'none'}; CUDA then takes turns instead, "
                    "and says nothing. See mps/control.log and mps/server.log; in a container it needs the host's "
                    "IPC and the same user"
                )
            found.append({"part": placement.part, "tenants": list(placement.tenants), **_limits_of(of_ours)})
        self._read_back["clients"] = found
        for server in servers:
            if server.clients and server.status != "ACTIVE":
                raise ServingError(
                    f"the MPS server {server.pid} is in state {server.status or 'unknown'}, not ACTIVE: a fault of "
                    "one client is one of all; see mps/server.log"
                )
        self._verified = Verified(_HOW, True, f"{len(found)} of {len(found)} servers, MPS server ACTIVE")

    def evidence(self) -> dict[str, Any]:
        """See `SharingMode`."""
        keys = ("gpu_memory_utilization", "sm_percent", "memory_percent", "kv_cache_gib")
        return {
            "mode": "mps",
            "label": LABELS["mps"],
            "emulated": False,
            "asked": asked(self._profile, *keys),
            "read_back": {
                "gpu": asdict(self._gpu),
                **self._read_back,
                "foreign_daemons": [daemon.in_words for daemon in self._foreign],
            },
            "verified": self._verified.as_json(),
        }

    def close(self) -> None:
        """See `SharingMode`."""
        self._daemon.stop()


def _limits_of(pids: Sequence[int]) -> dict[str, Any]:
    """The clients and the limits they were started with, as their own environment says."""
    told: dict[str, set[str | None]] = {_THREADS: set(), _MEMORY: set()}
    for pid in pids:
        try:
            environment = psutil.Process(pid).environ()
        except psutil.Error:  # of another user, in a container
            continue
        for name, values in told.items():
            values.add(environment.get(name))
    limits = {name: next(iter(values)) if len(values) == 1 else None for name, values in told.items()}
    return {"pids": list(pids), "active_thread_percentage": limits[_THREADS], "memory_limit": limits[_MEMORY]}
