"""The comparison on a terminal: differences first, one table with modes as columns, then what to choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analysis.compare import cells
from analysis.compare.model import Comparison, Row

__all__ = ["print_comparison"]

_TITLE_WIDTH = 22


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print it, a table per load; where modes do not fit side by side, the rest of them below."""
    for line in comparison.differences:
        console.print(Text(f"differs: {line}"))
    for line in comparison.warnings:
        _print_item("warning: ", line, console)
    for load in comparison.loads:
        if heading := cells.heading(comparison, load):
            console.print()
            console.print(Text(heading, style="bold"))
        for places in _fitting(comparison, comparison.at_load(load), console.width):
            console.print()
            console.print(_table(comparison, places))
    console.print(Text(" ".join(cells.legend(comparison)), style="dim"))
    console.print()
    for line in comparison.recommendation:
        _print_item("", line, console)


def _print_item(prefix: str, line: str, console: Console) -> None:
    console.print(Padding(Text(f"{prefix}{line}"), 0, expand=False))


def _fitting(comparison: Comparison, places: Sequence[int], width: int) -> Iterator[list[int]]:
    """Columns in as many lots as the width asks for."""
    lot: list[int] = []
    used = _TITLE_WIDTH
    for place in places:
        wide = _width(comparison, place) + 2
        if lot and used + wide > width:
            yield lot
            lot, used = [], _TITLE_WIDTH
        lot.append(place)
        used += wide
    if lot:
        yield lot


def _width(comparison: Comparison, place: int) -> int:
    texts = [text for row in comparison.rows for text in _cell(comparison, place, row)]
    return max(map(len, (*texts, *_head(comparison, place).split("\n"))), default=1)


def _cell(comparison: Comparison, place: int, row: Row) -> tuple[str, str]:
    """The figure with its mark, which has a place of its own, and the interval."""
    value = comparison.columns[place].get(row.key)
    return f"{cells.plain(row, value)}{cells.mark(row, place) or ' '}", f"{cells.interval(row, value)} ".lstrip()


def _head(comparison: Comparison, place: int) -> str:
    column = comparison.columns[place]
    label, *rest = cells.header(column)
    words = column.mode if column.load is not None and "(" not in label else label.replace(" (", "\n(")
    return "\n".join((words, *(line.replace(", ", ",\n") for line in rest)))


def _table(comparison: Comparison, places: Sequence[int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", width=_TITLE_WIDTH - 2)
    heads = [_head(comparison, place) for place in places]
    tallest = max(head.count("\n") for head in heads)
    for head in heads:  # modes on one line, what there is to know of them below
        table.add_column(head + "\n" * (tallest - head.count("\n")), justify="right", no_wrap=True)
    for row in comparison.rows:
        texts = []
        for place in places:
            figure, interval = _cell(comparison, place, row)
            text = Text(figure, style="bold" if place in row.best else "")
            texts.append(Text.assemble(text, ("\n" + interval, "dim")) if interval.strip() else text)
        table.add_row(cells.row_title(row), *texts)
    return table
