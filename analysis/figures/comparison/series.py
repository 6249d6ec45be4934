"""The columns of a comparison as lines: one per mode, a point per load, with the words that name them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.compare.model import EMULATED, Column, Comparison
from analysis.figures.style import FIXED_MODES, mode_line, shown

__all__ = ["Series", "headline", "load_of", "load_title", "make_series", "several_loads"]

_LETTERS = 30
_LOADS = {
    "scale": "load [times the profile's rates and concurrency]",
    "concurrency": "concurrency [requests in flight]",
    "rate_per_s": "request rate [1/s]",
}


@dataclass(frozen=True)
class Series:
    """Columns that one line joins, in ascending load; alone where there is but one load.

    Attributes:
        name: what a legend calls it: the mode, or the column's label where modes repeat.
        columns: at least one.
        line: colour, dashes and marker.
    """

    name: str
    columns: tuple[Column, ...]
    line: dict[str, Any]

    @property
    def label(self) -> str:
        """The name with the number of runs behind it, and what a reader must not miss."""
        runs = sum(len(column.runs) for column in self.columns)
        emulated = f", {EMULATED}" if any(column.emulated for column in self.columns) else ""
        return f"{shown(self.name, _LETTERS)}{emulated} (n = {runs} run{'s' if runs > 1 else ''})"


def several_loads(comparison: Comparison) -> bool:
    """Whether some mode ran at more than one load, so that there is a line to draw."""
    loads: dict[str, set[float]] = defaultdict(set)
    for column in comparison.columns:
        if column.load is not None:
            loads[column.mode].add(column.load)
    return any(len(some) > 1 for some in loads.values())


def make_series(comparison: Comparison) -> list[Series]:
    """One per mode, in the order they appear. Columns of one mode and load that differ otherwise stand apart."""
    grouped: dict[tuple[str, int], list[Column]] = defaultdict(list)
    met: Counter[tuple[str, float | None]] = Counter()
    for column in comparison.columns:
        turn = met[column.mode, column.load]
        met[column.mode, column.load] += 1
        grouped[column.mode, turn].append(column)
    repeated = {mode for mode, turn in grouped if turn}
    others = [key for key in grouped if key[0] not in FIXED_MODES or key[1]]
    every = []
    for (mode, turn), columns in grouped.items():
        line = mode_line("", others.index((mode, turn))) if (mode, turn) in others else mode_line(mode)
        columns.sort(key=lambda column: (column.load is not None, column.load or 0.0))
        name = mode if mode not in repeated else columns[0].label if len(columns) == 1 else f"{mode} ({turn + 1})"
        every.append(Series(name, tuple(columns), line))
    return every


def load_of(comparison: Comparison, column: Column) -> float | None:
    """Where a column stands on the axis of loads: requests in flight where every column keeps up a number of them."""
    return column.fixed_concurrency if _concurrency(comparison) else column.load


def load_title(comparison: Comparison) -> str:
    """What that axis is of."""
    if _concurrency(comparison):
        return _LOADS["concurrency"]
    names = {column.load_name for column in comparison.columns if column.load_name is not None}
    return _LOADS.get(names.pop(), "load") if len(names) == 1 else "load"


def _concurrency(comparison: Comparison) -> bool:
    return all(column.fixed_concurrency is not None for column in comparison.columns)


def headline(comparison: Comparison) -> str:
    """What is compared, whether it was simulated, and how many runs are suspect."""
    columns = comparison.columns
    runs = sum(len(column.runs) for column in columns)
    suspect = sum(len(column.suspect) for column in columns)
    loads = len({column.load for column in columns})
    words = [
        f"{_counted(len({column.mode for column in columns}), 'mode')}",
        _counted(loads, "load") if loads > 1 else None,
        _counted(runs, "run"),
        _simulated(columns),
        f"{_counted(suspect, 'run')} suspect" if suspect else None,
    ]
    return " · ".join(filter(None, words))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _simulated(columns: Sequence[Column]) -> str | None:
    how = {column.simulated for column in columns}
    if len(how) == 1:
        return how.pop()
    return f"in part {', '.join(sorted(one for one in how if one is not None))}"
