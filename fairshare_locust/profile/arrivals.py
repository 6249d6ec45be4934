"""Arrival processes a profile can name: when a tenant's requests are due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fairshare_locust.profile.distribution import ConstantDuration, Duration
from fairshare_locust.profile.schema import allow

__all__ = [
    "Arrival",
    "BatchArrival",
    "ClosedArrival",
    "ConstantArrival",
    "GammaArrival",
    "OnOffArrival",
    "OpenArrival",
    "PoissonArrival",
    "RampArrival",
    "RateStep",
    "StepsArrival",
    "TraceArrival",
    "WeibullArrival",
]

_MOST_PER_S = 1_000_000
_MOST_SLOTS = 100_000


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """What every process has: the stretches in which the tenant is there.

    `active_s` holds pairs [from, to] in seconds since the phase began, warm-up included; without one it is there
    all the time. The process stands still outside of them, and goes on where it stopped.
    """

    active_s: tuple[tuple[float, ...], ...] = ()

    def check(self) -> Iterator[tuple[str, str]]:
        """Stretches are pairs, in order, and do not overlap."""
        before_s = 0.0
        for i, stretch in enumerate(self.active_s):
            if len(stretch) != 2 or not 0 <= stretch[0] < stretch[1]:
                yield f"active_s[{i}]", f"found {list(stretch)}; must be [from, to] in seconds, 0 ≤ from < to"
                return
            if stretch[0] < before_s:
                yield f"active_s[{i}]", f"found {list(stretch)}; must not begin before the last one ends ({before_s:g})"
            before_s = stretch[1]


@dataclass(frozen=True, kw_only=True)
class ClosedArrival(_Arrival):
    """`concurrency` slots; each sends, waits for the answer, thinks for `think_s`, and sends again."""

    process: Literal["closed"] = "closed"
    concurrency: int = allow(at_least=1, at_most=_MOST_SLOTS)
    think_s: Duration = allow(ConstantDuration(value=0.0), shorthand="constant")

    @property
    def slots(self) -> int:
        """Streams that may be open at once."""
        return self.concurrency


@dataclass(frozen=True, kw_only=True)
class BatchArrival(_Arrival):
    """`size` requests at once; the next `size` when all of them have ended and `think_s` has gone by."""

    process: Literal["batch"] = "batch"
    size: int = allow(at_least=1, at_most=_MOST_SLOTS)
    think_s: Duration = allow(ConstantDuration(value=0.0), shorthand="constant")

    @property
    def slots(self) -> int:
        """Streams that may be open at once."""
        return self.size


@dataclass(frozen=True, kw_only=True)
class OpenArrival(_Arrival):
    """Requests that go out by the clock, whatever the server does, on at most `max_in_flight` streams.

    When all streams are busy, `overflow: wait` sends late (the lag is on the record), `shed` drops the request.
    """

    max_in_flight: int = allow(64, at_least=1, at_most=_MOST_SLOTS)
    overflow: Literal["wait", "shed"] = "wait"

    @property
    def slots(self) -> int:
        """Streams that may be open at once."""
        return self.max_in_flight


@dataclass(frozen=True, kw_only=True)
class ConstantArrival(OpenArrival):
    """Every 1 / rate seconds."""

    process: Literal["constant"] = "constant"
    rate_per_s: float = allow(above=0, at_most=_MOST_PER_S)


@dataclass(frozen=True, kw_only=True)
class PoissonArrival(OpenArrival):
    """Exponential gaps with mean 1 / rate."""

    process: Literal["poisson"] = "poisson"
    rate_per_s: float = allow(above=0, at_most=_MOST_PER_S)


@dataclass(frozen=True, kw_only=True)
class GammaArrival(OpenArrival):
    """Gamma gaps with mean 1 / rate.

    Either `burstiness`, the shape as vLLM's bench defines it (1: Poisson, below 1: burstier, above: more even),
    or `cv`, the coefficient of variation of the gaps, which is 1 / sqrt(burstiness).
    """

    process: Literal["gamma"] = "gamma"
    rate_per_s: float = allow(above=0, at_most=_MOST_PER_S)
    burstiness: float | None = allow(None, at_least=0.001, at_most=1e6)
    cv: float | None = allow(None, at_least=0.001, at_most=30)

    @property
    def shape(self) -> float:
        """Shape of the gamma distribution."""
        if self.cv is not None:
            return 1 / self.cv**2
        return 1.0 if self.burstiness is None else self.burstiness

    def check(self) -> Iterator[tuple[str, str]]:
        """One way of saying how bursty."""
        yield from super().check()
        if (self.burstiness is None) == (self.cv is None):
            yield "burstiness", "give either burstiness (1: Poisson) or cv (1: Poisson)"


@dataclass(frozen=True, kw_only=True)
class WeibullArrival(OpenArrival):
    """Weibull gaps with mean 1 / rate; `shape` 1: Poisson, below 1: burstier, above: more even."""

    process: Literal["weibull"] = "weibull"
    rate_per_s: float = allow(above=0, at_most=_MOST_PER_S)
    shape: float = allow(at_least=0.1, at_most=1000)


@dataclass(frozen=True, kw_only=True)
class OnOffArrival(OpenArrival):
    """Bursts of `on_s` seconds at `rate_per_s`, with `off_s` seconds at `off_rate_per_s` (silence) between them.

    With `durations: exponential`, `on_s` and `off_s` are the means of exponential durations.
    """

    process: Literal["on_off"] = "on_off"
    rate_per_s: float = allow(above=0, at_most=_MOST_PER_S)
    on_s: float = allow(at_least=0.001)
    off_s: float = allow(at_least=0.001)
    off_rate_per_s: float = allow(0.0, at_least=0, at_most=_MOST_PER_S)
    durations: Literal["fixed", "exponential"] = "fixed"
    base: Literal["poisson", "constant"] = "poisson"


@dataclass(frozen=True, kw_only=True)
class RampArrival(OpenArrival):
    """From one rate to another in `over_s` seconds, linearly, after `after_s` seconds at the first; then it stays."""

    process: Literal["ramp"] = "ramp"
    from_per_s: float = allow(at_least=0, at_most=_MOST_PER_S)
    to_per_s: float = allow(at_least=0, at_most=_MOST_PER_S)
    over_s: float = allow(above=0)
    after_s: float = allow(0.0, at_least=0)
    base: Literal["poisson", "constant"] = "poisson"

    def check(self) -> Iterator[tuple[str, str]]:
        """Something is sent."""
        yield from super().check()
        if self.from_per_s == 0 and self.to_per_s == 0:
            yield "to_per_s", "found 0 with from_per_s: 0; nothing would be sent"


@dataclass(frozen=True, kw_only=True)
class RateStep:
    """A stretch of `for_s` seconds at one rate."""

    rate_per_s: float = allow(at_least=0, at_most=_MOST_PER_S)
    for_s: float = allow(above=0)


@dataclass(frozen=True, kw_only=True)
class StepsArrival(OpenArrival):
    """One rate after another; the last one stays, or with `loop` they begin again."""

    process: Literal["steps"] = "steps"
    steps: tuple[RateStep, ...]
    loop: bool = False
    base: Literal["poisson", "constant"] = "poisson"

    def check(self) -> Iterator[tuple[str, str]]:
        """Something is sent."""
        yield from super().check()
        if not any(step.rate_per_s > 0 for step in self.steps):
            yield "steps", "found no step with a rate above 0; nothing would be sent"


@dataclass(frozen=True, kw_only=True)
class TraceArrival(OpenArrival):
    """The times of a trace (one of the profile's `traces`), `speed` times as fast.

    With `rate_per_s` the speed is chosen so that this tenant's requests come at that mean rate. At the trace's
    end the tenant is silent, or with `loop` it begins again.
    """

    process: Literal["trace"] = "trace"
    trace: str
    speed: float = allow(1.0, at_least=1e-6, at_most=1e6)
    rate_per_s: float | None = allow(None, above=0, at_most=_MOST_PER_S)
    loop: bool = False

    def check(self) -> Iterator[tuple[str, str]]:
        """One way of saying how fast."""
        yield from super().check()
        if self.rate_per_s is not None and self.speed != 1:
            yield "rate_per_s", f"found {self.rate_per_s:g} beside speed: {self.speed:g}; give one of the two"


Arrival = (
    ClosedArrival
    | BatchArrival
    | ConstantArrival
    | PoissonArrival
    | GammaArrival
    | WeibullArrival
    | OnOffArrival
    | RampArrival
    | StepsArrival
    | TraceArrival
)
