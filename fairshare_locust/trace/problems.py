"""Problems: what is wrong in a file, line by line, told all at once."""

from __future__ import annotations

from pathlib import Path

from fairshare_locust.errors import WorkloadError

__all__ = ["Problems", "found"]

_SHOWN = 20
_LONGEST = 60


def found(value: object, allowed: str) -> str:
    """What stands there, cut short if it is long, and what may."""
    text = repr(value)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return f"found {text}; must be {allowed}"


class Problems:
    """Faults found in a file. The first ones, by line, are kept to be shown; the others are counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: list[tuple[int, str]] = []
        self.count = 0

    def add(self, line: int, problem: str) -> None:
        """A fault in a line, counted from 1. Lines come in order."""
        self.count += 1
        if len(self._first) < _SHOWN:
            self._first.append((line, problem))

    def refuse(self) -> None:
        """Raises WorkloadError if there are any."""
        if self.count:
            more = f"\nand {self.count - _SHOWN} more" if self.count > _SHOWN else ""
            raise WorkloadError("\n".join(f"{self._path}:{line}: {text}" for line, text in self._first) + more)
