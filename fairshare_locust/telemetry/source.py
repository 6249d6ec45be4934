"""Source: whatever can be sampled, one thread at a time."""

from __future__ import annotations

from typing import Any, Protocol

from fairshare_locust.errors import FairshareError

__all__ = ["Sample", "Source", "UnavailableError"]

Sample = tuple[str, str, float]
"""(device or endpoint, metric, value)."""


class UnavailableError(FairshareError):
    """A source that gives no sample now; the message says why."""


class Source(Protocol):
    """What a sampler samples.

    Attributes:
        problems: what the user should know, a sentence each; it only grows.
    """

    @property
    def problems(self) -> list[str]:
        """See above."""

    def begin(self) -> None:
        """The load begins: no later sample may tell of the time before."""

    def sample(self, whole: bool, last: bool = False) -> list[Sample]:
        """What is there now. Raises UnavailableError.

        `whole`: with what is wanted only once a second; `last`: also with what is due more rarely, for
        there is no later.
        """

    def describe(self) -> dict[str, Any]:
        """What does not change while it is sampled, and what turned out not to be there."""

    def close(self) -> None:
        """Let go of connections and handles."""
