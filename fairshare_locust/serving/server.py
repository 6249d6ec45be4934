"""Server: an endpoint that was found to work, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fairshare_locust.client.dialects import ServerFamily
from fairshare_locust.serving.sharing.mode import label_of

__all__ = ["Server"]


@dataclass(frozen=True, slots=True)
class Server:
    """A server as the run meets it. `command` is empty, and `pid` None, for one that we did not start.

    `max_model_len` is the longest prompt and answer together, in tokens, where the server tells it.
    `prompt_overhead_tokens` is what the server adds to a prompt of one message by the tenant's API (chat template,
    start token); None where that can't be known. `part` is the part of the GPU that serves, where it has several.
    `headers` go along with each of the tenant's requests, as (name, value). `version` is the engine's, where we
    started it and it tells.
    """

    endpoint: str
    engine: str
    sharing: str
    family: ServerFamily
    model: str
    command: tuple[str, ...] = ()
    pid: int | None = None
    max_model_len: int | None = None
    prompt_overhead_tokens: int | None = None
    part: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    version: str | None = None

    @property
    def simulated(self) -> bool:
        """Whether a model of a GPU answers, not a GPU."""
        return self.family.name == "simulator"

    def describe(self) -> dict[str, Any]:
        """As `run.json` has it."""
        return {
            "endpoint": self.endpoint,
            "engine": self.engine,
            "version": self.version,
            "sharing": self.sharing,
            "sharing_label": label_of(self.sharing),
            "part": self.part,
            "simulated": self.simulated,
            "command": list(self.command),
            "pid": self.pid,
            "family": self.family.name,
            "fixed_length": self.family.ignore_eos or self.family.generation_config,
            "model": self.model,
            "max_model_len": self.max_model_len,
            "prompt_overhead_tokens": self.prompt_overhead_tokens,
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON or msgpack."""
        values = asdict(self)
        return {**values, "family": {**values["family"], "takes": sorted(self.family.takes)}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Server:
        """What `to_dict` made."""
        family = ServerFamily(**{**values["family"], "takes": frozenset(values["family"]["takes"])})
        headers = tuple((name, value) for name, value in values["headers"])
        return cls(**{**values, "family": family, "command": tuple(values["command"]), "headers": headers})
