"""Fault: what goes wrong with some of the answers, on purpose.

    KIND[:rate=R][:after=S][:for=S][:seed=N]

    stall   the answer stops in its middle for so long (`for`), then all that is due comes at once
    reset   the connection is reset in the middle of the answer
    error   a stream ends in its middle with an error event; an answer in one piece is an HTTP error
    slow    tokens are held back, one after another, each for so long (`for`)
    crash   the process is gone, as if killed, after so long (`after`)

Which requests a fault strikes follows from its seed and their ids alone, not from when they come.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from fairshare_locust.errors import FairshareError

__all__ = ["STRIKING", "Fault", "FaultError", "FaultKind", "fault_of"]

FaultKind = Literal["stall", "reset", "error", "slow", "crash"]

_ALLOWED: dict[FaultKind, tuple[str, ...]] = {
    "stall": ("rate", "after", "for", "seed"),
    "reset": ("rate", "after", "seed"),
    "error": ("rate", "after", "seed"),
    "slow": ("rate", "after", "for", "seed"),
    "crash": ("after",),
}
STRIKING: tuple[FaultKind, ...] = ("stall", "reset", "error", "slow")
"""Kinds that strike single requests."""
_FOR_S = {"stall": 5.0, "slow": 0.05}
_MOST_S = 86400.0
_MOST_SEED = 2**63 - 1


class FaultError(FairshareError):
    """A fault that is not written as it has to be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        rate: the share of requests that it strikes, 0 to 1.
        after_s: requests are safe that come within so long from the start.
        for_s: how long a stall lasts, or a slow answer's token is held back; 0 for the other kinds.
        seed: picks the requests.
    """

    kind: FaultKind
    rate: float = 1.0
    after_s: float = 0.0
    for_s: float = 0.0
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Of its text, as the module's docstring has it; `stall` lasts 5 s, `slow` holds back for 0.05 s.

        Raises:
            FaultError: says what is wrong, and what is allowed.
        """
        name, *parts = text.split(":")
        kind = next((kind for kind in get_args(FaultKind) if kind == name), None)
        if kind is None:
            raise FaultError(f"found kind {name!r}; must be one of {', '.join(get_args(FaultKind))}")
        fault = cls(kind, for_s=_FOR_S.get(kind, 0.0))
        seen: set[str] = set()
        for part in parts:
            option, _, value = part.partition("=")
            if option not in _ALLOWED[kind]:
                raise FaultError(f"found option {option!r}; allowed for {kind}: {', '.join(_ALLOWED[kind])}")
            if option in seen:
                raise FaultError(f"found {option} twice; give it once")
            seen.add(option)
            fault = fault._with(option, value)
        if kind == "crash" and "after" not in seen:
            raise FaultError("found crash without after; say when, such as crash:after=10")
        return fault

    def _with(self, option: str, value: str) -> Fault:
        if option == "seed":
            if not value.isascii() or not value.isdigit() or int(value) > _MOST_SEED:
                raise FaultError(f"seed: found {value!r}; must be a whole number from 0 to {_MOST_SEED}")
            return replace(self, seed=int(value))
        number = _number(value)
        if option == "rate":
            if not 0 <= number <= 1:
                raise FaultError(f"rate: found {value!r}; must be a number from 0 to 1")
            return replace(self, rate=number)
        if option == "after":
            if not 0 <= number <= _MOST_S:
                raise FaultError(f"after: found {value!r}; must be a number of seconds from 0 to {_MOST_S:g}")
            return replace(self, after_s=number)
        if not 0 < number <= _MOST_S:
            raise FaultError(f"for: found {value!r}; must be a number of seconds above 0, at most {_MOST_S:g}")
        return replace(self, for_s=number)

    def strikes(self, request_id: str, since_start_s: float) -> bool:
        """Whether it strikes a request that came so long after the start. A crash strikes none: it strikes all."""
        if self.kind not in STRIKING or since_start_s < self.after_s:
            return False
        digest = hashlib.blake2b(f"{self.seed} {self.kind} {request_id}".encode(errors="replace"), digest_size=8)
        return int.from_bytes(digest.digest(), "big") < self.rate * 2**64


def fault_of(faults: Sequence[Fault], request_id: str, since_start_s: float) -> Fault | None:
    """The first of the faults that strikes a request; None if none does."""
    return next((fault for fault in faults if fault.strikes(request_id, since_start_s)), None)


def _number(text: str) -> float:
    """NaN, which lies within no limits, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
