"""Run: what a run directory holds, read once and checked at the door."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.requests import Requests, read_requests
from analysis.telemetry import Telemetry, read_telemetry
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RunDirectory

__all__ = [
    "LocustCounts",
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
    """The part of the resolved profile that the numbers depend on, and what it wants sampled."""

    tenants: tuple[Tenant, ...]
    fairness_window_s: float = 5.0
    input_weight: float = 1.0
    output_weight: float = 2.0
    gpu_hour_usd: float | None = None
    gpus: int = 1
    samples_gpu: bool = True
    samples_server: bool = True


@dataclass(frozen=True)
class LocustCounts:
    """Locust's own count of a tenant's requests, and of those that failed."""

    requests: int
    failures: int


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory's content. `info` is `run.json`; `locust` is None where Locust's CSV is missing."""

    path: Path
    info: dict[str, Any]
    profile: Profile
    phases: tuple[Phase, ...]
    requests: Requests
    locust: dict[str, LocustCounts] | None
    telemetry: Telemetry

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


def load_run(path: Path, progress: Callable[[float], None] = lambda _: None) -> Run:
    """Read a run directory, complete or not.

    Raises RunDirectoryError when it is none, or one of its files can't be understood.
    """
    open_run(path)
    directory = RunDirectory(path.resolve())
    info = directory.read_run()
    profile = read_profile(directory.profile)
    return Run(
        path=directory.path,
        info=info,
        profile=profile,
        phases=_phases(directory.run_json, info),
        requests=read_requests(directory.requests, [tenant.id for tenant in profile.tenants], progress),
        locust=_read_locust(directory.path / "locust_stats.csv", [tenant.id for tenant in profile.tenants]),
        telemetry=read_telemetry(directory.path, info.get("telemetry")),
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


def _phases(path: Path, info: dict[str, Any]) -> tuple[Phase, ...]:
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


def _read_locust(path: Path, tenants: list[str]) -> dict[str, LocustCounts] | None:
    """Locust's counts per tenant; its TTFT and TPOT rows are no requests of their own."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            counts = dict.fromkeys(tenants, LocustCounts(0, 0))
            for row in csv.DictReader(file):
                name = row["Name"]
                if name in counts and row["Type"] not in ("TTFT", "TPOT"):
                    counts[name] = LocustCounts(
                        counts[name].requests + int(row["Request Count"]),
                        counts[name].failures + int(row["Failure Count"]),
                    )
            return counts
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{path} can't be read: {error}") from error
