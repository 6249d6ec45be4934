"""Comparison: one profile in virtual time under several ways of sharing the GPU, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from analysis import report_run
from fairshare_locust.errors import FairshareError, RunDirectoryError
from fairshare_locust.profile import Profile
from fairshare_locust.profile.model import Sharing
from fairshare_locust.simulator.virtual import VirtualRun

__all__ = ["Comparison"]

_FIGURES = (
    ("TTFT\np99 ms", "ttft_scheduled_ms", "p99"),
    ("TPOT\np50 ms", "tpot_ms", "p50"),
    ("e2e\np95 ms", "e2e_scheduled_ms", "p95"),
    ("e2e\np99 ms", "e2e_scheduled_ms", "p99"),
)


@dataclass
class Comparison:
    """Runs a profile under each of some sharing modes; without any, under its own.

    A mode whose partition does not fit is told, and the others go on.
    """

    profile: Profile
    plan: str
    out: Path
    report: bool
    console: Console

    def run(self, modes: Iterable[Sharing]) -> bool:
        """Run them, and print the table if there are several. True if any could be run.

        Raises FairshareError for a profile that fits no mode, or a run directory that can't be written.
        """
        wanted = tuple(dict.fromkeys(modes))
        if not wanted:
            self._run(self.profile, None)
            return True
        if len(wanted) == 1:
            self._run_as(wanted[0])
            return True
        found: dict[str, Mapping[str, Any] | str] = {}
        for mode in wanted:
            self.console.print(f"{mode}:", style="bold", highlight=False)
            try:
                path = self._run_as(mode)
            except RunDirectoryError:
                raise
            except FairshareError as error:
                found[mode] = str(error)
            else:
                found[mode] = _figures(path)
        self.console.print(_table(found))
        for mode in wanted:
            if isinstance(reason := found[mode], str):
                print(f"fairshare: {mode} can't be run: {reason}", file=sys.stderr)
        return any(not isinstance(figures, str) for figures in found.values())

    def _run_as(self, mode: Sharing) -> Path:
        shared = replace(self.profile, deployment=replace(self.profile.deployment, sharing=mode))
        return self._run(shared, f"{self.profile.name}-{mode}")

    def _run(self, profile: Profile, name: str | None) -> Path:
        run = VirtualRun(profile, self.plan)
        path = run.run(self.out, name).path
        for note in run.notes:
            print(f"fairshare: {note}", file=sys.stderr)
        if self.report:
            report_run(path, progress=sys.stderr.isatty(), console=self.console)
        else:
            self.console.print(f"run: {path}", soft_wrap=True, highlight=False, markup=False)
        return path


def _figures(path: Path) -> Mapping[str, Any]:
    """The content of a run's summary."""
    from analysis.load import load_run  # loads pyarrow
    from analysis.summary import summarise

    return summarise(load_run(path)).content


def _table(found: Mapping[str, Mapping[str, Any] | str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="simulated, virtual time", title_justify="left", pad_edge=False)
    table.add_column("sharing", no_wrap=True)
    for header in ("\nok/due", "output\ntokens/s", *(title for title, _, _ in _FIGURES), "Jain"):
        table.add_column(header, justify="right", no_wrap=True)
    for mode, content in found.items():
        if isinstance(content, str):
            table.add_row(mode, "refused")
        else:
            doubted = "" if content["verdict"]["status"] == "valid" else " *"
            table.add_row(mode + doubted, *_cells(content))
    table.caption = (
        "TTFT and e2e are those of requests that completed, from when they were due. Jain: of throughput by weight.\n"
        "* suspect: see python -m analysis report"
    )
    table.caption_justify = "left"
    return table


def _cells(content: Mapping[str, Any]) -> Sequence[str]:
    totals, fairness = content["totals"], content["fairness"] or {}
    values = [totals["output_tokens_per_s"], *(totals[name][percentile] for _, name, percentile in _FIGURES)]
    jain = fairness.get("jain_throughput")
    done = f"{totals['completed']:,}/{totals['scheduled']:,}"
    return [done, *map(_number, values), "–" if jain is None else f"{jain:.3f}"]


def _number(value: float | None) -> str:
    """Three digits at least; five modes side by side have to fit on a terminal."""
    return "–" if value is None else f"{value:,.{0 if value >= 100 else 1}f}"
