"""`python -m analysis report RUN`: (re)build the report of a run directory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from analysis import report_run
from fairshare_locust.errors import FairshareError

__all__ = ["main"]

_ERROR, _SUSPECT = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code: 0 done, 2 an error that the user can mend, 3 suspect under `--strict`."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="(re)build everything under analysis/ and figures/ of a run directory")
    report.add_argument("run", type=Path, metavar="RUN", help="a run directory, such as runs/latest")
    report.add_argument("--strict", action="store_true", help=f"exit with {_SUSPECT} if the verdict is suspect")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        summary = report_run(options.run, progress=sys.stderr.isatty(), console=console)
    except FairshareError as error:
        print(f"error: {error}", file=sys.stderr)
        return _ERROR
    return _SUSPECT if options.strict and summary.suspect else 0


if __name__ == "__main__":
    sys.exit(main())
