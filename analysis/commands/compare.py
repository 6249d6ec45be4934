"""`compare`: runs side by side, which mode of sharing to choose, and limits that a pipeline may fail on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["HELP", "NAME", "add", "run"]

NAME = "compare"
HELP = "put runs side by side: sharing modes as columns, and which to choose"

FAILED = 1


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Prints one table with the sharing modes of the runs as columns, marks the best and what is within noise of "
        "it, and says which mode to choose. Writes comparison.json, .csv, .md and .html. Exit code: 0 done, 1 a "
        "--fail-if holds, 2 an error."
    )
    parser.add_argument(
        "runs",
        type=Path,
        metavar="RUN",
        nargs="+",
        help="a run directory, or a folder that holds some, such as a matrix; runs of the plan solo are no columns",
    )
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="the run that --fail-if is relative to")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="LIMIT",
        help="exit with 1 if it holds in any column: [TENANT:]METRIC[.PERCENTILE] OP [+-]NUMBER[%% or UNIT]; a "
        "sign says relative to the baseline: 'ttft_ms.p99 > +10%%', 'chat:slo_attainment < 0.95'; may be given several "
        "times",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="compare runs that differ in more than their mode, too, and say in what",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where the files go (default: the folder of the runs, or comparison/ beside the first run)",
    )
    parser.add_argument(
        "--reuse", action="store_true", help="take a run's analysis/summary.json, where it is up to date"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code: 0 done, 1 a limit holds."""
    from rich.console import Console  # numpy, pyarrow and rich load here

    from analysis.compare.comparison import compare
    from analysis.compare.files import write_files
    from analysis.compare.table import print_comparison
    from analysis.report.comparison import write_comparison
    from analysis.report.progress import ProgressBar

    with ProgressBar(Console(stderr=True) if sys.stderr.isatty() else None) as bar:
        compared = compare(
            options.runs,
            baseline=options.baseline,
            fail_if=options.fail_if,
            force=options.force,
            reuse=options.reuse,
            progress=bar.stage("comparing", 0.0, 1.0),
        )
    console = Console(highlight=False)
    print_comparison(compared.comparison, console)
    for judgement in compared.judgements:
        console.print(str(judgement), style="bold red" if judgement.failed else "", markup=False)
    folder = options.out or _folder(options.runs)
    page = write_comparison(compared.comparison, folder, list(compared.runs.values()))
    for path in [*write_files(compared, folder), page]:
        console.print(f"written: {path}", soft_wrap=True, markup=False)
    return FAILED if any(judgement.failed for judgement in compared.judgements) else 0


def _folder(runs: list[Path]) -> Path:
    """The only folder named, if it is a folder of runs; else `comparison` beside the first run."""
    first = runs[0].resolve()
    if (first / "run.json").exists():
        return first.parent / "comparison"
    return first if len(runs) == 1 else first / "comparison"
