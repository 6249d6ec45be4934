"""A run directory → numbers → report. Imports neither Locust nor gevent; importing it loads nothing heavy.

`report_run` does all of it. The stages also work alone: `load.load_run` reads, `summary.summarise` computes,
`figures.draw_figures` and `report` show.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.summary import Summary

__all__ = ["report_run"]


def report_run(
    run_path: Path | str,
    *,
    progress: bool = False,
    console: Console | None = None,
    solo: Sequence[Path | str] = (),
) -> Summary:
    """Build everything under `analysis/` and `figures/` of a run directory, and print the tables.

    Args:
        run_path: a run directory, or a link to one.
        progress: show a bar on standard error when the work takes longer than a second.
        console: where the tables go; None prints nothing.
        solo: runs in which its tenants were alone, to compare with; without any the one that its `run.json` names.

    Raises RunDirectoryError when `run_path` is no run directory, one of its files can't be read or written, or a solo
    run is of other work.
    """
    from analysis.report import build  # numpy, pyarrow and matplotlib load here, not with the package

    alone = [Path(path) for path in solo] or None
    return build.build_report(Path(run_path), progress=progress, console=console, solo=alone)
