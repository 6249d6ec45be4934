"""Cells: the figures of a comparison as a reader sees them, on a terminal and in Markdown."""

from __future__ import annotations

from analysis.compare.columns import FIGURES
from analysis.compare.model import EMULATED, Column, Comparison, Row, Value
from analysis.report.numbers import UNDEFINED, number, ratio, share

__all__ = ["BEST", "NEAR", "header", "heading", "interval", "legend", "mark", "plain", "row_title"]

BEST, NEAR = "*", "≈"
_SHARES = ("slo_attainment", "kv_cache_peak")


def plain(row: Row, value: Value) -> str:
    """One figure: `~` before a percentile that too few samples stand behind."""
    text = _text(row, value.value)
    return text if value.certified or value.value is None else f"~{text}"


def interval(row: Row, value: Value) -> str:
    """Its interval as `lo-hi`; "" without one. An end that is open has a `?`."""
    if value.value is None or value.ci95 == (None, None):
        return ""
    low, high = ("?" if bound is None else _text(row, bound) for bound in value.ci95)
    return f"{low}–{high}"


def _text(row: Row, value: float | None) -> str:
    metric, _ = FIGURES.get(row.key, (row.key, None))
    if value is None:
        return UNDEFINED
    if metric in _SHARES:
        return share(value)
    return ratio(value) if row.unit == "" else number(value)


def mark(row: Row, place: int) -> str:
    """Which mark a column has in a row."""
    return BEST if place in row.best else NEAR if place in row.within_noise else ""


def row_title(row: Row) -> str:
    """Label and unit."""
    return f"{row.label}, {row.unit}" if row.unit else row.label


def header(column: Column) -> tuple[str, ...]:
    """Lines above a column: its label, then what a reader has to know of it."""
    lines = [column.label]
    if column.emulated:
        lines.append(EMULATED)
    if column.suspect:
        lines.append("suspect" if len(column.runs) == 1 else f"{len(column.suspect)} of {len(column.runs)} suspect")
    elif len(column.runs) > 1:
        lines.append(f"{len(column.runs)} runs")
    return tuple(lines)


def heading(comparison: Comparison, load: float | None) -> str:
    """What stands above the table of one load; "" where there are no loads."""
    if load is None:
        return ""
    name = comparison.columns[comparison.at_load(load)[0]].load_name or "load"
    return f"{name} {load:g}"


def legend(comparison: Comparison) -> list[str]:
    """What the marks say, as far as there are any, and what every figure is."""
    lines = ["TTFT and e2e count from when a request was due. Below each figure its 95% interval."]
    if any(row.best for row in comparison.rows):
        near = f"; {NEAR} within noise of it" if any(row.within_noise for row in comparison.rows) else ""
        lines.append(f"{BEST} best{near}.")
    if any(not value.certified for column in comparison.columns for value in column.values.values()):
        lines.append("~ indicative: too few samples.")
    if any(len(column.runs) > 1 for column in comparison.columns):
        lines.append("Of repeats: the mean of the runs, with its t interval.")
    kinds = {column.simulated for column in comparison.columns}
    if len(kinds) == 1 and (kind := kinds.pop()):
        lines.append(f"All figures: {kind}.")
    return lines
