"""Published: what of a run is sent to a service that keeps runs. Pure; no service is known here."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from analysis.report.tables import Table, tables
from fairshare_locust.errors import FairshareError, RunDirectoryError

__all__ = ["Published", "flat_metrics", "library", "published"]

_PARTS = ("tenants", "totals", "fairness", "interference", "steady", "gpu", "cost")
_LEFT_OUT = frozenset({"ci95", "certified", "series", "matrix", "devices", "processes", "timeline"})
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_\-. :]")
_DOCUMENTS = (
    "summary.json",
    "summary.csv",
    "report.html",
    "report.md",
    "report.tex",
    "report-ieee.tex",
    "requests.parquet",
    "timeseries.parquet",
)


def library(name: str) -> Any:
    """A service's library, which is also the name of our extra. Raises FairshareError when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FairshareError(
            f"publishing to {name} needs its library, which is not installed; pip install 'fairshare-locust[{name}]'"
        ) from error


@dataclass(frozen=True)
class Published:
    """A run as services take it.

    Attributes:
        name: of the run's directory.
        metrics: finite numbers by a flat name such as `tenants/chat/ttft_ms/p99`; undefined and inf are not there.
        settings: what was run, as text.
        documents: report, summary and tables, as files.
        figures: pictures, as PNG files.
    """

    name: str
    metrics: Mapping[str, float]
    settings: Mapping[str, str]
    tables: tuple[Table, ...]
    documents: tuple[Path, ...]
    figures: tuple[Path, ...]


def published(run: Path) -> Published:
    """What the last report of a run directory left there.

    Raises RunDirectoryError when there is none.
    """
    folder = run.resolve()
    path = folder / "analysis" / "summary.json"
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunDirectoryError(f"{path} is missing; run `python -m analysis report {run}` first") from error
    except (OSError, orjson.JSONDecodeError) as error:
        raise RunDirectoryError(
            f"{path} can't be read: {error}; run `python -m analysis report {run}` again"
        ) from error
    if "tenants" not in content or "verdict" not in content:
        raise RunDirectoryError(f"{path} has no tenants: there is nothing to publish of a run without its records")
    finite = _finite(content)
    return Published(
        name=folder.name,
        metrics=flat_metrics(finite),
        settings=_settings(content),
        tables=tuple(tables(finite)),
        documents=tuple(found for name in _DOCUMENTS if (found := folder / "analysis" / name).is_file()),
        figures=tuple(sorted((folder / "figures").glob("*.png"))),
    )


def _finite(value: Any) -> Any:
    """What `summary.json` holds as "inf" as that number again."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return math.inf if value == "inf" else value


def flat_metrics(content: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of tenants, totals, fairness, interference, steady state, GPU and cost, by flat names.

    Intervals, series and marks stay in the tables and in `summary.json`. Services forbid some letters in a name: each
    becomes `_`, and of names that are the same then, the later ones get a number.
    """
    flat: dict[str, float] = {}
    for part in _PARTS:
        for name, value in _walk(content.get(part), part):
            free, again = name, 2
            while free in flat:
                free, again = f"{name}-{again}", again + 1
            flat[free] = value
    return flat


def _walk(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _LEFT_OUT:
                yield from _walk(item, f"{name}/{_FORBIDDEN.sub('_', key)}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield name, float(value)


def _settings(content: Mapping[str, Any]) -> dict[str, str]:
    run = content["run"]
    named = {name: run[name] for name in ("name", "plan", "seed", "state", "simulated", "time")}
    versions = {f"version_{_FORBIDDEN.sub('_', name)}": value for name, value in (run["versions"] or {}).items()}
    sharing = ", ".join(sorted({str(server["sharing"]) for server in run["servers"] if server.get("sharing")}))
    return {
        key: str(value)
        for key, value in {
            **named,
            "sharing": sharing or None,
            "verdict": content["verdict"]["status"],
            **versions,
        }.items()
        if value is not None
    }
