"""The summary as LaTeX: booktabs tables and figures, as an article or in the two columns of IEEEtran."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from analysis.figures import Picture
from analysis.report import phases
from analysis.report.numbers import UNDEFINED, failures_beside_valid, stamp
from analysis.report.tables import Table, tables
from analysis.summary import Summary, emulated_how, simulated_how

__all__ = ["Tex", "document", "escape"]


class Tex(str):
    """LaTeX as it stands: not to be escaped once more."""


_COMMANDS = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # else an option, after the end of a table's row
    "]": "{]}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "²": r"$^{2}$",
    "³": r"$^{3}$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "−": r"$-$",
    "Σ": r"$\Sigma$",
    "∑": r"$\sum$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "°": r"\textdegree{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\dots{}",
    "•": r"\textbullet{}",
    "€": r"\texteuro{}",
    "\xa0": " ",
}
_LETTERS = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßĂăĄąĆćČčĎďĐđĘęĚěĞğİıŁłŃńŇňŐőŒœŔŕŘřŚśŞşŠšŤťŮůŰűŸŹźŻżŽž"
)
"""What the encoding T1 can print beside ASCII."""


def escape(text: str) -> Tex:
    """Text that LaTeX prints as it is. A letter that T1 can't print is told by its code point, such as U+4E2D."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    said = "".join(map(_letter, plain))
    # Two of these in a row would be printed as one other sign.
    return Tex(re.sub(r"(?<=-)(?=-)|(?<=')(?=')|(?<=,)(?=,)", "{}", said))


def _letter(letter: str) -> str:
    if letter in _COMMANDS:
        return _COMMANDS[letter]
    if " " <= letter <= "}" or letter in _LETTERS:
        return letter
    return rf"\texttt{{U+{ord(letter):04X}}}"


def document(summary: Summary, pictures: Iterable[Picture], folder: Path, *, ieee: bool = False) -> str:
    """`report.tex`, or in the style of IEEE's conferences `report-ieee.tex`. Whatever comes from the run is escaped.

    Args:
        folder: where it will stand; the figures are included by their path from there.
    """
    content = summary.content
    run, verdict, window = content["run"], content["verdict"], content["window"]
    drawn = list(pictures)
    words = [f"plan {run['plan']}", f"seed {run['seed']}"]
    if window["start_s"] is not None:
        words.append(f"window {' and '.join(f'{stamp(start)} to {stamp(end)}' for start, end in window['spans'])} s")
    words += filter(None, [simulated_how(run), emulated_how(run)])
    valid = verdict["status"] == "valid"
    passed = f"all {len(verdict['checks'])} checks passed{failures_beside_valid(content['totals'])}."
    return (
        _environment()
        .get_template("report.tex")
        .render(
            ieee=ieee,
            graphics=_graphics(drawn, folder),
            title=str(run["name"]),
            subtitle=" · ".join(words),
            date=_date(run["started_unix_s"]),
            verdict=verdict["status"],
            verdict_said=passed if valid else "read the numbers with this in mind.",
            reasons=verdict["reasons"],
            answer=" ".join(content.get("answer") or ()),
            warnings=content.get("warnings") or [],
            headline=phases.headline(content),
            tables=[_set(table, ieee=ieee) for table in tables(content)],
            pictures=[
                {
                    "file": Tex(picture.path.name),  # a name of ours: nothing in it is to be escaped
                    "title": picture.title,
                    "caption": picture.caption,
                    "key": picture.path.stem.replace("_", "-"),
                }
                for picture in drawn
            ],
            notes=[str(note) for note in run["notes"]],
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "."),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        autoescape=False,  # HTML's; `finalize` is ours
        finalize=lambda value: value if isinstance(value, Tex) else escape(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _date(unix_s: float | None) -> str:
    return "" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"


def _graphics(pictures: Iterable[Picture], folder: Path) -> Tex:
    """The folders of the figures, in LaTeX's own form."""
    folders = sorted({Path(os.path.relpath(picture.path.parent, folder)).as_posix() for picture in pictures})
    return Tex("".join(f"{{{name}/}}" for name in folders) or "{./}")


_WIDE = 30  # letters of a name that still leave room for the numbers
_BREAKS = re.compile(r"(?<=[.\-/:@])|(?<=\\_)")


def _set(table: Table, *, ieee: bool) -> Mapping[str, Any]:
    """A table in LaTeX's words."""
    lines = max(title.count("\n") + 1 for title in table.headings)
    titles = [[*title.split("\n"), *[""] * (lines - title.count("\n") - 1)] for title in table.headings]
    words = [max((len(row[place]) for row in table.rows), default=0) for place in range(table.texts)]
    width = r">{\raggedright\arraybackslash}p{3.4cm}"
    columns = "".join("l" if longest <= _WIDE else width for longest in words)
    return {
        "key": table.key,
        "title": table.title,
        "size": Tex(r"\footnotesize" if ieee or len(table.headings) > 6 else r"\small"),
        "columns": Tex(columns + "r" * (len(table.headings) - table.texts)),
        "headings": [Tex(" & ".join(escape(title[line]) for title in titles)) for line in range(lines)],
        "rows": [
            Tex(" & ".join(_cell(cell, place < table.texts) for place, cell in enumerate(row))) for row in table.rows
        ],
        "total": table.total,
        "notes": " ".join(table.notes),
    }


def _cell(cell: str, text: bool) -> str:
    """Names may be broken where they have a mark; a number has a real minus sign, an undefined one a dash."""
    if text:
        return _BREAKS.sub(r"\\allowbreak{}", escape(cell)) if len(cell) > _WIDE else escape(cell)
    if cell == UNDEFINED:
        return r"\textendash{}"
    return re.sub(r"(?<![\w.)])-(?=\d)", "$-$", escape(cell)).replace(r"\textasciitilde{}", r"$\sim$")
