"""EmulatedMode: caps that look like MIG slices from afar: memory, and the SMs where MPS is there. Nothing is isolated.

Bandwidth, L2 cache and power stay shared, so tenants interfere as they do under MPS or in turns.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairshare_locust.profile.model import Profile
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.placement import Placement
from fairshare_locust.serving.sharing.mode import LABELS, asked
from fairshare_locust.serving.sharing.mps import MpsMode
from fairshare_locust.serving.sharing.mps_control import CONTROL
from fairshare_locust.serving.sharing.timeslice import TimesliceMode

__all__ = ["EmulatedMode"]


class EmulatedMode:
    """Servers of their own with a cap on memory; with `sm_percent`, and MPS, one on the SMs too."""

    def __init__(self, profile: Profile, folder: Path, lock: GpuLock | None) -> None:
        """Raises ServingError as the way of sharing beneath does."""
        self._profile = profile
        capped = bool(profile.deployment.server.sm_percent)
        self._by_mps = capped and shutil.which(CONTROL) is not None
        self._beneath: MpsMode | TimesliceMode
        self._beneath = MpsMode(profile, folder, lock) if self._by_mps else TimesliceMode(profile, folder)
        lacking = (
            (f"mig_emulated: sm_percent is not kept to: {CONTROL} is not found on PATH; memory alone is capped",)
            if capped and not self._by_mps
            else ()
        )
        label = f"mig_emulated is {LABELS['mig_emulated']}: bandwidth, L2 cache and power are shared by all tenants"
        self.notes = (label, *lacking, *self._beneath.notes)

    @property
    def placements(self) -> tuple[Placement, ...]:
        """See `SharingMode`."""
        return self._beneath.placements

    def verify(self, pids: Sequence[int]) -> None:
        """See `SharingMode`."""
        self._beneath.verify(pids)

    def evidence(self) -> dict[str, Any]:
        """See `SharingMode`."""
        return {
            **self._beneath.evidence(),
            "mode": "mig_emulated",
            "label": LABELS["mig_emulated"],
            "emulated": True,
            "by": "mps" if self._by_mps else "timeslice",
            "asked": asked(self._profile, "gpu_memory_utilization", "sm_percent", "memory_percent", "kv_cache_gib"),
        }

    def close(self) -> None:
        """See `SharingMode`."""
        self._beneath.close()
