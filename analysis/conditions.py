"""Condition: who was there. Stretches of a run in which the same tenants offered load, and what each got in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analysis.latency import Floats
from analysis.load import Phase, phase_of
from analysis.requests import Int64s, Requests
from analysis.slowdown import LATENCIES, MOST_CELLS, Side
from analysis.window import Window

__all__ = ["Condition", "conditions", "side_of"]


@dataclass(frozen=True)
class Condition:
    """Measured parts in which exactly these tenants offered load, at one load.

    Attributes:
        tenants: their ids, in any order.
        parts: their names.
        phases: names of the phases that they are of; "" for the only one of a run.
        spans: of the parts, disjoint and ascending, in ns.
        phase_starts_ns: for each span, when its phase began: schedules and indices begin there.
    """

    tenants: frozenset[str]
    load: float
    parts: tuple[str, ...]
    phases: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    phase_starts_ns: tuple[int, ...]

    @property
    def window(self) -> Window:
        """Where it holds."""
        return Window.union(self.spans)

    def cells(self) -> tuple[tuple[int, int], ...]:
        """Adjacent stretches of much the same length, at most MOST_CELLS + spans of them; in ns."""
        total = sum(end - start for start, end in self.spans)
        cells: list[tuple[int, int]] = []
        for start, end in self.spans:
            count = min(max(1, round(MOST_CELLS * (end - start) / total)), end - start)
            edges = [start + (end - start) * k // count for k in range(count + 1)]
            cells += pairwise(edges)
        return tuple(cells)

    def name(self, run: str) -> str:
        """The phases; where the run has only one, the run."""
        return ", ".join(phase or run for phase in self.phases)


def conditions(phases: Sequence[Phase], parts: Sequence[Phase]) -> tuple[Condition, ...]:
    """Measured parts by load and by who takes part in them, in the order in which they first stand.

    Args:
        phases: all parts of the run: they tell when a phase began.
        parts: those that are measured, disjoint and ascending.
    """
    began: dict[str, float] = {}
    for phase in phases:
        name = phase_of(phase.name)
        began[name] = min(phase.start_s, began.get(name, phase.start_s))
    groups: dict[tuple[float, frozenset[str]], list[Phase]] = {}
    for part in parts:
        if part.tenants:
            groups.setdefault((part.load, frozenset(part.tenants)), []).append(part)
    return tuple(
        Condition(
            tenants=tenants,
            load=load,
            parts=tuple(part.name for part in some),
            phases=tuple(dict.fromkeys(phase_of(part.name) for part in some)),
            spans=tuple((round(part.start_s * 1e9), round(part.end_s * 1e9)) for part in some),
            phase_starts_ns=tuple(round(began[phase_of(part.name)] * 1e9) for part in some),
        )
        for (load, tenants), some in groups.items()
    )


def side_of(
    requests: Requests,
    latencies_ms: Mapping[str, Floats],
    code: int,
    condition: Condition,
    tokens: Floats,
    seed: int | None,
) -> Side:
    """One tenant's requests that were due while the condition held, followed to their end, and its tokens then.

    Args:
        latencies_ms: arrays of shape (n,), LATENCIES at least.
        code: the tenant's place in the profile.
        tokens: output tokens that arrived in each of the condition's cells.
    """
    chosen = np.flatnonzero((requests.tenant == code) & condition.window.contains(requests.scheduled_ns))
    due_ns = requests.scheduled_ns[chosen]
    cells = np.array(condition.cells(), np.int64)
    return Side(
        seed=seed,
        index=requests.index[chosen],
        due_ns=due_ns - _phase_starts(condition, due_ns),
        cell=np.searchsorted(cells[:, 0], due_ns, side="right") - 1,
        latencies_ms={name: latencies_ms[name][chosen] for name in LATENCIES},
        starts_ns=cells[:, 0] - _phase_starts(condition, cells[:, 0]),
        lengths_ns=cells[:, 1] - cells[:, 0],
        tokens=tokens,
    )


def _phase_starts(condition: Condition, stamps_ns: Int64s) -> Int64s:
    """For each stamp, the start of the phase of the span that holds it."""
    starts = np.array([start for start, _ in condition.spans], np.int64)
    began = np.array(condition.phase_starts_ns, np.int64)
    found: Int64s = began[np.searchsorted(starts, stamps_ns, side="right") - 1]
    return found
