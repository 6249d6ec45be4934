"""Keys in which runs differ that should be the same but for how they shared the GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.compare.runs import ComparedRun
from analysis.load import phase_of
from analysis.window import measured_parts
from fairshare_locust.errors import RunDirectoryError

__all__ = ["differences", "refuse"]

_LEFT_OUT = frozenset({"name", "deployment", "telemetry", "cost", "seed"})
_LEFT_OUT_OF_TENANTS = frozenset({"endpoint", "api_key_env", "headers", "model"})
_LOAD = ("arrival", "load", "requests")
"""What a matrix changes from load to load, wherever it stands below a tenant or a phase."""

_SAME_WINDOW = 0.01
"""Windows are the same if their lengths differ by no more than this share: when a part ends is known to a tick."""


def differences(runs: Sequence[ComparedRun], modes: Sequence[str]) -> list[str]:
    """Each difference as `tenants.chat.arrival.rate_per_s: 2 in A, 4 in B`, once per value that differs.

    Compared are the resolved profiles without name, deployment, telemetry, cost, endpoints and keys; the plan; and per
    load the seeds of each mode, all together: repeats of a mode have different ones; and how long each part was in fact
    measured, which an early stop shortens. Runs of one load are compared
    with the first of it, those of other loads with the first of all, but for arrivals and loads.

    Args:
        modes: per run.
    """
    found: dict[str, None] = {}
    first_of: dict[float | None, ComparedRun] = {}
    for run in runs:
        load = run.cell.load if run.cell else None
        if load not in first_of:
            first_of[load] = run
            found |= dict.fromkeys(_between(runs[0], run, same_load=load == next(iter(first_of))))
        else:
            found |= dict.fromkeys(_between(first_of[load], run, same_load=True))
    return [*found, *_seeds(runs, modes)]


def _between(first: ComparedRun, other: ComparedRun, *, same_load: bool) -> Iterator[str]:
    sides = _flat(_compared(first)), _flat(_compared(other))
    for key in dict.fromkeys((*sides[0], *sides[1])):
        if not same_load and any(word in key.split(".") for word in _LOAD):
            continue
        ours, theirs = (side.get(key, _NONE) for side in sides)
        if ours != theirs:
            yield f"{key}: {_shown(ours)} in {first.name}, {_shown(theirs)} in {other.name}"
    measured = _measured_s(first), _measured_s(other)
    for part in [name for name in measured[0] if name in measured[1]]:
        ours_s, theirs_s = (side[part] for side in measured)
        if abs(ours_s - theirs_s) > _SAME_WINDOW * max(ours_s, theirs_s):
            yield f"measured seconds of {part}: {ours_s:.1f} in {first.name}, {theirs_s:.1f} in {other.name}"


def _measured_s(run: ComparedRun) -> dict[str, float]:
    """How long each measured part in fact was, by its name; none that a number of requests ends: every run its own.

    An early stop shortens a part, and leaves out those after it, as a sweep does at the load that breaks an SLO.
    """
    bounds = {"": run.resolved.get("run") or {}}
    bounds |= {str(phase.get("name")): phase for phase in run.resolved.get("phases") or []}
    if bounds[""].get("requests") is not None:
        return {}
    found: dict[str, float] = {}
    for part in measured_parts(run.phases, run.known_until_s):
        if (bounds.get(phase_of(part.name)) or {}).get("requests") is None and math.isfinite(part.end_s):
            found[part.name] = found.get(part.name, 0.0) + part.end_s - part.start_s
    return found


def _compared(run: ComparedRun) -> dict[str, Any]:
    content = {key: value for key, value in run.resolved.items() if key not in _LEFT_OUT}
    tenants = {}
    for tenant in content.get("tenants") or []:
        kept = {key: value for key, value in tenant.items() if key not in _LEFT_OUT_OF_TENANTS and key != "id"}
        tenants[str(tenant.get("id"))] = kept or {"id": tenant.get("id")}
    return {"plan": run.info.get("plan"), **content, "tenants": tenants}


_NONE = object()


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by key path; a list is a leaf unless it holds mappings."""
    if isinstance(value, Mapping) and value:
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(place), item) for place, item in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat


def _shown(value: Any) -> str:
    if value is _NONE:
        return "absent"
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(runs: Sequence[ComparedRun], modes: Sequence[str]) -> Iterator[str]:
    """Modes whose seeds at a load are not those of the first mode at that load."""
    drawn: dict[float | None, dict[str, list[Any]]] = {}
    for run, mode in zip(runs, modes, strict=True):
        drawn.setdefault(run.cell.load if run.cell else None, {}).setdefault(mode, []).append(run.seed)
    for load, by_mode in drawn.items():
        (first, ours), *others = by_mode.items()
        at = "" if load is None else f" at load {load:g}"
        for mode, theirs in others:
            if set(theirs) != set(ours):
                yield f"seed{at}: {_listed(ours)} in {first}, {_listed(theirs)} in {mode}"


def _listed(seeds: Sequence[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(seeds)))


def refuse(found: Sequence[str]) -> None:
    """Raises RunDirectoryError if there is any difference."""
    if found:
        raise RunDirectoryError(
            "these runs differ in more than how they shared the GPU:\n"
            + "\n".join(f"  {line}" for line in found)
            + "\nrun them again with the same profile, or say --force to compare them all the same"
        )
