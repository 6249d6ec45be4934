"""Engine: what an inference engine needs to know to serve a part of the GPU, and how it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fairshare_locust.profile.model import Profile
from fairshare_locust.profile.servers import ServerOptions
from fairshare_locust.serving.placement import Placement

__all__ = ["Arguments", "Engine", "Launch", "Site", "server_environment"]

_HOST_ONLY = ("VLLM_PORT", "PROMETHEUS_MULTIPROC_DIR")  # servers on one host must not share them


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where one server is to stand.

    Attributes:
        model: what it loads, and is called.
        ports: free ones of this host; the first is for requests.
        scratch: an empty folder of its own, with a short path, removed after it.
        memory_before: what servers before it may use of the same device's memory, in parts of the whole.
        streams: how many requests may be open at once.
        container: a name for its container that no other has.
    """

    profile: Profile
    placement: Placement
    model: str
    address: str
    ports: Sequence[int]
    scratch: Path
    memory_before: float
    streams: int
    container: str

    @property
    def options(self) -> ServerOptions:
        """What the profile says of servers."""
        return self.profile.deployment.server

    @property
    def url(self) -> str:
        """Where it will answer us."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)
        return f"http://[{host}]:{self.ports[0]}" if ":" in host else f"http://{host}:{self.ports[0]}"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command that starts a server; `environment` goes over ours, an empty value unsets a variable.

    `notes` are what a reader of the run should know of it. `version` is the program's, where a server does not tell.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    container: str | None = None
    notes: tuple[str, ...] = ()
    version: str | None = None


class Engine(Protocol):
    """An inference engine."""

    @property
    def name(self) -> str:
        """As the profile has it."""
        ...

    @property
    def executable(self) -> str:
        """The program, unless the profile names another."""
        ...

    @property
    def ports(self) -> int:
        """How many a server of it needs."""
        ...

    def launch(self, site: Site) -> Launch:
        """How a server there is started. Raises ServingError: no such program, or one that lacks an option."""
        ...

    def version(self, url: str) -> str | None:
        """The version of a server that runs there; None where it does not tell."""
        ...


class Arguments:
    """A command line under way. What the profile's `extra_args` say goes before what we would."""

    def __init__(self, extra: Sequence[str]) -> None:
        self._extra = tuple(extra)
        self._given = {_positive(argument.split("=", 1)[0]) for argument in extra if argument.startswith("-")}
        self._ours: list[str] = []

    def add(self, flag: str | None, value: object = None) -> None:
        """A flag, with its value if it has one; nothing if there is no flag for it, or `extra_args` has it."""
        if flag is not None and _positive(flag) not in self._given:
            self._ours += [flag] if value is None else [flag, str(value)]

    def has(self, flag: str) -> bool:
        """Whether `extra_args` have it."""
        return _positive(flag) in self._given

    @property
    def all(self) -> tuple[str, ...]:
        """Ours, then those of the profile."""
        return (*self._ours, *self._extra)


def _positive(flag: str) -> str:
    return re.sub("^--((no|disable|enable)-)+", "--", flag.replace("_", "-")).removesuffix("-bytes")


def server_environment(site: Site, launch: Launch) -> dict[str, str]:
    """Our environment with what engine, profile and placement say; keys and tokens go along in it, and only there."""
    said = {**launch.environment, **site.options.environment, **site.placement.environment}
    kept = {name: value for name, value in os.environ.items() if name not in _HOST_ONLY}
    return {name: value for name, value in {**kept, **said}.items() if value or name not in said}
