"""The summary on a terminal: the verdict first, then what each tenant got."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analysis.metrics import METRICS
from analysis.report import costs, interference, phases, processes, telemetry, warmup
from analysis.report.numbers import count, failures_beside_valid, number, percentile, ratio, share, stamp
from analysis.summary import Summary, emulated_how, simulated_how

__all__ = ["print_summary"]


def print_summary(summary: Summary, report: Path, console: Console) -> None:
    """Print verdict, tenants, fairness and the place of the report; right at 80 columns and wider."""
    content = summary.content
    console.print(_head(content["run"], content["window"]))
    _print_verdict(content["verdict"], content["totals"], console)
    console.print()
    for sentence in content["answer"]:
        console.print(Text(sentence))
    for line in (*processes.warnings(content), *content["warnings"]):
        console.print(Text(f"warning: {line}"))
    headline = phases.headline(content)
    if headline:
        console.print(Text(f"figures from {headline}"))
    console.print()
    console.print(_tenants(content, console.width))
    console.print()
    for line in _failures(content):
        console.print(Text(line))
    console.print(Text(_fairness(content)))
    for line in interference.lines(content["interference"]) if content["interference"] else ():
        console.print(Text(line))
    for line in costs.lines(content):
        console.print(Text(line))
    settled = warmup.line(content["steady"])
    if settled:
        console.print(Text(settled))
    talk = phases.conversations(content)
    if talk:
        console.print(Text(talk))
    _print_phases(content, console)
    _print_telemetry(content, console)
    notes = f"* {METRICS['ttft_scheduled_ms'].label}: counted from when a request was due."
    if _indicative(content):
        notes += " ~ indicative: too few samples."
    console.print(Text(notes, style="dim"))
    for note in content["run"]["notes"]:
        console.print(Text(f"note: {note}"))
    console.print(Text(f"report: {_shortest(report)}"), soft_wrap=True)


def _shortest(path: Path) -> Path:
    """The path as one would type it here."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def _head(run: dict[str, Any], window: dict[str, Any]) -> Text:
    words = [str(run["name"])]
    if window["start_s"] is not None:
        words.append(f"window {' and '.join(f'{stamp(start)} to {stamp(end)}' for start, end in window['spans'])} s")
    words += filter(None, [simulated_how(run), emulated_how(run)])
    return Text(" · ".join(words), style="bold")


def _print_verdict(verdict: dict[str, Any], totals: dict[str, Any], console: Console) -> None:
    if verdict["status"] == "valid":
        said = f": all {len(verdict['checks'])} checks passed{failures_beside_valid(totals)}"
        console.print(Text("valid", style="bold green") + Text(said))
        return
    console.print(Text("suspect", style="bold red") + Text(": read the numbers with this in mind"))
    for reason in verdict["reasons"]:
        grid = Table.grid(padding=(0, 1))
        grid.add_row("  -", Text(reason))
        console.print(grid)


def _tenants(content: dict[str, Any], width: int) -> Table:
    """One row per tenant, and their total. Only names are cut where the terminal is narrow, never a number."""
    ttft, tpot, output = METRICS["ttft_scheduled_ms"], METRICS["tpot_ms"], METRICS["output_tokens_per_s"]
    titles = (
        "requests\nok/due",
        "\nfailed",
        *(f"TTFT*\n{name} {ttft.unit}" for name in ("p50", "p95", "p99")),
        *(f"{tpot.label}\n{name} ms" for name in ("p50", "p99")),
        f"{output.label}\n{output.unit}",
        "SLO\nmet",
    )
    rows = [(tenant, _cells(entry)) for tenant, entry in content["tenants"].items()]
    several = len(rows) > 1
    if several:
        rows.append(("total", _cells(content["totals"])))
    table = _table(titles, rows, width)
    for place, (name, cells) in enumerate(rows, 1):
        table.add_row(name, *cells, style="bold" if several and place == len(rows) else "")
    return table


