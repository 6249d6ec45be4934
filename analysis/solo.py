"""Solo: tenants alone in runs of their own, read so far as another run needs them to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from analysis.conditions import conditions, side_of
from analysis.latency import per_request_ms
from analysis.slowdown import Side, SoloRuns
from analysis.tokens import tokens_by_cell
from analysis.window import measured_parts
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RunDirectory

if TYPE_CHECKING:
    from analysis.load import Run

__all__ = ["read_solo", "told_solo"]

_SAME = ("api", "model", "workload", "sampling")  # of a tenant: without these it is no longer the same work


def told_solo(directory: RunDirectory, info: Mapping[str, Any]) -> SoloRuns:
    """What `read_solo` finds in the run that a `run.json` names as `solo`, absolute or from the run directory.

    Nobody was asked to name it, so that one that is not there or does not fit is a warning.
    """
    if not (told := info.get("solo")):
        return SoloRuns()
    try:
        return read_solo(directory, info, [directory.path / str(told)])
    except RunDirectoryError as error:
        return SoloRuns(warnings=(f"no comparison with a solo run: {error}",))


def read_solo(directory: RunDirectory, info: Mapping[str, Any], paths: Sequence[Path]) -> SoloRuns:
    """Each tenant of a run alone, from other runs; where several have it, from the last of them.

    One run is in memory at a time, and little of it stays.

    Args:
        directory, info: the run to compare with them, and its `run.json`.

    Raises:
        RunDirectoryError: a path is no run directory, has none of the tenants alone, or did other work: a key of the
            workload differs.
    """
    from analysis.load import load_run, open_run  # which reads solo runs by way of this module

    sides: dict[str, Mapping[float, Side]] = {}
    names: dict[str, str] = {}
    warnings: list[str] = []
    own = _Work.of(directory, info) if paths else None
    for path in paths:
        solo = RunDirectory(open_run(path).path.resolve())
        if own is not None:
            warnings += own.compared_with(_Work.of(solo, solo.read_run()))
        run = load_run(path, solo=())
        found = _sides(run)
        if not found:
            raise RunDirectoryError(
                f"{str(path)!r} is no solo run: no tenant is alone in a measured phase; make one with "
                "locustfiles/solo.py or the plan solo"
            )
        shared = [tenant for tenant in found if own is None or tenant in own.tenants]
        if not shared:
            raise RunDirectoryError(
                f"{str(path)!r} is a solo run of {', '.join(found)}; none of them is a tenant of {directory.path.name}"
            )
        if run.state != "complete":
            warnings.append(f"solo run {run.path.name} is {run.state}: it may lack what came after its last record")
        sides |= {tenant: found[tenant] for tenant in shared}
        names |= dict.fromkeys(shared, run.path.name)
    return SoloRuns(sides, names, tuple(warnings))


def _sides(run: Run) -> dict[str, dict[float, Side]]:
    """Each tenant at each load at which it was alone."""
    latencies = per_request_ms(run.requests)
    codes = {tenant.id: code for code, tenant in enumerate(run.profile.tenants)}
    found: dict[str, dict[float, Side]] = {}
    for condition in conditions(run.phases, measured_parts(run.phases, run.known_until_s)):
        if len(condition.tenants) > 1 or not condition.tenants <= codes.keys():
            continue
        (tenant,) = condition.tenants
        code, cells = codes[tenant], condition.cells()
        group = np.where(run.requests.tenant == code, 0, -1)
        edges = np.array(sorted({edge for cell in cells for edge in cell}), np.int64)
        starts = np.searchsorted(edges, [start for start, _ in cells])
        tokens = tokens_by_cell(run.requests, group, 1, edges)[0][starts]
        side = side_of(run.requests, latencies, code, condition, tokens, run.info.get("seed"))
        found.setdefault(tenant, {})[condition.load] = side
    return found


@dataclass(frozen=True)
class _Work:
    """What a run asked of whom, as far as two runs have to agree on it."""

    name: str
    seed: Any
    model: Any
    simulated: bool
    time: Any
    tenants: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, directory: RunDirectory, info: Mapping[str, Any]) -> _Work:
        """Of a run directory. Raises RunDirectoryError when its profile can't be understood."""
        try:
            content = yaml.safe_load(directory.profile.read_text(encoding="utf-8"))
            tenants = {str(tenant["id"]): tenant for tenant in content["tenants"]}
            model = (content.get("model") or {}).get("name")
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise RunDirectoryError(f"{directory.profile} can't be read: {error}") from error
        return cls(
            name=directory.path.name,
            seed=info.get("seed"),
            model=model,
            simulated=any(server.get("simulated") for server in info.get("servers") or []),
            time=info.get("time", "real"),
            tenants=tenants,
        )

    def compared_with(self, solo: _Work) -> Iterator[str]:
        """What is different but leaves a comparison. Raises RunDirectoryError naming the key that leaves none."""
        for key, own, other in self._work(solo):
            if own != other:
                raise RunDirectoryError(
                    f"{solo.name} can't be compared with {self.name}: {key} is {other!r} there and {own!r} here; "
                    "give a solo run of the same profile"
                )
        if solo.seed != self.seed:
            yield f"solo run {solo.name} has seed {solo.seed}, this run {self.seed}: requests are not compared in pairs"
        for tenant in [name for name in self.tenants if name in solo.tenants]:
            if self.tenants[tenant].get("arrival") != solo.tenants[tenant].get("arrival"):
                yield (
                    f"tenants.{tenant}.arrival is not the same in solo run {solo.name}: its slowdown is also one of "
                    "another load"
                )

    def _work(self, solo: _Work) -> Iterator[tuple[str, Any, Any]]:
        """Key, its value here, its value there."""
        yield "model.name", self.model, solo.model
        yield "simulated", self.simulated, solo.simulated
        yield "time", self.time, solo.time
        for tenant, own in self.tenants.items():
            if (other := solo.tenants.get(tenant)) is not None:
                for key in _SAME:
                    yield from _differing(f"tenants.{tenant}.{key}", own.get(key), other.get(key))


def _differing(key: str, own: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """The innermost keys at which two values differ."""
    if isinstance(own, dict) and isinstance(other, dict):
        for inner in dict.fromkeys((*own, *other)):
            yield from _differing(f"{key}.{inner}", own.get(inner), other.get(inner))
    elif own != other:
        yield key, own, other
