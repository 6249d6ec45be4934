"""What a client is to the bench: how it is started, and what it says it measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Client", "Load", "Measured"]


@dataclass(frozen=True)
class Load:
    """What a client is asked to do: `streams` closed loops for so long, answers of so many tokens (low, high)."""

    endpoint: str
    streams: int
    warmup_s: float
    seconds: float
    tokens: tuple[int, int]
    ttft_ms: float
    tokens_per_s: float

    @property
    def requests(self) -> int:
        """About as many as the streams send in that time, for a client that wants a number."""
        one_s = self.ttft_ms / 1000 + sum(self.tokens) / 2 / self.tokens_per_s
        return round(self.streams * (self.warmup_s + self.seconds) / one_s)


@dataclass(frozen=True)
class Measured:
    """What a client said of each request; seconds on any clock, the same for all.

    Attributes:
        request_ids: as the server saw them; all empty for a client that sends none.
        stamps_s: when the content chunks came; the first alone if the client tells no more.
        lost: requests that it sent and has no result for.
    """

    request_ids: list[str]
    sent_s: NDArray[np.float64]
    stamps_s: list[NDArray[np.float64]]
    loop_lag_p99_ms: float | None = None
    lost: int = 0


@dataclass(frozen=True)
class Client:
    """How a client is started and read. `version` gives None where it is not installed.

    `command(folder, load)` gives the command line and environment variables; `read(folder)` what came of it.
    """

    version: Callable[[], str | None]
    command: Callable[[Path, Load], tuple[list[str], dict[str, str]]]
    read: Callable[[Path], Measured]
