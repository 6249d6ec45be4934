"""What a run is told of the matrix that it is a cell of, and what `run.json` says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.errors import FairshareError
from fairshare_locust.record import RunDirectory

__all__ = ["VARIABLE", "cell_keys", "cell_variable", "note_verdict"]

VARIABLE = "FAIRSHARE_CELL"
_KEYS = ("cell", "solo")


def cell_variable(cell: Mapping[str, Any], solo: Path | None) -> str:
    """The value of `VARIABLE` for a run: its place in a matrix, and the run that has its tenants alone."""
    return orjson.dumps({"cell": dict(cell), **({} if solo is None else {"solo": str(solo)})}).decode()


def cell_keys() -> dict[str, Any]:
    """The keys `cell` and `solo` of `run.json`, as the environment has them; none for a run of no matrix.

    `cell`: experiment, mode, load_name, load and repeat. `solo`: path of a run directory, absolute or from this one.

    Raises FairshareError for a variable that can't be understood.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return {}
    try:
        given = orjson.loads(text)
        return {key: given[key] for key in _KEYS if key in given}
    except (orjson.JSONDecodeError, TypeError) as error:
        raise FairshareError(f"{VARIABLE}: found {text!r}; must be what a matrix writes; unset it") from error


def note_verdict(directory: RunDirectory, status: str) -> None:
    """Write the verdict of the analysis, `valid` or `suspect`, into `run.json`.

    The file keeps its time, so that figures made before it are still those of this run.
    """
    before = directory.run_json.stat()
    directory.write_run({**directory.read_run(), "verdict": status})
    os.utime(directory.run_json, ns=(before.st_atime_ns, before.st_mtime_ns))