def _table(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], width: int) -> Table:
    """A table with room for the tenants' names and cells of all rows; the rows themselves are still to be added."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    widths = [
        max(len(text) for text in (*title.split("\n"), *(cells[place] for _, cells in rows)))
        for place, title in enumerate(titles)
    ]
    room = max(8, min(width - sum(widths) - len(widths), 32))
    longest = max(len(name) for name in ("tenant", *(name for name, _ in rows)))
    table.add_column("\ntenant", overflow="ellipsis", no_wrap=True, width=min(room, longest))
    for title, wide in zip(titles, widths, strict=True):
        table.add_column(title, justify="right", no_wrap=True, min_width=wide)
    return table


_SHORT = {"ttft_scheduled_ms": "TTFT*", "e2e_scheduled_ms": "e2e*", "slo_attainment": "SLO"}


def _print_phases(content: dict[str, Any], console: Console) -> None:
    """What each tenant got in each of several measured parts; all rows stand below one heading."""
    if len(content["phases"]) < 2:
        return
    titles = ["requests\nok/due"]
    for name, rank in phases.COLUMNS:
        metric = METRICS[name]
        titles.append(f"{_SHORT.get(name, metric.label)}\n{f'{rank} ms' if rank else metric.unit or 'met'}")
    parts = phases.titled(content)
    every = [(tenant, cells) for _, rows in parts for tenant, _, cells in rows]
    console.print()
    console.print(_table(titles, every, console.width))
    for title, rows in parts:
        console.print(Text(title, style="bold"))
        table = _table(titles, every, console.width)
        table.show_header = False
        for tenant, _, cells in rows:
            table.add_row(tenant, *cells)
        console.print(table)
    for line in phases.doubts(content):
        console.print(Text(line))
    console.print()


def _print_telemetry(content: dict[str, Any], console: Console) -> None:
    """Server and GPU, in a few lines."""
    console.print()
    for line in (*telemetry.server_lines(content), *telemetry.gpu_lines(content)):
        indented = len(line) - len(line.lstrip())
        console.print(Padding(Text(line.lstrip()), (0, 0, 0, indented), expand=False))


def _cells(entry: dict[str, Any]) -> list[str]:
    failed = sum(entry["failed"].values())
    return [
        f"{entry['completed']}/{entry['scheduled']}",
        count(failed),
        *(percentile(entry["ttft_scheduled_ms"], name) for name in ("p50", "p95", "p99")),
        *(percentile(entry["tpot_ms"], name) for name in ("p50", "p99")),
        number(entry["output_tokens_per_s"]),
        share(entry["slo_attainment"]),
    ]


def _failures(content: dict[str, Any]) -> Iterator[str]:
    """Each tenant's failures in the window, by outcome."""
    for tenant, entry in content["tenants"].items():
        outcomes = [f"{failed:,} {outcome}" for outcome, failed in entry["failed"].items() if failed]
        if outcomes:
            yield f"failed, {tenant}: {', '.join(outcomes)}"


def _fairness(content: dict[str, Any]) -> str:
    fairness = content["fairness"]
    if fairness is None:
        return "fairness: undefined, the tenants never ran together"
    if len(content["tenants"]) == 1:
        return "fairness: one tenant, nothing to compare"
    return (
        f"fairness (Jain's index, 1 = equal): throughput {ratio(fairness['jain_throughput'])}, "
        f"service {ratio(fairness['jain_service'])}, satisfied demand {ratio(fairness['jain_demand'])}; "
        f"max/min throughput {number(fairness['max_min_ratio'])}"
    )


def _indicative(content: dict[str, Any]) -> bool:
    cells = [cell for entry in content["tenants"].values() for cell in _cells(entry)]
    if len(content["phases"]) > 1:
        cells += [cell for _, rows in phases.titled(content) for *_, own in rows for cell in own]
    return any(cell.startswith("~") for cell in cells)
