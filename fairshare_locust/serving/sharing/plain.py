"""PlainMode: servers on the whole GPU without MPS or MIG; the base of `logical` and `timeslice`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Sharing
from fairshare_locust.serving.placement import Placement, memory_shares, tenant_groups
from fairshare_locust.serving.sharing.mode import LABELS, Verified, asked
from fairshare_locust.serving.sharing.no_mps import NoMps
from fairshare_locust.serving.sharing.nvidia_smi import GpuInfo, find_gpu

__all__ = ["PlainMode", "check_compute_mode", "whole_gpu"]


class PlainMode:
    """Servers that see the whole GPU. Where there is no driver they run on the CPU, and it is said so."""

    sharing: ClassVar[Sharing]

    def __init__(self, profile: Profile, folder: Path) -> None:
        """Raises ServingError when the GPU can't be shared in this way."""
        options = profile.deployment.server
        self._profile = profile
        self._gpu = self._find_gpu()
        shares = memory_shares(profile)
        self._no_mps = NoMps(folder, contained=options.image is not None)
        self.notes = self._no_mps.notes
        self.placements = tuple(
            Placement(
                part,
                tenants,
                {
                    "CUDA_VISIBLE_DEVICES": str(options.gpu),
                    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # an index is nvidia-smi's; CUDA would count the fastest first
                    **self._no_mps.environment,
                },
                shares[part],
                str(options.gpu),
            )
            for part, tenants in enumerate(tenant_groups(profile))
        )
        self._verified = Verified("not verified yet", None, "the run ended before")

    def _find_gpu(self) -> GpuInfo | None:
        try:
            gpu = find_gpu(self._profile.deployment.server.gpu)
        except ServingError as error:
            if "deployment.server.gpu" in str(error):
                raise
            return None  # no driver: an engine on the CPU
        whole_gpu(gpu, self.sharing)
        check_compute_mode(gpu, several=self.sharing != "logical")
        return gpu

    def verify(self, pids: Sequence[int]) -> None:
        """See `SharingMode`."""
        self._verified = Verified("refused", False, "see the error")
        self._verified = self._no_mps.verify(self.placements, pids, self._gpu)

    def evidence(self) -> dict[str, Any]:
        """See `SharingMode`."""
        return {
            "mode": self.sharing,
            "label": LABELS[self.sharing],
            "emulated": False,
            "asked": asked(self._profile, "gpu_memory_utilization", "memory_percent", "kv_cache_gib"),
            "read_back": {
                "gpu": None if self._gpu is None else asdict(self._gpu),
                "servers": [
                    {"part": one.part, "tenants": list(one.tenants), "memory_fraction": one.memory_fraction}
                    for one in self.placements
                ],
            },
            "verified": self._verified.as_json(),
        }

    def close(self) -> None:
        """See `SharingMode`."""
        self._no_mps.close()


def whole_gpu(gpu: GpuInfo, sharing: Sharing) -> None:
    """Raises ServingError if MIG is on: CUDA then sees one slice at most, not the GPU."""
    if gpu.mig == "Enabled":
        raise ServingError(
            f"MIG is on at GPU {gpu.index} ({gpu.name}), so CUDA sees its slices only; take sharing: mig, or turn it "
            f"off for {sharing}: sudo nvidia-smi -i {gpu.index} -mig 0"
        )


def check_compute_mode(gpu: GpuInfo, several: bool) -> None:
    """Raises ServingError if the GPU's compute mode keeps the servers out. `several`: of them, without MPS."""
    if gpu.compute_mode == "Prohibited" or (several and gpu.compute_mode.startswith("Exclusive")):
        raise ServingError(
            f"GPU {gpu.index} has compute mode {gpu.compute_mode}, which keeps "
            f"{'a second server' if gpu.compute_mode != 'Prohibited' else 'servers'} out; "
            f"sudo nvidia-smi -i {gpu.index} -c DEFAULT"
        )
