"""MigMode: a server per tenant, each on a MIG slice: compute, memory and bandwidth of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.placement import Placement, tenant_groups
from fairshare_locust.serving.sharing.mig_guard import MigGuard
from fairshare_locust.serving.sharing.mig_slices import (
    check_changeable,
    check_mig,
    clear,
    create,
    match_slices,
    read_layout,
)
from fairshare_locust.serving.sharing.mode import LABELS, Verified, asked, family_of, of_whom
from fairshare_locust.serving.sharing.no_mps import NoMps
from fairshare_locust.serving.sharing.nvidia_smi import MigDevice, find_gpu, mig_devices, used_by

__all__ = ["MigMode"]

_HOW = "the driver's list of processes has each server on its own slice"


class MigMode:
    """Servers on slices. Those there are by default; with `manage_mig` they are made, and what was is restored."""

    def __init__(self, profile: Profile, folder: Path, lock: GpuLock | None) -> None:
        """Raises ServingError when there are no such slices, or they can't be made; all is then as it was."""
        options = profile.deployment.server
        self._profile = profile
        self._gpu = find_gpu(options.gpu)
        check_mig(self._gpu)
        self._guard: MigGuard | None = None
        groups = tenant_groups(profile)
        tenants = [tenant for (tenant,) in groups]
        self._no_mps = NoMps(folder, contained=options.image is not None)
        try:
            self._slices = self._match(tenants, folder, lock)
        except BaseException:
            self._no_mps.close()
            if self._guard is not None:
                self._guard.close()
            raise
        self.placements = tuple(
            Placement(
                part,
                group,
                {"CUDA_VISIBLE_DEVICES": device.uuid, **self._no_mps.environment},
                options.gpu_memory_utilization,
                device.uuid,
            )
            for part, (group, device) in enumerate(zip(groups, self._slices, strict=True))
        )
        self.notes = (*self._no_mps.notes, *self._doubts())
        self._verified = Verified("not verified yet", None, "the run ended before")

    def _match(self, tenants: Sequence[str], folder: Path, lock: GpuLock | None) -> tuple[MigDevice, ...]:
        options = self._profile.deployment.server
        there = mig_devices(self._gpu)
        try:
            return match_slices(self._gpu, there, options.mig, tenants)
        except ServingError:
            if not options.manage_mig:
                raise
        if missing := [tenant for tenant in tenants if tenant not in options.mig]:
            raise ServingError(
                f"deployment.server.mig: manage_mig makes a slice for each tenant, so each needs a profile; missing: "
                f"{', '.join(map(repr, missing))}"
            )
        profiles = [options.mig[tenant] for tenant in tenants]
        check_changeable(self._gpu, profiles)
        self._guard = MigGuard(self._gpu, read_layout(self._gpu), folder, options.stop_within_s, lock)
        clear(self._gpu)
        create(self._gpu, profiles)
        return match_slices(self._gpu, mig_devices(self._gpu), options.mig, tenants)

    @property
    def _by_luck(self) -> set[int]:
        """Parts whose server may land elsewhere: vLLM takes a slice's number for a GPU's."""
        deployment = self._profile.deployment
        if deployment.engine != "vllm" or deployment.server.image is not None:
            return set()
        return {part for part, device in enumerate(self._slices) if device.index > 0 or self._gpu.index > 0}

    def _doubts(self) -> tuple[str, ...]:
        if not self._by_luck:
            return ()
        return (
            "vllm outside a container may take the number of a MIG slice for that of a GPU; with "
            "deployment.server.image each slice has a container of its own",
        )

    def verify(self, pids: Sequence[int]) -> None:
        """See `SharingMode`."""
        self._verified = Verified(_HOW, False, "see the error")
        no_mps = self._no_mps.verify(self.placements, pids, self._gpu)
        seen = {process.pid: process.mig_index for process in used_by(self._gpu)}
        by_environment = 0
        for placement, pid, device in zip(self.placements, pids, self._slices, strict=True):
            family = family_of(pid)
            where = {seen[one] for one in family if one in seen}
            if where - {device.index}:
                there = ", ".join(f"slice {index}" for index in sorted(where, key=str))
                raise ServingError(
                    f"{of_whom(placement)} runs on {there}, not on its slice {device.index} ({device.profile}); give "
                    "deployment.server.image, so that each slice has a container of its own"
                )
            if where:
                continue
            if placement.part in self._by_luck:
                raise ServingError(
                    f"{of_whom(placement)}: the driver does not show on which slice it runs, and vllm may take slice "
                    f"{device.index} for another; give deployment.server.image, so that each slice has a container"
                )
            by_environment += _says(family, device.uuid)
        shown = sum(bool({seen[one] for one in family_of(pid) if one in seen}) for pid in pids)
        detail = f"{shown} of {len(pids)} servers by the driver's list, {by_environment} by their environment alone"
        self._verified = Verified(_HOW, True if shown == len(pids) else None, f"{detail}; {no_mps.detail}")

    def evidence(self) -> dict[str, Any]:
        """See `SharingMode`."""
        return {
            "mode": "mig",
            "label": LABELS["mig"],
            "emulated": False,
            "asked": asked(self._profile, "gpu_memory_utilization", "mig", "manage_mig", "kv_cache_gib"),
            "read_back": {
                "gpu": asdict(self._gpu),
                "slices": [
                    {"part": placement.part, "tenants": list(placement.tenants), **asdict(device)}
                    for placement, device in zip(self.placements, self._slices, strict=True)
                ],
                "made_by_us": self._guard is not None,
            },
            "verified": self._verified.as_json(),
        }

    def close(self) -> None:
        """See `SharingMode`."""
        self._no_mps.close()
        if self._guard is not None:
            self._guard.close()


def _says(family: set[int], uuid: str) -> bool:
    for pid in family:
        try:
            if psutil.Process(pid).environ().get("CUDA_VISIBLE_DEVICES") == uuid:
                return True
        except psutil.Error:
            continue
    return False
