"""Make the report of a run directory, or put its records together again after a crash."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from analysis import report_run
from fairshare_locust.errors import FairshareError

if TYPE_CHECKING:
    from analysis.merge import Merge, Taken

__all__ = ["main"]

_ERROR, _SUSPECT = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code: 0 done, 2 an error that the user can mend, 3 suspect under `--strict`."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="(re)build everything under analysis/ and figures/ of a run directory")
    report.add_argument("run", type=Path, metavar="RUN", help="a run directory, such as runs/latest")
    report.add_argument("--strict", action="store_true", help=f"exit with {_SUSPECT} if the verdict is suspect")
    merge = commands.add_parser(
        "merge",
        help="after a crash: add to a run's requests.jsonl what its load processes kept of their records",
        description="Adds to RUN/requests.jsonl every record that it lacks of RUN/workers/*-requests.jsonl and of "
        "each FILE. Nothing else is changed; a second time there is nothing to add.",
    )
    merge.add_argument(
        "run", type=Path, metavar="RUN", help="a run directory, such as runs/latest, of a run that is over"
    )
    merge.add_argument(
        "files",
        type=Path,
        metavar="FILE",
        nargs="*",
        help="a file N-requests.jsonl copied from a worker on another host",
    )
    options = parser.parse_args(arguments)
    try:
        return _merge(options) if options.command == "merge" else _report(options)
    except FairshareError as error:
        print(f"error: {error}", file=sys.stderr)
        return _ERROR


def _report(options: argparse.Namespace) -> int:
    summary = report_run(options.run, progress=sys.stderr.isatty(), console=Console())
    return _SUSPECT if options.strict and summary.suspect else 0


def _merge(options: argparse.Namespace) -> int:
    from analysis.merge import merge_records  # loads pyarrow

    merge = merge_records(options.run, options.files)
    _print_merge(merge, options.run)
    return 0


def _print_merge(merge: Merge, run: Path) -> None:
    """What was found in each file, what there is now, and what to do next."""
    own = merge.run
    repeated = f", {own.records - own.new:,} of them repeated and left out" if own.new < own.records else ""
    print(f"{own.path}: {own.records:,} records{repeated}{_torn(own)}")
    for file in merge.files:
        print(f"{file.path}: {file.records:,} records, {file.new:,} added{_torn(file)}")
    if not merge.files:
        print(f"{run / 'workers'} holds no records; name copies from other hosts after {run}")
    now = f"now has {merge.records:,} records" if merge.changed else f"has all {merge.records:,} records already"
    print(f"{own.path} {now}")
    if merge.uncounted:
        places = ", ".join(str(path) for path in merge.uncounted)
        print(f"not counted: the tokens of the answers in {places}; their records count chunks instead")
    if merge.files:
        print("the files of load processes stay, and can be deleted")
    print(f"next: python -m analysis report {run}")


def _torn(file: Taken) -> str:
    return "; its last line is torn and was left out" if file.torn else ""


if __name__ == "__main__":
    sys.exit(main())
