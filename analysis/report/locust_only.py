"""The report of a folder that holds only Locust's CSV: files, page and terminal."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.figures import Picture
from analysis.locust_only import LocustOnly, describe
from analysis.report import markdown, numbers
from analysis.report.environment import environment
from analysis.report.locust import users_line
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record.run_directory import replace_file

__all__ = ["build_locust_report"]

_COLUMNS = ("50%", "95%", "99%", "99.9%")
_LINES = 10
_NAME_SHOWN = 12
_HOW_TO_READ = (
    "Counts, means and percentiles are over the whole run, as Locust wrote them; response times count from sending, "
    "failed requests included. Mean, least and largest are exact; percentiles come from Locust's buckets, which have "
    "two significant digits above 100 ms, and say nothing finer. TTFT and TPOT rows are no requests of their own."
)


def build_locust_report(prefix: Path, *, console: Console | None) -> LocustOnly:
    """Read, compute, write `analysis/` and `figures/` beside the files, and print the table.

    Args:
        prefix: of Locust's files, as `csv_prefix` finds it.
        console: where the table goes; None prints nothing.

    Raises RunDirectoryError when a file can't be read or written.
    """
    summary = describe(prefix)
    folder = prefix.parent
    report = folder / "analysis" / "report.html"
    try:
        report.parent.mkdir(exist_ok=True)
        picture = _draw(summary, folder)
        replace_file(report.with_name("summary.json"), _json(summary))
        replace_file(report.with_name("report.md"), _document(summary.content, picture).encode())
        replace_file(report, _page(summary.content, picture).encode())
    except OSError as error:
        raise RunDirectoryError(
            f"{error.filename or folder} can't be written: {error.strerror}; make room or mend its permissions"
        ) from error
    if console is not None:
        _print(summary.content, report, console)
    return summary


def _json(summary: LocustOnly) -> bytes:
    return orjson.dumps(summary.content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _draw(summary: LocustOnly, folder: Path) -> Picture | None:
    """The figure; None without a history."""
    if summary.start_unix_s is None:
        return None
    from analysis.figures import locust_only as figure  # matplotlib loads here
    from analysis.figures import style

    (folder / "figures").mkdir(exist_ok=True)
    path = folder / "figures" / f"{figure.NAME}.png"
    with style.applied():
        style.save(figure.draw(summary), path)
    return Picture(path, figure.TITLE, figure.CAPTION)


def _names(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Each name's row, and that of all together."""
    rows: list[dict[str, Any]] = content["names"]
    return rows if content["total"] is None else [*rows, content["total"]]


def _columns(content: dict[str, Any]) -> list[str]:
    """The percentiles to show, of those that there are."""
    return [name for name in _COLUMNS if any(name in row["percentiles_rounded_ms"] for row in _names(content))]


def _page(content: dict[str, Any], picture: Picture | None) -> str:
    """`report.html`, self-contained. Whatever comes from the files is escaped."""
    image = None
    if picture is not None:
        data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
        image = {"title": picture.title, "caption": picture.caption, "data": data}
    return (
        environment()
        .get_template("locust_only.html")
        .render(
            **{**content, "names": _names(content)},
            columns=_columns(content),
            how_to_read=_HOW_TO_READ,
            users_line=users_line(content["users"]),
            picture=image,
        )
    )


def _titles(columns: list[str]) -> list[str]:
    rounded = [f"p{name[:-1]} ms, rounded" for name in columns]
    return ["name", "type", "requests", "failed", "requests/s", "mean ms", "largest ms", *rounded]


def _cells(row: dict[str, Any], columns: list[str]) -> list[str]:
    return [
        row["name"],
        row["type"] or numbers.UNDEFINED,
        numbers.count(row["requests"]),
        numbers.count(row["failures"]),
        numbers.number(row["requests_per_s"]),
        numbers.number(row["mean_ms"]),
        numbers.number(row["max_ms"]),
        *(numbers.count(row["percentiles_rounded_ms"].get(name)) for name in columns),
    ]


