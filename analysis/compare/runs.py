"""Runs that are to be compared: found in folders, and read as far as a comparison needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from analysis.load import Phase, Profile, load_run, open_run, read_phases, read_profile
from analysis.summary import SCHEMA, summarise
from fairshare_locust import __version__
from fairshare_locust.errors import RunDirectoryError

__all__ = ["Cell", "ComparedRun", "find_runs", "open_compared", "read_content", "solo_of", "split_solo"]


@dataclass(frozen=True)
class Cell:
    """The place of a run in a matrix: its mode, its load and which repeat it is."""

    mode: str
    load_name: str | None
    load: float | None


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run before its numbers are computed.

    Attributes:
        info: `run.json`.
        resolved: `profile.resolved.yaml` as it stands there.
        profile: what the numbers need of it.
        cell: None for a run of no matrix.
        phases: its parts.
    """

    path: Path
    info: Mapping[str, Any]
    resolved: Mapping[str, Any]
    profile: Profile
    cell: Cell | None
    phases: tuple[Phase, ...] = ()

    @property
    def name(self) -> str:
        """The run directory's name."""
        return self.path.name

    @property
    def known_until_s(self) -> float:
        """The end of the run; inf while it is not known."""
        ended_s = self.info.get("ended_s")
        return math.inf if ended_s is None else float(ended_s)

    @property
    def seed(self) -> Any:
        """What its schedules were drawn from."""
        return self.resolved.get("seed", self.info.get("seed"))

    @property
    def sharing(self) -> str:
        """The sharing mode, of the matrix or of its servers; several of them joined by `+`."""
        if self.cell is not None:
            return self.cell.mode
        modes = _each(self.info, "sharing") or [str((self.resolved.get("deployment") or {}).get("sharing", "unknown"))]
        return "+".join(modes)

    @property
    def engine(self) -> str:
        """The engines that served, joined by `+`; "" where none is told."""
        return "+".join(_each(self.info, "engine"))


def _each(info: Mapping[str, Any], key: str) -> list[str]:
    return list(dict.fromkeys(str(server[key]) for server in info.get("servers") or [] if server.get(key)))


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Run directories: those named, and those in the folders named or one level deeper; links to one count once.

    Raises RunDirectoryError for a path that is neither a run directory nor holds any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise RunDirectoryError(f"{str(path)!r} is no run directory: there is no such folder")
        inside = [path] if (path / "run.json").exists() else _inside(path)
        if not inside:
            raise RunDirectoryError(
                f"{str(path)!r} holds no run directory: neither it nor a folder in it has a run.json; name a run "
                "directory, or a folder of some"
            )
        found |= dict.fromkeys(run.resolve() for run in inside)
    return list(found)


def _inside(folder: Path) -> list[Path]:
    runs = []
    for child in sorted(folder.iterdir()):
        if child.is_symlink() or not child.is_dir():
            continue
        if (child / "run.json").exists():
            runs.append(child)
        else:
            runs += [deeper for deeper in sorted(child.iterdir()) if (deeper / "run.json").exists()]
    return runs


def open_compared(path: Path) -> ComparedRun:
    """What a run is, without its requests. Raises RunDirectoryError when that can't be understood."""
    directory = open_run(path)
    info = directory.read_run()
    profile = read_profile(directory.profile)  # says what is wrong with the file, if anything is
    resolved = yaml.safe_load(directory.profile.read_text(encoding="utf-8"))
    cell = _cell(directory.run_json, info)
    return ComparedRun(path.resolve(), info, resolved, profile, cell, read_phases(directory.run_json, info))


def _cell(path: Path, info: Mapping[str, Any]) -> Cell | None:
    given = info.get("cell")
    if given is None:
        return None
    try:
        load = given.get("load")
        return Cell(str(given["mode"]), given.get("load_name"), None if load is None else float(load))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{path}: cell can't be understood: {type(error).__name__}: {error}") from error


def split_solo(runs: Sequence[ComparedRun]) -> tuple[list[ComparedRun], list[ComparedRun]]:
    """The runs to be columns, and those of each tenant alone (plan solo) that they are measured against.

    Where there is nothing but runs of the plan solo, these are compared.
    """
    solo = [run for run in runs if run.info.get("plan") == "solo"]
    shared = [run for run in runs if run.info.get("plan") != "solo"]
    return (shared, solo) if shared else (solo, [])


def solo_of(run: ComparedRun, solo: Sequence[ComparedRun]) -> list[Path]:
    """The solo runs that a run is compared with where its `run.json` names none: the same work, seed and load.

    Those of its own sharing mode if there are any, else those of the others: a tenant alone has the GPU to itself in
    most of them.
    """
    if run.info.get("solo"):
        return []
    fit = [one for one in solo if one.seed == run.seed and _load(one) == _load(run) and _work(one) == _work(run)]
    own = [one for one in fit if one.sharing == run.sharing]
    return [one.path for one in own or fit[:1]]


def _load(run: ComparedRun) -> float | None:
    return run.cell.load if run.cell else None


def _work(run: ComparedRun) -> dict[str, list[Any]]:
    keys = ("api", "model", "workload", "sampling")
    return {str(own.get("id")): [own.get(key) for key in keys] for own in run.resolved.get("tenants") or []}


_NEEDED = ("totals", "tenants", "fairness", "interference", "cost", "timeline", "answer", "warnings")


def read_content(run: ComparedRun, *, reuse: bool, solo: Sequence[Path] = ()) -> dict[str, Any]:
    """The content of a run's summary: with `reuse` as it stands in `analysis/summary.json` if that is up to date.

    Up to date: not older than the records and `run.json`, of this schema, of a run and with the keys of this version,
    and with a comparison with solo runs if there are any.

    Args:
        solo: runs of its tenants alone; without any that which its `run.json` names.

    Raises RunDirectoryError when the run can't be read.
    """
    kept = _kept(run) if reuse else None
    if kept is not None and (kept["interference"] is not None or not solo):
        return kept
    return summarise(load_run(run.path, solo=solo or None)).content


def _kept(run: ComparedRun) -> dict[str, Any] | None:
    path = run.path / "analysis" / "summary.json"
    try:
        made_ns = path.stat().st_mtime_ns
        sources = [run.path / "requests.jsonl", run.path / "run.json", run.path / "profile.resolved.yaml"]
        if any(source.stat().st_mtime_ns > made_ns for source in sources):
            return None
        content = _from_json(orjson.loads(path.read_bytes()))
        own = content["schema"] == SCHEMA and content["run"]["versions"].get("fairshare_locust") == __version__
        whole = all(key in content for key in _NEEDED) and "ci95" in content["totals"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it is computed anew
    return content if own and whole else None


def _from_json(value: Any) -> Any:
    """The string "inf" as the number again."""
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return float("inf") if value == "inf" else value
