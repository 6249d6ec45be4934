"""LogicalMode: one server for all tenants, which share its queue, its batch and its KV cache."""

from __future__ import annotations

from typing import ClassVar

from fairshare_locust.profile.model import Sharing
from fairshare_locust.serving.sharing.plain import PlainMode

__all__ = ["LogicalMode"]


class LogicalMode(PlainMode):
    """One server on the whole GPU."""

    sharing: ClassVar[Sharing] = "logical"
