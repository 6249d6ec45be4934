"""Servers: those we start, and those that run already.

What asks servers loads gevent, and is imported when it is first named: placements, ways of sharing and what they leave
in a run can do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairshare_locust.serving.deployment import Deployed, check_external, deploy
    from fairshare_locust.serving.notes import server_notes, unsupported
    from fairshare_locust.serving.server import Server

__all__ = ["Deployed", "Server", "check_external", "deploy", "server_notes", "unsupported"]

_MODULES = {
    "Deployed": "deployment",
    "Server": "server",
    "check_external": "deployment",
    "deploy": "deployment",
    "server_notes": "notes",
    "unsupported": "notes",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
