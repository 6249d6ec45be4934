"""Distributions a profile can name: of lengths in tokens, and of durations in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fairshare_locust.profile.schema import allow

__all__ = [
    "ConstantDuration",
    "ConstantLength",
    "Duration",
    "ExponentialDuration",
    "Length",
    "LognormalDuration",
    "LognormalLength",
    "NormalLength",
    "UniformDuration",
    "UniformLength",
]

_LONGEST_TOKENS = 10_000_000  # no model takes more, and a slip of the pen should not fill the memory


@dataclass(frozen=True, kw_only=True)
class ConstantLength:
    """Always `value` tokens; a bare number means the same."""

    distribution: Literal["constant"] = "constant"
    value: int = allow(at_least=1, at_most=_LONGEST_TOKENS)


@dataclass(frozen=True, kw_only=True)
class UniformLength:
    """Whole numbers from `low` to `high`, both included."""

    distribution: Literal["uniform"] = "uniform"
    low: int = allow(at_least=1, at_most=_LONGEST_TOKENS)
    high: int = allow(at_least=1, at_most=_LONGEST_TOKENS)

    def check(self) -> Iterator[tuple[str, str]]:
        """Low is not above high."""
        if self.low > self.high:
            yield "low", f"found {self.low}; must not be above high ({self.high})"


def _check_bounds(minimum: int, maximum: int | None) -> Iterator[tuple[str, str]]:
    if maximum is not None and minimum > maximum:
        yield "min", f"found {minimum}; must not be above max ({maximum})"


@dataclass(frozen=True, kw_only=True)
class NormalLength:
    """Normal with mean and standard deviation `std` in tokens, rounded, held inside min and max."""

    distribution: Literal["normal"] = "normal"
    mean: float = allow(above=0, at_most=_LONGEST_TOKENS)
    std: float = allow(at_least=0)
    min: int = allow(1, at_least=1)
    max: int | None = allow(None, at_least=1, at_most=_LONGEST_TOKENS)

    def check(self) -> Iterator[tuple[str, str]]:
        """Min is not above max."""
        yield from _check_bounds(self.min, self.max)


@dataclass(frozen=True, kw_only=True)
class LognormalLength:
    """Log-normal with mean `mean` tokens and shape `sigma` (of the logarithm), rounded, held inside min and max."""

    distribution: Literal["lognormal"] = "lognormal"
    mean: float = allow(above=0, at_most=_LONGEST_TOKENS)
    sigma: float = allow(at_least=0, at_most=5)
    min: int = allow(1, at_least=1)
    max: int | None = allow(None, at_least=1, at_most=_LONGEST_TOKENS)

    def check(self) -> Iterator[tuple[str, str]]:
        """Min is not above max."""
        yield from _check_bounds(self.min, self.max)


Length = ConstantLength | UniformLength | NormalLength | LognormalLength


@dataclass(frozen=True, kw_only=True)
class ConstantDuration:
    """Always `value` seconds; a bare number means the same."""

    distribution: Literal["constant"] = "constant"
    value: float = allow(at_least=0)


@dataclass(frozen=True, kw_only=True)
class UniformDuration:
    """Any number of seconds from `low` to `high`."""

    distribution: Literal["uniform"] = "uniform"
    low: float = allow(at_least=0)
    high: float = allow(at_least=0)

    def check(self) -> Iterator[tuple[str, str]]:
        """Low is not above high."""
        if self.low > self.high:
            yield "low", f"found {self.low:g}; must not be above high ({self.high:g})"


@dataclass(frozen=True, kw_only=True)
class ExponentialDuration:
    """Exponential with mean `mean` seconds; values above `max` are moved to it."""

    distribution: Literal["exponential"] = "exponential"
    mean: float = allow(above=0)
    max: float | None = allow(None, above=0)


@dataclass(frozen=True, kw_only=True)
class LognormalDuration:
    """Log-normal with mean `mean` seconds and shape `sigma` (of the logarithm); values above `max` are moved to it."""

    distribution: Literal["lognormal"] = "lognormal"
    mean: float = allow(above=0)
    sigma: float = allow(at_least=0, at_most=5)
    max: float | None = allow(None, above=0)


Duration = ConstantDuration | UniformDuration | ExponentialDuration | LognormalDuration
