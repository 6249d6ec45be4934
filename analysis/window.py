"""Window: the parts of the run clock over which tenants are measured and compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.load import Phase, phase_of
from analysis.requests import Int64s, Mask

__all__ = ["Window", "Windows", "find_windows", "measured_parts", "parts_by_load"]


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
    """Where each tenant is measured, where all are compared, where any is measured, and in which parts that is."""

    tenants: tuple[Window, ...]
    common: Window
    whole: Window
    phases: tuple[str, ...] = ()

    @property
    def measured(self) -> Window:
        """Where all are compared; if they never ran together, where any is measured."""
        return self.common or self.whole


def measured_parts(phases: Sequence[Phase], known_until_s: float) -> tuple[Phase, ...]:
    """The parts that are measured, as far as something is known of them, ascending.

    Args:
        known_until_s: nothing is known of what came after; inf for a run that ended by itself.
    """
    known = (replace(phase, end_s=min(phase.end_s, known_until_s)) for phase in phases if phase.measured)
    return tuple(sorted((part for part in known if part.start_s < part.end_s), key=lambda part: part.start_s))


def parts_by_load(parts: Sequence[Phase]) -> dict[float, tuple[Phase, ...]]:
    """The parts of the phases in which all tenants took part that are measured anywhere; keys: the load, ascending.

    A phase has a tenant that is there in one of its parts. Empty when no phase has all of them.
    """
    everybody = {tenant for part in parts for tenant in part.tenants}
    there: dict[str, set[str]] = {}
    for part in parts:
        there.setdefault(phase_of(part.name), set()).update(part.tenants)
    shared = [part for part in parts if there[phase_of(part.name)] == everybody]
    return {
        load: tuple(part for part in shared if part.load == load) for load in sorted({part.load for part in shared})
    }


def find_windows(parts: Sequence[Phase], tenants: Sequence[str]) -> Windows:
    """Windows from measured parts of a run: a tenant's window is the parts that list it.

    The common window is where every tenant that is measured at all is measured. It is empty when they never
    run together, or when of several tenants only one was measured.
    """
    own = tuple(
        Window.of_seconds(*((part.start_s, part.end_s) for part in parts if tenant in part.tenants))
        for tenant in tenants
    )
    measured = [window for window in own if window]
    common = Window()
    if len(measured) > 1 or len(measured) == len(tenants) == 1:
        common = measured[0]
        for window in measured[1:]:
            common = common.intersect(window)
    whole = Window.union(span for window in own for span in window.spans)
    return Windows(own, common, whole, tuple(part.name for part in parts))
