"""Comparison: one profile in virtual time under several ways of sharing the GPU, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from analysis import report_run
from fairshare_locust.cell import note_verdict
from fairshare_locust.errors import FairshareError, RunDirectoryError
from fairshare_locust.profile import Profile
from fairshare_locust.profile.model import Sharing
from fairshare_locust.record import RunDirectory
from fairshare_locust.simulator.virtual import VirtualRun

__all__ = ["Comparison"]


@dataclass
class Comparison:
    """Runs a profile under each of some sharing modes; without any, under its own.

    A mode whose partition does not fit is told, and the others go on. The table is that of `analysis compare`.
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
        paths: list[Path] = []
        refused: dict[str, str] = {}
        for mode in wanted:
            self.console.print(f"{mode}:", style="bold", highlight=False)
            try:
                paths.append(self._run_as(mode))
            except RunDirectoryError:
                raise
            except FairshareError as error:
                refused[mode] = str(error)
        if paths:
            self._compare(paths)
        for name, reason in refused.items():
            print(f"fairshare: {name} can't be run: {reason}", file=sys.stderr)
        return bool(paths)

    def _compare(self, paths: list[Path]) -> None:
        from analysis.compare.comparison import compare  # loads pyarrow
        from analysis.compare.table import print_comparison

        print_comparison(compare(paths, reuse=self.report).comparison, self.console)
        again = " ".join(map(str, paths))
        self.console.print(f"with figures: python -m analysis compare {again}", soft_wrap=True, markup=False)

    def _run_as(self, mode: Sharing) -> Path:
        shared = replace(self.profile, deployment=replace(self.profile.deployment, sharing=mode))
        return self._run(shared, f"{self.profile.name}-{mode}")

    def _run(self, profile: Profile, name: str | None) -> Path:
        run = VirtualRun(profile, self.plan)
        path = run.run(self.out, name).path
        for note in run.notes:
            print(f"fairshare: {note}", file=sys.stderr)
        if self.report:
            summary = report_run(path, progress=sys.stderr.isatty(), console=self.console)
            note_verdict(RunDirectory(path), summary.content["verdict"]["status"])
        else:
            self.console.print(f"run: {path}", soft_wrap=True, highlight=False, markup=False)
        return path
