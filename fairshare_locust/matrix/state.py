"""MatrixFolder: the files of a matrix, and which of its cells have been run. What is on disk is what counts.

<folder>/
    state.json              what became of each cell, for people and programs; written whole
    <cell>/profile.yaml     what it runs
    <cell>/log.txt          what its process printed
    <cell>/<run>/           an ordinary run directory; one that is complete and valid counts
    aside/<cell>/<run>/     runs that do not count: killed half-way, suspect, or of another profile
    comparison.*, figures/  at the end
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.matrix.cells import Cell
from fairshare_locust.record import RunDirectory
from fairshare_locust.record.run_directory import replace_file

__all__ = ["CellState", "MatrixFolder", "Time"]

Time = Literal["virtual", "real"]
_SCHEMA = 1
_LOG_BYTES = 1 << 16


@dataclass(frozen=True)
class CellState:
    """What became of a cell.

    Attributes:
        state: `waiting`; `running`; `counted`: a run that is complete and valid; `suspect`, `failed`: with the reason;
            `refused`: it can't be run.
        run: its run directory, from the matrix's folder.
        wall_s: how long its last run took.
        attempts: how often it has been run.
    """

    state: Literal["waiting", "running", "counted", "suspect", "failed", "refused"] = "waiting"
    run: str | None = None
    reason: str = ""
    wall_s: float | None = None
    attempts: int = 0


class MatrixFolder:
    """The folder of a matrix, held for one process: from its making to `close`."""

    def __init__(self, path: Path, about: Mapping[str, Any], time: Time) -> None:
        """`about`: stands in `state.json`. Raises RunDirectoryError when another matrix holds the folder."""
        self.path = path
        self._about = dict(about)
        self._time = time
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunDirectoryError(
                f"{path}: can't be written: {error.strerror}; name another folder with --out"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 64, 0).decode(errors="replace").strip() or "another process"
            os.close(self._lock)
            raise RunDirectoryError(
                f"{path}: another matrix is at work there (pid {holder}); wait for its end, or name another folder "
                "with --out"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        self.cells: dict[str, CellState] = self._read()

    def close(self) -> None:
        """Let others have the folder."""
        os.close(self._lock)

    # --- state.json

    def _read(self) -> dict[str, CellState]:
        try:
            content = orjson.loads((self.path / "state.json").read_bytes())
            return {name: CellState(**state) for name, state in content["cells"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # attempts and times are lost with it; the runs are found on disk

    def note(self, cell: Cell, state: CellState) -> None:
        """Keep what became of a cell. Raises RunDirectoryError when it can't be written."""
        self.cells[cell.id] = state
        content = {"schema": _SCHEMA, **self._about, "cells": {name: asdict(one) for name, one in self.cells.items()}}
        try:
            replace_file(
                self.path / "state.json", orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            )
        except OSError as error:
            raise RunDirectoryError(
                f"{self.path / 'state.json'}: can't be written: {error.strerror}; free some space"
            ) from error

    def state(self, cell: Cell) -> CellState:
        """What became of a cell, as far as is known."""
        return self.cells.get(cell.id, CellState())

    # --- cells

    def of(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.path / cell.id

    def log(self, cell: Cell) -> Path:
        """What the process of a cell printed."""
        return self.of(cell) / "log.txt"

    def counted(self, cell: Cell) -> Path | None:
        """The run of a cell that counts, if there is one."""
        if not self._same_profile(cell):
            return None
        return next((run for run in self._runs(cell) if not self._doubt(run)), None)

    def _same_profile(self, cell: Cell) -> bool:
        try:
            return (self.of(cell) / "profile.yaml").read_text(encoding="utf-8") == cell.text
        except (OSError, UnicodeDecodeError):
            return False

    def _runs(self, cell: Cell) -> list[Path]:
        """Run directories of a cell, the newest first."""
        with contextlib.suppress(OSError):
            found = [path for path in self.of(cell).iterdir() if path.is_dir() and not path.is_symlink()]
            return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return []

    def _doubt(self, run: Path) -> str:
        """Why a run does not count; "" if it does."""
        try:
            info = RunDirectory(run).read_run()
        except RunDirectoryError:
            return "it has no run.json"
        if info.get("time", "real") != self._time:
            return f"it was made in {info.get('time', 'real')} time"
        if info.get("state") != "complete":
            return "it was killed" if info.get("state") == "running" else f"it was {info.get('state')}"
        if info.get("verdict") != "valid":
            return _reasons(run) if info.get("verdict") else "it has no verdict"
        return ""

    def prepare(self, cell: Cell) -> Path:
        """Make the folder of a cell that is to be run, with its profile; runs that were there are set aside.

        Returns the profile's path. Raises RunDirectoryError when that can't be done.
        """
        try:
            self.of(cell).mkdir(exist_ok=True)
            self.set_aside(cell)
            self.log(cell).unlink(missing_ok=True)
            profile = self.of(cell) / "profile.yaml"
            replace_file(profile, cell.text.encode())
        except OSError as error:
            raise RunDirectoryError(f"{self.of(cell)}: can't be written: {error.strerror}") from error
        return profile

    def set_aside(self, cell: Cell) -> list[Path]:
        """Move every run of a cell out of the way; where they are now. Raises OSError."""
        moved = []
        (self.of(cell) / "latest").unlink(missing_ok=True)
        for run in self._runs(cell):
            target = self.path / "aside" / cell.id / run.name
            target.parent.mkdir(parents=True, exist_ok=True)
            number = 1
            while target.exists():
                number += 1
                target = target.with_name(f"{run.name}-{number}")
            os.replace(run, target)
            moved.append(target)
        return moved

    def sweep(self, cells: Iterator[Cell] | tuple[Cell, ...], *, fresh: bool) -> list[str]:
        """Before a pass: what was killed, or belongs to another profile, is set aside; with `fresh`, everything.

        Returns what there is to tell. Raises RunDirectoryError when that can't be done.
        """
        told = []
        killed = changed = 0
        for cell in cells:
            state = self.state(cell)
            try:
                if self._runs(cell) and (fresh or not self._same_profile(cell)):
                    self.set_aside(cell)
                    changed += not fresh
                    state = CellState()
                elif state.state == "running" and self.counted(cell) is None:
                    self.set_aside(cell)
                    killed += 1
                    state = CellState("failed", None, "it was killed", state.wall_s, state.attempts)
            except OSError as error:
                raise RunDirectoryError(f"{self.of(cell)}: can't be set aside: {error.strerror}") from error
            if state != self.state(cell):
                self.note(cell, state)
        if killed:
            told.append(f"{_counted(killed, 'run')} killed half-way: set aside in {self.path / 'aside'}")
        if changed:
            told.append(
                f"{_counted(changed, 'cell')} of another profile than the experiment has now: set aside in "
                f"{self.path / 'aside'}, and run again"
            )
        return told

    def judge(self, cell: Cell, wall_s: float, attempts: int, failure: str = "") -> CellState:
        """What became of a cell whose process has ended; `failure` is what its process said of it."""
        runs = self._runs(cell)
        if not runs:
            return CellState("failed", None, failure or self.last_words(cell), wall_s, attempts)
        run = runs[0]
        name = run.relative_to(self.path).as_posix()
        doubt = self._doubt(run)
        if not doubt:
            return CellState("counted", name, "", wall_s, attempts)
        with contextlib.suppress(RunDirectoryError):
            info = RunDirectory(run).read_run()
            if info.get("state") == "complete" and info.get("verdict") == "suspect":
                return CellState("suspect", name, doubt, wall_s, attempts)
        return CellState("failed", name, failure or self.last_words(cell) or doubt, wall_s, attempts)

    def last_words(self, cell: Cell) -> str:
        """The last thing that a cell's process said of itself: from its last `fairshare:` on."""
        try:
            with open(self.log(cell), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return "it has left no log"
        ours = [line.removeprefix("fairshare: ").strip() for line in lines if line.startswith("fairshare: ")]
        rest = [line.strip() for line in lines if line.strip()]
        return (ours or rest or ["its log is empty"])[-1]


def _reasons(run: Path) -> str:
    try:
        content = orjson.loads((run / "analysis" / "summary.json").read_bytes())
        return "suspect: " + " ".join(content["verdict"]["reasons"])
    except (OSError, ValueError, KeyError, TypeError):
        return "suspect"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun} was" if number == 1 else f"{number} {noun}s were"
