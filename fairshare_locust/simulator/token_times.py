"""TokenTimes: when the steps of one engine ended. A sequence's tokens are stretches of them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Stretch", "TokenTimes"]

Stretch = tuple[int, int]
"""A token in each step from the first to the last of these numbers; between stretches a sequence was preempted."""


class TokenTimes:
    """The ends of an engine's steps, by their numbers from 0, in whole microseconds on the run clock."""

    def __init__(self) -> None:
        self._ends_us: list[int] = []
        self._gaps_us: list[int] = []  # from the step before

    def add(self, end_s: float) -> int:
        """A step ended; its number."""
        end_us = round(end_s * 1e6)
        number = len(self._ends_us)
        self._gaps_us.append(end_us - self._ends_us[-1] if number else 0)
        self._ends_us.append(end_us)
        return number

    @property
    def last(self) -> int:
        """The number of the last step that ended; -1 before any has."""
        return len(self._ends_us) - 1

    def at_s(self, number: int) -> float:
        """When a step ended."""
        return self._ends_us[number] / 1e6

    def between_us(self, stretches: Sequence[Stretch]) -> list[int]:
        """Gaps between consecutive tokens, one fewer than tokens."""
        (first, last), *others = stretches
        gaps = self._gaps_us[first + 1 : last + 1]
        for first, end in others:
            gaps.append(self._ends_us[first] - self._ends_us[last])
            gaps += self._gaps_us[first + 1 : end + 1]
            last = end
        return gaps
