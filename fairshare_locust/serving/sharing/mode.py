"""SharingMode: where servers go on a GPU, and how it was verified that they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Sharing
from fairshare_locust.serving.placement import Placement

__all__ = ["LABELS", "SharingMode", "Verified", "asked", "family_of", "label_of", "of_whom"]

LABELS: Mapping[Sharing, str] = {
    "logical": "one server for all tenants",
    "timeslice": "a server per tenant, in turn",
    "mps": "a server per tenant, side by side by MPS",
    "mig": "a server per tenant, each on a MIG slice",
    "mig_emulated": "emulated, not isolated",
}
"""What each way of sharing is, in a few words."""


def label_of(sharing: str) -> str | None:
    """What must stand beside the name of a way of sharing wherever it is shown; None: the name says it all."""
    return LABELS["mig_emulated"] if sharing == "mig_emulated" else None


@dataclass(frozen=True, slots=True)
class Verified:
    """How it was verified, and what came of it; `ok` is None where it was not."""

    how: str
    ok: bool | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """As `sharing.json` has it."""
        return {"how": self.how, "ok": self.ok, "detail": self.detail}


class SharingMode(Protocol):
    """A way of sharing, set up: daemons run and slices exist from its making to `close`."""

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The servers to be started, by their part."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the run should know of it."""
        ...

    def verify(self, pids: Sequence[int]) -> None:
        """Check that the servers are where they should be.

        `pids` are those of the launched processes, by part, when all are ready and each has answered with a token.
        Raises ServingError when one is not: the run would measure another way of sharing.
        """
        ...

    def evidence(self) -> dict[str, Any]:
        """What was asked, what was read back and how it was verified: the content of `sharing.json`."""
        ...

    def close(self) -> None:
        """Stop daemons, restore slices, remove folders; safe to call twice."""
        ...


def asked(profile: Profile, *keys: str) -> dict[str, Any]:
    """What the profile says of the GPU and its sharing."""
    server = profile.deployment.server
    return {"engine": profile.deployment.engine, "gpu": server.gpu, **{key: getattr(server, key) for key in keys}}


def family_of(pid: int) -> set[int]:
    """A process and all below it: the one that uses the GPU is mostly a child of the launched one.

    Raises ServingError if it has ended.
    """
    try:
        process = psutil.Process(pid)
        return {pid, *(child.pid for child in process.children(recursive=True))}
    except psutil.NoSuchProcess:
        raise ServingError(f"the server with pid {pid} has ended before it could be verified; see its log") from None


def of_whom(placement: Placement) -> str:
    """Whose server it is, as errors name it."""
    names = ", ".join(map(repr, placement.tenants))
    return f"the server of tenant{'s' * (len(placement.tenants) > 1)} {names}"
