"""Measure what each LLM tenant gets when several share one GPU. A Locust plugin suite."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "register"]

__version__ = "0.1.0"


def register(namespace: dict[str, Any], plan: str = "mixed") -> None:
    """Make a locustfile a run of the profile; see `fairshare_locust.plugin.register`.

    Locust and gevent are imported here, not before: profile, records and analysis work without them.
    """
    from fairshare_locust.plugin import register as register_plugin

    register_plugin(namespace, plan)
