"""Traces a profile can name: recorded requests with their times and lengths, and who of the tenants sends which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairshare_locust.profile.schema import allow

__all__ = ["Assign", "AssignByHash", "AssignByModel", "AssignBySession", "AssignByShare", "Trace"]


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """Tenant → share of the rows (of the sessions, of the prefixes), in proportion."""

    shares: dict[str, float]

    def check(self) -> Iterator[tuple[str, str]]:
        """Positive shares."""
        if not self.shares:
            yield "shares", "found an empty mapping; give each tenant a share"
        for tenant_id, share in self.shares.items():
            if not share > 0:
                yield f"shares.{tenant_id}", f"found {share:g}; must be a number greater than 0"


@dataclass(frozen=True, kw_only=True)
class AssignByShare(_Shares):
    """Each row is drawn to a tenant by the seed."""

    by: Literal["share"] = "share"


@dataclass(frozen=True, kw_only=True)
class AssignBySession(_Shares):
    """All rows of a session go to one tenant."""

    by: Literal["session"] = "session"


@dataclass(frozen=True, kw_only=True)
class AssignByHash(_Shares):
    """All rows with the same first prefix block go to one tenant."""

    by: Literal["hash"] = "hash"


@dataclass(frozen=True, kw_only=True)
class AssignByModel:
    """The model a row asked for → the tenant that sends it; rows of other models are left out."""

    by: Literal["model"] = "model"
    models: dict[str, str]

    def check(self) -> Iterator[tuple[str, str]]:
        """At least one model."""
        if not self.models:
            yield "models", "found an empty mapping; give each model of the trace a tenant"

    @property
    def shares(self) -> dict[str, float]:
        """The tenants that get rows; how many is the trace's affair."""
        return dict.fromkeys(self.models.values(), 1.0)


Assign = AssignByShare | AssignBySession | AssignByHash | AssignByModel


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A recorded trace, cut to `[from_s, to_s)` in seconds since its first row.

    Without `assign`, each tenant that names it sends all of it. `others` are names in `assign` that are no tenants:
    what falls to them is sent by nobody.

    Formats: `azure` (Azure LLM inference 2023 and 2024, CSV), `burstgpt` (CSV), `mooncake` (JSONL). Rows whose answer
    had no token, failures, are left out.
    """

    name: str = allow(pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", pattern_means="letters, digits, ., - or _")
    path: Path
    format: Literal["azure", "burstgpt", "mooncake"]
    from_s: float = allow(0.0, at_least=0)
    to_s: float | None = allow(None, above=0)
    assign: Assign | None = None
    others: tuple[str, ...] = ()

    def check(self) -> Iterator[tuple[str, str]]:
        """A cut that leaves something, and a mapping that the format's columns allow."""
        if self.to_s is not None and self.to_s <= self.from_s:
            yield "to_s", f"found {self.to_s:g}; must be greater than from_s ({self.from_s:g})"
        knows = {"azure": ("share",), "burstgpt": ("share", "session", "model"), "mooncake": ("share", "hash")}
        if self.assign is not None and self.assign.by not in knows[self.format]:
            yield (
                "assign.by",
                f"found {self.assign.by!r}; a trace of format {self.format} can be assigned by "
                f"{' or '.join(knows[self.format])}",
            )
