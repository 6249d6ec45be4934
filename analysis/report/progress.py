"""ProgressBar: shows how far a report is, once it turns out to take longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

__all__ = ["ProgressBar"]

_SHOWN_AFTER_S = 1.0


class ProgressBar:
    """A bar that moves when it is told to; it needs no thread, so it also moves inside an event loop.

    Without a console it stays silent.
    """

    def __init__(self, console: Console | None) -> None:
        self._begun_s = time.monotonic()
        self._bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                console=console,
                auto_refresh=False,
                transient=True,
            )
            if console is not None
            else None
        )
        self._task = self._bar.add_task("", total=1.0) if self._bar else None
        self._shown = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar and self._shown:
            self._bar.stop()

    def stage(self, description: str, start: float, end: float) -> Callable[[float], None]:
        """A function that takes the share of one stage that is done; the stage fills the bar from start to end."""
        self._move(description, start)
        return lambda share: self._move(description, start + share * (end - start))

    def _move(self, description: str, done: float) -> None:
        if self._bar is None or self._task is None:
            return
        if not self._shown and time.monotonic() - self._begun_s > _SHOWN_AFTER_S:
            self._bar.start()
            self._shown = True
        self._bar.update(self._task, completed=done, description=description, refresh=self._shown)