def _document(content: dict[str, Any], picture: Picture | None) -> str:
    """`report.md`. Whatever comes from the files is escaped."""
    return "\n".join(_blocks(content, picture))


def _blocks(content: dict[str, Any], picture: Picture | None) -> Iterator[str]:
    escape, columns = markdown.escape, _columns(content)
    yield f"# {escape(content['folder'])}\n"
    yield f"Only Locust's CSV ({escape(content['prefix'])}\\_stats.csv) is in this folder.\n"
    for warning in content["warnings"]:
        yield f"Warning: {escape(warning)}.\n"
    rows = ([escape(cell) for cell in _cells(row, columns)] for row in _names(content))
    yield markdown.table(_titles(columns), rows, 2)
    yield f"{_HOW_TO_READ}\n"
    users = users_line(content["users"])
    if users:
        yield f"{users}.\n"
    if picture is not None:
        yield f"![{picture.title}](../figures/{picture.path.name})\n\n{picture.caption}\n"
    if content["failures"]:
        yield "## Failures\n"
        failed = (
            [escape(row["name"]), escape(row["method"]), escape(row["error"]), numbers.count(row["occurrences"])]
            for row in content["failures"]
        )
        yield markdown.table(["name", "method", "message", "requests"], failed, 3)
    if content["exceptions"]:
        yield "## Exceptions in the load's own code\n"
        raised = ([escape(row["message"]), numbers.count(row["count"])] for row in content["exceptions"])
        yield markdown.table(["message", "times"], raised, 1)
    yield "## What can't be said\n"
    yield markdown.table(
        ["what", "why not", "how to get it"],
        ([escape(one[key]) for key in ("what", "why", "how")] for one in content["cannot"]),
    )


def _table(content: dict[str, Any], width: int) -> Table:
    """Where the terminal is narrow, names are cut and the furthest percentiles left out, never a number."""
    rows, columns = _names(content), _columns(content)
    while True:
        cells = [_cells(row, columns) for row in rows]
        headings = [title.replace(" ms, rounded", "~\nms").replace(" ms", "\nms") for title in _titles(columns)]
        widths = [
            max(map(len, (*heading.split("\n"), *(row[place] for row in cells))))
            for place, heading in enumerate(headings)
        ]
        widths[1] = min(widths[1], 12)
        room = width - sum(widths[1:]) - len(widths)
        if room >= min(widths[0], _NAME_SHOWN) or not columns:
            break
        columns.pop()
    widths[0] = max(_NAME_SHOWN, min(room, widths[0]))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for place, (heading, wide) in enumerate(zip(headings, widths, strict=True)):
        side: Literal["left", "right"] = "left" if place < 2 else "right"
        table.add_column(heading, justify=side, no_wrap=True, overflow="ellipsis", width=wide)
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(*map(Text, texts), style="bold" if row is content["total"] else "")
    return table


def _print(content: dict[str, Any], report: Path, console: Console) -> None:
    """The table of names, failures by message, and in a line each what can't be said."""
    console.print(Text(f"{content['folder']} · only Locust's CSV", style="bold"))
    for warning in content["warnings"]:
        console.print(Text(f"warning: {warning}"))
    console.print()
    console.print(_table(content, console.width))
    console.print()
    users = users_line(content["users"])
    if users:
        console.print(Text(users))
    failed = sorted(content["failures"] or (), key=lambda row: -row["occurrences"])
    for row in failed[:_LINES]:
        console.print(Text(f"failed, {row['name']}: {row['occurrences']:,} × {row['error']}"))
    if failed[_LINES:]:
        console.print(Text(f"{sum(row['occurrences'] for row in failed[_LINES:]):,} more failed with other messages"))
    for row in (content["exceptions"] or ())[:_LINES]:
        console.print(Text(f"exception in the load's own code: {row['count']:,} × {row['message']}"))
    console.print(Text("can't be said from Locust's CSV (the report tells why, and how to get it):"))
    for one in content["cannot"]:
        console.print(Text(f"  - {one['what']}"))
    console.print(Text("~ rounded by Locust to two significant digits above 100 ms", style="dim"))
    console.print(Text(f"report: {report}"), soft_wrap=True)
