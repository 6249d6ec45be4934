"""Window: the parts of the run clock over which tenants are measured and compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.load import Phase
from analysis.requests import Int64s, Mask

__all__ = ["Window", "Windows", "find_windows"]


@dataclass(frozen=True)
class Window:
    """Disjoint half-open spans `[start, end)` in whole nanoseconds, ascending; none: an empty window."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_seconds(cls, *spans: tuple[float, float]) -> Window:
        """A window from spans in seconds; those that overlap or touch become one, empty ones vanish."""
        return cls.union((round(start * 1e9), round(end * 1e9)) for start, end in spans)

    @classmethod
    def union(cls, spans: Iterable[tuple[int, int]]) -> Window:
        """The instants that are in any of the spans."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(span for span in spans if span[0] < span[1]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return cls(tuple(merged))

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def start_s(self) -> float | None:
        """Start of the first span."""
        return self.spans[0][0] / 1e9 if self.spans else None

    @property
    def end_s(self) -> float | None:
        """End of the last span."""
        return self.spans[-1][1] / 1e9 if self.spans else None

    @property
    def length_s(self) -> float:
        """Sum of the spans' lengths."""
        return sum(end - start for start, end in self.spans) / 1e9

    def contains(self, stamps_ns: Int64s) -> Mask:
        """Which stamps lie inside."""
        inside = np.zeros(len(stamps_ns), np.bool_)
        for start, end in self.spans:
            inside |= (stamps_ns >= start) & (stamps_ns < end)
        return inside

    def intersect(self, other: Window) -> Window:
        """The instants that are in both."""
        return Window.union(
            (max(start, other_start), min(end, other_end))
            for start, end in self.spans
            for other_start, other_end in other.spans
        )

    def sub_windows(self, length_s: float) -> tuple[tuple[int, int], ...]:
        """Adjacent spans of `length_s` from the start of each span; the last of a span may be shorter."""
        step = round(length_s * 1e9)
        return tuple((at, min(at + step, end)) for start, end in self.spans for at in range(start, end, step))


@dataclass(frozen=True)
class Windows:
    """Where each tenant is measured, where all are compared, and where any is measured."""

    tenants: tuple[Window, ...]
    common: Window
    whole: Window


def find_windows(phases: Sequence[Phase], tenants: Sequence[str], known_until_s: float) -> Windows:
    """Windows from the phases of a run: a tenant's window is the measured phases that list it.

    The common window is where every tenant that is measured at all is measured. It is empty when they never
    run together, or when of several tenants only one was measured.

    Args:
        known_until_s: nothing is known of what came after; inf for a run that ended by itself.
    """
    own = tuple(
        Window.of_seconds(
            *(
                (phase.start_s, min(phase.end_s, known_until_s))
                for phase in phases
                if phase.measured and tenant in phase.tenants
            )
        )
        for tenant in tenants
    )
    measured = [window for window in own if window]
    common = Window()
    if len(measured) > 1 or len(measured) == len(tenants) == 1:
        common = measured[0]
        for window in measured[1:]:
            common = common.intersect(window)
    return Windows(own, common, Window.union(span for window in own for span in window.spans))
