"""`report`: (re)build everything under `analysis/` and `figures/` of a run directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from analysis import report_run
from analysis.locust_csv import csv_prefix

__all__ = ["HELP", "NAME", "add", "run"]

NAME = "report"
HELP = "(re)build everything under analysis/ and figures/ of a run directory"

SUSPECT = 3


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="a run directory, such as runs/latest")
    parser.add_argument(
        "--solo",
        type=Path,
        nargs="+",
        default=[],
        metavar="SOLO_RUN",
        help="runs of the same profile in which its tenants were alone, to tell how others slow them down",
    )
    parser.add_argument("--strict", action="store_true", help=f"exit with {SUSPECT} if the verdict is suspect")


def run(options: argparse.Namespace) -> int:
    """Exit code: 0 done, 3 suspect under `--strict`."""
    prefix = csv_prefix(options.run_directory)
    if prefix is not None:
        from analysis.report.locust_only import build_locust_report

        build_locust_report(prefix, console=Console())
        return 0
    summary = report_run(options.run_directory, progress=sys.stderr.isatty(), console=Console(), solo=options.solo)
    return SUSPECT if options.strict and summary.suspect else 0
