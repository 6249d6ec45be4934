"""Assignment: which tenant sends which row of a trace. A function of seed, trace and row; never of the cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.profile.traces import Assign, AssignByHash, AssignByModel, AssignBySession, AssignByShare
from fairshare_locust.seeding import random_stream
from fairshare_locust.trace.rows import Blocks, Labels, Rows

__all__ = ["assign_rows"]


def assign_rows(assign: Assign, rows: Rows, seed: int, trace_name: str) -> NDArray[np.int32]:
    """For each row the place of its tenant among those of `assign.shares`; -1 for a row that nobody sends.

    A session, or the prompts with one first block, fall to a tenant by a digest of their name, and rows without
    by a draw of their own, both in proportion to the shares.
    """
    match assign:
        case AssignByModel():
            return _by_model(assign, rows.models)
        case AssignByShare():
            points = _drawn(rows, seed, trace_name)
        case AssignBySession():
            points = _drawn(rows, seed, trace_name)
            if rows.sessions is not None:
                named = rows.sessions.codes >= 0
                digests = _digests(seed, trace_name, rows.sessions.names)
                points[named] = digests[rows.sessions.codes[named]]
        case AssignByHash():
            points = _drawn(rows, seed, trace_name)
            if rows.blocks is not None:
                hashed = rows.blocks.starts < rows.blocks.ends
                ids, places = np.unique(_first_ids(rows.blocks, hashed), return_inverse=True)
                points[hashed] = _digests(seed, trace_name, map(str, ids.tolist()))[places]
    return _places(assign.shares, points)


def _drawn(rows: Rows, seed: int, trace_name: str) -> NDArray[np.float64]:
    """A point of [0, 1) for each row."""
    return random_stream(seed, trace_name, "assign").random(len(rows))


def _digests(seed: int, trace_name: str, names: Iterable[str]) -> NDArray[np.float64]:
    """A point of [0, 1) for each name: the first 53 bits of its SHA-256 with seed and trace."""
    start = hashlib.sha256(f"{seed}/{trace_name}/".encode())
    points = []
    for name in names:
        digest = start.copy()
        digest.update(name.encode())
        points.append((int.from_bytes(digest.digest()[:8], "big") >> 11) / 2**53)
    return np.array(points, dtype=np.float64)


def _first_ids(blocks: Blocks, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    return blocks.ids[blocks.starts[rows]]


def _places(shares: dict[str, float], points: NDArray[np.float64]) -> NDArray[np.int32]:
    """The tenant whose stretch of [0, 1) each point lies in. Stretches lie by tenant id, not by the file's order."""
    order = sorted(range(len(shares)), key=list(shares).__getitem__)
    sizes = np.array(list(shares.values()))[order]
    bounds = np.cumsum(sizes / sizes.max())
    stretch = np.searchsorted(bounds[:-1] / bounds[-1], points, side="right")
    return np.array(order, dtype=np.int32)[stretch]


def _by_model(assign: AssignByModel, models: Labels | None) -> NDArray[np.int32]:
    assert models is not None, "a profile assigns by model only where the format has one"
    tenants = list(assign.shares)
    places = [tenants.index(assign.models[name]) if name in assign.models else -1 for name in models.names]
    return np.array([*places, -1], dtype=np.int32)[models.codes]  # code -1, no model: the last place
