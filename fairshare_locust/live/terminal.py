"""The live figures on a terminal: a table that stays in its place, or a few lines each 10 s for a log."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["TerminalLines", "TerminalTable", "TerminalView", "terminal_view"]

_EVERY_S = 10.0
_TITLES_EVERY = 6  # blocks of lines
_UNDEFINED = "-"
_WIDEST_NAME = 14

_COLUMNS = (
    "in flight",
    "waiting",
    "offered/s",
    "ok/s",
    "tokens/s",
    "TTFT p50",
    "p99 ms",
    "TPOT ms",
    "SLO met",
    "failed",
)
_WIDTHS = (9, 7, 9, 6, 8, 8, 7, 7, 7, 6)
_LEFT_OUT = ("waiting", "offered/s")
_ALL_FIT = 100  # columns


class TerminalView(Protocol):
    """What shows a run while it goes on."""

    def show(self, snapshot: Mapping[str, Any]) -> None:
        """Show these figures, if it is time to; to be called once a second."""

    def close(self) -> None:
        """Show nothing more, and leave the cursor below. Safe to call twice."""


def terminal_view(console: Console | None = None) -> TerminalView:
    """A table on a terminal, lines for anything else. Prints nothing yet."""
    console = console or Console(highlight=False)
    return TerminalTable(console) if console.is_terminal and not console.is_dumb_terminal else TerminalLines(console)


class TerminalLines:
    """Every 10 s of the run a line about it and one for each tenant, at most 100 characters wide."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0
        self._blocks = 0

    def show(self, snapshot: Mapping[str, Any]) -> None:
        """See TerminalView."""
        tens = math.floor(snapshot["t_s"] / _EVERY_S)
        if tens <= self._shown:
            return
        self._shown = tens
        self._print(_head(snapshot))
        rows = list(_rows(snapshot))
        wide = _name_width(rows)
        if self._blocks % _TITLES_EVERY == 0:
            self._print("  " + _line("last 10 s", _COLUMNS, wide))
        self._blocks += 1
        for name, cells in rows:
            self._print("  " + _line(name, cells, wide))

    def close(self) -> None:
        """See TerminalView."""

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()


class TerminalTable:
    """A table that is drawn anew each second, and gone at the end; what is printed meanwhile stands above it.

    It is drawn by `show` alone: no thread of rich's, which would be a greenlet among those of the load.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="ellipsis")
        self._closed = False

    def show(self, snapshot: Mapping[str, Any]) -> None:
        """See TerminalView."""
        if self._closed:
            return
        if not self._live.is_started:
            self._live.start()
        self._live.update(_table(snapshot, self._live.console.width), refresh=True)

    def close(self) -> None:
        """See TerminalView."""
        self._closed = True
        if self._live.is_started:
            self._live.update(Text(), refresh=True)  # else its last drawing is printed in full, however long
            self._live.stop()


def _table(snapshot: Mapping[str, Any], width: int) -> Text:
    """As lines, which rich draws many times faster than its tables.

    Narrow terminals go without the columns that matter least; nothing is cut from 80 columns on.
    """
    chosen = [title not in _LEFT_OUT or width >= _ALL_FIT for title in _COLUMNS]
    rows = list(_rows(snapshot))
    wide = _name_width(rows)
    lines = [(_head(snapshot), "bold"), (_line("last 10 s", _COLUMNS, wide, chosen), "bold")]
    for place, (name, cells) in enumerate(rows, 1):
        lines.append((_line(name, cells, wide, chosen), "bold" if len(rows) > 1 and place == len(rows) else ""))
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, (line, style) in enumerate(lines):
        text.append("\n" * (number > 0) + line, style=style)
    return text


def _head(snapshot: Mapping[str, Any]) -> str:
    fairness, health, telemetry = snapshot["fairness"], snapshot["health"], snapshot["telemetry"]
    words = [f"fairshare: t = {max(0.0, snapshot['t_s']):5.1f} s", str(snapshot["phase"] or snapshot["state"])[:20]]
    if fairness["jain_throughput"] is not None:
        words.append(f"Jain {fairness['jain_throughput']:.3f}")
    if telemetry["kv_cache_usage"] is not None:
        words.append(f"KV cache {telemetry['kv_cache_usage']:.0%}")
    if health["event_loop_lag_ms_p99"] is not None:
        words.append(f"loop lag p99 {_number(health['event_loop_lag_ms_p99'])} ms")
    return "  ".join(words)


def _rows(snapshot: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Name and cells of each tenant, and of their total if there are several."""
    for entry in snapshot["tenants"]:
        yield entry["id"], _cells(entry)
    if len(snapshot["tenants"]) > 1:
        yield "total", _cells(snapshot["total"])


def _cells(entry: Mapping[str, Any]) -> Sequence[str]:
    """The last 10 s; in flight and waiting now, failures of the whole run."""
    window = entry["window"]
    attainment = window["slo_attainment"]
    return (
        f"{entry['in_flight']:,}",
        f"{entry['waiting']:,}",
        _number(window["offered_per_s"]),
        _number(window["requests_per_s"]),
        _number(window["output_tokens_per_s"]),
        _number(window["ttft_ms"]["p50"]),
        _number(window["ttft_ms"]["p99"]),
        _number(window["tpot_ms"]["p50"]),
        _UNDEFINED if attainment is None else f"{math.floor(attainment * 1000) / 10:.1f}%",
        f"{sum(entry['whole']['failed'].values()):,}",
    )


def _name_width(rows: Sequence[tuple[str, Sequence[str]]]) -> int:
    return min(_WIDEST_NAME, max(len(name) for name in ("last 10 s", *(name for name, _ in rows))))


def _line(name: str, cells: Sequence[str], wide: int, chosen: Sequence[bool] = (True,) * len(_COLUMNS)) -> str:
    short = name if len(name) <= wide else name[: wide - 1] + "…"
    columns = zip(compress(cells, chosen), compress(_WIDTHS, chosen), strict=True)
    return f"{short:<{wide}}" + "".join(f" {cell:>{width}}" for cell, width in columns)


def _number(value: float | None) -> str:
    """About three digits that matter."""
    if value is None:
        return _UNDEFINED
    return f"{value:,.0f}" if value >= 99.95 or value == 0 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"
