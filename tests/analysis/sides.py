"""Sides: one tenant's requests under one condition, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.slowdown import LATENCIES, Side

__all__ = ["side"]


def side(
    *e2e_ms: float,
    seed: int | None = 7,
    index: Sequence[int] | None = None,
    due_s: Sequence[float] | None = None,
    tokens: Sequence[float] = (1.0,) * 10,
    length_s: float = 10.0,
    start_s: float = 0.0,
    **others_ms: Sequence[float],
) -> Side:
    """Requests one second apart, all latencies alike unless given, in a window of ten seconds and as many cells."""
    count = len(e2e_ms)
    due_ns = np.array([start_s + k for k in range(count)] if due_s is None else due_s, np.float64) * 1e9
    edges_ns = np.rint((start_s + np.linspace(0, length_s, len(tokens) + 1)) * 1e9).astype(np.int64)
    values: Mapping[str, Sequence[float]] = dict.fromkeys(LATENCIES, e2e_ms) | others_ms
    return Side(
        seed=seed,
        index=np.array(range(count) if index is None else index, np.int32),
        due_ns=np.rint(due_ns).astype(np.int64),
        cell=np.searchsorted(edges_ns, np.rint(due_ns), side="right") - 1,
        latencies_ms={name: np.array(each, np.float64) for name, each in values.items()},
        starts_ns=edges_ns[:-1],
        lengths_ns=np.diff(edges_ns),
        tokens=np.array(tokens, np.float64),
    )
