"""ToldMode: sharing that we do not set up: it is modelled, or the servers run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairshare_locust.profile.model import Profile
from fairshare_locust.serving.placement import Placement
from fairshare_locust.serving.sharing.mode import LABELS, Verified
from fairshare_locust.simulator.partition import parts_of

__all__ = ["ToldMode"]


class ToldMode:
    """The sharing of engine simulator, as it is modelled, or of engine external, as we are told."""

    placements: tuple[Placement, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, profile: Profile) -> None:
        """Raises ServingError for parts that the modelled GPU can't have."""
        self._profile = profile
        self._modelled = profile.deployment.engine == "simulator"
        self._parts = parts_of(profile) if self._modelled else ()

    def verify(self, pids: Sequence[int]) -> None:
        """There is nothing to check."""

    def evidence(self) -> dict[str, Any]:
        """See `SharingMode`."""
        deployment = self._profile.deployment
        options = deployment.simulator
        asked: dict[str, Any] = {"engine": deployment.engine}
        if self._modelled:
            shares = {"sm_percent": options.sm_percent, "memory_percent": options.memory_percent, "mig": options.mig}
            asked |= {"gpu": options.gpu, **shares}
            verified = Verified("modelled", True, "the simulator shares its modelled GPU in this way; no GPU was used")
        else:
            detail = "what the profile says; nothing was set up or checked by us"
            verified = Verified("not verified: started elsewhere", None, detail)
        return {
            "mode": deployment.sharing,
            "label": LABELS[deployment.sharing],
            "emulated": deployment.sharing == "mig_emulated",
            "asked": asked,
            "read_back": {
                "parts": [
                    {
                        "part": part.index,
                        "tenants": list(part.tenants),
                        "sm_share": part.sm_share,
                        "memory_mib": part.memory_mib,
                        "kv_capacity_tokens": part.kv_capacity_tokens,
                        "mig": part.mig,
                    }
                    for part in self._parts
                ]
            },
            "verified": verified.as_json(),
        }

    def close(self) -> None:
        """There is nothing to undo."""
