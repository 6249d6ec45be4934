"""Runner: makes every run of a matrix that does not count yet. A cell that fails does not stop the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from fairshare_locust.cell import cell_variable
from fairshare_locust.matrix.cells import Cell
from fairshare_locust.matrix.execute import Executor
from fairshare_locust.matrix.state import CellState, MatrixFolder

__all__ = ["Runner", "Watcher"]


class Watcher(Protocol):
    """Is told how a matrix gets on."""

    def begin(self, cell: Cell) -> None:
        """A cell's run begins."""
        ...

    def end(self, cell: Cell, state: CellState, *, now: bool) -> None:
        """What became of a cell; `now`: it was run just now, else it had been before."""
        ...

    def again(self, cells: Sequence[Cell]) -> None:
        """These are run once more."""
        ...

    def cool(self, cooldown_s: float) -> None:
        """Nothing runs for so long."""
        ...


class Runner:
    """Runs cells in their order; `run` may be called again after any end, and goes on where it was."""

    def __init__(
        self,
        experiment: str,
        cells: Sequence[Cell],
        folder: MatrixFolder,
        executor: Executor,
        watcher: Watcher,
        *,
        cooldown_s: float = 0.0,
        again: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`experiment`: its name, for `run.json`; `again`: whether what does not count is run once more."""
        self._experiment = experiment
        self._cells = tuple(cells)
        self._folder = folder
        self._executor = executor
        self._watcher = watcher
        self._cooldown_s = cooldown_s if executor.time == "real" else 0.0
        self._again = again and executor.time == "real"
        self._sleep = sleep
        self._ran = False

    def run(self) -> bool:
        """Make the runs; True if every cell counts.

        In real time cells that failed, or whose run is suspect, are run once more at the end: what disturbed them may
        be over. In virtual time the same would come of it.

        Raises RunDirectoryError when the folder can't be written, KeyboardInterrupt after the end of the run that was
        interrupted.
        """
        missing = [cell for cell in self._cells if not self._run(cell)]
        again = [cell for cell in missing if not cell.refused]
        if again and self._again:
            self._watcher.again(again)
            for cell in again:
                self._run(cell)
        return not self.missing()

    def missing(self) -> list[tuple[Cell, CellState]]:
        """The cells that do not count, and why."""
        states = [(cell, self._folder.state(cell)) for cell in self._cells]
        return [(cell, state) for cell, state in states if state.state != "counted"]

    def runs(self, others: Sequence[Cell] = ()) -> list[Path]:
        """The runs that count, those of tenants alone too, mode by mode; those of `others` that were made before."""
        ours = {cell.id for cell in self._cells if self._folder.state(cell).state == "counted"}
        cells = sorted((*self._cells, *others), key=lambda cell: cell.number)
        counted = [self._folder.counted(cell) for cell in cells if cell.id in ours or cell in others]
        return [run for run in counted if run is not None]

    def _run(self, cell: Cell) -> bool:
        """Run a cell unless it counts already; True if it does now."""
        before = self._folder.state(cell)
        if cell.refused:
            return self._end(cell, CellState("refused", None, cell.refused, None, before.attempts), now=False)
        if (run := self._folder.counted(cell)) is not None:
            name = run.relative_to(self._folder.path).as_posix()
            return self._end(cell, CellState("counted", name, "", before.wall_s, before.attempts), now=False)
        if self._ran and self._cooldown_s:
            self._watcher.cool(self._cooldown_s)
            self._sleep(self._cooldown_s)
        self._ran = True
        profile = self._folder.prepare(cell)
        attempts = before.attempts + 1
        self._folder.note(cell, CellState("running", None, "", before.wall_s, attempts))
        self._watcher.begin(cell)
        begun_s = time.monotonic()
        try:
            failure = self._executor.run(cell, profile, self._folder.log(cell), self._variable(cell))
        except KeyboardInterrupt:
            wall_s = round(time.monotonic() - begun_s, 3)
            self._end(cell, self._folder.judge(cell, wall_s, attempts, "it was interrupted"), now=True)
            raise
        state = self._folder.judge(cell, round(time.monotonic() - begun_s, 3), attempts, failure)
        return self._end(cell, state, now=True)

    def _end(self, cell: Cell, state: CellState, *, now: bool) -> bool:
        if state != self._folder.state(cell):
            self._folder.note(cell, state)
        self._watcher.end(cell, state, now=now)
        return state.state == "counted"

    def _variable(self, cell: Cell) -> str:
        place = {
            "experiment": self._experiment,
            "mode": cell.mode,
            "load_name": cell.load_name,
            "load": cell.load,
            "repeat": cell.repeat,
        }
        return cell_variable(place, self._solo(cell))

    def _solo(self, cell: Cell) -> Path | None:
        """The run that has the cell's tenants alone, as seen from its run directory."""
        alone = next((other for other in self._cells if other.id == cell.solo), None)
        run = None if alone is None else self._folder.counted(alone)
        return None if run is None else Path(os.path.relpath(run, self._folder.of(cell) / "run"))
