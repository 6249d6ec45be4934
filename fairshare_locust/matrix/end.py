"""The end of a matrix: its runs side by side, as files, figures and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

__all__ = ["write_end"]


def write_end(runs: Sequence[Path], folder: Path, console: Console) -> Path:
    """Compare runs: `comparison.csv`, `.json`, `.md`, `.html` and figures in `folder`, the table on the console.

    What differs between the runs is told, as an experiment may want it so. Summaries that are up to date are taken as
    they are. Returns the page. Raises RunDirectoryError when runs can't be read, or the files not be written.
    """
    from analysis.compare.comparison import compare  # numpy, pyarrow and matplotlib load here
    from analysis.compare.files import write_files
    from analysis.compare.table import print_comparison
    from analysis.report.comparison import write_comparison

    compared = compare(list(runs), force=True, reuse=True)
    comparison = compared.comparison
    compared = replace(compared, comparison=replace(comparison, warnings=_once(comparison.warnings)))
    print_comparison(compared.comparison, console)
    page = write_comparison(compared.comparison, folder, list(compared.runs.values()))
    for path in [*write_files(compared, folder), page]:
        console.print(f"written: {path}", soft_wrap=True, markup=False, highlight=False)
    return page


_UNPAIRED = "requests are not compared in pairs"


def _once(warnings: Sequence[str]) -> tuple[str, ...]:
    """Warnings, with one for all repeats that have other seeds than the runs of each tenant alone: that is meant so."""
    others = tuple(line for line in warnings if not line.endswith(_UNPAIRED))
    unpaired = len(warnings) - len(others)
    if not unpaired:
        return others
    runs = "one run has another seed" if unpaired == 1 else f"{unpaired} runs have other seeds"
    return (*others, f"{runs} than those of each tenant alone, which stand for all repeats: there, {_UNPAIRED}")
