"""The summary as Markdown, for an issue, a wiki or a pull request: figures as links beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from analysis.figures import Picture
from analysis.report import phases
from analysis.report.numbers import failures_beside_valid, stamp
from analysis.report.tables import tables
from analysis.summary import Summary, emulated_how, simulated_how

__all__ = ["document", "escape", "table"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$!])")
_AT_THE_START = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|[-+=](?=[\s=-]|$))")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, in a table's cell or within a line.

    Line breaks and other blanks become one space each; `|`, `*`, `_` and their like get a backslash, `<` is `&lt;`.
    """
    plain = "".join(_ENTITIES.get(letter, letter) for letter in " ".join(text.split()))
    return _SPECIAL.sub(r"\\\1", plain)


def _line(text: str) -> str:
    """The same at the start of a line, where a number or a dash would begin a list."""
    plain = escape(text)
    start = _AT_THE_START.match(plain)
    if start is None:
        return plain
    number = start[0]
    return f"{number}\\{plain[len(number) :]}" if number[0].isdigit() else f"\\{plain}"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]], texts: int | None = None) -> str:
    """A table of cells that are Markdown already.

    Args:
        texts: so many columns from the left are words, the others numbers, which stand to the right; None: all words.
    """
    titles = list(headings)
    words = len(titles) if texts is None else texts
    rule = ["---" if place < words else "---:" for place in range(len(titles))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, rule, *rows))


def document(summary: Summary, pictures: Iterable[Picture], folder: Path) -> str:
    """`report.md`. Whatever comes from the run is escaped.

    Args:
        folder: where it will stand; the figures' links are relative to it.
    """
    return "\n".join(_blocks(summary.content, pictures, folder))


def _blocks(content: dict[str, Any], pictures: Iterable[Picture], folder: Path) -> Iterator[str]:
    run, window = content["run"], content["window"]
    yield f"# {escape(str(run['name']))}\n"
    words = [f"plan {run['plan']}", f"seed {run['seed']}"]
    if window["start_s"] is not None:
        words.append(f"window {' and '.join(f'{stamp(start)} to {stamp(end)}' for start, end in window['spans'])} s")
    words += filter(None, [simulated_how(run), emulated_how(run)])
    yield f"{_line(' · '.join(words))}\n"
    yield _verdict(content)
    if content.get("answer"):
        yield f"{' '.join(map(_line, content['answer']))}\n"
    warnings = content.get("warnings")
    if warnings:
        yield "".join(f"- warning: {escape(warning)}\n" for warning in warnings)
    headline = phases.headline(content)
    if headline:
        yield f"Figures from {escape(headline)}.\n"
    for one in tables(content):
        yield f"## {escape(one.title)}\n"
        rows = [[escape(cell) for cell in row] for row in one.rows]
        if one.total:
            rows[-1] = [f"**{cell}**" for cell in rows[-1]]
        yield table(map(escape, one.headings), rows, one.texts)
        if one.notes:
            yield f"{' '.join(map(_line, one.notes))}\n"
    for picture in pictures:
        link = Path(os.path.relpath(picture.path, folder)).as_posix()
        yield f"## {escape(picture.title)}\n"
        yield f"![{escape(picture.title)}](<{link}>)\n"
        yield f"{_line(picture.caption)}\n"
    if run["notes"]:
        yield "".join(f"- note: {escape(str(note))}\n" for note in run["notes"])
    yield "What each number means: `python -m analysis metrics`.\n"


def _verdict(content: dict[str, Any]) -> str:
    verdict = content["verdict"]
    if verdict["status"] == "valid":
        said = f"all {len(verdict['checks'])} checks passed{failures_beside_valid(content['totals'])}"
        return f"**valid**: {said}\n"
    reasons = "".join(f"- {_line(reason)}\n" for reason in verdict["reasons"])
    return f"**suspect**: read the numbers with this in mind\n\n{reasons}"
