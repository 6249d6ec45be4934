"""An executor that only writes what a run leaves behind, and may be killed, or interrupted, at any point of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.cell import note_verdict
from fairshare_locust.matrix.cells import Cell
from fairshare_locust.matrix.state import CellState, Time
from fairshare_locust.record import RunDirectory

POINTS = ("before", "begun", "ended", "analysed")
Verdict = Callable[[Cell], str]


class Killed(BaseException):
    """Nobody gets to do anything after it."""


class Fake:
    """See `Executor`. `stops`: where to be stopped, as (point, error), for each run; None: not at all.

    Attributes:
        ran: ids of the cells, in order, each time that its run has begun.
        solos: of each, what its variable said.
    """

    def __init__(
        self,
        time: Time = "virtual",
        stops: Iterator[tuple[str, type[BaseException]] | None] = iter(()),  # noqa: B008
        verdict: Verdict = lambda _: "valid",
        failure: Callable[[Cell], str] = lambda _: "",
    ) -> None:
        self.time = time
        self.ran: list[str] = []
        self.solos: dict[str, Path | None] = {}
        self._stops = stops
        self._verdict = verdict
        self._failure = failure

    def run(self, cell: Cell, profile: Path, log: Path, variable: str) -> str:
        """As the real ones do: a new run directory, its run.json again and again, then the verdict."""
        stop = next(self._stops, None)

        def at(point: str) -> None:
            if stop is not None and stop[0] == point:
                raise stop[1]

        told: dict[str, Any] = orjson.loads(variable)
        self.ran.append(cell.id)
        at("before")
        if failure := self._failure(cell):
            log.write_text(f"fairshare: {failure}\n")
            return failure
        directory = RunDirectory.create(profile.parent, cell.profile.name)
        self.solos[cell.id] = directory.path / told["solo"] if "solo" in told else None
        content = {"schema": 1, "time": self.time, **told}
        directory.write_run({**content, "state": "running"})
        at("begun")
        directory.write_run({**content, "state": "complete"})
        at("ended")
        summary = directory.path / "analysis" / "summary.json"
        summary.parent.mkdir()
        summary.write_bytes(orjson.dumps({"verdict": {"reasons": [f"{cell.id} was slow; run it alone."]}}))
        note_verdict(directory, self._verdict(cell))
        at("analysed")
        return ""

    def close(self) -> None:
        """Nothing runs."""


class Notes:
    """See `Watcher`: keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, bool]] = []
        self.cooled: list[float] = []

    def begin(self, cell: Cell) -> None:
        """See `Watcher`."""

    def end(self, cell: Cell, state: CellState, *, now: bool) -> None:
        """See `Watcher`."""
        self.ended.append((cell.id, state.state, now))

    def again(self, cells: Sequence[Cell]) -> None:
        """See `Watcher`."""

    def cool(self, cooldown_s: float) -> None:
        """See `Watcher`."""
        self.cooled.append(cooldown_s)
