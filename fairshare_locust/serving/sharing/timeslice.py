"""TimesliceMode: a server per tenant; the driver gives the GPU to one after another."""

from __future__ import annotations

from typing import ClassVar

from fairshare_locust.profile.model import Sharing
from fairshare_locust.serving.sharing.plain import PlainMode

__all__ = ["TimesliceMode"]


class TimesliceMode(PlainMode):
    """Servers of their own, which must not find an MPS daemon."""

    sharing: ClassVar[Sharing] = "timeslice"
