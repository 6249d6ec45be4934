"""Task: what a collector is asked to sample, and where to write it. It holds no secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

__all__ = ["Identity", "PolledEndpoint", "Task"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """As whom a page is asked for: the headers, and the environment variable with the bearer token."""

    headers: dict[str, str] = field(default_factory=dict)
    token_env: str | None = None


@dataclass(frozen=True, kw_only=True)
class PolledEndpoint:
    """A server whose metrics are polled.

    Attributes:
        endpoint: as records have it.
        metrics_url: its page of metrics.
        tenants: who sends to it.
        identities: as whom it is polled: as the first, and where it refuses that as the next.
    """

    endpoint: str
    metrics_url: str
    tenants: tuple[str, ...]
    identities: tuple[Identity, ...] = (Identity(),)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Sources and how often they are sampled.

    `endpoints` are those to poll, `servers` endpoints by process id. `notes` are what the user should know of it.
    """

    directory: str
    nvml: bool = False
    nvml_interval_s: float = 0.5
    servers: dict[int, str] = field(default_factory=dict)
    endpoints: tuple[PolledEndpoint, ...] = ()
    server_metrics_interval_s: float = 0.1
    dcgm_url: str | None = None
    agent_url: str | None = None
    agent_token_env: str | None = None
    scrape_interval_s: float = 1.0
    notes: tuple[str, ...] = ()

    def to_line(self) -> bytes:
        """One line of JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)

    @classmethod
    def from_line(cls, line: bytes) -> Task:
        """The task that `to_line` wrote. Raises ValueError or TypeError for anything else."""
        content = orjson.loads(line)
        content["endpoints"] = tuple(map(_endpoint, content["endpoints"]))
        content["notes"] = tuple(content["notes"])
        content["servers"] = {int(pid): endpoint for pid, endpoint in content["servers"].items()}
        return cls(**content)


def _endpoint(content: dict[str, Any]) -> PolledEndpoint:
    identities = tuple(Identity(**identity) for identity in content["identities"])
    return PolledEndpoint(**{**content, "tenants": tuple(content["tenants"]), "identities": identities})
