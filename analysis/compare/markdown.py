"""`comparison.md`: what to choose, what to know beside, and the table, for a page or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.compare import cells
from analysis.compare.gate import Judgement
from analysis.compare.model import Comparison

__all__ = ["document"]


def document(comparison: Comparison, judgements: Sequence[Judgement] = ()) -> str:
    """The whole file."""
    parts = ["# Comparison", _items(comparison.recommendation)]
    for title, lines in (
        ("Limits", [str(judgement) for judgement in judgements]),
        ("Differences", comparison.differences),
        ("Warnings", comparison.warnings),
    ):
        if lines:
            parts += [f"## {title}", _items(lines)]
    parts.append("## Figures")
    for load in comparison.loads:
        if heading := cells.heading(comparison, load):
            parts.append(f"### {heading}")
        parts.append("\n".join(_table(comparison, comparison.at_load(load))))
    parts += ["  \n".join(map(_escaped, cells.legend(comparison))), "## Runs", _items(_runs(comparison))]
    return "\n\n".join(parts) + "\n"


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def _runs(comparison: Comparison) -> list[str]:
    return [
        f"{column.label}: {', '.join(run + ' (suspect)' * (run in column.suspect) for run in column.runs)}"
        for column in comparison.columns
    ]


def _table(comparison: Comparison, places: Sequence[int]) -> Iterator[str]:
    yield _line(["", *("<br>".join(map(_escaped, cells.header(comparison.columns[place]))) for place in places)])
    yield _line(["---", *("---:" for _ in places)])
    for row in comparison.rows:
        texts = [_escaped(cells.row_title(row))]
        for place in places:
            value = comparison.columns[place].get(row.key)
            figure = _escaped(cells.plain(row, value))
            best, near = place in row.best, place in row.within_noise
            figure = f"**{figure}**" if best else f"{figure} {cells.NEAR}" if near else figure
            between = cells.interval(row, value)
            texts.append(f"{figure}<br>{_escaped(between)}" if between else figure)
        yield _line(texts)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    """Nothing in a name or a path is to be taken for markup."""
    for mark in "\\|*_~<":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
