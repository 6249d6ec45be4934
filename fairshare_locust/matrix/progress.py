"""Progress of a matrix: a bar with the time left on a terminal, else a line per cell."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fairshare_locust.matrix.cells import Cell, planned_s
from fairshare_locust.matrix.state import CellState, Time

__all__ = ["MatrixProgress", "TimeLeft", "duration"]

_AROUND_A_RUN_S = 20.0  # servers start and stop, a report is built: until the first run has told how long it takes


class TimeLeft:
    """How long the rest of a matrix takes: as long, per second that is planned, as what has been run so far."""

    def __init__(self, cells: Sequence[Cell], kind: Time, cooldown_s: float) -> None:
        self._weights = {cell.id: planned_s(cell) + _AROUND_A_RUN_S for cell in cells}
        self._left = dict(self._weights)
        self._done = self._took_s = 0.0
        self._virtual = kind == "virtual"
        self._cooldown_s = cooldown_s

    def ended(self, cell: Cell, wall_s: float | None) -> None:
        """A cell needs no more time; `wall_s`: what its run took, if there was one."""
        weight = self._left.pop(cell.id, None)
        if weight is not None and wall_s is not None:
            self._done += weight
            self._took_s += wall_s

    def again(self, cells: Sequence[Cell]) -> None:
        """These are run once more."""
        self._left |= {cell.id: self._weights[cell.id] for cell in cells}

    def seconds(self) -> float | None:
        """An estimate; None while nothing is known."""
        if not self._done:
            return None if self._virtual and self._left else self._planned()
        return sum(self._left.values()) * self._took_s / self._done + self._cooldown_s * len(self._left)

    def _planned(self) -> float:
        return sum(self._left.values()) + self._cooldown_s * len(self._left)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class MatrixProgress:
    """Tells of each cell. To be closed."""

    def __init__(self, cells: Sequence[Cell], left: TimeLeft, console: Console) -> None:
        self._console = console
        self._left = left
        self._total = len(cells)
        self._done = self._before = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=len(cells), left="")
            self._bar.start()

    def close(self) -> None:
        """Take the bar away, and say how many had been run before."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def tell(self, text: str, style: str = "") -> None:
        """A line of ours."""
        line = f"fairshare: {escape(text)}"
        self._console.print(f"[{style}]{line}[/]" if style else line, highlight=False, soft_wrap=True)

    def begin(self, cell: Cell) -> None:
        """See `Watcher`."""
        if self._done == self._before and self._before:
            self.tell(f"{self._before} of {self._total} had been run before")
            self._before = -1
        self._show(cell.title)

    def end(self, cell: Cell, state: CellState, *, now: bool) -> None:
        """See `Watcher`."""
        self._left.ended(cell, state.wall_s if now else None)
        self._done = min(self._total, self._done + 1)
        if not now and state.state == "counted":
            self._before += self._before >= 0
        else:
            took = f" ({duration(state.wall_s or 0.0)})" if now else ""
            why = f": {state.reason}" if state.reason else ""
            word = "valid" if state.state == "counted" else state.state
            head = f"{self._done}/{self._total} {cell.title}: {word}{took}"
            self.tell(f"{head}{why}{self._and_left()}", "" if state.state == "counted" else "yellow")
        self._show("")

    def again(self, cells: Sequence[Cell]) -> None:
        """See `Watcher`."""
        self._left.again(cells)
        self._done -= len(cells)
        self.tell(f"{len(cells)} that failed or are suspect are run once more")

    def cool(self, cooldown_s: float) -> None:
        """See `Watcher`."""
        self._show(f"cooling down for {cooldown_s:g} s")

    def _and_left(self) -> str:
        left_s = self._left.seconds()
        return "" if self._bar is not None or not left_s else f"; about {duration(left_s)} left"

    def _show(self, what: str) -> None:
        if self._bar is None:
            return
        left_s = self._left.seconds()
        left = "" if left_s is None else f"about {duration(left_s)} left"
        self._bar.update(self._task, completed=self._done, description=escape(what), left=left)
