"""Ways of sharing a GPU: each sets it up, says where the servers go, and proves that they were there."""

from __future__ import annotations

from pathlib import Path

from fairshare_locust.profile.model import Profile
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.sharing.logical import LogicalMode
from fairshare_locust.serving.sharing.mig import MigMode
from fairshare_locust.serving.sharing.mig_emulated import EmulatedMode
from fairshare_locust.serving.sharing.mode import LABELS, SharingMode, label_of
from fairshare_locust.serving.sharing.mps import MpsMode
from fairshare_locust.serving.sharing.timeslice import TimesliceMode
from fairshare_locust.serving.sharing.told import ToldMode

__all__ = ["LABELS", "SharingMode", "label_of", "open_mode"]


def open_mode(profile: Profile, folder: Path, lock: GpuLock | None = None) -> SharingMode:
    """Set up the profile's way of sharing; daemons write their logs into `folder`.

    Whatever must outlive us to undo it holds `lock` along with us. Raises ServingError, and leaves nothing behind then.
    """
    deployment = profile.deployment
    if not deployment.real:
        return ToldMode(profile)
    if deployment.sharing == "logical":
        return LogicalMode(profile, folder)
    if deployment.sharing == "timeslice":
        return TimesliceMode(profile, folder)
    if deployment.sharing == "mps":
        return MpsMode(profile, folder, lock)
    if deployment.sharing == "mig":
        return MigMode(profile, folder, lock)
    return EmulatedMode(profile, folder, lock)
