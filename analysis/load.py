"""Run: what a run directory holds, read once and checked at the door."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis.locust_csv import LocustCsv, read_locust_csv
from analysis.requests import Requests, read_requests
from analysis.slowdown import SoloRuns
from analysis.telemetry import Telemetry, read_telemetry
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RunDirectory

__all__ = [
    "Phase",
    "Profile",
    "Run",
    "Slo",
    "Tenant",
    "load_run",
    "open_run",
    "phase_of",
    "read_profile",
]


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Limits in ms that a request has to meet; TTFT and e2e count from when it was due. None = no limit.

    With a lower share than `attainment` of the requests that meet them, the SLO is broken.
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None
    attainment: float = 0.95


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """What the analysis needs to know of a tenant. `slo` is None without any limit."""

    id: str
    weight: float = 1.0
    slo: Slo | None = None


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a phase: a stretch of the run clock. `end_s` is inf while the end is not known.

    Attributes:
        tenants: who offers load in it.
        load: what their rates and concurrency are multiplied by.
    """

    name: str
    start_s: float
    end_s: float
    measured: bool
    tenants: tuple[str, ...]
    load: float = 1.0


def phase_of(part: str) -> str:
    """Name of the phase that a part is of: `solo-chat` for `solo-chat/measure`; an only phase has none."""
    return part.rpartition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The part of the resolved profile that the numbers depend on, and what it wants sampled.

    Attributes:
        slices: of tenants that own a slice of the GPU, its share of the compute.
    """

    tenants: tuple[Tenant, ...]
    fairness_window_s: float = 5.0
    input_weight: float = 1.0
    output_weight: float = 2.0
    gpu_hour_usd: float | None = None
    gpus: int = 1
    slices: Mapping[str, float] = field(default_factory=dict)
    samples_gpu: bool = True
    samples_server: bool = True


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory's content. `info` is `run.json`.

    `locust`: Locust's CSV, None where it is missing, or why it can't be read.
    """

    path: Path
    info: dict[str, Any]
    profile: Profile
    phases: tuple[Phase, ...]
    requests: Requests
    locust: LocustCsv | str | None
    telemetry: Telemetry
    solo: SoloRuns = field(default_factory=SoloRuns)

    @property
    def known_until_s(self) -> float:
        """The end of the run, or the last that is known of one that did not end."""
        ended_s = self.info.get("ended_s")
        return self.requests.last_stamp_ns / 1e9 if ended_s is None or self.state == "running" else float(ended_s)

    @property
    def state(self) -> str:
        """`complete`, `interrupted`, or `running`: still going on, or crashed."""
        return str(self.info.get("state", "running"))


def open_run(path: Path) -> RunDirectory:
    """The run directory at a path. Raises RunDirectoryError when there is none."""
    directory = RunDirectory(path)
    if not path.is_dir():
        raise RunDirectoryError(f"{str(path)!r} is no run directory: there is no such folder")
    if not directory.run_json.exists():
        raise RunDirectoryError(f"{str(path)!r} is no run directory: it has no run.json")
    return directory


def load_run(
    path: Path, progress: Callable[[float], None] = lambda _: None, *, solo: Sequence[Path] | None = None
) -> Run:
    """Read a run directory, complete or not.

    Args:
        solo: run directories in which its tenants were alone, to compare with; None: the one that its `run.json`
            names, if it is there.

    Raises RunDirectoryError when it is none, or one of its files can't be understood, or a solo run is of other work.
    """
    from analysis.solo import read_solo, told_solo  # which reads solo runs by way of this module

    open_run(path)
    directory = RunDirectory(path.resolve())
    info = directory.read_run()
    profile = read_profile(directory.profile)
    alone = read_solo(directory, info, solo) if solo is not None else told_solo(directory, info)
    locust: LocustCsv | str | None
    try:
        locust = read_locust_csv(directory.locust_csv_prefix)
    except RunDirectoryError as error:
        locust = str(error)  # it is beside the point: the records are what is analysed
    return Run(
        path=directory.path,
        info=info,
        profile=profile,
        phases=read_phases(directory.run_json, info),
        requests=read_requests(directory.requests, [tenant.id for tenant in profile.tenants], progress),
        locust=locust,
        telemetry=read_telemetry(directory.path, info.get("telemetry")),
        solo=alone,
    )


def read_profile(path: Path) -> Profile:
    """Only what the numbers need: a run of an engine or a workload unknown here can still be analysed.

    Raises RunDirectoryError when it can't be understood.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        weights = (content.get("fairness") or {}).get("service_weights") or {}
        cost = content.get("cost") or {}
        sampled = content.get("telemetry") or {}
        return Profile(
            tenants=tuple(_tenant(tenant) for tenant in content["tenants"]),
            fairness_window_s=float((content.get("run") or {}).get("fairness_window_s", 5.0)),
            input_weight=float(weights.get("input", 1.0)),
            output_weight=float(weights.get("output", 2.0)),
            gpu_hour_usd=cost.get("gpu_hour_usd"),
            gpus=int(cost.get("gpus", 1)),
            slices=_slices(content.get("deployment") or {}, [str(tenant["id"]) for tenant in content["tenants"]]),
            samples_gpu=sampled.get("nvml") != "never" or bool(sampled.get("dcgm_url") or sampled.get("agent_url")),
            samples_server=sampled.get("server_metrics") != "never",
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunDirectoryError(f"{path} can't be read: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{path} is no resolved profile: {type(error).__name__}: {error}") from error


def _tenant(content: dict[str, Any]) -> Tenant:
    given = content.get("slo") or {}
    limits = {name: given.get(name) for name in ("ttft_ms", "tpot_ms", "e2e_ms")}
    slo = Slo(**limits, attainment=float(given.get("attainment", Slo.attainment)))
    promised = any(limit is not None for limit in limits.values())
    return Tenant(id=str(content["id"]), weight=float(content.get("weight", 1.0)), slo=slo if promised else None)


def _slices(deployment: Mapping[str, Any], tenants: Sequence[str]) -> dict[str, float]:
    """Each tenant's own share of the GPU's compute: sevenths of a MIG slice, or what its cap makes it.

    Only where the profile says it: which MIG profiles a deployment chooses by itself is not known here.
    """
    simulator = deployment.get("simulator") or {}
    if deployment.get("sharing") == "mig":
        named = {tenant: _SEVENTHS.match(str(name)) for tenant, name in (simulator.get("mig") or {}).items()}
        return {tenant: int(found[1]) / 7 for tenant, found in named.items() if found}
    if deployment.get("sharing") == "mig_emulated":
        given = {tenant: float(percent) / 100 for tenant, percent in (simulator.get("sm_percent") or {}).items()}
        others = [tenant for tenant in tenants if tenant not in given]
        left = 1 - sum(given.values())
        return given | dict.fromkeys(others, left / len(others) if others else 0.0)
    return {}


_SEVENTHS = re.compile(r"(?:\d+c\.)?(\d)g\.")


def read_phases(path: Path, info: Mapping[str, Any]) -> tuple[Phase, ...]:
    """The parts of a run that its `run.json`, at this path, names. Raises RunDirectoryError if they are none."""
    try:
        return tuple(
            Phase(
                name=str(phase["name"]),
                start_s=float(phase["start_s"]),
                end_s=math.inf if phase.get("end_s") is None else float(phase["end_s"]),
                measured=bool(phase["measured"]),
                tenants=tuple(phase["tenants"]),
                load=float(phase.get("load", 1.0)),
            )
            for phase in info.get("phases") or []
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{path}: phases can't be understood: {type(error).__name__}: {error}") from error
